"""Turns a table with one row an arm into one with a row a unit, as the analysis reads it."""

import re
from dataclasses import replace
from typing import Any

import pandas as pd

from bench.importers.layout import COLUMNS, UNIT_COLUMNS, BadColumns, Layout
from bench.importers.rows import kind_of


def upright(frame: pd.DataFrame, layout: Layout) -> tuple[pd.DataFrame, Layout]:
    """Return a table with one row a unit: where columns number these, by name or as typed.

    Raises
    ------
    BadColumns : columns that are said to number units, and no column of arms
    """
    kind = next((kind for kind in UNIT_COLUMNS if getattr(layout, kind) == COLUMNS), None)
    if kind is not None and COLUMNS not in frame.columns:
        named: dict[str, Any] = {kind: kind}
        return _as_said(frame, layout, kind), replace(layout, **named)
    numbered = [c for c in frame.columns if re.search(r"\d$", c) and kind_of(c) == "seeds"]
    others = [c for c in frame.columns if c not in numbered]
    if len(numbered) < 2 or len(others) != 1 or layout.baseline in frame.columns:
        return frame, layout
    arms = frame[others[0]].astype(str)
    if layout.baseline not in set(arms) or arms.duplicated().any():
        return frame, layout
    return _turned(frame, others[0], numbered, "seed"), layout


def _as_said(frame: pd.DataFrame, layout: Layout, kind: str) -> pd.DataFrame:
    """Turn a table all of whose columns but that of arms are units of one kind."""
    named = [c for c in frame.columns if layout.baseline in set(frame[c].astype(str))]
    if layout.is_long or not named or frame[named[0]].duplicated().any():
        raise BadColumns(
            f"{kind} {COLUMNS}: that takes one row an arm, and one column of their names.",
            facts=[f"Columns: {', '.join(frame.columns[:30])}."],
            without=[kind],
        )
    scores = [c for c in frame.columns if pd.api.types.is_numeric_dtype(frame[c])]
    return _turned(frame, named[0], [c for c in scores if c != named[0]], kind)


def _turned(frame: pd.DataFrame, arm: str, units: list[str], kind: str) -> pd.DataFrame:
    turned = frame.set_index(frame[arm].astype(str))[units].transpose()
    turned.columns = pd.Index(map(str, turned.columns))
    return turned.rename_axis(kind).reset_index()
