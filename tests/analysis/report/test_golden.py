"""Everything that a report says of one study, kept word for word.

What each verdict rule makes bench say in its headline is in `study/test_verdict.py`.
`BENCH_WRITE_GOLDEN=1 pytest tests/analysis/report/test_golden.py` writes the page anew; read the
difference before committing it.
"""

import os
from pathlib import Path

import pytest

from bench.analysis.report import sentences
from bench.analysis.report.names import fitted
from bench.analysis.report.terminal import summary

GOLDEN = Path(__file__).parent / "golden" / "rule3_better.txt"


def said(f):
    """Return everything of a report that follows the verdict rule, as text."""
    f, c = fitted(f), f.comparisons[0]
    parts = {
        "title": sentences.title(f),
        "bar": sentences.mini(f),
        "question": f"{sentences.question(f)} {sentences.compared(f)}",
        "headline": f"{c.verdict.glyph} {c.verdict.label}: {c.verdict.headline}",
        "numbers": " | ".join(part for part in sentences.headline_numbers(f, c) if part),
        "under it": "\n".join(sentences.more_about_verdict(f, c)),
        "claim": ". ".join(sentences.claim_fact(f, c)),
        "wins": ". ".join(sentences.wins_fact(f, c)),
        "cost": ". ".join(sentences.cost_fact(f, c)),
        "trust": ". ".join(sentences.trust_fact(f)),
        "reach": sentences.reach(f, c),
        "checks": sentences.checks_lede(f),
        "analyses": sentences.analyses_lede(f),
        "questions": "\n".join(" | ".join(row) for row in sentences.questions(f, c)),
        "seeds": sentences.seeds_lede(f, c),
        "narrows": sentences.what_narrows(f, c),
        "spread": sentences.components_lede(f, c),
        "calibration": sentences.calibration_lede(f, c),
        "paragraph": sentences.paragraph(f, c),
        "neurips": sentences.neurips(f),
        "terminal": summary(f, report="report.html", unicode=True),
    }
    return "".join(f"== {name}\n{text}\n\n" for name, text in parts.items())


def test_the_report_speaks_as_agreed(known):
    text = said(known("rule3_better"))
    if os.environ.get("BENCH_WRITE_GOLDEN"):
        GOLDEN.write_text(text, "utf-8")
        pytest.skip("written anew")
    assert text == GOLDEN.read_text("utf-8")
