"""Layout: which columns of a file hold what, and the file as one row a value."""

import contextlib
import difflib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from bench.analysis.errors import Refusal
from bench.importers.files import BadScores
from bench.importers.rows import (
    BY_PLACE,
    UNPAIRED,
    Keys,
    remedy,
    shown,
    told_apart_by,
)

COLUMNS = "columns"  # as a unit: the columns number it, and each arm is a row
WIDE_METRIC = "score"  # what the values of two bare columns are called, unless --metric says
UNIT_COLUMNS = ("seed", "fold", "example", "cluster", "dataset", "repeat")


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
    first of which decides. The other names are columns that number units, as in `Keys`.
    """

    baseline: str
    treatments: tuple[str, ...] = ()
    pair: str | None = None
    seed: str | None = None
    fold: str | None = None
    example: str | None = None
    cluster: str | None = None
    dataset: str | None = None
    repeat: str | None = None
    arm: str | None = None
    metrics: tuple[str, ...] = ()

    @property
    def is_long(self) -> bool:
        """Whether one column names the arm."""
        return self.arm is not None

    @property
    def keys(self) -> Keys:
        """The columns that number units."""
        return Keys(**{f.name: getattr(self, f.name) for f in fields(Keys)})

    @property
    def values(self) -> tuple[str, ...]:
        """The columns of values, and of the arm."""
        if self.arm is not None:
            return (self.arm, *self.metrics)
        return (self.baseline, *self.treatments)

    @property
    def every_metric(self) -> tuple[str, ...]:
        """What is measured; the first decides."""
        return self.metrics or (WIDE_METRIC,)


def column_of(metric: str) -> str:
    """Return the name of a metric's column in the long table: never that of another column."""
    return f"metric {metric}"


def nearest(name: str, known: Sequence[str]) -> str | None:
    """Return the known name that was most likely meant: of numbers the nearest number."""
    close = difflib.get_close_matches(name, known, n=1)
    with contextlib.suppress(ValueError):
        number = float(name)
        apart = {other: abs(float(other) - number) for other in known}
        return min(apart, key=apart.__getitem__, default=None)
    return next(iter([*close, *known]), None)


def as_long(frame: pd.DataFrame, layout: Layout, path: Path) -> pd.DataFrame:
    """Return one row a value: arm, the columns of units under their kind, then the metrics.

    Raises
    ------
    BadColumns, BadScores : an unknown arm, one arm only, or a unit without a name
    """
    units = {
        kind: names_of(frame, column, path)
        for kind in UNIT_COLUMNS
        if (column := getattr(layout, kind)) is not None
    }
    if not layout.is_long:
        if layout.pair == BY_PLACE:
            units["seed"] = pd.Series(map(str, range(len(frame))))
        return _melted(frame, layout, units)
    found = pd.DataFrame({"arm": names_of(frame, str(layout.arm), path), **units})
    for metric in layout.metrics:
        found[column_of(metric)] = frame[metric].to_numpy()
    return of_arms(found, layout, path)


def _melted(frame: pd.DataFrame, layout: Layout, units: dict[str, pd.Series]) -> pd.DataFrame:
    arms = [layout.baseline, *layout.treatments]
    if len(set(arms)) < len(arms):
        raise BadColumns(
            "the baseline and the treatment are the same column.",
            options=[("treatment", "COLUMN")],
            without=["treatment"],
        )
    [metric] = layout.every_metric
    parts = [pd.DataFrame({"arm": arm, **units, column_of(metric): frame[arm]}) for arm in arms]
    return pd.concat(parts, ignore_index=True)


def of_arms(found: pd.DataFrame, layout: Layout, path: Path) -> pd.DataFrame:
    """Return the rows of the arms that are compared."""
    arms = list(dict.fromkeys(found["arm"]))
    free = [arm for arm in arms if arm not in layout.treatments]
    if layout.baseline not in arms:
        raise BadColumns(
            f'{path.name} has no arm "{layout.baseline}" in column {layout.arm}.',
            facts=[f"Arms: {', '.join(arms[:30])}."],
            options=[("baseline", nearest(layout.baseline, free or arms))],
        )
    unknown = [name for name in layout.treatments if name not in arms]
    if unknown:
        others = [arm for arm in arms if arm not in (layout.baseline, *layout.treatments)]
        raise BadColumns(
            f'{path.name} has no arm "{unknown[0]}" in column {layout.arm}.',
            facts=[f"Arms: {', '.join(arms[:30])}."],
            fix=None if others else "add the treatment's rows",
            replace=[(unknown[0], str(nearest(unknown[0], others)))] if others else [],
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


def names_of(frame: pd.DataFrame, column: str, path: Path) -> pd.Series:
    """Return what rows are called in a column; an empty cell belongs to nobody."""
    empty = frame[column].isna()
    if empty.any():
        raise BadScores(
            f"{path.name}: row {int(np.flatnonzero(empty)[0]) + 1} has nothing in column {column}.",
            facts=["Which rows belong together would not be known."],
            fix="fill the cell, or leave the row out",
        )
    own = frame[column]
    return own.map(shown) if own.dtype == np.float64 else own.astype(str)


def treatments_of(long: pd.DataFrame, layout: Layout) -> tuple[str, ...]:
    """Return the treatments that were named, or all arms but the baseline."""
    if layout.treatments:
        return layout.treatments
    return tuple(arm for arm in dict.fromkeys(long["arm"]) if arm != layout.baseline)


def require_once(frame: pd.DataFrame, long: pd.DataFrame, layout: Layout, path: Path) -> None:
    """Refuse two values for one arm and unit, and name the columns that tell them apart.

    Raises
    ------
    BadPairs : a unit that occurs twice in an arm
    """
    keys = ["arm", *(kind for kind in UNIT_COLUMNS if kind in long and kind != "repeat")]
    if layout.pair == UNPAIRED and len(keys) == 1:
        return
    twice = long[long.duplicated([*keys, *(["repeat"] if "repeat" in long else [])])]
    if twice.empty or keys == ["arm"]:
        return
    row, by = twice.iloc[0], []
    if layout.is_long:
        named = [str(layout.arm), *layout.keys.named]
        by = told_apart_by(frame, named, layout.metrics)
    facts = ["Each pair needs exactly one value in each arm."]
    for column in by[:5]:
        values = list(dict.fromkeys(map(shown, frame[column])))
        seen = ", ".join(values[:8]) + (", …" if len(values) > 8 else "")
        facts.append(
            f"The rows differ in {column} ({seen[:120]}): if these are {remedy(column)[1]}, "
            f"say so by {remedy(column)[0]} ({'last' if remedy(column)[0] == 'at' else column})."
        )
    which = ", ".join(str(row[key]) for key in keys[1:])
    raise BadPairs(
        f"{path.name}: pair {which} occurs twice in {row['arm']}.",
        facts=facts,
        fix=None if by else "keep one row a pair and arm",
        options=[_said_by(by)] if by else [],
    )


def _said_by(columns: Sequence[str]) -> tuple[str, str]:
    """Return the option that most likely says what tells duplicates apart."""
    order = ("example", "dataset", "seed", "fold", "at", "repeat", "by")
    best = min(columns, key=lambda column: order.index(remedy(column)[0]))
    option = remedy(best)[0]
    return option, "last" if option == "at" else best
