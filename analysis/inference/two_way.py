"""Two-way: does the difference hold for new seeds and new test examples together?"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference.comparison import Comparison, no_spread, require_level
from bench.analysis.inference.distributions import t_isf

EXACT = 2.0**53  # whole numbers below this are sums without rounding


class MeanSquares(NamedTuple):
    """What a crossed analysis of variance needs of a table of seeds × examples.

    Of columns that count differently, or lie in strata, they are scaled so that each mean square
    over `n_seeds` × `n_examples` is its variance of the mean; `n_examples` is then the number of
    columns of equal weight that know as much, and `df` the degrees of freedom of seeds, examples
    and residual, where these do not follow from the numbers.
    """

    difference: float  # mean of the table
    seeds: float
    examples: float
    residual: float
    n_seeds: int
    n_examples: float
    df: tuple[float, float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class TwoWay(Comparison):
    """A comparison whose interval covers both the seeds and the test examples drawn.

    `standard_error` is the square root of V, `df` is Satterthwaite's. Mean squares and variances
    are in squared metric units; the variances are those of one seed, one example and one
    (seed, example) cell, with negative estimates put to 0.

    Examples
    --------
    >>> found = two_way([[1, 0, 2, 1], [2, 1, 3, 0], [0, 1, 4, 2]])
    >>> found.interval(0.95) == (found.low, found.high)
    True
    >>> round(found.variance_examples, 4)  # (3.416667 - 0.916667) / 3
    0.8333
    """

    standard_error: float
    df: float
    n_examples: float
    df_examples: float  # behind the variance of the examples
    ms_seeds: float
    ms_examples: float
    ms_residual: float
    variance_seeds: float
    variance_examples: float
    variance_residual: float

    @property
    def variance_floor(self) -> float:
        """Variance of the difference that no number of seeds averages out (B)."""
        return self.variance_examples / self.n_examples

    @property
    def variance_per_seed(self) -> float:
        """Variance that n seeds divide by n (A), so that V = A / n + B."""
        return self.n * max(self.standard_error**2 - self.variance_floor, 0.0)

    def interval(self, level: float) -> tuple[float, float]:
        """Return the limits at another coverage, from the same error and df."""
        reach = t_isf(require_level(level) / 2, self.df) * self.standard_error
        return self.difference - reach, self.difference + reach


def two_way(differences: ArrayLike, *, level: float = 0.95) -> TwoWay:
    """Compare two variants by the differences of every seed on every test example.

    Seeds and examples are crossed random effects: every seed is scored on the same examples, and
    both are a sample of those that could have been drawn.

    Parameters
    ----------
    differences : shape (S, N), per-example metric of the treatment minus that of the baseline,
        seed by seed; any metric that is a mean over examples (accuracy, nll, brier). Differences
        that are whole numbers (accuracy) are summed exactly
    level : coverage of the interval, between 0 and 1

    Raises
    ------
    UnusableRuns : not a table, fewer than two seeds or two examples, a non-finite value, or no
        spread

    References
    ----------
    Searle, Casella & McCulloch (1992), Variance Components, ch. 4; Satterthwaite (1946),
    Biometrics Bulletin 2(6); Owen (2007), Annals of Applied Statistics 1(2).

    Examples
    --------
    Three seeds on four examples; the mean squares are those that statsmodels'
    anova_lm(ols("v ~ C(seed) + C(example)")) prints.

    >>> found = two_way([[1, 0, 2, 1], [2, 1, 3, 0], [0, 1, 4, 2]])
    >>> [round(ms, 6) for ms in (found.ms_seeds, found.ms_examples, found.ms_residual)]
    [0.583333, 3.416667, 0.916667]
    >>> round(found.difference, 4), round(found.low, 2), round(found.high, 2)
    (1.4167, -0.36, 3.19)
    """
    return two_way_from_mean_squares(*mean_squares(differences), level=level)


def mean_squares(differences: ArrayLike) -> MeanSquares:
    """Return the mean squares of a table; what two_way refuses about its shape, this does too."""
    d = _table(differences)
    n_seeds, n_examples = d.shape
    total, seeds, examples, residual = _sums_of_squares(d)
    return MeanSquares(
        total / d.size,
        seeds / (n_seeds - 1),
        examples / (n_examples - 1),
        residual / ((n_seeds - 1) * (n_examples - 1)),
        n_seeds,
        n_examples,
    )


def effective_df(differences: ArrayLike) -> tuple[float, float]:
    """Return the degrees of freedom of the mean squares of examples and of the residual.

    Those that the squares of the table itself show: of normal effects N - 1 and (S - 1)(N - 1),
    and never more; fewer where few examples make most of the spread, as with right and wrong
    answers, of which most do not depend on the arm.

    Parameters
    ----------
    differences : as in `two_way`

    Raises
    ------
    UnusableRuns : what `two_way` refuses about the table's shape and values

    References
    ----------
    Shoemaker (2003), The American Statistician 57(2), for degrees of freedom by kurtosis.

    Examples
    --------
    Where one example of ten has all of the spread, their squares have a mean of 7.29 and a variance
    of 377.91, so that 2 x 10 x 7.29^2 / 377.91 = 2.81 is left of 9.

    >>> even = [[1, -1] * 50, [-1, 1] * 50, [1, -1] * 50]
    >>> rare = [[9] + [0] * 9] * 3
    >>> effective_df(even)[0], round(effective_df(rare)[0], 2)
    (99.0, 2.81)
    """
    d = checked_table(differences)
    require_two_of_each(*d.shape)
    n, width = d.shape
    seeds, example = d.mean(axis=1), d.mean(axis=0) - d.mean()
    within = np.zeros(width)
    for row, seed in zip(d, seeds, strict=True):
        within += (row - seed - example) ** 2
    return _matching_df(example**2, width - 1), _matching_df(within, (n - 1) * (width - 1))


def _matching_df(squares: NDArray[np.float64], most: int) -> float:
    """Return the df of the chi-square that varies as the mean of these independent squares."""
    largest = float(squares.max())
    if largest == 0:
        return float(most)
    parts = squares / largest  # so that metrics in very small units do not underflow
    spread = float(parts.var())
    enough = 2 * parts.size * float(parts.mean()) ** 2
    return enough / spread if enough < most * spread else float(most)


def two_way_from_mean_squares(
    difference: float,
    ms_seeds: float,
    ms_examples: float,
    ms_residual: float,
    n_seeds: int,
    n_examples: float,
    df: tuple[float, float, float] | None = None,
    *,
    level: float = 0.95,
) -> TwoWay:
    """Return what `two_way` returns, from the numbers it is made of.

    Parameters
    ----------
    difference : mean of the table, in metric units
    ms_seeds, ms_examples, ms_residual : mean squares of the crossed analysis of variance
    n_seeds, n_examples : rows and columns of the table, two or more of each
    df : degrees of freedom of the three mean squares, where they do not follow from the numbers
    level : coverage of the interval, between 0 and 1

    Raises
    ------
    UnusableRuns : fewer than two seeds or examples, or all mean squares zero (no spread)

    References
    ----------
    As for `two_way`.

    Examples
    --------
    >>> table = [[1, 0, 2, 1], [2, 1, 3, 0], [0, 1, 4, 2]]
    >>> again = two_way_from_mean_squares(17 / 12, 7 / 12, 41 / 12, 11 / 12, 3, 4)
    >>> round(again.p_value - two_way(table).p_value, 12)
    0.0
    """
    require_two_of_each(n_seeds, n_examples)
    if max(ms_seeds, ms_examples) <= 0:  # V is 0, whatever cancels out inside the table
        raise UnusableRuns(
            f"all {n_seeds} seed pairs differ by {difference:g} on each of {n_examples} test "
            "examples, so there is no spread to test; "
            "check that the seed and the variant's settings reach train()"
        )
    # The sum can fall below a one-way variance by chance alone; the larger one is kept.
    spread = max(ms_seeds + ms_examples - ms_residual, ms_seeds, ms_examples)
    error = math.sqrt(spread / (n_seeds * n_examples))
    a, b = n_seeds - 1, n_examples - 1
    dfs = df or (a, b, a * b)
    parts = zip((ms_seeds, ms_examples, ms_residual), dfs, strict=True)
    # As shares of the spread, so that metrics in very small units do not underflow.
    total = sum((square / spread) ** 2 / each for square, each in parts if square > 0)
    return TwoWay.student(
        name="two_way",
        n=n_seeds,
        difference=difference,
        error=error,
        df=max(1.0, 1 / total),
        level=level,
        n_examples=n_examples,
        df_examples=dfs[1],
        ms_seeds=ms_seeds,
        ms_examples=ms_examples,
        ms_residual=ms_residual,
        variance_seeds=max(ms_seeds - ms_residual, 0.0) / n_examples,
        variance_examples=max(ms_examples - ms_residual, 0.0) / n_seeds,
        variance_residual=ms_residual,
    )


def require_two_of_each(n_seeds: int, n_examples: float) -> None:
    """Refuse a table in which seeds or examples cannot show how they vary.

    Raises
    ------
    UnusableRuns : fewer than two of either
    """
    if n_seeds < 2:
        raise UnusableRuns(
            f"{n_seeds} seed pair is too few to see a spread; run at least 2, better 20"
        )
    if n_examples < 2:
        raise UnusableRuns(
            f"{n_examples} test example is too few to see how examples vary; "
            'score at least 2, or ask for the scope "seeds"'
        )


def _table(differences: ArrayLike) -> NDArray[np.float64]:
    d = checked_table(differences)
    require_two_of_each(*d.shape)
    return np.asarray(d, dtype=np.float64)


def checked_table(differences: ArrayLike) -> NDArray[Any]:
    """Return differences as a table of finite numbers, one row a seed: float64, or int8 as given.

    Raises
    ------
    UnusableRuns : not a table, or a value that is not finite
    """
    d = np.asarray(differences)
    d = d if d.dtype == np.int8 else d.astype(np.float64, copy=False)
    if d.ndim != 2:
        raise UnusableRuns(
            f"the differences have shape {d.shape}; a two-way analysis needs (S, N): "
            "one row a seed, one column a test example"
        )
    if d.dtype != np.int8 and not np.isfinite(d).all():
        bad = ~np.isfinite(d).all(axis=1)
        raise UnusableRuns(
            f"{int(bad.sum())} of {len(d)} seed pairs hold a value that is not finite, the first "
            f"at position {int(bad.argmax())}; a failed run has no value: leave its pair out and "
            "count it"
        )
    return d


def _sums_of_squares(d: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Return the total and the sums of squares of seeds, examples and residual."""
    n_seeds, n_examples = d.shape
    flat = d.ravel()
    if no_spread(flat, scale=float(np.abs(flat).max())):
        return float(flat.sum()), 0.0, 0.0, 0.0
    rows, columns, square = d.sum(axis=1), d.sum(axis=0), float(flat @ flat)
    if square * max(d.shape) < EXACT and bool((flat == np.rint(flat)).all()):
        total, seeds, examples = int(rows.sum()), int(rows @ rows), int(columns @ columns)
        between_seeds = n_seeds * seeds - total**2
        between_examples = n_examples * examples - total**2
        within = d.size * int(square) - n_seeds * seeds - n_examples * examples + total**2
        return total, between_seeds / d.size, between_examples / d.size, within / d.size
    mean = float(d.mean())
    seed, example = rows / n_examples - mean, columns / n_seeds - mean
    # A row at a time: the whole residual table would double the memory.
    within_rows = (row - (shift + mean) - example for row, shift in zip(d, seed, strict=True))
    return (
        float(rows.sum()),
        n_examples * float(seed @ seed),
        n_seeds * float(example @ example),
        math.fsum(float(rest @ rest) for rest in within_rows),
    )
