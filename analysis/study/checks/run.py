"""Checks: what must be read before a result is quoted, answered from what is stored."""

from collections.abc import Sequence

from bench.analysis.data.format import count
from bench.analysis.study.checks import blockers, design, training
from bench.analysis.study.checks.notes import notes
from bench.analysis.study.checks.registry import Evidence, answer_all
from bench.analysis.study.findings import Check, Treatment

FILES = (blockers, design, training)  # to import one is to register its checks


def run_checks(e: Evidence) -> tuple[Check, ...]:
    """Answer every check, in the order blockers, cautions, notes."""
    return (*answer_all(e), *notes(e))


def blocking(e: Evidence, checks: Sequence[Check], c: Treatment) -> str | None:
    """Return what forbids this treatment's verdict, in a few words, or None.

    Too few pairs and no spread have had their word already; a failed run blocks the treatment
    whose word it would change, any other blocker all of them.
    """
    if c.verdict.word == "none":
        return None
    for check in checks:
        if check.level != "blocker" or check.state != "failed" or check.id in ("B1", "B7"):
            continue
        if check.id == "B6":
            worst = e.worst_case.get(c.treatment)
            if worst in (None, c.verdict.word):
                continue
            arms = {e.design.baseline, c.treatment}
            failed = sum(arm.n_failed for arm in e.arms if arm.name in arms)
            outcome = "leave no verdict" if worst == "none" else f"change the word to {worst}"
            return f"{count(failed, 'run')} failed, and at their worst they would {outcome}"
        text = check.text.rstrip(".")
        return text[:1].lower() + text[1:]
    return None
