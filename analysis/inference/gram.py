"""Gram matrix: inner products of difference rows, from which every subset's analysis follows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.analysis.inference.comparison import no_spread
from bench.analysis.inference.two_way import EXACT, MeanSquares, checked_table, require_two_of_each

Floats = NDArray[np.float64]


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
    """

    n_examples: int
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

    def mean_squares(self, keep: Sequence[int] | None = None) -> MeanSquares:
        """Return what `two_way.mean_squares` returns of the table, or of some of its rows.

        Raises
        ------
        UnusableRuns : fewer than two seeds or two examples
        """
        rows = np.arange(len(self.sums)) if keep is None else np.array(keep, dtype=np.intp)
        n, width = len(rows), self.n_examples
        require_two_of_each(n, width)
        chosen = np.bincount(rows, minlength=len(self.sums)).astype(np.float64)
        sums, columns = np.array(self.sums)[rows], float(chosen @ self.matrix @ chosen)
        cells = float(chosen @ self.matrix.diagonal())
        if self.whole:
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
            nothing = n * width * (1e-12 * self.largest) ** 2
            examples, residual = (0.0 if x <= nothing else x for x in (examples, residual))
        return MeanSquares(
            float(sums.sum()) / (n * width),
            seeds / (n - 1),
            examples / (width - 1),
            residual / ((n - 1) * (width - 1)),
            n,
            width,
        )


def gram(differences: ArrayLike) -> Gram:
    """Return the Gram matrix of a table, shape (S, N), as in `two_way`; of any S and N from 1.

    Raises
    ------
    UnusableRuns : not a table, or a value that is not finite
    """
    d = checked_table(differences)
    flat = d.ravel()
    whole = float(flat @ flat) * max(d.shape) < EXACT and bool((flat == np.rint(flat)).all())
    sums = d.sum(axis=1)
    rows = d if whole else d - sums[:, None] / d.shape[1]
    return Gram(
        n_examples=d.shape[1],
        whole=whole,
        largest=float(np.abs(flat).max()),
        sums=tuple(sums.tolist()),
        products=tuple((rows @ rows.T)[np.tril_indices(len(d))].tolist()),
    )
