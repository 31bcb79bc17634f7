"""Pairs: both arms on the same units, and what their columns say of the difference."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference import TwoWay, corrected_t, paired_t, weighted_t, welch
from bench.analysis.inference.comparison import Comparison, seed_differences
from bench.analysis.inference.gram import Gram, Strata, gram
from bench.analysis.inference.two_way import MeanSquares, two_way_from_mean_squares
from bench.analysis.inference.unpaired import Runs
from bench.analysis.inference.welch import Published, welch_of_published

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Both arms on the same seeds (or folds, examples, data sets), one value a unit.

    `crossed` stands for the differences of every unit on every column (a test example, a cluster
    of them), where these are known; `effective_df` are the degrees of freedom of the mean squares
    of examples and residual that the kurtosis of the differences leaves: of all pairs, from the
    predictions alone.

    `weights` say what each unit counts within its stratum, `strata` in which one (a data set) it
    lies; None: all count alike, in one. `test_share` is n_test / n_train of folds. Where the arms
    share nothing (`independent`) their values may differ in number, and there are no differences.
    """

    seeds: tuple[int, ...]
    baseline: tuple[float, ...]
    treatment: tuple[float, ...]
    crossed: Gram | Strata | Runs | None = None
    effective_df: tuple[float, float] | None = None
    weights: tuple[float, ...] | None = None
    strata: tuple[int, ...] | None = None
    test_share: float | None = None
    independent: bool = False
    published: tuple[Published, Published] | None = None  # baseline and treatment: no values known
    sets: tuple["DataSet", ...] = ()  # each data set's own pairs, where there are several
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

    @classmethod
    def in_strata(
        cls,
        seeds: Sequence[int],
        baseline: Floats,
        treatment: Floats,
        strata: ArrayLike,
        *,
        means: bool,
    ) -> "Paired":
        """Return the pairs of several strata, or one pair for each: its means.

        Parameters
        ----------
        strata : shape (n,), in which stratum each pair lies
        means : ask of new strata, not of these ones
        """
        of = np.asarray(strata, dtype=np.intp)
        if not means:
            return replace(cls.of(seeds, baseline, treatment), strata=tuple(map(int, of)))
        names = np.unique(of)
        both = [[values[of == t].mean() for t in names] for values in (baseline, treatment)]
        return cls.of([int(t) for t in names], *both)

    @property
    def n(self) -> int:
        """Pairs; of independent arms the runs of the smaller one."""
        return min(self.sizes)

    @property
    def sizes(self) -> tuple[int, int]:
        """Runs of the baseline and of the treatment."""
        if self.published is not None:
            return self.published[0].n, self.published[1].n
        return len(self.baseline), len(self.treatment)

    @property
    def alike(self) -> bool:
        """Whether every unit counts alike and is drawn by itself, as seeds are."""
        return self.weights is None and self.strata is None and self.test_share is None

    @cached_property
    def differences(self) -> Floats:
        """Treatment minus baseline, one a pair; none where the arms share nothing."""
        if self.independent:
            return np.zeros(0)
        found: Floats = np.array(self.treatment) - np.array(self.baseline)
        return found

    @property
    def series(self) -> Floats:
        """The differences as they came; of several strata their mean, a pair of each at a time."""
        if self.strata is None:
            return self.differences
        parts = [self.differences[np.array(self.strata) == t] for t in np.unique(self.strata)]
        found: Floats = np.mean([part[: min(map(len, parts))] for part in parts], axis=0)
        return found

    @property
    def mean(self) -> float | None:
        """The estimate: the mean difference, as the units count; None without a pair."""
        if self.n == 0:
            return None
        if self.published is not None:
            return self.published[1].mean - self.published[0].mean
        return float(self.mean_of(self.treatment) - self.mean_of(self.baseline))

    def mean_of(self, values: Sequence[float]) -> float:
        """Return the mean of one arm's values, as the units count."""
        of = np.array(values)
        if self.independent:
            return float(of.mean())
        weights = np.ones(of.size) if self.weights is None else np.array(self.weights)
        strata = np.zeros(of.size, dtype=np.intp) if self.strata is None else np.array(self.strata)
        names = np.unique(strata)
        return float(
            np.mean([np.average(of[strata == t], weights=weights[strata == t]) for t in names])
        )

    @property
    def n_examples(self) -> int | None:
        """Columns, or None where only each run's value is known."""
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
        if isinstance(self.crossed, Runs):
            return self.crossed.mean_squares()
        return self.crossed.mean_squares(self.keep)

    def two_way(self, *, level: float = 0.95) -> TwoWay:
        """Return the two-way analysis of all pairs.

        Raises
        ------
        UnusableRuns : seeds that change nothing, no predictions, or no spread
        """
        if not self.independent:
            seed_differences(self.baseline, self.treatment)
        return two_way_from_mean_squares(*self.mean_squares, level=level)

    def one_way(self, *, level: float = 0.95) -> Comparison:
        """Return the analysis of the units alone, whatever they are scored on.

        Raises
        ------
        UnusableRuns : too few units, or no spread
        """
        if self.published is not None:
            return welch_of_published(*self.published, level=level)
        if self.independent:
            return welch(self.baseline, self.treatment, level=level)
        if self.test_share is not None:
            share = self.test_share
            return corrected_t(self.baseline, self.treatment, test_share=share, level=level)
        if self.alike:
            return paired_t(self.baseline, self.treatment, level=level)
        return weighted_t(self.differences, self.weights, self.strata, level=level)

    def take(self, keep: Sequence[int]) -> "Paired":
        """Return some of the pairs, by their positions, the same object whenever asked again."""
        key = tuple(keep)
        if key not in self._taken:
            self._taken[key] = _Some(
                seeds=tuple(self.seeds[i] for i in key),
                baseline=tuple(self.baseline[i] for i in key),
                treatment=tuple(self.treatment[i] for i in key),
                weights=None if self.weights is None else tuple(self.weights[i] for i in key),
                strata=None if self.strata is None else tuple(self.strata[i] for i in key),
                test_share=self.test_share,
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
class DataSet:
    """One data set's pairs."""

    name: str
    pairs: Paired


@dataclass(frozen=True, kw_only=True)
class _Some(Paired):
    """Some of the pairs, by their positions; the inner products stay those of all."""

    whole: Paired
    keep: tuple[int, ...]  # type: ignore[misc]

    def take(self, keep: Sequence[int]) -> Paired:
        return self.whole.take([self.keep[i] for i in keep])
