"""Effect size: how large is the difference beside its spread, and how often does it win?"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from bench.analysis.inference.comparison import (
    ROUNDING,
    paired_values,
    require_level,
    seed_differences,
)
from bench.analysis.inference.distributions import (
    beta_isf,
    beta_ppf,
    chi2_sf,
    noncentral_t_cdf as scipy_noncentral_t_cdf,
    normal_isf,
)
from bench.analysis.inference.roots import crossing

_SCIPY_UP_TO = 100.0  # noncentrality


@dataclass(frozen=True, kw_only=True)
class Effect:
    """The mean difference in units of the differences' standard deviation."""

    n: int  # seed pairs
    d_z: float
    hedges_g: float  # d_z without its small-sample bias
    low: float  # limits of d_z
    high: float
    level: float


@dataclass(frozen=True, kw_only=True)
class WinRate:
    """The share of seeds at which the treatment does better; a tie counts half."""

    n: int  # seed pairs
    wins: int
    ties: int
    rate: float
    low: float
    high: float
    level: float


def effect_size(baseline: ArrayLike, treatment: ArrayLike, *, level: float = 0.95) -> Effect:
    """Return the standardized paired difference with its exact interval.

    Parameters
    ----------
    baseline, treatment : shape (n,), one metric value a seed, same seed order
    level : coverage of the interval, between 0 and 1; exact for normal differences

    Raises
    ------
    UnusableRuns : fewer than two pairs, a non-finite value, or no spread

    References
    ----------
    Hedges (1981), Journal of Educational Statistics 6(2); Steiger & Fouladi (1997), in What If
    There Were No Significance Tests?, for inverting the noncentral t.
    """
    alpha = require_level(level)
    diff = seed_differences(baseline, treatment)
    n = diff.size
    d_z = float(diff.mean() / diff.std(ddof=1))
    t, root = d_z * math.sqrt(n), math.sqrt(n)
    return Effect(
        n=n,
        d_z=d_z,
        hedges_g=d_z * bias_correction(n - 1),
        low=_noncentrality(t, n - 1, 1 - alpha / 2) / root,
        high=_noncentrality(t, n - 1, alpha / 2) / root,
        level=level,
    )


def bias_correction(df: float) -> float:
    """Return Hedges' J, by which d_z overshoots at few seeds; 0 at one degree of freedom."""
    if df <= 1:
        return 0.0  # the mean of d_z does not exist
    logs = special.gammaln(df / 2) - special.gammaln((df - 1) / 2)
    return math.exp(float(logs)) / math.sqrt(df / 2)


def win_rate(
    baseline: ArrayLike,
    treatment: ArrayLike,
    *,
    higher_is_better: bool = True,
    level: float = 0.95,
) -> WinRate:
    """Return how often the treatment wins over a seed, with Wilson's interval.

    Parameters
    ----------
    baseline, treatment : shape (n,), one metric value a seed, same seed order; values equal up to
        rounding are ties
    higher_is_better : the metric's direction
    level : coverage of the interval, between 0 and 1

    Raises
    ------
    UnusableRuns : different lengths, fewer than two pairs, or a value that is not finite

    """
    both = paired_values(baseline, treatment)
    gain = (both[1] - both[0]) * (1 if higher_is_better else -1)
    tie = np.abs(gain) <= ROUNDING * np.abs(both).max()
    n, wins, ties = gain.size, int((~tie & (gain > 0)).sum()), int(tie.sum())
    count = wins + ties / 2
    low, high = wilson(count, n, level=level)
    return WinRate(n=n, wins=wins, ties=ties, rate=count / n, low=low, high=high, level=level)


def wilson(count: float, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's limits of a share; for shares that are compared with one half.

    Parameters
    ----------
    count : successes, 0 to n; a tie may count half
    n : trials, 1 or more
    level : coverage of the interval, between 0 and 1

    References
    ----------
    Wilson (1927), JASA 22(158). Equals statsmodels' proportion_confint(method="wilson").
    """
    _require_share(count, n)
    share, z2 = count / n, normal_isf(require_level(level) / 2) ** 2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def clopper_pearson(count: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Return the exact limits of a rate; for rare events such as collapsed runs.

    Parameters
    ----------
    count : events, 0 to n
    n : trials, 1 or more
    level : coverage of the interval, between 0 and 1; never less than promised

    References
    ----------
    Clopper & Pearson (1934), Biometrika 26(4). Equals proportion_confint(method="beta").
    """
    _require_share(count, n)
    half = require_level(level) / 2
    low = beta_ppf(half, count, n - count + 1) if count > 0 else 0.0
    high = beta_isf(half, count + 1, n - count) if count < n else 1.0
    return low, high


def _require_share(count: float, n: int) -> None:
    if not (n >= 1 and 0 <= count <= n):
        raise ValueError(f"{count:g} of {n} is no share; count lies between 0 and n, n above 0")


def noncentral_t_cdf(t: float, df: float, noncentrality: float) -> float:
    """Return P(T <= t) for a noncentral t, also where scipy has no answer or none in time.

    `scipy.stats.nct.cdf` is NaN where the probability is close to 0 or 1 (at 19 degrees of
    freedom, for example, at t = 5 and noncentrality 58), and takes seconds at a noncentrality of
    a million. There T = (Z + noncentrality) / W with W = sqrt(chi2 / df) is integrated over Z.
    """
    if abs(noncentrality) < _SCIPY_UP_TO:
        answer = scipy_noncentral_t_cdf(t, df, noncentrality)
        if math.isfinite(answer):
            return min(max(answer, 0.0), 1.0)
    if t <= 0:
        tail = float(special.ndtr(-noncentrality))
        return 1 - noncentral_t_cdf(-t, df, -noncentrality) if t < 0 else tail
    z = np.linspace(-9, 9, 4001)
    weight = np.exp(-z * z / 2)
    above = chi2_sf(df * np.maximum((z + noncentrality) / t, 0.0) ** 2, df)
    return min(1.0, float(above @ weight / weight.sum()))


def spread_ratio(df: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return values of (estimated sd / true sd) and their probabilities, to integrate over.

    Parameters
    ----------
    df : degrees of freedom of the estimate

    Returns
    -------
    two arrays of shape (4001,): a grid that holds all but 1e-15 of the distribution, and weights
    that sum to 1
    """
    reach = 12 / math.sqrt(2 * df)
    w = np.linspace(max(1e-12, 1 - reach), 1 + reach, 4001)
    log_density = (df - 1) * np.log(w) - df * (w * w - 1) / 2
    weight = np.exp(log_density - log_density.max())
    weight[[0, -1]] /= 2  # the trapezoid rule; matters at one degree of freedom
    return w, weight / weight.sum()


def _noncentrality(t: float, df: int, probability: float) -> float:
    """Return the noncentrality at which P(T <= t) is `probability`."""

    def excess(noncentrality: float) -> float:
        return noncentral_t_cdf(t, df, noncentrality) - probability

    reach = 4.0 + abs(t)
    while excess(t - reach) < 0 or excess(t + reach) > 0:
        reach *= 2
    return crossing(excess, t - reach, t + reach)
