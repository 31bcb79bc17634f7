import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from bench.analysis.inference.power import detectable, power, seeds_for, seeds_needed, upper_sd


def test_reproduces_cohens_table():
    # G*Power: d = 0.5, two-sided 0.05, power 0.8 takes 34 pairs
    assert power(0.5, 1, 34) == pytest.approx(0.807777501279274, abs=1e-8)
    assert seeds_for(0.5, 1) == 34
    assert power(0.5, 1, 33) < 0.8


def test_reproduces_the_article_sized_example():
    # sd 0.8 pp: 20 seeds detect about 0.5 pp; 0.3 pp takes 58
    assert detectable(0.008, 20) == pytest.approx(0.0053, abs=5e-5)
    assert seeds_for(0.003, 0.008) == 58
    assert detectable(0.008, 58) <= 0.003 < detectable(0.008, 57)


@pytest.mark.parametrize("d_z", [0.1, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("n", [3, 10, 50])
def test_equals_statsmodels_where_it_has_an_answer(d_z, n):
    expected = TTestPower().power(d_z, n, 0.05)
    if np.isfinite(expected):
        assert power(d_z, 1, n) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("d_z", "n"), [(2, 20), (10, 20), (1e5, 2), (1e-9, 20)])
def test_has_an_answer_where_statsmodels_has_none(d_z, n):
    assert 0.05 - 1e-9 <= power(d_z, 1, n) <= 1


def test_power_is_the_share_of_tests_that_find_the_difference():
    rng = np.random.default_rng(0)
    d = rng.normal(0.6, 1, size=(20_000, 15))
    found = stats.ttest_1samp(d, 0, axis=1).pvalue < 0.05
    assert power(0.6, 1, 15) == pytest.approx(found.mean(), abs=0.014)


def test_sign_does_not_matter():
    assert power(-0.5, 1, 20) == power(0.5, 1, 20)
    assert seeds_for(-0.5, 1) == seeds_for(0.5, 1)


def test_upper_limit_of_a_spread_is_exceeded_a_fifth_of_the_time():
    rng = np.random.default_rng(1)
    sds = rng.normal(size=(20_000, 6)).std(axis=1, ddof=1)
    below = np.mean([upper_sd(sd, 6) < 1 for sd in sds])
    assert below == pytest.approx(0.2, abs=0.012)


def test_seeds_needed_settle_the_margin_both_ways():
    need = seeds_needed(0.003, variance_per_seed=0.008**2, n=20)
    assert need.n == max(need.for_difference, need.for_equivalence)
    planned = upper_sd(0.008, 20)
    assert need.for_difference == seeds_for(0.003, planned)
    rng = np.random.default_rng(2)
    for n, at_least in ((need.for_equivalence, True), (need.for_equivalence - 8, False)):
        d = rng.normal(0, planned, size=(20_000, n))
        reach = stats.t.isf(0.05, n - 1) * stats.sem(d, axis=1)
        inside = np.abs(d.mean(axis=1)) + reach < 0.003
        assert (inside.mean() >= 0.8 - 0.011) == at_least


def test_test_examples_can_forbid_what_seeds_cannot_give():
    need = seeds_needed(0.003, variance_per_seed=0.008**2, variance_floor=0.0012**2, n=20)
    assert need.n is None
    assert need.reason == (
        "the test examples alone leave a standard error of 0.0012, too large for a margin of "
        "0.003: more test examples, not more seeds"
    )
    assert seeds_needed(0.003, variance_per_seed=0.008**2, variance_floor=0.001**2, n=20).n > 1000


def test_one_criterion_can_be_met_where_the_other_cannot():
    need = seeds_needed(0.00290, variance_per_seed=0.001**2, variance_floor=0.001**2, n=20)
    assert (need.n, need.for_equivalence) == (None, None)
    assert need.for_difference > 20


def test_a_margin_beyond_reach_says_so():
    need = seeds_needed(1e-9, variance_per_seed=1.0, n=20)
    assert need.n is None
    assert "more than 1e+09 seeds" in need.reason
    assert seeds_for(1e-9, 1.0) is None


def test_no_variance_needs_the_fewest_seeds():
    assert seeds_needed(0.003, variance_per_seed=0.0, n=20).n == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: power(0.5, 0, 20), "sd is 0; .* for example of a pilot"),
        (lambda: power(0.5, 1, 1), "n is 1; a test needs at least 2"),
        (lambda: detectable(1, 20, power=1.2), r"power is 1.2; it lies between alpha \(0.05\) and"),
        (lambda: seeds_for(0.0, 1), "difference is 0; no number of seeds"),
        (lambda: power(0.5, 1, 20, alpha=5), "alpha is 5; .* such as 0.05"),
        (lambda: seeds_needed(0.0, variance_per_seed=1.0, n=9), "the margin must be above 0"),
        (lambda: upper_sd(1.0, 1), "n is 1; a spread needs at least 2"),
    ],
)
def test_refuses_a_plan_that_is_none(call, message):
    with pytest.raises(ValueError, match=message):
        call()
