"""The exports say what the findings say: one table in three languages, raw values, figures."""

import csv
import gzip
import html
import io
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from bench.analysis.data.format import NONE
from bench.analysis.report import html as page, latex, markdown
from bench.analysis.report.csv_files import sheets
from bench.analysis.report.names import fitted
from bench.analysis.report.pictures import pictures
from bench.analysis.report.sentences import cite, verdict
from bench.analysis.report.tables import every

GFM = MarkdownIt("commonmark").enable(["table", "strikethrough"])
SHAPES = ("rule3_better", "rule0_few_pairs", "rule7_inconclusive_no_margin", "three_treatments",
          "own_score_lower_is_better", "group_first_look", "failed_runs", "further_scores",
          "anytime_few")  # fmt: skip


class Cells(HTMLParser):
    """Collects the texts of the cells of every table, by its caption."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tables, self.row, self.cell, self.caption = {}, None, None, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "caption":
            self.caption = ""
        elif tag == "tr":
            self.row = []
        elif tag in ("td", "th"):
            self.cell = ""
        elif tag == "small" and self.cell:
            self.cell += ": "
        elif tag in ("svg", "small"):
            self.skip = tag

    skip = None

    def handle_endtag(self, tag):
        if tag == self.skip:
            self.skip = None
        elif tag == "caption":
            self.name, self.caption = self.caption, None
            self.tables[self.name] = []
        elif tag in ("td", "th"):
            self.row.append(self.cell)
            self.cell = None
        elif tag == "tr" and hasattr(self, "name"):
            self.tables[self.name].append(self.row)

    def handle_data(self, data):
        if self.skip:
            return
        if self.caption is not None:
            self.caption += data
        elif self.cell is not None:
            self.cell += data


@pytest.fixture(scope="module", params=SHAPES)
def shape(request, known):
    return fitted(known(request.param))


@pytest.fixture(scope="module")
def html_page(shape):
    return page.render(shape, version="1")


def expected(t):
    """Return the texts of one table: its head, then its rows."""
    rows = [
        [f"{c.text}: {c.note}" if c.note else c.text for c in row.cells]  # as a note follows a name
        for row in t.rows
    ]
    return [[name for name, _ in t.columns], *rows]


# -- one source -------------------------------------------------------------------------------


def test_the_page_prints_the_rows_of_the_tables(shape, html_page):
    found = Cells(html_page).tables
    for t in every(shape):
        name = f"Table {t.number}{f': {t.of}' if t.of else ''}. {t.caption}"
        rows = [row[: len(t.columns)] for row in found[name]]  # an interval may be drawn at the end
        assert rows == expected(t)


def test_markdown_prints_the_same_rows(shape):
    for t, text in zip(every(shape), markdown.tables(shape), strict=True):
        rendered = GFM.render(text)
        rows = [
            [html.unescape(re.sub(r"<[^>]+>", "", cell)) for cell in re.findall(CELL, row, re.S)]
            for row in re.findall(r"<tr>(.*?)</tr>", rendered, re.S)
        ]
        assert rows == expected(t)
        assert html.unescape(rendered).count(t.caption) == 1
        assert t.note in html.unescape(rendered)


CELL = r"<t[dh][^>]*>(.*?)</t[dh]>"


def test_latex_prints_the_same_numbers(shape):
    captions = ("Primary outcome", "ways to analyse", "Secondary outcomes")
    kept = [t for t in every(shape) if any(caption in t.caption for caption in captions)]
    for t, text in zip(kept, latex.tables(shape), strict=True):
        body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
        lines = [line for line in body.splitlines() if " & " in line]
        numbers = [i for i, (_, is_number) in enumerate(t.columns) if is_number]
        assert len(lines) == len(t.rows)
        for line, row in zip(lines, t.rows, strict=True):
            for cell, i in zip(line.removesuffix(r" \\").split(" & ")[1:], numbers, strict=True):
                assert plain(cell) == row.cells[i].text.replace(" ", "").replace(",", ", ")


def plain(cell):
    """Return the text that a LaTeX cell is set as, without spaces but after a comma."""
    signs = {"---": NONE, r"\infty": "∞", "-": "\u2212", "$": "", r"\,": "", r"\%": "%"}
    for sign, text in signs.items():
        cell = cell.replace(sign, text)
    return re.sub(r"[{}\s]", "", cell).replace(",", ", ")


def test_the_page_offers_the_tables_that_the_files_hold(shape, html_page):
    text = html.unescape(html_page)
    in_markdown = markdown.results(shape, trail=[("Plan", "abc")])
    in_latex = latex.results(shape, version="1")
    for table in latex.tables(shape):
        assert f'<pre class="paste" tabindex="0">{table}</pre>' in text
        assert table in in_latex
    for table in markdown.tables(shape):
        assert f'<pre class="paste" tabindex="0">{table}</pre>' in text
        assert table in in_markdown


def test_what_the_verdict_rests_on_is_marked(shape, html_page):
    tables = every(shape)
    for t in tables:
        main = [i for i, row in enumerate(t.rows) if row.main]
        differences = list(range(len(shape.arms), len(t.rows)))
        marked = {"Primary outcome": differences, "What was planned": [0]}
        assert main == marked.get("What was planned" if "ways to" in t.caption else t.caption, [])
        rows = re.findall(r"<tr>(.*?)</tr>", GFM.render(markdown.table(t)), re.S)[1:]
        assert [i for i, row in enumerate(rows) if "<strong>" in row] == main
        tex = latex.table(t).split(r"\midrule")
        assert len(tex) == 2 + (0 < len(main) < len(t.rows))
    assert html_page.count('<tr class="prim">') == sum(row.main for t in tables for row in t.rows)


def test_every_export_ends_with_the_same_paragraph(shape, html_page):
    shown = html.unescape(GFM.render(markdown.results(shape, trail=[])))
    tex = " ".join(latex.results(shape, version="1").split())
    for c in shape.comparisons:
        paragraph = cite.paragraph(shape, c)
        assert paragraph in shown and paragraph in html.unescape(html_page)
        assert " ".join(latex.inert(paragraph).split()) in tex


def test_markdown_leads_with_the_verdict_and_names_what_to_read_first(shape):
    shown = html.unescape(re.sub(r"</?\w+[^>]*>", "", GFM.render(
        markdown.results(shape, trail=[("Command", "bench run digits")]))))  # fmt: skip
    assert shown.startswith(verdict.question(shape))
    assert (verdict.overview(shape) in shown) == (len(shape.comparisons) > 1)
    for c in shape.comparisons:
        assert f"{c.verdict.glyph} {c.verdict.label}" in shown
        assert c.verdict.headline in shown
        numbers = [part for part in verdict.headline_numbers(shape, c) if part]
        assert " · ".join(numbers) in shown
    for check in shape.checks:
        assert (check.text in shown) or check.state != "failed"
    assert "Command: bench run digits" in shown


def test_no_verdict_has_no_interval_of_the_effect_in_any_export(known):
    for name in ("rule0_few_pairs", "rule0_blocker"):
        f = fitted(known(name))
        for text in (markdown.results(f, trail=[]), latex.results(f, version="1")):
            assert "ways to analyse" not in text and "95% CI [" not in text.split("Questions")[0]


# -- CSV --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study_with_holes(simulate):
    return simulate(
        n_seeds=9, n_test=60, treatments=("mixup", "smoothed"), effect=(0.0, 0.03),
        scores={"f1": 0.01}, failed={("mixup", 3)}, missing={("smoothed", 5)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def exported(study_with_holes):
    f = study_with_holes.findings()
    return study_with_holes, f, sheets(f, study_with_holes.tables)


def frame(exported, name):
    data = exported[2][name]
    return pd.read_csv(io.BytesIO(gzip.decompress(data) if name.endswith(".gz") else data))


def test_pairs_are_those_of_the_analysis_to_the_last_bit(exported):
    _, f, _ = exported
    pairs = frame(exported, "pairs.csv")
    assert list(pairs.columns) == [
        "seed", "baseline", "treatment", "metric",
        "baseline_value", "treatment_value", "difference",
    ]  # fmt: skip
    for c in f.comparisons:
        rows = pairs[pairs.treatment == c.treatment]
        assert tuple(rows.seed) == c.pairs.seeds
        assert tuple(rows.baseline_value) == c.pairs.baseline
        assert tuple(rows.treatment_value) == c.pairs.treatment
        assert tuple(rows.difference) == c.differences
        assert float(rows.difference.mean()) == pytest.approx(c.primary.difference, rel=1e-12)
    assert set(pairs.baseline) == {f.design.baseline} and set(pairs.metric) == {"accuracy"}


def test_every_planned_run_has_a_row_with_what_was_measured(exported):
    s, f, _ = exported
    runs = frame(exported, "runs.csv")
    assert list(zip(runs.seed, runs.arm, runs.status, strict=True)) == [
        (r.seed, r.arm, r.status) for r in f.runs
    ]
    done = runs[runs.status == "finished"].set_index(["arm", "seed"])
    for key, row in done.iterrows():
        test = s.tables.predictions[(*key, "test")]
        right = test.log_probabilities.argmax(axis=1) == test.labels
        assert row.accuracy == right.mean()
        assert row.selected_epoch == int(row.selected_epoch)
    calibration = {(r.arm, r.seed, r.scaled): r for r in f.run_calibration}
    for (arm, seed), row in done.iterrows():
        raw, scaled = calibration[arm, seed, False], calibration[arm, seed, True]
        assert (row.nll, row.brier) == pytest.approx((raw.nll, raw.brier), rel=1e-12)
        assert (row.ece, row.ece_scaled) == (raw.ece, scaled.ece)
        assert row.temperature == scaled.temperature
    own = s.tables.scores.set_index(["arm", "seed"]).value
    assert all(done.f1[key] == own[key] for key in done.index)
    failed = runs[runs.status == "failed"].iloc[0]
    assert failed.note == "loss became NaN at epoch 4" and np.isnan(failed.accuracy)
    assert list(runs[runs.status == "missing"].arm) == ["smoothed"]


def test_curves_hold_every_epoch_of_every_run(exported):
    s, f, _ = exported
    curves = frame(exported, "curves.csv.gz")
    assert list(curves.columns) == ["seed", "arm", "epoch", "metric", "value"]
    wide = curves.pivot(index=["arm", "seed", "epoch"], columns="metric", values="value")
    original = s.tables.epochs.set_index(["arm", "seed", "epoch"]).sort_index()
    assert wide["val/accuracy"].tolist() == original["val/accuracy"].tolist()
    assert wide["train/loss"].tolist() == original["train/loss"].tolist()
    median = wide["val/accuracy"].unstack("seed").median(axis=1)
    for curve in f.curves:
        assert tuple(median[curve.arm][list(curve.epochs)]) == curve.median


def test_reliability_gives_the_diagram_again(exported):
    _, f, _ = exported
    bins = frame(exported, "reliability.csv")
    assert (bins.groupby(["seed", "arm"])["count"].sum() == 60).all()
    assert ((bins["bin"] - 1) / 15 == bins.bin_low).all() and (bins.bin_high > bins.bin_low).all()
    for diagram in f.reliability:
        rows = bins[bins.arm == diagram.arm].groupby("bin")
        assert rows.accuracy.mean().tolist() == pytest.approx(
            [np.nan if x is None else x for x in diagram.accuracy], nan_ok=True, rel=1e-12
        )
        full = bins[(bins.arm == diagram.arm) & (bins["count"] > 0)]
        assert full.confidence.between(full.bin_low - 1e-6, full.bin_high + 1e-6).all()


def test_numbers_keep_all_their_digits_and_missing_ones_are_empty(exported):
    rows = list(csv.reader(io.StringIO(exported[2]["runs.csv"].decode())))
    column = rows[0].index("nll")
    finished = [row for row in rows[1:] if row[2] == "finished"]
    assert all(repr(float(row[column])) == row[column] for row in finished)
    assert {row[column] for row in rows[1:] if row[2] != "finished"} == {""}
    assert not any(cell in ("nan", "None") for row in rows for cell in row)


def test_the_same_findings_give_the_same_bytes(study_with_holes, exported):
    again = sheets(study_with_holes.findings(), study_with_holes.tables)
    assert again == exported[2]
    packed = again["curves.csv.gz"]
    assert packed[3] == 0 and packed[4:8] == bytes(4)  # neither a file name nor a time


def test_sheets_without_epochs_or_predictions_have_their_heads_alone(simulate):
    s = simulate(n_seeds=6, scores_only=True, n_epochs=0, metric="return")
    files = sheets(s.findings(), s.tables)
    assert gzip.decompress(files["curves.csv.gz"]) == b"seed,arm,epoch,metric,value\n"
    assert files["reliability.csv"].count(b"\n") == 1
    runs = pd.read_csv(io.BytesIO(files["runs.csv"]))
    assert runs["return"].notna().all() and "nll" not in runs.columns


def test_a_score_with_a_columns_name_has_a_column_of_its_own(simulate):
    s = simulate(n_seeds=6, n_test=40, scores={"seed": 0.01, "nll": 0.01})
    runs = pd.read_csv(io.BytesIO(sheets(s.findings(), s.tables)["runs.csv"]))
    own = s.tables.scores
    assert runs["seed"].tolist() == [r.seed for r in s.findings().runs]
    for name in ("seed", "nll"):
        assert sorted(runs[f"{name} (score)"]) == sorted(own[own.score == name].value)
    assert runs["nll"].tolist() != runs["nll (score)"].tolist()


# -- figures ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(known):
    f = fitted(known("three_treatments"))
    return f, {picture.name: picture for picture in pictures(f)}


def test_every_figure_of_the_page_is_a_file(drawn):
    f, found = drawn
    assert page.render(f, version="1").count('class="plot"') == len(found)
    assert {name for name in found if name.startswith(("f0", "f5", "f6"))} == {
        "f0-verdict-1", "f0-verdict-2", "f0-verdict-3", "f5-reliability-0", "f5-reliability-1",
        "f5-reliability-2", "f5-reliability-3", "f6-learning-curves",
    }  # fmt: skip


def test_with_one_treatment_file_names_need_no_number(known):
    names = [p.name for p in pictures(fitted(known("rule3_better")))]
    assert names == ["f0-verdict", "f1-each-seed", "f2-difference", "f3-sensitivity",
                     "f4-running-mean", "f5-reliability-0", "f5-reliability-1",
                     "f9-risk-coverage", "f6-learning-curves",
                     "f7-difference-by-epoch"]  # fmt: skip


def test_a_figures_file_stands_alone_on_white(drawn):
    for picture in drawn[1].values():
        root = ET.fromstring(picture.svg)
        width, height = (float(root.attrib[x].removesuffix("pt")) for x in ("width", "height"))
        assert root.attrib["viewBox"].split()[2:] == [f"{width:g}", f"{height:g}"]
        tags = [node.tag.rpartition("}")[2] for node in root]
        assert set(tags) <= {"title", "desc", "g", "defs"}
        paper = next(node for node in root.iter() if node.tag.endswith("path")).attrib
        assert "fill: #ffffff" in paper["style"] and f"L {width:g} {height:g}" in paper["d"]
        fonts = re.findall(r"font(?:-family)?: ([^;\"]*)", picture.svg)
        assert fonts and all(font.endswith("'DejaVu Sans', sans-serif") for font in fonts)
        assert not re.search(r"var\(|@import|url\((?!#)|href=\"(?!#)", picture.svg)


def test_a_strip_carries_the_colour_of_its_verdict(drawn):
    from bench.analysis.report.figures.style import COLOURS, VERDICT_COLOUR

    f, found = drawn
    for i, c in enumerate(f.comparisons, start=1):
        assert COLOURS[VERDICT_COLOUR[c.verdict.word]] in found[f"f0-verdict-{i}"].svg


def test_a_name_that_looks_like_a_colour_stays_a_name(simulate):
    f = simulate(n_seeds=6, n_test=40, n_epochs=2, baseline="var(--b)").findings()
    texts = [text for p in pictures(fitted(f)) for text in ET.fromstring(p.svg).itertext()]
    assert any("var(--b)" in text for text in texts)


@pytest.mark.parametrize("name", ["f0-verdict", "f2-difference"])
def test_pictures_have_300_dots_an_inch_and_no_trace_of_the_machine(known, name):
    found = {p.name: p for p in pictures(fitted(known("rule3_better")))}[name]
    data = found.png()
    assert data == found.png()
    image = Image.open(io.BytesIO(data))
    assert image.info == {"dpi": (pytest.approx(300, abs=0.01),) * 2}
    width, height = (float(x) for x in re.search(r'viewBox="0 0 (\S+) (\S+)"', found.svg).groups())
    assert image.size == tuple(pytest.approx(x / 72 * 300, abs=1) for x in (width, height))
    pixels = np.asarray(image.convert("RGB"))
    assert (pixels[0] == 255).all() and (pixels[:, 0] == 255).all()
    assert 0.02 < (pixels < 250).any(axis=2).mean() < 0.6
    accent = np.array([0x0B, 0x6E, 0x5F])  # the verdict's own
    assert (np.abs(pixels.astype(int) - accent).sum(axis=2) < 12).sum() > 500
