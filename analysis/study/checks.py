"""Checks: what must be read before a result is quoted, answered from what is stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.data.format import count, difference, duration, spread
from bench.analysis.data.metrics import METRICS
from bench.analysis.data.tables import Design, records
from bench.analysis.inference.comparison import no_spread
from bench.analysis.study.curves import VALIDATION
from bench.analysis.study.findings import Arm, Check, Level, State, Treatment
from bench.analysis.study.pairs import Paired
from bench.analysis.study.summary import Summary
from bench.analysis.study.verdict import FEWEST_PAIRS, FULL_PAIRS

MOST_OVERLAP = 0.01  # of the test examples; CIFAR-10 itself has a few twins
STILL_IMPROVING = 0.5  # share of runs whose best epoch lies in the last tenth
ANALYSIS = {  # those that can give a word, as a sentence names them
    "two_way": "seeds and test examples",
    "paired_t": "paired t",
    "sign_flip": "sign-flip",
    "welch": "Welch, unpaired",
}


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the checks read. `words` are the verdict words of other analyses, by their name."""

    summary: Summary
    design: Design  # the summary's, with the runs that are still to be trained
    best: Mapping[str, pd.DataFrame]  # arm to what `best_epochs` returns
    arms: tuple[Arm, ...]
    comparisons: tuple[Treatment, ...]
    words: Mapping[str, Mapping[str, str]]  # treatment to analysis to word
    worst_case: Mapping[str, str | None]  # treatment to word with failures at chance
    without_seed: Mapping[str, Sequence[int]]  # treatment to seeds that alone change the word
    provenance: Mapping[str, Any]


def run_checks(e: Evidence) -> tuple[Check, ...]:
    """Answer every check, in the order blockers, cautions, notes."""
    answered = [
        _pairs_enough(e),
        _arms_differ_as_declared(e),
        _selected_on_validation(e),
        _overlap(e),
        _predictions_reproduce(e),
        _worst_case(e),
        _spread(e),
        *_reused_processes(e),
        _full_number(e),
        _frozen(e),
        _seeds_added(e),
        _earlier_looks(e),
        _best_of_several(e),
        _check("C6", "caution", "not checked", "How much each arm was tuned is not recorded."),
        _failures_alike(e),
        _analyses_agree(e),
        _one_seed(e),
        _same_machine(e),
        _images_too(e),
        _clean_tree(e),
        _finer_than_an_example(e),
        _still_improving(e),
        _validation_agrees(e),
        _pairs_left_out(e),
        _drew_alike(e),
        *_notes(e),
    ]
    order = {"blocker": 0, "caution": 1, "note": 2}
    return tuple(sorted(answered, key=lambda check: order[check.level]))


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


def _check(name: str, level: Level, state: State, text: str, why: str = "") -> Check:
    return Check(id=name, level=level, state=state, text=text, why=why)


def _result(name: str, level: Level, good: bool, passed: str, failed: str, why: str) -> Check:
    if good:
        return _check(name, level, "passed", passed)
    return _check(name, level, "failed", failed, why)


# -- blockers --------------------------------------------------------------------------------


def _pairs_enough(e: Evidence) -> Check:
    least = min(e.comparisons, key=lambda c: c.n_pairs)
    fewest = least.n_pairs
    whose = f" of {least.treatment}" if len(e.comparisons) > 1 else ""
    return _result(
        "B1",
        "blocker",
        fewest >= FEWEST_PAIRS,
        f"Enough pairs for the exact test to reach p < 0.05 ({fewest}; it needs {FEWEST_PAIRS}).",
        f"Only {count(fewest, 'complete pair')}{whose}." if fewest else f"No complete pair{whose}.",
        f"With {count(fewest, 'pair')} the exact test can never go below "
        f"p = {2 ** (1 - max(fewest, 1)):g}.",
    )


