"""Calibration: when the model says 90 %, is it right nine times in ten?"""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from bench.analysis.data.metrics import (
    ECE_BINS,
    LOG_FLOOR,
    Predictions,
    Scored,
    by_rows,
    ece,
    equal_width_bin,
    row_blocks,
    score,
)
from bench.analysis.errors import BadPredictions, UnusableRuns
from bench.analysis.inference.two_way import TwoWay, two_way, two_way_from_mean_squares

Floats = NDArray[np.float64]

GROUPS = 40  # of test examples, left out in turn by the jackknife
REDRAWS = 100  # of the labels, for the noise floor
COLDEST, HOTTEST = 0.05, 20.0  # temperatures that are tried


@dataclass(frozen=True, kw_only=True)
class Bins:
    """What binning keeps of one run: enough for every number that rests on it."""

    count: Floats  # shape (..., bins)
    confidence: Floats  # sums over the bin's examples
    correct: Floats


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """A reliability diagram: 15 bins (lo, hi] of equal width."""

    low: tuple[float, ...]  # edges
    high: tuple[float, ...]
    count: tuple[int, ...]
    confidence: tuple[float | None, ...]  # mean in the bin; None: no example in it
    accuracy: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class BrierParts:
    """The top-label Brier score, taken apart: reliability - resolution + uncertainty + within."""

    brier_top: float  # mean squared difference of confidence and correctness
    reliability: float  # corrected for the finite number of examples; may be negative
    resolution: float
    uncertainty: float
    within_bins: float  # what equal confidences inside a bin would save


@dataclass(frozen=True, kw_only=True)
class Temperature:
    """One scalar that divides the log-probabilities, fitted on validation examples."""

    temperature: float
    at_bound: bool  # nothing inside the bounds was better: for example, every answer is right
    nll_before: float  # mean on the validation examples, nats
    nll_after: float


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
    )


def score_scaled(predictions: Predictions, temperature: float) -> Scored:
    """Return what predictions score after their log-probabilities are divided by a temperature."""
    log_p, labels = predictions.log_probabilities, predictions.labels
    return Scored.joined(
        [
            score(Predictions(scale(log_p[b], temperature).astype(np.float32), labels[b]))
            for b in row_blocks(log_p)
        ]
    )


def signed_gap(confidences: ArrayLike, correct: ArrayLike) -> float:
    """Return mean confidence minus accuracy: above 0 is overconfident."""
    sure, right = _checked(confidences, correct)
    return float(sure.mean() - right.mean())


def equal_width_bins(confidences: ArrayLike, correct: ArrayLike, *, bins: int = ECE_BINS) -> Bins:
    """Sum one run's confidences and correct answers over bins (lo, hi] of equal width.

    Parameters
    ----------
    confidences, correct : shape (N,), probability of the predicted class; 1 where it is true
    """
    sure, right = _checked(confidences, correct)
    return _sums(sure, right, equal_width_bin(sure, bins=bins), bins)


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
    sure, right = _checked(confidences, correct)
    return _sums(sure, right, _by_rank(sure, bins), bins)


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
    sure, _ = _checked(confidences, np.zeros_like(confidences))
    order = np.argsort(sure, kind="stable")
    sure = sure[order].astype(np.float32)  # of a draw; 24 bits are plenty
    starts = np.flatnonzero(np.diff(equal_width_bin(sure, bins=bins), prepend=-1))
    expected = np.add.reduceat(sure, starts, dtype=np.float64)
    errors = np.empty(redraws)
    for draw in range(redraws):
        right = rng.random(sure.size, dtype=np.float32) < sure
        errors[draw] = np.abs(np.add.reduceat(right, starts, dtype=np.int64) - expected).sum()
    return float(errors.mean()) / sure.size


def reliability(confidences: ArrayLike, correct: ArrayLike, *, bins: int = ECE_BINS) -> Reliability:
    """Return what a reliability diagram draws.

    Parameters
    ----------
    confidences, correct : shape (N,), probability of the predicted class; 1 where it is true
    """
    sums = equal_width_bins(confidences, correct, bins=bins)
    count, _, accuracy = _by_bin(sums)
    mean = sums.confidence / np.maximum(sums.count, 1)
    used = count > 0
    return Reliability(
        low=tuple(i / bins for i in range(bins)),
        high=tuple((i + 1) / bins for i in range(bins)),
        count=tuple(int(c) for c in sums.count),
        confidence=tuple(float(m) if u else None for m, u in zip(mean, used, strict=True)),
        accuracy=tuple(float(a) if u else None for a, u in zip(accuracy, used, strict=True)),
    )


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
    sure, right = _checked(confidences, correct)
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


