import copy
import hashlib
import json
import re

import numpy as np
import pytest

from bench.analysis.report import document as documents, html as page
from bench.analysis.report.document import digest, document, packed, parted, whole
from bench.analysis.report.verify import differing, verify
from bench.analysis.study.summary import DamagedReport

VERSION = "0.0-test"


def checked(text, version=VERSION):
    return verify(text, version=version)


@pytest.fixture(scope="module")
def html(known):
    return page.render(known("rule3_better"), version=VERSION)


@pytest.fixture(scope="module")
def data(known):
    """Return results.json as it is read."""
    return json.loads(json.dumps(document(known("rule3_better"), version=VERSION)))


def leaves(value, path=()):
    """Walk to every leaf of JSON."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in items:
        if isinstance(part, dict | list) and part:
            yield from leaves(part, (*path, key))
        else:
            yield (*path, key)


def kinds(data):
    """Return one path of every kind of leaf; rows of one table are of one kind."""
    found = {}
    for path in leaves(data):
        found.setdefault(tuple("*" if isinstance(step, int) else step for step in path), path)
    return list(found.values())


def changed(data, path):
    """Return the data with one leaf changed: a digit, a letter or a word."""
    data = copy.deepcopy(data)
    place = data
    for step in path[:-1]:
        place = place[step]
    old = place[path[-1]]
    if isinstance(old, bool):
        new = not old
    elif isinstance(old, int | float):
        new = old + 1 if isinstance(old, int) else old * 1.01 + 1e-6
    else:
        new = "x" if not old else f"{old[:-1]}{'y' if old[-1] != 'y' else 'z'}"
    place[path[-1]] = new
    return data


@pytest.mark.parametrize("name", ["rule0_few_pairs", "rule7_inconclusive", "three_treatments"])
def test_a_report_says_what_its_data_say(known, name):
    found = checked(page.render(known(name), version=VERSION))
    assert found.holds and found.note is None
    assert found.n_values > 50 and found.n_words is not None and found.n_words > 200


def test_results_json_is_concluded_again_too(data):
    found = checked(json.dumps(data, indent=1))
    assert found.holds and found.n_words is None


def test_every_kind_of_value_of_results_json_is_covered_by_its_digest(data):
    paths = [path for path in kinds(data) if path != ("digest",)]
    assert len(paths) > 250
    unseen = [path for path in paths if digest(changed(data, path)) == data["digest"]]
    assert unseen == []


def test_every_kind_of_finding_is_found_changed_whatever_the_digest(data, known):
    again = document(known("rule3_better"), version=VERSION)
    assert differing(data, again, words=True)[1] == []
    apart = ("digest", "summary", "written_by")
    paths = [path for path in kinds(data) if path[0] not in apart]
    assert len(paths) > 200
    unseen = [p for p in paths if not differing(changed(data, p), again, words=True)[1]]
    assert unseen == []


@pytest.mark.parametrize("place", range(6))
def test_a_changed_leaf_ends_in_a_mismatch(data, place):
    paths = kinds(data)
    path = paths[np.random.default_rng(place).integers(len(paths))]
    assert not checked(json.dumps(changed(data, path))).holds, path


@pytest.mark.parametrize(
    "edit",
    [
        lambda s: s["treatments"][0]["pairs"]["baseline"].pop(),
        lambda s: s["treatments"][0]["pairs"]["crossed"]["products"].pop(),
        lambda s: s["design"].update(metric="none"),
        lambda s: s["design"].update(treatments=["other"]),
        lambda s: s["runs"]["arm"].__setitem__(0, "other"),
    ],
)
def test_an_edit_that_breaks_the_analysis_is_a_mismatch_not_a_traceback(data, edit):
    broken = copy.deepcopy(data)
    edit(broken["summary"])
    assert not checked(json.dumps(broken)).holds


def test_a_changed_sum_under_a_new_digest_changes_the_findings(data):
    forged = changed(data, ("summary", "treatments", 0, "pairs", "treatment", 4))
    forged["digest"] = digest(forged)
    where = {m.where for m in checked(json.dumps(forged)).mismatches}
    assert "digest" not in where and "comparisons[0].analyses[1].difference" in where


def test_every_changed_letter_of_a_page_is_covered_by_its_digest(html):
    stated = page.stated_digest(html)
    assert page.digest(html) == stated
    draw = np.random.default_rng(2)
    for place in draw.integers(len(html), size=200):
        other = "7" if html[place] != "7" else "8"
        edited = html[:place] + other + html[place + 1 :]
        assert (page.digest(edited), page.stated_digest(edited)) != (stated, stated)
        assert page.digest(edited) != page.stated_digest(edited)


def test_a_changed_digit_is_found_wherever_it_stands(html):
    body = html.index("<body")
    places = [m.start() for m in re.finditer(r"\d", html) if m.start() > body]
    draw = np.random.default_rng(2)
    for place in draw.choice(places, size=5, replace=False):
        other = str((int(html[place]) + 5) % 10)
        try:
            found = checked(html[:place] + other + html[place + 1 :])
        except DamagedReport:
            continue
        assert not found.holds, f"digit changed unseen: {html[place - 60 : place + 20]!r}"


def test_a_changed_word_is_found_and_named(html):
    found = checked(html.replace("raises test accuracy", "lowers test accuracy", 1))
    assert [m for m in found.mismatches if "lowers" in str(m.stated)]


def test_added_words_are_found_under_a_new_digest_too(html):
    edited = html.replace("</main>", "<p>p = 0.04</p></main>")
    stated = page.stated_digest(html)
    found = checked(edited.replace(stated, page.digest(edited)))
    assert not found.holds and {m.where for m in found.mismatches} == {"page"}


def test_another_name_of_what_wrote_the_page_is_found(html):
    assert not checked(html.replace("bench 0.0-test", "bench 0.1-test", 1)).holds


def test_another_versions_page_is_not_compared_word_for_word(html):
    found = checked(html, version="9.9")
    assert found.holds and found.n_words is None
    assert "0.0-test" in found.note and "9.9" in found.note


def test_another_version_does_not_excuse_a_number(data):
    p = data["comparisons"][0]["primary"]["high"]
    forged = json.loads(json.dumps(data).replace(repr(p), repr(p * 1.01)))
    forged["digest"] = digest(forged)
    assert not checked(json.dumps(forged), version="9.9").holds


def test_a_large_summary_is_packed_in_the_page_and_beside_the_json(data, monkeypatch):
    assert packed(data) == data and parted(data) == (data, None)
    monkeypatch.setattr(documents, "LARGE", 1000)
    small, (rest, beside) = packed(data), parted(data)
    assert len(json.dumps(small["summary"])) < len(json.dumps(data["summary"])) / 2
    assert rest["summary"] == {"file": "summary.json"}
    assert whole(small, str) == whole(rest, lambda: beside) == data
    assert verify(json.dumps(rest), version=VERSION, beside=lambda: beside).holds
    with pytest.raises(DamagedReport, match="summary cannot be read"):
        checked(json.dumps(rest))


def of_first_schema():
    text = '{"schema":"bench.report/1","experiment":"x"}'
    found = hashlib.sha256(text.encode()).hexdigest()
    data = f'<script type="application/json" id="bench-data">{text}</script>'
    return f'sha256 <span class="mono">{found}</span>{data}'


def test_a_page_of_the_first_schema_is_checked_by_its_digest_alone():
    found = checked(of_first_schema())
    assert found.holds and found.n_values == 0 and "only the digest" in found.note
    assert not checked(of_first_schema().replace('"x"', '"y"')).holds


@pytest.mark.parametrize(
    "text",
    ["", "<html></html>", "{", "[" * 100_000, '{"schema": "bench.report/1"}', "\x00\x01", "null",
     '{"schema": "bench.report/2", "summary": {"deflated": "eJw"}}'],
)  # fmt: skip
def test_what_is_no_report_is_refused(text):
    with pytest.raises(DamagedReport):
        checked(text)