def _arms_differ_as_declared(e: Evidence) -> Check:
    if not e.design.benchmark_id:
        text = "Where these scores come from is not recorded, so other differences cannot be seen."
        return _check("B2", "blocker", "not checked", text)
    odd = [f"{m.path} ({m.versions} versions)" for m in e.summary.late_modules if m.versions > 1]
    return _result(
        "B2",
        "blocker",
        not odd,
        "The arms share source, data and seeds; they differ only in the settings shown above.",
        f"Code was changed while the runs were trained: {', '.join(sorted(odd))}.",
        "A module that trainings load by themselves was not the same in all of them, so the "
        "difference may be its own.",
    )


def _selected_on_validation(e: Evidence) -> Check:
    selected = _selected_epochs(e)
    if selected is None:
        text = "How the scored epoch was chosen is not recorded."
        return _check("B3", "blocker", "not checked", text)
    matching, total = selected
    if matching < total:
        text = (
            f"In {total - matching} of {total} runs the scored epoch is not the best validation "
            "epoch; how it was chosen is not recorded."
        )
        return _check("B3", "blocker", "not checked", text)
    text = f"The scored epoch is the best one on validation data in all {total} runs."
    return _check("B3", "blocker", "passed", text)


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


def _overlap(e: Evidence) -> Check:
    data = e.provenance.get("data") or {}
    if "train_test_overlap" not in data:
        text = "Whether training and test examples overlap is not recorded."
        return _check("B4", "blocker", "not checked", text)
    count = int(data["train_test_overlap"])
    share = count / max(1, int(data.get("test") or count or 1))
    return _result(
        "B4",
        "blocker",
        share <= MOST_OVERLAP,
        f"{count or 'No'} test {'example is' if count == 1 else 'examples are'} also among the "
        "training examples (compared byte for byte).",
        f"{count} test examples ({share:.1%}) are also training examples.",
        "A model may remember them; the test accuracy then says little about new images.",
    )


def _predictions_reproduce(e: Evidence) -> Check:
    if not e.summary.logs_accuracy:
        return _check("B5", "blocker", "not checked", "No metric was logged beside predictions.")
    agree = [run.log_agrees for run in e.summary.runs if run.log_agrees is not None]
    compared, wrong = len(agree), agree.count(False)
    if compared == 0:
        return _check("B5", "blocker", "not checked", "No predictions are stored.")
    return _result(
        "B5",
        "blocker",
        wrong == 0,
        f"Accuracy recomputed from {compared} stored prediction files: all match the log.",
        f"In {wrong} of {compared} runs the stored predictions do not give the logged accuracy.",
        "Either the log or the predictions were changed after training.",
    )


def _worst_case(e: Evidence) -> Check:
    failed = sum(arm.n_failed for arm in e.arms)
    if failed == 0:
        return _check("B6", "blocker", "passed", "No run failed; none was dropped.")
    judged = [c for c in e.comparisons if c.verdict.word != "none"]
    if not judged:
        text = f"{count(failed, 'run')} failed. Without a verdict there is none to change."
        return _check("B6", "blocker", "not checked", text)
    changed = [
        f"{c.treatment}: {'no verdict' if word == 'none' else word}"
        for c in judged
        if (word := e.worst_case.get(c.treatment)) is not None and word != c.verdict.word
    ]
    its = "its" if failed == 1 else "their"
    return _result(
        "B6",
        "blocker",
        not changed,
        f"{count(failed, 'run')} failed; at {its} worst value the word stays the same.",
        f"{count(failed, 'run')} failed; at {its} worst value the word would be another "
        f"({', '.join(changed)}).",
        "A failed run has no value, and leaving its pair out can favour the arm that failed.",
    )


