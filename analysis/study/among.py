"""Among: all arms against one another, where a benchmark has three or more."""

from collections.abc import Sequence

import numpy as np

from bench.analysis.data.tables import Design
from bench.analysis.errors import UnusableRuns
from bench.analysis.inference import Ranks, friedman_ranks
from bench.analysis.inference.cliques import tied_groups
from bench.analysis.study.findings import Among, Contrast
from bench.analysis.study.pairs import Paired
from bench.analysis.study.summary import Between, TreatmentSums
from bench.analysis.study.verdict_interval import verdict_interval


def among(
    treatments: Sequence[TreatmentSums], between: Sequence[Between], design: Design
) -> Among | None:
    """Compare every two arms, so that all intervals hold together; None with fewer than three.

    Bonferroni over all pairs of arms: an arm that is looked for among k(k - 1)/2 is found by luck
    alone no more often than alpha says.

    References
    ----------
    Hsu (1996), Multiple Comparisons, ch. 5; Demšar (2006), JMLR 7, for ranks over data sets.
    """
    if len(design.arms) < 3:
        return None
    pairs = {(design.baseline, of.treatment): of.pairs for of in treatments}
    pairs |= {(of.first, of.second): of.pairs for of in between}
    each = design.alpha / len(pairs) / design.conditions
    contrasts = tuple(
        _contrast(*arms, both, design, each, len(pairs) * design.conditions)
        for arms, both in pairs.items()
    )
    means = {design.baseline: 0.0}
    means |= {c.second: c.difference or 0.0 for c in contrasts if c.first == design.baseline}
    sign = -1 if design.higher_is_better else 1
    order = sorted(design.arms, key=lambda arm: sign * means[arm])
    apart = {
        frozenset((c.first, c.second))
        for c in contrasts
        if c.low is not None and c.high is not None and (c.low > 0 or c.high < 0)
    }
    groups = tied_groups(
        range(len(order)), lambda i, j: frozenset((order[i], order[j])) not in apart
    )
    return Among(
        contrasts=contrasts,
        tied=tuple(tuple(order[i] for i in group) for group in groups),
        ranks=_ranks(treatments, design),
        arms=tuple(order),
    )


def _contrast(
    first: str, second: str, pairs: Paired, design: Design, alpha: float, times: int
) -> Contrast:
    level = 1 - alpha * times
    try:
        found = verdict_interval(pairs, design, level=1 - alpha)
    except UnusableRuns as refusal:
        return Contrast(
            first=first, second=second, difference=pairs.mean, level=level, reason=refusal.what
        )
    p = None if found.p_value is None else min(1.0, times * found.p_value)
    return Contrast(
        first=first,
        second=second,
        difference=found.difference,
        low=found.low,
        high=found.high,
        level=level,
        p_adjusted=p,
        reason=found.reason,
    )


def _ranks(treatments: Sequence[TreatmentSums], design: Design) -> Ranks | None:
    """Rank the arms within each data set; None where there are not several."""
    sets = [of.pairs.sets for of in treatments]
    if len(sets[0]) < 2 or len({len(own) for own in sets}) > 1:
        return None
    columns = [[float(np.mean(of.pairs.baseline)) for of in sets[0]]]
    columns += [[float(np.mean(of.pairs.treatment)) for of in own] for own in sets]
    table = np.array(columns).T
    try:
        return friedman_ranks(table, higher_is_better=design.higher_is_better)
    except UnusableRuns:
        return None
