"""The cells of a table as the tables of a study: trials, scores and items."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bench.analysis.data.examples import unequal
from bench.analysis.data.tables import TRIAL_COLUMNS, Columns, Design, Tables
from bench.analysis.data.units import Units
from bench.importers import rows
from bench.importers.cells import Cells, cells_of
from bench.importers.layout import BadPairs, Layout


def cells_by_units(long: pd.DataFrame, layout: Layout, units: Units, arms: Sequence[str]) -> Cells:
    """Return the values by arm, row and column, as the units say what these are."""
    own = ["dataset"] if units.nested else []
    row_names = [*own, *(name for name in ("seed", "fold") if name in long)]
    if units.rows == "folds" and "repeat" in long:
        row_names.append("repeat")
    column_names = [] if units.nested or "dataset" not in long else ["dataset"]
    if units.columns in ("clusters", "examples"):
        column_names.append("cluster" if units.columns == "clusters" else "example")
    if not units.paired:
        of_arm = long.groupby("arm")
        named = of_arm["seed"].transform(_in_order) if "seed" in long else of_arm.cumcount()
        long, row_names = long.assign(run=named), ["run"]
    return cells_of(long, arms, layout.every_metric, rows=row_names, columns=column_names)


def require_whole_runs(long: pd.DataFrame, cells: Cells, arms: Sequence[str], path: Path) -> None:
    """Refuse unpaired runs of which some lack columns that others have."""
    for a, arm in enumerate(arms):
        n = _n_runs(long[long["arm"] == arm])
        gone = np.isnan(cells.values[next(iter(cells.values))][a, :n])
        if len(cells.columns) > 1 and gone.any():
            raise BadPairs(
                f"{path.name}: {int(gone.any(axis=1).sum())} of {n} runs of {arm} lack scores that "
                "others have.",
                fix="give every run the same columns",
            )
    values = next(iter(cells.values.values()))
    if len(cells.columns) == 1 and np.isin(values[~np.isnan(values)], (0, 1)).all():
        raise rows.UnknownRows(
            "every value is 0 or 1, as answers to test examples are, and no column names these.",
            facts=["As runs that share nothing they would say nothing of either."],
            fix="add a column of test examples, and name it:",
            options=[("example", "COLUMN")],
        )


def _in_order(names: pd.Series) -> pd.Series:
    return pd.Series(pd.factorize(names)[0], index=names.index)


def study_tables(long: pd.DataFrame, cells: Cells, design: Design, units: Units) -> Tables:
    """Return the cells as trials, scores and items."""
    metrics, seeds = list(cells.values), list(seed_numbers(cells))
    lacking = np.zeros((len(cells.arms), len(seeds)), dtype=bool)
    for table in cells.values.values():
        if table.dtype != np.int8:
            lacking |= np.isnan(table).all(axis=2)
    columns, items = _columns(cells, units), {}
    trials, scores = [], []
    for a, arm in enumerate(cells.arms):
        for s, seed in enumerate(seeds):
            if not units.paired and s >= _n_runs(long[long["arm"] == arm]):
                continue
            trials.append((arm, seed, "failed" if lacking[a, s] else "finished"))
            if lacking[a, s]:
                continue
            for metric in metrics:
                values = cells.values[metric][a, s]
                scores.append((arm, seed, metric, float(columns.mean(values[None])[0])))
            if units.columns != "none" and len(cells.columns) > 1:
                items[arm, seed] = {m: cells.values[m][a, s] for m in metrics}
    frame = pd.DataFrame(trials, columns=["arm", "seed", "status"])
    frame["reason"] = np.where(frame.status == "failed", "no value in the file", "")
    sets = {name: i for i, name in enumerate(units.datasets)}
    return Tables(
        trials=frame.assign(device="", duration_s=np.nan, environment="{}")[list(TRIAL_COLUMNS)],
        epochs=pd.DataFrame({"arm": [], "seed": [], "epoch": []}),
        scores=pd.DataFrame(scores, columns=["arm", "seed", "score", "value"]),
        predictions={},
        items=items,
        columns=columns,
        datasets={seed: sets[name[0]] for seed, name in zip(seeds, cells.rows, strict=True)}
        if units.nested
        else {},
    )


def _n_runs(own: pd.DataFrame) -> int:
    return own["seed"].nunique() if "seed" in own else len(own)


def _columns(cells: Cells, units: Units) -> Columns:
    names = tuple(", ".join(name) for name in cells.columns)
    if units.columns not in ("clusters", "examples"):
        return Columns(names=names if units.columns == "datasets" else ())
    weights = unequal(cells.sizes) if units.columns == "clusters" else None
    sets = {name: i for i, name in enumerate(units.datasets)}
    strata = np.array([sets[name[0]] for name in cells.columns], dtype=np.intp) if sets else None
    return Columns(weights=weights, strata=strata, filled=cells.filled, names=names)


def seed_numbers(cells: Cells) -> Sequence[int]:
    """Return the seeds as typed where they are whole numbers, else the rows' places."""
    names = [row[0] if len(row) == 1 else "" for row in cells.rows]
    if all(name.isdecimal() and len(name) < 16 and str(int(name)) == name for name in names):
        return [int(name) for name in names]
    return range(len(cells.rows))


def labels_of(cells: Cells) -> dict[int, str]:
    """Return what rows are called whose number is not their name."""
    found = zip(seed_numbers(cells), cells.rows, strict=True)
    return {seed: ", ".join(row) for seed, row in found if row and (str(seed),) != row}
