"""Analyses: in which ways are the same pairs analysed? One row each, in the report's order."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.analysis.data.tables import Design
from bench.analysis.inference import (
    bootstrap_t,
    iqm_difference,
    leave_one_out,
    mcnemar,
    paired_t,
    sign_flip,
    weighted_t,
    welch,
    wilcoxon,
)
from bench.analysis.inference.comparison import Comparison
from bench.analysis.inference.sequential import anytime
from bench.analysis.study.pairs import Paired
from bench.analysis.study.verdict_interval import fixed_analysis, floor_df, variance_floor

FEWEST_IN_QUARTERS = 8  # runs of an arm: below, a quarter of them is one run or none
MOST_RESAMPLED = 5_000  # units; beyond, the resampling takes seconds and says the same

Analyse = Callable[[Paired, Design, float, np.random.Generator], Comparison]


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to analyse the pairs."""

    label: str
    note: str
    analyse: Analyse  # pairs, design, level, and what resamples
    word: str = ""  # what a sentence calls it; empty: it gives no word beside the verdict's
    examples: int = 0  # fewest test examples


def _over_seeds(compare: Callable[..., Comparison]) -> Analyse:
    return lambda p, _, level, rng: compare(p.baseline, p.treatment, level=level)


def _resampled(compare: Callable[..., Comparison]) -> Analyse:
    return lambda p, _, level, rng: compare(p.baseline, p.treatment, level=level, rng=rng)


def _left_out(p: Paired, design: Design, level: float, rng: np.random.Generator) -> Comparison:
    def some(keep: NDArray[np.intp]) -> Comparison:
        return fixed_analysis(p.take(keep.tolist()), design, level=level)

    return leave_one_out(some, p.n)


def whenever_looked(
    p: Paired, design: Design, level: float, rng: np.random.Generator | None = None
) -> Comparison:
    """Return the anytime-valid interval, as wide as the sampling of test examples asks."""
    fixed = fixed_analysis(p, design, level=level)
    floor, df = variance_floor(fixed), floor_df(fixed)
    return anytime(p.differences, level=level, variance_floor=floor, floor_df=df)


WAYS = {
    "two_way": Way(
        label="{Rows} and {columns}",
        note="crossed random effects",
        analyse=lambda p, _, level, rng: p.two_way(level=level),
        word="seeds and test examples",
        examples=2,
    ),
    "paired_t": Way(
        label="Paired t",
        note="{reach}",
        analyse=_over_seeds(paired_t),
        word="paired t",
    ),
    "weighted_t": Way(
        label="Weighted t",
        note="{reach}",
        analyse=lambda p, _, level, rng: p.one_way(level=level),
        word="weighted t",
    ),
    "corrected_t": Way(
        label="Corrected t",
        note="training sets overlap (Nadeau–Bengio)",
        analyse=lambda p, _, level, rng: p.one_way(level=level),
        word="corrected t",
    ),
    "each_data_set": Way(
        label="These data sets",
        note="runs drawn anew within each",
        analyse=lambda p, _, level, rng: within_sets(p, level),
        word="these data sets",
    ),
    "new_data_sets": Way(
        label="New data sets",
        note="one mean a data set, as if a model were trained for each",
        analyse=lambda p, _, level, rng: over_sets(p, level),
    ),
    "mcnemar": Way(
        label="McNemar’s exact test",
        note="right and wrong answers; conservative",
        analyse=lambda p, _, level, rng: exact_mcnemar(p, level),
    ),
    "sign_flip": Way(
        label="Exact sign-flip test",
        note="no distribution assumed",
        analyse=_resampled(sign_flip),
        word="sign-flip",
    ),
    "bootstrap_t": Way(
        label="Studentized bootstrap",
        note="9,999 resamples, allows skew",
        analyse=_resampled(bootstrap_t),
        word="studentized bootstrap",
    ),
    "wilcoxon": Way(
        label="Wilcoxon signed rank",
        note="the typical {row}, not the mean",
        analyse=_over_seeds(wilcoxon),
    ),
    "welch": Way(
        label="Unpaired (Welch)",
        note="as if the arms shared nothing",
        analyse=lambda p, _, level, rng: welched(p, level),
        word="Welch, unpaired",
    ),
    "leave_one_out": Way(
        label="Leave out any one {row}", note="outer hull of the re-analyses", analyse=_left_out
    ),
    "anytime": Way(
        label="Anytime-valid", note="holds however often one looks", analyse=whenever_looked
    ),
    "iqm": Way(
        label="Interquartile mean",
        note="without the best and the worst quarter of all runs; bootstrap",
        analyse=lambda p, _, level, rng: middle(p, level, rng),
    ),
}


