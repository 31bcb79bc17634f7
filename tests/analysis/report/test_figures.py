import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from matplotlib.font_manager import FontProperties, findfont, get_font

from bench.analysis.data.format import spread
from bench.analysis.report import html
from bench.analysis.report.figures import (
    effect,
    planning,
    reliability,
    risk,
    training,
    verdict,
    verdict_strip,
)
from bench.analysis.report.figures.axis import Axis, labelled, short, text_width
from bench.analysis.report.figures.style import ARMS, COLOURS, axes, finish

SVG = "{http://www.w3.org/2000/svg}"
SHAPES = ("rule3_better", "rule0_few_pairs", "three_treatments", "own_score_lower_is_better",
          "one_pair", "no_pair_in_common", "anytime_few", "certain")  # fmt: skip


def drawings(f):
    """Return every figure of a report that its findings allow."""
    found = []
    for c in f.comparisons:
        found += [verdict.strip(f, c), effect.slopes(f, c), effect.dots(f, c)]
        if c.power.sd:
            found.append(planning.sensitivity(f, c))
        if any(low is not None for _, _, low, _ in c.anytime.path):
            found.append(planning.as_they_came(f, c))
    found += [reliability.reliability(f, r) for r in f.reliability]
    found += [risk.risk_coverage(f)] if f.reliability else []
    found += [training.learning_curves(f)] if f.curves else []
    found += [training.differences_by_epoch(f)] if f.gaps else []
    return found


@pytest.fixture(scope="module", params=SHAPES)
def drawn(request, known):
    return known(request.param), drawings(known(request.param))


def marks(drawing, colour):
    """Return the lines of this colour, by their places on the picture."""
    lines = drawing.figure.axes[0].get_lines()
    return [line for line in lines if COLOURS[colour] in (line.get_color(), line.get_mec())]


def test_figures_are_well_formed_and_described(drawn):
    f, figures = drawn
    names = [d.name for d in figures]
    assert len(set(names)) == len(names)
    for d in figures:
        root = ET.fromstring(d.svg)
        assert ET.fromstring(d.file).attrib["viewBox"] == root.attrib["viewBox"]
        title, desc = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
        assert title.text == d.title and (desc.text or "") == d.description
        assert not re.search(r"\bnan\b|None", d.description + d.caption + d.title)


def test_only_the_themes_colours_are_left(drawn):
    for svg in [d.svg for d in drawn[1]]:
        assert not re.search(r"#[0-9a-fA-F]{3,8}\b(?![-\w])", re.sub(r'"#[\w-]+"|url\(#', "", svg))
        assert "rgb(" not in svg
        used = re.findall(r"(?:fill|stroke)[:=]\s*\"?([^;\"]+)", svg)
        allowed = {"none", *(f"var(--{name})" for name in COLOURS)}
        assert {u.strip() for u in used} <= allowed
        assert "NaN" not in svg and "nan" not in re.sub(r">[^<]*<", "><", svg)


def test_no_two_figures_share_an_id(drawn):
    _, figures = drawn
    seen = set()
    for d in figures:
        ids = re.findall(r'\bid="([^"]+)"', d.svg)
        assert len(ids) == len(set(ids)) and not seen & set(ids)
        seen |= set(ids)
        targets = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', d.svg)
        assert {a or b for a, b in targets} <= set(ids)
        assert "<style" not in d.svg and "<metadata" not in d.svg and "<!--" not in d.svg


def test_numbers_stay_inside_the_picture_and_are_short(drawn):
    _, figures = drawn
    for d in figures:
        assert max(len(x) for x in re.findall(r"\d+\.(\d+)", re.sub(r">[^<]*<", "><", d.svg))) <= 2
        assert len(d.svg) < 60_000


def test_the_same_findings_give_the_same_bytes(known):
    f = known("rule0_few_pairs")
    assert [d.svg for d in drawings(f)] == [d.svg for d in drawings(f)]


@pytest.mark.parametrize(
    "name",
    ["$x^2$", "a_b", "#1b1e23", 'url(#x) id="y" 0.123456', "<b>&amp;", "🙂", "-->"],
)
def test_a_name_is_drawn_as_it_is_typed(name):
    with axes() as ax:
        ax.plot([0, 1], [0, 1])
        ax.set_title(name)
        ax.set_xlabel("0.98765")
        d = finish(ax, name="f", title=name, description=name, caption="")
    texts = ["".join(node.itertext()) for node in ET.fromstring(d.svg).iter()]
    assert name in [text.strip() for text in texts]
    assert "0.98765" in d.svg


