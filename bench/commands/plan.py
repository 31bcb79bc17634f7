"""`bench plan`: seeds for a gain, a gain for seeds, and the plan written before any training."""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.commands import options as panels
from bench.commands.common import Usage, data_folder
from bench.commands.options import (
    Arms,
    DataFolder,
    Design,
    Devices,
    Name,
    Output,
    StoreUri,
    expanded,
    given,
)
from bench.terminal import label, show, wrapped

if TYPE_CHECKING:
    from bench.store.runs import Benchmark


PILOT_HELP = "A recorded benchmark; its SD's upper 80% limit is used."
FREEZE_HELP = (
    "Write NAME's plan into the store, before anything is trained; what follows is as of run."
)


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What is to be planned, from what; or that a plan is frozen."""

    detect: float | None = panels.advice(
        None, "PP", "Gain to look for (default: the experiment's margin)."
    )
    power: float | None = panels.advice(None, "P", "Wanted chance to see it (default: 0.8).")
    sd: float | None = panels.advice(
        None, "PP", "SD of the paired differences (default: 0.8 for accuracies)."
    )
    pilot: str | None = panels.advice(None, "NAME", PILOT_HELP)
    freeze: bool = panels.advice(False, "", FREEZE_HELP)


@expanded
def plan(
    name: Name = None,
    *,
    advice: Advice,
    design: Design,
    arms: Arms,
    devices: Devices = "auto",
    data: DataFolder = None,
    store: StoreUri = None,
    output: Output,
) -> None:
    """Say how many seeds a gain takes, or what seeds can detect.

    \b
      bench plan --detect 0.3                    seeds for +0.30 pp
      bench plan --seeds 40 --sd 0.5             the gain that 40 seeds detect
      bench plan --detect 0.3 --pilot digits     from what was seen
      bench plan digits --seeds 30 --freeze      preregister; then bench run
    """
    from bench.design.option_values import in_metric_units
    from bench.design.sample_size import advise, unit_of

    typed = given(replace(design, seeds=None), arms)  # seeds are of both modes
    typed += [] if data is None else ["--data"]
    _require_one_mode(name, advice.freeze, given(replace(advice, freeze=False)), typed)
    if advice.freeze:
        benchmark = _freeze(name, design, arms, devices, data_folder(data), store)
        if output.as_json:
            print(json.dumps(benchmark.plan.as_dict(), default=str))
        else:
            asked = ["bench", "run", *(word for word in sys.argv[2:] if word != "--freeze")]
            show(f"{described(benchmark)}\n  next     {shlex.join(asked)}")
        return
    metric, margin = _planned_metric(name)
    seen = None
    if advice.pilot is not None:
        from bench.reports.build import pilot_from
        from bench.store.mlflow_store import Store

        seen, metric = pilot_from(Store(store), advice.pilot)
    found = advise(
        unit=unit_of(metric),
        sd=in_metric_units(advice.sd, metric),
        pilot=seen,
        detect=margin if advice.detect is None else in_metric_units(advice.detect, metric),
        seeds=None if design.seeds is None else _count(design.seeds),
        power=0.8 if advice.power is None else advice.power,
    )
    show(json.dumps(found.as_dict(), indent=1) if output.as_json else found.text())


def _require_one_mode(
    name: str | None, freeze: bool, advised: Sequence[str], frozen: Sequence[str]
) -> None:
    """Refuse options that the plan asked for would not heed."""
    if freeze and advised:
        raise Usage(
            f"{', '.join(advised)} {_belong(advised)} to planning, and --freeze writes a plan "
            "down.",
            without=advised,
        )
    if frozen and not freeze:
        raise Usage(
            f"{', '.join(frozen)} {_belong(frozen)} to a plan that --freeze writes down.",
            facts=["--detect is the gain to look for."] if "--margin" in frozen else [],
            options=[] if name is None else [("freeze", True)],
            without=frozen if name is None else advised,
        )


def _belong(options: Sequence[str]) -> str:
    return "belongs" if len(options) == 1 else "belong"


def _count(seeds: str) -> int:
    """Return how many seeds a number or a list means."""
    from bench.design.option_values import parse_seeds

    return int(seeds[:12]) if seeds.strip().isdecimal() else len(parse_seeds(seeds))


def _planned_metric(name: str | None) -> tuple[str, float | None]:
    """Return the metric that a plan is for, and its margin; without NAME an accuracy."""
    if name is None:
        return "accuracy", None
    from bench.execution.server import Server

    with Server(name) as server:
        experiment = server.found.experiment
    return experiment.metric, experiment.margin


def _freeze(
    name: str | None,
    design: Design,
    arms: Arms,
    devices: str,
    folder: Path | None,
    uri: str | None,
) -> "Benchmark":
    """Write a plan into the store before anything is trained, as `bench run` does otherwise.

    Raises
    ------
    Locked : another process runs this benchmark
    """
    from bench.commands.drafting import draft, seeds_of
    from bench.commands.studies import asked_study
    from bench.display.status import as_recorded
    from bench.execution import provenance
    from bench.execution.server import Server
    from bench.store.mlflow_store import Store
    from bench.store.writer import recording

    if name is None:
        example = ["bench", "plan", "digits", *sys.argv[2:]]
        raise Usage("--freeze needs the NAME of an experiment.", command=example)
    with asked_study(name, arms) as asked, Server(str(asked.name)) as server:
        design = asked.design(design)
        places = server.slots(devices)
        found, plan = draft(server, folder, design, asked.arms, seeds_of(design), places)
    facts = provenance.collect(["bench", *sys.argv[1:]], Path(found.file), places)
    store = Store(uri)
    plan, _ = as_recorded(store, plan, found.source)
    with (
        store.lock(plan),
        recording(store, plan, provenance=facts, source=found.source) as recorder,
    ):
        return recorder.benchmark


def described(benchmark: "Benchmark") -> str:
    """Return what a frozen plan says, for a terminal."""
    from bench.analysis.data.format import count, difference, magnitude, suffix

    plan, design = benchmark.plan, benchmark.design()
    unit = design.measure.unit
    judged = [f"{plan.metric}, {'higher' if plan.higher_is_better else 'lower'} is better"]
    if plan.margin is not None:
        judged.append(f"margin {magnitude(plan.margin, unit)}{suffix(unit)}")
    if plan.claim is not None:
        judged.append(f"claim {difference(plan.claim, unit)}")
    judged += [f"alpha {plan.alpha:g}", plan.scope.replace("_", " "), f"stop {plan.stop}"]
    when = (design.frozen_at or "")[:16].replace("T", " ")
    names = ", ".join(map(label, plan.arms))
    seeds = f"{count(len(plan.seeds), 'seed')} × {len(plan.arms)} arms: {names}"
    lines = [
        f"plan {plan.hash[:7]} of {plan.experiment}, frozen {when} UTC",
        wrapped(f"  trains   {seeds}", hang=11),
        wrapped(f"  judges   {', '.join(judged)}", hang=11),
        f"  hash     {plan.hash}",
    ]
    if not design.frozen_before_first_run:
        lines.append("  note     results could be seen before this; the report says so")
    return "\n".join(lines)