def middle(p: Paired, level: float, rng: np.random.Generator) -> Comparison:
    """Return the difference of the interquartile means of both arms' runs."""
    return iqm_difference(
        p.baseline,
        p.treatment,
        level=level,
        strata=p.strata,
        paired=not p.independent,
        rng=rng,
    )


def welched(p: Paired, level: float) -> Comparison:
    """Return Welch's comparison, of pairs as if they shared nothing."""
    if p.published is not None:
        return p.one_way(level=level)
    return welch(p.baseline, p.treatment, level=level)


def over_sets(p: Paired, level: float) -> Comparison:
    """Return the paired t over the means of the data sets."""
    means = [
        [float(np.mean(values)) for values in (of.pairs.baseline, of.pairs.treatment)]
        for of in p.sets
    ]
    base, other = zip(*means, strict=True)
    return paired_t(base, other, level=level)


def within_sets(p: Paired, level: float) -> Comparison:
    """Return the mean over data sets, whose own trainings are drawn anew."""
    each = [of.pairs.differences for of in p.sets]
    strata = np.repeat(np.arange(len(each)), [own.size for own in each])
    return weighted_t(np.concatenate(each), strata=strata, level=level)


def exact_mcnemar(p: Paired, level: float) -> Comparison:
    """Return McNemar's p beside the difference; it has no interval."""
    found = mcnemar(p.baseline, p.treatment)
    return Comparison(
        name="mcnemar",
        n=p.n,
        difference=found.difference,
        level=level,
        p_value=found.p_value,
        reason="McNemar's test has no interval",
    )


def applicable(pairs: Paired, design: Design) -> dict[str, Way]:
    """Return the ways in which these pairs can be analysed."""
    names = _ways(pairs, design)
    if len(pairs.sets) > 1:
        nested = design.units.nested and design.units.new_datasets
        names.add("each_data_set" if nested else "new_data_sets")
    if _are_runs(pairs, design) and FEWEST_IN_QUARTERS <= pairs.n <= MOST_RESAMPLED:
        names.add("iqm")
    enough = pairs.n_examples or 0
    return {n: way for n, way in WAYS.items() if n in names and enough >= way.examples}


def _are_runs(pairs: Paired, design: Design) -> bool:
    """Tell whether every value is one training's, drawn by itself, and counts alike."""
    units = design.units
    single = units.rows == "seeds" and not (units.nested and units.new_datasets)
    return single and pairs.published is None and pairs.weights is None


def _ways(pairs: Paired, design: Design) -> set[str]:
    """Return the ways that suit the units: resampling signs needs pairs that count alike."""
    if pairs.independent:
        return {"two_way", "welch"}
    if pairs.test_share is not None:
        return {"corrected_t", "leave_one_out"}
    if not pairs.alike:
        return {"two_way", "weighted_t"}
    few = {"sign_flip", "bootstrap_t"} if pairs.n <= MOST_RESAMPLED else set()
    if design.units.rows == "none":
        answers = bool(np.isin([*pairs.baseline, *pairs.treatment], (0, 1)).all())
        return {"paired_t", *few, "mcnemar" if answers else "wilcoxon"}
    if design.units.target is not None:
        return {"two_way", "paired_t", *few, "wilcoxon", "leave_one_out", "anytime"}
    if not design.units.are_seeds:
        return {"paired_t", *few, "wilcoxon", "leave_one_out"}
    return {"two_way", "paired_t", "sign_flip", "bootstrap_t", "wilcoxon", "welch"} | {
        "leave_one_out",
        "anytime",
    }
