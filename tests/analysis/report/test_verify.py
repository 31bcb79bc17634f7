import json
import re

import numpy as np
import pytest

from bench.analysis.report import html as page
from bench.analysis.report.verify import verify
from bench.analysis.study.findings import DamagedReport

VERSION = "0.0-test"


def checked(text, version=VERSION):
    return verify(text, version=version, rng=np.random.default_rng(0))


@pytest.fixture(scope="module")
def html(known):
    return page.render(known("rule3_better"), version=VERSION)


@pytest.mark.parametrize("name", ["rule0_few_pairs", "rule7_inconclusive", "three_treatments"])
def test_a_report_says_what_its_data_say(known, name):
    found = checked(page.render(known(name), version=VERSION))
    assert found.holds and found.note is None
    assert found.n_values > 50 and found.n_words is not None and found.n_words > 200


def test_results_json_is_computed_again_too(known):
    found = checked(json.dumps(known("rule3_better").as_dict(), indent=1))
    assert found.holds and found.n_words is None


def test_a_changed_digit_is_found_wherever_it_stands(html):
    body = html.index("<body")
    places = [m.start() for m in re.finditer(r"\d", html) if m.start() > body]
    assert len(places) > 5000
    draw = np.random.default_rng(2)
    for place in draw.choice(places, size=12, replace=False):
        other = str((int(html[place]) + 5) % 10)
        try:
            found = checked(html[:place] + other + html[place + 1 :])
        except DamagedReport:
            continue
        assert not found.holds, f"digit changed unseen: {html[place - 60 : place + 20]!r}"


def test_a_changed_word_is_found_and_named(html):
    found = checked(html.replace("raises test accuracy", "lowers test accuracy", 1))
    assert [m for m in found.mismatches if "lowers" in str(m.stated)]


def test_added_words_are_found(html):
    assert not checked(html.replace("</main>", "<p>p = 0.04</p></main>")).holds


def test_another_versions_page_is_not_compared_word_for_word(html):
    found = checked(html, version="9.9")
    assert found.holds and found.n_words is None
    assert "0.0-test" in found.note and "9.9" in found.note


def test_another_version_does_not_excuse_a_number(known):
    f = known("rule3_better")
    data = json.dumps(f.as_dict())
    p = f.comparisons[0].primary.high
    assert not checked(data.replace(repr(p), repr(p * 1.01))).holds


@pytest.mark.parametrize(
    "text",
    ["", "<html></html>", "{", "[" * 100_000, '{"schema": "bench.report/1"}', "\x00\x01", "null"],
)
def test_what_is_no_report_is_refused(text):
    with pytest.raises(DamagedReport):
        checked(text)
