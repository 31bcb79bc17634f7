"""Bayes: how probable is it that the difference is below, inside or above the margin?"""

from dataclasses import dataclass

from bench.analysis.inference.distributions import t_cdf, t_sf
from bench.analysis.inference.tost import require_error_and_margin


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """Posterior probabilities of three regions, which sum to 1; signs as in the metric.

    Examples
    --------
    >>> found = posterior(0.0, 1.0, 9, margin=1.833113)  # R: pt(-1.833113, 9) is 0.05
    >>> round(found.below, 6), round(found.inside, 6), round(found.above, 6)
    (0.05, 0.9, 0.05)
    """

    margin: float
    below: float  # the true difference is under -margin
    inside: float
    above: float  # the true difference is over +margin


def posterior(difference: float, standard_error: float, df: float, *, margin: float) -> Posterior:
    """Return the posterior of the true difference, cut at the margin.

    Under the reference prior (flat in the mean and in the log of the spread) the true difference
    is t-distributed around the observed one. For a metric where lower is better, `below` is the
    probability of better.

    Parameters
    ----------
    difference, standard_error, df : of the primary analysis; metric units
    margin : largest difference that does not matter, in metric units, above 0

    Raises
    ------
    UnusableRuns : a margin or a standard error that is not above zero

    References
    ----------
    Gelman et al. (2013), Bayesian Data Analysis, sec. 3.2.

    Examples
    --------
    Student's sleep data; scipy's t(9, loc=1.58, scale=0.38896).cdf([-1, 1]) is 4.8e-05, 0.085056.

    >>> from bench.analysis.inference import paired_t
    >>> first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    >>> second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    >>> t = paired_t(first, second)
    >>> found = posterior(t.difference, t.standard_error, t.df, margin=1.0)
    >>> round(found.below + found.inside, 6), round(found.above, 6)
    (0.085056, 0.914944)
    """
    require_error_and_margin(standard_error, margin)
    below = t_cdf((-margin - difference) / standard_error, df)
    above = t_sf((margin - difference) / standard_error, df)
    return Posterior(margin=margin, below=below, inside=max(0.0, 1 - below - above), above=above)
