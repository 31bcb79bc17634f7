"""Strip: the verdict in one line (F0), and the small intervals of the tables."""

import unicodedata
from html import escape

from analysis.figures.axis import Axis, short
from analysis.findings import Findings, Treatment
from analysis.format import difference, interval, level, magnitude, scale, suffix

WIDTH, LEFT, RIGHT = 1016.0, 30.0, 986.0
SMALL = 230.0


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
    axis = Axis([m * factor for m in marks], LEFT, RIGHT)
    parts = []
    if design.margin:
        parts.append(_band(axis, design.margin * factor))
    parts += [_words(axis, f, c), *_ticks(axis, suffix(unit))]
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
    left, right = axis(-margin), axis(margin)
    text = ""
    if right - left > 150:  # else there is no room for the words
        text = _text((left + right) / 2, 14, "too small to matter", "middle")
    return (
        f'<rect x="{left:.1f}" y="20" width="{right - left:.1f}" height="82" fill="var(--band)"/>'
        f"{text}"
    )


def _words(axis: Axis, f: Findings, c: Treatment) -> str:
    """Say which side is which."""
    unit_factor = scale(f.measure.unit)
    edge = (f.design.margin or 0.0) * unit_factor
    if axis(edge) - axis(-edge) <= 150:
        edge = 0.0
    up, down = ("better", "worse") if f.design.higher_is_better else ("worse", "better")
    places = ((axis(-edge) - 14, axis(-edge) - 14), (axis(edge) + 14, WIDTH - axis(edge) - 14))
    texts = []
    for (x, room), word, side in zip(places, (down, up), ("end", "start"), strict=True):
        for most in (26, 18, 12, 8):  # signs of the name, the most that fit beside the word
            name = short(c.treatment, most)
            text = f"◂ {name} {word}" if side == "end" else f"{name} {word} ▸"
            if text_width(text) <= room:
                texts.append(_text(x, 14, text, side, "zl"))
                break
    return "".join(texts)


def text_width(text: str) -> float:
    """Return roughly how wide a text is, at the size that a narrow page gives it."""
    wide = sum(unicodedata.east_asian_width(s) in "WF" or s in "MWmw@" for s in text)
    return 9.5 * len(text) + 8.0 * wide


def _ticks(axis: Axis, unit: str) -> list[str]:
    parts = [_line(axis.left, 102, axis.right, 102, "var(--rule)", 1)]
    for i, x in enumerate(axis.ticks()):
        place, text = axis(x), axis.label(x)
        parts.append(_line(place, 102, place, 107, "var(--rule)", 1))
        odd = "odd" if i % 2 and text != "0" else ""
        parts.append(_text(place, 124, f"0{unit}" if text == "0" else text, "middle", odd))
    return parts


def _claim(axis: Axis, claim: float, text: str) -> str:
    x = axis(claim)
    side, anchor = (-12, "end") if x > axis.right - 130 else (12, "start")
    sign = "+" if claim >= 0 else "\u2212"
    words = _text(x + side, 93, f"claimed {sign}{text}", anchor, "", "var(--ink)", 500)
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
) -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.0f}" text-anchor="{anchor}" fill="{colour}" '
        f'font-size="14" font-weight="{weight}">{escape(text)}</text>'
    )


def forest_axis(f: Findings, c: Treatment) -> Axis:
    """Return the axis that all rows of the table of analyses share."""
    factor = scale(f.measure.unit)
    marks = [0.0]
    for row in c.analyses:
        marks += [x * factor for x in (row.low, row.high, row.difference) if x is not None]
    if f.design.margin:
        marks += [f.design.margin * factor, -f.design.margin * factor]
    return Axis(marks, 8.0, SMALL - 8.0, ticks=5)


def overview_axis(f: Findings) -> Axis:
    """Return the axis that the verdict intervals of all treatments share."""
    factor, margin = scale(f.measure.unit), f.design.margin or 0.0
    ends = [x for c in f.comparisons for x in (c.primary.low, c.primary.high) if x is not None]
    return Axis([x * factor for x in (0.0, margin, -margin, *ends)], 8.0, SMALL - 8.0, ticks=7)


def forest_head(axis: Axis) -> str:
    """Draw the axis of the small intervals."""
    texts = "".join(
        f'<text x="{axis(x):.1f}" y="11" text-anchor="middle" font-size="11.5" '
        f'fill="var(--muted)">{axis.label(x)}</text>'
        for x in axis.ticks()
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
