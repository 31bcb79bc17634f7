"""Reads a file of scores: CSV, JSON, JSON lines, Parquet, Excel; texts also compressed."""

import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.errors import Refusal
from bench.importers import compression, spreadsheet

MOST_BYTES = 512 * 1024**2  # of a file
MOST_DECODED = 256 * 1024**2  # bytes of values in memory
KINDS = {
    ".csv": "CSV",
    ".tsv": "CSV",
    ".txt": "CSV",
    ".parquet": "Parquet",
    ".pq": "Parquet",
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
    ".json": "JSON",
    ".xlsx": "Excel",
}
BYTE_ORDERS = (b"\xff\xfe", b"\xfe\xff")  # with which a text in UTF-16 begins
SEPARATORS = ",;\t"
CALLED = ("None", "none", "null", "NULL", "NA", "nan", "NaN")  # what a name may be, beside texts
MISSING = ("-", "—", "–", "n/a", "N/A", "missing")  # beside those that pandas knows


class BadScores(Refusal):
    """A file whose values cannot be compared."""

    code = "scores"
    exit_status = 5


def read(path: Path) -> pd.DataFrame:
    """Read a file of scores as a table.

    Raises
    ------
    BadScores : no such file, too large, of another kind, empty, or unreadable
    """
    if not path.is_file():
        raise BadScores(f"there is no file {path}.", fix="name a CSV, JSON or Parquet file")
    if path.stat().st_size == 0:
        raise BadScores(f"{path.name} is empty.", fix="write one row a run, with a header")
    if path.stat().st_size > MOST_BYTES:
        raise _too_large(path, f"has {path.stat().st_size / 1024**3:.1f} GiB")
    packed = path.suffix.lower() in compression.SUFFIXES
    kind = KINDS.get(Path(path.stem if packed else path).suffix.lower())
    try:
        frame = _frame(path, kind)
    except BadScores:
        raise
    except compression.TooMuch as most:
        raise _too_large(path, f"has more than {most.bytes // 1024**2} MiB unpacked") from None
    except _Twice as key:
        raise BadScores(
            f"{path.name}: {key.where} has {key.key!r} twice.",
            facts=["Which of the two values counts is not known."],
            fix="keep one value a row and column",
        ) from None
    except Exception as error:  # every parser has its own; all mean the same to the user
        raise _not_a_table(path, str(error).splitlines()[0][:200], kind) from error
    return _named(frame, path)


