"""Reads a folder, or a glob such as `runs/*/results.csv`, of one file a run."""

import glob
from pathlib import Path

import pandas as pd

from bench.importers import compression, files
from bench.importers.asked import Asked, BadRequest, about
from bench.importers.files import BadScores
from bench.importers.rows import chosen, kind_of
from bench.importers.steps import at_step, counted, runs_by, step_column

MOST_FILES = 10_000
FILE = "file"  # the column with a row's path


def are_several(typed: str) -> bool:
    """Tell whether a name is that of a folder, or a glob and no file of that very name."""
    path = Path(typed).expanduser()
    return path.is_dir() or (glob.has_magic(typed) and not path.is_file())


def read(typed: str, asked: Asked) -> pd.DataFrame:
    """Return the rows of all files, one row a run where a step of each is asked for, and `file`.

    Raises
    ------
    BadScores : no file there, too many of them, or one that cannot be read
    BadRequest : files of steps without --at
    """
    tables, step = [], ""
    for path in _paths(typed):
        frame = files.read(path)
        if asked.at is not None:
            frame = chosen(frame, about(asked.where, list(frame.columns)), path)
            keys = runs_by(frame, asked)
            step = step_column(frame, keys, str(path))
            frame = at_step(frame, asked.at, keys, step=step, where=str(path))
        elif any(kind_of(c) == "steps" and frame[c].nunique() > 1 for c in frame.columns):
            raise BadRequest(
                f"{path} has {len(frame)} rows, and a column of steps.",
                facts=["Steps of one run follow from each other: one of them is its result."],
                options=[("at", "last")],
            )
        tables.append(frame.assign(**{FILE: path.as_posix()}))
    every = pd.concat(tables, ignore_index=True)
    if asked.at is not None:
        asked.say(counted(every, asked.at, step, asked.values))
    return every


def _paths(typed: str) -> list[Path]:
    """Return the files of a folder or glob in order, without what lies in hidden folders."""
    path = Path(typed).expanduser()
    if path.is_dir():
        known = [p for p in path.rglob("*") if _is_table(p.relative_to(path)) and p.is_file()]
    else:
        found = glob.iglob(str(path), recursive=True)
        known = [p for p in map(Path, found) if p.is_file()]
    if not known:
        raise BadScores(
            f"there is no table in {typed}." if path.is_dir() else f"no file fits {typed}.",
            facts=[f"Known: {', '.join(files.KINDS)}."],
            fix="name a folder or a glob of one file a run, as 'runs/*/results.csv'",
        )
    if len(known) > MOST_FILES:
        raise BadScores(f"{typed} names {len(known):,} files; at most {MOST_FILES:,} are read.")
    size = sum(p.stat().st_size for p in known)
    if size > files.MOST_BYTES:
        raise BadScores(f"the files of {typed} have {size / 1024**3:.1f} GiB together.")
    return sorted(known)


def _is_table(path: Path) -> bool:
    packed = path.suffix.lower() in compression.SUFFIXES
    suffix = Path(path.stem if packed else path).suffix.lower()
    return suffix in files.KINDS and not any(part.startswith(".") for part in path.parts)
