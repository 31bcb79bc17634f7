import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.metrics import brier_score_loss

from bench.analysis.calibration.errors import (
    brier_parts,
    calibrate,
    ece_debiased,
    equal_mass_bins,
    max_error,
    noise_floor,
    signed_gap,
    squared_error,
)
from bench.analysis.calibration.temperature import fit_temperature
from bench.analysis.data.metrics import Predictions, confidence, correct, ece, score
from bench.analysis.errors import BadPredictions

CONFIDENCE = [
    0.52, 0.5447, 0.5695, 0.5942, 0.6189, 0.6437, 0.6684, 0.6932, 0.7179, 0.7426, 0.7674, 0.7921,
    0.8168, 0.8416, 0.8663, 0.8911, 0.9158, 0.9405, 0.9653, 0.99,
]  # fmt: skip
CORRECT = [1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1]


def test_reproduces_a_debiased_error_computed_elsewhere():
    # mpmath quadrature; the Monte Carlo of uncertainty-calibration agrees
    bins = equal_mass_bins(CONFIDENCE, CORRECT, bins=5)
    assert ece_debiased(bins) == pytest.approx(-0.023109021502101024, abs=1e-12)
    assert squared_error(bins) == pytest.approx(-0.05020112833333333, abs=1e-12)


def test_debiasing_equals_its_definition_by_draws():
    rng = np.random.default_rng(0)
    bins = equal_mass_bins(CONFIDENCE, CORRECT, bins=5)
    gap = (bins.confidence - bins.correct) / bins.count
    accuracy = bins.correct / bins.count
    sd = np.sqrt(accuracy * (1 - accuracy) / bins.count)
    shown = np.abs(rng.normal(gap, sd, size=(400_000, 5))).mean(axis=0)
    weight = bins.count / 20
    expected = 2 * weight @ np.abs(gap) - weight @ shown
    assert ece_debiased(bins) == pytest.approx(expected, abs=1e-3)


def test_bins_hold_equally_many_examples_in_order_of_confidence():
    rng = np.random.default_rng(1)
    sure = rng.random(1000)
    bins = equal_mass_bins(sure, np.ones(1000))
    assert np.ptp(bins.count) <= 1
    for part, total in zip(np.array_split(np.sort(sure), 15), bins.confidence, strict=True):
        assert total == pytest.approx(part.sum(), abs=1.5)


def test_plain_error_grows_with_fewer_examples_and_the_debiased_one_does_not():
    rng = np.random.default_rng(2)
    plain, debiased, squared = [], [], []
    for _ in range(400):
        sure = rng.uniform(0.5, 1, size=500)
        right = rng.random(500) < sure - 0.03
        bins = equal_mass_bins(sure, right)
        plain.append(np.abs(bins.confidence - bins.correct).sum() / 500)
        debiased.append(ece_debiased(bins))
        squared.append(squared_error(bins))
    assert np.mean(plain) > 0.06  # twice the truth, 0.03
    assert np.mean(debiased) == pytest.approx(0.03, abs=0.013)
    error = stats.sem(squared)
    assert np.mean(squared) == pytest.approx(0.03**2, abs=4 * error)


def test_noise_floor_is_the_error_of_a_calibrated_model():
    rng = np.random.default_rng(3)
    sure = rng.uniform(0.5, 1, size=1000)
    shown = [ece(sure, rng.random(1000) < sure) for _ in range(400)]
    assert noise_floor(sure, rng=rng, redraws=400) == pytest.approx(np.mean(shown), abs=1.2e-3)
    assert 0.02 < np.mean(shown) < 0.04  # what STATISTICS.md says of N = 1000
    # confidences of certainty leave no noise
    assert noise_floor(np.ones(100), rng=rng) == 0


def test_signed_gap_and_largest_error_by_hand():
    sure, right = [0.9, 0.9, 0.6, 0.6], [1, 0, 1, 1]
    assert signed_gap(sure, right) == pytest.approx(0.0)
    assert max_error(sure, right) == pytest.approx(0.4)
    assert signed_gap([1.0, 1.0], [1, 0]) == 0.5


