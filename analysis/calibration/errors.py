"""Calibration: when the model says 90 %, is it right nine times in ten?"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from bench.analysis.data.metrics import (
    ECE_BINS,
    Scored,
    ece,
    equal_width_bin,
)
from bench.analysis.data.set_metrics import aurc
from bench.analysis.errors import BadPredictions

Floats = NDArray[np.float64]

REDRAWS = 100  # of the labels, for the noise floor


@dataclass(frozen=True, kw_only=True)
class Bins:
    """What binning keeps of one run: enough for every number that rests on it."""

    count: Floats  # shape (..., bins)
    confidence: Floats  # sums over the bin's examples
    correct: Floats


@dataclass(frozen=True, kw_only=True)
class BrierParts:
    """The top-label Brier score, taken apart: reliability - resolution + uncertainty + within."""

    brier_top: float  # mean squared difference of confidence and correctness
    reliability: float  # corrected for the finite number of examples; may be negative
    resolution: float
    uncertainty: float
    within_bins: float  # what equal confidences inside a bin would save


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The calibration of one run, or its mean over an arm's seeds, raw or temperature-scaled."""

    arm: str = ""
    seed: int | None = None  # None: the mean over the arm's seeds
    scaled: bool = False
    ece: float  # equal width; biased upwards, printed because people look for it
    ece_debiased: float  # equal mass; may be negative
    ce2: float  # squared error, unbiased; may be negative
    mce: float
    nll: float
    brier: float
    gap: float  # mean confidence minus accuracy
    noise_floor: float  # the ece of a perfectly calibrated model with these confidences
    reliability: float  # parts of the top-label Brier score, corrected; see BrierParts
    resolution: float
    uncertainty: float
    temperature: float | None = None
    aurc: float | None = None  # area under the risk-coverage curve; None in older reports


def calibrate(run: Scored, *, rng: np.random.Generator) -> Calibration:
    """Return every calibration number of one run.

    Parameters
    ----------
    run : what its predictions of the test examples score
    rng : redraws labels for the noise floor
    """
    sure, right = run.confidence, run.correct
    bins, parts = equal_mass_bins(sure, right), brier_parts(sure, right)
    return Calibration(
        ece=ece(sure, right),
        ece_debiased=float(ece_debiased(bins)),
        ce2=float(squared_error(bins)),
        mce=max_error(sure, right),
        nll=float(run.values["nll"].mean()),
        brier=float(run.values["brier"].mean()),
        gap=signed_gap(sure, right),
        noise_floor=noise_floor(sure, rng=rng),
        reliability=parts.reliability,
        resolution=parts.resolution,
        uncertainty=parts.uncertainty,
        aurc=aurc(sure, right),
    )


def signed_gap(confidences: ArrayLike, correct: ArrayLike) -> float:
    """Return mean confidence minus accuracy: above 0 is overconfident."""
    sure, right = checked(confidences, correct)
    return float(sure.mean() - right.mean())


def equal_width_bins(confidences: ArrayLike, correct: ArrayLike, *, bins: int = ECE_BINS) -> Bins:
    """Sum one run's confidences and correct answers over bins (lo, hi] of equal width.

    Parameters
    ----------
    confidences, correct : shape (N,), probability of the predicted class; 1 where it is true
    """
    sure, right = checked(confidences, correct)
    return sums_by_bin(sure, right, equal_width_bin(sure, bins=bins), bins)


def equal_mass_bins(confidences: ArrayLike, correct: ArrayLike, *, bins: int = ECE_BINS) -> Bins:
    """Return counts and sums in bins of equally many examples, by rank of confidence.

    Parameters
    ----------
    confidences, correct : shape (N,), probability of the predicted class; 1 where it is true
    bins : how many; the bin is floor(rank * bins / N) after a stable sort, so with fewer examples
        than bins some stay empty

    Raises
    ------
    BadPredictions : different lengths, no example, or values outside 0 to 1
    """
    sure, right = checked(confidences, correct)
    return sums_by_bin(sure, right, bins_by_rank(sure, bins), bins)


def ece_debiased(bins: Bins) -> Floats:
    """Return the calibration error less its bias from finite bins; not clipped at 0.

    Parameters
    ----------
    bins : of one run, or of many in the leading axes

    Returns
    -------
    the leading shape of `bins`; () for one run

    References
    ----------
    Kumar, Liang & Ma (2019), Verified uncertainty calibration, NeurIPS, sec. 5, with the
    expectation of the folded normal instead of draws; Roelofs et al. (2022), AISTATS.
    """
    weight, gap, accuracy = _by_bin(bins)
    sd = np.sqrt(accuracy * (1 - accuracy) / np.maximum(bins.count, 1))
    z = np.divide(gap, sd, out=np.zeros_like(gap), where=sd > 0)
    folded = sd * math.sqrt(2 / math.pi) * np.exp(-z * z / 2) + gap * (1 - 2 * special.ndtr(-z))
    expected = np.where(sd > 0, folded, np.abs(gap))
    total: Floats = (weight * (2 * np.abs(gap) - expected)).sum(axis=-1)
    return total


def squared_error(bins: Bins) -> Floats:
    """Return the squared calibration error (CE^2), without bias and so at times below 0.

    Parameters
    ----------
    bins : of one run, or of many in the leading axes

    References
    ----------
    Kumar, Liang & Ma (2019), Verified uncertainty calibration, NeurIPS; Broecker (2012),
    Climate Dynamics 39, for the correction.
    """
    weight, gap, _ = _by_bin(bins)
    total: Floats = (weight * (gap * gap) - _sampling(bins)).sum(axis=-1)
    return total


