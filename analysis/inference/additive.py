"""Additive fit: what would stand in a table's gaps if rows and columns simply added up?"""

import numpy as np
from numpy.typing import NDArray

from bench.analysis.errors import UnusableRuns

Floats = NDArray[np.float64]

ROUNDS = 500  # of fitting rows and columns in turn
CLOSE = 1e-12  # share of the largest value by which the last round moved the fit


def additive_fit(table: Floats) -> Floats:
    """Return a table with its gaps filled by row and column effects of the cells that are there.

    Least squares on the observed cells, so that whatever is computed of row and column means of the
    filled table is that of an unbalanced two-way layout; right if cells are missing at random.

    Parameters
    ----------
    table : shape (S, N), NaN where a cell is missing; a value in every row and every column

    Raises
    ------
    UnusableRuns : a row or column without any value, or rows and columns that share no cells

    References
    ----------
    Yates (1933), The analysis of replicated experiments when the field results are incomplete.

    Examples
    --------
    >>> additive_fit(np.array([[1.0, 2.0], [3.0, np.nan]]))
    array([[1., 2.],
           [3., 4.]])
    """
    seen = ~np.isnan(table)
    if seen.all():
        return table
    if not (seen.any(axis=0).all() and seen.any(axis=1).all()):
        raise UnusableRuns(
            "a row or a column of the table has no value at all, so none can be filled"
        )
    if not _connected(seen):
        raise UnusableRuns("some rows share no columns with the others, so gaps cannot be filled")
    filled = np.where(seen, table, 0.0)
    rows, columns = np.zeros(len(table)), np.zeros(table.shape[1])
    scale = float(np.abs(filled).max()) or 1.0
    for _ in range(ROUNDS):
        before = rows
        rows = ((filled - columns) * seen).sum(axis=1) / seen.sum(axis=1)
        columns = ((filled - rows[:, None]) * seen).sum(axis=0) / seen.sum(axis=0)
        if float(np.abs(rows - before).max()) <= CLOSE * scale:
            break
    found: Floats = np.where(seen, table, rows[:, None] + columns)
    return found


def _connected(seen: NDArray[np.bool_]) -> bool:
    """Tell whether every row is reached from the first one through columns with values in both."""
    reached, before = {0}, -1
    while len(reached) > before:
        before = len(reached)
        columns = seen[sorted(reached)].any(axis=0)
        reached = set(np.flatnonzero(seen[:, columns].any(axis=1)).tolist())
    return len(reached) == len(seen)
