"""Blockers: where one of these fails, there is no verdict."""

import numpy as np

from bench.analysis.data.format import count
from bench.analysis.data.tables import records
from bench.analysis.inference.comparison import no_spread
from bench.analysis.study.checks.registry import (
    Answer,
    Evidence,
    check,
    not_checked,
    passed,
    passed_if,
)
from bench.analysis.study.gates import gate
from bench.analysis.study.pairs import Paired
from bench.analysis.study.verdict_interval import levels

MOST_OVERLAP = 0.01  # of the test examples; CIFAR-10 itself has a few twins


@check("B1", "blocker")
def _pairs_enough(e: Evidence) -> Answer:
    least = min(e.comparisons, key=lambda c: gate(c.pairs, e.design).have)
    asked, seeds = gate(least.pairs, e.design), e.design.units.are_seeds
    whose = f" of {least.treatment}" if len(e.comparisons) > 1 else ""
    level, _ = levels(e.design)
    if not seeds:
        return passed_if(
            asked.is_open,
            f"Enough for a word: {asked.what}; it takes {asked.needed}.",
            f"Only {asked.what}{whose}; it takes {asked.needed}.",
            asked.why,
        )
    few = f"Only {count(asked.have, 'complete pair')}{whose}."
    return passed_if(
        asked.is_open,
        f"Enough pairs for the exact test to reach p < {1 - level:.2g} "
        f"({asked.have}; it needs {asked.needed}).",
        few if asked.have else f"No complete pair{whose}.",
        asked.why,
    )


@check("B2", "blocker")
def _arms_differ_as_declared(e: Evidence) -> Answer:
    if not e.design.benchmark_id:
        text = "Where these scores come from is not recorded, so other differences cannot be seen."
        return not_checked(text)
    odd = [f"{m.path} ({m.versions} versions)" for m in e.summary.late_modules if m.versions > 1]
    return passed_if(
        not odd,
        "The arms share source, data and seeds; they differ only in the settings shown above.",
        f"Code was changed while the runs were trained: {', '.join(sorted(odd))}.",
        "A module that trainings load by themselves was not the same in all of them, so the "
        "difference may be its own.",
    )


@check("B3", "blocker")
def _selected_on_validation(e: Evidence) -> Answer:
    selected = _selected_epochs(e)
    if selected is None:
        text = "How the scored epoch was chosen is not recorded."
        return not_checked(text)
    matching, total = selected
    if matching < total:
        text = (
            f"In {total - matching} of {total} runs the scored epoch is not the best validation "
            "epoch; how it was chosen is not recorded."
        )
        return not_checked(text)
    text = f"The scored epoch is the best one on validation data in all {total} runs."
    return passed(text)


@check("B4", "blocker")
def _overlap(e: Evidence) -> Answer:
    data = e.provenance.get("data") or {}
    if "train_test_overlap" not in data:
        text = "Whether training and test examples overlap is not recorded."
        return not_checked(text)
    count = int(data["train_test_overlap"])
    share = count / max(1, int(data.get("test") or count or 1))
    return passed_if(
        share <= MOST_OVERLAP,
        f"{count or 'No'} test {'example is' if count == 1 else 'examples are'} also among the "
        "training examples (compared byte for byte).",
        f"{count} test examples ({share:.1%}) are also training examples.",
        "A model may remember them; the test accuracy then says little about new images.",
    )


@check("B5", "blocker")
def _predictions_reproduce(e: Evidence) -> Answer:
    if not e.summary.logs_accuracy:
        return not_checked("No metric was logged beside predictions.")
    agree = [run.log_agrees for run in e.summary.runs if run.log_agrees is not None]
    compared, wrong = len(agree), agree.count(False)
    if compared == 0:
        return not_checked("No predictions are stored.")
    return passed_if(
        wrong == 0,
        f"Accuracy recomputed from {compared} stored prediction files: all match the log.",
        f"In {wrong} of {compared} runs the stored predictions do not give the logged accuracy.",
        "Either the log or the predictions were changed after training.",
    )


