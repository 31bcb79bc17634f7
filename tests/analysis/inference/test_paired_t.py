import numpy as np
import pytest
from scipy import stats

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference import paired_t

FIRST = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SECOND = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def test_reproduces_students_sleep_data():
    # R: with(sleep, t.test(extra[group == 2], extra[group == 1], paired = TRUE))
    result = paired_t(FIRST, SECOND)
    assert result.p_value == pytest.approx(0.002833, abs=5e-7)
    assert (result.low, result.high) == pytest.approx((0.7001142, 2.4598858), abs=1e-6)
    assert (result.name, result.n, result.df) == ("paired_t", 10, 9)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
def test_equals_scipy_at_any_level(level):
    result, scipys = paired_t(FIRST, SECOND, level=level), stats.ttest_rel(SECOND, FIRST)
    interval = scipys.confidence_interval(level)
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high), rel=1e-12)
    assert result.p_value == pytest.approx(scipys.pvalue, rel=1e-12)


def test_refuses_seeds_that_change_nothing():
    with pytest.raises(UnusableRuns, match="all 3 seed pairs .* check that the seed and"):
        paired_t([0.1, 0.2, 0.3], [0.6, 0.7, 0.8])


def test_refuses_identical_arms():
    with pytest.raises(UnusableRuns, match="all 3 seed pairs differ by 0, .* reach train"):
        paired_t([0.1, 0.2, 0.3], [0.1, 0.2, 0.3])


def test_refuses_one_pair():
    with pytest.raises(UnusableRuns, match="1 seed pair is too few .* at least 2, better 20"):
        paired_t([0.1], [0.2])


def test_refuses_a_level_in_percent():
    with pytest.raises(ValueError, match="level is 95; .* between 0 and 1: write 0.95"):
        paired_t(FIRST, SECOND, level=95)


def test_false_alarm_rate_is_the_promised_one():
    rng = np.random.default_rng(0)
    results = [paired_t(*rng.normal(size=(2, 8))) for _ in range(2000)]
    # 0.05 plus or minus four standard errors
    assert np.mean([not r.low <= 0 <= r.high for r in results]) == pytest.approx(0.05, abs=0.02)


def test_keeps_its_coverage_under_heavy_tails_and_loses_it_under_skew():
    rng = np.random.default_rng(1)
    heavy = rng.standard_t(3, size=(2000, 10))
    skewed = rng.exponential(size=(2000, 10)) - 1
    assert coverage(heavy) == pytest.approx(0.96, abs=0.02)
    assert coverage(skewed) == pytest.approx(0.91, abs=0.025)  # as STATISTICS.md admits


def coverage(samples):
    zero = np.zeros(samples.shape[1])
    return np.mean([r.low <= 0 <= r.high for r in (paired_t(zero, d) for d in samples)])
