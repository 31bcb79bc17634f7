"""Options that several commands share: a dataclass a group, from which typer reads them.

A command takes a group as one parameter and is decorated with `expanded`.
"""

import inspect
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields, is_dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_type_hints

from bench.commands.parser import Argument, Option
from bench.terminal import tell


def built_in_names(incomplete: str) -> list[str]:
    """Return the built-in experiments that begin so; where none does, the shell offers files."""
    from bench.design.loading import built_in

    return [name for name in built_in() if name.startswith(incomplete)]


def executor_names(incomplete: str) -> list[str]:
    """Return the executors whose names begin so."""
    from bench.execution.executors import EXECUTORS

    return [name for name in EXECUTORS if name.startswith(incomplete)]


def one_of(*words: str) -> Callable[[str], list[str]]:
    """Return what completes one of some words."""
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


def _under(heading: str) -> Callable[..., Any]:
    """Return what declares an option under a heading of the help, as a field of a group."""

    def option(default: Any, metavar: str, text: str, *names: str, **more: Any) -> Any:
        more |= {"rich_help_panel": heading, "metavar": metavar or None, "help": text}
        return field(default=default, metadata={"names": names, "more": more})

    return option


advice, columns, design = _under("Planning"), _under("Columns"), _under("Design")
devices, store, output = _under("Devices"), _under("Store"), _under("Output")

Name = Annotated[
    str | None,
    Argument(
        metavar="NAME",
        autocompletion=built_in_names,
        show_default=False,
        help="Built-in experiment, file or module.",
    ),
]
Recorded = Annotated[
    str | None,
    Argument(metavar="NAME", show_default=False, help="A benchmark that is recorded."),
]
_UNDER_STORE = partial(Option, rich_help_panel="Store")
URI_HELP = "MLflow store (default: $MLFLOW_TRACKING_URI, else sqlite:///mlruns/mlflow.db)."
StoreUri = Annotated[str | None, _UNDER_STORE("--store", metavar="URI", help=URI_HELP)]
DataFolder = Annotated[
    Path | None, _UNDER_STORE("--data", metavar="DIR", help="Folder with the data set.")
]
SOURCE_HELP = "Put the text of the experiment's source files into the report."
FAIL_HELP = "Exit 10 on worse, inconclusive, none, equivalent or better (a list)."
FailOn = Annotated[
    str | None,
    Option("--fail-on", rich_help_panel="Output", metavar="WORDS", help=FAIL_HELP),
]
DEVICES_HELP = "auto, cpu, or GPUs by number or UUID."
Devices = Annotated[
    str, Option("--devices", rich_help_panel="Devices", metavar="LIST", help=DEVICES_HELP)
]


ARM_HELP = "Add an arm, also NAME='COMMAND' or NAME@git:REV; repeatable."


@dataclass(frozen=True, kw_only=True)
class Arms:
    """What is trained: the experiment's arms, changed."""

    settings: list[str] | None = design(
        None, "KEY=VALUE", "Change a setting of every arm; repeatable.", "--set"
    )
    arms: list[str] | None = design(None, "NAME:K=V", ARM_HELP, "--arm")
    append: str | None = design(None, "WORDS", "What every command ends with.")
    metric: list[str] | None = design(
        None, "NAME=REGEX", "A score that commands print; the first decides; repeatable."
    )
    lower_is_better: bool = design(False, "", "Of commands: the metric is a loss or an error.")
    datasets: list[str] | None = design(
        None, "NAME", "Train every command on each, as {dataset}; repeatable.", "--dataset"
    )


MARGIN_HELP = "Smallest difference worth having, pp for accuracies (default: the experiment's)."
SCOPES = one_of("seeds-and-examples", "seeds", "new-datasets")
GOALS = one_of("better", "equivalent", "not-worse")
RULES = one_of("fixed", "group", "anytime")


@dataclass(frozen=True, kw_only=True)
class Design:
    """On which seeds it is trained, and how it is judged."""

    seeds: str | None = design(None, "N|LIST", "20, 0-19 or 0,3,7 (default: 20).", "--seeds", "-s")
    margin: float | None = design(None, "X", MARGIN_HELP)
    claim: float | None = design(
        None, "PP", "Gain to check, e.g. 0.30 (default: the experiment's)."
    )
    scope: str = design(
        "seeds-and-examples",
        "WHAT",
        "seeds-and-examples, seeds (this test set only), or new-datasets.",
        autocompletion=SCOPES,
    )
    goal: str = design(
        "better",
        "GOAL",
        "better, equivalent, or not-worse (a word of its own; needs a margin).",
        autocompletion=GOALS,
    )
    stop: str = design(
        "fixed",
        "RULE",
        "fixed, group (three planned looks) or anytime: when to stop.",
        autocompletion=RULES,
    )
    max_seeds: int | None = design(None, "N", "Most seeds under group and anytime.")
    aa: bool = design(False, "", "The baseline against itself: nothing should be found.")


