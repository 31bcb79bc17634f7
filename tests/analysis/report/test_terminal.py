import re
from dataclasses import replace

import pytest

from bench.analysis.data.format import scale
from bench.analysis.report.sentences import verdict
from bench.analysis.report.terminal import ASCII, WIDTH, summary

NUMBER = r"[+\u2212-]?\d[\d,]*(?:\.\d+)?|[+\u2212]∞"
REPORT = "mlruns/reports/digits/report.html"
FORBIDDEN = ("significant", "trend", "marginal", "sota")


def value(text):
    return float(text.replace("\u2212", "-").replace(",", "").rstrip("%"))


def one_line(text):
    return re.sub(r"\s+", " ", text)


@pytest.mark.sample(7)
def test_no_line_is_wider_than_the_terminal(any_case, known):
    for unicode in (True, False):
        lines = summary(known(any_case), report=REPORT, unicode=unicode).splitlines()
        assert max(map(len, lines)) <= WIDTH
        assert not any(line != line.rstrip() for line in lines)


@pytest.mark.sample(7)
def test_the_fallback_is_ascii_and_loses_nothing(any_case, known):
    text = summary(known(any_case), report=REPORT, unicode=False)
    assert text.isascii()
    assert "?" not in re.sub(r"\? INCONCLUSIVE", "", text)  # nothing had to be replaced by one
    plain = summary(known(any_case), report=REPORT)
    assert {sign for sign in plain if not sign.isascii()} <= set(ASCII)
    assert value_list(plain.replace("±", "+-")) == value_list(text)


def value_list(text):
    return [x.replace("\u2212", "-") for x in re.findall(r"[+\u2212-]?\d+\.\d+", text)]


@pytest.mark.sample(7)
def test_the_numbers_are_those_of_the_findings(any_case, known):
    f = known(any_case)
    unit, text = f.measure.unit, summary(f, report=REPORT)
    blocks = re.split(r"(?m)^  (?=[▲▼≈?–] )", text)[1:]
    assert len(blocks) == len(f.comparisons)
    for c, block in zip(f.comparisons, blocks, strict=True):
        flat = one_line(block)
        assert c.verdict.label in flat and c.verdict.headline in flat
        assert ("provisional" in flat) == c.verdict.provisional
        shown = re.search(rf"({NUMBER})(?: pp)? ([\d.]+)% CI \[({NUMBER}), ({NUMBER})\]", flat)
        if c.verdict.word == "none":
            assert shown is None and "├" not in block
            continue
        p = c.primary
        low, high, level = p.low, p.high, p.level
        if c.verdict.word == "equivalent":
            low, high, level = p.low90, p.high90, p.level90
        assert value(shown[2]) == pytest.approx(100 * level, abs=0.01)
        for x, printed in ((p.difference, shown[1]), (low, shown[3]), (high, shown[4])):
            digits = len(printed.partition(".")[2])
            assert abs(value(printed) - x * scale(unit)) <= 0.5001 * 10.0**-digits
        assert f"won on {c.effect.wins} of {c.n_pairs} seeds" in flat


def test_the_strip_shows_the_estimate_between_its_limits(known):
    for name in ("rule3_better", "rule5_worse", "rule7_inconclusive", "rule1_equivalent"):
        text = summary(known(name), report=None)
        row = next(line for line in text.splitlines() if "├" in line)
        assert row.index("├") < row.index("●") < row.index("┤")
        assert ("┼" in row) == (name in ("rule7_inconclusive", "rule1_equivalent")) or (
            row.index("├") < row.index("●") < row.index("┤")
        )


def test_blockers_are_not_called_cautions(known):
    text = one_line(summary(known("failed_runs"), report=None))
    assert "1 blocker: 3 runs failed" in text
    assert "1 caution: the arms differ in failures" in text


def test_a_caution_is_named_by_its_first_words(known):
    text = one_line(summary(known("collapsed_runs"), report=None))
    assert re.search(r"the arms differ in collapsed runs(?:;| spent|$)", text), text


@pytest.mark.parametrize(
    ("stop", "again", "command"),
    [
        ("fixed", None, "bench run digits --seeds 20"),
        ("fixed", "bench run a.py --seeds 4 --set lr=1", "bench run a.py --set lr=1 --seeds 20"),
        ("fixed", "bench run --seeds=0-3 'b c.py'", "bench run 'b c.py' --seeds 20"),
        ("fixed", "bench run -s4 a.py -s 5", "bench run a.py --seeds 20"),
        ("group", "bench run --stop group --seeds 4", "bench run --stop group --seeds 20"),
        ("anytime", "bench run a --max-seeds 4 -q", "bench run a -q --max-seeds 20"),
    ],
)
def test_the_command_for_more_seeds_is_the_one_that_was_typed(known, stop, again, command):
    f = known("rule0_few_pairs")
    f = replace(f, design=replace(f.design, stop=stop), provenance={"again": again})
    assert verdict.command(f) == command


def test_the_recorded_runs_are_shown_by_the_command_given(known):
    text = summary(known("rule3_better"), report=None, browse="bench ui --store sqlite:///x.db")
    assert text.endswith("next     bench ui --store sqlite:///x.db")


@pytest.mark.sample(7)
def test_no_forbidden_word_is_printed(any_case, known):
    text = summary(known(any_case), report=None).lower()
    assert not any(word in text for word in FORBIDDEN)
    assert not re.search(r"\bnan\b|\bnone\b|\b1 (?:pairs|runs|cautions|blockers|seeds)\b", text)


def test_without_a_report_no_path_is_named(known):
    text = summary(known("rule3_better"), report=None)
    assert "report" not in text.split("checks")[1]
    assert f"report   {REPORT}" in summary(known("rule3_better"), report=REPORT)


@pytest.mark.parametrize("name", ["x" * 10_000, "a\u202eb", "\x1b[31mred\x1b[0m", "two\nlines"])
def test_hostile_names_do_not_reach_the_terminal(simulate, name):
    f = simulate(n_seeds=8, n_test=60, n_epochs=0, treatments=(name,), experiment=name).findings()
    for unicode in (True, False):
        text = summary(f, report=None, unicode=unicode)
        assert max(map(len, text.splitlines())) <= WIDTH
        assert not re.search(r"[\x00-\x09\x0b-\x1f\u202a-\u202e]", text)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("rule3_better", "▲ BETTER  Smoothed raises test accuracy, by more than the margin you se"),
        ("rule0_few_pairs", "– NO VERDICT  4 seeds are too few for a verdict."),
        ("rule7_inconclusive", "? INCONCLUSIVE  These 20 seeds cannot tell smoothed from baselin"),
    ],
)
def test_the_answer_is_one_line(known, name, line):
    lines = summary(known(name), report=None).splitlines()
    assert any(text.startswith(f"  {line}") for text in lines)
