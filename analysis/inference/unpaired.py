"""Unpaired: runs that share no seeds but are scored on the same columns, such as test examples."""

from dataclasses import dataclass

import numpy as np

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference.gram import Floats, Gram
from bench.analysis.inference.two_way import MeanSquares
from bench.analysis.inference.weighted import Part, satterthwaite
from bench.analysis.inference.welch import welch_parts


@dataclass(frozen=True, kw_only=True)
class Runs:
    """The inner products of all runs' scores: those of the baseline first."""

    scores: Gram
    n_baseline: int

    @property
    def n_examples(self) -> int:
        """Columns that all runs share."""
        return self.scores.n_examples

    def mean_squares(self) -> MeanSquares:
        """Return what the two-way analysis needs of runs that are drawn for each arm by itself.

        The seeds' variance is Welch's; that of the columns is one of the difference of both arms'
        column means, and each arm has a residual of its own.

        Raises
        ------
        UnusableRuns : fewer than two runs of an arm, or two columns
        """
        width = self.scores.effective or self.scores.n_examples
        sums = np.array(self.scores.sums)
        sizes = self.n_baseline, sums.size - self.n_baseline
        if min(sizes) < 2 or width <= 1:
            raise UnusableRuns(
                f"{min(sizes)} runs of an arm on {self.n_examples} columns are too few to see a "
                "spread; it takes two of each"
            )
        apart = self.scores.matrix
        if self.scores.whole:
            apart = apart - np.outer(sums, sums) / width
        per_mean = apart / (width * (width - 1))
        arms = np.repeat((0, 1), sizes)
        difference = np.where(arms == 0, -1 / sizes[0], 1 / sizes[1])
        columns = float(difference @ per_mean @ difference)
        seeds = welch_parts(*(sums[arms == arm] / width for arm in (0, 1)))
        residual = [_residual(per_mean[np.ix_(arms == a, arms == a)], width) for a in (0, 1)]
        n = min(sizes)
        unit = n * width  # turns a variance of the mean into a mean square
        return MeanSquares(
            float(difference @ sums) / width,
            unit * sum(part.variance for part in seeds),
            unit * columns,
            unit * sum(part.variance for part in residual),
            n,
            width,
            (satterthwaite(seeds), width - 1, satterthwaite(residual)),
        )


def _residual(per_mean: Floats, width: float) -> Part:
    """Return the residual variance of one arm's mean."""
    n = len(per_mean)
    left = float(np.trace(per_mean)) - float(per_mean.sum()) / n
    return Part(variance=max(left, 0.0) / (n * (n - 1)), df=(n - 1) * (width - 1))
