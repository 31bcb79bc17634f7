"""Turns typed options into a plan, or refuses those that make none."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast, get_args

from bench.analysis.data.tables import Goal, Stop
from bench.analysis.errors import Refusal
from bench.analysis.inference.sequential import planned_looks
from bench.analysis.study.verdict import FEWEST_PAIRS
from bench.commands.common import Usage
from bench.commands.options import Arms, Design
from bench.design.description import Discovered
from bench.design.option_values import arms_with, in_metric_units, parse_seeds, require_margin
from bench.design.plan import Plan, PlanScope, make_plan
from bench.execution.devices import Slot
from bench.execution.server import Server


def draft(
    server: Server,
    folder: Path | None,
    design: Design,
    arms: Arms,
    seeds: tuple[int, ...],
    slots: Sequence[Slot],
) -> tuple[Discovered, Plan]:
    """Return the experiment and the plan that the options ask for; nothing is recorded.

    Parameters
    ----------
    server : imports the experiment
    seeds : as `seeds_of` reads them
    folder : of the data set, or None
    slots : of this machine where it will train; none where others will

    Raises
    ------
    BadSeeds, BadSetting, Usage : options outside their range, or that contradict each other
    """
    scope = _scope(design.scope)
    _require_datasets(server.found, design)
    require_margin(design.margin, design.claim)
    if design.aa and (arms.arms or design.claim is not None):
        raise Usage(
            "--aa compares the baseline with itself, so it takes no --arm and no --claim.",
            without=["arm", "claim"],
        )
    found = server.found
    changed = arms_with(found, arms.settings or (), arms.arms or ())
    if design.aa:
        baseline, settings = next(iter(changed.items()))
        changed = {baseline: settings, f"{baseline} again": dict(settings)}
    metric = found.experiment.metric
    try:
        data = server.data(changed, folder)
        packs = server.pack_seeds(changed, slots) if slots else None
    except Refusal as refusal:
        _where_typed(refusal, arms)
        raise
    plan = make_plan(
        found,
        data=data,
        arms=changed,
        seeds=seeds,
        margin=in_metric_units(design.margin, metric),
        claim=in_metric_units(design.claim, metric),
        scope=scope,
        goal=_goal(design, found.experiment.margin),
        stop=cast(Stop, design.stop),
        max_seeds=design.max_seeds,
        aa=design.aa,
        pack_seeds=packs,
    )
    if design.aa:
        plan = replace(plan, claim=None, question="Does the baseline differ from itself?")
    return found, plan


def varied(plan: Plan, text: str) -> list[Plan]:
    """Return a plan for each source of randomness: it follows the seed, the others are pinned.

    Raises
    ------
    Usage : no source, one named twice, or a plan that stops early or compares like with like
    """
    sources = [part.strip() for part in text.split(",")]
    if not all(sources) or len(set(sources)) < len(sources):
        raise Usage(
            f'--vary "{text[:60]}" is no list of streams, each once.',
            facts=['A stream is what trainings ask for: trial.rng("init") draws from init.'],
            options=[("vary", "subset,init,order")],
        )
    if plan.datasets:
        raise Usage("--vary asks where the spread on one data set comes from.", without=["vary"])
    if plan.stop != "fixed" or plan.aa:
        raise Usage(
            "--vary trains every source on all seeds, so it takes no --stop and no --aa.",
            without=["stop", "max_seeds", "aa"],
        )
    return [replace(plan, vary=source) for source in sources]


def seeds_of(design: Design) -> tuple[int, ...]:
    """Return the seeds that may be trained.

    Raises
    ------
    BadSeeds, Usage : no seeds, or a rule that they do not fit
    """
    text = "20" if design.seeds is None else design.seeds
    seeds = parse_seeds(text)
    if design.stop not in get_args(Stop):
        raise Usage(
            f'--stop "{design.stop}" is not fixed, group or anytime.', options=[("stop", "anytime")]
        )
    if design.max_seeds is None:
        return _long_enough(design.stop, seeds, "seeds")
    if design.stop == "fixed":
        raise Usage(
            "--max-seeds bounds a training that may stop early, and --stop fixed does not.",
            options=[("stop", "anytime")],
        )
    if not text.strip().isdigit():
        raise Usage(
            f"--seeds {design.seeds} already lists the seeds that --max-seeds would choose.",
            without=["seeds"],
        )
    seeds = parse_seeds(str(design.max_seeds), "max_seeds")
    return _long_enough(design.stop, seeds, "max_seeds")


def _long_enough(stop: str, seeds: tuple[int, ...], option: str) -> tuple[int, ...]:
    if stop == "group" and planned_looks(len(seeds))[0] < FEWEST_PAIRS:
        raise Usage(
            f"--stop group looks first at half of {len(seeds)} seeds, and fewer than "
            f"{FEWEST_PAIRS} pairs give no verdict.",
            options=[(option, 2 * FEWEST_PAIRS - 1)],
        )
    return seeds


def _scope(text: str) -> PlanScope:
    if text not in ("seeds-and-examples", "seeds", "new-datasets"):
        raise Usage(
            f'--scope "{text}" is not seeds-and-examples, seeds or new-datasets.',
            options=[("scope", "seeds")],
        )
    return cast(PlanScope, text.replace("-", "_"))


def _goal(design: Design, margin: float | None) -> Goal:
    if design.goal not in ("better", "equivalent", "not-worse"):
        raise Usage(
            f'--goal "{design.goal}" is not better, equivalent or not-worse.',
            options=[("goal", "better")],
        )
    if design.goal != "better" and design.margin is None and margin is None:
        raise Usage(
            f"--goal {design.goal} needs the smallest difference worth having.",
            options=[("margin", 0.3)],
        )
    return cast(Goal, design.goal.replace("-", "_"))


def _require_datasets(found: Discovered, design: Design) -> None:
    """Refuse a question that needs several data sets, or a rule that does not fit them."""
    several = found.experiment.datasets
    if design.scope == "new-datasets" and not several:
        raise Usage(
            f"{found.experiment.name} trains on one data set, which says nothing of new ones.",
            facts=['Experiment(datasets=["cifar", "svhn", …]) names several.'],
            without=["scope"],
        )
    if several and design.stop != "fixed":
        raise Usage(
            f"--stop {design.stop} looks at pairs of one data set, and there are {len(several)}.",
            without=["stop", "max_seeds"],
        )
    if found.experiment.test_share is not None and design.stop != "fixed":
        raise Usage(
            f"--stop {design.stop} looks at independent pairs, and folds share their examples.",
            without=["stop", "max_seeds"],
        )


def _where_typed(refusal: Refusal, typed: Arms) -> None:
    """Let the settings of a remedy replace those that were typed: in an --arm, or in a --set."""
    for key, value in list(refusal.settings.items()):
        one = re.compile(rf"(?<![^:,]){re.escape(key)}\s*=[^,]*")
        new = f"{key}={value}"
        arms = [(t, new.join(one.split(t, maxsplit=1))) for t in typed.arms or () if one.search(t)]
        shared = [(text, new) for text in typed.settings or () if one.match(text)]
        if arms or shared:
            refusal.replace = (*refusal.replace, (*arms, *shared)[0])
            del refusal.settings[key]
