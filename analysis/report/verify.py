"""Verify: does a report say what the summary embedded in it says?

Three layers, so that no digit can be changed unseen: digests of the data and of the page find
every accident; the findings are concluded again from the summary and compared; and the page is
written again from them and compared word for word.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from bench.analysis.report import html as page
from bench.analysis.report.document import APART, digest, document, whole, written_by
from bench.analysis.study.conclude import conclude
from bench.analysis.study.findings import SCHEMA, Findings
from bench.analysis.study.summary import NOT_RECOMPUTED, DamagedReport, Summary

DATA = re.compile(r'<script type="application/json" id="bench-data">(.*?)</script>', re.DOTALL)
WRITER = re.compile(r'<meta name="generator" content="([^"]*)">')
FIRST = "bench.report/1"  # whose pages hold a digest of their data, and no summary
FIRST_DIGEST = re.compile(r'sha256 <span class="mono">([0-9a-f]{64})</span>')
MOST_LISTED = 20
TOLERANCE = 1e-9  # relative: sums in another order differ in their last bits


@dataclass(frozen=True)
class Mismatch:
    """A value that does not follow from the embedded data."""

    where: str  # comparisons[0].primary.high
    stated: Any
    recomputed: Any


@dataclass(frozen=True)
class Verified:
    """What was compared, and what does not agree."""

    findings: Findings | None  # None: of a schema that holds no summary
    experiment: str
    n_values: int  # concluded again
    n_words: int | None  # pieces of text compared; None: there is no page, or another version's
    mismatches: tuple[Mismatch, ...]
    note: str | None  # what could not be compared, and why
    not_proved: tuple[str, ...] = NOT_RECOMPUTED

    @property
    def holds(self) -> bool:
        """Whether everything agrees."""
        return not self.mismatches


def verify(text: str, *, version: str, beside: Callable[[], str] | None = None) -> Verified:
    """Check a report against its own data.

    Parameters
    ----------
    text : of report.html or results.json
    version : of bench, which writes the page again
    beside : reads the file of a summary that is too large for results.json

    Raises
    ------
    DamagedReport : no data of this schema in it, or data that are not whole
    """
    data, page_given = read(text)
    schema = data.get("schema") if isinstance(data, Mapping) else None
    if schema == FIRST:
        return _of_first_schema(data, text, page_given)
    if schema != SCHEMA:
        raise DamagedReport(f"it holds no data of the schema {SCHEMA!r}.")
    data = whole(data, beside or _nothing_beside)
    wrong = [*_digests(data, page_given)]
    try:
        f = conclude(Summary.from_dict(data["summary"]))
        again = document(f, version=version)
    except Exception:  # an edit that went unnoticed until here can break any rule of the analysis
        if not wrong:
            raise
        return Verified(None, _experiment(data), 0, None, tuple(wrong), None)
    by, now = str(data.get("written_by")), written_by(version)
    same = by == now
    n_values, odd = differing(data, again, words=same)
    n_words, wrong = None, [*odd, *wrong]
    found = DATA.search(page_given) if page_given is not None and same else None
    if page_given is not None and found is not None:
        n_words, odd = _compared(page_given, page.render(f, version=version, data=found[1]))
        wrong += odd
    listed = tuple(wrong[:MOST_LISTED])
    note = None if same else _other_version(by, now)
    return Verified(f, _experiment(data), n_values, n_words, listed, note)


def read(text: str) -> tuple[Any, str | None]:
    """Return the embedded data, and the page where there is one.

    Raises
    ------
    DamagedReport : neither a report nor its JSON
    """
    embedded = DATA.search(text)
    try:
        data = json.loads(embedded[1] if embedded else text)
    except (ValueError, RecursionError):
        raise DamagedReport(
            "it is neither a report.html nor a results.json that bench wrote, or it is damaged."
        ) from None
    return data, text if embedded else None


def _nothing_beside() -> str:
    raise ValueError("it is in a file of its own, which is not there")


def _experiment(data: Mapping[str, Any]) -> str:
    return str(data.get("experiment"))


def _other_version(by: str, now: str) -> str:
    return f"written by {by}; this is {now}: only the numbers were compared, not the words."


def _of_first_schema(data: Mapping[str, Any], text: str, page_given: str | None) -> Verified:
    """Compare the digest of the data that a page of the first schema prints."""
    stated = FIRST_DIGEST.search(text) if page_given else None
    embedded = DATA.search(text)
    if stated is None or embedded is None:
        raise DamagedReport(
            f"it is of the schema {FIRST!r}, and holds no digest that could be compared.",
            facts=["The report.html beside it holds one."],
        )
    found = hashlib.sha256(embedded[1].encode()).hexdigest()
    wrong = () if found == stated[1] else (Mismatch("sha256", stated[1], found),)
    note = f"of the schema {FIRST!r}: only the digest of its data was compared, nothing computed."
    return Verified(None, _experiment(data), 0, None, wrong, note, ("its numbers and words",))


def _digests(data: Mapping[str, Any], page_given: str | None) -> Iterator[Mismatch]:
    found = digest(data)
    if found != data.get("digest"):
        yield Mismatch("digest", data.get("digest"), found)
    if page_given is None:
        return
    stated, found = page.stated_digest(page_given), page.digest(page_given)
    if stated != found:
        yield Mismatch("page's digest", stated, found)
    writer = WRITER.search(page_given)
    if writer is None or writer[1] != data.get("written_by"):
        yield Mismatch("generator", writer and writer[1], data.get("written_by"))


# -- comparing values --------------------------------------------------------------------------


def differing(
    data: Mapping[str, Any], again: Mapping[str, Any], *, words: bool
) -> tuple[int, list[Mismatch]]:
    """Compare two documents but for their summaries: numbers always, words where asked for.

    Returns
    -------
    how many values were compared, and those that differ
    """
    rows = [
        row
        for key in dict.fromkeys((*again, *data))
        if key not in (*APART, "summary", "written_by")
        for row in _leaves(key, data.get(key, "missing"), again.get(key, "missing"))
    ]
    return len(rows), [row for row in rows if not _same(row.stated, row.recomputed, words=words)]


def _leaves(where: str, stated: Any, again: Any) -> Iterator[Mismatch]:
    """Walk two JSON values of one shape side by side, down to their numbers and words."""
    if isinstance(stated, Mapping) and isinstance(again, Mapping) and stated.keys() == again.keys():
        for key in stated:
            yield from _leaves(f"{where}.{key}", stated[key], again[key])
    elif isinstance(stated, list) and isinstance(again, list) and len(stated) == len(again):
        for i, (one, other) in enumerate(zip(stated, again, strict=True)):
            yield from _leaves(f"{where}[{i}]", one, other)
    else:
        yield Mismatch(where, stated, again)


def _same(stated: Any, again: Any, *, words: bool) -> bool:
    """Compare numbers always, words where the same version wrote them."""
    if isinstance(stated, str) and isinstance(again, str):
        return stated == again or not words
    if isinstance(stated, bool) or isinstance(again, bool):
        return stated is again
    if isinstance(stated, float | int) and isinstance(again, float | int):
        return math.isclose(stated, again, rel_tol=TOLERANCE, abs_tol=1e-12)
    return bool(stated == again)


# -- comparing pages ---------------------------------------------------------------------------


def _compared(given: str, again: str) -> tuple[int, list[Mismatch]]:
    """Compare two pages piece by piece: text, tags and attributes, drawings included."""
    if given == again:
        return sum(not piece.startswith("<") for piece in _pieces(again)), []
    pairs = [*zip_longest(_pieces(given), _pieces(again), fillvalue="")]
    odd = [pair for pair in pairs if pair[0] != pair[1]][:MOST_LISTED]
    wrong = [Mismatch("page", *_around_the_difference(*pair)) for pair in odd]
    return len(pairs), wrong or [Mismatch("page", "other bytes", "the same words")]


def _around_the_difference(stated: str, written: str) -> tuple[str, str]:
    """Return what surrounds the first sign in which two texts differ."""
    at = len(os.path.commonprefix([stated, written]))
    start = max(0, at - 30)

    def cut(text: str) -> str:
        end = at + 30
        return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"

    return cut(stated), cut(written)


def _pieces(html: str) -> Iterator[str]:
    """Yield a page's tags and texts, whatever the white space in and between them."""
    pieces = (" ".join(piece.split()) for piece in re.findall(r"<[^>]*>|[^<]+", html))
    return (piece for piece in pieces if piece)
