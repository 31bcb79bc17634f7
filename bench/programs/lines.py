"""Lines: what a program prints, read while it runs, and the scores that stand in it."""

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.analysis.data.metrics import METRICS
from bench.experiment import BadExperiment
from bench.programs.refusals import NoResults

LONGEST = 2**16  # characters of a line; the rest of a longer one is not searched
KEPT = 200  # lines, for the message of a run that failed
TRACEBACK = "Traceback (most recent call last):"
COLOURS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
NOT_FINITE = re.compile(r"(?i)(?<![\w.])[-+]?(?:nan|inf(?:inity)?)(?!\w)")
EXPONENT = re.compile(r"[eE][-+]?\d+(?![\w.])")
LEFT_OVER = re.compile(r"[.,]?\d")  # of a number of which the expression took the beginning
MINUS = "-\N{MINUS SIGN}"


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
        """Return the epoch, where there is one, and the number of a line; None without them.

        A sign and an exponent belong to the number, whether or not the expression takes them in;
        NaN and infinity are read where a number would be.

        Raises
        ------
        NoResults : what was matched is no number, or a part of one
        """
        found, not_finite = self._search(line)
        if found is None:
            return None
        group, epoch = self._group(found), self._epoch(found)
        if not_finite:
            return epoch, float(not_finite)
        text, rest = (found[group] or "").strip(), line[found.end(group) :]
        more = LEFT_OVER.match(rest)
        if more and found.end() == found.end(group) and not ("." in text and more[0][0] == ","):
            raise self._no_number(text, line, f"and {rest.split()[0][:20]!r} goes on")
        bare = text.rstrip("%").rstrip(".").replace("\N{MINUS SIGN}", "-")
        exponent = EXPONENT.match(rest)
        try:
            value = float(f"{bare}{exponent[0]}" if exponent else bare)
        except ValueError:
            raise self._no_number(text, line, "which is no number") from None
        if self._has_minus(line[: found.start(group)]):
            value = -value
        percent = text.endswith("%") or rest[:2].strip().startswith("%")
        return epoch, value / 100 if percent and is_fraction(self.name) else value

    def _search(self, line: str) -> tuple[re.Match[str] | None, str]:
        """Return the match, and the NaN or infinity that stands where it would find a number."""
        for odd in NOT_FINITE.finditer(line):
            found = self.pattern.search(f"{line[: odd.start()]}0.0{line[odd.end() :]}")
            if found is not None:
                first, end = found.span(self._group(found))
                if first <= odd.start() < end:
                    return found, odd[0]
        return self.pattern.search(line), ""

    def _group(self, found: re.Match[str]) -> int:
        """Return the group of the number: `value`, or the first that took part beside `epoch`."""
        names, groups = self.pattern.groupindex, range(1, self.pattern.groups + 1)
        own = [n for n in groups if n != names.get("epoch")]
        first = next((n for n in own if found[n] is not None), own[0])
        return names.get("value", first)

    def _epoch(self, found: re.Match[str]) -> int | None:
        if "epoch" not in self.pattern.groupindex:
            return None
        try:
            epoch = float(found["epoch"] or "nan")
        except ValueError:
            raise self._no_number(found["epoch"], found.string, "as its epoch") from None
        return int(epoch) if epoch.is_integer() else None

    def _has_minus(self, before: str) -> bool:
        """Tell whether a minus sign stands before the number, that the expression does not name."""
        if before[-1:] not in [*MINUS] or re.search(r"-(?:\(|\\s)", self.pattern.pattern):
            return False
        return len(before) == 1 or before[-2] in " \t:=(,[|"

    def _no_number(self, text: str, line: str, why: str) -> NoResults:
        return NoResults(
            f"{self.name} was read as {text[:40]!r}, {why}.",
            facts=[f"In the line: {line.strip()[:200]}"],
            fix="make the expression match the number alone and all of it, as in ([-+.\\deE]+); "
            "other brackets as (?:…)",
        )


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
        line = COLOURS.sub("", line)
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
