"""Imports a table of scores (CSV, JSON lines, Parquet): the tables and design of a study."""

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from bench.analysis.data.tables import TRIAL_COLUMNS, Design, Tables
from bench.analysis.errors import Refusal
from bench.importers.files import BadScores, read

GivenUnit = Literal["auto", "fraction", "percent", "plain"]

WIDE_METRIC = "score"  # what the values of two bare columns are called, unless --metric says
PAIR_NAMES = ("seed", "pair", "run", "fold", "seed_id")


class BadColumns(Refusal):
    """Column names or options that do not fit the file."""

    code = "columns"
    exit_status = 2


class BadPairs(BadScores):
    """Pairs that are incomplete or occur twice."""

    code = "pairs"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Which columns of the file hold what.

    Wide: `baseline` and every one of `treatments` is a column of values. Long: `arm` is the column
    that names the arm, `baseline` one of its values, and `metrics` are columns of values, the
    first of which decides.
    """

    baseline: str
    treatments: tuple[str, ...] = ()
    pair: str | None = None
    arm: str | None = None
    metrics: tuple[str, ...] = ()

    @property
    def is_long(self) -> bool:
        """Whether one column names the arm."""
        return self.arm is not None


@dataclass(frozen=True, eq=False)
class Imported:
    """A file as a study reads it."""

    tables: Tables
    design: Design
    dropped: tuple[str, ...]  # pairs left out with leave from --allow-missing
    sha256: str


def imported(
    path: Path,
    layout: Layout,
    *,
    margin: float | None = None,
    claim: float | None = None,
    lower_is_better: bool = False,
    unit: GivenUnit = "auto",
    allow_missing: bool = False,
) -> Imported:
    """Read a file of scores and lay it out for `study`.

    Parameters
    ----------
    path : CSV, Parquet or JSON lines
    layout : which columns hold what
    margin, claim : as typed: percentage points for fractions and percentages, else metric units
    lower_is_better : direction of the metric that decides
    unit : "fraction" (0.947), "percent" (94.7), "plain", or "auto": by the values of a metric
        whose name speaks of an accuracy, else plain
    allow_missing : leave incomplete pairs out, and say so, instead of refusing them

    Raises
    ------
    BadScores, BadColumns, BadPairs : what cannot be compared, with the place in the file
    """
    frame = read(path)
    layout = _checked(frame, layout, path)
    long = _as_long(frame, layout, path)
    metrics = layout.metrics or (WIDE_METRIC,)
    for metric in metrics:
        _require_numbers(long, metric, path)
        _require_one_unit(long, metric, layout, path)
    long, dropped = _complete(long, layout, path, metrics, allow_missing=allow_missing)
    shown: Any = _unit_of(long, metrics[0], layout, unit)
    if shown == "percent":
        long[_column(metrics[0])] /= 100
    factor = 1.0 if shown == "plain" else 0.01
    seeds = {name: i for i, name in enumerate(dict.fromkeys(long["pair"]))}
    long["seed"] = long["pair"].map(seeds)
    design = Design(
        experiment=path.stem,
        question=f"Does {' or '.join(_treatments(long, layout))} differ from {layout.baseline}?",
        baseline=layout.baseline,
        treatments=_treatments(long, layout),
        metric=metrics[0],
        higher_is_better=not lower_is_better,
        seeds=tuple(seeds.values()),
        margin=None if margin is None else margin * factor,
        claim=None if claim is None else claim * factor,
        scope="seeds",
        unit="score" if shown == "plain" else "fraction",
    )
    scores = pd.concat(
        [
            pd.DataFrame(
                {"arm": long["arm"], "seed": long["seed"], "score": shown_as, "value": column}
            )
            for shown_as, column in ((m, long[_column(m)]) for m in metrics)
        ],
        ignore_index=True,
    )
    trials = long[["arm", "seed"]].assign(
        status="finished", reason="", device="", duration_s=np.nan, environment="{}"
    )
    tables = Tables(
        trials=trials[list(TRIAL_COLUMNS)],
        epochs=pd.DataFrame({"arm": [], "seed": [], "epoch": []}),
        scores=scores,
        predictions={},
    )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Imported(tables, design, dropped, digest)


def _column(metric: str) -> str:
    """Return the name of a metric's column in the long table: never that of another column."""
    return f"metric {metric}"


