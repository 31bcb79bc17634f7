"""Predictions: what a trained model says about a fixed set of examples, checked."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.analysis.errors import BadPredictions, NotNumbers

Floats = NDArray[np.float64]
Rows = slice | NDArray[np.bool_]

BLOCK = 2**20  # probabilities that are turned into float64 at a time
HALF_PRECISION = 0.02  # that the sum of probabilities may be off in float16 and bfloat16


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a trained model says about a fixed set of examples.

    Parameters
    ----------
    log_probabilities : shape (N, K), natural logarithms; each row's probabilities sum to 1; an
        array or a tensor of any framework, device and precision
        half precision (float16, bfloat16), where rounding alone moves the sum by up to 2 %, is
        normalised again
    labels : shape (N,), the true classes, 0 to K - 1

    Raises
    ------
    BadPredictions : wrong shapes, NaN, rows that do not sum to 1, labels outside 0 to K - 1
    """

    log_probabilities: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        log_p = as_array(self.log_probabilities, "log_probabilities").astype(np.float32, copy=False)
        if log_p.ndim == 2 and "float16" in str(getattr(self.log_probabilities, "dtype", "")):
            log_p = _normalised(log_p)
        raw = as_array(self.labels, "labels")
        if log_p.ndim != 2 or log_p.shape[0] == 0 or log_p.shape[1] < 2:
            raise BadPredictions(
                f"log_probabilities have shape {log_p.shape}; they need (N, K): "
                "N examples, K classes, at least one example and two classes"
            )
        if raw.shape != (log_p.shape[0],):
            raise BadPredictions(
                f"labels have shape {raw.shape}, but there are {log_p.shape[0]} rows of "
                "log_probabilities; give one label a row"
            )
        if not np.issubdtype(raw.dtype, np.integer):
            raise BadPredictions(f"labels are {raw.dtype}; they must be whole class numbers")
        labels = raw.astype(np.int64)
        if labels.min() < 0 or labels.max() >= log_p.shape[1]:
            raise BadPredictions(
                f"labels run from {labels.min()} to {labels.max()}, but there are "
                f"{log_p.shape[1]} classes: 0 to {log_p.shape[1] - 1}"
            )
        _require_distributions(log_p)
        log_p, labels = log_p.copy(), labels.copy()
        log_p.setflags(write=False)
        labels.setflags(write=False)
        object.__setattr__(self, "log_probabilities", log_p)
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def n_classes(self) -> int:
        """How many classes there are, whether or not an example has them."""
        return int(self.log_probabilities.shape[1])

    def take(self, rows: Rows) -> "Predictions":
        """Return some of the examples; they were checked with all others."""
        part = object.__new__(Predictions)
        object.__setattr__(part, "log_probabilities", self.log_probabilities[rows])
        object.__setattr__(part, "labels", self.labels[rows])
        return part


def as_array(value: object, name: str) -> NDArray[np.generic]:
    """Return a tensor or an array as numpy's: detached, on the CPU, in a precision numpy has."""
    for step in ("detach", "cpu"):
        value = getattr(value, step)() if callable(getattr(value, step, None)) else value
    if "bfloat16" in str(getattr(value, "dtype", "")):
        wider = getattr(value, "float", None)
        value = wider() if callable(wider) else np.asarray(value).astype(np.float32)
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise BadPredictions(f"{name} are no array: {error}") from None


def _normalised(log_p: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows whose sum is off by rounding alone with a sum of 1; others as they are."""
    total = np.exp(log_p.astype(np.float64)).sum(axis=1, keepdims=True)
    if not (np.abs(total - 1) <= HALF_PRECISION).all():
        return log_p
    exact: NDArray[np.float32] = (log_p - np.log(total)).astype(np.float32)
    return exact


def _require_distributions(log_p: NDArray[np.float32]) -> None:
    if np.isnan(log_p).any() or (log_p == np.inf).any():
        bad = int((np.isnan(log_p) | (log_p == np.inf)).any(axis=1).sum())
        raise NotNumbers(
            f"{bad} of {len(log_p)} rows of log_probabilities hold NaN or infinity; "
            "the model diverged, or the logits overflowed before log_softmax"
        )
    total = by_rows(lambda block: np.exp(block).sum(axis=1), log_p)
    off = np.abs(total - 1)
    if off.max() > 1e-3:
        row = int(off.argmax())
        raise BadPredictions(
            f"the probabilities of row {row} sum to {total[row]:.4g}, not 1; {_mistaken(log_p)}"
        )


def _mistaken(given: NDArray[np.float32]) -> str:
    """Say what was passed in place of log-probabilities."""
    if given.min() >= 0 and np.abs(given.astype(np.float64).sum(axis=1) - 1).max() <= 1e-3:
        return "these are probabilities: pass their logarithm, np.log(p.clip(1e-12))"
    return "these look like logits: pass log-probabilities, for example logits.log_softmax(dim=1)"


def row_blocks(log_p: NDArray[np.float32]) -> Iterator[slice]:
    """Yield slices of a table's rows: a million images × classes at once would fill the memory."""
    step = max(1, BLOCK // log_p.shape[1])
    for start in range(0, len(log_p), step):
        yield slice(start, start + step)


def by_rows(function: Callable[[Floats], Floats], log_p: NDArray[np.float32]) -> Floats:
    """Return a function of each row, shape (N,), computed in float64 a block of rows at a time."""
    return np.concatenate([function(log_p[b].astype(np.float64)) for b in row_blocks(log_p)])