def test_long_names_are_shortened_in_every_figure(simulate):
    long = "a name that goes on and on " * 20
    f = simulate(
        n_seeds=8, n_test=80, n_epochs=3, baseline=long, treatments=(f"{long}too",)
    ).findings()
    for d in drawings(f):
        drawn_texts = re.findall(r"<text[^>]*>([^<]*)<", d.svg)
        assert drawn_texts and max(map(len, drawn_texts)) <= 45
    words = verdict.strip(f, f.comparisons[0]).figure.axes[0].texts
    sides = [text for text in words if text.get_gid().endswith(("-side", "-wide"))]
    assert sides
    for text in sides:
        x, wide = text.get_position()[0], text.get_gid().endswith("-wide")
        room = x if text.get_ha() == "right" else verdict_strip.WIDTH - x
        size = verdict_strip.USUAL if wide else verdict_strip.NARROW
        assert text_width(text.get_text(), size) <= room


def test_shortening_keeps_short_names():
    assert short("baseline") == "baseline"
    assert short("x" * 30) == "x" * 21 + "…"
    assert short("smoothed towards w", 18) == "smoothed toward…"  # wide signs need more room
    assert text_width(short("W" * 30), 1) <= text_width("x" * 22, 1)


@pytest.mark.parametrize("weight", ["normal", "bold"])
@pytest.mark.parametrize(
    "text",
    ["0 pp", "\u22120.05", "+1.5", "claimed +1.00", "too small to matter", "smoothed better ▸",
     "◂ label smoothing worse", "12 seeds", "Baseline WWWW mmmm", "+100%"],
)  # fmt: skip
def test_texts_are_taken_for_as_wide_as_in_the_widest_of_the_usual_fonts(text, weight):
    font = get_font(findfont(FontProperties(family="DejaVu Sans", weight=weight)))
    font.set_size(100, 72)
    font.set_text(text)
    drawn = font.get_width_height()[0] / 64
    assert drawn <= text_width(text, 100) <= 1.6 * drawn


def test_the_strip_is_laid_out_for_the_sizes_that_the_style_gives_it():
    css = (Path(html.__file__).parent / "style.css").read_text("utf-8")
    sizes = [
        float(size) for size in re.findall(r"\.strip text{font-size:([\d.]+)px!important}", css)
    ]
    assert sizes == [verdict_strip.NARROW, verdict_strip.PHONE]
    sizes = [float(size) for size in re.findall(r"\.axis text{font-size:([\d.]+)px}", css)]
    assert sizes == [verdict_strip.PAPER]


@pytest.mark.parametrize("marks", [[0, 3e-5, -4e-6], [0, 12345.0], [-0.2, 0], [0, 1.2, -1.7]])
@pytest.mark.parametrize("ticks", [5, 7, 9])
def test_labels_keep_apart_and_inside_whatever_the_numbers(marks, ticks):
    for width, edge, sizes in ((1016, 30, (18, 27)), (230, 8, (11.5, 15))):
        axis = labelled(list(marks), width, edge, ticks=ticks, sizes=sizes)
        for size, thinned in zip(sizes, (False, True), strict=True):
            half = [
                (place, text_width(text, size) / 2)
                for place, text, odd in axis.labels(sizes[1])
                if not (odd and thinned)
            ]
            assert half[0][0] >= half[0][1] - 1e-9
            assert half[-1][0] + half[-1][1] <= width + 1e-9
            ends = zip(half, half[1:], strict=False)
            assert all(x + wide < y - next_wide for (x, wide), (y, next_wide) in ends)
        assert "0" in [text for _, text, odd in axis.labels(sizes[1]) if not odd]


@pytest.mark.parametrize("marks", [[0.0], [0.0, 0.0], [-1e-9, 1e-9], [0, 1e6], [-3.2, 0.1, 0.4]])
def test_an_axis_holds_its_marks_between_round_ticks(marks):
    axis = Axis(list(marks), 10.0, 110.0)
    ticks = axis.ticks()
    assert axis.low <= min(marks) and max(marks) <= axis.high
    assert all(10.0 <= axis(x) <= 110.0 for x in [*marks, *ticks])
    assert np.allclose(np.diff(ticks), axis.step)
    assert len({axis.label(t) for t in ticks}) == len(ticks)
    assert (axis(-1e12), axis(1e12)) == (10.0, 110.0)


@pytest.mark.parametrize(
    "marks",
    [
        [-1e308, 1e308],
        [0.0, math.inf],
        [-math.inf, math.inf],
        [1e16],
        [1e300, 1e300],
        [5e-324, 0.0],
        [1e8, 1e8 + 1e-9],
    ],
)
def test_an_axis_of_any_width_has_ticks(marks):
    axis = Axis(list(marks), 10.0, 110.0)
    assert 1 <= len(axis.ticks()) < 30 and axis.low < axis.high < math.inf
    assert all(10.0 <= axis(x) <= 110.0 for x in marks)
    labelled(list(marks), 300.0, 10.0, ticks=9, sizes=(9.0, 12.0))


@pytest.mark.parametrize("marks", [[], [0.0, math.nan]])
def test_an_axis_of_no_numbers_is_refused(marks):
    with pytest.raises(ValueError, match="marks that are numbers"):
        Axis(marks, 10.0, 110.0)


