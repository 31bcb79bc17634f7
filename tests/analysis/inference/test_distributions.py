import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats

from bench.analysis.inference import distributions as d
from bench.analysis.inference.wilcoxon import signed_rank_p

tails = st.floats(1e-9, 0.5)
dfs = st.floats(1, 1000)


@given(tails, dfs)
def test_quantiles_are_those_of_scipy_stats(tail: float, df: float):
    assert d.t_isf(tail, df) == pytest.approx(stats.t.isf(tail, df), rel=1e-12)
    assert d.normal_isf(tail) == pytest.approx(stats.norm.isf(tail), rel=1e-12, abs=1e-15)
    assert d.chi2_isf(tail, df) == pytest.approx(stats.chi2.isf(tail, df), rel=1e-12)
    assert d.f_isf(tail, 3, df) == pytest.approx(stats.f.isf(tail, 3, df), rel=1e-9)
    assert d.beta_isf(tail, 3, 5) == pytest.approx(stats.beta.isf(tail, 3, 5), rel=1e-9)
    assert d.beta_ppf(tail, 3, 5) == pytest.approx(stats.beta.ppf(tail, 3, 5), rel=1e-9)


@given(st.floats(0, 40), dfs)
def test_tails_are_those_of_scipy_stats(x: float, df: float):
    assert d.t_sf(x, df) == pytest.approx(stats.t.sf(x, df), rel=1e-12)
    assert d.t_cdf(x, df) == pytest.approx(stats.t.cdf(x, df), rel=1e-12)
    assert d.normal_sf(x) == pytest.approx(stats.norm.sf(x), rel=1e-12)
    assert d.chi2_sf(x, df) == pytest.approx(stats.chi2.sf(x, df), rel=1e-12)
    assert d.f_sf(x, 3, df) == pytest.approx(stats.f.sf(x, 3, df), rel=1e-9)


@given(st.integers(0, 30), st.integers(0, 30))
def test_the_binomial_is_that_of_scipy_stats(count: int, more: int):
    n = count + more
    assert d.binomial_cdf(count, n, 0.5) == pytest.approx(stats.binom.cdf(count, n, 0.5), rel=1e-12)


def test_the_standard_error_is_that_of_scipy_stats():
    values = np.random.default_rng(0).normal(size=17)
    assert d.standard_error(values) == pytest.approx(stats.sem(values), rel=1e-14)


@given(st.lists(st.integers(-4, 4), min_size=21, max_size=40))
def test_signed_ranks_with_ties_and_zeros_are_those_of_scipy(steps: list[int]):
    values = np.array(steps, dtype=np.float64)
    expected = stats.wilcoxon(
        values, method="asymptotic", zero_method="zsplit", axis=0, keepdims=True
    )
    assert signed_rank_p(values) == pytest.approx(float(expected.pvalue[0]), rel=1e-10)
