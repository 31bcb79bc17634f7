"""Imports a table of scores (CSV, JSON lines, Parquet): the tables and design of a study."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from bench.analysis.data.metric_names import NOT_LOWER, lower_by_name, words
from bench.analysis.data.tables import Design, Goal, Tables
from bench.analysis.data.units import Trained
from bench.design.option_values import MetricUnits
from bench.importers import numbers, reading, rows
from bench.importers.cells import Cells, complete
from bench.importers.checked import checked
from bench.importers.files import in_memory, read
from bench.importers.layout import (
    BadColumns,
    BadPairs,
    Layout,
    as_long,
    column_of,
    require_once,
    treatments_of,
)
from bench.importers.long_parquet import is_long, read_long
from bench.importers.numbers import GivenUnit
from bench.importers.study_tables import (
    cells_by_units,
    labels_of,
    require_whole_runs,
    seed_numbers,
    study_tables,
)
from bench.importers.table_units import AskedScope, scope_of, units_of
from bench.importers.target import beside_target
from bench.importers.upright import upright

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
    uneven: str = ""  # units with fewer repeats than others, in words


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
    scope: AskedScope | None = None,
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
    scope : of which data sets is asked: these, in the file, or new ones
    trained : once, or for each data set anew
    test_share : n_test / n_train of random splits; folds know their own
    against : a number in the baseline's place, in the file's unit
    goal : what would be a success
    conditions : comparisons like this one that share the error rate

    Raises
    ------
    BadScores, BadColumns, BadPairs, UnknownRows : what cannot be compared, with the place
    """
    given = _given(path, layout, frame, where, against, test_share)
    layout, long = given.layout, given.long
    shown, answers = _in_numbers(given, unit, path, margin=margin, claim=claim)
    arms = (layout.baseline, *treatments_of(long, layout))
    units = units_of(layout, long, scope=scope, trained=trained, test_share=test_share)
    target = None if against is None else against * (0.01 if shown == "percent" else 1.0)
    units = replace(units, target=target)
    cells = given.cells or cells_by_units(long, layout, units, arms)
    if not units.paired:
        require_whole_runs(long, cells, arms, path)
    else:
        cells = complete(cells, path, allow_missing=allow_missing)
    metric = layout.every_metric[0]
    by_name = lower_by_name(metric) and not lower_is_better
    design = Design(
        experiment=path.stem,
        question=f"Does {' or '.join(arms[1:])} differ from {layout.baseline}?",
        baseline=layout.baseline,
        treatments=arms[1:],
        metric=metric,
        higher_is_better=not (lower_is_better or by_name),
        seeds=tuple(seed_numbers(cells)),
        margin=numbers.in_design_units(margin, shown),
        claim=numbers.in_design_units(claim, shown),
        scope=scope_of(units, cells),
        units=units,
        goal=goal,
        conditions=conditions,
        labels=labels_of(cells),
        unit="score" if shown == "plain" else "fraction",
    )
    points = any(x is not None and not isinstance(x, MetricUnits) for x in (margin, claim))
    asked = layout.pair == rows.UNPAIRED
    said = reading.said_of(design, shown, by_name=by_name, points=points, asked=asked)
    return Imported(
        tables=study_tables(long, cells, design, units),
        design=design,
        dropped=cells.dropped,
        sha256=_digest(path, given.raw),
        said=" ".join(filter(None, (said, answers, reading.averaged(long, units)))),
        against_name=lower_is_better and bool(words(metric) & NOT_LOWER),
        filled=cells.filled,
        uneven=reading.uneven(long, units),
    )


@dataclass(frozen=True, eq=False)
class _Given:
    """A table as its file has it and as one row a value; or cells, read a run at a time."""

    layout: Layout
    long: pd.DataFrame
    raw: pd.DataFrame | None = None
    table: pd.DataFrame | None = None  # the rows that were chosen of `raw`
    cells: Cells | None = None


def _given(
    path: Path,
    layout: Layout,
    frame: pd.DataFrame | None,
    where: Sequence[str],
    against: float | None,
    test_share: float | None,
) -> _Given:
    """Read a table and find what its columns hold."""
    if frame is None and against is None and not where and is_long(path, layout):
        layout, long, cells = read_long(path, layout)
        return _Given(layout, long, cells=cells)
    raw = read(path) if frame is None else in_memory(frame, path)
    table, layout = upright(rows.chosen(raw, where, path), layout)
    if against is not None:
        table, layout = beside_target(table, layout, against, path)
    typed = layout.keys
    layout = checked(table, layout, path)
    rows.require_folds(layout.keys, typed, test_share)
    rows.require_no_summaries(table, layout.keys, path)
    return _Given(layout, as_long(table, layout, path), raw=raw, table=table)


def _in_numbers(
    given: _Given, unit: GivenUnit, path: Path, **amounts: float | None
) -> tuple[numbers.Shown, str]:
    """Turn every value into a number; return in which unit they are, and answers read as such."""
    long, metrics, answers = given.long, given.layout.every_metric, list[str]()
    for metric in metrics:
        answers.append(numbers.words_as_numbers(long, metric))
        percent = numbers.without_percent_signs(long, metric)
        if percent and metric == metrics[0] and unit == "auto":
            unit = "percent"
        numbers.require_numbers(long, metric, path)
        numbers.require_one_unit(long, metric, path)
    if given.table is not None:
        require_once(given.table, long, given.layout, path)
    shown = numbers.unit_of(long, metrics[0], unit)
    numbers.require_margin_within(long, metrics[0], shown, amounts["margin"], path)
    numbers.require_points(long, metrics[0], shown, **amounts)
    if shown == "percent":
        long[column_of(metrics[0])] /= 100
        if given.cells is not None:
            given.cells.values[metrics[0]] = given.cells.values[metrics[0]] / 100
    return shown, next(filter(None, answers), "")


def _digest(path: Path, raw: pd.DataFrame | None) -> str:
    """Return the SHA-256 of the file, or of a table that is none as CSV."""
    if raw is None or path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    text = raw.to_csv(index=False).encode("utf-8", "backslashreplace")
    return hashlib.sha256(text).hexdigest()
