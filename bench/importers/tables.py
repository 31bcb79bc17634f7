"""Imports a table of scores (CSV, JSON lines, Parquet): the tables and design of a study."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from bench.analysis.data.examples import unequal
from bench.analysis.data.metric_names import NOT_LOWER, lower_by_name, words
from bench.analysis.data.tables import TRIAL_COLUMNS, Columns, Design, Goal, Scope, Tables
from bench.analysis.data.units import ColumnUnit, RowUnit, Trained, Units
from bench.design.option_values import MetricUnits
from bench.importers import numbers, rows
from bench.importers.cells import Cells, cells_of, complete
from bench.importers.files import in_memory, read
from bench.importers.layout import (
    BadColumns,
    BadPairs,
    Layout,
    as_long,
    checked,
    column_of,
    require_once,
    treatments_of,
)
from bench.importers.long_parquet import is_long, read_long
from bench.importers.numbers import GivenUnit

__all__ = ["BadColumns", "BadPairs", "Imported", "Layout", "imported"]


@dataclass(frozen=True, eq=False)
class Imported:
    """A file as a study reads it."""

    tables: Tables
    design: Design
    dropped: tuple[str, ...]  # incomplete pairs, with leave from --allow-missing
    sha256: str
    said: str  # how the values are read
    against_name: bool  # the direction that was typed is not the one that the metric's name says
    filled: int = 0  # cells that are missing inside a run


def imported(
    path: Path,
    layout: Layout,
    *,
    frame: pd.DataFrame | None = None,
    margin: float | None = None,
    claim: float | None = None,
    lower_is_better: bool = False,
    unit: GivenUnit = "auto",
    allow_missing: bool = False,
    where: Sequence[str] = (),
    new_datasets: bool = False,
    trained: Trained | None = None,
    test_share: float | None = None,
    against: float | None = None,
    goal: Goal = "better",
    conditions: int = 1,
) -> Imported:
    """Read a file of scores and lay it out for `study`.

    Parameters
    ----------
    path : CSV, Parquet or JSON lines
    layout : which columns hold what
    frame : the table itself, in place of the file; `path` is then what messages call it
    margin, claim : as typed: percentage points for fractions and percentages, else metric units;
        or `Points`, or `MetricUnits`
    lower_is_better : direction of the metric that decides; a name such as rmse says it too
    unit : "fraction" (0.947), "percent" (94.7), "plain", or "auto": by the values of a metric
        that is called an accuracy or another known fraction, else plain
    allow_missing : count missing values as failed runs instead of refusing them
    where : conditions COL=VALUE or COL!=VALUE that rows have to fit
    new_datasets : ask of new data sets, not of those in the file
    trained : once, or for each data set anew
    test_share : n_test / n_train of random splits; folds know their own
    against : a number in the baseline's place, in the file's unit
    goal : what would be a success
    conditions : comparisons like this one that share the error rate

    Raises
    ------
    BadScores, BadColumns, BadPairs, UnknownRows : what cannot be compared, with the place
    """
    cells = None
    if frame is None and against is None and not where and is_long(path, layout):
        layout, long, cells = read_long(path, layout)
    else:
        raw = read(path) if frame is None else in_memory(frame, path)
        table = rows.upright(rows.chosen(raw, where, path), layout.baseline)
        if against is not None:
            table, layout = _beside_target(table, layout, against)
        typed = layout.keys
        layout = checked(table, layout, path)
        rows.require_folds(layout.keys, typed, test_share)
        rows.require_no_summaries(table, layout.keys, path)
        long = as_long(table, layout, path)
    metrics, answers = layout.every_metric, ""
    for metric in metrics:
        read_as = numbers.words_as_numbers(long, metric)
        answers = answers or read_as
        percent = numbers.without_percent_signs(long, metric)
        if percent and metric == metrics[0] and unit == "auto":
            unit = "percent"
        numbers.require_numbers(long, metric, path)
        numbers.require_one_unit(long, metric, path)
    if cells is None:
        require_once(table, long, layout, path)
    shown = numbers.unit_of(long, metrics[0], unit)
    numbers.require_margin_within(long, metrics[0], shown, margin, path)
    numbers.require_points(long, metrics[0], shown, margin=margin, claim=claim)
    if shown == "percent":
        long[column_of(metrics[0])] /= 100
        if cells is not None:
            cells.values[metrics[0]] = cells.values[metrics[0]] / 100
    arms = (layout.baseline, *treatments_of(long, layout))
    _require_effect(layout, trained, test_share)
    units = _units(layout, long, new_datasets, trained, test_share)
    if cells is None:
        cells = _cells(long, layout, units, arms)
    if not units.paired:
        _require_whole_runs(long, cells, arms, path)
    else:
        cells = complete(cells, path, allow_missing=allow_missing)
    by_name = lower_by_name(metrics[0]) and not lower_is_better
    design = Design(
        experiment=path.stem,
        question=f"Does {' or '.join(arms[1:])} differ from {layout.baseline}?",
        baseline=layout.baseline,
        treatments=arms[1:],
        metric=metrics[0],
        higher_is_better=not (lower_is_better or by_name),
        seeds=tuple(_seed_numbers(cells)),
        margin=numbers.in_design_units(margin, shown),
        claim=numbers.in_design_units(claim, shown),
        scope=_scope(units, cells),
        units=replace(units, target=None if against is None else against * _of(shown)),
        goal=goal,
        conditions=conditions,
        labels=_labels(cells),
        unit="score" if shown == "plain" else "fraction",
    )
    text = None if path.is_file() else raw.to_csv(index=False).encode("utf-8", "backslashreplace")
    digest = _sha256(path) if text is None else hashlib.sha256(text).hexdigest()
    against_name = lower_is_better and bool(words(metrics[0]) & NOT_LOWER)
    points = any(x is not None and not isinstance(x, MetricUnits) for x in (margin, claim))
    asked = layout.pair == rows.UNPAIRED
    said = _said(design, shown, by_name=by_name, points=points, asked=asked)
    said += f" {answers[:1].upper()}{answers[1:]}." if answers else ""
    said += _lacking_repeats(long, units)
    tables = _tables(long, cells, design, units)
    return Imported(tables, design, cells.dropped, digest, said, against_name, cells.filled)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of(shown: str) -> float:
    return 0.01 if shown == "percent" else 1.0


def _beside_target(
    frame: pd.DataFrame, layout: Layout, target: float
) -> tuple[pd.DataFrame, Layout]:
    """Return the table with a baseline that has the target's value beside every run."""
    name = f"{target:g}"
    if not math.isfinite(target) or layout.baseline:
        what = "a baseline and a number in its place" if layout.baseline else f"{target}"
        raise BadColumns(
            f"{what} cannot be compared against.",
            without=["baseline"] if layout.baseline else ["against"],
            fix="give one of them" if layout.baseline else "give a finite number",
        )
    if layout.is_long and not _named_units(layout, frame):
        of = frame[str(layout.arm)].astype(str)
        names = list(layout.treatments) or list(dict.fromkeys(of))
        if len(names) == 1 and layout.metrics:
            values = frame.loc[of == names[0], layout.metrics[0]].reset_index(drop=True)
            wide = pd.DataFrame({names[0]: values})
            layout = Layout(baseline="", treatments=(names[0],), metrics=layout.metrics[:1])
            return _beside_target(wide, layout, target)
    if not layout.is_long:
        pair = layout.pair or (None if _named_units(layout, frame) else rows.BY_PLACE)
        return frame.assign(**{name: target}), replace(layout, baseline=name, pair=pair)
    arm = str(layout.arm)
    kept = frame[frame[arm].astype(str).isin(layout.treatments)] if layout.treatments else frame
    named = [column for column in _named_units(layout, kept) if column in kept.columns]
    units = named or kept.columns
    fixed = kept.drop_duplicates(list(units)).copy()
    fixed[arm] = name
    for metric in layout.metrics:
        fixed[metric] = target
    return pd.concat([kept, fixed], ignore_index=True), replace(layout, baseline=name)


