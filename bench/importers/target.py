"""A number in the baseline's place: a table with an arm that always has the target's value."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from bench.importers import rows
from bench.importers.checked import unknown_column
from bench.importers.layout import BadColumns, Layout


def beside_target(
    frame: pd.DataFrame, layout: Layout, target: float, path: Path
) -> tuple[pd.DataFrame, Layout]:
    """Return the table with a baseline that has the target's value beside every run.

    Raises
    ------
    BadColumns : a baseline as well, no finite number, or an unknown column
    """
    _require_target(layout, target)
    for column in layout.values:
        if column not in (layout.baseline, *frame.columns):
            raise unknown_column(column, frame, layout, path)
    name, units = f"{target:g}", _named_units(layout, frame)
    if not layout.is_long:
        return _beside_columns(frame, layout, target, paired=bool(units))
    arm = str(layout.arm)
    names = list(layout.treatments) or list(dict.fromkeys(frame[arm].astype(str)))
    if not units and len(names) == 1 and layout.metrics:
        values = frame.loc[frame[arm].astype(str) == names[0], layout.metrics[0]]
        wide = pd.DataFrame({names[0]: values.reset_index(drop=True)})
        layout = Layout(baseline="", treatments=(names[0],), metrics=layout.metrics[:1])
        return _beside_columns(wide, layout, target, paired=False)
    kept = frame[frame[arm].astype(str).isin(names)]
    named = [column for column in units if column in kept.columns]
    fixed = kept.drop_duplicates(named or list(kept.columns))
    targets: dict[str, Any] = dict.fromkeys(layout.metrics, target)
    fixed = fixed.assign(**{arm: name, **targets})
    return pd.concat([kept, fixed], ignore_index=True), replace(layout, baseline=name)


def _require_target(layout: Layout, target: float) -> None:
    if layout.baseline:
        raise BadColumns(
            "a baseline and a number in its place cannot be compared against.",
            without=["baseline"],
            fix="give one of them",
        )
    if not math.isfinite(target):
        raise BadColumns(
            f"{target} cannot be compared against.", without=["against"], fix="give a finite number"
        )


def _beside_columns(
    frame: pd.DataFrame, layout: Layout, target: float, *, paired: bool
) -> tuple[pd.DataFrame, Layout]:
    """Return a wide table with one more column; without units its rows pair by their place."""
    name, pair = f"{target:g}", layout.pair or (None if paired else rows.BY_PLACE)
    return frame.assign(**{name: target}), replace(layout, baseline=name, pair=pair)


def _named_units(layout: Layout, frame: pd.DataFrame) -> tuple[str, ...]:
    """Return the columns that number units, as they were typed or are found by their names."""
    free = [column for column in frame.columns if column not in layout.values]
    return rows.resolved(layout.keys, free).named