def _checked(frame: pd.DataFrame, layout: Layout, path: Path) -> Layout:
    """Return the layout with the pair column found, refusing unknown columns."""
    columns = list(frame.columns)
    pair = layout.pair or next((name for name in PAIR_NAMES if name in columns), None)
    wanted = (
        [layout.arm, *layout.metrics] if layout.is_long else [layout.baseline, *layout.treatments]
    )
    for column in [*wanted, pair]:
        if column is not None and column not in columns:
            raise _unknown_column(column, columns, path)
    if layout.is_long and not layout.metrics:
        raise BadColumns(
            "with --arm the column of values is needed too.",
            facts=[f"Columns: {', '.join(columns)}."],
            options=[("metric", "COLUMN")],
        )
    if not layout.is_long and len(layout.metrics) > 1:
        raise BadColumns(
            "two columns hold one metric.", options=[("metric", "NAME")], without=["metric"]
        )
    if not layout.is_long and not layout.treatments:
        raise BadColumns(
            "a comparison needs a treatment.",
            facts=[
                f"Columns: {', '.join(columns)}.",
                "In long form two of them hold the arm and the metric.",
            ],
            options=[("treatment", "COLUMN")],
        )
    if layout.is_long and pair is None:
        raise BadColumns(
            "which rows belong together is not known.",
            facts=[f"Columns: {', '.join(columns)}."],
            fix="for example by the seed:",
            options=[("pair", "COLUMN")],
        )
    return replace(layout, pair=pair)


def _unknown_column(column: str, columns: Sequence[str], path: Path) -> BadColumns:
    close = difflib.get_close_matches(column, columns, n=1)
    facts = [f"Closest: {close[0]}."] if close else []
    return BadColumns(
        f'{path.name} has no column "{column}".',
        facts=[*facts, f"Columns: {', '.join(columns[:30])}."],
        replace=[(column, close[0] if close else columns[0])],
    )


def _as_long(frame: pd.DataFrame, layout: Layout, path: Path) -> pd.DataFrame:
    """Return one row an arm and pair: arm, pair, then the metrics."""
    if layout.is_long:
        found = frame[[layout.arm, layout.pair, *layout.metrics]].copy()
        found.columns = pd.Index(["arm", "pair", *map(_column, layout.metrics)])
        found["arm"] = _names(frame, str(layout.arm), path)
        found["pair"] = _names(frame, str(layout.pair), path)
        arms = list(dict.fromkeys(found["arm"]))
        if layout.baseline not in arms:
            close = difflib.get_close_matches(layout.baseline, arms, n=1)
            raise BadColumns(
                f'{path.name} has no arm "{layout.baseline}" in column {layout.arm}.',
                facts=[f"Arms: {', '.join(arms[:30])}."],
                options=[("baseline", close[0] if close else arms[0])],
            )
        unknown = [name for name in layout.treatments if name not in arms]
        if unknown:
            others = [arm for arm in arms if arm != layout.baseline]
            raise BadColumns(
                f'{path.name} has no arm "{unknown[0]}" in column {layout.arm}.',
                facts=[f"Arms: {', '.join(arms[:30])}."],
                fix=None if others else "add the treatment's rows",
                replace=[(unknown[0], other) for other in others[:1]],
            )
        if layout.treatments:
            found = found[found["arm"].isin([layout.baseline, *layout.treatments])]
        if found["arm"].nunique() < 2:
            raise BadScores(
                f"{path.name} has one arm only, {layout.baseline!r}.",
                facts=["A comparison needs the same pairs in a second arm."],
                fix="add the treatment's rows",
            )
        return found.reset_index(drop=True)
    rows = pd.Series(map(str, range(len(frame))))
    pair = _names(frame, layout.pair, path) if layout.pair else rows
    arms = [layout.baseline, *layout.treatments]
    if len(set(arms)) < len(arms):
        raise BadColumns(
            "the baseline and the treatment are the same column.",
            options=[("treatment", "COLUMN")],
            without=["treatment"],
        )
    metric = (layout.metrics or (WIDE_METRIC,))[0]
    return pd.concat(
        [
            pd.DataFrame(
                {"arm": arm, "pair": pair.to_numpy(), _column(metric): frame[arm].to_numpy()}
            )
            for arm in arms
        ],
        ignore_index=True,
    )


def _names(frame: pd.DataFrame, column: str, path: Path) -> pd.Series:
    """Return what rows are called in a column; an empty cell belongs to nobody."""
    empty = frame[column].isna()
    if empty.any():
        raise BadScores(
            f"{path.name}: row {int(np.flatnonzero(empty)[0]) + 1} has nothing in column {column}.",
            facts=["Which rows belong together would not be known."],
            fix="fill the cell, or leave the row out",
        )
    return frame[column].astype(str)


