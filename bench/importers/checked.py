"""Do the columns that were typed fit the file? What does not is refused with what would."""

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from bench.importers.layout import COLUMNS, UNIT_COLUMNS, BadColumns, Layout, nearest
from bench.importers.rows import (
    BY_PLACE,
    UNPAIRED,
    Keys,
    UnknownRows,
    kind_of,
    resolved,
    unknown_meaning,
)

MOST_ARMS = 50  # in a column that is taken for that of the arms


def checked(frame: pd.DataFrame, layout: Layout, path: Path) -> Layout:
    """Return the layout with the pair's column found, refusing unknown columns.

    Raises
    ------
    BadColumns, UnknownRows : what does not fit the file
    """
    columns = list(frame.columns)
    for typed in (layout.pair, *(getattr(layout, name) for name in UNIT_COLUMNS)):
        if typed not in (None, BY_PLACE, UNPAIRED, *columns):
            raise unknown_column(str(typed), frame, layout, path)
    keys = resolved(layout.keys, [column for column in columns if column not in layout.values])
    for column in layout.values:
        if column not in columns:
            raise _an_arm(column, frame, layout) or unknown_column(column, frame, layout, path)
    _require_no_unit(layout)
    _require_own_kinds(keys)
    scores = score_columns(frame, layout) or ["COLUMN"]
    if layout.is_long and not layout.metrics:
        raise BadColumns(
            "the arm's column needs the column of values too.",
            facts=[f"Columns: {', '.join(columns)}."],
            options=[("metric", scores[0])],
        )
    if not layout.is_long and len(layout.metrics) > 1:
        raise BadColumns(
            "two columns of arms hold one metric.",
            options=[("metric", layout.metrics[0])],
            without=["metric"],
        )
    if not layout.is_long and not layout.treatments:
        raise BadColumns(
            "a comparison needs a treatment.",
            facts=[
                f"Columns: {', '.join(columns)}.",
                "In long form two of them hold the arm and the metric.",
            ],
            options=[("treatment", scores[0])],
        )
    if layout.is_long and keys.pair == BY_PLACE:
        raise BadColumns(
            "of a column of arms rows are not paired by their place in the file.",
            facts=[f"Columns: {', '.join(columns)}."],
            fix="name the column of seeds, or compare runs that share nothing:",
            options=[("pair", UNPAIRED)],
            without=["pair"],
        )
    if keys.pair is None and not keys.named:
        _require_no_key(frame, layout)
    return replace(layout, **{name: getattr(keys, name) for name in UNIT_COLUMNS})


def _an_arm(name: str, frame: pd.DataFrame, layout: Layout) -> BadColumns | None:
    """Return the refusal of a name that is an arm's in one column, and no column's."""
    if layout.is_long:
        return None
    for column in frame.columns:
        names = {*frame[column].astype(str)}
        if name in names and len(names) <= MOST_ARMS and kind_of(column) is None:
            scores = [c for c in score_columns(frame, layout) if c != column] or ["COLUMN"]
            if len(names) == len(frame) and len(scores) > 2:
                return _each_a_row(scores)
            return BadColumns(
                f"{name} is no column; it stands in column {column!r}, so one row is one run.",
                facts=[f"Columns: {', '.join(frame.columns)}."],
                options=[("arm", column), ("metric", scores[0])],
            )
    return None


def _each_a_row(scores: Sequence[str]) -> BadColumns:
    return BadColumns(
        f"each arm is one row, and its runs stand in the columns {', '.join(scores[:2])}, …",
        facts=["What a column is, is not known: a training, a fold, an epoch?"],
        fix="if each is a training of its own:",
        options=[("seed", COLUMNS)],
    )


def score_columns(frame: pd.DataFrame, layout: Layout) -> list[str]:
    """Return the columns that may hold scores: of numbers, and of no use yet."""
    free = [c for c in frame.columns if c not in (*layout.values, *layout.keys.named)]
    free = [c for c in free if kind_of(c) is None]
    return [c for c in free if frame.empty or pd.api.types.is_numeric_dtype(frame[c])]


def _require_own_kinds(keys: Keys) -> None:
    """Refuse a column in two roles, or in one that its name is at odds with."""
    for role in ("cluster", "dataset"):
        column = getattr(keys, role)
        kind = None if column is None else kind_of(column)
        if kind in ("seeds", "folds", "steps") or list(keys.named).count(column) > 1:
            raise UnknownRows(
                f"by its name column {column!r} numbers {kind or 'another unit'}, so it is no "
                f"{'data set' if role == 'dataset' else role}.",
                fix="rename it, or",
                without=[role],
            )
    if keys.repeat is not None and keys.named == (keys.repeat,):
        seeds = kind_of(keys.repeat) == "seeds"
        raise UnknownRows(
            "repeats lie inside a unit, and no column says in which.",
            fix="if each is a training of its own:" if seeds else "name the unit too, or",
            options=[("seed", keys.repeat)] if seeds else [],
            without=["repeat"],
        )


def _require_no_unit(layout: Layout) -> None:
    """Refuse a column of seeds or examples as one of scores."""
    for column in (layout.baseline, *layout.treatments):
        kind = None if layout.is_long else kind_of(column)
        if kind in ("seeds", "folds", "examples", "datasets"):
            raise BadColumns(
                f"column {column!r} numbers {kind}, so it holds no scores.",
                fix="name a column of scores, or rename this one",
            )


def _require_no_key(frame: pd.DataFrame, layout: Layout) -> None:
    """Refuse to call runs unpaired beside a column that may say which belong together."""
    for column in (c for c in frame.columns if c not in layout.values):
        own = frame[column]
        if layout.is_long:
            by_arm = [frozenset(names) for _, names in own.groupby(frame[layout.arm])]
            alike = len(set(by_arm)) == 1 and len(by_arm[0]) * len(by_arm) == len(own)
        else:
            alike = own.nunique() == len(own)
        if alike and len(own) > 2:
            raise unknown_meaning(column, typed=False)


def unknown_column(name: str, frame: pd.DataFrame, layout: Layout, path: Path) -> BadColumns:
    """Return the refusal of a name that no column has, with the nearest that fits its role."""
    typed = {key: value for key, value in vars(layout.keys).items() if value is not None}
    role = next((key for key, value in typed.items() if value == name), None)
    if name == layout.arm:
        known = [c for c in frame.columns if kind_of(c) is None and c not in layout.metrics]
    elif role is None:
        known = score_columns(frame, layout)
    elif role == "pair":
        known = [c for c in frame.columns if kind_of(c) is not None]
    else:
        known = [c for c in frame.columns if (kind_of(c) or "").removesuffix("s") == role]
        known = known or difflib.get_close_matches(name, list(frame.columns), n=1)
    better = nearest(name, known)
    return BadColumns(
        f'{path.name} has no column "{name}".',
        facts=[
            *([f"Closest: {better}."] if better else []),
            f"Columns: {', '.join(frame.columns[:30])}.",
        ],
        fix="name one of these" if better is None and role is None else None,
        replace=[] if better is None else [(name, better)],
        without=[role] if better is None and role is not None else [],
    )
