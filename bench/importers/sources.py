"""Where scores come from: which reader a name such as `wandb:runs.csv` goes to."""

import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from bench.analysis.errors import Refusal
from bench.importers import (
    benchopt,
    files,
    inspect_logs,
    lm_eval,
    mlflow_runs,
    run_files,
    tensorboard,
    wandb_runs,
)
from bench.importers.asked import Asked, BadRequest, about
from bench.importers.files import BadScores
from bench.importers.name_pattern import NamePattern, with_fields
from bench.importers.rows import chosen
from bench.importers.states import without_unfinished
from bench.importers.steps import at_step, counted, runs_by, step_column

Reader = Callable[[str, Asked], pd.DataFrame]

READERS: dict[str, Reader] = {
    "mlflow": mlflow_runs.read,
    "wandb": wandb_runs.read,
    "tensorboard": tensorboard.read,
    "lm-eval": lm_eval.read,
    "inspect": inspect_logs.read,
    "benchopt": benchopt.read,
}
RUN_NAMES = (run_files.FILE, "run_name", "Name")  # columns that --name may read


def parted(typed: str) -> tuple[str | None, str]:
    """Return the prefix of a source, None for a file, a folder or a glob, and what follows."""
    prefix, colon, rest = typed.partition(":")
    return (prefix, rest) if colon and prefix in READERS else (None, typed)


def read(typed: str, asked: Asked) -> pd.DataFrame:
    """Read a source: one row a run or item; runs that did not finish have no scores.

    Raises
    ------
    BadScores, BadRequest : what cannot be read, or not as asked
    """
    prefix, rest = parted(typed)
    if prefix is not None:
        frame = _through(prefix, rest, asked)
    elif run_files.are_several(typed):
        frame = run_files.read(typed, asked)
    else:
        frame = _one_file(typed, asked)
    if asked.name:
        frame = _named(frame, asked.name, asked.where, typed)
    return without_unfinished(frame, runs_by(frame, asked), asked)


def _through(prefix: str, rest: str, asked: Asked) -> pd.DataFrame:
    """Read with the reader of a prefix; whatever goes wrong in it is a refusal."""
    if not rest:
        raise BadRequest(f"{prefix}: names nothing.", fix=f"write {prefix}:NAME")
    try:
        return READERS[prefix](rest, asked)
    except Refusal:
        raise
    except Exception as error:  # every format has its own; all mean the same to the user
        why = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise BadScores(f"{rest} cannot be read as {prefix}: {why}.") from error


def _one_file(typed: str, asked: Asked) -> pd.DataFrame:
    path = Path(typed).expanduser()
    if re.match(r"[a-z][a-z-]+:", typed) and not path.is_file():
        close = difflib.get_close_matches(typed.partition(":")[0], READERS, n=1)
        better = f"{close[0]}:{typed.partition(':')[2]}" if close else typed.partition(":")[2]
        raise BadRequest(
            f"there is no file {typed}, and no such source.",
            facts=[f"Sources: {', '.join(f'{name}:' for name in READERS)}."],
            replace=[(typed, better)],
        )
    frame = files.read(path)
    if asked.at is None:
        return frame
    frame = chosen(frame, asked.where, path)
    keys = runs_by(frame, asked)
    step = step_column(frame, keys, path.name)
    frame = at_step(frame, asked.at, keys, step=step, where=path.name)
    asked.say(counted(frame, asked.at, step, asked.values))
    return frame


def _named(frame: pd.DataFrame, pattern: str, where: Sequence[str], typed: str) -> pd.DataFrame:
    """Take columns from the names of runs; rows that were left out need not fit."""
    column = next((c for c in RUN_NAMES if c in frame.columns), None)
    if column is None:
        raise BadRequest(
            f"{typed} has no names of runs or files that --name could read.",
            facts=[f"Columns: {', '.join(frame.columns[:30])}."],
            without=["name"],
        )
    frame = chosen(frame, about(where, list(frame.columns)), Path(typed))
    return with_fields(frame, column, NamePattern(pattern))
