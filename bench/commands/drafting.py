"""Drafting: what was typed becomes a plan."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from bench.analysis.data.format import count, difference, magnitude, suffix
from bench.analysis.data.tables import Scope, Stop
from bench.analysis.errors import Refusal
from bench.analysis.inference.sequential import planned_looks
from bench.analysis.study.verdict import FEWEST_PAIRS
from bench.design.loading import Discovered
from bench.design.plan import (
    Plan,
    arms_with,
    in_metric_units,
    make_plan,
    parse_seeds,
    require_margin,
)
from bench.execution.devices import Slot
from bench.execution.server import Server
from bench.store.base import Benchmark, Store
from bench.store.writer import recording
from bench.terminal import label, wrapped


class BadDesign(Refusal):
    """Options that ask for a design that there is not."""

    code = "option"
    exit_status = 2


@dataclass(frozen=True, kw_only=True)
class Typed:
    """The options that decide what is trained and how it is judged, as they were typed."""

    seeds: str = "20"
    margin: float | None = None  # pp for fractions, else metric units
    claim: float | None = None
    scope: str = "seeds-and-examples"
    stop: str = "fixed"
    max_seeds: int | None = None
    aa: bool = False
    settings: Sequence[str] = ()  # KEY=VALUE, of every arm
    arms: Sequence[str] = ()  # NAME:KEY=VALUE, more treatments


def draft(
    server: Server, folder: Path | None, typed: Typed, slots: Sequence[Slot]
) -> tuple[Discovered, Plan]:
    """Return the experiment and the plan that the options ask for; nothing is recorded.

    Parameters
    ----------
    server : imports the experiment
    folder : of the data set, or None
    slots : of this machine where it will train; none where others will

    Raises
    ------
    BadSeeds, BadSetting, BadDesign : options outside their range, or that contradict each other
    """
    seeds = seeds_of(typed)
    scope = _scope(typed.scope)
    require_margin(typed.margin, typed.claim)
    if typed.aa and (typed.arms or typed.claim is not None):
        raise BadDesign(
            "--aa compares the baseline with itself, so it takes no --arm and no --claim.",
            without=["arm", "claim"],
        )
    found = server.found
    arms = arms_with(found, typed.settings, typed.arms)
    if typed.aa:
        baseline, settings = next(iter(arms.items()))
        arms = {baseline: settings, f"{baseline} again": dict(settings)}
    metric = found.experiment.metric
    try:
        data = server.data(arms, folder)
        packs = server.pack_seeds(arms, slots) if slots else None
    except Refusal as refusal:
        _where_typed(refusal, typed)
        raise
    plan = make_plan(
        found,
        data=data,
        arms=arms,
        seeds=seeds,
        margin=in_metric_units(typed.margin, metric),
        claim=in_metric_units(typed.claim, metric),
        scope=scope,
        stop=cast(Stop, typed.stop),
        max_seeds=typed.max_seeds,
        aa=typed.aa,
        pack_seeds=packs,
    )
    if typed.aa:
        plan = replace(plan, claim=None, question="Does the baseline differ from itself?")
    return found, plan


def freeze(store: Store, found: Discovered, plan: Plan, provenance: Mapping[str, Any]) -> Benchmark:
    """Write a plan into the store before anything is trained, as `bench run` does otherwise.

    Raises
    ------
    Locked : another process runs this benchmark
    """
    with (
        store.lock(plan),
        recording(store, plan, provenance=provenance, source=found.source) as recorder,
    ):
        return recorder.benchmark


def described(benchmark: Benchmark) -> str:
    """Return what a frozen plan says, for a terminal."""
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


def varied(plan: Plan, text: str) -> list[Plan]:
    """Return a plan for each source of randomness: it follows the seed, the others are pinned.

    Raises
    ------
    BadDesign : no source, one named twice, or a plan that stops early or compares like with like
    """
    sources = [part.strip() for part in text.split(",")]
    if not all(sources) or len(set(sources)) < len(sources):
        raise BadDesign(
            f'--vary "{text[:60]}" is no list of streams, each once.',
            facts=['A stream is what trainings ask for: trial.rng("init") draws from init.'],
            options=[("vary", "subset,init,order")],
        )
    if plan.stop != "fixed" or plan.aa:
        raise BadDesign(
            "--vary trains every source on all seeds, so it takes no --stop and no --aa.",
            without=["stop", "max_seeds", "aa"],
        )
    return [replace(plan, vary=source) for source in sources]


def seeds_of(typed: Typed) -> tuple[int, ...]:
    """Return the seeds that may be trained.

    Raises
    ------
    BadSeeds, BadDesign : no seeds, or a rule that they do not fit
    """
    seeds = parse_seeds(typed.seeds)
    if typed.stop not in get_args(Stop):
        raise BadDesign(
            f'--stop "{typed.stop}" is not fixed, group or anytime.', options=[("stop", "anytime")]
        )
    if typed.max_seeds is None:
        return _long_enough(typed.stop, seeds, "seeds")
    if typed.stop == "fixed":
        raise BadDesign(
            "--max-seeds bounds a training that may stop early, and --stop fixed does not.",
            options=[("stop", "anytime")],
        )
    if not typed.seeds.strip().isdigit():
        raise BadDesign(
            f"--seeds {typed.seeds} already lists the seeds that --max-seeds would choose.",
            without=["seeds"],
        )
    seeds = parse_seeds(str(typed.max_seeds), "max_seeds")
    return _long_enough(typed.stop, seeds, "max_seeds")


def _long_enough(stop: str, seeds: tuple[int, ...], option: str) -> tuple[int, ...]:
    if stop == "group" and planned_looks(len(seeds))[0] < FEWEST_PAIRS:
        raise BadDesign(
            f"--stop group looks first at half of {len(seeds)} seeds, and fewer than "
            f"{FEWEST_PAIRS} pairs give no verdict.",
            options=[(option, 2 * FEWEST_PAIRS - 1)],
        )
    return seeds


def _scope(text: str) -> Scope:
    if text not in ("seeds-and-examples", "seeds"):
        raise BadDesign(
            f'--scope "{text}" is not seeds-and-examples or seeds.', options=[("scope", "seeds")]
        )
    return cast(Scope, text.replace("-", "_"))


def _where_typed(refusal: Refusal, typed: Typed) -> None:
    """Let the settings of a remedy replace those that were typed: in an --arm, or in a --set."""
    for key, value in list(refusal.settings.items()):
        one = re.compile(rf"(?<![^:,]){re.escape(key)}\s*=[^,]*")
        new = f"{key}={value}"
        arms = [(t, new.join(one.split(t, maxsplit=1))) for t in typed.arms if one.search(t)]
        shared = [(text, new) for text in typed.settings if one.match(text)]
        if arms or shared:
            refusal.replace = (*refusal.replace, (*arms, *shared)[0])
            del refusal.settings[key]
