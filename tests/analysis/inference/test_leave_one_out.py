import numpy as np
import pytest

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference import leave_one_out, paired_t, sign_flip, two_way

BASELINE = np.zeros(8)
TREATMENT = np.array([0.2, 0.1, 0.3, 0.15, 0.25, 0.2, 0.1, 0.3])


def of_pairs(baseline, treatment):
    return leave_one_out(lambda keep: paired_t(baseline[keep], treatment[keep]), len(baseline))


def test_is_the_hull_of_the_intervals():
    rest = [paired_t(np.delete(BASELINE, s), np.delete(TREATMENT, s)) for s in range(8)]
    r = of_pairs(BASELINE, TREATMENT)
    assert r.without == tuple(rest)
    assert (r.low, r.high) == (min(t.low for t in rest), max(t.high for t in rest))
    assert r.p_value == max(t.p_value for t in rest)
    assert r.difference == paired_t(BASELINE, TREATMENT).difference


def test_shows_the_one_seed_that_decides():
    treatment = np.array([0.02, 0.01, 0.03, 0.015, 0.025, 0.02, 0.01, -0.05])
    everything, r = paired_t(BASELINE, treatment), of_pairs(BASELINE, treatment)
    assert everything.low < 0  # no word with all seeds
    assert [t.low > 0 for t in r.without] == [False] * 7 + [True]


def test_takes_the_two_way_analysis_as_well():
    table = np.random.default_rng(0).normal(0.1, 1, size=(6, 40))
    r = leave_one_out(lambda keep: two_way(table[keep]), 6)
    assert r.low <= two_way(table).low
    assert r.without[2].interval(0.9) == two_way(np.delete(table, 2, axis=0)).interval(0.9)


def test_an_answer_that_fails_without_a_seed_leaves_the_hull_open():
    r = of_pairs(np.zeros(3), np.array([0.1, 0.1, 0.2]))
    assert (r.low, r.high, r.p_value) == (None, None, None)
    assert r.reason.startswith("one seed left out: all 2 seed pairs differ by 0.1, so there is no")
    assert r.without[2] is None


def test_an_unbounded_interval_leaves_the_hull_open():
    r = leave_one_out(lambda keep: sign_flip(BASELINE[keep], TREATMENT[keep]), 6)
    assert (r.low, r.high) == (None, None)
    assert r.reason.startswith("one seed left out: unbounded: with 5 pairs")
    assert r.p_value == 0.0625


def test_refuses_what_the_analysis_refuses_with_all_seeds():
    with pytest.raises(UnusableRuns, match="all 4 seed pairs .* check that the seed and"):
        of_pairs(np.zeros(4), np.full(4, 0.1))
