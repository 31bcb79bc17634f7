import json
import re
from functools import cache
from html.parser import HTMLParser

import pytest

from bench.analysis.data.format import decimals, scale
from bench.analysis.report import html as page
from bench.analysis.report.names import NAME, fitted, printable
from bench.analysis.report.sentences import common

FORBIDDEN = ("significant", "trend", "marginal", "sota")
VOID = {"meta", "input", "link", "br", "img"}
NUMBER = r"[+\u2212]?\d[\d,]*(?:\.\d+)?|[+\u2212]∞"
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{7*7}}",
    "a\u202eevil\u202cb\u2067c\u200f",
    "$x^2$ \\frac{1}{2} & %",
    "x" * 10_000,
    "long name with spaces " * 400,
    "🙂🧪 naïve żółw",
    "bell\x07 null\x00 esc\x1b[31m\nnew line",
    "</svg></title></style></script><b>",
    "' onmouseover='x",
    '#1b1e23 url(#x) id="a" 0.123456',
]


class Reader(HTMLParser):
    """Collects elements, attributes and text; the text of data and style apart."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements, self.ids, self.texts, self.data, self.css = [], [], [], [], []
        self.open, self.unclosed = [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        while self.open and self.open[-1] != tag:
            self.unclosed.append(self.open.pop())
        if self.open:
            self.open.pop()

    def handle_data(self, data):
        inside = self.open[-1] if self.open else ""
        {"script": self.data, "style": self.css}.get(inside, self.texts).append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))


@pytest.fixture(scope="session")
def rendered(known, report):
    """Return a named study's findings, page, and the page read back; once a session."""

    @cache
    def read(name):
        html = report(name)
        return known(name), html, Reader(html)

    return read


def value(text):
    """Return a printed number; infinities too."""
    return float(text.replace("\u2212", "-").replace(",", "").replace("∞", "inf").rstrip("%"))


def agrees(shown, x, unit):
    """Tell whether a printed number is the rounded one."""
    digits = len(shown.partition(".")[2].rstrip("%"))
    return abs(value(shown) - x * scale(unit)) <= 0.5001 * 10.0**-digits


def section(html, c, f):
    """Return the text of one treatment's verdict block."""
    start = html.index('<section class="verdict"')
    opening = r'(?=<div class="(?:better|worse|equal|open|none)(?: multi)?"(?: id="t\d+")?>)'
    blocks = re.split(opening, html[start : html.index('<section id="checks">')])
    return Reader(blocks[1 + f.design.treatments.index(c.treatment)]).text


# -- a page that cannot contact anything ------------------------------------------------------


@pytest.mark.sample(7)
def test_nothing_in_the_page_fetches(rendered, page_case):
    _, html, read = rendered(page_case)
    for tag, attributes in read.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form", "video")
        for name, text in attributes.items():
            assert name not in ("src", "srcset", "action", "data", "background", "poster", "ping")
            assert not name.startswith("on")
            if name in ("href", "xlink:href"):
                assert text.startswith("#")
            for target in re.findall(r"url\(([^)]*)\)", text or ""):
                assert target.startswith("#")
    css = " ".join(read.css)
    assert "@import" not in css and "url(" not in css and "expression(" not in css
    assert not re.search(r"https?://(?!www\.w3\.org/)", re.sub(r"<script.*?</script>", "", html))


@pytest.mark.sample(7)
def test_the_one_script_is_the_data(rendered, page_case):
    f, _, read = rendered(page_case)
    scripts = [attributes for tag, attributes in read.elements if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "bench-data"}]
    said = json.loads("".join(read.data))
    assert {key: said[key] for key in f.as_dict()} == f.as_dict()