@check("B6", "blocker")
def _worst_case(e: Evidence) -> Answer:
    failed = sum(arm.n_failed for arm in e.arms)
    if failed == 0:
        return passed("No run failed; none was dropped.")
    judged = [c for c in e.comparisons if c.verdict.word != "none"]
    if not judged:
        text = f"{count(failed, 'run')} failed. Without a verdict there is none to change."
        return not_checked(text)
    changed = [
        f"{c.treatment}: {'no verdict' if word == 'none' else word}"
        for c in judged
        if (word := e.worst_case.get(c.treatment)) is not None and word != c.verdict.word
    ]
    its = "its" if failed == 1 else "their"
    return passed_if(
        not changed,
        f"{count(failed, 'run')} failed; at {its} worst value the word stays the same.",
        f"{count(failed, 'run')} failed; at {its} worst value the word would be another "
        f"({', '.join(changed)}).",
        "A failed run has no value, and leaving its pair out can favour the arm that failed.",
    )


@check("B7", "blocker")
def _spread(e: Evidence) -> Answer:
    flat = [c.treatment for c in e.comparisons if _flat(c.pairs)]
    deaf = [arm.name for arm in e.arms if _same_in_all(e, arm.name)]
    if e.design.benchmark_id and flat and len(deaf) == len(e.arms):
        return passed_if(
            False,
            "",
            "The training ignores the seed: all runs of an arm give the same value "
            f"({', '.join(deaf)}).",
            "Without a spread nothing can be tested. The seed has to reach every generator that "
            "the training draws from.",
        )
    if all(c.n_pairs < 2 for c in e.comparisons):
        return not_checked("It takes two pairs to see a spread.")
    return passed_if(
        not flat,
        f"The differences vary over {e.design.units.pair.many}.",
        f"Every pair differs by the same amount ({', '.join(flat)}).",
        "Without a spread nothing can be tested. Usually the seed, or the setting that differs, "
        "does not reach the training.",
    )


@check("B8", "blocker")
def _reused_processes(e: Evidence) -> Answer | None:
    """Answer only where trainings shared processes: most experiments never do."""
    differs = e.provenance.get("reuse_differs")
    if differs is None:
        return None
    return passed_if(
        not differs,
        "A pack trained again in a process of its own gives the same bits.",
        f"In a process of its own {', '.join(differs)} gives other bits.",
        "With reuse_process=True one training's leftovers can change the next one, and with it "
        "the difference between the arms.",
    )


def _same_in_all(e: Evidence, arm: str) -> bool:
    """Tell whether several runs of an arm have one and the same value."""
    values = [r.value for r in e.summary.runs if r.arm == arm and r.value is not None]
    return len(values) > 1 and len({*values}) == 1


def _selected_epochs(e: Evidence) -> tuple[int, int] | None:
    matching = total = 0
    for arm in e.design.arms:
        best_epoch = {
            int(r["seed"]): int(r["best_epoch"]) for r in records(e.best[arm].reset_index())
        }
        for run in e.summary.runs:
            if run.arm != arm or run.status != "finished":
                continue
            if run.selected_epoch is None or run.seed not in best_epoch:
                return None
            total += 1
            matching += best_epoch[run.seed] == run.selected_epoch
    return (matching, total) if total else None


def _flat(pairs: Paired) -> bool:
    scale = float(np.abs(np.r_[pairs.baseline, pairs.treatment]).max(initial=0.0))
    if pairs.published is not None:
        return all(arm.sd == 0 for arm in pairs.published)
    if pairs.independent:
        arms = (np.array(pairs.baseline), np.array(pairs.treatment))
        return pairs.n > 1 and all(no_spread(arm, scale=scale) for arm in arms)
    return pairs.n > 1 and no_spread(pairs.differences, scale=scale)
