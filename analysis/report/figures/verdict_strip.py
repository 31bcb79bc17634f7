"""Verdict strip: the verdict in one line (F0), and the small intervals of the tables."""

from html import escape

from bench.analysis.data.format import difference, interval, level, magnitude, scale, suffix
from bench.analysis.report.figures.axis import Axis, labelled, short, text_width
from bench.analysis.study.findings import Findings, Treatment

WIDTH, EDGE = 1016.0, 30.0
SMALL, SMALL_EDGE = 230.0, 8.0
# The sizes of text, of which style.css has the larger ones: of the strip on a wide page, a narrow
# one and a phone; of the tables' axes on a screen and on paper. A text is drawn where it fits.
USUAL, NARROW, PHONE = 14.0, 18.0, 27.0
SCREEN, PAPER = 11.5, 15.0
GAP = 14.0  # between words that stand side by side
INSIDE = "too small to matter"


def strip(f: Findings, c: Treatment) -> str:
    """Draw zero, the margin, both intervals and the claim on one axis."""
    unit, design = f.measure.unit, f.design
    factor = scale(unit)
    p, inner = c.primary, c.analysis("paired_t")
    dotted = c.verdict.word == "none" or p.low is None or p.high is None
    marks = [0.0, *(c.differences if dotted else ())]
    shown = (design.claim,) if dotted else (p.low, p.high, p.difference, design.claim)
    marks += [x for x in shown if x is not None]
    if not dotted and inner is not None:
        marks += [x for x in (inner.low, inner.high) if x is not None]
    marks += [design.margin, -design.margin] if design.margin else []
    axis = labelled(
        [m * factor for m in marks],
        WIDTH,
        EDGE,
        ticks=9,
        sizes=(NARROW, PHONE),
        unit=suffix(unit),
    )
    parts = []
    if design.margin:
        parts.append(_band(axis, design.margin * factor))
    parts += [_words(axis, f, c), *_ticks(axis)]
    zero = axis(0)
    parts.append(_line(zero, 20, zero, 102, "var(--ink)", 1.4))
    if dotted or p.low is None or p.high is None or p.difference is None:
        parts += [
            f'<circle cx="{axis(d * factor):.1f}" cy="58" r="5" fill="none" '
            'stroke="var(--b)" stroke-width="1.6"/>'
            for d in c.differences
        ]
    else:
        low, high = axis(p.low * factor), axis(p.high * factor)
        parts.append(_line(low, 58, high, 58, "var(--v)", 2, ' opacity=".75"'))
        parts += [_line(x, 52, x, 64, "var(--v)", 2, ' opacity=".75"') for x in (low, high)]
        if inner is not None and inner.low is not None and inner.high is not None:
            ends = axis(inner.low * factor), axis(inner.high * factor)
            parts.append(_line(ends[0], 58, ends[1], 58, "var(--v)", 13))
        parts.append(
            f'<circle cx="{axis(p.difference * factor):.1f}" cy="58" r="9.5" fill="var(--v)" '
            'stroke="var(--bg)" stroke-width="3"/>'
        )
    if design.claim is not None:
        parts.append(_claim(axis, design.claim * factor, magnitude(design.claim, unit)))
    name = f"s{design.treatments.index(c.treatment)}"
    if dotted:
        title = f"{len(c.differences)} differences, mean {difference(p.difference, unit)}"
    else:
        limits = interval(p.low, p.high, unit, guards=design.guards)
        title = (
            f"Mean difference {difference(p.difference, unit)}, {level(p.level)} interval {limits}"
        )
    if design.margin:
        title += f", against a margin of {magnitude(design.margin, unit)}{suffix(unit)}"
    return (
        f'<svg viewBox="0 0 {WIDTH:.0f} 136" role="img" aria-labelledby="{name}-t">'
        f'<title id="{name}-t">{escape(title)}.</title>{"".join(parts)}</svg>'
    )


def _band(axis: Axis, margin: float) -> str:
    left, right, middle = axis(-margin), axis(margin), axis(0)
    text = ""
    if _reach(axis, margin):
        fits = text_width(INSIDE, PHONE) / 2 <= min(middle, WIDTH - middle)
        text = _text(middle, 14, INSIDE, "middle", "" if fits else "odd")
    return (
        f'<rect x="{left:.1f}" y="20" width="{right - left:.1f}" height="82" fill="var(--band)"/>'
        f"{text}"
    )


def _reach(axis: Axis, margin: float) -> float:
    """Return how far from zero the band and its words reach; 0 if there is no room for them."""
    half = axis(margin) - axis(0)
    if 2 * (half + GAP) < text_width(INSIDE, USUAL):
        return 0.0
    return max(half, text_width(INSIDE, NARROW) / 2)


