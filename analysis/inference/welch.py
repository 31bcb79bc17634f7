"""Welch: what would be left if the two arms did not share their seeds?"""

import math

import numpy as np
from numpy.typing import ArrayLike

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference.comparison import Comparison, no_spread, paired_values


def welch(baseline: ArrayLike, treatment: ArrayLike, *, level: float = 0.95) -> Comparison:
    """Compare two variants as if their runs were unrelated; shown for what pairing buys.

    Parameters
    ----------
    baseline, treatment : shape (n,), one metric value a seed, same seed order
    level : coverage of the interval, between 0 and 1

    Raises
    ------
    UnusableRuns : different lengths, fewer than two pairs, a non-finite value, or no spread in
        either arm

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
    both = paired_values(baseline, treatment)
    scale = float(np.abs(both).max())
    if all(no_spread(arm, scale=scale) for arm in both):
        raise UnusableRuns(
            f"each arm has the same value in all {both.shape[1]} runs, so there is no spread to "
            "test; check that the seed reaches train()"
        )
    n = both.shape[1]
    first, second = (float(v) / n for v in both.var(axis=1, ddof=1))  # squared errors of the means
    error = math.sqrt(first + second)
    df = (n - 1) / ((first / error**2) ** 2 + (second / error**2) ** 2)
    difference = float((both[1] - both[0]).mean())
    return Comparison.student(
        name="welch", n=n, difference=difference, error=error, df=df, level=level
    )