def _named_units(layout: Layout, frame: pd.DataFrame) -> tuple[str, ...]:
    """Return the columns that number units, as they were typed or are found by their names."""
    free = [column for column in frame.columns if column not in layout.values]
    return rows.resolved(layout.keys, free).named


# -- units -------------------------------------------------------------------------------------


def _require_effect(layout: Layout, trained: Trained | None, test_share: float | None) -> None:
    """Refuse options that would change nothing: whoever typed them meant something else."""
    if trained is not None and layout.dataset is None:
        raise BadColumns(
            "trained says how models belong to data sets, and no column names data sets.",
            without=["trained"],
        )
    if test_share is not None and layout.fold is None:
        raise BadColumns(
            "test_share is about random splits of one data set, and no column numbers them.",
            fix="name it, or",
            options=[("fold", "COLUMN")],
        )


def _units(
    layout: Layout,
    long: pd.DataFrame,
    new_datasets: bool,
    trained: Trained | None,
    test_share: float | None,
) -> Units:
    """Return what rows and columns are.

    Raises
    ------
    UnknownRows : a question that these columns cannot answer, or that has two answers
    """
    keys = layout.keys
    scored: ColumnUnit | None = "clusters" if keys.cluster else "examples" if keys.example else None
    sets = tuple(dict.fromkeys(long["dataset"])) if keys.dataset else ()
    if new_datasets and not sets:
        raise rows.UnknownRows(
            "without a column of data sets nothing can be said of new ones.",
            options=[("dataset", "COLUMN")],
        )
    if keys.fold and sets:
        raise rows.UnknownRows(
            "folds of several data sets are compared one data set at a time.",
            options=[("by", keys.dataset)],
            without=["dataset", "scope", "trained"],
        )
    unit_of_rows: RowUnit = "folds" if keys.fold else "seeds" if "seed" in long else "none"
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


