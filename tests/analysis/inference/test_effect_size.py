import math

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import integrate, stats
from statsmodels.stats.proportion import proportion_confint

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference.effect_size import (
    bias_correction,
    clopper_pearson,
    effect_size,
    noncentral_t_cdf,
    spread_ratio,
    wilson,
    win_rate,
)

SLEEP = np.array([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])


def with_d_z(d_z, n):
    z = np.random.default_rng(0).normal(size=n)
    return (z - z.mean()) / z.std(ddof=1) + d_z


def test_reproduces_students_sleep_data():
    # mpmath root of the noncentral t, 30 digits
    r = effect_size(np.zeros(10), SLEEP)
    assert (r.d_z, r.hedges_g) == pytest.approx((1.2845575625910546, 1.1739249035142048))
    assert (r.low, r.high) == pytest.approx((0.41462777563804, 2.11801651398160), abs=1e-6)


def test_bias_correction_equals_its_usual_approximation_at_many_seeds():
    assert bias_correction(9) == pytest.approx(0.9138748917925522)
    assert bias_correction(200) == pytest.approx(1 - 3 / (4 * 200 - 1), abs=1e-6)
    assert bias_correction(1) == 0


@pytest.mark.parametrize(("d_z", "n"), [(5, 50), (50, 50), (1e6, 6), (0.0, 20), (1e-9, 20), (2, 2)])
def test_interval_holds_the_two_tails_also_where_scipy_has_none(d_z, n):
    r = effect_size(np.zeros(n), with_d_z(d_z, n))
    t, root = r.d_z * math.sqrt(n), math.sqrt(n)
    assert r.low < r.d_z < r.high
    assert noncentral_t_cdf(t, n - 1, r.low * root) == pytest.approx(0.975, abs=1e-6)
    assert noncentral_t_cdf(t, n - 1, r.high * root) == pytest.approx(0.025, abs=1e-6)


def test_interval_of_a_huge_effect_is_that_of_the_spread():
    # With no noise left in the mean, d_z / true = sqrt(chi2 / df).
    r = effect_size(np.zeros(6), with_d_z(1e6, 6))
    limits = 1e6 * np.sqrt(stats.chi2.ppf((0.025, 0.975), 5) / 5)
    assert (r.low, r.high) == pytest.approx(tuple(limits), rel=1e-4)


@given(st.floats(-20, 60), st.integers(2, 200), st.floats(-20, 60))
def test_noncentral_t_equals_scipy_where_scipy_has_an_answer(t, df, noncentrality):
    answer = noncentral_t_cdf(t, df, noncentrality)
    assert 0 <= answer <= 1
    scipys = stats.nct.cdf(t, df, noncentrality)
    if np.isfinite(scipys):
        assert answer == pytest.approx(scipys, abs=1e-9)


@pytest.mark.parametrize(
    ("t", "df", "nc"), [(5.0, 19, 58.3), (6.67, 19, -5.0), (-5.0, 9, 10.0), (300.0, 4, 250.0)]
)
def test_noncentral_t_equals_the_integral_of_its_definition(t, df, nc):
    def integrand(w):
        density = math.exp(stats.chi2.logpdf(df * w * w, df)) * 2 * df * w
        return stats.norm.cdf(t * w - nc) * density

    step = nc / t if nc / t > 0 else 1.0
    exact, _ = integrate.quad(integrand, 0, 6, points=[step], limit=500)
    assert noncentral_t_cdf(t, df, nc) == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("df", [1, 2, 9, 199, 10**6])
def test_spread_ratio_integrates_to_its_known_moments(df):
    w, weight = spread_ratio(df)
    assert weight.sum() == pytest.approx(1)
    assert (w**2) @ weight == pytest.approx(1, abs=1e-5)
    if df > 1:
        mean = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) * math.sqrt(2 / df)
        assert w @ weight == pytest.approx(mean, abs=1e-5)


def test_refuses_seeds_that_change_nothing():
    with pytest.raises(UnusableRuns, match="all 3 seed pairs .* check that the seed and"):
        effect_size([0.1, 0.2, 0.3], [0.6, 0.7, 0.8])


def test_interval_covers_the_true_effect_as_promised():
    rng = np.random.default_rng(1)
    results = [effect_size(np.zeros(12), rng.normal(0.8, 1, size=12)) for _ in range(1000)]
    assert np.mean([r.low <= 0.8 <= r.high for r in results]) == pytest.approx(0.95, abs=0.028)
    assert np.mean([r.hedges_g for r in results]) == pytest.approx(0.8, abs=0.05)
    assert np.mean([r.d_z for r in results]) > 0.82  # the bias that g takes out


@pytest.mark.parametrize("count", [0, 0.5, 7, 15, 19.5, 20])
def test_wilson_equals_statsmodels(count):
    assert wilson(count, 20) == pytest.approx(proportion_confint(count, 20, method="wilson"))


@pytest.mark.parametrize("count", [0, 1, 15, 20])
def test_clopper_pearson_equals_statsmodels(count):
    assert clopper_pearson(count, 20) == pytest.approx(proportion_confint(count, 20, method="beta"))


def test_ties_count_half_and_lower_can_be_better():
    baseline, treatment = [0.1, 0.2, 0.3, 0.7], [0.2, 0.2, 0.1 + 0.2, 0.8]
    r = win_rate(baseline, treatment)
    assert (r.wins, r.ties, r.rate) == (2, 2, 0.75)
    assert win_rate(baseline, treatment, higher_is_better=False).rate == 0.25


def test_identical_arms_win_half_of_the_time():
    r = win_rate([0.0] * 6, [0.0] * 6)
    assert (r.rate, r.ties) == (0.5, 6)
    assert r.low == pytest.approx(1 - r.high)


def test_refuses_a_share_that_is_none():
    with pytest.raises(ValueError, match="21 of 20 is no share; count lies between 0 and n"):
        wilson(21, 20)


@pytest.mark.parametrize("limits", [wilson, clopper_pearson])
def test_shares_are_covered_as_promised(limits):
    counts = np.random.default_rng(2).binomial(20, 0.7, size=4000)
    table = {k: limits(int(k), 20) for k in np.unique(counts)}
    covered = np.mean([table[k][0] <= 0.7 <= table[k][1] for k in counts])
    assert covered > (0.95 if limits is clopper_pearson else 0.93)
