"""Lines: what a program prints, read while it runs, and the scores that stand in it."""

import codecs
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.analysis.data.metrics import METRICS
from bench.experiment import BadExperiment
from bench.programs.refusals import NoResults

LONGEST = 2**16  # characters of a line; the rest of a longer one is not searched
KEPT = 200  # lines, for the message of a run that failed
TRACEBACK = "Traceback (most recent call last):"


class Splitter:
    r"""Cuts bytes into lines, at \n and at the \r of a progress bar."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._rest = ""

    def feed(self, data: bytes, *, last: bool = False) -> list[str]:
        """Return the lines that are complete now; with `last` also what follows them."""
        *whole, self._rest = re.split(r"\r\n|\r|\n", self._rest + self._decode(data, last))
        self._rest = self._rest[:LONGEST]
        if last and self._rest:
            whole, self._rest = [*whole, self._rest], ""
        return whole


@dataclass(frozen=True)
class Reader:
    """One `NAME=REGEX`: a score, or with a group `epoch` that of every epoch."""

    name: str
    pattern: re.Pattern[str]

    @classmethod
    def of(cls, name: str, text: str) -> "Reader":
        """Return the reader of an expression.

        Raises
        ------
        BadExperiment : no regular expression, or one without a group that holds the number
        """
        try:
            pattern = re.compile(text)
        except re.error as error:
            raise BadExperiment(
                f"how to read {name} is no regular expression: {error}.", facts=[text[:200]]
            ) from None
        if not set(range(1, pattern.groups + 1)) - {pattern.groupindex.get("epoch")}:
            raise BadExperiment(
                f"how to read {name} has no group that holds the number.",
                facts=[text[:200]],
                fix=r"put the number in brackets, as in 'accuracy: ([\d.]+)'",
            )
        return cls(name, pattern)

    def read(self, line: str) -> tuple[int | None, float] | None:
        """Return the epoch, where there is one, and the number of a line; None without them."""
        found = self.pattern.search(line)
        if found is None:
            return None
        epoch = self.pattern.groupindex.get("epoch")
        group = next(n for n in range(1, self.pattern.groups + 1) if n != epoch)
        group = self.pattern.groupindex.get("value", group)
        text = (found[group] or "").strip().rstrip("%").replace("\N{MINUS SIGN}", "-")
        after = line[found.end(group) : found.end(group) + 2].strip()
        percent = (found[group] or "").strip().endswith("%") or after.startswith("%")
        try:
            value = float(text)
            at = None if epoch is None else int(found["epoch"])
        except (TypeError, ValueError):
            raise NoResults(
                f"{self.name} was read as {text[:40]!r}, which is no number.",
                facts=[f"In the line: {line.strip()[:200]}"],
                fix="make the expression match the number alone, as in ([-+.\\deE]+)",
            ) from None
        return at, value / 100 if percent and is_fraction(self.name) else value


def is_fraction(metric: str) -> bool:
    """Tell whether a metric is known to lie between 0 and 1."""
    return metric in METRICS and METRICS[metric].unit == "fraction"


@dataclass
class Printed:
    """What has been printed so far."""

    readers: Mapping[str, Reader]
    scores: dict[str, float] = field(default_factory=dict)
    last: list[str] = field(default_factory=list)  # lines that are not empty
    traceback: bool = False

    def add(self, line: str) -> dict[int, dict[str, float]]:
        """Take a line in; returns what it says of an epoch."""
        epochs: dict[int, dict[str, float]] = {}
        if line.strip():
            self.last = [*self.last[1 - KEPT :], line.rstrip()[:500]]
            self.traceback |= line.startswith(TRACEBACK)
        for name, reader in self.readers.items():
            found = reader.read(line[:LONGEST])
            if found is not None:
                epoch, value = found
                self.scores[name] = value
                if epoch is not None:
                    epochs.setdefault(epoch, {})[name] = value
        return epochs

    def words(self) -> list[str]:
        """Return the last lines, for whoever has to find out what went wrong."""
        return [f"It printed: {line.strip()[:200]}" for line in self.last[-6:]]


def finite(scores: Mapping[str, float]) -> dict[str, float]:
    """Return the scores that are numbers."""
    return {name: value for name, value in scores.items() if math.isfinite(value)}
