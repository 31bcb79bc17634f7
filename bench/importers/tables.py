"""Imports a table of scores (CSV, JSON lines, Parquet): the tables and design of a study."""

import difflib
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from bench.analysis.data.tables import TRIAL_COLUMNS, Design, Tables
from bench.analysis.errors import Refusal
from bench.importers import rows
from bench.importers.files import BadScores, read

GivenUnit = Literal["auto", "fraction", "percent", "plain"]

WIDE_METRIC = "score"  # what the values of two bare columns are called, unless --metric says
# Whole words of a metric's name. Fractions may be written as percentages.
FRACTIONS = frozenset(
    "accuracy acc error err f1 auc auroc auprc iou miou dice em exact match recall precision top1 "
    "top5 ap map ndcg mrr".split()
)
LOWER_IS_BETTER = frozenset(
    "loss error err rmse mse mae nll ppl perplexity wer cer eer ece aurc brier fid latency".split()
)
NOT_LOWER = frozenset("accuracy acc f1 auc auroc iou miou dice recall precision top1 top5".split())
NO_FRACTION = frozenset("squared square absolute rmse mse mae".split())


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
    seed: str | None = None  # the pair's column, of which the user says that it numbers trainings
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
    dropped: tuple[str, ...]  # incomplete pairs, with leave from --allow-missing
    sha256: str
    said: str  # how the values are read
    against_name: bool  # the direction that was typed is not the one that the metric's name says


def imported(
    path: Path,
    layout: Layout,
    *,
    margin: float | None = None,
    claim: float | None = None,
    lower_is_better: bool = False,
    unit: GivenUnit = "auto",
    allow_missing: bool = False,
    where: Sequence[str] = (),
) -> Imported:
    """Read a file of scores and lay it out for `study`.

    Parameters
    ----------
    path : CSV, Parquet or JSON lines
    layout : which columns hold what
    margin, claim : as typed: percentage points for fractions and percentages, else metric units
    lower_is_better : direction of the metric that decides; a name such as rmse says it too
    unit : "fraction" (0.947), "percent" (94.7), "plain", or "auto": by the values of a metric
        that is called an accuracy or another known fraction, else plain
    allow_missing : count missing values as failed runs instead of refusing them
    where : conditions COL=VALUE or COL!=VALUE that rows have to fit

    Raises
    ------
    BadScores, BadColumns, BadPairs : what cannot be compared, with the place in the file
    """
    frame = rows.upright(rows.chosen(read(path), where, path), layout.baseline)
    layout = _checked(frame, layout, path)
    rows.require_no_summaries(frame, layout.pair, path)
    long = _as_long(frame, layout, path)
    metrics = layout.metrics or (WIDE_METRIC,)
    for metric in metrics:
        percent = _without_percent_signs(long, metric)
        if percent and metric == metrics[0] and unit == "auto":
            unit = "percent"
        _require_numbers(long, metric, path)
        _require_one_unit(long, metric, layout, path)
    _require_once(frame, long, layout, path)
    long, dropped = _complete(long, layout, path, metrics, allow_missing=allow_missing)
    shown: Any = _unit_of(long, metrics[0], unit)
    by_name = bool(_words(metrics[0]) & LOWER_IS_BETTER) and not lower_is_better
    _require_margin_within(long, metrics[0], shown, margin, path)
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
        higher_is_better=not (lower_is_better or by_name),
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
    scores = scores[scores["value"].notna()]
    missing = long[[_column(m) for m in metrics]].isna().any(axis=1)
    trials = long[["arm", "seed"]].assign(
        status=np.where(missing, "failed", "finished"),
        reason=np.where(missing, "no value in the file", ""),
        device="",
        duration_s=np.nan,
        environment="{}",
    )
    tables = Tables(
        trials=trials[list(TRIAL_COLUMNS)],
        epochs=pd.DataFrame({"arm": [], "seed": [], "epoch": []}),
        scores=scores,
        predictions={},
    )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    against = lower_is_better and bool(_words(metrics[0]) & NOT_LOWER)
    said = _said(metrics[0], shown, design, by_name=by_name)
    return Imported(tables, design, dropped, digest, said, against)


def _said(metric: str, shown: str, design: Design, *, by_name: bool) -> str:
    """Return how the values are read: what a user has to know to trust the word."""
    kinds = {"fraction": "fractions", "percent": "percentages", "plain": "plain numbers"}
    side = "higher is better" if design.higher_is_better else "lower is better"
    unit = "" if shown == "plain" else ", margin and claim in percentage points"
    return f"{metric} is read as {kinds[shown]}{unit}; {side}{', by its name' if by_name else ''}."


def _words(metric: str) -> frozenset[str]:
    """Return the words of a metric's name, split at what is no letter or digit."""
    return frozenset(re.findall(r"[a-z0-9]+", metric.lower()))


