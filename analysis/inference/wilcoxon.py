"""Wilcoxon signed rank: does a typical seed gain, whatever a few extreme seeds do?"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.analysis.inference.comparison import Comparison, paired_values, require_level
from bench.analysis.inference.distributions import normal_sf
from bench.analysis.inference.sign_flip import EXACT_UP_TO, subset_sums

Floats = NDArray[np.float64]


def wilcoxon(baseline: ArrayLike, treatment: ArrayLike, *, level: float = 0.95) -> Comparison:
    """Compare two variants by the ranks of their differences: the typical seed, not the mean.

    The question is another one than the mean's: under skew this test rejects a true zero mean 13
    to 22 % of the time. Therefore `difference` is the estimate that belongs to the ranks
    (Hodges-Lehmann), and no interval is offered beside the intervals for the mean.

    The p-value is exact up to 20 pairs: the signs of the ranks flipped in every way, tied
    differences sharing their mean rank and zeros keeping theirs without a sign. Beyond, it is the
    normal approximation with zeros split and ties corrected. Differences equal up to rounding are
    ties.

    Parameters
    ----------
    baseline, treatment : shape (n,), one metric value a seed, same seed order
    level : recorded in the result, which has no interval

    Raises
    ------
    UnusableRuns : different lengths, fewer than two pairs, or a value that is not finite

    References
    ----------
    Wilcoxon (1945), Biometrics Bulletin 1(6); Hodges & Lehmann (1963), Annals of Mathematical
    Statistics 34(2); Demsar (2006), JMLR 7, for the use on classifiers.

    Examples
    --------
    Depression scores of Hollander & Wolfe (1973); R's wilcox.test(x, y, paired = TRUE) prints
    p-value = 0.03906.

    >>> y = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
    >>> x = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
    >>> round(wilcoxon(y, x).p_value, 5)
    0.03906
    """
    require_level(level)
    both = paired_values(baseline, treatment)
    diff = both[1] - both[0]
    ranked = np.round(diff / max(float(np.abs(both).max()), np.finfo(float).tiny), 11)
    return Comparison(
        name="wilcoxon",
        n=diff.size,
        difference=pseudomedian(diff),
        level=level,
        p_value=signed_rank_p(ranked),
        reason="not offered: the ranks speak of the typical seed, not of the mean difference",
    )


def signed_rank_p(values: Floats) -> float:
    """Return the two-sided p of the signed-rank sum.

    Up to 20 values that of all sign flips: without ties and zeros scipy's exact one. Beyond,
    scipy's wilcoxon(method="asymptotic", zero_method="zsplit").
    """
    _, place, times = np.unique(np.abs(values), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(times) - (times - 1) / 2)[place]  # tied values share their mean rank
    n = values.size
    if n <= EXACT_UP_TO:
        signed = ranks[values != 0]
        up = float(ranks[values > 0].sum())
        extreme = max(up, float(signed.sum()) - up)
        return min(1.0, 2 * float((subset_sums(signed) >= extreme).mean()))
    positive = float(ranks[values > 0].sum() + ranks[values == 0].sum() / 2)
    variance = (n * (n + 1) * (2 * n + 1) - float((times * (times**2 - 1)).sum()) / 2) / 24
    return min(1.0, 2 * normal_sf(abs(positive - n * (n + 1) / 4) / math.sqrt(variance)))


def pseudomedian(values: Floats) -> float:
    """Return the median of the means of all pairs of values, each also with itself.

    Memory grows with the square of the number of values: 8 MB at 1,000.
    """
    sums = np.concatenate([value + values[i:] for i, value in enumerate(values)])
    return float(np.median(sums)) / 2
