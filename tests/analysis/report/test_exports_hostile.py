"""What a user typed is text in every export: no tag, no link, no command, no formula."""

import csv
import gzip
import html
import io
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from bench.analysis.report import html as page, markdown
from bench.analysis.report.csv_files import sheets
from bench.analysis.report.names import NAME, fitted, printable
from bench.analysis.report.pictures import pictures

GFM = MarkdownIt("commonmark").enable(["table", "strikethrough"])
NAMES = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{7*7}}",
    "a\u202eevil\u202c\u200f b\u2067",
    "bell\x07 null\x00 esc\x1b[31m\nnew line",
    "x" * 10_000,
    "\\input{/etc/passwd}",
    "\\immediate\\write18{id} \\end{tabular}",
    "100% $x^2$ & #1 a_b ~ ^^5c {",
    "\\",
    "}",
    "[click](javascript:alert(1))",
    "![i](http://evil.example/x.png)",
    "[1, 2](http://evil.example)",
    "<http://evil.example> www.evil.example http://evil.example me@evil.example",
    "[x]: http://evil.example",
    "**bold** _i_ `code` ~~gone~~",
    "| a | b |",
    "# heading",
    "- [ ] task",
    "1. item",
    "> quote",
    "=== ---",
    "&lt;b&gt; &#60;i&#62;",
    "=cmd()|' /C calc'!A0",
    "+1+cmd",
    "-2+3",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "＝1+1",
    'it\'s, "quoted"; and; separated',
]


@pytest.fixture(scope="module")
def named(simulate):
    """Return what makes a small study with one name in every place where a user types."""

    def make(name, runs=6):
        other = f"{name}!"
        s = simulate(
            n_seeds=runs, n_test=60, n_epochs=2, claim=None, experiment=name, question=name,
            baseline=name, treatments=(other,), scores={name: 0.01},
            settings={name: {name: name, "lr": 0}, other: {name: other, "lr": 1}},
        )  # fmt: skip
        facts = {**s.provenance, "notes": [name], "command": name, "processor": name,
                 "data": {"name": name, "digest": name}, "packages": {name: name}}  # fmt: skip
        trials = s.tables.trials.assign(reason=name, device=name)
        epochs = s.tables.epochs.rename(columns={"train/loss": name})
        return s.changed(trials=trials, epochs=epochs, provenance=facts)

    return make


@pytest.fixture(scope="module", params=NAMES, ids=lambda name: ascii(name[:24]))
def hostile(request, named):
    s = named(request.param)
    return request.param, s, s.findings()


def in_markdown(f):
    return markdown.results(f, trail=[line[:2] for line in page.audit_trail(fitted(f))])


def skeleton(text):
    """Return the elements that a Markdown reader makes of a text, without the words."""
    found = []
    for token in GFM.parse(text):
        found += [child.type for child in token.children or [token]]
    return found


@pytest.fixture(scope="module")
def tame(named):
    f = named("tame").findings()
    return skeleton(in_markdown(f)), skeleton(markdown.note(f))


def test_markdown_has_the_elements_of_a_tame_name(hostile, tame):
    name, _, f = hostile
    text = in_markdown(f)
    assert skeleton(text) == tame[0]
    shown = html.unescape(re.sub(r"</?[a-z][^>]*>", "", GFM.render(text))).replace("\u2060", "")
    assert fitted(f).design.baseline in shown
    assert not re.search(r"[\u202a-\u202e\u2066-\u2069\u200e\u200f\x00-\x08\x1b]", text)
    assert max(map(len, text.split())) < 1600  # a note; a name is shorter
    # what GitHub makes a link of by itself
    assert not re.search(r"(?<!\\)://|\bwww\.|@(?!\u2060)", text)
    assert "{{" not in text and "]:" not in re.sub(r"\\.", "", text)


def test_the_note_in_mlflow_has_the_elements_of_a_tame_name(hostile, tame):
    _, _, f = hostile
    text = markdown.note(f)
    assert skeleton(text) == tame[1]
    assert len(text) < 5000 and not re.search(r"[\u202a-\u202e\x00-\x08\x1b]", text)
    assert not re.search(r"<[a-zA-Z/!?]", text)  # for readers that know no backslash


def rows_of(s, f):
    for name, data in sheets(f, s.tables).items():
        text = (gzip.decompress(data) if name.endswith(".gz") else data).decode("utf-8")
        yield name, list(csv.reader(io.StringIO(text)))


def test_no_cell_is_a_formula_and_numbers_stay_numbers(hostile):
    name, s, f = hostile
    for file, rows in rows_of(s, f):
        assert len({len(row) for row in rows}) == 1 and len(rows) > 1
        for row in rows:
            for cell in row:
                if cell.startswith(("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")):
                    assert cell == repr(float(cell))
                assert not re.search(r"[\x00-\x1f\u202a-\u202e\u2066-\u2069\u200e\u200f]", cell)
        if file == "pairs.csv":
            typed = printable(name).strip()
            assert {row[1].removeprefix("'") for row in rows[1:]} == {typed}
            assert {row[2].removeprefix("'") for row in rows[1:]} == {printable(f"{name}!").strip()}
            assert [float(row[6]) for row in rows[1:]] == list(f.comparisons[0].differences)


def test_an_ordinary_name_is_exported_as_it_was_typed(named):
    for name in ("ε = 0.1", "a-b", "it's", "naïve 🙂", "50%"):
        s = named(name)
        _, rows = next(rows_of(s, s.findings()))
        assert {row[1] for row in rows[1:]} == {name}


def test_names_that_differ_by_a_sign_that_acts_stay_apart(simulate):
    s = simulate(n_seeds=6, n_test=40, n_epochs=2, baseline="a\x07", treatments=("a\x08",))
    _, rows = next(rows_of(s, s.findings()))
    assert len({rows[1][1], rows[1][2]}) == 2


@pytest.mark.parametrize("name", NAMES[:7], ids=lambda name: ascii(name[:24]))
def test_figures_hold_the_name_as_text(named, name):
    f, texts = fitted(named(name).findings()), ""
    for picture in pictures(f):
        root = ET.fromstring(picture.svg)
        kinds = {node.tag.rpartition("}")[2] for node in root.iter()}
        assert kinds <= {"svg", "title", "desc", "rect", "g", "defs", "line", "circle", "text",
                         "path", "use", "clipPath"}  # fmt: skip
        assert not [key for node in root.iter() for key in node.attrib if key.startswith("on")]
        assert not re.search(r"[\x00-\x08\x1b\u202a-\u202e]", picture.svg)
        assert len(name) <= NAME or name not in picture.svg
        assert picture.png().startswith(b"\x89PNG")
        texts += "".join(root.itertext())
    assert f.design.baseline[:12] in texts  # longer ones are cut


def test_a_note_of_many_treatments_stays_short_enough_for_mlflow(known):
    f = known("three_treatments")
    text = markdown.note(replace(f, comparisons=f.comparisons * 30))
    assert len(text) < 5000
    left = int(re.search(r"(\d+) more treatments in the report\.", text)[1])
    assert left == 90 - text.count("CI [")
