"""Runs that did not finish: what they logged until then is no result."""

from collections.abc import Sequence

import pandas as pd

from bench.importers.asked import Asked
from bench.importers.rows import kind_of

NAMES = ("status", "state")
# MLflow: mlflow.entities.RunStatus; wandb: Run.state; inspect_ai: EvalLog.status.
UNFINISHED = frozenset(
    "running scheduled pending started failed crashed killed error errored aborted canceled "
    "cancelled preempted preempting".split()
)


def without_unfinished(frame: pd.DataFrame, keys: Sequence[str], asked: Asked) -> pd.DataFrame:
    """Blank the scores of runs whose status says that they failed or still run.

    A missing score is refused, or counted as a failed run where leave is given. Left out is one
    that was run again to its end, and one of which nobody knows which run it was: its pair then
    lacks a score all the same. A column tells the status by its whole name, whatever its case.

    Parameters
    ----------
    keys : columns that tell runs apart
    asked : which columns are scores, and who is told what was blanked
    """
    known = [c for c in frame.columns if c.strip().lower() in NAMES]
    columns = [c for c in known if c not in (*keys, *asked.values)]
    for column in columns:
        states = frame[column].map(lambda value: str(value).strip().lower())
        unfinished = states.isin(UNFINISHED)
        if not unfinished.any():
            continue
        blank = {c: frame[c].mask(unfinished) for c in asked.values if c in frame.columns}
        gone = unfinished & _needless(frame, unfinished, keys, asked)
        asked.say(_said(states[unfinished], int(gone.sum()), column))
        frame = frame.assign(**blank) if gone.all() else frame.assign(**blank)[~gone]
    return frame.reset_index(drop=True)


def _said(states: pd.Series, gone: int, column: str) -> str:
    rows = "1 row has" if len(states) == 1 else f"{len(states)} rows have"
    left = f", of which {gone} left out: run again, or without a name" if gone else ""
    return f"{rows} no score ({column} {', '.join(sorted(set(states)))}){left}."


def _needless(
    frame: pd.DataFrame, unfinished: pd.Series, keys: Sequence[str], asked: Asked
) -> pd.Series:
    """Tell which rows name no run, or one that another row finished."""
    if not any(key == asked.seed or kind_of(key) == "seeds" for key in keys):
        return pd.Series(False, index=frame.index)
    runs = frame.groupby(list(keys), dropna=False, sort=False).ngroup()
    return frame[list(keys)].isna().any(axis=1) | runs.isin(runs[~unfinished])
