"""Epoch files: metrics.jsonl or metrics.csv of a run, one row an epoch, read while it grows."""

import contextlib
import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

FILES = ("metrics.jsonl", "metrics.csv")
EPOCH_NAMES = ("epoch", "epochs", "step", "iteration", "iter")
MOST_BYTES = 64 * 2**20

Row = tuple[int, dict[str, float]]


class Followed:
    """A file that grows, or that is written anew; each poll returns the epochs that are new."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: tuple[int, int, int] | None = None  # of the file when it was read last
        self._told: dict[int, set[str]] = {}

    def poll(self) -> Iterator[Row]:
        """Yield what has not been told yet of each epoch, in order; of whole lines only."""
        path = file_in(self._folder)
        if path is None:
            return
        try:
            now = path.stat()
            state = (now.st_ino, now.st_size, now.st_mtime_ns)
            if state == self._seen or now.st_size > MOST_BYTES:
                return
            found = rows(path, whole_lines=True)
        except OSError:  # just being replaced
            return
        self._seen = state
        for epoch, values in found:
            told = self._told.setdefault(epoch, set())
            new = {name: value for name, value in values.items() if name not in told}
            if new:
                told.update(new)
                yield epoch, new


def file_in(folder: Path) -> Path | None:
    """Return a run's file of epochs, the first that is there."""
    return next((folder / name for name in FILES if (folder / name).is_file()), None)


def rows(path: Path, *, whole_lines: bool = False) -> list[Row]:
    """Return the rows of a file by epoch, the last one of each; what is no row is passed over.

    Parameters
    ----------
    whole_lines : leave out a last line without its end, which is still being written
    """
    found: dict[int, dict[str, float]] = {}
    for epoch, values in _in_order(path, whole_lines=whole_lines):
        found.setdefault(epoch, {}).update(values)
    return sorted(found.items())


def last_values(path: Path) -> dict[str, float]:
    """Return each score of the last row that has it; a last row may name no epoch."""
    found: dict[str, float] = {}
    for _, values in _in_order(path):
        found |= values
    return found


def _in_order(path: Path, *, whole_lines: bool = False) -> Iterator[Row]:
    """Yield the rows as they stand in the file; one without an epoch belongs to that before it."""
    data = path.read_bytes()
    if whole_lines:
        data = data[: data.rfind(b"\n") + 1]
    text = data.decode("utf-8-sig", "replace")
    plain = [numbers(row) for row in (_of_csv if path.suffix == ".csv" else _of_json_lines)(text)]
    key = _epoch_name(plain)
    epoch = 0.0
    for number, row in enumerate(plain):
        epoch = row.get(key, epoch) if key else float(number)
        values = {name: value for name, value in row.items() if name not in EPOCH_NAMES}
        if epoch >= 0 and values:
            yield int(epoch), values


def _epoch_name(plain: Sequence[Mapping[str, float]]) -> str | None:
    """Return what counts the rows: the first name whose numbers are whole, as epoch 2.99 is not."""
    for name in EPOCH_NAMES:
        values = [row[name] for row in plain if name in row]
        if values and all(value.is_integer() for value in values):
            return name
    return None


def _of_csv(text: str) -> Iterator[Mapping[str, Any]]:
    with contextlib.suppress(csv.Error):  # what follows a NUL, or a field of 128 KiB, is no row
        yield from csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)


def _of_json_lines(text: str) -> Iterator[Mapping[str, Any]]:
    for line in text.split("\n"):  # a text may hold other line ends
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


def numbers(values: Mapping[str, Any], above: str = "") -> dict[str, float]:
    """Return the numbers of nested tables by their names, joined by /; texts and lists are left."""
    found: dict[str, float] = {}
    for name, value in values.items():
        full = f"{above}{name}"
        if isinstance(value, Mapping):
            found |= numbers(value, f"{full}/")
        elif isinstance(value, str):
            try:
                found[full] = float(value)
            except ValueError:  # a name, a date
                continue
        elif isinstance(value, int | float):
            with contextlib.suppress(OverflowError):  # a whole number of hundreds of digits
                found[full] = float(value)
    return found
