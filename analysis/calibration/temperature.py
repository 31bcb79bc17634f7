"""Temperature scaling: one number, fitted on validation data, that softens every probability."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize

from bench.analysis.calibration.errors import Floats
from bench.analysis.data.metrics import LOG_FLOOR, Predictions, Scored, by_rows, row_blocks, score

COLDEST, HOTTEST = 0.05, 20.0  # temperatures that are tried


@dataclass(frozen=True, kw_only=True)
class Temperature:
    """One scalar that divides the log-probabilities, fitted on validation examples."""

    temperature: float
    at_bound: bool  # nothing inside the bounds was better: for example, every answer is right
    nll_before: float  # mean on the validation examples, nats
    nll_after: float


def fit_temperature(log_probabilities: ArrayLike, labels: ArrayLike) -> Temperature:
    """Fit the temperature that makes the validation labels most likely.

    Fitted between 0.05 and 20. Where the likelihood only grows towards a bound, as it does
    towards 0.05 when every answer is right, the bound is the temperature and `at_bound` says so.

    Parameters
    ----------
    log_probabilities : shape (N, K), of validation examples, never of test examples
    labels : shape (N,), the true classes

    Raises
    ------
    BadPredictions : log-probabilities or labels that `metrics.Predictions` refuses

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks, ICML, sec. 4.2; Brent (1973),
    bounded minimization over log T.
    """
    checked = Predictions(np.asarray(log_probabilities), np.asarray(labels))
    log_p, rows = checked.log_probabilities, np.arange(len(checked))
    true = np.maximum(log_p[rows, checked.labels].astype(np.float64), LOG_FLOOR)
    most = np.maximum(log_p.max(axis=1).astype(np.float64), LOG_FLOOR)
    chosen = float(true.mean())
    top = chosen - float((true - most).mean())

    def loss(log_t: float) -> float:
        scale = math.exp(-log_t)

        def norm(block: Floats) -> Floats:
            np.maximum(block, LOG_FLOOR, out=block)
            block -= block.max(axis=1, keepdims=True)
            block *= scale
            found: Floats = np.log(np.exp(block, out=block).sum(axis=1))
            return found

        return float(by_rows(norm, log_p).mean()) + (top - chosen) * scale

    ends = (math.log(COLDEST), math.log(HOTTEST))
    inside = optimize.minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-6})
    # A bound wins a tie: nothing to choose between temperatures that all fit to the last digit.
    best = min((*ends, float(inside.x)), key=loss)
    return Temperature(
        temperature=dict(zip(ends, (COLDEST, HOTTEST), strict=True)).get(best, math.exp(best)),
        at_bound=best in ends,
        nll_before=loss(0.0),
        nll_after=loss(best),
    )


def scale(log_probabilities: ArrayLike, temperature: float) -> Floats:
    """Return log-probabilities divided by the temperature and normalized again; shape (N, K).

    Parameters
    ----------
    log_probabilities : shape (N, K); an impossible class (-inf) counts as the smallest float32
    temperature : above 0; above 1 makes less sure
    """
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature is {temperature:g}; it divides, so it must be above 0")
    log_p = np.maximum(np.asarray(log_probabilities, dtype=np.float64), LOG_FLOOR) / temperature
    log_p -= log_p.max(axis=1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    return log_p


def score_scaled(predictions: Predictions, temperature: float) -> Scored:
    """Return what predictions score after their log-probabilities are divided by a temperature."""
    log_p, labels = predictions.log_probabilities, predictions.labels
    return Scored.joined(
        [
            score(Predictions(scale(log_p[b], temperature).astype(np.float32), labels[b]))
            for b in row_blocks(log_p)
        ]
    )