@pytest.mark.sample(7)
def test_the_policy_forbids_everything_but_style(rendered, page_case):
    _, html, read = rendered(page_case)
    metas = [attributes for tag, attributes in read.elements if tag == "meta"]
    assert metas[0] == {"charset": "utf-8"}
    policy = next(m["content"] for m in metas if m.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert html.index("Content-Security-Policy") < html.index("<style")


@pytest.mark.sample(7)
def test_ids_are_unique_and_links_lead_somewhere(rendered, page_case):
    _, html, read = rendered(page_case)
    assert len(read.ids) == len(set(read.ids))
    targets = re.findall(r'(?:href="#|url\(#)([^")]+)', re.sub(r"<style.*?</style>", "", html))
    named = [
        part
        for _, attributes in read.elements
        for key in ("aria-labelledby", "for")
        for part in (attributes.get(key) or "").split()
    ]
    assert set(targets) | set(named) <= set(read.ids)


@pytest.mark.sample(7)
def test_elements_are_closed_in_order(rendered, page_case):
    _, _, read = rendered(page_case)
    assert [tag for tag in read.unclosed if tag not in ("p", "li", "td", "th", "tr")] == []
    assert read.open == []


@pytest.mark.sample(7)
def test_figures_and_tables_are_described(rendered, page_case):
    _, html, read = rendered(page_case)
    for svg in re.findall(r"<svg.*?</svg>", html, flags=re.S):
        assert '<title id="' in svg or 'aria-hidden="true"' in svg
        assert 'class="plot"' not in svg or "<desc id=" in svg
    assert all("scope" in attributes for tag, attributes in read.elements if tag == "th")
    tags = [tag for tag, _ in read.elements]
    assert tags.count("table") == tags.count("caption")
    assert tags.count("h1") == tags.count("main") == 1
    labels = [a["aria-label"] for _, a in read.elements if a.get("role") == "region"]
    assert len(labels) == len(set(labels))


def test_the_same_findings_give_the_same_bytes(known):
    f = known("provisional")
    assert page.render(f, version="1") == page.render(f, version="1")


@pytest.mark.parametrize(
    ("seeds", "epochs", "page_kb", "json_kb"),
    [
        (20, 20, 400, 600),
        pytest.param(200, 200, 2000, 600, marks=pytest.mark.thorough),
    ],
)
def test_the_files_stay_small(simulate, seeds, epochs, page_kb, json_kb):
    f = simulate(n_seeds=seeds, n_epochs=epochs, n_test=300).findings()
    assert len(page.render(f, version="0.1.0").encode()) < page_kb * 1024
    assert len(json.dumps(f.as_dict(), separators=(",", ":"))) < json_kb * 1024


# -- no sentence contradicts a number ---------------------------------------------------------


@pytest.mark.sample(7)
def test_nothing_reads_nan_or_none(rendered, page_case):
    _, html, read = rendered(page_case)
    text = read.text.replace("loss became NaN", "")
    # a missing number is a dash, not the name of one; "None blocks the verdict" is a sentence
    assert not re.search(r"\b(?:nan|NaN|inf|undefined|null)\b|None(?! blocks| to check)", text)
    for _, attributes in read.elements:
        assert not re.search(r"\b(?:nan|None)\b", " ".join(v or "" for v in attributes.values()))
    assert "NaN" not in re.sub(r"<script.*?</script>", "", html).replace("became NaN", "")


@pytest.mark.sample(7)
def test_a_headline_holds_no_forbidden_word(rendered, page_case):
    f, html, _ = rendered(page_case)
    for c in f.comparisons:
        text = (section(html, c, f) + c.verdict.label).lower()
        assert not any(word in text for word in FORBIDDEN)


@pytest.mark.sample(7)
def test_the_word_follows_the_interval(rendered, page_case):
    f, html, _ = rendered(page_case)
    for c in f.comparisons:
        text = section(html, c, f)
        assert c.verdict.label in text
        assert c.verdict.headline in text
        assert ("provisional" in text) == c.verdict.provisional
        lo, hi = c.primary.low, c.primary.high
        if not f.design.higher_is_better and lo is not None:
            lo, hi = -hi, -lo
        margin = f.design.margin
        match c.verdict.word:
            case "better":
                assert lo > (margin if margin is not None and not c.verdict.size_open else 0)
            case "worse":
                assert hi < -(margin if margin is not None and not c.verdict.size_open else 0)
            case "inconclusive":
                assert (lo is None or lo <= 0) and (hi is None or hi >= 0)
            case "equivalent":
                assert -margin < c.primary.low90 and c.primary.high90 < margin


@pytest.mark.sample(7)
def test_the_headline_numbers_are_those_of_the_findings(rendered, page_case):
    f, html, _ = rendered(page_case)
    unit = f.measure.unit
    for c in f.comparisons:
        text, p = section(html, c, f), c.primary
        shown = re.search(rf"([\d.]+)% CI \[({NUMBER}), ({NUMBER})\]", text)
        if c.verdict.word == "none":
            assert shown is None
            assert not re.search(r"\bp [<=>] 0", text.replace("go below p =", ""))
            continue
        low, high, level = p.low, p.high, p.level
        if c.verdict.word == "equivalent":
            low, high, level = p.low90, p.high90, p.level90
        assert value(shown[1]) == pytest.approx(100 * level, abs=0.01)
        for limit, printed in ((low, shown[2]), (high, shown[3])):
            assert "∞" in printed if limit is None else agrees(printed, limit, unit)
        estimate = re.search(rf"{re.escape(c.verdict.headline)} ({NUMBER})", text)
        assert agrees(estimate[1], p.difference, unit)


@pytest.mark.sample(7)
def test_no_printed_limit_meets_zero_or_the_margin_unless_it_is_there(rendered, page_case):
    f, html, _ = rendered(page_case)
    unit = f.measure.unit
    # digits after the design's decimals only where a guard asked for them
    for c in f.comparisons:
        p, text = c.primary, section(html, c, f)
        if c.verdict.word == "none":
            continue
        intervals = re.findall(rf"\[({NUMBER}), ({NUMBER})\]", text)
        assert intervals
        real = [x for x in (p.low, p.high, p.low90, p.high90) if x is not None]
        for printed in intervals[0]:
            for guard in f.design.guards:
                if "∞" not in printed and value(printed) == guard * scale(unit):
                    assert any(abs(x - guard) < 1e-9 for x in real)
        assert all(len(x.partition(".")[2]) >= decimals(unit) for x in intervals[0] if "∞" not in x)


@pytest.mark.sample(7)
def test_the_claim_line_follows_the_interval(rendered, page_case):
    f, html, _ = rendered(page_case)
    for c in f.comparisons:
        text, claim, p = section(html, c, f), f.design.claimed_difference, c.primary
        if claim is None:
            assert "No claimed gain was declared" in text
            continue
        if c.verdict.word == "none":
            assert "Not judged" in text
            assert "lies inside" not in text
            continue
        inside = (p.low is None or p.low <= claim) and (p.high is None or claim <= p.high)
        assert ("Compatible" in text) == inside
        assert ("lies inside the interval" in text) == inside
        assert ("and so is no gain at all" in text) == (inside and c.verdict.word == "inconclusive")
        if "Larger than supported" in text:
            assert abs(claim) > max(abs(p.low), abs(p.high)) or claim > p.high
        if "Contradicted" in text:
            assert c.verdict.word == "equivalent" or claim * p.difference < 0


@pytest.mark.sample(7)
def test_what_is_still_plausible_is_what_the_interval_says(rendered, page_case):
    f, html, _ = rendered(page_case)
    for c in f.comparisons:
        text, p = section(html, c, f), c.primary
        found = re.search(
            rf"A (?:gain|fall) of ({NUMBER})(?: pp)? and a (?:loss|rise) of ({NUMBER})", text
        )
        assert (found is not None) == (
            c.verdict.word == "inconclusive" and p.low is not None and p.high is not None
        )
        if found:
            up, down = (p.high, -p.low) if f.design.higher_is_better else (-p.low, p.high)
            assert agrees(found[1], up, f.measure.unit)
            assert agrees(found[2], down, f.measure.unit)
        needed = re.search(r"About ([\d,]+) pairs in all would be needed", text)
        if needed:
            assert value(needed[1]) == c.verdict.seeds_needed > c.n_pairs


@pytest.mark.sample(7)
def test_yes_and_not_shown_follow_their_p(rendered, page_case):
    f, _, read = rendered(page_case)
    m, alpha = len(f.design.treatments), f.design.alpha
    for question in ("Is there a difference at all?", "Is it too small to matter?"):
        for answer, sign, number in re.findall(
            re.escape(question) + r" (Yes|Not resolved|Not shown), p ([<=>]) ([\d.]+)", read.text
        ):
            least = {"<": 0.0, ">": value(number), "=": value(number) - 0.0006}[sign]
            most = {"<": value(number), ">": 1.0, "=": value(number) + 0.0006}[sign]
            assert least < alpha if answer == "Yes" else most >= alpha
    assert (
        ("adjusted for" in read.text)
        or m == 1
        or all(c.verdict.word == "none" for c in f.comparisons)
    )


@pytest.mark.sample(7)
def test_the_trust_line_counts_the_checks_that_are_listed(rendered, page_case):
    f, _, read = rendered(page_case)
    asked = [c for c in f.checks if c.level != "note"]
    failed = {
        level: sum(c.state == "failed" and c.level == level for c in asked)
        for level in ("caution", "blocker")
    }
    passed = sum(c.state == "passed" for c in asked)
    words = [f"{n} {level}{'' if n == 1 else 's'}" for level, n in failed.items()]
    assert ", ".join(words) in read.text
    assert read.text.count(f"{passed} of {len(asked)} passed") >= 2
    assert all(c.text in read.text for c in f.checks)
    blocked = any(c.verdict.word == "none" for c in f.comparisons)
    assert ("no verdict can be given" in read.text) == blocked == (failed["blocker"] > 0)


@pytest.mark.sample(7)
def test_no_verdict_shows_no_interval_of_the_effect_and_no_p(rendered, page_case):
    f, html, read = rendered(page_case)
    if not all(c.verdict.word == "none" for c in f.comparisons):
        return
    assert "ways to analyse" not in read.text
    assert "a single p-value does not answer" not in read.text
    assert " interval [" not in read.text.replace("anytime-valid interval [", "")
    paragraph = re.search(r'<div class="paste prose"[^>]*>(.*?)</div>', html, flags=re.S)[1]
    assert not re.search(r"\bp [<=>]|CI \[", paragraph)


@pytest.mark.sample(7)
def test_the_paragraph_repeats_the_headline_and_the_history(rendered, page_case):
    f, html, _ = rendered(page_case)
    paragraphs = re.findall(r'<div class="paste prose"[^>]*>(Across .*?)</div>', html, flags=re.S)
    assert len(paragraphs) == len(f.comparisons)
    done = sum(run.status == "finished" for run in f.runs)
    for text in paragraphs:
        planned = len(f.design.seeds) * len(f.design.arms)
        if done < planned:
            assert f"{done} of {planned} planned runs were completed" in text
        assert "frozen before" in text or not f.design.frozen_before_first_run
        assert ("not preregistered" in text) == (not f.design.hash)


@pytest.mark.sample(7)
def test_counts_agree_with_their_nouns(rendered, page_case):
    _, _, read = rendered(page_case)
    wrong = re.findall(
        r"\b1 (?:pairs|seeds|runs|cautions|blockers|settings|ties|threads|cores|outcomes|checks)\b",
        read.text,
    )
    assert wrong == []
    assert not re.search(r"\.\.|,,|(?<!train)\(\)", read.text)


def test_several_treatments_open_with_one_overview(rendered):
    f, html, _ = rendered("three_treatments")
    start = html.index('<section class="verdict"')
    shown = Reader(html[start : html.index('<div class="', html.index("</table>", start))]).text
    assert "Of 3 treatments, 1 is better, 1 is worse and 1 is inconclusive." in shown
    for i, c in enumerate(f.comparisons, 1):
        assert c.treatment in shown and c.verdict.label in shown
        assert common.limits(f, c.primary.low, c.primary.high) in shown
        assert f'href="#t{i}"' in html and f'id="t{i}"' in html


def test_several_treatments_say_their_level_everywhere(rendered):
    f, html, read = rendered("three_treatments")
    assert "98.33% CI [" in read.text
    assert "The verdict’s 98.33% interval" in read.text or "the verdict’s 98.33%" in read.text
    table = html[html.index("Table 1.") : html.index("</table>", html.index("Table 1."))]
    assert ">95% CI<" in table  # the arms' own intervals are not adjusted


# -- hostile names ----------------------------------------------------------------------------


def named(simulate, name, *, where):
    """Return a small study with a hostile name in one place, or everywhere."""
    arms = {"baseline": name, "treatments": (f"{name}!",)} if where in ("arm", "all") else {}
    settings = {
        arms.get("baseline", "baseline"): {name: 0, "lr": name},
        arms.get("treatments", ("smoothed",))[0]: {name: name, "lr": 0.1},
    }
    s = simulate(
        n_seeds=6,
        n_test=60,
        n_val=40,
        n_epochs=3,
        effect=0.05,
        **arms,
        **({"settings": settings} if where in ("setting", "all") else {}),
        **({"experiment": name, "question": name, "claim": None} if where == "all" else {}),
        **({"scores": {name: 0.01}} if where in ("score", "all") else {}),
    )
    facts = dict(s.provenance)
    if where in ("note", "all"):
        facts |= {"notes": [name], "command": name, "data": {"name": name, "digest": name}}
        facts |= {"devices": [name], "processor": name, "packages": {name: name}, "mlflow": name}
        trials = s.tables.trials.assign(reason=name, device=name)
        s = s.changed(trials=trials, provenance=facts)
    if where in ("metric", "all"):
        rows = s.tables.trials[["arm", "seed"]].assign(score=name)
        values = [0.5 + 0.01 * i for i in range(len(rows))]
        s = s.changed(predictions={}, scores=rows.assign(value=values), design={"metric": name})
    return s.findings()


@pytest.fixture(scope="module")
def skeleton(simulate):
    """Return the elements of a page with tame names."""
    read = Reader(page.render(named(simulate, "tame", where="all"), version="1"))
    return [tag for tag, _ in read.elements]


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name[:24]))
def test_hostile_names_are_inert_everywhere(simulate, skeleton, name):
    f = named(simulate, name, where="all")
    html = page.render(f, version="1")
    read = Reader(html)
    assert [tag for tag, _ in read.elements] == skeleton  # not one element more or less
    assert not [a for _, a in read.elements if any(key.startswith("on") for key in a)]
    said = json.loads("".join(read.data))
    assert {key: said[key] for key in f.as_dict()} == f.as_dict()
    visible = re.sub(r"<script.*?</script>", "", html, flags=re.S)
    assert "49" not in re.findall(r"<h1[^>]*>(.*?)</h1>", visible)[0]
    assert not re.search(r"[\u202a-\u202e\u2066-\u2069\u200e\u200f\x00-\x08\x1b]", visible)
    assert len(read.ids) == len(set(read.ids))
    html.encode("utf-8")


