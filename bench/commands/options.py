"""Options that several commands share: a dataclass a group, from which typer reads them.

A command takes a group as one parameter and is decorated with `expanded`.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from bench.commands.parser import Argument, Option
from bench.terminal import tell


def built_in_names(incomplete: str) -> list[str]:
    """Return the built-in experiments that begin so; where none does, the shell offers files."""
    from bench.design.loading import built_in

    return [name for name in built_in() if name.startswith(incomplete)]


def one_of(*words: str) -> Callable[[str], list[str]]:
    """Return what completes one of some words."""
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


# Options under the headings of the help.
advice = partial(Option, rich_help_panel="Planning")
columns = partial(Option, rich_help_panel="Columns")
design = partial(Option, rich_help_panel="Design")
devices = partial(Option, rich_help_panel="Devices")
store = partial(Option, rich_help_panel="Store")
output = partial(Option, rich_help_panel="Output")

Name = Annotated[
    str | None,
    Argument(
        metavar="NAME",
        autocompletion=built_in_names,
        show_default=False,
        help="Built-in experiment, file or module.",
    ),
]
URI_HELP = "MLflow store (default: $MLFLOW_TRACKING_URI, else sqlite:///mlruns/mlflow.db)."
StoreUri = Annotated[str | None, store("--store", metavar="URI", help=URI_HELP)]
FAIL_HELP = "Exit 10 on worse, inconclusive, none, equivalent or better (a list)."
FailOn = Annotated[str | None, output("--fail-on", metavar="WORDS", help=FAIL_HELP)]
DataFolder = Annotated[
    Path | None, store("--data", metavar="DIR", help="Folder with the data set.")
]
Devices = Annotated[
    str, devices("--devices", metavar="LIST", help="auto, cpu, or GPUs by number or UUID.")
]


@dataclass(frozen=True, kw_only=True)
class Arms:
    """What is trained: the experiment's arms, changed."""

    settings: Annotated[
        list[str] | None,
        design("--set", metavar="KEY=VALUE", help="Change a setting of every arm; repeatable."),
    ] = None
    arms: Annotated[
        list[str] | None,
        design("--arm", metavar="NAME:K=V", help="Add a treatment arm; repeatable."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Design:
    """On which seeds it is trained, and how it is judged."""

    seeds: Annotated[
        str | None,
        design("--seeds", "-s", metavar="N|LIST", help="20, 0-19 or 0,3,7 (default: 20)."),
    ] = None
    margin: Annotated[
        float | None,
        design(
            "--margin",
            metavar="X",
            help="Smallest difference worth having, pp for accuracies (default: the experiment's).",
        ),
    ] = None
    claim: Annotated[
        float | None,
        design(
            "--claim",
            metavar="PP",
            help="Gain to check, e.g. 0.30 (default: the experiment's).",
        ),
    ] = None
    scope: Annotated[
        str,
        design(
            "--scope",
            metavar="WHAT",
            autocompletion=one_of("seeds-and-examples", "seeds"),
            help="seeds-and-examples, or seeds (this test set only).",
        ),
    ] = "seeds-and-examples"
    stop: Annotated[
        str,
        design(
            "--stop",
            metavar="RULE",
            autocompletion=one_of("fixed", "group", "anytime"),
            help="fixed, group (three planned looks) or anytime: when to stop.",
        ),
    ] = "fixed"
    max_seeds: Annotated[
        int | None,
        design("--max-seeds", metavar="N", help="Most seeds under group and anytime."),
    ] = None
    aa: Annotated[
        bool, design("--aa", help="The baseline against itself: nothing should be found.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class Training:
    """How and where `bench run` trains."""

    per_device: Annotated[
        int, devices("--per-device", metavar="N", help="Runs at once on each GPU.")
    ] = 1
    workers: Annotated[
        int | None,
        devices(
            "--workers", metavar="N", help="CPU workers, one thread each (default: one a core)."
        ),
    ] = None
    backend: Annotated[
        str, devices("--backend", metavar="NAME", help="processes (this machine) or dask.")
    ] = "processes"
    address: Annotated[
        str | None,
        devices("--address", metavar="URI", help="The dask scheduler's: tcp://HOST:8786."),
    ] = None
    retries: Annotated[
        int, devices("--retries", metavar="N", help="After out-of-memory or a crash.")
    ] = 1
    timeout: Annotated[
        float | None,
        devices("--timeout", metavar="MIN", help="A run that takes longer has failed."),
    ] = None
    keep_going: Annotated[
        bool,
        devices("--keep-going", help="Train on after a failure that repeats before any success."),
    ] = False
    max_hours: Annotated[
        float | None,
        devices("--max-hours", metavar="H", help="Start nothing new after so many hours."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What `bench run` makes of what is recorded."""

    offline: Annotated[bool, store("--offline", help="Download nothing.")] = False
    fresh: Annotated[bool, store("--fresh", help="Start anew; nothing is overwritten.")] = False
    redo: Annotated[
        list[str] | None,
        store(
            "--redo",
            metavar="SEED:ARM",
            help="Repeat one run; the old one is kept and marked.",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Output:
    """What every command says, and how. The last two are read by `bench.cli`."""

    as_json: Annotated[bool, output("--json", help="Print one JSON object on stdout.")] = False
    quiet: Annotated[bool, output("--quiet", "-q", help="No progress, errors only.")] = False
    verbose: Annotated[bool, output("--verbose", "-v", help="Show tracebacks.")] = False
    no_color: Annotated[bool, output("--no-color", help="No colour (also NO_COLOR).")] = False

    def say(self, text: str) -> None:
        """Write a message to stderr, unless it shall be quiet or who reads is a program."""
        if not (self.quiet or self.as_json):
            tell(text)


def given(*groups: Any) -> list[str]:
    """Return the options of some groups that differ from their defaults, as they are typed."""
    return [
        known[field.name].__metadata__[0].default  # where typer keeps the first spelling
        for group in groups
        for known in (get_type_hints(type(group), include_extras=True),)
        for field in fields(group)
        if getattr(group, field.name) != field.default
    ]


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of its groups as parameters of its own, for typer to read."""
    hints = get_type_hints(command, include_extras=True)
    parameters: list[tuple[str, Any, Any]] = []
    groups: dict[str, Any] = {}
    for each in inspect.signature(command).parameters.values():
        kind = hints[each.name]
        if is_dataclass(kind):
            groups[each.name] = kind
            known = get_type_hints(kind, include_extras=True)
            parameters += [(f.name, f.default, known[f.name]) for f in fields(kind)]
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
