import math

import numpy as np
import pytest
from scipy import integrate, stats

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference import paired_t, sign_flip, two_way
from bench.analysis.inference.sequential import anytime, boundaries, group, planned_looks, spending

SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]


def test_reproduces_the_published_boundaries():
    # Lan-DeMets programs, gsDesign sfLDOF: five equal looks
    z = boundaries((10, 20, 30, 40, 50))
    assert z == pytest.approx((4.877, 3.357, 2.680, 2.290, 2.031), abs=2e-3)


def test_reproduces_the_three_looks_of_the_plan():
    assert planned_looks(20) == (10, 15, 20)
    assert boundaries(planned_looks(20)) == pytest.approx((2.9626, 2.3590, 2.0141), abs=1e-4)


@pytest.mark.parametrize("looks", [(10, 15, 20), (3, 4, 18, 20), (1, 19, 20), tuple(range(1, 21))])
def test_spends_what_the_spending_function_allows(looks):
    rng = np.random.default_rng(0)
    steps = np.diff(looks, prepend=0)
    paths = np.cumsum(rng.normal(size=(200_000, len(looks))) * np.sqrt(steps), axis=1)
    out = np.abs(paths / np.sqrt(looks)) >= boundaries(looks)
    for k, look in enumerate(looks):
        promised = spending(look / looks[-1], alpha=0.05)
        error = 4 * math.sqrt(promised * (1 - promised) / 200_000) + 1e-9
        assert out[:, : k + 1].any(axis=1).mean() == pytest.approx(promised, abs=error)


def test_two_looks_equal_the_bivariate_normal():
    z = boundaries((10, 20), alpha=0.05)
    assert z[0] == pytest.approx(stats.norm.isf(spending(0.5, alpha=0.05) / 2))
    law = stats.multivariate_normal([0, 0], [[1, math.sqrt(0.5)], [math.sqrt(0.5), 1]])
    inside = law.cdf(list(z), lower_limit=[-z[0], -z[1]])
    assert 1 - inside == pytest.approx(0.05, abs=1e-5)


def test_one_look_is_the_fixed_analysis():
    t = paired_t(np.zeros(10), SLEEP)
    r = group(t, (10,), planned=10)
    assert (r.low, r.high, r.p_value) == pytest.approx((t.low, t.high, t.p_value), rel=1e-9)


def test_an_early_look_is_wider_and_takes_t_for_z():
    r = group(paired_t(np.zeros(10), SLEEP), (10,), planned=20)
    assert r.z == pytest.approx(2.9626, abs=1e-4)
    assert r.t == pytest.approx(stats.t.isf(stats.norm.sf(r.z), 9))
    assert r.high - r.difference == pytest.approx(r.t * r.standard_error)
    assert (r.name, r.looks, r.planned) == ("group", (10,), 20)


def test_takes_the_two_way_error_and_its_degrees_of_freedom():
    r = two_way(np.random.default_rng(1).normal(0.2, 1, size=(10, 50)))
    early = group(r, (10,), planned=20)
    assert early.t == pytest.approx(stats.t.isf(stats.norm.sf(early.z), r.df))


def test_p_is_the_smallest_error_rate_that_rejects():
    t = paired_t(np.zeros(10), SLEEP)
    p = group(t, (6, 10), planned=16).p_value
    edge = group(t, (6, 10), planned=16, level=1 - p)
    assert edge.low == pytest.approx(0, abs=1e-6)


def test_extreme_statistics_have_a_p():
    huge = paired_t(np.zeros(10), np.array(SLEEP) * 1e-4 + 7)
    assert group(huge, (10,), planned=20).p_value == 1e-9
    nothing = paired_t(np.zeros(10), np.array(SLEEP) - np.mean(SLEEP))
    assert group(nothing, (10,), planned=20).p_value == 1


def test_a_look_beyond_the_plan_is_unbounded():
    r = group(paired_t(np.zeros(10), SLEEP), (5, 8, 10), planned=8)
    assert (r.low, r.high, r.z, r.t, r.p_value) == (None, None, None, None, 1.0)
    assert r.reason == "unbounded: nothing left to spend at 10 pairs"


def test_group_refuses_what_has_no_error_and_looks_elsewhere():
    with pytest.raises(UnusableRuns, match="sign_flip has no standard error, .* pass a paired t"):
        group(sign_flip(np.zeros(10), SLEEP), (10,), planned=20)
    with pytest.raises(ValueError, match="the last look is at 9 pairs, the comparison has 10"):
        group(paired_t(np.zeros(10), SLEEP), (9,), planned=20)
    with pytest.raises(ValueError, match=r"looks are \[10, 10\]; they must increase"):
        boundaries((10, 10))


