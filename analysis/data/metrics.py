"""Metrics: what predictions are scored by, the same functions for every arm."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.analysis.data.jackknife import Statistic, example_groups, group_columns
from bench.analysis.data.predictions import Predictions as Predictions, Rows, by_rows
from bench.analysis.data.set_metrics import (
    aurc_of_ranks,
    auroc_of_ranks,
    average_precision_of_ranks,
    balanced_accuracy,
    macro_f1,
    of_answers,
    of_ranks,
    ranked,
)
from bench.analysis.errors import BadPredictions

Floats = NDArray[np.float64]

# A probability that underflows in float32 costs this many nats, not infinitely many.
LOG_FLOOR = float(np.log(np.finfo(np.float32).tiny))
ECE_BINS = 15


def correct(predictions: Predictions) -> Floats:
    """Return 1.0 where the most probable class is the true one, else 0.0; shape (N,)."""
    right: Floats = (predictions.log_probabilities.argmax(axis=1) == predictions.labels) * 1.0
    return right


def nll(predictions: Predictions) -> Floats:
    """Return each example's negative log-likelihood in nats; shape (N,)."""
    rows = np.arange(len(predictions))
    chosen = predictions.log_probabilities[rows, predictions.labels].astype(np.float64)
    return -np.maximum(chosen, LOG_FLOOR)


def brier(predictions: Predictions) -> Floats:
    """Return each example's squared error summed over classes (0 to 2); shape (N,).

    References
    ----------
    Brier (1950), Monthly Weather Review 78(1), the original sum over classes.
    """
    log_p, rows = predictions.log_probabilities, np.arange(len(predictions))

    def squares(block: Floats) -> Floats:
        p = np.exp(block, out=block)
        found: Floats = np.einsum("ij,ij->i", p, p)
        return found

    # sum_k (p_k - y_k)^2 = sum_k p_k^2 - 2 p_y + 1, without building the one-hot matrix
    chosen = np.exp(log_p[rows, predictions.labels].astype(np.float64))
    score: Floats = by_rows(squares, log_p) - 2 * chosen + 1
    return score


def confidence(predictions: Predictions) -> Floats:
    """Return the probability of the most probable class; shape (N,)."""
    sure: Floats = np.exp(predictions.log_probabilities.max(axis=1).astype(np.float64))
    return sure


def equal_width_bin(confidences: ArrayLike, *, bins: int = ECE_BINS) -> NDArray[np.intp]:
    """Return the bin of each confidence, bins (lo, hi] of equal width; 0 falls in the first."""
    edges = np.arange(1, bins) / bins
    return np.searchsorted(edges, np.asarray(confidences, dtype=np.float64), side="left")


def ece(confidences: ArrayLike, correct: ArrayLike, *, bins: int = ECE_BINS) -> float:
    """Return the expected calibration error over equal-width bins (lo, hi].

    Parameters
    ----------
    confidences, correct : shape (N,), probability of the predicted class; 1 where it is true

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks, ICML, eq. 3.
    """
    c = np.asarray(confidences, dtype=np.float64)
    bin_of = equal_width_bin(c, bins=bins)
    gap = np.bincount(bin_of, weights=c - np.asarray(correct, dtype=np.float64), minlength=bins)
    return float(np.abs(gap).sum() / c.size)


