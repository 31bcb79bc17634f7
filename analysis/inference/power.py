"""Power: how many seeds does a difference need, and which difference do these seeds show?"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from bench.analysis.inference.distributions import chi2_isf, t_isf
from bench.analysis.inference.effect_size import noncentral_t_cdf, spread_ratio
from bench.analysis.inference.roots import crossing

MOST_SEEDS = 10**9  # beyond this "more seeds" is no advice


@dataclass(frozen=True, kw_only=True)
class SeedsNeeded:
    """Seed pairs in all (not on top of those there are) that settle a margin."""

    n: int | None  # the larger of the two below; None: no number of seeds can do it
    for_difference: int | None  # to see a true difference of the margin
    for_equivalence: int | None  # to show a true difference of 0 as inside the margin
    reason: str | None = None


def power(difference: float, sd: float, n: int, *, alpha: float = 0.05) -> float:
    """Return the chance that a paired t test over n seeds finds a true difference.

    For planning: put in a difference that matters, never the observed one.

    Parameters
    ----------
    difference : true mean difference, in metric units; with ``sd=1`` it is d_z
    sd : standard deviation of the paired differences, above 0, in the same units
    n : seed pairs, 2 or more
    alpha : two-sided error rate

    Raises
    ------
    ValueError : an argument outside what is said above

    References
    ----------
    Cohen (1988), Statistical Power Analysis. Equals statsmodels' TTestPower where that has an
    answer (it is NaN at d_z >= 2 and n = 20).
    """
    _require_plan(sd=sd, n=n, alpha=alpha)
    return _chance_to_differ(abs(difference), sd / math.sqrt(n), n, alpha)


def detectable(sd: float, n: int, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """Return the true difference that n seeds find with the wanted power, in the units of sd.

    Parameters
    ----------
    sd : standard deviation of the paired differences, above 0
    n : seed pairs, 2 or more
    power : wanted chance, above alpha and below 1
    alpha : two-sided error rate

    Raises
    ------
    ValueError : an argument outside what is said above
    """
    _require_plan(sd=sd, n=n, alpha=alpha, wanted=power)
    high = 4.0
    while _chance_to_differ(high, 1.0, n, alpha) < power:
        high *= 2
    ratio = crossing(lambda r: _chance_to_differ(r, 1.0, n, alpha) - power, 0.0, high)
    return ratio * sd / math.sqrt(n)


def seeds_for(
    difference: float, sd: float, *, power: float = 0.8, alpha: float = 0.05
) -> int | None:
    """Return the smallest number of seed pairs that finds a true difference.

    Parameters
    ----------
    difference : true mean difference, in metric units, not 0
    sd : standard deviation of the paired differences, above 0, in the same units
    power : wanted chance, above alpha and below 1
    alpha : two-sided error rate

    Returns
    -------
    2 or more, or None where even 1e9 seeds are too few

    Raises
    ------
    ValueError : an argument outside what is said above
    """
    _require_plan(sd=sd, n=2, alpha=alpha, wanted=power)
    if difference == 0:
        raise ValueError("difference is 0; no number of seeds finds what is not there")
    gain = abs(difference)
    return _fewest(lambda n: _chance_to_differ(gain, sd / math.sqrt(n), n, alpha) >= power)


def upper_sd(sd: float, n: int, *, confidence: float = 0.8) -> float:
    """Return the upper limit of a standard deviation that was estimated from n seeds.

    A small pilot underestimates the spread half of the time; planning with this limit does so
    only 20 % of the time.

    Parameters
    ----------
    sd : estimate from n seed pairs
    n : 2 or more
    confidence : one-sided, between 0 and 1

    References
    ----------
    Browne (1995), Statistics in Medicine 14(17).
    """
    if n < 2:
        raise ValueError(f"n is {n}; a spread needs at least 2 seed pairs")
    return sd * math.sqrt((n - 1) / chi2_isf(confidence, n - 1))


def seeds_needed(
    margin: float,
    *,
    variance_per_seed: float,
    variance_floor: float = 0.0,
    n: int,
    alpha: float = 0.05,
    power: float = 0.8,
) -> SeedsNeeded:
    """Return how many seed pairs in all would settle the margin, from those there are.

    With m pairs the squared standard error is A / m + B: A is what seeds average out, B what the
    fixed test set leaves. A is taken at its upper 80 % limit. Settled means both: 80 % power for
    a true difference as large as the margin, and 80 % for two one-sided tests where the true
    difference is 0. Tests have m - 1 degrees of freedom.

    Parameters
    ----------
    margin : in metric units, above 0
    variance_per_seed : A, `TwoWay.variance_per_seed`; for scope "seeds" the variance of the
        paired differences
    variance_floor : B, `TwoWay.variance_floor`; for scope "seeds" 0
    n : seed pairs that A was estimated from
    alpha : two-sided error rate; each one-sided test has this rate
    power : wanted chance, above alpha and below 1

    Raises
    ------
    ValueError : an argument outside what is said above

    References
    ----------
    Julious (2004), Statistics in Medicine 23(12), for the power of two one-sided tests.
    """
    _require_plan(sd=1.0, n=n, alpha=alpha, wanted=power)
    if not (margin > 0 and variance_per_seed >= 0 and variance_floor >= 0):
        raise ValueError(
            f"margin {margin:g}, variance_per_seed {variance_per_seed:g}, variance_floor "
            f"{variance_floor:g}: the margin must be above 0, the variances at least 0"
        )
    inflated = upper_sd(math.sqrt(variance_per_seed), n) ** 2

    def error(m: int) -> float:
        return math.sqrt(inflated / m + variance_floor)

    differ = _fewest(lambda m: _chance_to_differ(margin, error(m), m, alpha) >= power)
    match = _fewest(lambda m: _chance_to_match(margin, error(m), m, alpha) >= power)
    if differ is not None and match is not None:
        return SeedsNeeded(n=max(differ, match), for_difference=differ, for_equivalence=match)
    return SeedsNeeded(
        n=None,
        for_difference=differ,
        for_equivalence=match,
        reason=_impossible(margin, math.sqrt(variance_floor), alpha, power),
    )


def _impossible(margin: float, error: float, alpha: float, power: float) -> str:
    at_most = min(chance(margin, error, MOST_SEEDS, alpha) for chance in _CHANCES)
    if at_most >= power:
        return f"more than {MOST_SEEDS:g} seeds: the margin of {margin:g} is too small to settle"
    return (
        f"the test examples alone leave a standard error of {error:g}, too large for a margin of "
        f"{margin:g}: more test examples, not more seeds"
    )


def _chance_to_differ(difference: float, error: float, n: int, alpha: float) -> float:
    """Return the power of the two-sided test at a standard error for n seeds."""
    if error == 0:
        return 1.0 if difference > 0 else alpha
    df, ratio = n - 1, difference / error
    bound = t_isf(alpha / 2, df)
    found = 1 - noncentral_t_cdf(bound, df, ratio)
    # From 3 on the wrong tail is below 1e-6, and scipy may have no number for it.
    return found + (noncentral_t_cdf(-bound, df, ratio) if ratio < 3 else 0.0)


def _chance_to_match(margin: float, error: float, n: int, alpha: float) -> float:
    """Return the power of two one-sided tests at a true difference of 0."""
    if error == 0:
        return 1.0
    w, weight = spread_ratio(n - 1)
    # Given the estimated error w * error, the mean must lie within margin - t * w * error of 0.
    room = np.maximum(margin / error - t_isf(alpha, n - 1) * w, 0.0)
    return float((2 * special.ndtr(room) - 1) @ weight)


_CHANCES = (_chance_to_differ, _chance_to_match)


def _fewest(enough: Callable[[int], bool]) -> int | None:
    """Return the smallest n >= 2 that is enough, where every larger n is too."""
    high = 2
    while not enough(high):
        if high >= MOST_SEEDS:
            return None
        high = min(2 * high, MOST_SEEDS)
    low = high // 2  # not enough, or below 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _require_plan(*, sd: float, n: int, alpha: float, wanted: float | None = None) -> None:
    if not (sd > 0 and math.isfinite(sd)):
        raise ValueError(f"sd is {sd:g}; a plan needs a spread above 0, for example of a pilot")
    if n < 2:
        raise ValueError(f"n is {n}; a test needs at least 2 seed pairs")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha:g}; it is an error rate between 0 and 1, such as 0.05")
    if wanted is not None and not alpha < wanted < 1:
        raise ValueError(f"power is {wanted:g}; it lies between alpha ({alpha:g}) and 1")