@dataclass(frozen=True, kw_only=True)
class Training:
    """How and where `bench run` trains."""

    per_device: int = devices(1, "N", "Runs at once on each GPU.")
    workers: int | None = devices(None, "N", "CPU workers, one thread each (default: one a core).")
    backend: str = devices(
        "processes",
        "NAME",
        "What trains: processes (this machine), dask or slurm.",
        autocompletion=executor_names,
    )
    address: str | None = devices(None, "URI", "The dask scheduler's: tcp://HOST:8786.")
    slurm_jobs: int = devices(4, "N", "Slurm: jobs at once, a training each.")
    slurm_partition: str | None = devices(None, "NAME", "Slurm: passed through.")
    slurm_account: str | None = devices(None, "NAME", "Slurm: passed through.")
    slurm_time: float | None = devices(None, "MIN", "Slurm: of a job (default: a day).")
    slurm_gres: str | None = devices(None, "GRES", "Slurm: passed through, as gpu:1.")
    retries: int = devices(1, "N", "After out-of-memory or a crash.")
    timeout: float | None = devices(None, "MIN", "A run that takes longer has failed.")
    keep_going: bool = devices(
        False, "", "Train on after a failure that repeats before any success."
    )
    max_hours: float | None = devices(None, "H", "Start nothing new after so many hours.")


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What `bench run` makes of what is recorded."""

    offline: bool = store(False, "", "Download nothing.")
    fresh: bool = store(False, "", "Start anew; nothing is overwritten.")
    redo: list[str] | None = store(
        None, "SEED:ARM[:DATASET]", "Repeat one run; the old one is kept and marked."
    )


@dataclass(frozen=True, kw_only=True)
class Output:
    """What every command says, and how. The last two are read by `bench.cli`."""

    silent: ClassVar[bool] = False  # nothing is printed: the findings are returned to Python

    as_json: bool = output(False, "", "Print one JSON object on stdout.", "--json")
    quiet: bool = output(False, "", "No progress, errors only.", "--quiet", "-q")
    verbose: bool = output(False, "", "Show tracebacks.", "--verbose", "-v")
    no_color: bool = output(False, "", "No colour (also NO_COLOR).")

    def say(self, text: str) -> None:
        """Write a message to stderr, unless it shall be quiet or who reads is a program."""
        if not (self.quiet or self.as_json):
            tell(text)


def _names(option: "Field[Any]") -> tuple[str, ...]:
    """Return how an option of a group is typed."""
    names: tuple[str, ...] = option.metadata["names"]
    return names or (f"--{option.name.replace('_', '-')}",)


def given(*groups: Any) -> list[str]:
    """Return the options of some groups that differ from their defaults, as they are typed."""
    each = ((group, option) for group in groups for option in fields(group))
    return [_names(f)[0] for group, f in each if getattr(group, f.name) != f.default]


def typed(*groups: Any, metric: str) -> list[str]:
    """Return the options of some groups as words of a command, numbers as typed for a metric."""
    from bench.design.option_values import as_typed

    words: list[str] = []
    for group in groups:
        for option in fields(group):
            value = getattr(group, option.name)
            given = [] if value == option.default else value
            for each in given if isinstance(given, list) else [given]:
                text = as_typed(each, metric) if option.name in ("margin", "claim") else str(each)
                words += [_names(option)[0], *([] if each is True else [text])]
    return words


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of its groups as parameters of its own, for typer to read."""
    hints = get_type_hints(command, include_extras=True)
    parameters: list[tuple[str, Any, Any]] = []
    groups: dict[str, Any] = {}
    for each in inspect.signature(command).parameters.values():
        kind = hints[each.name]
        if is_dataclass(kind):
            groups[each.name] = kind
            known = get_type_hints(kind)
            for f in fields(kind):
                option = Option(*_names(f), **f.metadata["more"])
                parameters.append((f.name, f.default, Annotated[known[f.name], option]))
        else:
            parameters.append((each.name, each.default, kind))

    @wraps(command)
    def flat(**values: Any) -> None:
        for name, kind in groups.items():
            values[name] = kind(**{field.name: values.pop(field.name) for field in fields(kind)})
        command(**values)

    flat.__annotations__ = {name: kind for name, _, kind in parameters}
    flat.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind
            )
            for name, default, kind in parameters
        ]
    )
    return flat
