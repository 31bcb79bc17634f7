"""Reads a file of scores: CSV, JSON lines, Parquet."""

import json
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from bench.analysis.errors import Refusal

MOST_BYTES = 512 * 1024**2  # of a file
MOST_DECODED = 256 * 1024**2  # bytes of values in memory
READERS = {
    ".csv": "CSV",
    ".tsv": "CSV",
    ".parquet": "Parquet",
    ".pq": "Parquet",
    ".jsonl": "JSON lines",
}


class BadScores(Refusal):
    """A file whose values cannot be compared."""

    code = "scores"
    exit_status = 5


def read(path: Path) -> pd.DataFrame:
    """Read a CSV, Parquet or JSON lines file.

    Raises
    ------
    BadScores : no such file, too large, of another kind, empty, or unreadable
    """
    kind = READERS.get(path.suffix.lower())
    if not path.is_file():
        raise BadScores(f"there is no file {path}.", fix="name a CSV, Parquet or JSON lines file")
    if path.stat().st_size == 0:
        raise BadScores(f"{path.name} is empty.", fix="write one row a run, with a header")
    if path.stat().st_size > MOST_BYTES:
        raise _too_large(path, f"has {path.stat().st_size / 1024**3:.1f} GiB")
    with path.open("rb") as handle:
        head = handle.read(4096)
    if kind != "Parquet" and b"\0" in head:
        raise _not_a_table(path, "it holds binary data", kind)
    try:
        if kind == "Parquet" or (kind is None and head.startswith(b"PAR1")):
            frame = _read_parquet(path)
        elif kind == "JSON lines" or (kind is None and head.lstrip().startswith(b"{")):
            _require_plain_rows(path)
            frame = pd.read_json(path, lines=True, compression=None)
        else:
            frame = _read_csv(path)
    except BadScores:
        raise
    except Exception as error:  # every parser has its own; all mean the same to the user
        raise _not_a_table(path, str(error).splitlines()[0][:200], kind) from error
    if frame.empty or not len(frame.columns):
        raise BadScores(f"{path.name} has no rows.", fix="write one row a run, with a header")
    frame.columns = [str(column) for column in frame.columns]
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise BadScores(f"{path.name} has two columns named {twice[0]!r}.")
    return frame


class _Twice(Exception):
    """A key that one JSON object has two values for."""


def _too_large(path: Path, how: str) -> BadScores:
    return BadScores(
        f"{path.name} {how}; a table of scores is far smaller.",
        fix="keep one row a run: its arm, its pair and its scores",
    )


def _read_parquet(path: Path) -> pd.DataFrame:
    """Read a Parquet file in batches: compressed, 1 MB of it can be 10 GB in memory.

    Raises
    ------
    BadScores : more than MOST_DECODED bytes of values
    """
    import pyarrow as pa
    from pyarrow import parquet

    with parquet.ParquetFile(path, page_checksum_verification=True) as file:
        batches, size = [], 0
        for batch in file.iter_batches(batch_size=1024, use_threads=False):
            size += batch.nbytes
            if size > MOST_DECODED:
                raise _too_large(path, f"has more than {MOST_DECODED // 1024**2} MiB of values")
            batches.append(batch)
        frame: pd.DataFrame = pa.Table.from_batches(batches, schema=file.schema_arrow).to_pandas()
    return frame


def _require_plain_rows(path: Path) -> None:
    """Refuse rows of JSON that pandas would read otherwise than they are, or not at all.

    Of a column that occurs twice it keeps the last in silence; where every row has columns of its
    own, a file of 1 MB becomes a table of 10 GB.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        row = dict(pairs)
        if len(row) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise _Twice(twice)
        return row

    read_row = json.JSONDecoder(object_pairs_hook=once, parse_int=float).decode
    columns: set[str] = set()
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = read_row(line) if line.strip() else None
                columns.update(row if isinstance(row, dict) else ())
                if len(columns) * number > MOST_DECODED // 8:
                    raise _too_large(path, f"has {len(columns):,} columns in {number:,} rows")
            except _Twice as twice:
                raise BadScores(
                    f"{path.name}: line {number} has {twice.args[0]!r} twice.",
                    facts=["Which of the two values counts is not known."],
                    fix="keep one value a row and column",
                ) from None


def _read_csv(path: Path) -> pd.DataFrame:
    """Read a CSV; a row with more cells than the header is an error, not an index."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        separator = "\t" if path.suffix.lower() == ".tsv" else ","
        return pd.read_csv(path, sep=separator, index_col=False, compression=None)


def _not_a_table(path: Path, why: str, kind: str | None) -> BadScores:
    return BadScores(
        f"{path.name} cannot be read as {kind or 'CSV'}: {why}.",
        facts=["Known: .csv, .tsv, .parquet, .jsonl."],
        fix="save it as one of these",
    )
