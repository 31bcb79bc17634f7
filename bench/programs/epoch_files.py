"""Epoch files: metrics.jsonl or metrics.csv of a run, one row an epoch, read while it grows."""

import contextlib
import csv
import io
import json
from collections.abc import Iterator, Mapping
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
        except OSError:  # just being replaced
            return
        state = (now.st_ino, now.st_size, now.st_mtime_ns)
        if state == self._seen or now.st_size > MOST_BYTES:
            return
        self._seen = state
        for epoch, values in rows(path, whole_lines=True):
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
    data = path.read_bytes()
    if whole_lines:
        data = data[: data.rfind(b"\n") + 1]
    text = data.decode("utf-8-sig", "replace")
    plain = _of_csv(text) if path.suffix == ".csv" else _of_json_lines(text)
    found: dict[int, dict[str, float]] = {}
    for number, row in enumerate(plain):
        values = numbers(row)
        names = [name for name in EPOCH_NAMES if name in values]
        epoch = values.pop(names[0]) if names else float(number)
        if epoch >= 0 and epoch == int(epoch) and values:
            found.setdefault(int(epoch), {}).update(values)
    return sorted(found.items())


def _of_csv(text: str) -> Iterator[Mapping[str, Any]]:
    yield from csv.DictReader(io.StringIO(text, newline=""))


def _of_json_lines(text: str) -> Iterator[Mapping[str, Any]]:
    for line in text.splitlines():
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
