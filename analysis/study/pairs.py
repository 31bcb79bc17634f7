"""Pairs: both arms on the same seeds, and what their test examples say of the difference."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference import TwoWay
from bench.analysis.inference.comparison import seed_differences
from bench.analysis.inference.gram import Gram, gram
from bench.analysis.inference.two_way import MeanSquares, two_way_from_mean_squares

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Both arms on the same seeds, one value a seed.

    `crossed` stands for the differences of every seed on every test example, where these are
    known; `effective_df` are the degrees of freedom of the mean squares of examples and residual
    that the kurtosis of the differences leaves: of all pairs, from the predictions alone.
    """

    seeds: tuple[int, ...]
    baseline: tuple[float, ...]
    treatment: tuple[float, ...]
    crossed: Gram | None = None
    effective_df: tuple[float, float] | None = None
    keep: ClassVar[tuple[int, ...] | None] = None  # rows of `crossed`; None: all

    @classmethod
    def of(
        cls,
        seeds: Sequence[int],
        baseline: ArrayLike,
        treatment: ArrayLike,
        examples: ArrayLike | None = None,
    ) -> "Paired":
        """Return the pairs of two arms.

        Parameters
        ----------
        baseline, treatment : shape (n,), one value a seed
        examples : shape (n, N), treatment minus baseline of every test example

        Raises
        ------
        UnusableRuns : examples that are no table of finite numbers
        """
        return cls(
            seeds=tuple(seeds),
            baseline=tuple(np.asarray(baseline, dtype=np.float64).tolist()),
            treatment=tuple(np.asarray(treatment, dtype=np.float64).tolist()),
            crossed=None if examples is None else gram(examples),
        )

    @property
    def n(self) -> int:
        """Seed pairs."""
        return len(self.seeds)

    @cached_property
    def differences(self) -> Floats:
        """Treatment minus baseline, one a seed."""
        found: Floats = np.array(self.treatment) - np.array(self.baseline)
        return found

    @property
    def n_examples(self) -> int | None:
        """Test examples, or None where only each run's value is known."""
        return None if self.crossed is None else self.crossed.n_examples

    @cached_property
    def mean_squares(self) -> MeanSquares:
        """What the two-way analysis needs of all pairs.

        Raises
        ------
        UnusableRuns : no predictions, or fewer than two seeds or examples
        """
        if self.crossed is None:
            raise UnusableRuns("there are no predictions per test example")
        return self.crossed.mean_squares(self.keep)

    def two_way(self, *, level: float = 0.95) -> TwoWay:
        """Return the two-way analysis of all pairs.

        Raises
        ------
        UnusableRuns : seeds that change nothing, no predictions, or no spread
        """
        seed_differences(self.baseline, self.treatment)
        return two_way_from_mean_squares(*self.mean_squares, level)

    def take(self, keep: Sequence[int]) -> "Paired":
        """Return some of the pairs, by their positions, the same object whenever asked again."""
        key = tuple(keep)
        if key not in self._taken:
            self._taken[key] = _Some(
                seeds=tuple(self.seeds[i] for i in key),
                baseline=tuple(self.baseline[i] for i in key),
                treatment=tuple(self.treatment[i] for i in key),
                crossed=self.crossed,
                whole=self,
                keep=key,
            )
        return self._taken[key]

    def first(self, n: int) -> "Paired":
        """Return the first n pairs."""
        return self.take(range(n))

    def without(self, position: int) -> "Paired":
        """Return all pairs but one."""
        return self.take([i for i in range(self.n) if i != position])

    @cached_property
    def _taken(self) -> dict[tuple[int, ...], "Paired"]:
        return {tuple(range(self.n)): self}


@dataclass(frozen=True, kw_only=True)
class _Some(Paired):
    """Some of the pairs, by their positions; the inner products stay those of all."""

    whole: Paired
    keep: tuple[int, ...]  # type: ignore[misc]

    def take(self, keep: Sequence[int]) -> Paired:
        return self.whole.take([self.keep[i] for i in keep])
