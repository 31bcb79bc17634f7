"""What each verdict rule makes bench say, kept word for word.

`BENCH_WRITE_GOLDEN=1 pytest tests/analysis/test_report_golden.py` writes the files anew; read the
difference before committing it.
"""

import os
from pathlib import Path

import pytest

from analysis.report import words
from analysis.report.display import fitted
from analysis.report.terminal import summary

GOLDEN = Path(__file__).parent / "golden"


def said(f):
    """Return everything of a report that follows the verdict rule, as text."""
    f, c = fitted(f), f.comparisons[0]
    parts = {
        "title": words.title(f),
        "bar": words.mini(f),
        "question": f"{words.question(f)} {words.compared(f)}",
        "headline": f"{c.verdict.glyph} {c.verdict.label}: {c.verdict.headline}",
        "numbers": " | ".join(part for part in words.headline_numbers(f, c) if part),
        "under it": "\n".join(words.more_about_verdict(f, c)),
        "claim": ". ".join(words.claim_fact(f, c)),
        "wins": ". ".join(words.wins_fact(f, c)),
        "cost": ". ".join(words.cost_fact(f, c)),
        "trust": ". ".join(words.trust_fact(f)),
        "reach": words.reach(f, c),
        "checks": words.checks_lede(f),
        "analyses": words.analyses_lede(f),
        "questions": "\n".join(" | ".join(row) for row in words.questions(f, c)),
        "seeds": words.seeds_lede(f, c),
        "narrows": words.what_narrows(f, c),
        "spread": words.components_lede(f, c),
        "calibration": words.calibration_lede(f, c),
        "paragraph": words.paragraph(f, c),
        "neurips": words.neurips(f),
        "terminal": summary(f, report="report.html", unicode=True),
    }
    return "".join(f"== {name}\n{text}\n\n" for name, text in parts.items())


def test_the_rule_speaks_as_agreed(known, rule_case):
    path, text = GOLDEN / f"{rule_case}.txt", said(known(rule_case))
    if os.environ.get("BENCH_WRITE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
        pytest.skip("written anew")
    assert text == path.read_text("utf-8")