@pytest.mark.parametrize("where", ["arm", "score", "all"])
def test_a_name_of_ten_thousand_signs_is_shortened(simulate, where):
    name = "x" * 10_000
    html = page.render(named(simulate, name, where=where), version="1")
    visible = re.sub(r"<script.*?</script>", "", html, flags=re.S)
    longest = max(len(word) for text in Reader(visible).texts for word in text.split())
    assert longest <= (4000 if where == "all" else 2 * NAME + 4)  # a note may be longer
    assert len(visible) < 250_000


def test_names_that_look_alike_when_shortened_stay_apart(simulate):
    long = "x" * 200
    f = simulate(n_seeds=6, n_test=40, baseline=f"{long}1", treatments=(f"{long}2",)).findings()
    shown = fitted(f)
    assert len({shown.design.baseline, shown.comparisons[0].treatment}) == 2
    assert shown.comparisons[0].treatment in shown.comparisons[0].verdict.headline.replace("X", "x")
    assert [run.arm for run in shown.runs[:2]] == list(shown.design.arms)


def test_fitting_changes_no_number_and_nothing_at_all_of_tame_names(known):
    f = known("three_treatments")
    assert fitted(f) == f
    assert fitted(f).as_dict() == f.as_dict()


def test_signs_that_act_are_replaced_and_others_kept():
    assert printable("a\u202eb\x1b[31m") == "a\ufffdb\ufffd[31m"
    assert printable("żółw 🙂 \u05e9\u05dc\u05d5\u05dd") == "żółw 🙂 \u05e9\u05dc\u05d5\u05dd"
    assert printable("two\nlines\tand  more") == "two lines and more"


def test_a_margin_declared_late_is_not_called_pre_declared(simulate):
    s = simulate(n_seeds=10, effect=0.06, noise=0.004, frozen_before_first_run=False)
    html = page.render(s.findings(), version="1")
    assert "pre-declared" not in html
    assert "changed after results could be seen" in html


def test_the_verb_of_the_paragraph_follows_the_data(rendered):
    assert "smoothed raised mean test accuracy from" in rendered("rule3_better")[2].text
    assert "smoothed lowered mean test accuracy from" in rendered("rule5_worse")[2].text
    assert "raised" not in rendered("rule7_inconclusive")[2].text


def test_a_blocked_page_keeps_its_numbers_in_the_data_only(rendered):
    f, html, _ = rendered("rule0_blocker")
    data = json.loads(re.search(r"<script[^>]*>(.*?)</script>", html)[1])
    assert data["comparisons"][0]["primary"]["low"] == f.comparisons[0].primary.low
