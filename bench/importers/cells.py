"""Cells: a long table as arms × rows × columns, with what is missing refused or counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.analysis.data.examples import means_by
from bench.analysis.errors import UnusableRuns
from bench.analysis.inference.additive import additive_fit
from bench.importers.layout import BadPairs, column_of

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Cells:
    """Values of every metric by arm, row and column.

    Attributes
    ----------
    values : metric to shape (A, S, N), NaN where a run has no value; or int8 without gaps
    arms, rows, columns : what they are called; a row or column of several names as a tuple
    sizes : shape (N,), distinct examples of each column
    dropped : rows with a missing run
    filled : cells of runs that have others, filled by the additive fit
    """

    values: dict[str, Floats]
    arms: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    columns: tuple[tuple[str, ...], ...]
    sizes: NDArray[Any]
    dropped: tuple[str, ...] = ()
    filled: int = 0


def cells_of(
    long: pd.DataFrame,
    arms: Sequence[str],
    metrics: Sequence[str],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
) -> Cells:
    """Return the mean of the values of each arm, row and column.

    Parameters
    ----------
    long : one row a value
    rows, columns : the table's columns that together name a row, and a column
    """
    arm = pd.Categorical(long["arm"], categories=list(arms)).codes.astype(np.intp)
    row, row_names = _numbered(long, rows)
    column, column_names = _numbered(long, columns)
    shape = (len(arms), len(row_names), len(column_names))
    place = np.ravel_multi_index((arm, row, column), shape)
    values = {}
    for metric in metrics:
        given = long[column_of(metric)].to_numpy(dtype=np.float64)
        seen = ~np.isnan(given)
        size = int(np.prod(shape))
        values[metric] = means_by(place[seen], given[seen], size).reshape(shape)
    examples = pd.DataFrame({"column": column})
    examples["example"] = long["example"].to_numpy() if "example" in long else np.arange(len(long))
    if "example" not in long:  # each row of the first run is an example of its own
        examples = examples[(arm == arm[0]) & (row == row[0])]
    sizes = examples.drop_duplicates().groupby("column").size()
    return Cells(
        values=values,
        arms=tuple(arms),
        rows=row_names,
        columns=column_names,
        sizes=sizes.reindex(range(len(column_names)), fill_value=1).to_numpy(),
    )


def _numbered(
    long: pd.DataFrame, names: Sequence[str]
) -> tuple[NDArray[Any], tuple[tuple[str, ...], ...]]:
    """Return each row's number, in the order of first appearance, and what they stand for."""
    if not names:
        return np.zeros(len(long), dtype=np.intp), ((),)
    if len(names) == 1:
        codes, found = pd.factorize(long[names[0]])
        return codes, tuple((str(name),) for name in found)
    several = long.groupby(list(names), sort=False).ngroup().to_numpy(dtype=np.intp)
    first = long[list(names)].drop_duplicates()
    return several, tuple(tuple(map(str, row)) for row in first.itertuples(index=False, name=None))


def complete(cells: Cells, path: Path, *, allow_missing: bool) -> Cells:
    """Return the cells without gaps inside a run; whole runs may be missing, with leave.

    Raises
    ------
    BadPairs : something is missing and leave was not given, or nothing is left
    """
    if all(table.dtype == np.int8 for table in cells.values.values()):
        return cells  # whole numbers have no gaps
    gone = np.any([np.isnan(table) for table in cells.values.values()], axis=0)
    if not gone.any():
        return cells
    runs = gone.all(axis=2)
    if not allow_missing:
        _refuse_missing(cells, gone, path)
    if runs.any(axis=0).all():
        raise BadPairs(
            f"{path.name} has no pair with a value in every arm.",
            facts=[f"Arms: {', '.join(cells.arms)}."],
            fix="check the column of pairs",
        )
    inside = gone & ~runs[:, :, None]
    values = dict(cells.values)
    for metric, table in values.items():
        table = np.where(runs[:, :, None], np.nan, table)
        for arm in np.flatnonzero(inside.any(axis=(1, 2))):
            table[arm, ~runs[arm]] = _filled(table[arm, ~runs[arm]], path)
        values[metric] = table
    dropped = tuple(", ".join(cells.rows[i]) or "the run" for i in np.flatnonzero(runs.any(axis=0)))
    return Cells(
        values=values,
        arms=cells.arms,
        rows=cells.rows,
        columns=cells.columns,
        sizes=cells.sizes,
        dropped=dropped,
        filled=int(inside.sum()),
    )


def _filled(table: Floats, path: Path) -> Floats:
    try:
        return additive_fit(table)
    except UnusableRuns as refusal:
        raise BadPairs(
            f"{path.name}: {refusal.what}, so what is missing cannot be filled.",
            fix="leave out the columns that a run lacks, with where",
        ) from None


def _refuse_missing(cells: Cells, gone: NDArray[np.bool_], path: Path) -> None:
    arm, row, column = (int(place) for place in np.argwhere(gone.transpose(1, 0, 2))[0][[1, 0, 2]])
    where = ", ".join((*cells.rows[row], *cells.columns[column]))
    counts = " and ".join(f"{int((~gone[i]).sum())} {name}" for i, name in enumerate(cells.arms))
    raise BadPairs(
        f"{path.name} has {counts} values; pair {where} has no {cells.arms[arm]}.",
        facts=[
            "Dropping a pair can bias the result, so it is not dropped silently.",
            "With allow_missing the missing value counts as a failed run, also at its worst."
            if len(cells.columns) == 1
            else "With allow_missing a missing run counts as failed; a gap inside a run is filled "
            "from the run and the column it lies in, right if values are missing at random.",
        ],
        fix="add the missing value, or",
        options=[("allow_missing", True)],
    )
