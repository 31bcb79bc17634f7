"""What the readers of evaluation logs share: JSON that is bounded, and files in order."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from bench.importers.files import MOST_BYTES, MOST_DECODED, BadScores


def found(typed: str, *patterns: str, fix: str | None = None) -> list[Path]:
    """Return the files below a folder that fit a pattern; or the file itself that was named.

    Raises
    ------
    BadScores : none, or more bytes than are read
    """
    path = Path(typed).expanduser()
    files = [path] if path.is_file() else [p for each in patterns for p in path.rglob(each)]
    files = sorted({p for p in files if p.is_file()})
    if not files:
        raise BadScores(f"there is no {' or '.join(patterns)} in {typed}.", fix=fix)
    size = sum(p.stat().st_size for p in files)
    if size > 4 * MOST_BYTES:
        raise BadScores(f"the logs in {typed} have {size / 1024**3:.1f} GiB together.")
    return files


def parsed(text: str | bytes, where: str) -> Any:
    """Parse JSON; an object or an array of them.

    Raises
    ------
    BadScores : it is no JSON, or nested beyond reason
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadScores(f"{where} is no JSON: {str(error)[:100]}.") from error


def table(rows: list[dict[str, Any]], typed: str) -> pd.DataFrame:
    """Return rows as a table.

    Raises
    ------
    BadScores : none, or so many columns of their own that they would not fit in memory
    """
    columns = {column for row in rows for column in row}
    if not rows:
        raise BadScores(f"the logs in {typed} hold no scored item.")
    if len(columns) * len(rows) > MOST_DECODED // 8:
        raise BadScores(f"{typed} has {len(columns):,} columns in {len(rows):,} rows.")
    return pd.DataFrame(rows)


def number(value: object) -> float | None:
    """Return a score as a number: true as 1; None where it is none."""
    return float(value) if isinstance(value, (bool, int, float)) else None


def mapping(value: object) -> Mapping[str, Any]:
    """Return an object of JSON, or an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}
