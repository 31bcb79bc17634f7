"""Pictures: every figure of the report, for the page and as files of their own."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import bench.analysis.report.figures.style as style  # first: it imports matplotlib
from bench.analysis.report.figures import effect, planning, reliability, training, verdict
from bench.analysis.study.findings import Findings, Treatment

FILES = {
    "f0": "verdict",
    "f1": "each-seed",
    "f2": "difference",
    "f3": "sensitivity",
    "f4": "running-mean",
    "f5": "reliability",
    "f6": "learning-curves",
    "f7": "difference-by-epoch",
}


@dataclass(frozen=True)
class Drawings:
    """What can be drawn of these findings, by treatment or by arm; None where something lacks."""

    strips: Mapping[str, style.Drawing]
    slopes: Mapping[str, style.Drawing]
    dots: Mapping[str, style.Drawing]
    sensitivity: Mapping[str, style.Drawing | None]
    running: Mapping[str, style.Drawing | None]
    reliability: Mapping[str, style.Drawing]
    curves: style.Drawing | None
    gaps: style.Drawing | None

    def __iter__(self) -> Iterator[style.Drawing]:
        """Yield every drawing, in the page's order."""
        by_name = (
            self.strips,
            self.slopes,
            self.dots,
            self.sensitivity,
            self.running,
            self.reliability,
        )
        found = [d for drawings in by_name for d in drawings.values()]
        yield from (d for d in (*found, self.curves, self.gaps) if d is not None)


def draw(f: Findings) -> Drawings:
    """Draw every figure of fitted findings."""
    return Drawings(
        strips={c.treatment: verdict.strip(f, c) for c in f.comparisons},
        slopes={c.treatment: effect.slopes(f, c) for c in f.comparisons},
        dots={c.treatment: effect.dots(f, c) for c in f.comparisons},
        sensitivity={
            c.treatment: planning.sensitivity(f, c) if c.power.sd else None for c in f.comparisons
        },
        running={
            c.treatment: planning.as_they_came(f, c) if _bounded(c) else None for c in f.comparisons
        },
        reliability={r.arm: reliability.reliability(f, r) for r in f.reliability},
        curves=training.learning_curves(f) if f.curves else None,
        gaps=training.differences_by_epoch(f) if f.gaps else None,
    )


def _bounded(c: Treatment) -> bool:
    return any(low is not None and high is not None for _, _, low, high in c.anytime.path)


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
    stem = f"{figure}-{FILES[figure]}"
    if not place or (figure != "f5" and not several):
        return stem
    return f"{stem}-{int(place) + (figure != 'f5')}"
