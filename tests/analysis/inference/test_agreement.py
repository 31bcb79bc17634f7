"""What every comparison owes: p and interval agree; order, arms and units do not matter."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from bench.analysis.inference import (
    bootstrap_t,
    leave_one_out,
    paired_t,
    sign_flip,
    two_way,
    welch,
    wilcoxon,
)
from bench.analysis.inference.sequential import anytime, group, planned_looks


def bootstrap(baseline, treatment, *, level=0.95):
    rng = np.random.default_rng(0)
    return bootstrap_t(baseline, treatment, level=level, n_resamples=499, rng=rng)


def over_examples(baseline, treatment, *, level=0.95):
    wiggle = np.sin(np.arange(15.0)) * np.ptp(treatment - baseline) * 3
    return two_way((treatment - baseline)[:, None] + wiggle - wiggle.mean(), level=level)


def one_left_out(baseline, treatment, *, level=0.95):
    def analyse(keep):
        return paired_t(baseline[keep], treatment[keep], level=level)

    return leave_one_out(analyse, len(baseline))


def sequence(baseline, treatment, *, level=0.95):
    return anytime(treatment - baseline, level=level)


def sequence_with_examples(baseline, treatment, *, level=0.95):
    d = treatment - baseline
    return anytime(d, level=level, variance_floor=d.var() / 40)


def second_look(baseline, treatment, *, level=0.95):
    n = len(baseline)
    looks = [look for look in planned_looks(n + 5) if look < n]
    return group(paired_t(baseline, treatment, level=level), [*looks, n], planned=n + 5)


WITH_INTERVAL = [
    paired_t,
    sign_flip,
    bootstrap,
    welch,
    over_examples,
    one_left_out,
    sequence,
    sequence_with_examples,
    second_look,
]
ALL = [*WITH_INTERVAL, wilcoxon]


@st.composite
def two_arms(draw, most=12):
    n = draw(st.integers(4, most))
    grid = st.integers(700, 800).map(lambda k: k / 1000)  # an accuracy: ties happen
    baseline, treatment = draw(arrays(float, (2, n), elements=grid))
    diff = treatment - baseline
    assume(all(np.ptp(np.delete(diff, i)) > 1e-6 for i in range(n)))
    return baseline, treatment


@pytest.mark.parametrize("analysis", WITH_INTERVAL)
@given(two_arms(), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
@settings(max_examples=25, deadline=None)
def test_p_and_interval_never_disagree(analysis, arms, level):
    r = analysis(*arms, level=level)
    assert 0 <= r.p_value <= 1
    outside = (r.low is not None and r.low > 1e-12) or (r.high is not None and r.high < -1e-12)
    # a p that is counted can equal alpha; it then rejects
    assert outside == (r.p_value <= 1 - level + 1e-9)


@pytest.mark.parametrize("analysis", ALL)
@given(two_arms(), st.randoms(use_true_random=False))
@settings(max_examples=15, deadline=None)
def test_the_order_of_the_seeds_does_not_matter(analysis, arms, random):
    order = list(range(len(arms[0])))
    random.shuffle(order)
    same(analysis(*arms), analysis(*(arm[order] for arm in arms)))


@pytest.mark.parametrize("analysis", ALL)
@given(two_arms())
@settings(max_examples=15, deadline=None)
def test_swapping_the_arms_flips_the_sign(analysis, arms):
    # arms of equal mean have no order: swapping them draws other resamples
    assume(analysis is not bootstrap or abs(np.mean(arms[1] - arms[0])) > 1e-9)
    r, swapped = analysis(*arms), analysis(*arms[::-1])
    assert swapped.p_value == pytest.approx(r.p_value, rel=1e-6)
    assert swapped.difference == pytest.approx(-r.difference, abs=1e-12)
    assert (swapped.low is None, swapped.high is None) == (r.high is None, r.low is None)
    if r.low is not None and r.high is not None:
        assert (swapped.low, swapped.high) == pytest.approx((-r.high, -r.low), abs=1e-9)


@pytest.mark.parametrize("analysis", ALL)
@given(two_arms(), st.sampled_from([1e-6, 1e-3, 100.0, 1e9]))
@settings(max_examples=15, deadline=None)
def test_units_scale_the_interval_and_leave_the_p(analysis, arms, unit):
    r, scaled = analysis(*arms), analysis(*(arm * unit for arm in arms))
    assert scaled.p_value == pytest.approx(r.p_value, rel=1e-6)
    for before, after in ((r.low, scaled.low), (r.high, scaled.high)):
        assert (before is None) == (after is None)
        if before is not None and after is not None:
            assert after == pytest.approx(before * unit, rel=1e-6, abs=1e-9 * unit)


@pytest.mark.parametrize("analysis", [sign_flip, bootstrap])
def test_beyond_the_exact_range_order_and_arms_still_do_not_matter(analysis):
    rng = np.random.default_rng(0)
    baseline, treatment = rng.normal(size=(2, 30))
    order = rng.permutation(30)
    r = analysis(baseline, treatment)
    same(r, analysis(baseline[order], treatment[order]))
    swapped = analysis(treatment, baseline)
    assert (swapped.low, swapped.high, swapped.p_value) == (-r.high, -r.low, r.p_value)


@pytest.mark.parametrize("analysis", ALL)
@given(two_arms())
@settings(max_examples=10, deadline=None)
def test_results_hold_plain_floats_or_none(analysis, arms):
    r = analysis(*arms)
    for value in (r.difference, r.low, r.high, r.p_value, r.standard_error, r.df):
        assert value is None or (type(value) is float and math.isfinite(value))
    assert (r.reason is None) == (r.low is not None and r.high is not None)


def same(first, second):
    assert first.p_value == pytest.approx(second.p_value, rel=1e-9)
    assert first.difference == pytest.approx(second.difference, abs=1e-12)
    for one, other in ((first.low, second.low), (first.high, second.high)):
        assert one == pytest.approx(other, abs=1e-9) if one is not None else other is None