def in_memory(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return a user's table as `read` returns that of a file; a named index becomes a column.

    What is neither a number nor a text becomes a text, so that it is refused as one.

    Raises
    ------
    BadScores : no rows, columns of several levels, or two of one name
    """
    if frame.columns.nlevels > 1:
        raise BadScores(
            f"{path.name} has columns of {frame.columns.nlevels} levels.",
            fix="give each column one name",
        )
    index = [name for name in frame.index.names if name is not None]
    shown = frame.reset_index() if index and not {*index} & {*frame.columns} else frame.copy()
    shown = _named(shown, path)
    for column in shown.columns[[dtype.kind not in "fiub" for dtype in shown.dtypes]]:
        shown[column] = pd.Series(list(map(_cell, shown[column])), shown.index, dtype=object)
    return shown.reset_index(drop=True)


def _cell(value: object) -> object:
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    return value if isinstance(value, str | float | int) else str(value)


def _named(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return a table whose columns have each a name of its own."""
    if frame.empty or not len(frame.columns):
        raise BadScores(f"{path.name} has no rows.", fix="write one row a run, with a header")
    frame.columns = [str(column).strip() for column in frame.columns]
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise BadScores(f"{path.name} has two columns named {twice[0]!r}.")
    return frame


def _frame(path: Path, kind: str | None) -> pd.DataFrame:
    with path.open("rb") as handle:
        head = handle.read(8)
    if kind == "Parquet" or (kind is None and head.startswith(b"PAR1")):
        return _read_parquet(path)
    if kind == "Excel":
        return spreadsheet.only_sheet(path, MOST_DECODED)
    data = compression.unpacked(path, head, MOST_DECODED)
    if b"\0" in data[:4096] and not data.startswith(BYTE_ORDERS):
        raise _not_a_table(path, "it holds binary data", kind)
    text = _decoded(data)
    start = text.lstrip()[:1]
    if kind == "JSON" or (kind is None and start == "["):
        return _read_json(path, text)
    if kind == "JSON lines" or (kind is None and start == "{"):
        return _read_rows(path, text)
    return _read_csv(path, text)


class _Twice(Exception):
    """A key that one JSON object has two values for."""

    def __init__(self, key: str, where: str) -> None:
        self.key, self.where = key, where


def _too_large(path: Path, how: str) -> BadScores:
    return BadScores(
        f"{path.name} {how}; a table of scores is far smaller.",
        fix="keep one row a run: its arm, its pair and its scores",
    )


def _decoded(data: bytes) -> str:
    """Return a text in UTF-8 or UTF-16, without its byte-order mark."""
    return data.decode("utf-16" if data.startswith(BYTE_ORDERS) else "utf-8-sig")


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


def _parsed(text: str, where: str) -> Any:
    """Parse JSON, refusing an object with a key twice, of which pandas would keep the last."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        row = dict(pairs)
        if len(row) < len(pairs):
            names = [name for name, _ in pairs]
            raise _Twice(next(name for name in names if names.count(name) > 1), where)
        return row

    return json.JSONDecoder(object_pairs_hook=once, parse_int=float).decode(text)


def _read_rows(path: Path, text: str) -> pd.DataFrame:
    """Read JSON lines; where every row has columns of its own, 1 MB would become 10 GB."""
    columns: set[str] = set()
    rows = io.StringIO(text)  # which ends them at line feeds alone, not at a U+2028 in a text
    for number, line in enumerate(rows, 1):
        row = _parsed(line, f"line {number}") if line.strip() else {}
        if not isinstance(row, dict):
            raise _not_a_table(path, f"line {number} is no object with a row", "JSON lines")
        columns.update(row)
        if len(columns) * number > MOST_DECODED // 8:
            raise _too_large(path, f"has {len(columns):,} columns in {number:,} rows")
    return pd.read_json(io.StringIO(text), lines=True)


def _read_json(path: Path, text: str) -> pd.DataFrame:
    """Read a JSON array of rows, an object with one list a column, or an object of objects."""
    found = _parsed(text, "a row")
    if isinstance(found, dict) and found and all(isinstance(v, list) for v in found.values()):
        if len({len(v) for v in found.values()}) > 1:
            raise _not_a_table(path, "its columns differ in length", "JSON")
        return pd.read_json(io.StringIO(text))
    if isinstance(found, dict) and found and all(isinstance(v, dict) for v in found.values()):
        return _read_objects(path, text, found)
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise _not_a_table(path, "it is neither a list of rows nor an object of columns", "JSON")
    columns = len({key for row in found for key in row})
    if columns * len(found) > MOST_DECODED // 8:
        raise _too_large(path, f"has {columns:,} columns in {len(found):,} rows")
    return pd.read_json(io.StringIO(text), orient="records")


def _read_objects(path: Path, text: str, found: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Read an object of objects: one a row, or one a column where their keys are numbers.

    The latter is what pandas writes. What the rows are called becomes the column `key`, unless
    they are merely counted from 0.
    """
    keys = list(dict.fromkeys(key for inner in found.values() for key in inner))
    if not keys:
        raise _not_a_table(path, "its objects are empty", "JSON")
    if len(keys) * len(found) > MOST_DECODED // 8:
        raise _too_large(path, f"has {len(found):,} objects with {len(keys):,} keys")
    columns = bool(keys) and all(key.isdecimal() for key in keys)
    frame = pd.read_json(
        io.StringIO(text), orient="columns" if columns else "index", convert_axes=False
    )
    if not (columns and keys == list(map(str, range(len(keys))))):
        frame.insert(0, "key", frame.index)
    return frame.reset_index(drop=True)


def _read_csv(path: Path, text: str) -> pd.DataFrame:
    """Read a CSV; a row with more cells than the header is an error, not an index.

    Lines that begin with # before the header are comments. The header shows the separator; where
    it is a semicolon, and commas stand inside the cells, they are decimal commas.
    """
    start, header = 0, ""
    for line in io.StringIO(text, newline=None):  # which reads no further than asked
        if not (line.startswith("#") or not line.strip()):
            header = line
            break
        start += 1
    separator = max(SEPARATORS, key=header.count)
    rows, columns = max(map(text.count, "\n\r")), header.count(separator) + 1
    if rows * columns > MOST_DECODED // 8:
        raise _too_large(path, f"has {columns:,} columns in {rows:,} rows")
    how: dict[str, Any] = {"skiprows": start, "sep": separator, "index_col": False}
    how |= {"decimal": "," if separator == ";" else ".", "skipinitialspace": True}
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        frame: pd.DataFrame = pd.read_csv(io.StringIO(text), na_values=list(MISSING), **how)
        names = [column for column in frame if _holds_names(frame[column])]
        if names:  # an arm may be called None
            as_is = pd.read_csv(
                io.StringIO(text), usecols=names, dtype=str, keep_default_na=False, **how
            )
            for column in names:
                frame[column] = frame[column].where(
                    ~as_is[column].isin(CALLED), as_is[column].astype(object)
                )
    return frame


def _holds_names(column: "pd.Series[Any]") -> bool:
    """Tell whether a column has texts and missing cells, and not one number."""
    texts = column.dropna()
    if len(texts) == len(column) or not len(texts) or pd.api.types.is_numeric_dtype(column):
        return False
    return bool(pd.to_numeric(texts, errors="coerce").isna().all())


def _not_a_table(path: Path, why: str, kind: str | None) -> BadScores:
    return BadScores(
        f"{path.name} cannot be read as {kind or 'CSV'}: {why}.",
        facts=[f"Known: {', '.join(KINDS)}; texts also with {', '.join(compression.SUFFIXES)}."],
        fix="save it as one of these",
    )
