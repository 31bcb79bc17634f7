"""Analyses: in which ways are the same pairs analysed? One row each, in the report's order."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.analysis.data.tables import Design
from bench.analysis.inference import (
    bootstrap_t,
    leave_one_out,
    paired_t,
    sign_flip,
    welch,
    wilcoxon,
)
from bench.analysis.inference.comparison import Comparison
from bench.analysis.inference.sequential import anytime
from bench.analysis.study.pairs import Paired
from bench.analysis.study.verdict_interval import fixed_analysis, floor_df, variance_floor

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
        label="Seeds and test examples",
        note="crossed random effects",
        analyse=lambda p, _, level, rng: p.two_way(level=level),
        word="seeds and test examples",
        examples=2,
    ),
    "paired_t": Way(
        label="Paired t",
        note="new seeds, this test set",
        analyse=_over_seeds(paired_t),
        word="paired t",
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
        note="the typical seed, not the mean",
        analyse=_over_seeds(wilcoxon),
    ),
    "welch": Way(
        label="Ignoring the pairing (Welch)",
        note="what an unpaired analysis would have said",
        analyse=_over_seeds(welch),
        word="Welch, unpaired",
    ),
    "leave_one_out": Way(
        label="Leave out any one seed", note="outer hull of the re-analyses", analyse=_left_out
    ),
    "anytime": Way(
        label="Anytime-valid", note="holds however often one looks", analyse=whenever_looked
    ),
}


def applicable(pairs: Paired) -> dict[str, Way]:
    """Return the ways in which these pairs can be analysed."""
    return {name: way for name, way in WAYS.items() if (pairs.n_examples or 0) >= way.examples}
