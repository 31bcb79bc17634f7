"""Notes: what happened, for whoever reads on. They block nothing."""

from collections import Counter

import numpy as np

from bench.analysis.data.format import count, duration
from bench.analysis.study.checks.registry import Evidence
from bench.analysis.study.findings import Check


def notes(e: Evidence) -> list[Check]:
    """Return one note for each event that a reader may ask about."""
    found = []
    if e.design.aa:
        text = "An A/A: both arms are the baseline, on separate families of seeds."
        if any(c.verdict.word in ("better", "worse") for c in e.comparisons):
            text += " A difference was found where there is none, as in 5% of such runs."
        found.append(_note("N5", text, "Nothing should be found."))
    runs = e.summary.runs
    again = [run for run in runs if run.attempts > 1]
    for run in again[:5]:
        text = f"Seed {run.seed}, {run.arm}, took {run.attempts} attempts (same seed)."
        found.append(_note("N1", text, "Each began afresh; the last is used."))
    if len(again) > 5:
        text = f"{count(len(again) - 5, 'more run')} took several attempts."
        found.append(_note("N1", text))
    taken = Counter((run.arm, run.taken_from) for run in runs if run.taken_from)
    for (arm, of), number in taken.items():
        text = f"{count(number, 'run')} of {arm} were trained for benchmark {of}, and taken over."
        found.append(_note("N7", text, "Code, settings and seed are the same."))
    for run in [run for run in runs if run.status == "failed"][:5]:
        text = f"Seed {run.seed}, {run.arm}, failed: {run.note}"
        why = "It has no value; its pair is incomplete and not in any mean."
        found.append(_note("N2", text, why))
    for late in e.summary.late_modules:
        if len(late.arms) < len(e.design.arms):
            text = f"{late.path} was loaded while training, and in {', '.join(late.arms)} alone."
            found.append(_note("N6", text, "It may be what the arms differ in."))
    for text in e.provenance.get("notes") or ():
        found.append(_note("N3", str(text)))
    times = [run.duration_s for run in runs if run.status == "finished" and run.duration_s]
    if len(times) > 3 and max(times) > 5 * float(np.median(times)) > 5:
        typical = duration(float(np.median(times)))
        text = f"One run took {duration(max(times))}, the median run {typical}."
        found.append(_note("N4", text))
    return found


def _note(name: str, text: str, why: str = "") -> Check:
    return Check(id=name, level="note", state="failed", text=text, why=why)
