"""Distributions: the quantiles and tails that the analyses need, straight from scipy.special.

`scipy.stats` gives the same numbers from the same functions (a test compares them), but takes over
a second to import; a command line that answers in three cannot afford it.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special


def t_isf(tail: float, df: float) -> float:
    """Return the point that Student's t exceeds with probability `tail`."""
    return -float(special.stdtrit(df, tail))


def t_sf(x: float, df: float) -> float:
    """Return the probability that Student's t exceeds x."""
    return float(special.stdtr(df, -x))


def t_cdf(x: float, df: float) -> float:
    """Return the probability that Student's t is at most x."""
    return float(special.stdtr(df, x))


def normal_isf(tail: float) -> float:
    """Return the point that a standard normal exceeds with probability `tail`."""
    return -float(special.ndtri(tail))


def normal_sf(x: float) -> float:
    """Return the probability that a standard normal exceeds x."""
    return float(special.ndtr(-x))


def chi2_isf(tail: float, df: float) -> float:
    """Return the point that chi-square exceeds with probability `tail`."""
    return float(special.chdtri(df, tail))


def chi2_sf(x: Any, df: float) -> Any:
    """Return the probability that chi-square exceeds x, elementwise."""
    return special.chdtrc(df, x)


def f_isf(tail: float, df: float, df_below: float) -> float:
    """Return the point that F exceeds with probability `tail`; `df_below` is the denominator's."""
    return float(special.fdtri(df, df_below, 1 - tail))


def f_sf(x: float, df: float, df_below: float) -> float:
    """Return the probability that F exceeds x; `df_below` is the denominator's."""
    return float(special.fdtrc(df, df_below, x))


def studentized_range_isf(tail: float, k: int) -> float:
    """Return the point that the range of k standard normals exceeds with probability `tail`."""
    from scipy import stats  # no other function of scipy has it

    return float(stats.studentized_range.isf(tail, k, np.inf))


def beta_ppf(probability: float, a: float, b: float) -> float:
    """Return the point below which a beta variable lies with this probability."""
    return float(special.betaincinv(a, b, probability))


def beta_isf(tail: float, a: float, b: float) -> float:
    """Return the point that a beta variable exceeds with probability `tail`."""
    return float(special.betainccinv(a, b, tail))


def binomial_cdf(count: int, n: int, share: float) -> float:
    """Return the probability of at most `count` successes of n."""
    return float(special.bdtr(count, n, share))


def noncentral_t_cdf(x: float, df: float, noncentrality: float) -> float:
    """Return the probability that a noncentral t is at most x; NaN where scipy has no answer."""
    return float(special.nctdtr(df, noncentrality, x))


def standard_error(values: NDArray[np.float64]) -> float:
    """Return the standard error of the mean of independent values; two or more."""
    return float(values.std(ddof=1)) / math.sqrt(values.size)
