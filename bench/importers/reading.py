"""How a table was read, in words: what a user has to know to trust the numbers."""

import pandas as pd

from bench.analysis.data.tables import Design
from bench.analysis.data.units import Units
from bench.importers import numbers

MOST_NAMED = 3  # units with fewer repeats than others


def said_of(design: Design, shown: str, *, by_name: bool, points: bool, asked: bool) -> str:
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
    if units.target is not None:
        text += f" {design.baseline} is taken as exact."
    return text


def averaged(long: pd.DataFrame, units: Units) -> str:
    """Return over what the values of one unit were averaged; "" where nothing was to be."""
    if not units.repeats or units.rows == "folds":
        return ""
    each = _repeats(long)
    if each.max() == 1:
        return f"Every {units.pair.one} has one value, so nothing is averaged over {units.repeats}."
    few = uneven(long, units)
    return f"Values of one {units.pair.one} are averaged over {units.repeats}." + (
        f" Not all have as many: {few}; each mean counts alike." if few else ""
    )


def uneven(long: pd.DataFrame, units: Units) -> str:
    """Name the units that have fewer repeats than others: their means count as much as theirs."""
    if not units.repeats or units.rows == "folds":
        return ""
    each = _repeats(long)
    few = each[each < each.max()]
    names = [
        f"{', '.join(map(str, name if isinstance(name, tuple) else (name,)))}: {n} of {each.max()}"
        for name, n in few.iloc[:MOST_NAMED].items()
    ]
    more = [f"and {len(few) - len(names)} more"] if len(few) > len(names) else []
    return "; ".join([*names, *more])


def _repeats(long: pd.DataFrame) -> "pd.Series[int]":
    """Return how many values each arm has of each unit."""
    keys = [name for name in long.columns if name in ("arm", "seed", "fold", "example", "dataset")]
    values = next(column for column in long.columns if column.startswith("metric "))
    return long[long[values].notna()].groupby(keys, sort=False, observed=True).size()
