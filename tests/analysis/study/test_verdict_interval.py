import dataclasses

import numpy as np
import pytest
from scipy import stats

from bench.analysis.data.tables import Design
from bench.analysis.inference import two_way
from bench.analysis.inference.sequential import anytime, boundaries
from bench.analysis.inference.two_way import mean_squares
from bench.analysis.study.pairs import Paired
from bench.analysis.study.verdict_interval import (
    fixed_analysis,
    floor_df,
    levels,
    mean_interval,
    primary,
    variance_floor,
)

DESIGN = Design(
    experiment="x",
    question="?",
    baseline="a",
    treatments=("b",),
    metric="accuracy",
    higher_is_better=True,
    seeds=tuple(range(12)),
    margin=0.01,
)


def arms(n=12, n_test=80, effect=0.02, seed=0):
    rng = np.random.default_rng(seed)
    base = rng.random((n, n_test)) < 0.8
    other = np.where(rng.random((n, n_test)) < 0.2, rng.random((n, n_test)) < 0.8 + effect, base)
    return base, other


def made_table(**how):
    base, other = arms(**how)
    return other.astype(float) - base


def made(examples=True, **how):
    base, other = arms(**how)
    table = made_table(**how) if examples else None
    return Paired.of(range(len(base)), base.mean(axis=1), other.mean(axis=1), table)


def plan(**changes):
    return dataclasses.replace(DESIGN, **changes)


def test_scope_both_is_the_two_way_analysis():
    pairs = made()
    p = primary(pairs, DESIGN)
    expected, narrow = two_way(made_table()), two_way(made_table(), level=0.9)
    assert p.method == "two_way"
    assert (p.low, p.high) == pytest.approx((expected.low, expected.high))
    assert (p.low90, p.high90) == pytest.approx((narrow.low, narrow.high))
    assert (p.p_value, p.df) == pytest.approx((expected.p_value, expected.df))


def test_the_two_way_interval_is_the_formula_of_the_design():
    pairs = made()
    d = made_table()
    s, n = d.shape
    rows, columns = d.mean(axis=1), d.mean(axis=0)
    ms_s, ms_i = n * rows.var(ddof=1), s * columns.var(ddof=1)
    rest = d - rows[:, None] - columns + d.mean()
    ms_e = (rest**2).sum() / ((s - 1) * (n - 1))
    v = max(ms_s + ms_i - ms_e, ms_s, ms_i) / (s * n)
    df = (s * n * v) ** 2 / (ms_s**2 / (s - 1) + ms_i**2 / (n - 1) + ms_e**2 / ((s - 1) * (n - 1)))
    reach = stats.t.ppf(0.975, max(df, 1)) * np.sqrt(v)
    p = primary(pairs, DESIGN)
    assert (p.low, p.high) == pytest.approx((d.mean() - reach, d.mean() + reach))


def test_scope_seeds_is_the_paired_t_of_scipy():
    pairs = made()
    p = primary(pairs, plan(scope="seeds"))
    expected = stats.ttest_rel(pairs.treatment, pairs.baseline)
    assert p.method == "paired_t"
    assert (p.low, p.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert p.p_value == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("pairs", [made(examples=False), made(n_test=1)])
def test_without_examples_only_seeds_vary(pairs):
    pairs = dataclasses.replace(pairs, treatment=pairs.treatment + 0.01 * np.arange(pairs.n))
    assert primary(pairs, DESIGN).method == "paired_t"


@pytest.mark.parametrize("change", [{"stop": "anytime"}, {"looks": (5,)}])
@pytest.mark.parametrize("scope", ["seeds", "seeds_and_examples"])
def test_seeds_added_after_a_look_get_the_anytime_interval(change, scope):
    pairs, design = made(), plan(scope=scope, **change)
    p, fixed = primary(pairs, design), primary(pairs, plan(scope=scope))
    at = fixed_analysis(pairs, design, level=0.95)
    floor = variance_floor(at)
    expected = anytime(pairs.differences, level=0.95, variance_floor=floor, floor_df=floor_df(at))
    assert p.method == "anytime"
    assert (p.low, p.high) == pytest.approx((expected.low, expected.high))
    assert p.high - p.low > fixed.high - fixed.low
    assert p.low < p.low90 and p.high90 < p.high
    assert (floor == 0) == (scope == "seeds")


def test_a_plan_that_grew_before_any_result_is_still_fixed():
    assert primary(made(), plan(looks=(0,))).method == "two_way"


@pytest.mark.parametrize("n", [6, 9, 12])
def test_a_group_look_uses_its_own_boundary(n):
    pairs = made(n=n)
    p = primary(pairs, plan(stop="group"))
    fixed = two_way(made_table(n=n))
    looks = [look for look in (6, 9, 12) if look <= n]
    z = boundaries(looks, planned=12)[-1]
    reach = stats.t.isf(stats.norm.sf(z), fixed.df) * fixed.standard_error
    assert p.method == "group"
    assert (p.low, p.high) == pytest.approx((fixed.difference - reach, fixed.difference + reach))
    assert (p.p_value < 0.05) == (p.low > 0 or p.high < 0)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_m_treatments_share_the_error_rate(m):
    design = plan(treatments=tuple("bcd"[:m]))
    assert levels(design) == pytest.approx((1 - 0.05 / m, 1 - 0.1 / m))
    pairs = made()
    p = primary(pairs, design)
    wide = two_way(made_table(), level=1 - 0.05 / m)
    assert (p.level, p.low, p.high) == pytest.approx((1 - 0.05 / m, wide.low, wide.high))


def test_one_pair_has_a_difference_and_no_limits():
    p = primary(made(n=1), DESIGN)
    assert p.difference is not None
    assert (p.low, p.high, p.low90, p.high90, p.p_value) == (None,) * 5
    assert "too few" in p.reason


def test_differences_without_a_spread_have_no_limits():
    flat = Paired.of(tuple(range(8)), np.full(8, 0.5), np.full(8, 0.75), np.full((8, 4), 0.25))
    for design in (DESIGN, plan(scope="seeds"), plan(stop="anytime"), plan(stop="group")):
        p = primary(flat, design)
        assert (p.low, p.high, p.p_value, p.standard_error) == (None,) * 4
        assert "no spread" in p.reason


def test_too_few_pairs_for_an_anytime_limit_are_unbounded_not_an_error():
    p = primary(made(n=3), plan(stop="anytime"))
    assert (p.low, p.high) == (None, None)
    assert "unbounded" in p.reason


def test_an_arms_interval_is_the_one_of_scipy():
    values = np.array([0.9, 0.91, 0.93, 0.89])
    expected = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    assert mean_interval(values, level=0.95) == pytest.approx(expected)
    assert mean_interval(values[:1], level=0.95) == (None, None)


def test_the_first_pairs_are_analysed_on_their_own_examples():
    pairs, table = made(n=5), made_table(n=5)
    kept = pairs.first(3)
    assert kept.seeds == (0, 1, 2)
    assert kept.differences.tolist() == pairs.differences[:3].tolist()
    assert kept.mean_squares == mean_squares(table[:3])
    assert pairs.without(1).mean_squares == mean_squares(np.delete(table, 1, axis=0))
    assert pairs.first(3) is kept
    assert pairs.first(5) is pairs
