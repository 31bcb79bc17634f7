"""Everything that a report says of one study, kept word for word.

What each verdict rule makes bench say in its headline is in `study/test_verdict.py`.
`BENCH_WRITE_GOLDEN=1 pytest tests/analysis/report/test_golden.py` writes the page anew; read the
difference before committing it.
"""

import os
from pathlib import Path

import pytest

from bench.analysis.report.names import fitted
from bench.analysis.report.sentences import cite, sections, verdict
from bench.analysis.report.terminal import summary

GOLDEN = Path(__file__).parent / "golden" / "rule3_better.txt"


def said(f):
    """Return everything of a report that follows the verdict rule, as text."""
    f, c = fitted(f), f.comparisons[0]
    parts = {
        "title": verdict.title(f),
        "bar": verdict.mini(f),
        "question": f"{verdict.question(f)} {verdict.compared(f)}",
        "headline": f"{c.verdict.glyph} {c.verdict.label}: {c.verdict.headline}",
        "numbers": " | ".join(part for part in verdict.headline_numbers(f, c) if part),
        "under it": "\n".join(verdict.more_about_verdict(f, c)),
        "claim": ". ".join(verdict.claim_fact(f, c)),
        "wins": ". ".join(verdict.wins_fact(f, c)),
        "cost": ". ".join(verdict.cost_fact(f, c)),
        "trust": ". ".join(verdict.trust_fact(f)),
        "reach": verdict.reach(f, c),
        "checks": sections.checks_lede(f),
        "analyses": sections.analyses_lede(f),
        "questions": "\n".join(" | ".join(row) for row in sections.questions(f, c)),
        "seeds": sections.seeds_lede(f, c),
        "narrows": sections.what_narrows(f, c),
        "spread": sections.components_lede(f, c),
        "calibration": sections.calibration_lede(f, c),
        "paragraph": cite.paragraph(f, c),
        "neurips": cite.neurips(f),
        "terminal": summary(f, report="report.html", unicode=True),
    }
    return "".join(f"== {name}\n{text}\n\n" for name, text in parts.items())


def test_the_report_speaks_as_agreed(known):
    text = said(known("rule3_better"))
    if os.environ.get("BENCH_WRITE_GOLDEN"):
        GOLDEN.write_text(text, "utf-8")
        pytest.skip("written anew")
    assert text == GOLDEN.read_text("utf-8")
