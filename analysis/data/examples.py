"""Examples: one run's scores of every test example, and which examples belong together."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.analysis.data.metrics import METRICS
from bench.analysis.data.predictions import as_array
from bench.analysis.errors import Refusal

Floats = NDArray[np.float64]
LARGEST = 1e60  # of a score: fourth powers of larger ones are no numbers any more


class BadExamples(Refusal):
    """Scores of test examples that are no table of finite numbers."""

    code = "outcome"
    exit_status = 3


@dataclass(frozen=True, eq=False)
class Examples:
    """What one run scores on every test example, in an order that all runs share.

    Parameters
    ----------
    values : name of a score to shape (N,); an array or a tensor of any framework
    clusters : shape (N,), a whole number or a text: examples with the same one were drawn
        together; None: each was drawn by itself

    Raises
    ------
    BadExamples : no scores, several lengths, a value that is not a finite number, clusters that
        are no names, or only one of them
    """

    values: Mapping[str, Floats]
    clusters: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.values, Mapping) or not self.values:
            raise BadExamples(
                f"examples are {str(self.values)[:60]!r}, not a dictionary of names to arrays.",
                fix='examples={"bleu": scores}, one number an example',
            )
        values = {str(name): _numbers(str(name), given) for name, given in self.values.items()}
        first, *others = values
        for name in others:
            if len(values[name]) != len(values[first]):
                raise BadExamples(
                    f"examples[{name!r}] has {len(values[name])} values, "
                    f"examples[{first!r}] has {len(values[first])}.",
                    fix="score the same test examples by every name",
                )
        object.__setattr__(self, "values", values)
        if self.clusters is not None:
            object.__setattr__(self, "clusters", _names(self.clusters, len(values[first])))

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    @cached_property
    def _places(self) -> NDArray[np.intp] | None:
        """The cluster of each example, numbered in the order of first appearance."""
        if self.clusters is None:
            return None
        _, first, of = np.unique(self.clusters, return_index=True, return_inverse=True)
        place = np.empty(len(first), dtype=np.intp)
        place[np.argsort(first)] = np.arange(len(first))
        return place[of]

    @property
    def weights(self) -> Floats | None:
        """What each column counts, shape (G,): a cluster's examples; None where all are alike."""
        return None if self._places is None else unequal(np.bincount(self._places))

    @cached_property
    def order(self) -> bytes:
        """The clusters in the order of their examples, the same in all runs; none where alone."""
        names = () if self.clusters is None else self.clusters.tolist()
        return "\0".join(map(str, names)).encode()

    def columns(self, name: str) -> Floats:
        """Return one score of each example, shape (N,), or its mean in each cluster, shape (G,)."""
        if self._places is None:
            return self.values[name]
        return means_by(self._places, self.values[name], int(self._places.max()) + 1)


def means_by(places: NDArray[np.intp], values: Floats, size: int) -> Floats:
    """Return the mean of the values at each place, shape (size,); NaN where there is none."""
    total = np.bincount(places, weights=values, minlength=size)
    with np.errstate(invalid="ignore"):
        found: Floats = total / np.bincount(places, minlength=size)
    return found


def unequal(sizes: NDArray[Any]) -> Floats | None:
    """Return sizes as the weights of columns; None where all count alike."""
    return None if np.ptp(sizes) == 0 else sizes.astype(np.float64)


def _numbers(name: str, given: Any) -> Floats:
    found = as_array(given, f"examples[{name!r}]")
    if found.ndim != 1 or found.size == 0 or found.dtype.kind not in "biuf":
        raise BadExamples(
            f"examples[{name!r}] has shape {found.shape} and holds {found.dtype}; "
            "it needs shape (N,) and one number for each test example."
        )
    values: Floats = found.astype(np.float64)
    odd = int((~(np.abs(values) <= LARGEST)).sum())
    if odd:
        raise BadExamples(
            f"{odd} of {values.size} values of examples[{name!r}] are NaN, infinite or "
            f"beyond {LARGEST:g}.",
            fix="a number for every example; the worst one where the model gave no answer",
        )
    known = METRICS.get(name)
    if known is not None and known.unit == "fraction" and (values.min() < 0 or values.max() > 1):
        raise BadExamples(
            f"examples[{name!r}] runs from {values.min():g} to {values.max():g}; "
            f"{known.label} lies between 0 and 1.",
            fix="divide percentages by 100, or give the score another name",
        )
    values.setflags(write=False)
    return values


def _names(given: Any, n: int) -> NDArray[Any]:
    found = as_array(given, "clusters")
    if found.dtype.kind == "O" and all(isinstance(name, str) for name in found.flat):
        found = found.astype(str)
    if found.shape != (n,) or found.dtype.kind not in "iuU":
        raise BadExamples(
            f"clusters have shape {found.shape} and hold {found.dtype}; there are {n} examples.",
            facts=["A cluster is a whole number or a text, one for each example."],
        )
    if (found == found[0]).all():
        raise BadExamples(
            f"all {n} examples lie in one cluster, so nothing can be said of new ones.",
            fix="clusters=None, or a test set of several clusters",
        )
    names: NDArray[Any] = found if found.dtype.kind == "U" else found.astype(np.int64)
    return names
