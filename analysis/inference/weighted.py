"""Weighted mean: is the mean difference over units that count differently distinguishable from 0?

Passages with unequally many questions, data sets with unequally many runs, arms whose runs share
nothing: each is a weighted mean of independent units, and its error is estimated alike.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference.comparison import Comparison, no_spread

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One stratum's share of a variance: its size, and the degrees of freedom behind it."""

    variance: float
    df: float


def effective_size(weights: ArrayLike) -> float:
    """Return how many units of equal weight know as much as these: 1 over the sum of squares.

    Parameters
    ----------
    weights : shape (N,), summing to 1
    """
    w = np.asarray(weights, dtype=np.float64)
    return 1.0 / float(w @ w)


def squares_weights(weights: ArrayLike) -> Floats:
    """Return q = w² / (1 - w): what squared deviations from a weighted mean count.

    For units of equal variance their sum is the unbiased variance of that mean, also where one
    unit dominates; for equal weights it is s² / N.

    Parameters
    ----------
    weights : shape (N,), summing to 1, each below 1
    """
    w = np.asarray(weights, dtype=np.float64)
    found: Floats = w**2 / (1 - w)
    return found


def variance_of_mean(values: Floats, weights: Floats) -> Part:
    """Return the variance of a weighted mean of independent values; two or more."""
    apart = values - float(weights @ values)
    variance = float(squares_weights(weights) @ apart**2)
    return Part(variance=variance, df=effective_size(weights) - 1)


def satterthwaite(parts: Sequence[Part]) -> float:
    """Return the degrees of freedom of a sum of independent variances, at least 1.

    References
    ----------
    Satterthwaite (1946), Biometrics Bulletin 2(6).
    """
    total = sum(part.variance for part in parts)
    if total <= 0:
        return max(1.0, sum(part.df for part in parts))
    # As shares of the total, so that metrics in very small units do not underflow.
    return max(1.0, 1 / sum((part.variance / total) ** 2 / part.df for part in parts if part.df))


def weighted_t(
    differences: ArrayLike,
    weights: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    *,
    level: float = 0.95,
) -> Comparison:
    """Compare two variants by the differences of units that count differently.

    Parameters
    ----------
    differences : shape (n,), treatment minus baseline of each unit
    weights : shape (n,), what each unit counts within its stratum, positive; equal by default
    strata : shape (n,), the stratum of each unit (a data set, for example): the mean is that of
        the strata's means, each counting alike, and the units are drawn anew within these strata
    level : coverage of the interval, between 0 and 1

    Raises
    ------
    UnusableRuns : fewer than two units in a stratum, a value that is not finite, or no spread

    References
    ----------
    Cochran (1977), Sampling Techniques, ch. 5 and 6; Bell & McCaffrey (2002), Survey Methodology
    28(2), for the allowance for a unit that dominates. With equal weights and one stratum it is the
    paired t test; with others its error is statsmodels' WLS(…).fit(cov_type="HC2").

    Examples
    --------
    >>> r = weighted_t([0.1, 0.3, 0.2], [5, 3, 2])
    >>> f"{r.difference:.3f} ± {r.standard_error:.3f}, df {r.df:.2f}"
    '0.180 ± 0.071, df 1.63'
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or not np.isfinite(d).all():
        raise UnusableRuns(f"differences of shape {d.shape} are not one finite number a unit")
    of = (
        np.zeros(d.size, dtype=np.intp)
        if strata is None
        else np.unique(strata, return_inverse=True)[1]
    )
    raw = np.ones(d.size) if weights is None else np.asarray(weights, dtype=np.float64)
    groups = [np.flatnonzero(of == t) for t in range(int(of.max(initial=-1)) + 1)]
    if not groups or min(len(group) for group in groups) < 2:
        raise UnusableRuns("a spread takes two units or more in every stratum")
    shares = [raw[group] / raw[group].sum() for group in groups]
    mean = sum(float(w @ d[group]) for w, group in zip(shares, groups, strict=True)) / len(groups)
    scale = float(np.abs(d).max())
    if all(no_spread(d[group], scale=scale) for group in groups):
        raise UnusableRuns(f"all {d.size} units differ by {d[0]:g}, so there is no spread to test")
    parts = [variance_of_mean(d[g], w) for g, w in zip(groups, shares, strict=True)]
    variance = sum(part.variance for part in parts) / len(groups) ** 2
    return Comparison.student(
        name="weighted_t",
        n=d.size,
        difference=mean,
        error=math.sqrt(variance),
        df=satterthwaite(parts),
        level=level,
    )
