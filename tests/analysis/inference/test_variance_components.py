import json
import math
import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
from scipy import stats

from bench.analysis.data.format import share, spread
from bench.analysis.inference import effective_df, two_way, two_way_from_mean_squares
from bench.analysis.inference.variance_components import components, difference_limits, to_halve
from bench.analysis.report import markdown, tables
from bench.analysis.report.document import document
from bench.analysis.report.sentences import sections
from bench.analysis.report.verify import differing
from bench.analysis.study.compare_arm import _narrowed

# Houf & Berman (1988): 10 parts, 3 operators, each pair measured three times. Mean squares as in
# the documentation of SAS's PROC VARCOMP.
PARTS, OPERATORS, BOTH, ERROR = 437.328395, 19.633333, 2.69506173, 0.51111111


@pytest.mark.parametrize(
    ("first", "second", "df", "count", "expected"),
    [
        (PARTS, BOTH, (9, 18), 9, (22.694519080, 161.6391841517)),
        (OPERATORS, BOTH, (2, 18), 30, (0.072961525, 25.7507696003)),
        (BOTH, ERROR, (18, 60), 3, (0.332725386, 1.7927201819)),
    ],
)
def test_reproduces_a_gauge_study_analysed_elsewhere(first, second, df, count, expected):
    # R: gaugerr::conf_intervals of these data, by Burdick, Borror & Montgomery (2005)
    found = [limit / count for limit in difference_limits(first, second, *df)]
    assert found == pytest.approx(expected, rel=1e-7)


def test_the_limit_below_leaves_zero_where_the_f_test_rejects():
    edge = stats.f.isf(0.025, 7, 90)
    assert difference_limits(1.001 * edge, 1.0, 7, 90)[0] > 0
    assert difference_limits(edge, 1.0, 7, 90)[0] == pytest.approx(0, abs=1e-7)
    assert difference_limits(0.999 * edge, 1.0, 7, 90)[0] < 0


def test_without_a_rest_the_limits_are_the_chi_square_ones():
    low, high = difference_limits(2.0, 0.0, 9, 50, level=0.9)
    assert low == pytest.approx(2 * 9 / stats.chi2.isf(0.05, 9))
    assert high == pytest.approx(2 * 9 / stats.chi2.ppf(0.05, 9))


@pytest.mark.parametrize(
    "wrong", [(-1.0, 1.0, 3, 9), (1.0, math.nan, 3, 9), (1.0, 1.0, 0, 9), (math.inf, 1.0, 3, 9)]
)
def test_refuses_what_is_no_mean_square(wrong):
    with pytest.raises(ValueError, match="a mean square is a number from 0 on, its degrees of"):
        difference_limits(*wrong)


def test_refuses_what_is_no_level():
    with pytest.raises(ValueError, match="write 0.95 for 95 %"):
        difference_limits(2.0, 1.0, 3, 9, level=95)


def test_the_parts_add_up_to_the_variance_of_the_mean():
    d = np.random.default_rng(0).normal(size=(9, 1)) + np.random.default_rng(1).normal(size=(9, 50))
    r = two_way(d)
    parts = {part.source: part for part in components(r, effective_df(d))}
    assert sum(part.share for part in parts.values()) == pytest.approx(1)
    whole = sum(part.sd**2 / part.n for part in parts.values())
    if r.variance_examples:
        assert whole == pytest.approx(r.standard_error**2)
    for part in parts.values():
        assert 0 <= part.low <= part.sd <= part.high
        assert part.share == pytest.approx(part.sd**2 / part.n / whole)
    assert (parts["seeds"].n, parts["examples"].n, parts["residual"].n) == (9, 50, 450)
    assert parts["seeds"].sd == pytest.approx(math.sqrt(r.variance_seeds))


def test_a_part_that_is_not_seen_has_an_sd_of_zero_and_a_limit_above_it():
    r = two_way_from_mean_squares(0.0, 1.0, 8.0, 1.1, 10, 100)
    seeds = components(r, (99, 891))[0]
    assert (seeds.sd, seeds.low, seeds.share) == (0.0, 0.0, 0.0)
    assert 0 < seeds.high < 0.2


# -- what halves the interval ------------------------------------------------------------------


def crossed(seeds, examples, rest, *, n=20, width=1000):
    """Return an analysis in which the three variances of the mean are these."""
    e = rest * n * width
    return two_way_from_mean_squares(
        0.0, seeds * n * width + e, examples * n * width + e, e, n, width
    )


def variance(r, n, width):
    return r.variance_seeds / n + r.variance_examples / width + r.variance_residual / (n * width)


