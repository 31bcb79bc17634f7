import numpy as np
import pytest
from scipy import stats

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference import friedman_ranks, interquartile_mean, iqm_difference

# AUC of C4.5, with m, with cf, with both: Demšar (2006), JMLR 7, table 6. In
# the next to last row both print 0.975, but the published ranks tell them apart.
DEMSAR = [
    (0.763, 0.768, 0.771, 0.798), (0.599, 0.591, 0.590, 0.569), (0.954, 0.971, 0.968, 0.967),
    (0.628, 0.661, 0.654, 0.657), (0.882, 0.888, 0.886, 0.898), (0.936, 0.931, 0.916, 0.931),
    (0.661, 0.668, 0.609, 0.685), (0.583, 0.583, 0.563, 0.625), (0.775, 0.838, 0.866, 0.875),
    (1.000, 1.000, 1.000, 1.000), (0.940, 0.962, 0.965, 0.962), (0.619, 0.666, 0.614, 0.669),
    (0.972, 0.981, 0.9751, 0.9749), (0.957, 0.978, 0.946, 0.970),
]  # fmt: skip


def test_reproduces_demsars_example():
    r = friedman_ranks(DEMSAR)
    assert r.average == pytest.approx((3.143, 2.000, 2.893, 1.964), abs=5e-4)
    assert r.chi_square == pytest.approx(9.28, abs=5e-3)  # F = 3.69 with 3 and 39 df
    assert r.p_value == pytest.approx(stats.f.sf(3.69, 3, 39), abs=2e-4)
    assert r.critical == pytest.approx(1.25, abs=6e-3)  # q = 2.569 at 95 %
    ninety = friedman_ranks(DEMSAR, level=0.9)
    assert ninety.critical == pytest.approx(1.12, abs=6e-3)  # q = 2.291
    assert (r.tied, ninety.tied) == (((3, 1, 2, 0),), ((3, 1, 2), (2, 0)))


def test_lower_is_better_turns_the_ranks_round():
    table = np.array(DEMSAR)
    up, down = friedman_ranks(table), friedman_ranks(table, higher_is_better=False)
    assert np.add(up.average, down.average) == pytest.approx([5.0] * 4)


def test_arms_that_are_told_apart_are_in_different_groups():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(40, 3)) + np.array([0.0, 0.2, 4.0])
    assert friedman_ranks(table).tied == ((1, 0),)


@pytest.mark.parametrize("shape", [(1, 3), (5, 2), (5,)])
def test_too_few_to_rank_are_refused(shape):
    with pytest.raises(UnusableRuns, match="two or more data sets and three"):
        friedman_ranks(np.zeros(shape))


def test_friedman_keeps_its_level():
    rng = np.random.default_rng(1)
    false = [friedman_ranks(rng.normal(size=(10, 4))).p_value < 0.05 for _ in range(1000)]
    assert stats.binomtest(sum(false), 1000, 0.05).pvalue > 1e-3


def test_the_interquartile_mean_is_rliables():
    # rliable: metrics.aggregate_iqm(scores) = scipy.stats.trim_mean(scores, 0.25, axis=None)
    runs = np.random.default_rng(2).gamma(2.0, size=(6, 10))
    found = interquartile_mean(list(runs), rng=np.random.default_rng(0))
    assert found.value == pytest.approx(stats.trim_mean(runs, 0.25, axis=None))
    assert found.low < found.value < found.high


def test_its_interval_covers():
    rng, inside = np.random.default_rng(3), 0
    truth = 0.0  # of runs that are normal about one mean, by symmetry
    for _ in range(300):
        found = interquartile_mean(list(rng.normal(size=(8, 10))), rng=rng, draws=300)
        inside += found.low <= truth <= found.high
    assert stats.binomtest(inside, 300, 0.93, alternative="less").pvalue > 1e-3


def test_one_run_of_a_data_set_is_refused():
    with pytest.raises(UnusableRuns, match="two runs or more of every data set"):
        interquartile_mean([[1.0, 2.0], [1.0]], rng=np.random.default_rng(0))


def difference(base, other, **more):
    return iqm_difference(base, other, rng=np.random.default_rng(0), **more)


def test_the_difference_is_that_of_rliables_interquartile_means():
    base, other = np.random.default_rng(4).gamma(2.0, size=(2, 24))
    expected = stats.trim_mean(other, 0.25) - stats.trim_mean(base, 0.25)
    for more in ({}, {"strata": np.repeat([0, 1], 12)}, {"paired": False}):
        found = difference(base, other, **more)
        assert found.difference == pytest.approx(expected)
        assert found.low < found.difference < found.high and found.p_value is None


def test_neither_the_order_of_the_seeds_nor_of_the_arms_moves_its_limits():
    base, other = np.random.default_rng(5).normal(size=(2, 9))
    found, turned = difference(base, other), difference(other, base)
    again = difference(base[::-1], other[::-1])
    assert (again.low, again.high) == (found.low, found.high)
    assert (-turned.high, -turned.low) == pytest.approx((found.low, found.high))


def test_pairs_that_share_their_seed_narrow_it():
    shared, apart = np.random.default_rng(6).normal(size=(2, 40))
    base, other = shared, shared + 0.1 * apart
    paired, unpaired = (difference(base, other, paired=way) for way in (True, False))
    assert paired.high - paired.low < (unpaired.high - unpaired.low) / 3


def test_its_difference_covers():
    rng, inside = np.random.default_rng(7), 0
    for _ in range(300):
        base, other = rng.normal(size=(2, 12))
        found = iqm_difference(base, other, rng=rng, draws=300)
        inside += found.low <= 0 <= found.high
    assert stats.binomtest(inside, 300, 0.93, alternative="less").pvalue > 1e-3


@pytest.mark.parametrize("paired", [True, False])
def test_runs_that_are_all_equal_have_no_interquartile_interval(paired):
    with pytest.raises(UnusableRuns, match="no spread to test"):
        difference([1.0] * 8, [2.0] * 8, paired=paired)
