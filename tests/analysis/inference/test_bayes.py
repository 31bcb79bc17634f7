import numpy as np
import pytest
from scipy import stats

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference import paired_t, posterior, tost


def test_reproduces_draws_from_the_posterior():
    rng = np.random.default_rng(0)
    d = rng.normal(0.2, 1, size=12)
    t = paired_t(np.zeros(12), d)
    # sigma^2 | data ~ (n - 1) s^2 / chi2, mu | sigma, data ~ N(mean, sigma^2 / n)
    sigma = np.sqrt(11 * d.var(ddof=1) / rng.chisquare(11, size=400_000))
    mu = rng.normal(d.mean(), sigma / np.sqrt(12))
    r = posterior(t.difference, t.standard_error, t.df, margin=0.3)
    shares = (np.mean(mu < -0.3), np.mean(np.abs(mu) <= 0.3), np.mean(mu > 0.3))
    assert (r.below, r.inside, r.above) == pytest.approx(shares, abs=0.004)


def test_probabilities_sum_to_one_and_mirror():
    r, mirror = posterior(0.1, 0.2, 7, margin=0.3), posterior(-0.1, 0.2, 7, margin=0.3)
    assert r.below + r.inside + r.above == pytest.approx(1)
    assert (r.below, r.above) == pytest.approx((mirror.above, mirror.below))


def test_reference_prior_gives_the_one_sided_p_values():
    r, e = posterior(0.1, 0.2, 7, margin=0.3), tost(0.1, 0.2, 7, margin=0.3)
    assert (r.below, r.above) == pytest.approx((e.p_lower, e.p_upper))


def test_refuses_a_missing_margin():
    with pytest.raises(UnusableRuns, match="the margin is 0; declare .* for example 0.003"):
        posterior(0.1, 0.1, 9, margin=0)


def test_probability_of_a_gain_is_calibrated_under_a_flat_prior():
    # Interval of probability 0.9 under the reference prior covers 90 % of the time.
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(2000):
        t = paired_t(np.zeros(8), rng.normal(size=8))
        hits.append(0.05 < stats.t.cdf(t.difference / t.standard_error, t.df) < 0.95)
        above = posterior(t.difference, t.standard_error, t.df, margin=1e-12).above
        assert (0.05 < above < 0.95) == hits[-1]
    assert np.mean(hits) == pytest.approx(0.9, abs=0.027)
