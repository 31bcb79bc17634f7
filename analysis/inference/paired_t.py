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