@dataclass(frozen=True)
class Metric:
    """How a metric is computed from predictions and how it is read.

    A metric of your own that is no mean over examples is a function of a run's predictions:
    ``Metric("cost", of=cost, higher_is_better=False)``. It is called on the predictions of the
    test set, and on those without one of 40 groups of examples in turn, which is what its interval
    for new test examples rests on.

    Parameters
    ----------
    name : what plans and results call it
    label : what sentences call it; without one its name
    unit : of its values; your own are plain numbers, "score"
    higher_is_better : its direction
    of : predictions to one finite number, where it is no mean over examples
    per_example : predictions to one number an example, shape (N,), where it is their mean
    chance : number of classes to the value of a model that knows nothing
    prepared : the same as `of`, for bench's own: predictions to what gives the value of some rows
    """

    name: str
    label: str = ""
    unit: Literal["fraction", "nats", "score"] = "score"
    higher_is_better: bool = True
    per_example: Callable[[Predictions], Floats] | None = None
    chance: Callable[[int], float] | None = None
    of: Callable[[Predictions], float] | None = None
    prepared: Callable[[Predictions], Statistic] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.label or self.name)

    @property
    def is_computed(self) -> bool:
        """Whether predictions give it; if not, only runs that return it have it."""
        return any((self.per_example, self.of, self.prepared))

    def columns(self, predictions: Predictions) -> Floats:
        """Return what the metric is the mean of: its value on examples, or on groups of them.

        Returns
        -------
        shape (N,); of a metric that is no mean over examples (40,), its pseudo-values, moved so
        that their mean is its value

        Raises
        ------
        BadPredictions : it has no value, of all examples or without a group of them
        """
        if self.per_example is not None:
            return self.per_example(predictions)
        return group_columns(self._statistic(predictions), example_groups(len(predictions)))

    def value(self, predictions: Predictions) -> float:
        """Return the metric of all examples.

        Raises
        ------
        BadPredictions : it has no value
        """
        if self.per_example is not None:
            return float(self.per_example(predictions).mean())
        return self._statistic(predictions)(slice(None))

    def _statistic(self, predictions: Predictions) -> Statistic:
        if self.prepared is not None:
            return self.prepared(predictions)
        of = self.of
        if of is None:
            raise BadPredictions(f"{self.name!r} is not computed from predictions.")

        def statistic(rows: Rows) -> float:
            return _finite(of(predictions.take(rows)), self.name)

        return statistic


def _finite(value: object, name: str) -> float:
    """Return what a metric of the user's own gave, or refuse it."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, RuntimeError):
        number = math.nan
    if not math.isfinite(number):
        raise BadPredictions(
            f"metric {name!r} gave {str(value)[:60]!r}, not a finite number.",
            facts=[
                "It is called on all test examples, then without one of 40 groups of them in turn."
            ],
            fix="return one float, whatever examples there are",
        )
    return number


def _selective(predictions: Predictions) -> Statistic:
    ranks, wrong = ranked(-confidence(predictions)), 1 - correct(predictions)
    return lambda rows: aurc_of_ranks(ranks[rows], wrong[rows])


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "accuracy", "fraction", True, correct, lambda k: 1 / k),
        Metric("nll", "negative log-likelihood", "nats", False, nll, math.log),
        Metric("brier", "Brier score", "score", False, brier, lambda k: 1 - 1 / k),
        Metric("macro_f1", "macro-F1", "fraction", prepared=of_answers("macro-F1", macro_f1)),
        Metric(
            "balanced_accuracy",
            "balanced accuracy",
            "fraction",
            chance=lambda k: 1 / k,
            prepared=of_answers("balanced accuracy", balanced_accuracy),
        ),
        Metric(
            "auroc",
            "AUROC",
            "fraction",
            chance=lambda k: 0.5,
            prepared=of_ranks("AUROC", auroc_of_ranks),
        ),
        Metric(
            "average_precision",
            "average precision",
            "fraction",
            prepared=of_ranks("average precision", average_precision_of_ranks),
        ),
        Metric(
            "aurc",
            "AURC (area under the risk-coverage curve)",
            "fraction",
            False,
            chance=lambda k: 1 - 1 / k,
            prepared=_selective,
        ),
    )
}
ALWAYS = ("accuracy", "nll", "brier", "aurc")  # compared in every report over predictions


@dataclass(frozen=True, eq=False)
class Scored:
    """What is kept of one run's predictions: one number an example, whatever the classes."""

    labels: NDArray[np.int64]
    n_classes: int
    confidence: Floats
    values: Mapping[str, Floats]  # by the name of the metric; its mean is the metric

    @property
    def correct(self) -> Floats:
        """1.0 where the most probable class is the true one, else 0.0; shape (N,)."""
        return self.values["accuracy"]

    @classmethod
    def joined(cls, parts: Sequence["Scored"]) -> "Scored":
        """Return the scores of blocks of examples as those of all of them."""
        return cls(
            labels=np.concatenate([part.labels for part in parts]),
            n_classes=parts[0].n_classes,
            confidence=np.concatenate([part.confidence for part in parts]),
            values={
                name: np.concatenate([part.values[name] for part in parts])
                for name in parts[0].values
            },
        )


def score(predictions: Predictions, also: Iterable[Metric] = ()) -> Scored:
    """Return every metric of every example, and some further ones by their columns."""
    means = [metric for metric in METRICS.values() if metric.per_example is not None]
    return Scored(
        labels=predictions.labels,
        n_classes=predictions.n_classes,
        confidence=confidence(predictions),
        values={metric.name: metric.columns(predictions) for metric in (*means, *also)},
    )
