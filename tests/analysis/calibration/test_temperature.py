import math

import numpy as np
import pytest
from scipy import optimize, stats
from sklearn.metrics import log_loss

from bench.analysis.calibration.errors import (
    calibrate,
)
from bench.analysis.calibration.temperature import COLDEST, HOTTEST, fit_temperature, scale
from bench.analysis.data.metrics import Predictions, score


def test_temperature_recovers_the_one_that_was_taken_away(drawn):
    rng = np.random.default_rng(8)
    for factor in (0.5, 1.0, 2.0):
        p = drawn(20_000, 5, rng, sharper=factor)
        fit = fit_temperature(p.log_probabilities, p.labels)
        assert fit.temperature == pytest.approx(factor, rel=0.04)
        assert fit.errors == (p.log_probabilities.argmax(axis=1) != p.labels).sum()
        assert fit.nll_before == pytest.approx(log_loss(p.labels, np.exp(p.log_probabilities)))
        scaled = scale(p.log_probabilities, fit.temperature)
        assert fit.nll_after == pytest.approx(log_loss(p.labels, np.exp(scaled)), abs=1e-6)
        assert fit.nll_after <= fit.nll_before


def test_scaling_keeps_the_answers_and_the_sum(drawn):
    p = drawn(200, 7, np.random.default_rng(9))
    scaled = scale(p.log_probabilities, 2.5)
    assert np.exp(scaled).sum(axis=1) == pytest.approx(1)
    assert (scaled.argmax(axis=1) == p.log_probabilities.argmax(axis=1)).all()
    assert scale(p.log_probabilities, 1.0) == pytest.approx(p.log_probabilities, abs=1e-6)


def test_the_prior_is_weak_and_keeps_all_right_answers_from_a_bound():
    log_p = np.log([[0.9, 0.1], [0.2, 0.8]])
    fit, wrong = fit_temperature(log_p, [0, 1]), fit_temperature(log_p, [1, 0])
    assert (fit.errors, wrong.errors) == (0, 2)
    assert 0.4 < fit.temperature < 1 < wrong.temperature < HOTTEST
    assert fit.nll_after < fit.nll_before
    # As scipy finds the maximum of likelihood times density of the prior.
    true = np.array([[0.9, 0.1], [0.8, 0.2]])

    def cost(log_t):
        powered = true ** math.exp(-log_t)
        return -np.log(powered[:, 0] / powered.sum(axis=1)).sum() - stats.norm.logpdf(log_t)

    best = optimize.minimize_scalar(cost, bounds=(-3, 3), method="bounded").x
    assert fit.temperature == pytest.approx(math.exp(best), rel=1e-4)


def test_a_validation_set_without_errors_does_not_ruin_the_test_nll():
    """500 sure and right validation answers, a test set with errors: 0.73 became 4.42 without."""
    rng = np.random.default_rng(19)
    sure = np.log(np.where(np.eye(4)[rng.integers(4, size=500)] > 0, 0.97, 0.01))
    fit = fit_temperature(sure, sure.argmax(axis=1))
    test, labels = sure.copy(), sure.argmax(axis=1)
    labels[:25] = (labels[:25] + 1) % 4
    before, after = (log_loss(labels, np.exp(scale(test, t))) for t in (1.0, fit.temperature))
    cold = log_loss(labels, np.exp(scale(test, COLDEST)))
    assert before < after < 0.3 * cold


def test_probabilities_of_zero_and_one_have_an_answer(numbers):
    with np.errstate(divide="ignore"):
        log_p = np.log(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.5, 0.5]]))
    labels = np.array([0, 1, 1, 0])
    fit = fit_temperature(log_p, labels)
    assert math.isfinite(fit.nll_before)
    scaled = scale(log_p, fit.temperature)
    assert np.isfinite(scaled).all()
    run = score(Predictions(log_p.astype(np.float32), labels))
    r = calibrate(run, rng=np.random.default_rng(0))
    assert all(math.isfinite(v) for v in numbers(r))


@pytest.mark.parametrize("temperature", [0.0, -1.0, np.nan, np.inf])
def test_refuses_a_temperature_that_is_none(temperature):
    with pytest.raises(ValueError, match="it divides, so it must be above 0"):
        scale(np.zeros((1, 2)), temperature)
