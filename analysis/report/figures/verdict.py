"""Verdict: zero, the margin, both intervals and the claim on one axis (F0)."""

from typing import TYPE_CHECKING

from bench.analysis.data import format as form
from bench.analysis.report.figures import style
from bench.analysis.report.figures.axis import Axis, short, text_width
from bench.analysis.report.figures.verdict_strip import NARROW, PHONE, USUAL, WIDTH, Strip
from bench.analysis.study.findings import Findings, Treatment

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

HEIGHT = 136.0
WORDS, TOP, MIDDLE, BOTTOM, TICKS = 14.0, 20.0, 58.0, 102.0, 124.0  # heights, from above
GAP = 14.0  # between words that stand side by side
INSIDE = "too small to matter"


def strip(f: Findings, c: Treatment, ids: str = "") -> style.Drawing:
    """Draw the verdict strip; style.css enlarges its words by the ends of their ids.

    Parameters
    ----------
    ids : what every id begins with, where others may stand on the same page
    """
    s = Strip.of(f, c)
    axis, name = s.axis(), f"{ids}f0-{f.design.treatments.index(c.treatment)}"
    with style.canvas(WIDTH, HEIGHT) as ax:
        _band(ax, axis, s.margin, name)
        _sides(ax, axis, f, c, name, start=_reach(axis, s.margin) + GAP)
        _ticks(ax, axis, name)
        ax.plot([axis(0)] * 2, [TOP, BOTTOM], color=style.INK, lw=1.4)
        _interval(ax, axis, s, style.COLOURS[style.VERDICT_COLOUR[c.verdict.word]])
        for claim in s.claim:
            sign = "+" if claim >= 0 else "\u2212"
            amount = form.magnitude(f.design.claim or 0.0, f.measure.unit)
            _claim(ax, axis(claim), f"claimed {sign}{amount}", name, right=claim >= 0)
        return style.finish(ax, name=name, title=_title(f, c, s), description="", caption="")


def _title(f: Findings, c: Treatment, s: Strip) -> str:
    unit, p, margin = f.measure.unit, c.primary, f.design.margin
    text = f"{len(c.differences)} differences, mean {form.difference(p.difference, unit)}"
    if s.span:
        limits = form.interval(p.low, p.high, unit, guards=f.design.guards)
        mean = form.difference(p.difference, unit)
        text = f"Mean difference {mean}, {form.level(p.level)} interval {limits}"
    if margin:
        text += f", against a margin of {form.magnitude(margin, unit)}{form.suffix(unit)}"
    return f"{text}."


def _interval(ax: "Axes", axis: Axis, s: Strip, colour: str) -> None:
    """Draw the verdict's interval over that of the paired t; without one, every difference."""
    if not s.span:
        dots = [axis(x) for x in s.differences]
        ax.plot(dots, [MIDDLE] * len(dots), "o", ms=10, mfc="none", mec=style.TREATMENT, mew=1.6)
        return
    low, estimate, high = map(axis, s.span)
    ax.plot([low, high], [MIDDLE] * 2, "|-", color=colour, lw=2, ms=12, mew=2, alpha=0.75)
    if s.inner:
        ends = [axis(x) for x in s.inner]
        ax.plot(ends, [MIDDLE] * 2, color=colour, lw=13, solid_capstyle="butt")
    ax.plot([estimate], [MIDDLE], "o", ms=19, color=colour, mec=style.BACKGROUND, mew=3)


def _band(ax: "Axes", axis: Axis, margin: float, name: str) -> None:
    if margin:
        left, right, middle = axis(-margin), axis(margin), axis(0)
        ax.fill_between([left, right], TOP, BOTTOM, color=style.BAND, lw=0, zorder=0)
    if margin and _reach(axis, margin):
        fits = text_width(INSIDE, PHONE) / 2 <= min(middle, WIDTH - middle)
        _text(ax, middle, WORDS, INSIDE, "center", f"{name}-band{'' if fits else '-odd'}")


def _reach(axis: Axis, margin: float) -> float:
    """Return how far from zero the band and its words reach; 0 if there is no room for them."""
    half = axis(margin) - axis(0)
    if 2 * (half + GAP) < text_width(INSIDE, USUAL):
        return 0.0
    return max(half, text_width(INSIDE, NARROW) / 2)


def _sides(ax: "Axes", axis: Axis, f: Findings, c: Treatment, name: str, *, start: float) -> None:
    """Say which side is which: in the words that fit a narrow page too, else a wide one alone."""
    up, down = ("better", "worse") if f.design.higher_is_better else ("worse", "better")
    left, right = axis(0) - start, axis(0) + start
    for x, room, word, side in ((left, left, down, "right"), (right, WIDTH - right, up, "left")):
        for size, most in [(size, most) for size in (NARROW, USUAL) for most in (26, 18, 12, 8)]:
            said = f"{short(c.treatment, most)} {word}"
            text = f"◂ {said}" if side == "right" else f"{said} ▸"
            if text_width(text, size) <= room:
                kind = "side" if size == NARROW else "wide"
                _text(ax, x, WORDS, text, side, f"{name}-{word}-{kind}")
                break


def _ticks(ax: "Axes", axis: Axis, name: str) -> None:
    ax.plot([axis.left, axis.right], [BOTTOM] * 2, color=style.COLOURS["rule"], lw=1)
    for i, (place, text, odd) in enumerate(axis.labels(PHONE)):
        ax.plot([place] * 2, [BOTTOM, BOTTOM + 5], color=style.COLOURS["rule"], lw=1)
        _text(ax, place, TICKS, text, "center", f"{name}-{i}-{'odd' if odd else 'tick'}")


def _claim(ax: "Axes", x: float, text: str, name: str, *, right: bool) -> None:
    """Mark the claim; its words stand away from zero if they fit there, else across its line."""
    ax.plot([x], [BOTTOM - 14], "D", ms=8.5, color=style.INK, mew=0)
    fits = 12 + text_width(text, PHONE) <= (WIDTH - x if right else x)
    away = right if fits else not right
    place, side = (x + 12, "left") if away else (x - 12, "right")
    paper = None if fits else {"facecolor": style.BACKGROUND, "edgecolor": "none", "pad": 2}
    words = _text(ax, place, BOTTOM - 9, text, side, f"{name}-claim")
    words.set(color=style.INK, bbox=paper)


def _text(ax: "Axes", x: float, y: float, text: str, side: str, gid: str) -> "Text":
    return ax.text(x, y, text, ha=side, va="baseline", color=style.MUTED, size=USUAL, gid=gid)
