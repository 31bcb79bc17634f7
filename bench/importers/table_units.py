"""What the rows and columns of a table are, and whether the options that were typed mean them."""

from typing import Literal

import pandas as pd

from bench.analysis.data.tables import Scope
from bench.analysis.data.units import ColumnUnit, RowUnit, Trained, Units
from bench.importers import rows
from bench.importers.cells import Cells
from bench.importers.layout import BadColumns, Layout

AskedScope = Literal["these", "new-datasets"]


def units_of(
    layout: Layout,
    long: pd.DataFrame,
    *,
    scope: AskedScope | None,
    trained: Trained | None,
    test_share: float | None,
) -> Units:
    """Return what rows and columns are.

    Raises
    ------
    UnknownRows : a question that these columns cannot answer, or that has two answers
    BadColumns : an option that would change nothing
    """
    keys, new_datasets = layout.keys, scope == "new-datasets"
    scored: ColumnUnit | None = "clusters" if keys.cluster else "examples" if keys.example else None
    sets = tuple(dict.fromkeys(long["dataset"])) if keys.dataset else ()
    unit_of_rows: RowUnit = "folds" if keys.fold else "seeds" if "seed" in long else "none"
    _require_data_sets(layout, sets, scope, single=unit_of_rows == "none" and scored is None)
    _require_effect(layout, unit_of_rows, trained, test_share)
    if unit_of_rows == "none" and scored is None and not sets:
        return Units(columns="none", paired=False)
    if new_datasets and unit_of_rows == "none":
        scored = None  # one mean a data set
    if sets and unit_of_rows != "none":
        trained = _trained(layout, long, trained, new_datasets)
    if trained == "per-dataset":
        scored = None  # each data set has examples of its own: one value a run
    columns: ColumnUnit = scored or ("datasets" if sets and trained != "per-dataset" else "none")
    return Units(
        rows=unit_of_rows,
        columns=columns,
        cluster=(keys.cluster or "").rpartition(".")[2],
        paired=keys.pair != rows.UNPAIRED,
        datasets=sets if scored or unit_of_rows != "none" else (),
        trained=trained,
        new_datasets=new_datasets and unit_of_rows != "none",
        test_share=_test_share(long, test_share) if keys.fold else None,
        repeats=keys.repeat or "",
    )


def _require_data_sets(
    layout: Layout, sets: tuple[str, ...], scope: AskedScope | None, *, single: bool
) -> None:
    """Refuse a question of data sets that the columns cannot answer."""
    if scope == "new-datasets" and not sets:
        raise rows.UnknownRows(
            "without a column of data sets nothing can be said of new ones.",
            fix="name it, or ask of the runs themselves:",
            without=["scope"],
        )
    if scope == "these" and sets and single:
        raise rows.UnknownRows(
            f"one value of each arm on each of {len(sets)} data sets says nothing of new runs on "
            "these.",
            facts=["What is drawn anew here is the data set: the answer is of new ones."],
            options=[("scope", "new-datasets")],
        )
    if layout.keys.fold and sets:
        raise rows.UnknownRows(
            "folds of several data sets are compared one data set at a time.",
            options=[("by", layout.keys.dataset)],
            without=["dataset", "scope", "trained"],
        )


def _require_effect(
    layout: Layout, unit_of_rows: RowUnit, trained: Trained | None, test_share: float | None
) -> None:
    """Refuse options that would change nothing: whoever typed them meant something else."""
    if trained is not None and (layout.dataset is None or unit_of_rows == "none"):
        what = "no column names data sets" if layout.dataset is None else "there is one run of each"
        raise BadColumns(
            f"trained says how models belong to data sets, and {what}.", without=["trained"]
        )
    if test_share is not None and layout.fold is None:
        raise BadColumns(
            "test_share is about random splits of one data set, and no column numbers them.",
            fix="name it with fold, or",
            without=["test_share"],
        )


def _trained(
    layout: Layout, long: pd.DataFrame, trained: Trained | None, new_datasets: bool
) -> Trained | None:
    row = "seed" if "seed" in long else "fold"
    runs = [frozenset(names) for _, names in long.groupby("dataset")[row]]
    if trained is None and new_datasets:
        raise rows.UnknownRows(
            "of new data sets the answer depends on what a seed is: a model that is scored on "
            "every data set, or one that is trained for each.",
            facts=["trained: once says the first, per-dataset the second."],
            options=[("trained", "per-dataset")],
        )
    if trained != "per-dataset" and len(set(runs)) > 1:
        few, many = min(runs, key=len), max(runs, key=len)
        raise rows.UnknownRows(
            f"the data sets have not the same seeds ({len(few)} to {len(many)}).",
            facts=["A seed's mean over data sets needs its value on each of them."],
            fix="if a model is trained for each data set:",
            options=[("trained", "per-dataset")],
            without=["trained"],
        )
    return trained


def _test_share(long: pd.DataFrame, typed: float | None) -> float:
    """Return n_test / n_train: as typed, or of K folds within a repeat."""
    if typed is not None and not typed > 0:
        raise rows.UnknownRows(
            f"test_share {typed:g} is not the ratio of two numbers of examples.",
            options=[("test_share", 0.25)],
            without=["test_share"],
        )
    if typed is not None:
        return typed
    folds = long["fold"].nunique()
    if folds < 2:
        raise rows.UnknownRows("one fold is no cross-validation.", fix="give all of its folds")
    return 1 / (folds - 1)


def scope_of(units: Units, cells: Cells) -> Scope:
    """Return whether the verdict counts the columns too."""
    if units.rows in ("none", "folds") or len(cells.columns) < 2 or units.nested:
        return "seeds"
    if units.columns == "datasets" and not units.new_datasets:
        return "seeds"
    return "seeds_and_examples"
