"""Effect: each seed in both arms (F1), and the difference with its uncertainty (F2)."""

from typing import TYPE_CHECKING

import numpy as np
import seaborn as sns
from numpy.typing import NDArray
from scipy import stats

from bench.analysis.data import format as form
from bench.analysis.report.figures import style
from bench.analysis.report.figures.axis import short
from bench.analysis.study.findings import Findings, Treatment

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_DOTS = 300  # seeds of which each has a dot; more are counted in bars
MOST_BARS = 40


def slopes(f: Findings, c: Treatment) -> style.Drawing:
    """Draw one line a seed from the baseline's value to the treatment's."""
    unit, design, noun = f.measure.unit, f.design, f.design.units.pair
    factor = form.scale(unit)
    base = np.array(c.pairs.baseline) * factor
    other = np.array(c.pairs.treatment) * factor
    rises = other >= base
    small = dot_size(base.size, most=3.4)
    with style.axes() as ax:
        for left, right, up in zip(base, other, rises, strict=True):
            look = (
                {"color": style.TREATMENT, "alpha": 0.55}
                if up
                else {"color": style.BASELINE, "ls": "--"}
            )
            ax.plot([0, 1], [left, right], lw=0.9, **look)
        at = np.zeros_like(base)
        ax.plot(at, base, "o", ms=small, mfc=style.BACKGROUND, mec=style.BASELINE, mew=0.9)
        ax.plot(at + 1, other, "o", ms=small, color=style.TREATMENT, mew=0)
        for x, name, colour in (
            (-0.17, design.baseline, style.BASELINE),
            (1.17, c.treatment, style.TREATMENT),
        ):
            arm = f.arm(name)
            if arm.mean is None:
                continue
            if arm.low is not None and arm.high is not None:
                ax.plot([x, x], [arm.low * factor, arm.high * factor], color=colour, lw=2.2)
            face = "none" if name == design.baseline else colour
            ax.plot([x], [arm.mean * factor], "o", ms=5.5, mfc=face, mec=colour, mew=1.6)
            shift, side = (-0.06, "right") if x < 0 else (0.06, "left")
            _bold(ax, x + shift, arm.mean * factor, form.value(arm.mean, unit), colour, side)
        ax.set_xlim(-0.62, 1.62)
        ax.set_xticks([0, 1], [short(design.baseline), short(c.treatment)])
        ax.set_ylabel(axis_label(f))
        seeds = noun.counted(c.n_pairs)
        ups, downs = int((other > base).sum()), int((other < base).sum())
        return style.finish(
            ax,
            name=f"f1-{f.design.treatments.index(c.treatment)}",
            title=f"{f.metric_label}: each {noun.one} in both arms",
            description=(
                f"Slope chart of {seeds} from {design.baseline} to {c.treatment}: "
                f"{ups} rise, {downs} fall. Means "
                f"{form.value(f.arm(design.baseline).mean, unit)} and "
                f"{form.value(f.arm(c.treatment).mean, unit)}."
            ),
            caption=(
                f"One line per {noun.one}: blue rises, dashed grey falls."
                + (
                    f" Outer bars: mean with {form.level(1 - design.alpha)} interval of each arm "
                    f"over {noun.many}. Whether these overlap decides nothing; the comparison is "
                    "paired."
                    if f.arm(design.baseline).low is not None
                    else " Outer marks: each arm’s mean."
                )
            ),
        )


