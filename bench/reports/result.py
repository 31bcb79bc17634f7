"""Findings as Python is given them: plain values, a table, a figure, files, a notebook's output."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Self

from bench.analysis.errors import Refusal, literal
from bench.analysis.study.findings import Analysis, Findings, Treatment
from bench.reports.formats import ALONE, BadFormat, replace_bytes, single
from bench.terminal import printable, unicode_out

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Interval = tuple[float | None, float | None]


class UnknownArm(Refusal, LookupError):
    """A name that is none of the treatments."""

    code = "arm"


class SeveralArms(Refusal, AttributeError):
    """One value asked of findings that hold several comparisons."""

    code = "arm"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is found about one treatment, in plain values; differences in metric units."""

    arm: str
    verdict: str  # better, worse, equivalent, inconclusive or none
    n: int  # complete pairs
    difference: float | None  # treatment minus baseline
    interval: Interval  # that the verdict follows; None: unbounded, or not to be had
    level: float  # its coverage; with several treatments all intervals hold together at 95 %
    p_value: float | None  # two-sided, adjusted for all treatments as the interval is
    details: Treatment = field(repr=False)


class Result(Findings):
    """The findings of `bench.compare`, `bench.run` and `bench.load`.

    With one treatment `verdict`, `difference`, `interval`, `p_value` and `n` are its own; with
    several `f["arm"].verdict` is asked of one, and `for answer in f` goes through all.
    """

    @classmethod
    def of(cls, found: Findings) -> Self:
        """Return the same findings."""
        return cls(**{f.name: getattr(found, f.name) for f in fields(Findings)})

    def __getitem__(self, arm: str) -> Answer:
        return self._answer(self._named(arm))

    def __iter__(self) -> Iterator[Answer]:
        return map(self._answer, self.comparisons)

    def _answer(self, c: Treatment) -> Answer:
        return Answer(
            arm=c.treatment,
            verdict=c.verdict.word,
            n=c.n_pairs,
            difference=c.primary.difference,
            interval=(c.primary.low, c.primary.high),
            level=c.primary.level,
            p_value=self._adjusted(c.primary.p_value),
            details=c,
        )

    def _adjusted(self, p: float | None) -> float | None:
        return (
            None
            if p is None
            else min(1.0, self.design.conditions * len(self.design.treatments) * p)
        )

    def _named(self, arm: str | None) -> Treatment:
        found = [c for c in self.comparisons if arm in (None, c.treatment)]
        names = [c.treatment for c in self.comparisons]
        if arm is not None and not found:
            raise UnknownArm(
                f"no treatment is called {literal(arm)}.", fix=f"one of: {', '.join(names)}"
            ).in_full()
        if len(found) > 1:
            raise SeveralArms(
                f"{len(names)} treatments are compared, so which one is meant is not known.",
                fix=f"one of: {', '.join(f'f[{literal(name)}]' for name in names)}",
            ).in_full()
        return found[0]

    def _only(self) -> Answer:
        return self._answer(self._named(None))

    @property
    def verdict(self) -> str:
        """The word: better, worse, equivalent, inconclusive or none."""
        return self._only().verdict

    @property
    def difference(self) -> float | None:
        """Treatment minus baseline, in metric units."""
        return self._only().difference

    @property
    def interval(self) -> Interval:
        """The limits of the interval that the verdict follows, in metric units."""
        return self._only().interval

    @property
    def p_value(self) -> float | None:
        """The two-sided p-value of the same analysis."""
        return self._only().p_value

    @property
    def n(self) -> int:
        """The number of complete pairs."""
        return self._only().n

    def to_frame(self) -> "pd.DataFrame":
        """Return one row a treatment and analysis, in metric units.

        The row whose `decides` is true is the one that the verdict follows. P-values are adjusted
        for all treatments, as the intervals are.
        """
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "treatment": c.treatment,
                    "baseline": self.design.baseline,
                    "metric": self.design.metric,
                    "analysis": row.name,
                    "decides": row.name == c.primary.method,
                    "verdict": c.verdict.word,
                    "n": c.n_pairs,
                    "difference": row.difference,
                    "low": row.low,
                    "high": row.high,
                    "level": row.level,
                    "p_value": self._adjusted(row.p_value),
                    "reason": row.reason,
                }
                for c in self.comparisons
                for row in _rows(c)
            ]
        ).astype({name: float for name in ("difference", "low", "high", "level", "p_value")})

    def plot(self, arm: str | None = None) -> "Figure":
        """Return the report's figure of the difference: every seed, the mean and its interval.

        Parameters
        ----------
        arm : of several treatments the one to draw
        """
        from bench.analysis.report.figures.effect import dots
        from bench.analysis.report.names import fitted

        place = self.comparisons.index(self._named(arm))
        shown = fitted(self)
        drawing = dots(shown, shown.comparisons[place])
        drawing.figure._repr_png_ = drawing.png  # type: ignore[attr-defined]  # of a notebook
        return drawing.figure

    def save(self, path: str | Path) -> Path:
        """Write a file of the kind that its name ends in, whole or not at all.

        Parameters
        ----------
        path : of the report (.html), everything as JSON (.json, which `bench verify` concludes
            again from), tables and paragraph (.md, .tex), or every pair (.csv)

        Raises
        ------
        BadFormat : a name that ends otherwise
        """
        place = Path(path).expanduser()
        form = place.suffix.lower().removeprefix(".")
        if form not in ALONE:
            raise BadFormat(
                f"{place.name} ends in none of {', '.join(f'.{each}' for each in ALONE)}.",
                fix=f'save("{place.stem or "report"}.html")',
            ).in_full()
        replace_bytes(place, single(self, form))
        return place

    def _repr_html_(self) -> str:
        from bench.analysis.report.html import first_screen

        return first_screen(self)

    def __repr__(self) -> str:
        from bench.analysis.report.terminal import brief

        return printable(brief(self, unicode=unicode_out()))


def _rows(c: Treatment) -> list[Analysis]:
    """Return the analyses, also that of the verdict where it is none of them."""
    named = c.analysis(c.primary.method)
    return [*([] if named else [Analysis.of(c.primary.method, c.primary)]), *c.analyses]
