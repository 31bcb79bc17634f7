import itertools

import numpy as np
import pytest

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference import sign_flip
from bench.analysis.inference.sign_flip import RANDOM_SUBSETS, random_subsets, subset_sums

DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]


def against_zero(differences, **options):
    return sign_flip(np.zeros(len(differences)), differences, **options)


def test_reproduces_fishers_count_for_darwins_plants():
    # Fisher (1935), sec. 21: 863 of 32768 on one side
    r = against_zero(DARWIN)
    assert r.p_value * r.patterns == 2 * 863
    assert (r.k, r.low, r.high) == (819, pytest.approx(-1 / 6), 41)


def test_equals_counting_every_pattern():
    d = np.random.default_rng(0).normal(0.4, 1, size=9)
    totals = [abs(np.dot(signs, d)) for signs in itertools.product((-1, 1), repeat=9)]
    assert against_zero(d).p_value == np.mean(np.array(totals) >= abs(d.sum()) - 1e-12)


def test_ties_of_a_grid_metric_count_as_ties():
    # 0.763 - 0.758 and 0.005 differ in the last bits only
    baseline = np.array([0.758, 0.760, 0.761, 0.770, 0.765, 0.762])
    treatment = np.array([0.763, 0.755, 0.766, 0.765, 0.770, 0.767])
    assert sign_flip(baseline, treatment).p_value == against_zero([1, -1, 1, -1, 1, 1]).p_value


def test_five_pairs_cannot_reject_and_say_so():
    r = against_zero([0.5, 0.9, 0.2, 1.1, 0.4])
    assert (r.p_value, r.low, r.high, r.k) == (0.0625, None, None, 0)
    assert r.reason == (
        "unbounded: with 5 pairs the exact p cannot fall below 0.0625, "
        "so no finite interval has level 0.95"
    )


def test_equal_differences_still_have_a_p():
    r = against_zero([0.1] * 8)
    assert r.p_value == 2 / 2**8
    assert (r.low, r.high) == pytest.approx((0.1, 0.1))


def test_identical_arms_have_p_one():
    r = sign_flip([0.1, 0.2] * 4, [0.1, 0.2] * 4)
    assert (r.p_value, r.low, r.high) == (1, 0, 0)


def test_refuses_one_pair():
    with pytest.raises(UnusableRuns, match="1 seed pair is too few .* at least 2"):
        against_zero([0.1])


def test_random_subsets_agree_with_all_of_them():
    d = np.random.default_rng(1).normal(0.35, 1, size=20)
    exact, drawn = subset_sums(d)[1:] <= 0, random_subsets(d, np.random.default_rng(2))[0] <= 0
    assert drawn.mean() == pytest.approx(exact.mean(), abs=4 * np.sqrt(0.1 / RANDOM_SUBSETS))


def test_random_subsets_are_never_empty():
    sums, sizes = random_subsets(np.array([1.0, 2.0]), np.random.default_rng(0))
    assert sizes.min() == 1
    assert np.isin(sums, (1, 2, 3)).all()


def test_beyond_twenty_pairs_the_same_stream_is_drawn_unless_another_is_given():
    d = np.random.default_rng(3).normal(0.3, 1, size=25)
    assert against_zero(d) == against_zero(d)
    other = against_zero(d, rng=np.random.default_rng(4))
    assert other != against_zero(d)
    assert other.low == pytest.approx(against_zero(d).low, abs=0.02)
    assert not other.exact


def test_a_level_beyond_the_random_subsets_is_unbounded():
    d = np.random.default_rng(3).normal(0.3, 1, size=25)
    r = against_zero(d, level=1 - 1e-6)
    assert (r.low, r.high) == (None, None)
    assert "99999 random subsets cannot reach" in r.reason


@pytest.mark.parametrize("n", [8, 24])
def test_false_alarm_rate_is_the_promised_one_under_heavy_tails(n):
    rng = np.random.default_rng(5)
    results = [against_zero(rng.standard_t(3, size=n)) for _ in range(1000)]
    outside = np.mean([not r.low <= 0 <= r.high for r in results])
    assert outside == pytest.approx(0.05, abs=0.022)
    assert outside == np.mean([r.p_value <= 0.05 for r in results])