def max_error(confidences: ArrayLike, correct: ArrayLike, *, bins: int = ECE_BINS) -> float:
    """Return the largest gap of confidence and accuracy over the equal-width bins in use (MCE).

    Parameters
    ----------
    confidences, correct : shape (N,), probability of the predicted class; 1 where it is true
    """
    _, gap, _ = _by_bin(equal_width_bins(confidences, correct, bins=bins))
    return float(np.abs(gap).max())


def noise_floor(
    confidences: ArrayLike,
    *,
    rng: np.random.Generator,
    bins: int = ECE_BINS,
    redraws: int = REDRAWS,
) -> float:
    """Return the equal-width ECE that a perfectly calibrated model would show by chance.

    Parameters
    ----------
    confidences : shape (N,), probability of the predicted class
    rng : redraws each example as right with probability equal to its confidence
    bins, redraws : of the confidence range; of all labels
    """
    sure, _ = checked(confidences, np.zeros_like(confidences))
    order = np.argsort(sure, kind="stable")
    sure = sure[order].astype(np.float32)  # of a draw; 24 bits are plenty
    starts = np.flatnonzero(np.diff(equal_width_bin(sure, bins=bins), prepend=-1))
    expected = np.add.reduceat(sure, starts, dtype=np.float64)
    errors = np.empty(redraws)
    for draw in range(redraws):
        right = rng.random(sure.size, dtype=np.float32) < sure
        errors[draw] = np.abs(np.add.reduceat(right, starts, dtype=np.int64) - expected).sum()
    return float(errors.mean()) / sure.size


def brier_parts(confidences: ArrayLike, correct: ArrayLike, *, bins: int = ECE_BINS) -> BrierParts:
    """Take the top-label Brier score apart, over bins of equally many examples.

    Parameters
    ----------
    confidences, correct : shape (N,), probability of the predicted class; 1 where it is true

    References
    ----------
    Murphy (1973), J. Applied Meteorology 12(4); Ferro & Fricker (2012), QJRMS 138, for the bias
    correction of the three parts; Stephenson et al. (2008), Weather and Forecasting 23(4), for
    what is left within the bins.
    """
    sure, right = checked(confidences, correct)
    sums = equal_mass_bins(sure, right, bins=bins)
    weight, gap, accuracy = _by_bin(sums)
    base, n = float(right.mean()), sure.size
    reliability = float((weight * gap**2).sum())
    resolution = float((weight * (accuracy - base) ** 2).sum())
    uncertainty, score = base * (1 - base), float(((sure - right) ** 2).mean())
    sampling = float(_sampling(sums).sum())
    of_base = uncertainty / (n - 1) if n > 1 else 0.0
    return BrierParts(
        brier_top=score,
        reliability=reliability - sampling,
        resolution=resolution - sampling + of_base,
        uncertainty=uncertainty + of_base,
        within_bins=score - (reliability - resolution + uncertainty),
    )


def checked(confidences: ArrayLike, correct: ArrayLike) -> tuple[Floats, Floats]:
    """Return both as arrays, or say what cannot be one run's confidences and right answers."""
    sure = np.asarray(confidences, dtype=np.float64)
    right = np.asarray(correct, dtype=np.float64)
    if sure.ndim != 1 or sure.shape != right.shape or sure.size == 0:
        raise BadPredictions(
            f"confidences have shape {sure.shape} and correct {right.shape}; "
            "give one of each for every test example"
        )
    # A float32 probability may exceed 1 by a rounding.
    if not ((sure >= 0) & (sure <= 1 + 1e-6) & (right >= 0) & (right <= 1)).all():
        raise BadPredictions(
            "confidences or correct hold values outside 0 to 1; "
            "pass probabilities, not log-probabilities, and 1 or 0 for right or wrong"
        )
    return np.minimum(sure, 1.0), right


def bins_by_rank(sure: Floats, bins: int) -> NDArray[np.intp]:
    """Return each example's bin, all bins equally full up to one; ties keep their order."""
    bin_of = np.empty(sure.size, dtype=np.intp)
    bin_of[np.argsort(sure, kind="stable")] = np.arange(sure.size) * bins // sure.size
    return bin_of


def sums_by_bin(sure: Floats, right: Floats, bin_of: NDArray[np.intp], bins: int) -> Bins:
    """Return what is in each bin."""
    return Bins(
        count=np.bincount(bin_of, minlength=bins).astype(np.float64),
        confidence=np.bincount(bin_of, weights=sure, minlength=bins).astype(np.float64),
        correct=np.bincount(bin_of, weights=right, minlength=bins).astype(np.float64),
    )


def _by_bin(bins: Bins) -> tuple[Floats, Floats, Floats]:
    """Return each bin's share of the examples, confidence minus accuracy, and accuracy."""
    count = np.maximum(bins.count, 1)  # an empty bin has sums of 0 and no weight
    accuracy = bins.correct / count
    weight: Floats = bins.count / bins.count.sum(axis=-1, keepdims=True)
    return weight, bins.confidence / count - accuracy, accuracy


def _sampling(bins: Bins) -> Floats:
    """Return what chance alone adds to each bin's squared gap, weighted."""
    weight, _, accuracy = _by_bin(bins)
    some = bins.count > 1
    spread = accuracy * (1 - accuracy) / np.maximum(bins.count - 1, 1)
    return np.where(some, weight * spread, 0.0)
