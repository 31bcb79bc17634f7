"""TOST: is the difference too small to matter?"""

import math
from dataclasses import dataclass

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference.distributions import t_sf


@dataclass(frozen=True, kw_only=True)
class Equivalence:
    """Two one-sided tests against the margin; p < alpha says equivalent at level alpha.

    Examples
    --------
    >>> found = tost(0.0, 1.0, 9, margin=1.833113)  # R: qt(0.95, 9) is 1.833113
    >>> round(found.p_value, 6), found.p_lower == found.p_upper
    (0.05, True)
    """

    margin: float  # metric units, declared before the results
    p_value: float  # the larger of the two
    p_lower: float  # against a true difference of -margin or less
    p_upper: float  # against a true difference of +margin or more


def tost(difference: float, standard_error: float, df: float, *, margin: float) -> Equivalence:
    """Test whether the true difference lies inside the margin.

    p < alpha exactly where the interval of level 1 - 2 alpha lies inside it: at alpha = 0.05 the
    90 % interval.

    Parameters
    ----------
    difference, standard_error, df : of the primary analysis; metric units
    margin : largest difference that does not matter, in metric units, above 0; it must have been
        declared, there is no default

    Raises
    ------
    UnusableRuns : a margin or a standard error that is not above zero

    References
    ----------
    Schuirmann (1987), J. Pharmacokinetics and Biopharmaceutics 15(6). With s / sqrt(n) and n - 1
    it equals statsmodels' ttost_paired.

    Examples
    --------
    Student's sleep data; statsmodels' ttost_paired(second, first, -2.5, 2.5) gives 0.0211169.

    >>> from bench.analysis.inference import paired_t
    >>> first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    >>> second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    >>> t = paired_t(first, second)
    >>> round(tost(t.difference, t.standard_error, t.df, margin=2.5).p_value, 7)
    0.0211169
    """
    require_error_and_margin(standard_error, margin)
    lower = t_sf((difference + margin) / standard_error, df)
    upper = t_sf((margin - difference) / standard_error, df)
    return Equivalence(margin=margin, p_value=max(lower, upper), p_lower=lower, p_upper=upper)


def require_error_and_margin(standard_error: float, margin: float) -> None:
    """Refuse a standard error or a margin that is not a number above zero."""
    if not (margin > 0 and math.isfinite(margin)):
        raise UnusableRuns(
            f"the margin is {margin:g}; declare the largest difference that does not matter, in "
            "metric units and above 0, for example 0.003 for 0.3 pp of accuracy"
        )
    if not (standard_error > 0 and math.isfinite(standard_error)):
        raise UnusableRuns(
            f"the standard error is {standard_error:g}, so there is no spread to test; "
            "check that the seed and the variant's settings reach train()"
        )