def test_brier_parts_add_up_and_equal_scikit_learns_score():
    rng = np.random.default_rng(5)
    sure = rng.uniform(0.4, 1, size=500)
    right = rng.random(500) < sure**2
    p = brier_parts(sure, right)
    assert p.brier_top == pytest.approx(brier_score_loss(right, sure))
    total = p.reliability - p.resolution + p.uncertainty + p.within_bins
    assert total == pytest.approx(p.brier_top)


def test_corrected_reliability_is_the_unbiased_squared_error():
    rng = np.random.default_rng(6)
    sure, right = rng.random(400), rng.random(400) < 0.6
    expected = squared_error(equal_mass_bins(sure, right))
    assert brier_parts(sure, right).reliability == pytest.approx(expected)


def test_corrected_parts_are_unbiased_and_the_plain_ones_are_not():
    # Confidence takes 3 values, each its own bin, all of them right 0.05 less often.
    rng = np.random.default_rng(7)
    sure = np.repeat([0.6, 0.75, 0.9], 20)
    truth = sure - 0.05
    parts = [brier_parts(sure, rng.random(60) < truth, bins=3) for _ in range(4000)]
    # in the population the shares of the three values are fixed
    resolution = truth.var()
    uncertainty = truth.mean() * (1 - truth.mean())
    for name, true in (("reliability", 0.0025), ("uncertainty", uncertainty)):
        values = [getattr(p, name) for p in parts]
        assert np.mean(values) == pytest.approx(true, abs=4 * stats.sem(values) + 3e-4)
    values = [p.resolution for p in parts]
    assert np.mean(values) == pytest.approx(resolution, abs=4 * stats.sem(values) + 3e-4)
    plain = np.mean(values) + 2 * np.mean(truth * (1 - truth)) / 60
    assert plain - resolution > 0.004


@pytest.mark.parametrize("classes", [2, 1000])
def test_few_and_many_classes_have_every_number(classes, numbers, drawn):
    rng = np.random.default_rng(10)
    p = drawn(300, classes, rng)
    r = calibrate(score(p), rng=rng)
    assert all(type(v) is float and math.isfinite(v) for v in numbers(r))
    assert math.isfinite(fit_temperature(p.log_probabilities, p.labels).nll_after)


def test_a_single_example_and_equal_confidences_have_every_number(numbers):
    rng = np.random.default_rng(11)
    for n in (1, 2, 16):
        p = Predictions(np.log(np.full((n, 4), 0.25, np.float32)), np.zeros(n, np.int64))
        assert all(math.isfinite(v) for v in numbers(calibrate(score(p), rng=rng)))
        assert all(math.isfinite(v) for v in vars(brier_parts(confidence(p), correct(p))).values())


@given(
    st.integers(1, 60).flatmap(
        lambda n: st.tuples(
            arrays(float, n, elements=st.sampled_from([0.0, 0.3, 0.5, 0.99, 1.0])),
            arrays(bool, n),
        )
    )
)
@settings(max_examples=100, deadline=None)
def test_any_confidences_have_finite_errors_within_their_range(run):
    sure, right = run
    bins = equal_mass_bins(sure, right)
    assert bins.count.sum() == sure.size
    rounding = 1e-9
    assert -1 <= ece_debiased(bins) <= 1 + rounding
    assert -1 <= squared_error(bins) <= 1 + rounding
    assert 0 <= ece(sure, right) <= max_error(sure, right) + rounding <= 1 + 2 * rounding


@pytest.mark.parametrize(
    ("sure", "right", "message"),
    [
        ([0.5, 0.6], [1], r"shape \(2,\) and correct \(1,\); give one of each"),
        ([], [], r"give one of each for every test example"),
        ([-0.7, -0.1], [1, 0], "pass probabilities, not log-probabilities"),
        ([0.5, np.nan], [1, 0], "values outside 0 to 1"),
    ],
)
def test_refuses_what_are_no_confidences(sure, right, message):
    with pytest.raises(BadPredictions, match=message):
        equal_mass_bins(sure, right)