def test_the_strip_draws_the_interval_of_the_verdict(known):
    f = known("rule3_better")
    c = f.comparisons[0]
    drawing = verdict.strip(f, c)
    assert ">claimed +1.00<" in drawing.svg
    thin, *_, dot = marks(drawing, "better")
    (left, right), (middle,) = thin.get_xdata(), dot.get_xdata()
    assert left < middle < right
    share = (c.primary.difference - c.primary.low) / (c.primary.high - c.primary.low)
    assert (middle - left) / (right - left) == pytest.approx(share, abs=1e-9)


@pytest.mark.parametrize("name", ["rule0_few_pairs", "rule0_blocker", "failed_runs"])
def test_without_a_verdict_every_seed_is_an_open_dot_and_no_interval_is_drawn(known, name):
    f = known(name)
    c = f.comparisons[0]
    drawing = verdict.strip(f, c)
    (dots,) = [line for line in marks(drawing, "b") if line.get_mfc() == "none"]
    places = dots.get_xdata()
    assert len(places) == c.n_pairs
    assert all(verdict_strip.EDGE <= x <= verdict_strip.WIDTH - verdict_strip.EDGE for x in places)
    assert not marks(drawing, "none") and "interval" not in drawing.svg
    dots = effect.dots(f, c)
    assert "interval" not in dots.caption + dots.description
    assert "mean</text>" not in dots.svg


@pytest.mark.parametrize("name", ["rule3_better", "scope_seeds", "three_treatments"])
def test_the_sensitivity_curve_reaches_80_per_cent_where_the_text_says(known, name):
    f = known(name)
    for c in f.comparisons:
        drawing = planning.sensitivity(f, c)
        curves = drawing.figure.axes[0].get_lines()[1:-2]  # after the 80 % line, before its mark
        assert len(curves) == 1 + sum(n <= c.n_pairs / 1.5 for n in (5, 10))
        x, y = curves[0].get_data()
        assert np.interp(100 * c.power.detectable_at_80, x, y) == pytest.approx(80, abs=0.5)
        assert all((np.diff(curve.get_ydata()) >= 0).all() for curve in curves)
        assert f">{spread(c.power.detectable_at_80, 'fraction')}<" in drawing.svg


def test_reliability_diagrams_of_all_arms_share_their_axis(known):
    f = known("three_treatments")
    limits = {reliability.reliability(f, r).figure.axes[0].get_xlim() for r in f.reliability}
    assert len(limits) == 1
    first = min(np.flatnonzero(np.array(r.share) > 0.002)[0] for r in f.reliability)
    assert limits.pop()[0] <= 100 * first / len(f.reliability[0].share)


def test_the_risk_coverage_curve_ends_at_the_error_rate_and_averages_to_the_aurc(known):
    f = known("rule3_better")
    for of, line in zip(
        f.reliability, risk.risk_coverage(f).figure.axes[0].get_lines(), strict=True
    ):
        row = next(r for r in f.calibration if r.arm == of.arm and not r.scaled)
        x, y = line.get_data()
        assert (x[0], x[-1], len(x)) == (5, 100, 20)
        assert y[-1] == pytest.approx(100 - 100 * f.arm(of.arm).mean)
        assert y.mean() == pytest.approx(100 * row.aurc, rel=0.05)


def test_every_arm_has_a_colour_of_its_own(known):
    f = known("three_treatments")
    lines = training.learning_curves(f).figure.axes[0].get_lines()
    assert [line.get_color() for line in lines] == list(ARMS[:4])


def test_captions_name_the_level_that_is_drawn(known):
    f = known("three_treatments")
    assert "98.33% interval" in effect.dots(f, f.comparisons[0]).caption
    assert "98.33% anytime-valid" in planning.as_they_came(f, f.comparisons[0]).caption
    assert "95% interval of each arm" in effect.slopes(f, f.comparisons[0]).caption


def test_more_seeds_than_there_is_room_for_are_counted_in_bars(simulate):
    small = {"n_epochs": 0, "n_classes": 3, "validation": False}
    f = simulate(n_seeds=effect.MOST_DOTS, n_test=40, **small).findings()
    drawing = effect.dots(f, f.comparisons[0])
    assert drawing.svg.count("<use ") >= effect.MOST_DOTS and "Dots: one" in drawing.caption
    for n_test in (40, 2000):  # few different differences, and many
        f = simulate(n_seeds=1 + effect.MOST_DOTS, n_test=n_test, **small).findings()
        drawing = effect.dots(f, f.comparisons[0])
        bars = drawing.figure.axes[0].patches[1:]  # after the margin
        values, counts = np.unique(np.round(f.comparisons[0].differences, 9), return_counts=True)
        widths = np.array([bar.get_width() for bar in bars])
        assert len(bars) == min(len(values), effect.MOST_BARS)
        if len(values) <= effect.MOST_BARS:
            assert widths / widths.sum() == pytest.approx(counts / counts.sum())
        assert "Blue bars: number of seeds." in drawing.caption and drawing.svg.count("<use ") < 40
