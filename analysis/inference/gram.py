"""Gram matrix: inner products of difference rows, from which every subset's analysis follows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.analysis.inference.comparison import ROUNDING, no_spread
from bench.analysis.inference.two_way import EXACT, MeanSquares, checked_table, require_two_of_each
from bench.analysis.inference.weighted import Part, effective_size, satterthwaite, squares_weights

Floats = NDArray[np.float64]

BLOCK = 8192  # columns that are multiplied at a time
EXACT_SINGLE = 2.0**24  # whole numbers below this are exact in single precision


@dataclass(frozen=True, kw_only=True)
class Gram:
    """What a table of seeds × examples leaves behind: S² numbers, however many examples.

    Attributes
    ----------
    n_examples : columns of the table
    whole : the differences are whole numbers, so every sum is exact
    largest : size of the largest difference
    sums : of each row
    products : of rows s and t at place s (s + 1) / 2 + t, t up to s; of whole numbers as they are,
        of others less the rows' means, so that a large common difference costs no digits
    effective : columns of equal weight that know as much, where columns count differently; sums
        and products are then scaled as theirs would be
    filled : cells that were missing and follow from their row and column, so that they leave the
        residual no degree of freedom
    """

    n_examples: int
    effective: float | None = None
    filled: int = 0
    whole: bool
    largest: float
    sums: tuple[float, ...]
    products: tuple[float, ...]

    @cached_property
    def matrix(self) -> Floats:
        """The products as a symmetric matrix, shape (S, S)."""
        n = len(self.sums)
        full = np.zeros((n, n))
        full[np.tril_indices(n)] = self.products
        upper: Floats = full + np.tril(full, -1).T
        return upper

    def _together(self, chosen: Floats) -> float:
        """Return the inner product of the sum of these rows with itself."""
        gone = np.flatnonzero(chosen == 0)
        if 10 * gone.size > chosen.size or chosen.max() > 1:
            return float(chosen @ self.matrix @ chosen)
        lost = self._with_all[gone].sum(), self.matrix[np.ix_(gone, gone)].sum()
        return float(self._with_all.sum() - 2 * lost[0] + lost[1])  # of all but a few: fewer sums

    @cached_property
    def _with_all(self) -> Floats:
        """The products of each row with the sum of all."""
        found: Floats = self.matrix.sum(axis=1)
        return found

    def mean_squares(self, keep: Sequence[int] | None = None) -> MeanSquares:
        """Return what `two_way.mean_squares` returns of the table, or of some of its rows.

        Raises
        ------
        UnusableRuns : fewer than two seeds or two examples
        """
        rows = np.arange(len(self.sums)) if keep is None else np.array(keep, dtype=np.intp)
        n, width = len(rows), self.effective or self.n_examples
        require_two_of_each(n, width)
        chosen = np.bincount(rows, minlength=len(self.sums)).astype(np.float64)
        sums, columns = np.array(self.sums)[rows], self._together(chosen)
        cells = float(chosen @ self.matrix.diagonal())
        if self.whole and isinstance(width, int):
            total, squares = int(sums.sum()), int(sums @ sums)
            seeds = (n * squares - total**2) / (n * width)
            examples = (width * int(columns) - total**2) / (n * width)
            within = n * width * int(cells) - n * squares - width * int(columns) + total**2
            residual = within / (n * width)
        else:
            means = sums / width
            seeds = 0.0
            if not no_spread(means, scale=self.largest):
                seeds = width * float(((means - means.mean()) ** 2).sum())
            examples = float(columns) / n
            residual = float(cells) - examples
            # What is left of sums that are zero but for rounding must not pass for a spread.
            nothing = n * width * (ROUNDING * self.largest) ** 2
            examples, residual = (0.0 if x <= nothing else x for x in (examples, residual))
        left = max(1.0, (n - 1) * (width - 1) - self.filled * n / len(self.sums))
        return MeanSquares(
            float(sums.sum()) / (n * width),
            seeds / (n - 1),
            examples / (width - 1),
            residual / left,
            n,
            width,
            (n - 1.0, width - 1.0, left) if self.filled else None,
        )


@dataclass(frozen=True, kw_only=True)
class Strata:
    """Gram matrices of the columns of several strata, such as data sets, each counting alike."""

    parts: tuple[Gram, ...]

    @property
    def n_examples(self) -> int:
        """Columns of all strata."""
        return sum(part.n_examples for part in self.parts)

    def mean_squares(self, keep: Sequence[int] | None = None) -> MeanSquares:
        """Return the mean squares of the mean over strata; columns vary within their stratum.

        Raises
        ------
        UnusableRuns : fewer than two seeds, or two examples in a stratum
        """
        each = [part.mean_squares(keep) for part in self.parts]
        size, n = len(each), each[0].n_seeds
        examples, residual = (
            [Part(variance=v, df=df) for v, df in pairs]
            for pairs in (
                [(of.examples / (n * of.n_examples), of.n_examples - 1) for of in each],
                [(of.residual / (n * of.n_examples), (n - 1) * (of.n_examples - 1)) for of in each],
            )
        )
        rows = np.arange(len(self.parts[0].sums)) if keep is None else np.array(keep, dtype=np.intp)
        means = np.mean(
            [np.array(p.sums)[rows] / (p.effective or p.n_examples) for p in self.parts], axis=0
        )
        flat = no_spread(means, scale=max(part.largest for part in self.parts))
        unit = n * self.n_examples / size**2  # turns a variance of the mean into a mean square
        return MeanSquares(
            float(means.mean()),
            0.0 if flat else self.n_examples * float(means.var(ddof=1)),
            unit * sum(part.variance for part in examples),
            unit * sum(part.variance for part in residual),
            n,
            self.n_examples,
            (n - 1.0, satterthwaite(examples), satterthwaite(residual)),
        )


def gram(
    differences: ArrayLike,
    weights: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    *,
    filled: int = 0,
) -> Gram | Strata:
    """Return the Gram matrix of a table, shape (S, N), as in `two_way`; of any S and N from 1.

    Parameters
    ----------
    differences : shape (S, N)
    weights : shape (N,), what each column counts within its stratum, positive; equal by default
    strata : shape (N,), the stratum of each column; one by default
    filled : cells of it that are no observations, `additive_fit`'s

    Raises
    ------
    UnusableRuns : not a table, or a value that is not finite
    """
    d = checked_table(differences)
    raw = None if weights is None else np.asarray(weights, dtype=np.float64)
    if strata is not None:
        _, of = np.unique(strata, return_inverse=True)
        places = [np.flatnonzero(of == t) for t in range(int(of.max()) + 1)]
        return Strata(
            parts=tuple(
                replace(
                    _gram(d[:, at], None if raw is None else raw[at]),
                    filled=round(filled * at.size / d.shape[1]),
                )
                for at in places
            )
        )
    return replace(_gram(d, raw), filled=filled)


def _gram(d: Floats, weights: Floats | None) -> Gram:
    if weights is None or no_spread(weights, scale=float(weights.max())):
        return _equal(d)
    shares = weights / weights.sum()
    size, sums = effective_size(shares), d @ shares
    apart = d - sums[:, None]
    scaled = size * (size - 1) * (apart * squares_weights(shares)) @ apart.T
    return Gram(
        n_examples=d.shape[1],
        effective=size,
        whole=False,
        largest=float(np.abs(d).max()),
        sums=tuple((size * sums).tolist()),
        products=tuple(scaled[np.tril_indices(len(d))].tolist()),
    )


def _equal(d: NDArray[Any]) -> Gram:
    largest = max(float(d.max()), -float(d.min()))
    sums = d.sum(axis=1, dtype=np.float64)
    squares = sum(float(np.square(row, dtype=np.float64).sum()) for row in d)
    whole = squares * max(d.shape) < EXACT and (
        d.dtype == np.int8 or all(bool((row == np.rint(row)).all()) for row in d)
    )
    shift = np.zeros(len(d)) if whole else sums / d.shape[1]
    return Gram(
        n_examples=d.shape[1],
        whole=whole,
        largest=largest,
        sums=tuple(sums.tolist()),
        products=tuple(_products(d, shift, largest, whole)[np.tril_indices(len(d))].tolist()),
    )


def _products(d: NDArray[Any], shift: Floats, largest: float, whole: bool) -> Floats:
    """Return the inner products of the rows less their shift, some columns at a time.

    Whole numbers are multiplied in single precision where every sum of a block is exact in it.
    """
    single = whole and BLOCK * largest**2 < EXACT_SINGLE
    found = np.zeros((len(d), len(d)))
    for start in range(0, d.shape[1], BLOCK):
        part: NDArray[Any] = d[:, start : start + BLOCK].astype("float32" if single else "float64")
        if not whole:
            part -= shift[:, None]
        found += part @ part.T
    return found