def _spread(e: Evidence) -> Check:
    flat = [c.treatment for c in e.comparisons if _flat(c.pairs)]
    if all(c.n_pairs < 2 for c in e.comparisons):
        return _check("B7", "blocker", "not checked", "It takes two pairs to see a spread.")
    return _result(
        "B7",
        "blocker",
        not flat,
        "The differences vary over seeds.",
        f"Every pair differs by the same amount ({', '.join(flat)}).",
        "Without a spread nothing can be tested. Usually the seed, or the setting that differs, "
        "does not reach the training.",
    )


def _reused_processes(e: Evidence) -> list[Check]:
    """Answer only where trainings shared processes: most experiments never do."""
    differs = e.provenance.get("reuse_differs")
    if differs is None:
        return []
    return [
        _result(
            "B8",
            "blocker",
            not differs,
            "A pack trained again in a process of its own gives the same bits.",
            f"In a process of its own {', '.join(differs)} gives other bits.",
            "With reuse_process=True one training's leftovers can change the next one, and with it "
            "the difference between the arms.",
        )
    ]


def _flat(pairs: Paired) -> bool:
    scale = float(np.abs(np.r_[pairs.baseline, pairs.treatment]).max(initial=0.0))
    return pairs.n > 1 and no_spread(pairs.differences, scale=scale)


# -- cautions --------------------------------------------------------------------------------


def _full_number(e: Evidence) -> Check:
    fewest = min(c.n_pairs for c in e.comparisons)
    if fewest < FEWEST_PAIRS:
        return _check("C1", "caution", "not checked", "Too few pairs for any verdict (B1).")
    return _result(
        "C1",
        "caution",
        fewest >= FULL_PAIRS,
        f"{fewest} pairs: enough for an interval that keeps its promise under mild skew.",
        f"Few pairs: {fewest}, so the word is provisional.",
        "Between 6 and 9 pairs one unusual seed moves the interval a lot; 10 or more are better.",
    )


def _frozen(e: Evidence) -> Check:
    d = e.design
    if d.frozen_at is None:
        return _check(
            "C2", "caution", "not checked", "When the analysis was decided is not recorded."
        )
    return _result(
        "C2",
        "caution",
        d.frozen_before_first_run and not d.analysis_changed_after_results,
        f"Plan {d.hash[:7]} frozen before the first run ({_when(d.frozen_at)})."
        + (f" It replaced one that was frozen {_when(d.replaced)}." if d.replaced else ""),
        f"The analysis was changed after results could be seen ({_when(d.frozen_at)}).",
        "A metric, margin or claim chosen after the results makes a false alarm likelier."
        + (
            " The rule that ends the training was changed too: the verdict follows the "
            "anytime-valid interval, which allows for that."
            if d.stop_changed_after_results
            else ""
        ),
    )


def _seeds_added(e: Evidence) -> Check:
    looks = ", ".join(str(n) for n in e.design.looks if n > 0)
    return _result(
        "C3",
        "caution",
        not e.design.seeds_added_after_look,
        "The number of seeds was not changed after results could be seen.",
        f"Seeds were added after {looks} {'pair' if looks == '1' else 'pairs'} had finished.",
        "The verdict therefore follows the anytime-valid interval, which allows for that.",
    )


def _earlier_looks(e: Evidence) -> Check:
    looks = e.provenance.get("earlier_looks")
    if looks is None:
        text = "Whether this test set was scored before is not recorded."
        return _check("C4", "caution", "not checked", text)
    text = ""
    if looks:
        adjusted = e.provenance.get("earlier_looks_interval") or {}
        text = " ".join(
            f"Adjusted for {looks + 1} looks (Bonferroni), the interval of {name} is {limits}."
            for name, limits in adjusted.items()
        )
    return _result(
        "C4",
        "caution",
        not looks,
        "No other benchmark of this store has scored this test set.",
        f"The test set has been scored before: {count(looks, 'other benchmark')} in this store "
        "used the same data.",
        f"Picking the best of several on one test set inflates gains. {text}".strip(),
    )


