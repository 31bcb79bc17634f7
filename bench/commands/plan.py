"""`bench plan`: seeds for a gain, a gain for seeds, and the plan written before any training."""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from bench.commands.common import Usage, data_folder
from bench.commands.options import (
    DESIGN,
    PREREGISTER,
    AsJson,
    Name,
    NoColor,
    Quiet,
    StoreUri,
    Verbose,
)
from bench.commands.parser import Option
from bench.terminal import show


def plan(
    name: Name = None,
    detect: Annotated[
        float | None,
        Option(
            metavar="PP",
            rich_help_panel=DESIGN,
            help="Gain to look for (default: the experiment's margin).",
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        Option(
            "--seeds",
            "-s",
            metavar="N|LIST",
            rich_help_panel=DESIGN,
            help="Also: the gain that they detect; with --freeze as of run.",
        ),
    ] = None,
    power: Annotated[
        float | None,
        Option(metavar="P", rich_help_panel=DESIGN, help="Wanted chance to see it (default: 0.8)."),
    ] = None,
    sd: Annotated[
        float | None,
        Option(
            metavar="PP",
            rich_help_panel=DESIGN,
            help="SD of the paired differences (default: 0.8 for accuracies).",
        ),
    ] = None,
    pilot: Annotated[
        str | None,
        Option(
            metavar="NAME",
            rich_help_panel=DESIGN,
            help="A recorded benchmark; its SD's upper 80% limit is used.",
        ),
    ] = None,
    freeze: Annotated[
        bool,
        Option(
            "--freeze",
            rich_help_panel=PREREGISTER,
            help="Write NAME's plan into the store, before anything is trained.",
        ),
    ] = False,
    margin: Annotated[
        float | None, Option(metavar="X", rich_help_panel=PREREGISTER, help="As of run.")
    ] = None,
    claim: Annotated[
        float | None, Option(metavar="PP", rich_help_panel=PREREGISTER, help="As of run.")
    ] = None,
    scope: Annotated[
        str | None, Option(metavar="WHAT", rich_help_panel=PREREGISTER, help="As of run.")
    ] = None,
    stop: Annotated[
        str | None, Option(metavar="RULE", rich_help_panel=PREREGISTER, help="As of run.")
    ] = None,
    max_seeds: Annotated[
        int | None, Option(metavar="N", rich_help_panel=PREREGISTER, help="As of run.")
    ] = None,
    aa: Annotated[bool, Option("--aa", rich_help_panel=PREREGISTER, help="As of run.")] = False,
    setting: Annotated[
        list[str] | None,
        Option("--set", metavar="KEY=VALUE", rich_help_panel=PREREGISTER, help="As of run."),
    ] = None,
    arm: Annotated[
        list[str] | None,
        Option(metavar="NAME:K=V", rich_help_panel=PREREGISTER, help="As of run."),
    ] = None,
    data: Annotated[
        Path | None, Option(metavar="DIR", rich_help_panel=PREREGISTER, help="As of run.")
    ] = None,
    store: StoreUri = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """Say how many seeds a gain takes, or what seeds can detect.

    \b
      bench plan --detect 0.3                    seeds for +0.30 pp
      bench plan --seeds 40 --sd 0.5             the gain that 40 seeds detect
      bench plan --detect 0.3 --pilot digits     from what was seen
      bench plan digits --seeds 30 --freeze      preregister; then bench run
    """
    from bench.design.sample_size import advise

    frozen = {
        "margin": margin,
        "claim": claim,
        "scope": scope,
        "stop": stop,
        "max_seeds": max_seeds,
        "aa": aa or None,
        "settings": setting or None,
        "arms": arm or None,
    }
    advised = {"--detect": detect, "--power": power, "--sd": sd, "--pilot": pilot}
    _require_one_mode(name, freeze, advised, {**frozen, "data": data})
    if freeze:
        typed = {
            key: value for key, value in {"seeds": seeds, **frozen}.items() if value is not None
        }
        return _freeze(name, typed, data_folder(data), store, as_json=as_json)
    metric, margin = _planned_metric(name)
    unit, factor = _unit_and_factor(metric)
    seen = None
    if pilot is not None:
        from bench.reports.build import pilot_from
        from bench.store.mlflow_store import Store

        seen, unit, factor = pilot_from(Store(store), pilot)
    wanted = margin if detect is None else detect * factor
    found = advise(
        unit=unit,
        sd=None if sd is None else sd * factor,
        pilot=seen,
        detect=wanted,
        seeds=None if seeds is None else _count(seeds),
        power=0.8 if power is None else power,
    )
    show(json.dumps(found.as_dict(), indent=1) if as_json else found.text())


def _require_one_mode(
    name: str | None,
    freeze: bool,
    advised: Mapping[str, Any],
    frozen: Mapping[str, Any],
) -> None:
    """Refuse options that the plan asked for would not heed."""
    if freeze:
        idle = [option for option, value in advised.items() if value is not None]
        if idle:
            raise Usage(
                f"{', '.join(idle)} {_belong(idle)} to planning, and --freeze writes a plan down.",
                without=[option[2:] for option in idle],
            )
        return
    named = {"settings": "--set", "arms": "--arm", "max_seeds": "--max-seeds"}
    idle = [named.get(key, f"--{key}") for key, value in frozen.items() if value is not None]
    if idle:
        facts = ["--detect is the gain to look for."] if "--margin" in idle else []
        raise Usage(
            f"{', '.join(idle)} {_belong(idle)} to a plan that --freeze writes down.",
            facts=facts,
            options=[] if name is None else [("freeze", True)],
            without=[option[2:] for option in (idle if name is None else advised)],
        )


def _belong(options: Sequence[str]) -> str:
    return "belongs" if len(options) == 1 else "belong"


def _count(seeds: str) -> int:
    """Return how many seeds a number or a list means."""
    from bench.design.plan import parse_seeds

    return int(seeds[:12]) if seeds.strip().isdecimal() else len(parse_seeds(seeds))


def _freeze(
    name: str | None, typed: dict[str, Any], folder: Path | None, uri: str | None, *, as_json: bool
) -> None:
    from bench.commands.drafting import Typed, described, draft, freeze
    from bench.display.status import as_recorded
    from bench.execution import provenance
    from bench.execution.server import Server
    from bench.store.mlflow_store import Store

    if name is None:
        raise Usage(
            "--freeze needs the NAME of an experiment.",
            command=["bench", "plan", "digits", *sys.argv[2:]],
        )
    with Server(name) as server:
        places = server.slots()
        found, plan = draft(server, folder, Typed(**typed), places)
    facts = provenance.collect(["bench", *sys.argv[1:]], Path(found.file), places)
    store = Store(uri)
    benchmark = freeze(store, found, as_recorded(store, plan, found.source), facts)
    if as_json:
        print(json.dumps(benchmark.plan.as_dict(), default=str))
    else:
        asked = ["bench", "run", *(word for word in sys.argv[2:] if word != "--freeze")]
        show(f"{described(benchmark)}\n  next     {shlex.join(asked)}")


def _planned_metric(name: str | None) -> tuple[str, float | None]:
    """Return the metric that a plan is for, and its margin; without NAME an accuracy."""
    if name is None:
        return "accuracy", None
    from bench.execution.server import Server

    with Server(name) as server:
        experiment = server.found.experiment
    return experiment.metric, experiment.margin


def _unit_and_factor(metric: str) -> tuple[Any, float]:
    """Return a metric's unit, and what turns a typed number into metric units."""
    from bench.design.sample_size import unit_of

    unit = unit_of(metric)
    return unit, 0.01 if unit == "fraction" else 1.0
