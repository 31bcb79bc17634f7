import numpy as np
import pytest

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference import paired_t, welch


def test_reproduces_rs_sleep_example():
    # R: t.test(extra ~ group, data = sleep): t = -1.8608, df = 17.776, p-value = 0.07939,
    # 95 percent confidence interval: -3.3654832 0.2054832 (group 1 minus group 2)
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    r = welch(first, second)
    assert (r.low, r.high) == pytest.approx((-0.2054832, 3.3654832), abs=1e-6)
    assert r.p_value == pytest.approx(0.07939, abs=5e-6)
    assert r.df == pytest.approx(17.776, abs=5e-4)
    assert r.difference / r.standard_error == pytest.approx(1.8608, abs=5e-5)


def test_refuses_arms_that_never_vary():
    with pytest.raises(UnusableRuns, match="same value in all 3 runs, .* seed reaches train"):
        welch([0.5] * 3, [0.6] * 3)


def test_answers_where_only_one_arm_varies():
    assert welch([0.5] * 3, [0.6, 0.7, 0.8]).df == pytest.approx(2)


def test_pairing_buys_power_and_welch_throws_it_away():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(1000, 10, 1))
    baseline, treatment = np.moveaxis(shared + 0.3 * rng.normal(size=(1000, 10, 2)), 2, 0)
    pairs = list(zip(baseline, treatment, strict=True))
    assert np.mean([paired_t(*p).p_value < 0.05 for p in pairs]) == pytest.approx(0.05, abs=0.028)
    assert np.mean([welch(*p).p_value < 0.05 for p in pairs]) < 0.005