def _scope(units: Units, cells: Cells) -> Scope:
    """Return whether the verdict counts the columns too."""
    if units.rows in ("none", "folds") or len(cells.columns) < 2 or units.nested:
        return "seeds"
    if units.columns == "datasets" and not units.new_datasets:
        return "seeds"
    return "seeds_and_examples"


# -- tables ------------------------------------------------------------------------------------


def _cells(long: pd.DataFrame, layout: Layout, units: Units, arms: Sequence[str]) -> Cells:
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


def _require_whole_runs(long: pd.DataFrame, cells: Cells, arms: Sequence[str], path: Path) -> None:
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


def _tables(long: pd.DataFrame, cells: Cells, design: Design, units: Units) -> Tables:
    """Return the cells as trials, scores and items."""
    metrics, seeds = list(cells.values), list(_seed_numbers(cells))
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


def _seed_numbers(cells: Cells) -> Sequence[int]:
    """Return the seeds as typed where they are whole numbers, else the rows' places."""
    names = [row[0] if len(row) == 1 else "" for row in cells.rows]
    if all(name.isdecimal() and len(name) < 16 and str(int(name)) == name for name in names):
        return [int(name) for name in names]
    return range(len(cells.rows))


def _labels(cells: Cells) -> dict[int, str]:
    """Return what rows are called whose number is not their name."""
    found = zip(_seed_numbers(cells), cells.rows, strict=True)
    return {seed: ", ".join(row) for seed, row in found if row and (str(seed),) != row}


def _lacking_repeats(long: pd.DataFrame, units: Units) -> str:
    """Name a unit that has fewer repeats than the others: its mean counts as much as theirs."""
    if not units.repeats or units.rows == "folds":
        return ""
    keys = [name for name in long.columns if name in ("arm", "seed", "example", "dataset")]
    each = long.groupby(keys, sort=False, observed=True).size()
    few = each[each < each.max()]
    if few.empty:
        return ""
    first = few.index[0]
    whose = ", ".join(map(str, first)) if isinstance(first, tuple) else str(first)
    more = f", and {len(few) - 1} more have too few" if len(few) > 1 else ""
    return f" {whose} has {few.iloc[0]} of {each.max()} values{more}: each mean counts alike."


def _said(design: Design, shown: str, *, by_name: bool, points: bool, asked: bool) -> str:
    """Return how the values are read: what a user has to know to trust the word."""
    side = "higher is better" if design.higher_is_better else "lower is better"
    unit = ", margin and claim in percentage points" if points and shown != "plain" else ""
    text = f"{design.metric} is read as {numbers.KINDS[shown]}{unit}; {side}"
    text += f"{', by its name' if by_name else ''}."
    units = design.units
    if not units.paired:
        why = "As asked" if asked else "No column says which runs belong together, so"
        text += f" {why} they are compared unpaired."
    elif units.rows == "none":
        text += f" Rows are {units.column.many}, scored by one run of each arm."
    elif units.rows == "folds":
        text += " Rows are folds, whose training sets overlap: the interval allows for that."
    if units.repeats and units.rows != "folds":
        text += f" Values of one {units.pair.one} are averaged over {units.repeats}."
    if units.target is not None:
        text += f" {design.baseline} is taken as exact."
    return text