def _best_of_several(e: Evidence) -> Check:
    m = len(e.design.treatments)
    if m == 1:
        return _check("C5", "caution", "passed", "One treatment was planned and one is reported.")
    text = f"All {m} treatments are reported, their intervals adjusted for {m} (Bonferroni)."
    return _check("C5", "caution", "passed", text)


def _pairs_left_out(e: Evidence) -> Check:
    dropped = list(e.provenance.get("dropped_pairs") or ())
    listed = f"{', '.join(dropped[:5])}{' …' if len(dropped) > 5 else ''}"
    return _result(
        "C16",
        "caution",
        not dropped,
        "No pair was left out.",
        f"{count(len(dropped), 'incomplete pair')} left out ({listed}), as was asked.",
        "Values that are missing for a reason, such as a crash, bias the mean of the others.",
    )


def _failures_alike(e: Evidence) -> Check:
    counts = {arm.name: arm.n_failed for arm in e.arms}
    listed = ", ".join(f"{name} {count}" for name, count in counts.items())
    collapsed = [arm for arm in e.arms if arm.n_collapsed]
    text = "".join(
        f" {arm.name}: {count(arm.n_collapsed, 'run')} collapsed "
        f"({arm.collapse_low:.0%} to {arm.collapse_high:.0%} of runs)."
        for arm in collapsed
    )
    alike = len(set(counts.values())) == 1 and len({a.n_collapsed for a in e.arms}) == 1
    return _result(
        "C7",
        "caution",
        alike,
        "No run failed or collapsed."
        if not any(counts.values()) and not collapsed
        else f"Failures are alike in the arms ({listed}).{text}",
        f"The arms differ in failures ({listed}).{text}"
        if len(set(counts.values())) > 1
        else f"The arms differ in collapsed runs.{text}",
        "Collapsed runs stay in the mean; failed runs have no value and are counted here."
        + (
            " Where one arm alone collapses now and then, no interval of a mean over so few seeds "
            "keeps its level: in simulation (3% of one arm's runs, 20 seeds) 95% intervals held "
            "the true mean 46% of the time."
            if len({a.n_collapsed for a in e.arms}) > 1
            else ""
        ),
    )


def _drew_alike(e: Evidence) -> Check:
    """Compare where the generators of both arms of a seed stood after equally many epochs."""
    seen: set[str] = set()
    odd: dict[str, int] = {}
    for of in e.summary.treatments:
        seen |= of.streams.keys()
        for name, n in of.streams.items():
            odd[name] = odd.get(name, 0) + n
    odd = {name: n for name, n in odd.items() if n}
    if not seen:
        text = "What the runs drew from their random streams is not recorded, or not comparable."
        return _check("C17", "caution", "not checked", text)
    if e.design.aa:
        return _check("C17", "caution", "not checked", "An A/A draws anew in each arm.")
    listed = ", ".join(f"{name} in {count(n, 'pair')}" for name, n in sorted(odd.items()))
    return _result(
        "C17",
        "caution",
        not odd,
        f"Both arms of every seed drew the same from {', '.join(sorted(seen))}.",
        f"The arms of a seed drew differently from the same stream: {listed}.",
        "They need not have seen the same batches, so pairing removes less of the spread. The "
        "interval stays valid.",
    )


def _analyses_agree(e: Evidence) -> Check:
    several = len(e.comparisons) > 1
    odd = [
        f"{f'{c.treatment}, ' if several else ''}{ANALYSIS[name]}: {word}"
        for c in e.comparisons
        if c.verdict.word != "none"
        for name, word in e.words.get(c.treatment, {}).items()
        if word != c.verdict.word
    ]
    if all(c.verdict.word == "none" for c in e.comparisons):
        return _check("C8", "caution", "not checked", "Without a verdict there is none to compare.")
    return _result(
        "C8",
        "caution",
        not odd,
        "Every analysis of these pairs gives the same word.",
        f"Not every analysis gives the same word ({'; '.join(odd)}).",
        "Only the first row was planned; the others cannot change the verdict.",
    )


