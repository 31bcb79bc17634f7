"""Verdict strip: what is drawn of a verdict, on which axis; page, files and terminal draw this."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.analysis.data.format import Unit, scale, suffix
from bench.analysis.report.figures.axis import Axis, labelled
from bench.analysis.study.findings import Findings, Treatment

WIDTH, EDGE = 1016.0, 30.0
SMALL, SMALL_EDGE = 230.0, 8.0
ALONE = ("paired_t", "weighted_t", "welch")  # analyses of the rows alone
WIDER = ("two_way", "anytime", "group")  # analyses that count more than that
# The sizes of text, of which style.css has the larger ones: of the strip on a wide page, a narrow
# one and a phone; of the tables' axes on a screen and on paper. A text is drawn where it fits.
USUAL, NARROW, PHONE = 14.0, 18.0, 27.0
SCREEN, PAPER = 11.5, 15.0


@dataclass(frozen=True, kw_only=True)
class Strip:
    """A verdict's marks, in printed units."""

    span: tuple[float, ...]  # low, estimate, high; empty: no verdict, or an unbounded one
    inner: tuple[float, ...]  # limits of the units alone, such as seeds, for a fixed number
    differences: tuple[float, ...]  # what is drawn where there is no span
    margin: float  # 0: none was declared
    claim: tuple[float, ...]
    unit: str

    @classmethod
    def of(cls, f: Findings, c: Treatment) -> "Strip":
        """Return the marks of one treatment."""
        unit, p = f.measure.unit, c.primary
        t = next((a for n in ALONE if (a := c.analysis(n))), None) if p.method in WIDER else p
        span = () if c.verdict.word == "none" else _printed(unit, p.low, p.difference, p.high)
        return cls(
            span=span,
            inner=_printed(unit, t.low, t.high) if span and t is not None else (),
            differences=_printed(unit, *c.differences),
            margin=scale(unit) * (f.design.margin or 0.0),
            claim=_printed(unit, f.design.claimed_difference),
            unit=suffix(unit),
        )

    @property
    def lines(self) -> tuple[float, float, float]:
        """What the interval is read against: zero, and the margin on both sides."""
        return -self.margin, 0.0, self.margin

    def axis(self) -> Axis:
        """Return the axis that holds all marks, as wide as the page."""
        marks = [*self.lines, *(self.span or self.differences), *self.inner, *self.claim]
        return labelled(marks, WIDTH, EDGE, ticks=9, sizes=(NARROW, PHONE), unit=self.unit)


def _printed(unit: Unit, *values: float | None) -> tuple[float, ...]:
    """Return all values in printed units, or none where one is missing."""
    known = tuple(x * scale(unit) for x in values if x is not None)
    return known if len(known) == len(values) else ()


def forest_axis(f: Findings, spans: Iterable[Sequence[float | None] | None]) -> Axis | None:
    """Return the axis that all rows of a table share; None where nothing is drawn."""
    values = [x for span in spans if span is not None for x in span]
    return _small(f, values, ticks=5) if any(x is not None for x in values) else None


def overview_axis(f: Findings) -> Axis:
    """Return the axis that the verdict intervals of all treatments share."""
    return _small(f, (x for c in f.comparisons for x in (c.primary.low, c.primary.high)), ticks=7)


def _small(f: Findings, values: Iterable[float | None], *, ticks: int) -> Axis:
    factor, margin = scale(f.measure.unit), f.design.margin or 0.0
    marks = [x * factor for x in (0.0, margin, -margin, *values) if x is not None]
    return labelled(marks, SMALL, SMALL_EDGE, ticks=ticks, sizes=(SCREEN, PAPER))
