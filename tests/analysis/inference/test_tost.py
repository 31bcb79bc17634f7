import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference import paired_t, tost

DIFFERENCES = [0.1, -0.2, 0.15, 0.05, -0.1, 0.0, 0.2, -0.05, 0.12, 0.03]


def of_pairs(differences, margin):
    t = paired_t(np.zeros(len(differences)), differences)
    return tost(t.difference, t.standard_error, t.df, margin=margin)


def test_reproduces_statsmodels():
    r = of_pairs(DIFFERENCES, 0.3)
    assert r.p_value == pytest.approx(3.1534395160869806e-05, abs=1e-12)
    assert r.p_lower == pytest.approx(6.42868097808838e-06, abs=1e-12)


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=12).filter(lambda d: np.ptp(d) > 1e-3))
def test_equals_statsmodels_for_paired_t(differences):
    d = np.array(differences)
    expected, *_ = ttost_paired(d, np.zeros(d.size), -0.3, 0.3)
    assert of_pairs(d, 0.3).p_value == pytest.approx(expected, rel=1e-6, abs=1e-12)


@given(st.floats(-0.01, 0.01), st.floats(1e-4, 0.01), st.floats(1, 100))
def test_says_equivalent_where_the_ninety_percent_interval_lies_inside(mean, error, df):
    reach = stats.t.isf(0.05, df) * error
    inside = mean - reach > -0.005 and mean + reach < 0.005
    assert (tost(mean, error, df, margin=0.005).p_value < 0.05) == inside


@pytest.mark.parametrize("margin", [0.0, -0.1, np.nan, np.inf])
def test_refuses_a_margin_that_is_none(margin):
    with pytest.raises(UnusableRuns, match="the margin is .* above 0, for example 0.003"):
        tost(0.1, 0.1, 9, margin=margin)


def test_refuses_a_difference_without_error():
    with pytest.raises(UnusableRuns, match="standard error is 0, .* check that the seed and"):
        tost(0.1, 0.0, 9, margin=0.1)


def test_false_equivalence_rate_is_the_promised_one():
    rng = np.random.default_rng(0)  # the true difference lies on the margin
    claims = [of_pairs(rng.normal(0.5, 0.5, size=12), 0.5).p_value < 0.05 for _ in range(2000)]
    assert np.mean(claims) == pytest.approx(0.05, abs=0.02)
