"""Numbers: in which unit are the values of a metric written, and which direction is better?"""

import re
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from bench.analysis.data.metric_names import words
from bench.design.option_values import MetricUnits, Points
from bench.importers.files import BadScores
from bench.importers.layout import column_of

GivenUnit = Literal["auto", "fraction", "percent", "plain"]
Shown = Literal["fraction", "percent", "plain"]

# Whole words of a metric's name. Fractions may be written as percentages.
FRACTIONS = frozenset(
    "accuracy acc error err f1 auc auroc auprc iou miou dice em exact match recall precision top1 "
    "top5 ap map ndcg mrr".split()
)
KINDS = {"fraction": "fractions", "percent": "percentages", "plain": "plain numbers"}
LARGE_MARGIN = 0.1  # of fractions: so large a bare one is a slip for percentage points
NO_FRACTION = frozenset("squared square absolute rmse mse mae".split())


def without_percent_signs(long: pd.DataFrame, metric: str) -> bool:
    """Read 94.5% and a typographic minus as numbers; return whether all values were per cents."""
    column = column_of(metric)
    texts = long[column].map(lambda value: isinstance(value, str))
    if not texts.any():
        return False
    signs = long.loc[texts, column].str.strip().str.replace("\N{MINUS SIGN}", "-")
    percent = signs.str.endswith("%")
    long.loc[texts, column] = signs.str.removesuffix("%").str.strip()
    return bool(percent.all()) and bool(texts[long[column].notna()].all())


ANSWERS = (("true", "false"), ("yes", "no"), ("correct", "incorrect"), ("right", "wrong"),
           ("pass", "fail"), ("passed", "failed"), ("success", "failure"), ("c", "i"),
           ("t", "f"), ("y", "n"))  # fmt: skip
NO_ANSWER = ("", "nan", "none", "na", "n/a", "null")


def words_as_numbers(long: pd.DataFrame, metric: str) -> str:
    """Read answers that are all of one pair of words, such as C and I, as 1 and 0.

    Returns
    -------
    what was read as what, in words; "" where the values are no such answers
    """
    column = column_of(metric)
    given = long[column]
    if given.dtype == bool or not given.map(lambda v: isinstance(v, str | bool)).any():
        return ""
    plain = given.map(lambda v: str(v).strip().lower() if isinstance(v, str | bool) else v)
    plain = plain.where(~plain.isin(NO_ANSWER), np.nan)
    found = {*plain.dropna()}
    for one, zero in ANSWERS:
        if found and found <= {one, zero}:
            long[column] = plain.map({one: 1.0, zero: 0.0}).astype(np.float64)
            return f"{one.capitalize()} is read as 1, {zero} as 0."
    return ""


def require_numbers(long: pd.DataFrame, metric: str, path: Path) -> None:
    """Turn a metric's column into floats.

    Raises
    ------
    BadScores : a value that is no number, infinite, or a summary such as 94.5 ± 0.2
    """
    given = long[column_of(metric)]
    if given.dtype == object:  # whole numbers of hundreds of digits are infinite as floats
        given = given.map(lambda value: float(str(value)) if type(value) is int else value)
    numbers = pd.to_numeric(given, errors="coerce").astype(np.float64)
    text = given.notna() & numbers.isna() & ~given.astype(str).str.lower().eq("nan")
    for trouble, odd in (("is not a number", text), ("is infinite", np.isinf(numbers))):
        if not odd.any():
            continue
        row = long[odd].iloc[0]
        value = str(row[column_of(metric)])
        names = [f", pair {row[kind]}" for kind in ("seed", "fold", "example") if kind in row]
        unit = names[0] if names else ""
        if re.fullmatch(r"\s*[-+\d.,]+\s*(±|\+-|\+/-|\()\s*[\d.,]+\s*\)?\s*", value):
            raise BadScores(
                f"{path.name}: {metric} of {row['arm']}{unit}, {value[:40]!r}, sums up runs.",
                facts=["These are summaries, not runs: what single runs gave is not in them."],
                fix="give one row a run",
            )
        raise BadScores(
            f"{path.name}: {metric} of {row['arm']}{unit}, {trouble}: {value[:40]!r}.",
            facts=["A failed run has no value: leave the cell empty, it is then counted."],
            fix="mend the value, or leave it empty and type",
            options=[("allow_missing", True)],
        )
    long[column_of(metric)] = numbers


