"""One row a run from a table of steps: the last step, or the one that a column chooses."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.importers.asked import Asked, At, BadRequest
from bench.importers.rows import kind_of, told_apart_by


def at_step(
    frame: pd.DataFrame, at: At, keys: Sequence[str], *, step: str, where: str
) -> pd.DataFrame:
    """Return one row a run.

    A run's last value of a column is the one at its last step at which any run has a value there:
    a run that has diverged by then has none, and one that was never measured there is not asked.
    Of several steps with the same highest value the first counts.

    Parameters
    ----------
    frame : one row a run and step
    keys : columns that together tell runs apart; none: all rows are one run
    step : the column of steps
    where : what the table is called

    Raises
    ------
    BadRequest : steps that are no numbers, one twice in a run, or no such column of numbers
    """
    frame = frame.assign(**{step: _numbers(frame, step, where)})
    _require_once(frame, [*keys, step], step, where)
    frame = frame.sort_values(step, kind="stable").reset_index(drop=True)
    run = frame.groupby(list(keys), dropna=False, sort=False).ngroup() if keys else 0
    run = pd.Series(run, index=frame.index)
    if at.way == "last":
        return _last(frame, run, step, keys)
    return _best(frame, run, step, keys, at, where)


def counted(frame: pd.DataFrame, at: At, step: str, values: Sequence[str]) -> str:
    """Return which step of the runs counts, and what that means for their scores.

    Parameters
    ----------
    frame : as `at_step` returns it
    values : columns of scores
    """
    low, high = frame[step].min(), frame[step].max()
    span = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    if at.way == "last":
        said = f"Of each run counts its last step ({step} {span})."
        early = " One that diverged or was stopped looks like one that ended early."
        return said if low == high else said + early
    side = "highest" if at.way == "max" else "lowest"
    said = f"Of each run counts the step where {at.column} is {side} ({step} {span})."
    if at.column in values:
        said += f" Chosen by its own value, {at.column} looks better than at a fixed step."
    return said


def runs_by(frame: pd.DataFrame, asked: Asked) -> list[str]:
    """Return the columns that tell runs apart: those typed, and without a seed those named so."""
    named = [c for c in frame.columns if kind_of(c) == "seeds" and asked.seed not in frame.columns]
    return [c for c in frame.columns if c in asked.keys or c in named]


def step_column(frame: pd.DataFrame, keys: Sequence[str], where: str) -> str:
    """Return the column that numbers the steps, by its whole name.

    Raises
    ------
    BadRequest : there is none
    """
    found = [c for c in frame.columns if kind_of(c) == "steps" and c not in keys]
    unique = [c for c in found if not frame.duplicated([*keys, c]).any()]
    if not found:
        raise BadRequest(
            f"{where} has no column of steps.",
            facts=[f"Columns: {', '.join(frame.columns[:30])}.", "Known: step, epoch, iteration."],
            fix="leave --at out, or call the column step",
            without=["at"],
        )
    return (unique or found)[0]


def _numbers(frame: pd.DataFrame, column: str, where: str) -> pd.Series:
    if column not in frame.columns:
        raise BadRequest(
            f'{where} has no column "{column}".',
            facts=[f"Columns: {', '.join(frame.columns[:30])}."],
            options=[("at", "last")],
        )
    numbers = pd.to_numeric(frame[column], errors="coerce").astype(np.float64)
    odd = frame[column][numbers.isna() & frame[column].notna()]
    if len(odd) or numbers.isna().all():
        what = f"{str(odd.iloc[0])[:40]!r} is no number" if len(odd) else "it is empty"
        raise BadRequest(f"{where}: column {column} chooses no step: {what}.")
    return numbers


def _require_once(frame: pd.DataFrame, keys: list[str], step: str, where: str) -> None:
    """Refuse a step that a run has twice: then its rows are not those of one run."""
    empty = int(frame[step].isna().sum())
    if empty:
        raise BadRequest(f"{where}: {empty} rows have no {step}.", fix="number them, or leave out")
    twice = frame[frame.duplicated(keys)]
    if twice.empty:
        return
    numeric = frame.select_dtypes("number").columns
    by = [c for c in told_apart_by(frame, keys, ()) if c not in numeric]
    row = ", ".join(f"{key} {twice.iloc[0][key]}" for key in keys)
    seen = [f"{c} ({', '.join(dict.fromkeys(map(str, frame[c])))[:80]})" for c in by[:5]]
    raise BadRequest(
        f"{where} has two rows with {row}.",
        facts=[f"They differ in {each}." for each in seen]
        or ["No column tells the runs apart: their arm and seed have to be named."],
        fix="take one of them:" if by else "name what tells runs apart:",
        options=[("where", f"{by[0]}={frame[by[0]].iloc[0]}")] if by else [("seed", "COLUMN")],
    )


def _values(frame: pd.DataFrame, step: str, keys: Sequence[str]) -> list[str]:
    numeric = frame.select_dtypes("number").columns
    return [c for c in numeric if c != step and c not in keys]


def _last(frame: pd.DataFrame, run: pd.Series, step: str, keys: Sequence[str]) -> pd.DataFrame:
    last = frame.groupby(run, sort=False).tail(1)
    last = last.set_index(run[last.index])
    for column in _values(frame, step, keys):
        given = frame[column].notna()
        if not given.all():
            asked = frame[frame[step].isin(frame.loc[given, step])]
            ends = asked.groupby(run[asked.index], sort=False).tail(1)
            last[column] = ends.set_index(run[ends.index])[column].reindex(last.index)
    return last.sort_index().reset_index(drop=True)


def _best(
    frame: pd.DataFrame, run: pd.Series, step: str, keys: Sequence[str], at: At, where: str
) -> pd.DataFrame:
    """Return the row of each run that a column chooses; a run without a value there has none."""
    if at.column in keys or at.column == step:
        raise BadRequest(f"{at.column} is no score of {where}.", options=[("at", "last")])
    numbers = _numbers(frame, at.column, where).dropna()
    by_run = numbers.groupby(run[numbers.index], sort=False)
    best = (by_run.idxmax() if at.way == "max" else by_run.idxmin()).to_numpy()
    rest = frame[~run.isin(run[best])].groupby(run, sort=False).tail(1).copy()
    values = [*dict.fromkeys([*_values(frame, step, keys), at.column])]
    rest[values] = np.nan
    chosen = pd.concat([frame.loc[best], rest]) if len(rest) else frame.loc[best]
    return chosen.iloc[np.argsort(run[chosen.index].to_numpy())].reset_index(drop=True)
