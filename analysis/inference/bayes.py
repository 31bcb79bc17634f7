"""Bayes: how probable is it that the difference is below, inside or above the margin?"""

from dataclasses import dataclass

from bench.analysis.inference.distributions import t_cdf, t_sf
from bench.analysis.inference.tost import require_error_and_margin


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """Posterior probabilities of three regions, which sum to 1; signs as in the metric."""

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
    """
    require_error_and_margin(standard_error, margin)
    below = t_cdf((-margin - difference) / standard_error, df)
    above = t_sf((margin - difference) / standard_error, df)
    return Posterior(margin=margin, below=below, inside=max(0.0, 1 - below - above), above=above)