@pytest.mark.parametrize(
    ("seeds", "rest"),
    [(0, 0), (0.05, 0), (0.95, 0), (1, 0), (0.2, 0.1), (0.5, 0.1), (0.2, 0.6), (0, 0.9), (0, 1)],
)
def test_the_numbers_that_halve_the_width_do_and_one_fewer_does_not(seeds, rest):
    r = crossed(seeds, 1 - seeds - rest, rest)
    quarter = variance(r, 20, 1000) / 4 * (1 + 1e-9)
    n, width = to_halve(r)
    if n is None:
        assert variance(r, 10**9, 1000) > quarter
    else:
        assert variance(r, n, 1000) <= quarter < variance(r, n - 1, 1000) * (1 + 1e-8)
    if width is None:
        assert variance(r, 20, 10**9) > quarter
    else:
        assert variance(r, 20, width) <= quarter < variance(r, 20, width - 1) * (1 + 1e-8)


def test_where_seeds_make_it_all_no_number_of_examples_helps():
    assert to_halve(crossed(1.0, 0.0, 0.0)) == (80, None)
    assert to_halve(crossed(0.0, 1.0, 0.0)) == (None, 4000)
    assert to_halve(crossed(0.5, 0.5, 0.0)) == (None, None)


def said(f, r):
    """Return what the page says of findings whose crossed analysis is this one."""
    c = f.comparisons[0]
    n, width = to_halve(r)
    v = replace(
        c.variance,
        seeds_to_halve=n,
        examples_to_halve=width,
        width_with_twice_seeds=_narrowed(r, seeds=2),
        width_with_twice_examples=_narrowed(r, examples=2),
    )
    return sections.what_narrows(f, replace(c, variance=v))


def test_what_halves_is_said_as_it_is(known):
    f = known("rule3_better")
    assert said(f, crossed(1.0, 0.0, 0.0)).endswith(
        "more seeds help more. Half the width takes about 80 pairs in all; no number of test "
        "examples alone does it."
    )
    assert "about 4,000 test examples; no number of pairs alone" in said(f, crossed(0.0, 1.0, 0.0))
    assert "at most four times as many of each" in said(f, crossed(0.5, 0.5, 0.0))
    assert "about 95 pairs in all, or about 6,000 test" in said(f, crossed(0.1, 0.05, 0.85))


def test_the_sentences_about_more_of_either_never_disagree(known):
    f, rng = known("rule3_better"), np.random.default_rng(2)
    for _ in range(300):
        text = said(f, crossed(*rng.dirichlet([0.4, 0.4, 0.4])))
        if "more seeds help" in text:
            assert "no number of pairs alone" not in text
        if "more test examples help" in text:
            assert "no number of test examples alone" not in text
        if numbers := re.search(r"about ([\d,]+) pairs in all, or about ([\d,]+) test", text):
            pairs, examples = (int(number.replace(",", "")) for number in numbers.groups())
            if "more seeds help" in text:
                assert pairs / 20 < 1.1 * examples / 1000  # rounded up to two digits
            if "more test examples help" in text:
                assert examples / 1000 < 1.1 * pairs / 20 + 1 / 1000


# -- in the report -----------------------------------------------------------------------------


def test_the_page_and_the_markdown_show_every_part_with_its_question(known, report):
    f = known("rule3_better")
    page_text, text = unescape(report("rule3_better")), "\n".join(markdown.tables(f))
    assert (
        re.search(r"Table \d+\. What makes the spread", page_text)
        and "Bouthillier et al. (2021)" in page_text
    )
    assert re.search(r"\*\*Table \d+\. What makes the spread", text)
    for part in f.comparisons[0].variance.components:
        for shown in (
            sections.COMPONENTS[part.source][1],
            spread(part.sd, "fraction"),
            f"{spread(part.low, 'fraction')} to {spread(part.high, 'fraction')}",
        ):
            assert shown in page_text and shown in text
    assert sections.components_lede(f, f.comparisons[0]) in page_text


def test_the_sentence_names_the_shares_of_the_table(known):
    f = known("rule7_inconclusive")
    shares = [share(part.share) for part in f.comparisons[0].variance.components]
    assert sections.components_lede(f, f.comparisons[0]) == (
        f"Of the variance of the mean difference, {shares[0]} comes from seeds, {shares[1]} from "
        f"test examples and {shares[2]} from what neither explains."
    )
    rows = tables.components(f, f.comparisons[0]).rows
    assert [row.cells[-1].text for row in rows] == shares


@pytest.mark.parametrize("name", ["scores_only", "one_pair", "identical_arms"])
def test_without_a_crossed_analysis_there_is_no_such_table(known, report, name):
    f = known(name)
    assert tables.components(f, f.comparisons[0]) is None
    assert "Where does the spread come from" not in report(name)


def test_several_treatments_have_a_table_each(known, report):
    f, html = known("three_treatments"), report("three_treatments")
    assert [f": {c.treatment}. What makes the spread" in html for c in f.comparisons] == [True] * 3


def test_a_changed_part_is_found(known):
    again = document(known("rule3_better"), version="1")
    data = json.loads(json.dumps(again))
    data["comparisons"][0]["variance"]["components"][1]["high"] *= 1.01
    data["comparisons"][0]["variance"]["seeds_to_halve"] = 7
    _, found = differing(data, again, words=True)
    assert {m.where.removeprefix("comparisons[0].variance.") for m in found} == {
        "components[1].high",
        "seeds_to_halve",
    }
