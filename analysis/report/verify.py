"""Verify: does a report say what the data embedded in it say?

Three layers, so that no digit can be changed unseen: the numbers are computed again from the
embedded sums; the page is written again from the embedded findings and compared word for word;
and the page prints the digest of its data.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from itertools import zip_longest
from typing import Any

import numpy as np

from bench.analysis.report import html as page
from bench.analysis.study.findings import DamagedReport, Findings
from bench.analysis.study.recompute import Mismatch, recompute

DATA = re.compile(r'<script type="application/json" id="bench-data">(.*?)</script>', re.DOTALL)
WRITER = re.compile(r'<meta name="generator" content="([^"]*)">')
MOST_LISTED = 20


@dataclass(frozen=True)
class Verified:
    """What was compared, and what does not agree."""

    findings: Findings
    n_values: int  # computed again
    n_words: int | None  # pieces of text compared; None: there is no page, or another version's
    mismatches: tuple[Mismatch, ...]
    note: str | None  # what could not be compared, and why

    @property
    def holds(self) -> bool:
        """Whether everything agrees."""
        return not self.mismatches


def verify(text: str, *, version: str, rng: np.random.Generator) -> Verified:
    """Check a report against its own data.

    Parameters
    ----------
    text : of report.html or results.json
    version : of bench, which writes the page again
    rng : in the state in which the report's `study` was given its own

    Raises
    ------
    DamagedReport : no data of this schema in it, or data that are not whole
    """
    data, page_given = read(text)
    f = Findings.from_dict(data)
    numbers = recompute(f, rng=rng)
    if page_given is None:
        return Verified(f, numbers.n_values, None, numbers.mismatches[:MOST_LISTED], None)
    again = page.render(f, version=version)
    writers = [WRITER.search(html) for html in (page_given, again)]
    by, now = (found[1] if found else "an unknown program" for found in writers)
    if by != now:
        note = f"written by {by}; this is {now}: only the numbers were compared, not the words."
        return Verified(f, numbers.n_values, None, numbers.mismatches[:MOST_LISTED], note)
    words, wrong = _compared(page_given, again)
    found = (*numbers.mismatches, *wrong)
    return Verified(f, numbers.n_values, words, found[:MOST_LISTED], None)


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


def _compared(given: str, again: str) -> tuple[int, list[Mismatch]]:
    """Compare two pages piece by piece: text, tags and attributes, drawings included."""
    if given == again:
        return sum(kind == "text" for kind, _ in _pieces(again)), []
    n_words, wrong = 0, []
    for stated, written in zip_longest(_pieces(given), _pieces(again)):
        n_words += 1
        if stated != written:
            texts = ["" if piece is None else piece[1] for piece in (stated, written)]
            wrong.append(Mismatch("page", *_around_the_difference(*texts)))
            if len(wrong) == MOST_LISTED:
                break
    return n_words, wrong or [Mismatch("page", "other bytes", "the same words")]


def _around_the_difference(stated: str, written: str) -> tuple[str, str]:
    """Return what surrounds the first sign in which two texts differ."""
    at = len(os.path.commonprefix([stated, written]))
    start = max(0, at - 30)

    def cut(text: str) -> str:
        end = at + 30
        return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"

    return cut(stated), cut(written)


def _pieces(html: str) -> Iterator[tuple[str, str]]:
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return iter(reader.pieces)


class _Reader(HTMLParser):
    """A page as a list of tags with their attributes, and texts."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag and its attributes."""
        self.pieces.append(("tag", " ".join([tag, *(f"{k}={v}" for k, v in attrs)])))

    def handle_data(self, data: str) -> None:
        """Keep a text."""
        if data.strip():
            self.pieces.append(("text", " ".join(data.split())))

    def handle_comment(self, data: str) -> None:
        """Keep a comment: ours has none."""
        self.pieces.append(("comment", data))

    def handle_decl(self, decl: str) -> None:
        """Keep the document type."""
        self.pieces.append(("declaration", decl))