def _without_percent_signs(long: pd.DataFrame, metric: str) -> bool:
    """Read 94.5% and a typographic minus as numbers; return whether all values were per cents."""
    column = _column(metric)
    texts = long[column].map(lambda value: isinstance(value, str))
    if not texts.any():
        return False
    signs = long.loc[texts, column].str.strip().str.replace("\N{MINUS SIGN}", "-")
    percent = signs.str.endswith("%")
    long.loc[texts, column] = signs.str.removesuffix("%").str.strip()
    return bool(percent.all()) and bool(texts[long[column].notna()].all())


def _require_margin_within(
    long: pd.DataFrame, metric: str, shown: str, margin: float | None, path: Path
) -> None:
    """Refuse a margin that no two values differ by: it was typed in another unit."""
    values = long[_column(metric)].to_numpy(dtype=np.float64)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if shown != "plain" or margin is None or margin <= high - low or high == low:
        return
    unit, fix = _shares(low, high), "if the margin is in percentage points:"
    raise BadScores(
        f"the margin, {margin:g}, is larger than the range of all values ({low:g} to {high:g}).",
        facts=[f"{metric} is read as plain numbers, so the margin is too."],
        fix="type a smaller --margin" if unit == "plain" else fix,
        options=[] if unit == "plain" else [("unit", unit)],
    )


def _column(metric: str) -> str:
    """Return the name of a metric's column in the long table: never that of another column."""
    return f"metric {metric}"


def _checked(frame: pd.DataFrame, layout: Layout, path: Path) -> Layout:
    """Return the layout with the pair column found, refusing unknown columns."""
    columns = list(frame.columns)
    for typed in (layout.seed, layout.pair):
        if typed not in (None, rows.ROW, *columns):
            raise _unknown_column(str(typed), columns, path)
    values = (layout.arm, *layout.metrics, layout.baseline, *layout.treatments)
    free = [column for column in columns if column not in values]
    pair = rows.pair_column(free, layout.pair, layout.seed)
    wanted = (
        [layout.arm, *layout.metrics] if layout.is_long else [layout.baseline, *layout.treatments]
    )
    for column in wanted:
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
            options=[("seed", "COLUMN")],
        )
    if pair is None:
        rows.require_pair_column(columns, layout.pair)
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
    places = pd.Series(map(str, range(len(frame))))
    pair = _names(frame, layout.pair, path) if layout.pair else places
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
    for trouble, odd in (("is not a number", text), ("is infinite", np.isinf(numbers))):
        if odd.any():
            row = long[odd].iloc[0]
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
    """Return a row for every arm and pair; refuse missing values unless leave was given."""
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
                "With leave the missing value counts as a failed run, also at its worst.",
            ],
            fix="add the missing value, or",
            options=[("allow_missing", True)],
        )
    if len(incomplete) == len(everything):
        raise BadPairs(
            f"{path.name} has no pair with a value in every arm.",
            facts=[f"Arms: {', '.join(arms)}."],
            fix="check the column of pairs",
        )
    every = pd.MultiIndex.from_product([everything, arms], names=["pair", "arm"])
    return long.set_index(["pair", "arm"]).reindex(every).reset_index(), tuple(incomplete)


def _require_once(frame: pd.DataFrame, long: pd.DataFrame, layout: Layout, path: Path) -> None:
    """Refuse two values for one arm and pair, and name the columns that tell them apart."""
    twice = long[long.duplicated(["arm", "pair"])]
    if twice.empty:
        return
    row, by = twice.iloc[0], []
    if layout.is_long:
        by = rows.told_apart_by(frame, [str(layout.arm), str(layout.pair)], layout.metrics)
    facts = ["Each pair needs exactly one value in each arm."]
    for column in by[:5]:
        seen = ", ".join(dict.fromkeys(map(str, frame[column][:1000])))
        facts.append(f"The rows differ in {column} ({seen[:80]}).")
    raise BadPairs(
        f"{path.name}: pair {row['pair']} occurs twice in {row['arm']}.",
        facts=facts,
        fix=f"compare within one {by[0]}:" if by else "keep one row a pair and arm",
        options=[("where", f"{by[0]}={frame[by[0]].iloc[0]}")] if by else [],
    )


def _unit_of(long: pd.DataFrame, metric: str, unit: GivenUnit) -> str:
    low, high = float(long[_column(metric)].min()), float(long[_column(metric)].max())
    if unit == "fraction" and not (low >= 0 and high <= 1):
        raise BadScores(
            f"{metric} runs from {low:g} to {high:g}, so it holds no fractions.",
            options=[("unit", _shares(low, high))],
        )
    if unit != "auto":
        return unit
    words = _words(metric)
    return _shares(low, high) if words & FRACTIONS and not words & NO_FRACTION else "plain"


def _shares(low: float, high: float) -> str:
    """Return in which unit values of this range can be shares of a whole."""
    if low < 0 or high > 100:
        return "plain"
    return "fraction" if high <= 1 else "percent"
