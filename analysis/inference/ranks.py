"""Ranks: over several data sets, which arms are on average ranked apart?"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference.cliques import tied_groups
from bench.analysis.inference.comparison import require_level
from bench.analysis.inference.distributions import f_sf, studentized_range_isf


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Average ranks of k arms over T data sets; rank 1 is the best.

    `critical` is the half-width of the simultaneous intervals of all differences of average ranks;
    `tied` are the largest groups of arms none of which is further from another than that, as
    places in the order given.

    Examples
    --------
    >>> table = [[0.9, 0.8, 0.1], [0.8, 0.9, 0.2], [0.9, 0.7, 0.3], [0.7, 0.6, 0.2]] * 5
    >>> friedman_ranks(table).tied  # the third arm is told apart from both others
    ((0, 1),)
    """

    n: int  # data sets
    average: tuple[float, ...]
    chi_square: float
    p_value: float  # of Friedman's test, by Iman and Davenport's F
    critical: float
    level: float
    tied: tuple[tuple[int, ...], ...]


def friedman_ranks(
    values: ArrayLike, *, higher_is_better: bool = True, level: float = 0.95
) -> Ranks:
    """Rank arms within each data set and compare their average ranks.

    Parameters
    ----------
    values : shape (T, k), one value a data set and arm; equal values share their ranks
    level : that all intervals of differences hold together
    higher_is_better : whether the highest value has rank 1

    Raises
    ------
    UnusableRuns : fewer than two data sets or three arms, or a value that is not finite

    References
    ----------
    Friedman (1937), JASA 32; Iman & Davenport (1980); Nemenyi (1963), as Demšar (2006), JMLR 7,
    whose example the tests repeat.

    Examples
    --------
    >>> r = friedman_ranks([[0.9, 0.8, 0.7], [0.8, 0.7, 0.6], [0.9, 0.7, 0.8], [0.7, 0.6, 0.5]])
    >>> r.average
    (1.0, 2.25, 2.75)
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] < 2 or table.shape[1] < 3 or not np.isfinite(table).all():
        raise UnusableRuns(
            f"values of shape {table.shape} are no finite table of two or more data sets and three "
            "or more arms"
        )
    n, k = table.shape
    ranks = _ranked(-table if higher_is_better else table)
    average = ranks.mean(axis=0)
    spread = float(((average - (k + 1) / 2) ** 2).sum())
    chi_square = 12 * n * spread / (k * (k + 1))
    rest = n * (k - 1) - chi_square
    f = math.inf if rest <= 0 else (n - 1) * chi_square / rest
    p = 0.0 if math.isinf(f) else f_sf(f, k - 1, (k - 1) * (n - 1))
    studentized = studentized_range_isf(require_level(level), k)
    critical = studentized / math.sqrt(2) * math.sqrt(k * (k + 1) / (6 * n))
    order = [int(i) for i in np.argsort(average, kind="stable")]
    return Ranks(
        n=n,
        average=tuple(average.tolist()),
        chi_square=chi_square,
        p_value=p,
        critical=critical,
        level=level,
        tied=tied_groups(order, lambda i, j: abs(average[i] - average[j]) <= critical),
    )


def _ranked(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ranks within each row, the smallest 1; equal values share their mean rank."""
    one, other = table[:, :, None], table[:, None, :]
    found: NDArray[np.float64] = (other < one).sum(axis=2) + ((other == one).sum(axis=2) + 1) / 2
    return found
