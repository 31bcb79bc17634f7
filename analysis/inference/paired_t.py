"""Paired t: is the mean difference over shared seeds distinguishable from zero?"""

from numpy.typing import ArrayLike

from bench.analysis.inference.comparison import Comparison, seed_differences
from bench.analysis.inference.distributions import standard_error


def paired_t(baseline: ArrayLike, treatment: ArrayLike, *, level: float = 0.95) -> Comparison:
    """Compare two variants trained on the same seeds.

    The interval is for new seeds on this test set; `two_way` adds new test examples.

    Parameters
    ----------
    baseline, treatment : shape (n,), one metric value a seed, same seed order
    level : coverage of the interval, between 0 and 1

    Raises
    ------
    UnusableRuns : fewer than two pairs, a non-finite value, or no spread

    References
    ----------
    Student (1908), Biometrika 6(1). Equals R's t.test(treatment, baseline, paired = TRUE).

    Examples
    --------
    Student's sleep data; R prints p-value = 0.002833 and the interval 0.7001142 2.4598858.

    >>> first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    >>> second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    >>> found = paired_t(first, second)
    >>> round(found.p_value, 6), round(found.low, 7), round(found.high, 7)
    (0.002833, 0.7001142, 2.4598858)
    """
    diff = seed_differences(baseline, treatment)
    return Comparison.student(
        name="paired_t",
        n=diff.size,
        difference=float(diff.mean()),
        error=standard_error(diff),  # of the mean, not of one run
        df=diff.size - 1.0,
        level=level,
    )