def dots(f: Findings, c: Treatment) -> style.Drawing:
    """Draw every seed's difference beside the mean, its interval and sampling distribution."""
    unit, noun = f.measure.unit, f.design.units.pair
    factor = form.scale(unit)
    diff = np.array(c.differences) * factor
    p, colour = c.primary, style.COLOURS[style.VERDICT_COLOUR[c.verdict.word]]
    with style.axes() as ax:
        if f.design.margin is not None:
            style.band(ax, f.design.margin * factor)
        ax.axhline(0, color=style.INK, lw=0.9)
        open_dots = c.verdict.word == "none"
        ax.set_xlim(-0.55, 1.75)
        many = diff.size > MOST_DOTS
        (_bars if many else _swarm)(ax, diff, hollow=open_dots)
        decided = not open_dots and p.low is not None and p.high is not None
        if decided and p.difference is not None and p.low is not None and p.high is not None:
            low, mean, high = p.low * factor, p.difference * factor, p.high * factor
            if p.standard_error and p.df:
                error = p.standard_error * factor
                ys = np.linspace(mean - 4 * error, mean + 4 * error, 120)
                density = stats.t.pdf((ys - mean) / error, p.df)
                curve = 1 + 0.55 * density / density.max()
                ax.fill_betweenx(ys, 1, curve, color=colour, alpha=0.18, lw=0)
                ax.plot(curve, ys, color=colour, lw=0.8)
            ax.plot([1, 1], [low, high], color=colour, lw=3)
            ax.plot([1], [mean], "o", ms=7, color=colour, mec=style.BACKGROUND, mew=1.4)
            _bold(ax, 0.92, mean, form.difference(p.difference, unit), colour, "right", va="bottom")
        ax.set_xlim(-0.55, 1.75 if decided else 0.55)
        seeds = noun.counted(c.n_pairs)
        ax.set_xticks([0, 1] if decided else [0], [seeds, "mean"] if decided else [seeds])
        ax.set_ylabel(f"difference{f' ({form.suffix(unit).strip()})' if form.suffix(unit) else ''}")
        style.signed_ticks(ax)
        limits = form.interval(p.low, p.high, unit, guards=f.design.guards)
        return style.finish(
            ax,
            name=f"f2-{f.design.treatments.index(c.treatment)}",
            title=f"Difference in {f.metric_label}, {c.treatment} minus {f.design.baseline}",
            description=(
                f"{c.n_pairs} differences from {form.difference(min(c.differences), unit)} to "
                f"{form.difference(max(c.differences), unit)}; mean "
                f"{form.difference(p.difference, unit)}"
                + (f", {form.level(p.level)} interval {limits}." if decided else ".")
                if c.differences
                else "No complete pair."
            ),
            caption=(
                (f"Blue bars: number of {noun.many}." if many else f"Dots: one per {noun.one}.")
                + (
                    f" Bar: mean with the verdict’s {form.level(p.level)} interval"
                    if decided
                    else ""
                )
                + ("; curve: its sampling distribution" if decided and p.df else "")
                + ("." if decided else " Hollow: there is no verdict." if open_dots else "")
                + (" Shaded: inside the margin." if f.design.margin else "")
            ),
        )


def _bars(ax: "Axes", values: NDArray[np.float64], *, hollow: bool) -> None:
    """Draw how many seeds fell where: a bar a value, or a bin where there are many values."""
    places, counts = np.unique(values.round(9), return_counts=True)
    if places.size > MOST_BARS:
        counts, edges = np.histogram(values, bins=MOST_BARS)
        places = (edges[:-1] + edges[1:]) / 2
    ax.barh(
        places,
        0.9 * counts / counts.max(),
        height=0.8 * float(np.diff(places).min(initial=1.0)),
        left=-0.45,
        facecolor="none" if hollow else style.TREATMENT,
        edgecolor=style.TREATMENT,
        linewidth=0.6,
    )


def _swarm(ax: "Axes", values: NDArray[np.float64], *, hollow: bool) -> None:
    """Draw every seed as a dot of its own, side by side where they are equal."""
    sns.swarmplot(
        x=np.zeros(values.size),
        y=values,
        ax=ax,
        size=dot_size(values.size),
        facecolor="none" if hollow else style.TREATMENT,
        edgecolor=style.TREATMENT,
        linewidth=0.9,
        native_scale=True,
        warn_thresh=1.0,  # a dot that found no place is drawn over others
    )


def _bold(
    ax: "Axes", x: float, y: float, text: str, colour: str, ha: str, va: str = "center"
) -> None:
    ax.text(x, y, text, ha=ha, va=va, color=colour, weight="bold")


def dot_size(n: int, most: float = 4.0) -> float:
    """Return the size of a seed's dot: smaller where there are many, in points."""
    return most if n <= 40 else max(1.2, most * 6.25 / float(np.sqrt(n)))


def axis_label(f: Findings) -> str:
    """Return the metric with its printed unit."""
    return f"{f.metric_label} (%)" if f.measure.unit == "fraction" else short(f.metric_label, 40)
