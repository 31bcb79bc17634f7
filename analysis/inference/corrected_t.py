"""Corrected t: what do folds of one data set say, whose training sets overlap?"""

import math

from numpy.typing import ArrayLike

from bench.analysis.inference.comparison import Comparison, seed_differences


def corrected_t(
    baseline: ArrayLike, treatment: ArrayLike, *, test_share: float, level: float = 0.95
) -> Comparison:
    """Compare two variants over folds or random splits of one data set.

    Any two training sets share most of their examples, so the scores are correlated: the variance
    of the mean is (1/n + n_test/n_train) s², not s²/n.

    Parameters
    ----------
    baseline, treatment : shape (n,), one metric value a fold, same order; all repeats together
    test_share : n_test / n_train; 1 / (K - 1) with K folds within a repeat
    level : coverage of the interval, between 0 and 1

    Raises
    ------
    UnusableRuns : fewer than two folds, a value that is not finite, or no spread
    ValueError : a test_share that is not positive

    References
    ----------
    Nadeau & Bengio (2003), Inference for the generalization error, Machine Learning 52;
    Bouckaert & Frank (2004), for repeated cross-validation.

    Examples
    --------
    >>> bagging, forest = [0.80, 0.82, 0.79, 0.81, 0.80], [0.82, 0.83, 0.82, 0.82, 0.81]
    >>> r = corrected_t(bagging, forest, test_share=1 / 4)
    >>> f"{r.difference:.3f} [{r.low:.4f}, {r.high:.4f}]"
    '0.016 [-0.0007, 0.0327]'
    """
    if not test_share > 0:
        raise ValueError(f"test_share is {test_share:g}; it is n_test / n_train, such as 1/9")
    diff = seed_differences(baseline, treatment)
    spread = float(diff.std(ddof=1))
    return Comparison.student(
        name="corrected_t",
        n=diff.size,
        difference=float(diff.mean()),
        error=spread * math.sqrt(1 / diff.size + test_share),
        df=diff.size - 1.0,
        level=level,
    )
