"""Outcomes: what is said beside the primary metric: calibration, NLL, Brier, from their sums."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.analysis.calibration.errors import (
    Calibration,
)
from bench.analysis.data.tables import Design
from bench.analysis.errors import UnusableRuns
from bench.analysis.inference.comparison import Comparison
from bench.analysis.inference.multiplicity import Adjusted, bonferroni, bonferroni_level
from bench.analysis.inference.two_way import two_way_from_mean_squares
from bench.analysis.study.findings import Reliability, Secondary
from bench.analysis.study.pairs import Paired
from bench.analysis.study.summary import OutcomeSums, RunBins
from bench.analysis.study.verdict_interval import by_rule, stopping_rule

DESCRIBES = "described only: its interval does not hold as often as it promises"
Floats = NDArray[np.float64]


def secondary(outcomes: Sequence[OutcomeSums], design: Design) -> tuple[Secondary, ...]:
    """Compare every outcome but the primary one; interval and p adjusted together.

    Whatever lets the primary interval hold at this look holds for these too: a null outcome read
    by fixed intervals in a series of interim reports was claimed in 27 % of simulated series.
    While planned runs are still to be trained nothing is judged.
    """
    if not outcomes:
        return ()
    m = max(1, len(design.treatments))  # every treatment has the same outcomes
    level = 1 - design.alpha / m
    family = [o for o in outcomes if not o.descriptive]
    each = bonferroni_level(level, max(1, len(family)))
    adjusted = iter(bonferroni([_compared(o, design, each) for o in family], level=level))
    return tuple(
        _secondary(o, _compared(o, design, each) if o.descriptive else next(adjusted), level, m)
        for o in outcomes
    )


def _secondary(o: OutcomeSums, found: Comparison, level: float, m: int) -> Secondary:
    """Return an outcome with what its comparison says; p where it counts in the family."""
    of_family = found if isinstance(found, Adjusted) else None
    return Secondary(
        metric=o.metric,
        label=o.label,
        unit=o.unit,
        higher_is_better=o.higher_is_better,
        baseline=_pairs(o).mean_of(o.baseline),
        treatment=_pairs(o).mean_of(o.treatment),
        difference=found.difference,
        low=found.low,
        high=found.high,
        level=level,
        p_value=of_family.p_value if of_family else None,
        p_adjusted=_times(of_family.p_adjusted, m) if of_family else None,
        p_holm=_times(of_family.p_holm, m) if of_family else None,
        reason=found.reason or (DESCRIBES if o.descriptive else None),
        descriptive=o.descriptive,
    )


def _pairs(o: OutcomeSums) -> Paired:
    seeds = tuple(range(len(o.baseline)))
    return Paired(seeds=seeds, baseline=o.baseline, treatment=o.treatment, strata=o.strata)


def _compared(o: OutcomeSums, design: Design, level: float) -> Comparison:
    n, pairs = len(o.baseline), _pairs(o)
    try:
        if design.pending:
            raise UnusableRuns("not judged yet: planned runs are still to be trained")
        if o.method == "paired_t":
            fixed = pairs.one_way(level=level)
        elif o.squares is None or o.difference is None or o.n_columns is None:
            raise UnusableRuns(o.reason or "the mean squares are not known")
        else:
            fixed = two_way_from_mean_squares(o.difference, *o.squares, n, o.n_columns, level=level)
        return by_rule(fixed, pairs.series, stopping_rule(n, design), design, level=level)
    except UnusableRuns as refusal:
        return Comparison(
            name=o.metric,
            n=0,
            difference=pairs.mean_of(o.treatment) - pairs.mean_of(o.baseline),
            level=0.95,
            reason=refusal.what,
        )


def _times(p: float | None, m: int) -> float | None:
    return None if p is None else min(1.0, m * p)


def calibration_rows(rows: Sequence[Calibration], design: Design) -> tuple[Calibration, ...]:
    """Average each arm's calibration over its seeds, raw first, then scaled."""
    found = []
    for arm in design.arms:
        raw = [row for row in rows if row.arm == arm and not row.scaled]
        scaled = [row for row in rows if row.arm == arm and row.scaled]
        if raw:
            found.append(_mean_row(raw, scaled=False))
        if raw and len(scaled) == len(raw):
            found.append(_mean_row(scaled, scaled=True))
    return tuple(found)


def _mean_row(rows: Sequence[Calibration], *, scaled: bool) -> Calibration:
    whose = ("arm", "seed", "scaled", "temperature", "aurc")
    names = [f.name for f in fields(Calibration) if f.name not in whose]
    means: dict[str, Any] = {
        name: float(np.mean([getattr(row, name) for row in rows])) for name in names
    }
    for name in ("temperature", "aurc"):
        known = [value for row in rows if (value := getattr(row, name)) is not None]
        means[name] = float(np.mean(known)) if known else None
    return Calibration(arm=rows[0].arm, scaled=scaled, **means)


def reliability_diagrams(bins: Sequence[RunBins], design: Design) -> tuple[Reliability, ...]:
    """Return an arm's diagram and curve each: the mean over seeds and their middle 95 %."""
    found = []
    for arm in design.arms:
        runs = [run for run in bins if run.arm == arm]
        if not runs:
            continue
        count = np.array([run.count for run in runs], dtype=np.float64)
        with np.errstate(invalid="ignore"):  # an empty bin has no mean: NaN
            accuracy = np.array([run.correct for run in runs]) / count
            sure = np.array([run.confidence for run in runs]) / count

        def each(of: Callable[[Floats], Any], table: Floats) -> tuple[float | None, ...]:
            columns = [column[~np.isnan(column)] for column in table.T]
            return tuple(float(of(column)) if column.size else None for column in columns)

        risk = np.array([run.risk for run in runs])
        lowest, highest = (partial(np.quantile, q=q) for q in (0.025, 0.975))
        found.append(
            Reliability(
                arm=arm,
                confidence=each(np.mean, sure),
                accuracy=each(np.mean, accuracy),
                low=each(lowest, accuracy),
                high=each(highest, accuracy),
                share=tuple(float(s) for s in count.sum(axis=0) / count.sum()),
                risk=each(np.mean, risk),
                risk_low=each(lowest, risk),
                risk_high=each(highest, risk),
            )
        )
    return tuple(found)