def _one_seed(e: Evidence) -> Check:
    if all(c.verdict.word == "none" for c in e.comparisons):
        return _check("C9", "caution", "not checked", "Without a verdict there is none to change.")
    decisive = {t: seeds for t, seeds in e.without_seed.items() if seeds}
    listed = "; ".join(
        f"{f'{name}: ' if len(e.comparisons) > 1 else ''}"
        f"seed {', '.join(map(str, list(seeds)[:5]))}{' …' if len(seeds) > 5 else ''}"
        for name, seeds in decisive.items()
    )
    return _result(
        "C9",
        "caution",
        not decisive,
        "No single seed decides: leaving out any one gives the same word.",
        f"Leaving out one seed changes the word ({listed}).",
        "The answer hangs on few runs; more seeds would settle it.",
    )


def _same_machine(e: Evidence) -> Check:
    if e.summary.environments is None:
        text = "Versions and hardware of these runs are not recorded."
        return _check("C10", "caution", "not checked", text)
    varied = [f"{key}: {', '.join(seen)}" for key, seen in e.summary.environments.items()]
    done = [run for run in e.summary.runs if run.status == "finished"]
    kinds = sorted({run.device.partition(":")[0] for run in done})
    if len(kinds) > 1:
        varied.append(f"device: {', '.join(kinds)}")
    return _result(
        "C10",
        "caution",
        not varied,
        "All runs used the same versions, code and kind of device.",
        f"Not all runs are alike ({'; '.join(varied)}).",
        "Pairs that ran apart may differ for that reason too.",
    )


def _images_too(e: Evidence) -> Check:
    if e.design.scope == "seeds_and_examples" and any(c.variance for c in e.comparisons):
        text = "The verdict interval counts new seeds and new test examples."
        return _check("C11", "caution", "passed", text)
    both = [(c, a) for c in e.comparisons if (a := c.analysis("two_way")) is not None]
    if not both:
        text = "Without predictions per example, the sampling of test examples cannot be counted."
        return _check("C11", "caution", "not checked", text)
    zero = [
        c.treatment
        for c, a in both
        if a.low is not None and a.high is not None and a.low <= 0 <= a.high
    ]
    return _result(
        "C11",
        "caution",
        not zero,
        "Counting new test examples too, the interval still leaves out zero.",
        f"Counting new test examples too, the interval contains zero ({', '.join(zero)}).",
        "The result holds for this test set; another sample of images might not show it.",
    )


def _clean_tree(e: Evidence) -> Check:
    dirty = e.provenance.get("dirty")
    if dirty is None:
        return _check("C12", "caution", "not checked", "The code is not in a git repository.")
    return _result(
        "C12",
        "caution",
        not dirty,
        "The git tree had no uncommitted changes.",
        "The git tree had uncommitted changes.",
        "The commit alone does not give these results again; the source is stored with the runs.",
    )


def _finer_than_an_example(e: Evidence) -> Check:
    if e.design.metric != "accuracy":
        return _check("C13", "caution", "not checked", "Only an accuracy has steps of one example.")
    coarse = []
    for c in e.comparisons:
        if c.power.sd is not None and c.pairs.n_examples is not None:
            step = 1 / c.pairs.n_examples
            if c.power.sd < step:
                coarse.append(f"{c.treatment}: {spread(c.power.sd, 'fraction')}")
    return _result(
        "C13",
        "caution",
        not coarse,
        "The spread over seeds is larger than one test example.",
        f"The spread over seeds is smaller than one test example ({', '.join(coarse)}).",
        "Differences come in whole examples, which a t interval ignores; more test images help.",
    )


