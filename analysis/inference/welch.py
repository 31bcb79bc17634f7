"""Welch: what do runs say that share nothing, or what would be left if they shared no seeds?"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference.comparison import Comparison, no_spread
from bench.analysis.inference.weighted import Part, satterthwaite

Floats = NDArray[np.float64]


def welch(baseline: ArrayLike, treatment: ArrayLike, *, level: float = 0.95) -> Comparison:
    """Compare two variants whose runs are unrelated; with pairs, shown for what pairing buys.

    Parameters
    ----------
    baseline, treatment : shape (n,) and (m,), one metric value a run
    level : coverage of the interval, between 0 and 1

    Raises
    ------
    UnusableRuns : fewer than two runs of an arm, a non-finite value, or no spread in either arm

    References
    ----------
    Welch (1947), Biometrika 34(1/2). Equals R's t.test(treatment, baseline).

    Examples
    --------
    Student's sleep data; R prints df = 17.776, p-value = 0.07939.

    >>> first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    >>> second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    >>> found = welch(first, second)
    >>> round(found.df, 3), round(found.p_value, 5)
    (17.776, 0.07939)
    """
    arms = [_values(baseline, "baseline"), _values(treatment, "treatment")]
    scale = max(float(np.abs(arm).max()) for arm in arms)
    if all(no_spread(arm, scale=scale) for arm in arms):
        raise UnusableRuns(
            f"each arm has the same value in all {arms[0].size} runs, so there is no spread to "
            "test; check that the seed reaches train()"
        )
    published = (Published(n=a.size, mean=float(a.mean()), sd=float(a.std(ddof=1))) for a in arms)
    return welch_of_published(*published, level=level)


@dataclass(frozen=True, kw_only=True)
class Published:
    """What is published of an arm's runs: how many, their mean and standard deviation."""

    n: int
    mean: float
    sd: float


def welch_of_published(
    baseline: Published, treatment: Published, *, level: float = 0.95
) -> Comparison:
    """Compare two arms of which only means and standard deviations are known.

    Raises
    ------
    UnusableRuns : fewer than two runs of an arm, or no spread in either arm

    Examples
    --------
    >>> old, new = Published(n=5, mean=82.1, sd=0.8), Published(n=8, mean=83.0, sd=0.6)
    >>> found = welch_of_published(old, new)  # scipy.stats.ttest_ind_from_stats: p = 0.068220
    >>> round(found.p_value, 6)
    0.06822
    """
    arms = baseline, treatment
    if min(arm.n for arm in arms) < 2 or max(arm.sd for arm in arms) <= 0:
        raise UnusableRuns("a spread takes two runs of each arm, and a standard deviation above 0")
    parts = [Part(variance=arm.sd**2 / arm.n, df=arm.n - 1) for arm in arms]
    return Comparison.student(
        name="welch",
        n=min(arm.n for arm in arms),
        difference=treatment.mean - baseline.mean,
        error=math.sqrt(sum(part.variance for part in parts)),
        df=satterthwaite(parts),
        level=level,
    )


def welch_parts(baseline: Floats, treatment: Floats) -> tuple[Part, Part]:
    """Return each arm's share of the variance of the difference of means."""
    first, second = (
        Part(variance=float(arm.var(ddof=1)) / arm.size, df=arm.size - 1)
        for arm in (baseline, treatment)
    )
    return first, second


def _values(values: ArrayLike, arm: str) -> Floats:
    found = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if found.ndim != 1 or found.size < 2:
        raise UnusableRuns(f"{found.size} run of the {arm} is too few to see a spread")
    if not np.isfinite(found).all():
        raise UnusableRuns(f"the {arm} holds a value that is not finite: leave failed runs out")
    return found