def test_three_looks_keep_the_error_rate_and_naive_looks_do_not():
    rng = np.random.default_rng(2)
    d = rng.normal(size=(20_000, 20))
    outside, naive = np.zeros(20_000, bool), np.zeros(20_000, bool)
    for look, z in zip((10, 15, 20), boundaries((10, 15, 20)), strict=True):
        t = np.abs(d[:, :look].mean(axis=1)) / stats.sem(d[:, :look], axis=1)
        outside |= t > stats.t.isf(stats.norm.sf(z), look - 1)
        naive |= t > stats.t.isf(0.025, look - 1)
    assert outside.mean() == pytest.approx(0.05, abs=0.007)
    assert naive.mean() > 0.08


def test_reproduces_the_mixture_by_integration():
    # likelihood ratio of the t statistic: noncentral against central t, over N(0, g)
    r = anytime(SLEEP, g=1.0)
    t, n = np.mean(SLEEP) / stats.sem(SLEEP), 10

    def weighted(delta):
        ratio = stats.nct.pdf(t, n - 1, delta * math.sqrt(n)) / stats.t.pdf(t, n - 1)
        return ratio * stats.norm.pdf(delta)

    evidence, _ = integrate.quad(weighted, -3, 6)
    assert r.log_e == pytest.approx(math.log(evidence), abs=1e-6)
    # R package avlm 0.1.0
    assert (r.low, r.high) == pytest.approx((0.0748126881338973, 3.085187311866102), abs=1e-9)
    assert r.p_value == pytest.approx(math.exp(-3.23770299063084))


def test_the_path_is_what_each_look_would_have_said():
    r = anytime(SLEEP)
    assert r.log_e_path == pytest.approx([anytime(SLEEP[:n]).log_e for n in range(1, 11)])
    assert r.log_e_path[0] == 0
    assert r.running_p == pytest.approx(math.exp(-max(r.log_e_path)))
    assert r.e_value == pytest.approx(math.exp(r.log_e))


def test_few_pairs_are_unbounded_and_say_so():
    r = anytime([0.1, 0.3])
    assert (r.low, r.high, r.half_width) == (None, None, None)
    assert r.reason == "unbounded: too few pairs (2) for an anytime interval of level 0.95"
    one = anytime([0.4])
    assert (one.log_e, one.p_value, one.low) == (0, 1, None)


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_differences_without_spread_have_no_interval_but_evidence(value):
    r = anytime([value] * 8)
    assert (r.low, r.high, r.p_value) == (None, None, None)
    assert r.reason == f"no spread: all 8 seed pairs differ by {value:g}"
    assert r.log_e == pytest.approx(3.5 * math.log(5) if value else 0)


def test_refuses_a_failed_run_and_no_run():
    for differences in ([0.1, np.nan], []):
        with pytest.raises(UnusableRuns, match="one finite number a seed pair; .* leave its pair"):
            anytime(differences)


def test_test_examples_widen_the_interval_and_raise_the_p():
    plain, wider = anytime(SLEEP), anytime(SLEEP, variance_floor=0.04)
    expected = math.hypot(plain.half_width, stats.norm.isf(0.0125) * 0.2)
    assert wider.half_width == pytest.approx(expected)
    assert wider.p_value > plain.p_value
    edge = anytime(SLEEP, variance_floor=0.04, level=1 - wider.p_value)
    assert edge.low == pytest.approx(0, abs=1e-9)


def test_huge_evidence_stays_a_number():
    r = anytime(np.random.default_rng(0).normal(1, 1e-6, size=200))
    assert math.isfinite(r.e_value)
    assert 0 <= r.p_value < 1e-100


def test_looking_after_every_pair_keeps_the_error_rate_and_a_naive_t_does_not():
    rng = np.random.default_rng(3)
    d = rng.normal(size=(2000, 60))
    alarms = np.mean([max(anytime(row).log_e_path) > math.log(20) for row in d])
    n = np.arange(1, 61)
    mean = np.cumsum(d, axis=1) / n
    spread = np.sqrt((np.cumsum(d**2, axis=1) - n * mean**2)[:, 1:] / (n[1:] - 1))
    t = np.abs(mean[:, 1:]) / spread * np.sqrt(n[1:])
    naive = (t > stats.t.isf(0.025, n[1:] - 1)).any(axis=1).mean()
    assert alarms < 0.04
    assert naive > 0.25


def test_looking_after_every_pair_on_one_test_set_keeps_the_error_rate():
    rng = np.random.default_rng(4)
    floor = 0.2**2  # the error that the test set brings, in units of the spread over seeds
    wrong = {"both": 0, "seeds only": 0}
    for _ in range(400):
        d = rng.normal(size=40) + rng.normal() * 0.2
        covered = {"both": True, "seeds only": True}
        for n in range(5, 41, 5):
            for name, b in (("both", floor), ("seeds only", 0.0)):
                width = anytime(d[:n], variance_floor=b).half_width
                covered[name] &= width is None or abs(d[:n].mean()) <= width
        for name, kept in covered.items():
            wrong[name] += not kept
    assert wrong["both"] / 400 < 0.05
    assert wrong["seeds only"] / 400 > 0.06
