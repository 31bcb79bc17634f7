import numpy as np
import pytest

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference import bootstrap_t, paired_t


def against_zero(differences, **options):
    rng = np.random.default_rng(0)
    return bootstrap_t(np.zeros(len(differences)), differences, rng=rng, **options)


def test_equals_the_definition_resample_by_resample():
    d = np.sort(np.random.default_rng(1).exponential(size=12))
    mean, error = d.mean(), d.std(ddof=1) / np.sqrt(12)
    drawn = d[np.random.default_rng(0).integers(12, size=(9999, 12), dtype=np.int32)]
    t = np.sort((drawn.mean(axis=1) - mean) / (drawn.std(axis=1, ddof=1) / np.sqrt(12)))
    r = against_zero(d)
    # k = 0.025 * 10000 = 250: the 250th from either end
    assert (r.low, r.high) == pytest.approx((mean - t[-250] * error, mean - t[249] * error))


def test_comes_close_to_the_t_interval_where_that_is_right():
    d = np.random.default_rng(2).normal(0.2, 1, size=60)
    t, r = paired_t(np.zeros(60), d), against_zero(d)
    assert (r.low, r.high) == pytest.approx((t.low, t.high), abs=0.05)
    assert r.p_value == pytest.approx(t.p_value, abs=0.02)


def test_too_few_pairs_leave_the_limits_open_and_say_why():
    r = against_zero([0.1, 0.3, 0.2])
    assert (r.low, r.high) == (None, None)
    assert r.reason.startswith("unbounded: ")
    assert "resamples hold one value only" in r.reason


def test_one_outlier_among_equal_differences_has_an_answer():
    r = against_zero([0.001] * 19 + [0.02])
    assert 0 < r.p_value <= 1
    assert r.low is None or r.low < r.difference


def test_refuses_seeds_that_change_nothing():
    with pytest.raises(UnusableRuns, match="all 4 seed pairs .* check that the seed and"):
        against_zero([0.1] * 4)


def test_covers_skewed_differences_better_than_the_percentile_bootstrap():
    rng = np.random.default_rng(3)
    samples = rng.exponential(size=(400, 10)) - 1
    studentized, percentile = [], []
    for d in samples:
        r = bootstrap_t(np.zeros(10), d, n_resamples=999, rng=rng)
        studentized.append(r.low <= 0 <= r.high)
        means = d[rng.integers(10, size=(999, 10))].mean(axis=1)
        low, high = np.quantile(means, (0.025, 0.975))
        percentile.append(low <= 0 <= high)
    assert np.mean(studentized) == pytest.approx(0.95, abs=0.04)
    assert np.mean(percentile) < 0.90
