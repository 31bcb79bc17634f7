"""Variance components: how far seeds, examples and the rest spread a difference.

Each part answers a question of its own, and the parts say what would narrow the interval. After
Bouthillier et al. (2021), Accounting for variance in machine learning benchmarks, MLSys.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from bench.analysis.inference import TwoWay
from bench.analysis.inference.comparison import require_level
from bench.analysis.inference.distributions import chi2_isf, f_isf
from bench.analysis.inference.power import MOST_SEEDS

Part = Literal["seeds", "examples", "residual"]


@dataclass(frozen=True, kw_only=True)
class Component:
    """The spread of one thing that is drawn anew, and what it adds to the error of the mean."""

    source: Part
    n: int  # drawn: seed pairs, test examples, their cells
    sd: float  # of one of them
    low: float  # 95 % limits of the SD
    high: float
    share: float  # of the variance of the mean difference, for new seeds and new test examples


def components(
    found: TwoWay, effective: tuple[float, float], *, level: float = 0.95
) -> tuple[Component, ...]:
    """Return the spread of seeds, of test examples and of what neither explains, with limits.

    Limits of the first two are those of a difference of mean squares, of the rest chi-square.
    Seed effects count as normal; how far examples are from that is in their degrees of freedom.
    Simulated with right and wrong answers the first two keep their level, the last covers 90 %.

    Parameters
    ----------
    found : the crossed analysis
    effective : degrees of freedom of the mean squares of examples and residual, `effective_df`
    level : coverage of the limits, between 0 and 1

    References
    ----------
    Burdick & Graybill (1992), Confidence Intervals on Variance Components, sec. 3.3 and 6.3.
    """
    n, width, rest = found.n, found.n_examples, found.ms_residual
    of_examples, of_rest = effective
    tail = require_level(level) / 2
    seeds = difference_limits(found.ms_seeds, rest, n - 1, of_rest, level=level)
    examples = difference_limits(found.ms_examples, rest, of_examples, of_rest, level=level)
    residual = rest / _of_df(tail, of_rest), rest / _of_df(1 - tail, of_rest)
    parts: tuple[tuple[Part, float, float, tuple[float, float]], ...] = (
        ("seeds", n, found.variance_seeds, (seeds[0] / width, seeds[1] / width)),
        ("examples", width, found.variance_examples, (examples[0] / n, examples[1] / n)),
        ("residual", n * width, found.variance_residual, residual),
    )
    whole = sum(variance / drawn for _, drawn, variance, _ in parts)
    return tuple(
        Component(
            source=source,
            n=round(drawn),
            sd=math.sqrt(variance),
            low=math.sqrt(max(low, 0.0)),
            high=math.sqrt(max(high, 0.0)),
            share=variance / drawn / whole,
        )
        for source, drawn, variance, (low, high) in parts
    )


def difference_limits(
    first: float, second: float, df_first: float, df_second: float, *, level: float = 0.95
) -> tuple[float, float]:
    """Return modified large-sample limits of the difference of two expected mean squares.

    The limit below is above 0 exactly when the F test of first against second rejects. A variance
    component is such a difference over a count; limits below 0 then stand for 0.

    Parameters
    ----------
    first, second : independent mean squares, 0 or more
    df_first, df_second : their degrees of freedom, above 0, not necessarily whole
    level : coverage of the limits, between 0 and 1

    Raises
    ------
    ValueError : a mean square or degrees of freedom outside what is said above

    References
    ----------
    Ting, Burdick, Graybill, Jeyaratnam & Lu (1990), J. Statistical Computation and Simulation
    35. Equals R's gaugerr and the intervals in Burdick, Borror & Montgomery (2005).
    """
    if not (0 <= first < math.inf and 0 <= second < math.inf and min(df_first, df_second) > 0):
        raise ValueError(
            f"mean squares {first:g} and {second:g} with {df_first:g} and {df_second:g} degrees of "
            "freedom; a mean square is a number from 0 on, its degrees of freedom are above 0"
        )
    tail = require_level(level) / 2
    below, above = (
        math.sqrt(max(variance, 0.0))
        for variance in _large_sample(first, second, df_first, df_second, tail)
    )
    return first - second - below, first - second + above


def _large_sample(
    first: float, second: float, df_first: float, df_second: float, tail: float
) -> Iterator[float]:
    """Yield the squared reaches of the limit below and of the limit above."""
    for side in (tail, 1 - tail):
        ratio = f_isf(side, df_first, df_second)
        own = 1 - 1 / _of_df(side, df_first)
        other = 1 / _of_df(1 - side, df_second) - 1
        # Chosen so that the limit is exact where it is 0: there first / second is this ratio.
        both = ((ratio - 1) ** 2 - (own * ratio) ** 2 - other**2) / ratio
        yield (own * first) ** 2 + (other * second) ** 2 + both * first * second


def _of_df(tail: float, df: float) -> float:
    return chi2_isf(tail, df) / df


def to_halve(found: TwoWay) -> tuple[int | None, int | None]:
    """Return how many seeds in all, or how many test examples, would halve the standard error.

    None where no number of them alone can do it (or only one beyond a billion). What seeds average
    out is the variance of seeds and the rest, what examples do is that of examples and the rest.
    """
    n, width = found.n, found.n_examples
    seeds, examples = found.variance_seeds / n, found.variance_examples / width
    rest = found.variance_residual / (n * width)
    wanted = (seeds + examples + rest) / 4
    by_seeds = _enough(n, seeds + rest, wanted - examples)
    return by_seeds, _enough(width, examples + rest, wanted - seeds)


def _enough(now: float, averaged: float, allowed: float) -> int | None:
    """Return the number at which what `now` leaves of the averaged variance is allowed."""
    if allowed <= 0 or now * averaged > MOST_SEEDS * allowed:
        return None
    # A rounding above a whole number is that number.
    return math.ceil(now * averaged / allowed * (1 - 1e-12))