def _words(axis: Axis, f: Findings, c: Treatment) -> str:
    """Say which side is which: in the words that fit a narrow page too, else a wide one alone."""
    start = _reach(axis, (f.design.margin or 0.0) * scale(f.measure.unit)) + GAP
    up, down = ("better", "worse") if f.design.higher_is_better else ("worse", "better")
    left, right = axis(0) - start, axis(0) + start
    texts = []
    for x, room, word, side in ((left, left, down, "end"), (right, WIDTH - right, up, "start")):
        for size, most in [(size, most) for size in (NARROW, USUAL) for most in (26, 18, 12, 8)]:
            name = short(c.treatment, most)
            text = f"◂ {name} {word}" if side == "end" else f"{name} {word} ▸"
            if text_width(text, size) <= room:
                texts.append(_text(x, 14, text, side, "zl" if size == NARROW else "zl wide"))
                break
    return "".join(texts)


def _ticks(axis: Axis) -> list[str]:
    parts = [_line(axis.left, 102, axis.right, 102, "var(--rule)", 1)]
    for place, text, odd in axis.labels(PHONE):
        parts.append(_line(place, 102, place, 107, "var(--rule)", 1))
        parts.append(_text(place, 124, text, "middle", "odd" if odd else ""))
    return parts


def _claim(axis: Axis, claim: float, text: str) -> str:
    """Mark the claim; its words stand away from zero if they fit there, else across its line."""
    x, sign = axis(claim), "+" if claim >= 0 else "\u2212"
    text = f"claimed {sign}{text}"
    needed, right, more = 12 + text_width(text, PHONE), claim >= 0, ""
    if needed > (WIDTH - x if right else x):
        right = not right
        more = ' paint-order="stroke" stroke="var(--bg)" stroke-width="4"'
    place, anchor = (x + 12, "start") if right else (x - 12, "end")
    words = _text(place, 93, text, anchor, "", "var(--ink)", 500, more)
    return f'<path d="M{x:.1f} 82l6 6l-6 6l-6-6z" fill="var(--ink)"/>{words}'


def _line(
    x1: float, y1: float, x2: float, y2: float, colour: str, width: float, more: str = ""
) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width:g}"{more}/>'
    )


def _text(
    x: float,
    y: float,
    text: str,
    anchor: str,
    kind: str = "",
    colour: str = "var(--muted)",
    weight: int = 400,
    more: str = "",
) -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.0f}" text-anchor="{anchor}" fill="{colour}" '
        f'font-size="{USUAL:.0f}" font-weight="{weight}"{more}>{escape(text)}</text>'
    )


def forest_axis(f: Findings, c: Treatment) -> Axis:
    """Return the axis that all rows of the table of analyses share."""
    factor = scale(f.measure.unit)
    marks = [0.0]
    for row in c.analyses:
        marks += [x * factor for x in (row.low, row.high, row.difference) if x is not None]
    if f.design.margin:
        marks += [f.design.margin * factor, -f.design.margin * factor]
    return labelled(marks, SMALL, SMALL_EDGE, ticks=5, sizes=(SCREEN, PAPER))


def overview_axis(f: Findings) -> Axis:
    """Return the axis that the verdict intervals of all treatments share."""
    factor, margin = scale(f.measure.unit), f.design.margin or 0.0
    ends = [x for c in f.comparisons for x in (c.primary.low, c.primary.high) if x is not None]
    marks = [x * factor for x in (0.0, margin, -margin, *ends)]
    return labelled(marks, SMALL, SMALL_EDGE, ticks=7, sizes=(SCREEN, PAPER))


def forest_head(axis: Axis) -> str:
    """Draw the axis of the small intervals."""
    texts = "".join(
        f'<text class="{"odd" if odd else ""}" x="{place:.1f}" y="11" text-anchor="middle" '
        f'font-size="{SCREEN}" fill="var(--muted)">{text}</text>'
        for place, text, odd in axis.labels(PAPER)
    )
    return (
        f'<svg class="axis" width="{SMALL:.0f}" height="14" viewBox="0 0 {SMALL:.0f} 14" '
        f'aria-hidden="true">{texts}</svg>'
    )


def forest_row(
    axis: Axis,
    f: Findings,
    low: float | None,
    mean: float | None,
    high: float | None,
    *,
    main: bool,
) -> str:
    """Draw one interval of the table, on the shared axis."""
    factor = scale(f.measure.unit)
    parts = []
    if f.design.margin:
        left, right = axis(-f.design.margin * factor), axis(f.design.margin * factor)
        parts.append(
            f'<rect x="{left:.1f}" y="-15" width="{right - left:.1f}" height="52" class="mband"/>'
        )
    zero = axis(0)
    parts.append(f'<line x1="{zero:.1f}" x2="{zero:.1f}" y1="-9" y2="31" class="zero"/>')
    if low is not None and high is not None:
        parts.append(
            f'<line x1="{axis(low * factor):.1f}" x2="{axis(high * factor):.1f}" '
            'y1="11" y2="11" class="seg"/>'
        )
    if mean is not None:
        parts.append(f'<circle cx="{axis(mean * factor):.1f}" cy="11" r="4.2" class="pt"/>')
    kind = "ci v" if main else "ci"
    return (
        f'<svg class="{kind}" viewBox="0 0 {SMALL:.0f} 22" width="{SMALL:.0f}" height="22" '
        f'aria-hidden="true">{"".join(parts)}</svg>'
    )
