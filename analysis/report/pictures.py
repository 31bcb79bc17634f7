"""Pictures: every figure of the report, for the page and as files of their own."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import bench.analysis.report.figures.style as style  # first: it imports matplotlib
from bench.analysis.report.figures import (
    effect,
    planning,
    ranks,
    reliability,
    risk,
    training,
    verdict,
)
from bench.analysis.study.findings import Findings, Treatment

MOST_LINES = 2_000  # of a slope chart: more are one grey patch, and megabytes
Drawn = Mapping[str, style.Drawing | None]  # by treatment, by arm, or "" for all of them


@dataclass(frozen=True)
class Figure:
    """One figure of the report."""

    file: str
    draw: Callable[[Findings], Drawn]
    section: str = ""  # of the page, which shows it there for every treatment; or the page names it


def _each(
    draw: Callable[[Findings, Treatment], style.Drawing],
    known: Callable[[Treatment], object] = lambda c: True,
) -> Callable[[Findings], Drawn]:
    return lambda f: {c.treatment: draw(f, c) if known(c) else None for c in f.comparisons}


def _paired(c: Treatment) -> bool:
    return not c.pairs.independent


def _few_pairs(c: Treatment) -> bool:
    return _paired(c) and c.n_pairs <= MOST_LINES


def _risk(f: Findings) -> style.Drawing | None:
    return risk.risk_coverage(f) if any(of.risk for of in f.reliability) else None


def _bounded(c: Treatment) -> bool:
    return any(low is not None and high is not None for _, _, low, high in c.anytime.path)


FIGURES = {  # in the page's order
    "strips": Figure("f0-verdict", _each(verdict.strip)),
    "slopes": Figure("f1-each-seed", _each(effect.slopes, _few_pairs)),
    "dots": Figure("f2-difference", _each(effect.dots, _paired)),
    "sensitivity": Figure("f3-sensitivity", _each(planning.sensitivity, lambda c: c.power.sd)),
    "running": Figure("f4-running-mean", _each(planning.as_they_came, _bounded)),
    "reliability": Figure(
        "f5-reliability",
        lambda f: {r.arm: reliability.reliability(f, r) for r in f.reliability},
    ),
    "risk": Figure("f9-risk-coverage", lambda f: {"": _risk(f)}),
    "curves": Figure(
        "f6-learning-curves", lambda f: {"": training.learning_curves(f) if f.curves else None}
    ),
    "ranks": Figure(
        "f8-ranks",
        lambda f: {"": ranks.ranks(f) if f.among is not None and f.among.ranks else None},
    ),
    "gaps": Figure(
        "f7-difference-by-epoch",
        lambda f: {"": training.differences_by_epoch(f) if f.gaps else None},
    ),
}
FILES = {figure.file.partition("-")[0]: figure.file for figure in FIGURES.values()}


@dataclass(frozen=True)
class Drawings:
    """What can be drawn of these findings, by the figure's name; None where something lacks."""

    by_name: Mapping[str, Drawn]

    def __getitem__(self, name: str) -> Drawn:
        return self.by_name[name]

    def __iter__(self) -> Iterator[style.Drawing]:
        """Yield every drawing, in the page's order."""
        yield from (d for drawn in self.by_name.values() for d in drawn.values() if d is not None)

    def more(self, section: str, treatment: str) -> list[style.Drawing]:
        """Return what a section of the page shows of a treatment beside what it names."""
        named = [drawn for name, drawn in self.by_name.items() if FIGURES[name].section == section]
        return [d for drawn in named if (d := drawn.get(treatment)) is not None]


def draw(f: Findings) -> Drawings:
    """Draw every figure of fitted findings."""
    return Drawings({name: figure.draw(f) for name, figure in FIGURES.items()})


@dataclass(frozen=True)
class Picture:
    """A figure as a file: SVG that opens anywhere, and PNG when it is asked for."""

    name: str  # of the file, without its ending
    svg: str
    png: Callable[[], bytes]


def pictures(f: Findings) -> Iterator[Picture]:
    """Yield every figure of fitted findings: light colours on white paper.

    A number at the end of a name is the arm's place: 0 for the baseline, then the treatments.
    """
    several = len(f.comparisons) > 1
    for drawing in draw(f):
        yield Picture(_file(drawing.name, several=several), drawing.file, drawing.png)


def _file(name: str, *, several: bool) -> str:
    """Return the file of a drawing, whose name is a figure and perhaps a place in the plan."""
    figure, _, place = name.partition("-")
    stem = FILES[figure]
    if not place or (figure != "f5" and not several):
        return stem
    return f"{stem}-{int(place) + (figure != 'f5')}"