def example_groups(n_examples: int, *, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return a random group, 0 to 39, for each test example, equally large up to one."""
    return rng.permutation(n_examples) % min(GROUPS, n_examples)


def ece_pseudo_values(
    confidences: ArrayLike, correct: ArrayLike, groups: NDArray[np.intp], *, bins: int = ECE_BINS
) -> tuple[float, Floats]:
    """Return one run's debiased ECE and its jackknife pseudo-value for each group of examples.

    Parameters
    ----------
    confidences, correct : shape (N,), probability of the predicted class; 1 where it is true
    groups : shape (N,), the same for every run; bins stay those of the full sample

    Returns
    -------
    the debiased ECE, and G * ECE - (G - 1) * (ECE without the group), shape (G,)
    """
    sure, right = _checked(confidences, correct)
    n_groups = int(groups.max()) + 1
    cell = _sums(sure, right, groups * bins + _by_rank(sure, bins), n_groups * bins)
    parts = [a.reshape(n_groups, bins) for a in (cell.count, cell.confidence, cell.correct)]
    count, sums, hits = (part.sum(axis=0) for part in parts)
    full = float(ece_debiased(Bins(count=count, confidence=sums, correct=hits)))
    left = Bins(count=count - parts[0], confidence=sums - parts[1], correct=hits - parts[2])
    return full, n_groups * full - (n_groups - 1) * ece_debiased(left)


def ece_difference(
    baseline: tuple[ArrayLike, ArrayLike],
    treatment: tuple[ArrayLike, ArrayLike],
    *,
    level: float = 0.95,
    rng: np.random.Generator,
    bins: int = ECE_BINS,
) -> TwoWay:
    """Compare the debiased ECE of two arms, for new seeds and new test examples.

    An ECE is no mean over examples; its jackknife pseudo-values over groups of examples are, very
    nearly, and go into the two-way formula. The difference is that of the full sample, and the
    interval is centred on it. (A plug-in ECE with a t over seeds covers anywhere from 0 to 95 %.)

    Parameters
    ----------
    baseline, treatment : (confidences, correct), each of shape (S, N), same seeds, same examples
    level : coverage of the interval, between 0 and 1
    rng : shuffles the examples into 40 groups shared by all runs

    Returns
    -------
    a comparison in which `n_examples` counts the groups

    Raises
    ------
    UnusableRuns : arms of different shape, fewer than two seeds or examples, or no spread

    References
    ----------
    Miller (1974), The jackknife, Biometrika 61(1); Owen (2007), Annals of Applied Statistics
    1(2), for crossed samples.
    """
    arms = [[np.asarray(part, dtype=np.float64) for part in arm] for arm in (baseline, treatment)]
    shapes = [part.shape for arm in arms for part in arm]
    if len(shapes[0]) != 2 or len(set(shapes)) > 1:
        raise UnusableRuns(
            f"the arms hold confidences of shape {shapes[0]} and {shapes[2]}; "
            "a paired analysis needs (S, N) in both: the same seeds and test examples"
        )
    groups = example_groups(shapes[0][1], rng=rng)
    full, pseudo = zip(
        *(_ece_of_seeds(sure, right, groups, bins) for sure, right in arms), strict=True
    )
    return ece_difference_from_pseudo_values(
        float((full[1] - full[0]).mean()), pseudo[1] - pseudo[0], level=level
    )


def ece_difference_from_pseudo_values(
    difference: float, pseudo_values: Floats, *, level: float = 0.95
) -> TwoWay:
    """Return the interval of an ECE difference from pseudo-value differences, shape (S, G)."""
    about = two_way(pseudo_values, level=level)
    centred = two_way_from_mean_squares(
        difference,
        about.ms_seeds,
        about.ms_examples,
        about.ms_residual,
        about.n,
        about.n_examples,
        level,
    )
    return dataclasses.replace(centred, name="ece_debiased")


def _ece_of_seeds(
    sure: Floats, right: Floats, groups: NDArray[np.intp], bins: int
) -> tuple[Floats, Floats]:
    runs = [ece_pseudo_values(s, r, groups, bins=bins) for s, r in zip(sure, right, strict=True)]
    return np.array([full for full, _ in runs]), np.stack([pseudo for _, pseudo in runs])


def _checked(confidences: ArrayLike, correct: ArrayLike) -> tuple[Floats, Floats]:
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


def _by_rank(sure: Floats, bins: int) -> NDArray[np.intp]:
    bin_of = np.empty(sure.size, dtype=np.intp)
    bin_of[np.argsort(sure, kind="stable")] = np.arange(sure.size) * bins // sure.size
    return bin_of


def _sums(sure: Floats, right: Floats, bin_of: NDArray[np.intp], bins: int) -> Bins:
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