def require_one_unit(long: pd.DataFrame, metric: str, path: Path) -> None:
    """Refuse an arm of fractions beside an arm of percentages."""
    ranges = {
        str(arm): (float(values.min()), float(values.max()))
        for arm, values in long.dropna(subset=[column_of(metric)]).groupby("arm")[column_of(metric)]
    }
    small = [arm for arm, (low, high) in ranges.items() if low > 0 and high <= 1]
    large = [arm for arm, (low, high) in ranges.items() if low > 1 and high <= 100]
    if small and large and len(small) + len(large) == len(ranges):
        raise BadScores(
            f"{path.name}: {metric} of {small[0]} lies in (0, 1], of {large[0]} in (1, 100].",
            facts=["One looks like fractions, the other like percentages."],
            fix="write both in the same unit",
        )


def unit_of(long: pd.DataFrame, metric: str, unit: GivenUnit) -> Shown:
    """Return in which unit a metric is written: as typed, or by its whole-word name and range.

    Raises
    ------
    BadScores : values that are no fractions, though that was typed
    """
    low, high = float(long[column_of(metric)].min()), float(long[column_of(metric)].max())
    if unit == "fraction" and not (low >= 0 and high <= 1):
        raise BadScores(
            f"{metric} runs from {low:g} to {high:g}, so it holds no fractions.",
            options=[("unit", shares(low, high))],
        )
    if unit != "auto":
        return unit
    return shares(low, high) if is_fraction(metric) else "plain"


def is_fraction(metric: str) -> bool:
    """Tell whether a metric is a share of a whole by a whole word of its name."""
    return bool(words(metric) & FRACTIONS) and not words(metric) & NO_FRACTION


def require_margin_within(
    long: pd.DataFrame, metric: str, unit: Shown, margin: float | None, path: Path
) -> None:
    """Refuse a margin that no two values differ by: it was typed in another unit."""
    low, high = _range(long, metric)
    bare = isinstance(margin, MetricUnits)
    if margin is None or margin <= high - low or high == low or isinstance(margin, Points):
        return
    if unit != "plain" and not (bare and unit == "fraction" and margin >= LARGE_MARGIN):
        return
    in_shares, fix = shares(low, high), "if the margin is in percentage points:"
    points = [("margin", f"{margin:g}pp")] if bare and in_shares != "plain" else []
    other = [] if in_shares == "plain" or unit != "plain" else [("unit", in_shares)]
    raise BadScores(
        f"the margin, {margin:g}, is larger than the range of all values ({low:g} to {high:g}).",
        facts=[f"{metric} is read as {KINDS[unit]}, so the margin is too."],
        fix="give a smaller margin" if in_shares == "plain" else fix,
        options=[*points, *other],
    )


def require_points(long: pd.DataFrame, metric: str, unit: Shown, **amounts: float | None) -> None:
    """Refuse percentage points of values that are no shares of a whole."""
    for option, amount in amounts.items():
        if unit == "plain" and isinstance(amount, Points):
            in_shares = shares(*_range(long, metric))
            raise BadScores(
                f"{option}: {metric} is read as plain numbers, which have no percentage points.",
                fix=f"give the {option} in the metric's own unit" if in_shares == "plain" else None,
                options=[] if in_shares == "plain" else [("unit", in_shares)],
            )


def in_design_units(amount: float | None, unit: Shown) -> float | None:
    """Return a margin or a claim as the study counts it: percentages as fractions."""
    if amount is None:
        return None
    whole = unit == "plain" or (isinstance(amount, MetricUnits) and unit == "fraction")
    return float(amount) * (1.0 if whole else 0.01)


def _range(long: pd.DataFrame, metric: str) -> tuple[float, float]:
    values = long[column_of(metric)].to_numpy(dtype=np.float64)
    return float(np.nanmin(values)), float(np.nanmax(values))


def shares(low: float, high: float) -> Shown:
    """Return in which unit values of this range can be shares of a whole."""
    if low < 0 or high > 100:
        return "plain"
    return "fraction" if high <= 1 else "percent"
