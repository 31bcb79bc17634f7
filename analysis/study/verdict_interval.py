"""Primary: the planned analysis of one treatment, as the plan's scope and stopping rule say."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.analysis.data.tables import Design, Stop
from bench.analysis.errors import UnusableRuns
from bench.analysis.inference import TwoWay
from bench.analysis.inference.comparison import Comparison, require_level
from bench.analysis.inference.distributions import standard_error, t_isf
from bench.analysis.inference.sequential import anytime, group, planned_looks
from bench.analysis.study.findings import Primary
from bench.analysis.study.pairs import Paired

Floats = NDArray[np.float64]


def fixed_analysis(pairs: Paired, design: Design, *, level: float) -> Comparison:
    """Return the analysis for a fixed number of seeds: two-way, or paired t for scope "seeds".

    Raises
    ------
    UnusableRuns : too few pairs, or the differences have no spread over seeds
    """
    if seeds_only(pairs, design):
        return pairs.one_way(level=level)
    return pairs.two_way(level=level)


def seeds_only(pairs: Paired, design: Design) -> bool:
    """Tell whether the analysis asks about new seeds alone, by plan or for lack of examples."""
    return design.scope == "seeds" or pairs.n_examples is None or pairs.n_examples < 2


def at_level(fixed: Comparison, level: float) -> Comparison:
    """Return a fixed analysis at another level, from the same error and degrees of freedom."""
    if fixed.standard_error is None or fixed.df is None:
        raise ValueError(f"the analysis {fixed.name} has no error to take another level from")
    reach = t_isf(require_level(level) / 2, fixed.df) * fixed.standard_error
    low, high = fixed.difference - reach, fixed.difference + reach
    return replace(fixed, low=low, high=high, level=level)


def floor_df(fixed: Comparison) -> float:
    """Return the degrees of freedom behind that floor; infinitely many where there is none."""
    return fixed.df_examples if isinstance(fixed, TwoWay) else math.inf


def variance_floor(fixed: Comparison) -> float:
    """Return the variance that no number of seeds averages out: 0 when only seeds vary."""
    return fixed.variance_floor if isinstance(fixed, TwoWay) else 0.0


def verdict_interval(pairs: Paired, design: Design, *, level: float) -> Comparison:
    """Return the interval that the verdict follows, at one level.

    Raises
    ------
    UnusableRuns : what `fixed_analysis` refuses
    """
    if design.pending and design.units.nested and design.units.new_datasets:
        raise UnusableRuns("not judged yet: planned runs are still to be trained")
    fixed = fixed_analysis(pairs, design, level=level)
    return by_rule(fixed, pairs.series, stopping_rule(pairs.n, design), design, level=level)


def by_rule(
    fixed: Comparison, differences: ArrayLike, rule: Stop, design: Design, *, level: float
) -> Comparison:
    """Return the interval that holds at this look, from the one for a fixed number of seeds.

    Parameters
    ----------
    fixed : at `level`
    differences : shape (n,), one a seed, in plan order
    rule : what `stopping_rule` says
    """
    if rule == "anytime":
        floor, df = variance_floor(fixed), floor_df(fixed)
        return anytime(differences, level=level, variance_floor=floor, floor_df=df)
    if rule == "group":
        looks = [look for look in planned_looks(len(design.seeds)) if look < fixed.n]
        return group(fixed, [*looks, fixed.n], planned=len(design.seeds), level=level)
    return fixed


def stopping_rule(n: int, design: Design) -> Stop:
    """Return the rule whose interval holds at a look at n pairs.

    A look at a number of pairs that the plan did not name (an interim report, or seeds added or
    another rule chosen after results could be seen) is one of any number of looks: only the
    anytime-valid interval holds.
    """
    if not design.units.are_seeds:
        return "fixed"
    if design.free_to_look:
        return "anytime"
    named = planned_looks(len(design.seeds)) if design.stop == "group" else ()
    if design.pending and n not in named:
        return "anytime"
    return design.stop


def levels(design: Design) -> tuple[float, float]:
    """Return the levels of the verdict interval and of the one for equivalence.

    Several treatments share the error rate (Bonferroni), so that all intervals hold together.
    """
    m = max(1, len(design.treatments)) * design.conditions
    return 1 - design.alpha / m, 1 - 2 * design.alpha / m


def primary(pairs: Paired, design: Design) -> Primary:
    """Return the planned analysis, or one without numbers that says why."""
    level, level90 = levels(design)
    try:
        wide = verdict_interval(pairs, design, level=level)
        narrow = verdict_interval(pairs, design, level=level90)
    except UnusableRuns as refusal:
        return Primary(
            method=_method(pairs, design),
            difference=pairs.mean,
            level=level,
            level90=level90,
            reason=refusal.what,
        )
    return Primary(
        method=_method(pairs, design),
        difference=wide.difference,
        low=wide.low,
        high=wide.high,
        low90=narrow.low,
        high90=narrow.high,
        level=level,
        level90=level90,
        p_value=wide.p_value,
        df=wide.df,
        standard_error=wide.standard_error,
        reason=wide.reason,
    )


def _method(pairs: Paired, design: Design) -> str:
    rule = stopping_rule(pairs.n, design)
    if rule != "fixed":
        return rule
    if not seeds_only(pairs, design):
        return "two_way"
    if pairs.independent:
        return "welch"
    if pairs.test_share is not None:
        return "corrected_t"
    return "paired_t" if pairs.alike else "weighted_t"


def mean_interval(values: Floats, *, level: float) -> tuple[float | None, float | None]:
    """Return a t interval of one arm's mean over seeds; None below two seeds."""
    if values.size < 2:
        return None, None
    reach = float(t_isf((1 - level) / 2, values.size - 1) * standard_error(values))
    return float(values.mean()) - reach, float(values.mean()) + reach