def _treatments(long: pd.DataFrame, layout: Layout) -> tuple[str, ...]:
    if layout.treatments:
        return layout.treatments
    return tuple(arm for arm in dict.fromkeys(long["arm"]) if arm != layout.baseline)


def _require_numbers(long: pd.DataFrame, metric: str, path: Path) -> None:
    given = long[_column(metric)]
    if given.dtype == object:  # whole numbers of hundreds of digits are infinite as floats
        given = given.map(lambda value: float(str(value)) if type(value) is int else value)
    numbers = pd.to_numeric(given, errors="coerce").astype(np.float64)
    text = (
        long[_column(metric)].notna()
        & numbers.isna()
        & ~long[_column(metric)].astype(str).str.lower().eq("nan")
    )
    for trouble, rows in (("is not a number", text), ("is infinite", np.isinf(numbers))):
        if rows.any():
            row = long[rows].iloc[0]
            raise BadScores(
                f"{path.name}: {metric} of {row['arm']}, pair {row['pair']}, {trouble}: "
                f"{str(row[_column(metric)])[:40]!r}.",
                facts=["A failed run has no value: leave the cell empty, it is then counted."],
                fix="mend the value, or leave it empty and type",
                options=[("allow_missing", True)],
            )
    long[_column(metric)] = numbers


def _require_one_unit(long: pd.DataFrame, metric: str, layout: Layout, path: Path) -> None:
    """Refuse an arm of fractions beside an arm of percentages."""
    ranges = {
        str(arm): (float(values.min()), float(values.max()))
        for arm, values in long.dropna(subset=[_column(metric)]).groupby("arm")[_column(metric)]
    }
    small = [arm for arm, (low, high) in ranges.items() if low > 0 and high <= 1]
    large = [arm for arm, (low, high) in ranges.items() if low > 1 and high <= 100]
    if small and large and len(small) + len(large) == len(ranges):
        raise BadScores(
            f"{path.name}: {metric} of {small[0]} lies in (0, 1], of {large[0]} in (1, 100].",
            facts=["One looks like fractions, the other like percentages."],
            fix="write both in the same unit",
        )


def _complete(
    long: pd.DataFrame,
    layout: Layout,
    path: Path,
    metrics: Sequence[str],
    *,
    allow_missing: bool,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return only complete pairs; refuse others unless leave was given."""
    twice = long[long.duplicated(["arm", "pair"])]
    if not twice.empty:
        row = twice.iloc[0]
        raise BadPairs(
            f"{path.name}: pair {row['pair']} occurs twice in {row['arm']}.",
            facts=["Each pair needs exactly one value in each arm."],
            fix="keep one row a pair and arm, for example the mean",
        )
    arms = [layout.baseline, *_treatments(long, layout)]
    missing = long[[_column(m) for m in metrics]].isna().any(axis=1)
    have = {arm: set(long[(long["arm"] == arm) & ~missing]["pair"]) for arm in arms}
    everything = dict.fromkeys(long["pair"])
    incomplete = [pair for pair in everything if any(pair not in have[arm] for arm in arms)]
    if incomplete and not allow_missing:
        arm = next(arm for arm in arms if incomplete[0] not in have[arm])
        counts = " and ".join(f"{len(have[a])} {a}" for a in arms)
        raise BadPairs(
            f"{path.name} has {counts} values; pair {incomplete[0]} has no {arm}.",
            facts=[
                "Dropping a pair can bias the result, so it is not dropped silently.",
                "A pair that is left out is reported as a caution.",
            ],
            fix="add the missing value, or",
            options=[("allow_missing", True)],
        )
    kept = long[~long["pair"].isin(incomplete)].reset_index(drop=True)
    if kept.empty:
        raise BadPairs(
            f"{path.name} has no pair with a value in every arm.",
            facts=[f"Arms: {', '.join(arms)}."],
            fix="check the column of pairs",
        )
    return kept, tuple(incomplete)


def _unit_of(long: pd.DataFrame, metric: str, layout: Layout, unit: GivenUnit) -> str:
    low, high = float(long[_column(metric)].min()), float(long[_column(metric)].max())
    if unit != "auto":
        if unit == "fraction" and not (low >= 0 and high <= 1):
            raise BadScores(
                f"{metric} runs from {low:g} to {high:g}, so it holds no fractions.",
                options=[("unit", "percent" if 0 <= low and high <= 100 else "plain")],
            )
        return unit
    spoken = f"{metric} {layout.baseline}".lower()
    if not any(word in spoken for word in ("acc", "error_rate", "top1", "f1", "auc")):
        return "plain"
    if low >= 0 and high <= 1:
        return "fraction"
    return "percent" if low >= 0 and high <= 100 else "plain"
