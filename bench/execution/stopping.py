"""Stopping rules: the running interval, and whether the plan says that it is enough."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from bench.analysis.data.tables import Design, beyond_computing
from bench.analysis.errors import UnusableRuns
from bench.analysis.inference.gram import gram
from bench.analysis.inference.sequential import anytime, planned_looks
from bench.analysis.study.findings import Primary
from bench.analysis.study.pairs import Paired
from bench.analysis.study.verdict import decide
from bench.analysis.study.verdict_interval import fixed_analysis, primary, variance_floor
from bench.design.plan import Plan
from bench.execution.runner import Look, Pair

FEWEST_SHOWN = 3  # pairs before anything is shown
UNDECIDED = ("inconclusive", "none")


def looker(plan: Plan) -> Callable[[Sequence[Pair]], Look | None]:
    """Return the function that the runner asks after each pair.

    It gives the anytime-valid interval of the first treatment, the one thing that is safe to show,
    and says "stop" where the plan's rule does: under `anytime` when every treatment's word is
    settled, under `group` only at the planned looks, under `fixed` never.
    """
    design = plan.design()

    def look(pairs: Sequence[Pair]) -> Look | None:
        if len(pairs) < FEWEST_SHOWN or design.units.new_datasets:
            return None
        first = _paired(pairs, design, design.treatments[0])
        values = np.array([[run.value for run in pair.values()] for pair in pairs])
        if beyond_computing(values).any():
            return None  # the report refuses them, with their seed and arm
        try:
            floor = variance_floor(fixed_analysis(first, design, level=1 - design.alpha))
            now = anytime(first.differences, level=1 - design.alpha, variance_floor=floor)
        except UnusableRuns:
            return None
        stop = _asked(design, len(pairs)) and _settled(pairs, design)
        return Look(now.difference, now.low, now.high, stop)

    return look


def _asked(design: Design, n: int) -> bool:
    """Tell whether the rule looks at this number of pairs."""
    if design.stop == "group":
        return n in planned_looks(len(design.seeds))
    return design.stop == "anytime"


def _settled(pairs: Sequence[Pair], design: Design) -> bool:
    """Tell whether every treatment's word is one to stop at."""
    words = []
    for treatment in design.treatments:
        paired = _paired(pairs, design, treatment)
        words.append(_word(primary(paired, design), paired.n, design))
    return not any(word in UNDECIDED for word in words)


def _word(main: Primary, n: int, design: Design) -> str:
    return decide(
        n=n,
        low=main.low,
        high=main.high,
        low90=main.low90,
        high90=main.high90,
        margin=design.margin,
        higher_is_better=design.higher_is_better,
    ).word


def _paired(pairs: Sequence[Pair], design: Design, treatment: str) -> Paired:
    base = [pair[design.baseline] for pair in pairs]
    other = [pair[treatment] for pair in pairs]
    examples = None
    if all(run.examples is not None for run in (*base, *other)):
        examples = np.stack(
            [
                t.examples - b.examples
                for t, b in zip(other, base, strict=True)
                if t.examples is not None and b.examples is not None
            ]
        )
    values = [[run.value for run in arm] for arm in (base, other)]
    found = Paired.of(range(len(pairs)), values[0], values[1])
    return found if examples is None else replace(found, crossed=gram(examples, base[0].weights))