def _still_improving(e: Evidence) -> Check:
    late = total = 0
    for arm in e.design.arms:
        best = e.best[arm]
        if best.empty:
            continue
        length = int(best["last_epoch"].max()) + 1
        total += len(best)
        late += int((best["best_epoch"] >= length - max(1, length // 10)).sum())
    if total == 0:
        return _check("C14", "caution", "not checked", f"No {VALIDATION} was logged by epoch.")
    return _result(
        "C14",
        "caution",
        late / total <= STILL_IMPROVING,
        f"Training had levelled off: {late} of {total} runs were best in the last tenth.",
        f"Still improving at the end: {late} of {total} runs were best in the last tenth.",
        "With more epochs the arms might compare differently.",
    )


def _validation_agrees(e: Evidence) -> Check:
    if e.design.metric not in METRICS:
        return _check("C15", "caution", "not checked", "There are no validation predictions.")
    known = {
        (run.arm, run.seed): run.validation for run in e.summary.runs if run.validation is not None
    }
    against, seen = list[str](), 0
    for c in e.comparisons:
        gaps = [
            known[c.treatment, seed] - known[e.design.baseline, seed]
            for seed in c.pairs.seeds
            if (c.treatment, seed) in known and (e.design.baseline, seed) in known
        ]
        if not gaps or c.primary.difference is None or c.verdict.word not in ("better", "worse"):
            continue
        seen += 1
        mean = float(np.mean(gaps))
        if mean * c.primary.difference < 0:
            against.append(f"{c.treatment}: {difference(mean, e.design.measure.unit)} there")
    if not seen and all(c.verdict.word not in ("better", "worse") for c in e.comparisons):
        text = "The test data show no direction that validation data could agree with."
        return _check("C15", "caution", "not checked", text)
    if not seen:
        return _check("C15", "caution", "not checked", "There are no validation predictions.")
    return _result(
        "C15",
        "caution",
        not against,
        "Validation and test data show a difference of the same sign.",
        f"Validation and test data differ in sign ({'; '.join(against)}).",
        "A difference that shows on one sample of images only is likely small.",
    )


# -- notes -----------------------------------------------------------------------------------


def _notes(e: Evidence) -> list[Check]:
    notes = []
    if e.design.aa:
        text = "An A/A: both arms are the baseline, on separate families of seeds."
        if any(c.verdict.word in ("better", "worse") for c in e.comparisons):
            text += " A difference was found where there is none, as in 5% of such runs."
        notes.append(_check("N5", "note", "failed", text, "Nothing should be found."))
    runs = e.summary.runs
    again = [run for run in runs if run.attempts > 1]
    for run in again[:5]:
        text = f"Seed {run.seed}, {run.arm}, took {run.attempts} attempts (same seed)."
        notes.append(_check("N1", "note", "failed", text, "Each began afresh; the last is used."))
    if len(again) > 5:
        text = f"{count(len(again) - 5, 'more run')} took several attempts."
        notes.append(_check("N1", "note", "failed", text))
    for run in [run for run in runs if run.status == "failed"][:5]:
        text = f"Seed {run.seed}, {run.arm}, failed: {run.note}"
        why = "It has no value; its pair is incomplete and not in any mean."
        notes.append(_check("N2", "note", "failed", text, why))
    for late in e.summary.late_modules:
        if len(late.arms) < len(e.design.arms):
            text = f"{late.path} was loaded while training, and in {', '.join(late.arms)} alone."
            notes.append(_check("N6", "note", "failed", text, "It may be what the arms differ in."))
    for text in e.provenance.get("notes") or ():
        notes.append(_check("N3", "note", "failed", str(text)))
    times = [run.duration_s for run in runs if run.status == "finished" and run.duration_s]
    if len(times) > 3 and max(times) > 5 * float(np.median(times)) > 5:
        typical = duration(float(np.median(times)))
        text = f"One run took {duration(max(times))}, the median run {typical}."
        notes.append(_check("N4", "note", "failed", text))
    return notes


def _when(iso: str | None) -> str:
    return "" if iso is None else iso.replace("T", " ").replace("+00:00", " UTC")
