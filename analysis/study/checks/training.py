"""Cautions about how the runs went: failures, machines, epochs, random streams."""

import numpy as np
from numpy.typing import NDArray

from bench.analysis.data.format import count, difference, interval, spread, value
from bench.analysis.study.checks.registry import (
    Answer,
    Evidence,
    check,
    not_checked,
    passed_if,
)
from bench.analysis.study.curves import VALIDATION, projected_rise
from bench.analysis.study.findings import Treatment
from bench.analysis.study.verdict_interval import mean_interval

CEILING = 0.97  # of an AUROC: its 95 % interval covers 93 % above
Floats = NDArray[np.float64]


@check("C7", "caution")
def _failures_alike(e: Evidence) -> Answer:
    counts = {arm.name: arm.n_failed for arm in e.arms}
    listed = ", ".join(f"{name} {count}" for name, count in counts.items())
    collapsed = [arm for arm in e.arms if arm.n_collapsed]
    text = "".join(
        f" {arm.name}: {count(arm.n_collapsed, 'run')} collapsed "
        f"({arm.collapse_low:.0%} to {arm.collapse_high:.0%} of runs)."
        for arm in collapsed
    )
    alike = len(set(counts.values())) == 1 and len({a.n_collapsed for a in e.arms}) == 1
    return passed_if(
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


@check("C10", "caution")
def _same_machine(e: Evidence) -> Answer:
    if e.summary.environments is None:
        text = "Versions and hardware of these runs are not recorded."
        return not_checked(text)
    varied = [f"{key}: {', '.join(seen)}" for key, seen in e.summary.environments.items()]
    done = [run for run in e.summary.runs if run.status == "finished"]
    kinds = sorted({run.device.partition(":")[0] for run in done})
    if len(kinds) > 1:
        varied.append(f"device: {', '.join(kinds)}")
    return passed_if(
        not varied,
        "All runs used the same versions, code and kind of device.",
        f"Not all runs are alike ({'; '.join(varied)}).",
        "Pairs that ran apart may differ for that reason too.",
    )


@check("C12", "caution")
def _clean_tree(e: Evidence) -> Answer:
    dirty = e.provenance.get("dirty")
    if dirty is None:
        return not_checked("The code is not in a git repository.")
    return passed_if(
        not dirty,
        "The git tree had no uncommitted changes.",
        "The git tree had uncommitted changes.",
        "The commit alone does not give these results again; the source is stored with the runs.",
    )


@check("C13", "caution")
def _finer_than_an_example(e: Evidence) -> Answer:
    if e.design.metric != "accuracy":
        return not_checked("Only an accuracy has steps of one example.")
    coarse = []
    for c in e.comparisons:
        if c.power.sd is not None and c.pairs.n_examples is not None:
            step = 1 / c.pairs.n_examples
            if c.power.sd < step:
                coarse.append(f"{c.treatment}: {spread(c.power.sd, 'fraction')}")
    return passed_if(
        not coarse,
        "The spread over seeds is larger than one test example.",
        f"The spread over seeds is smaller than one test example ({', '.join(coarse)}).",
        "Differences come in whole examples, which a t interval ignores; more test images help.",
    )


@check("C14", "caution")
def _still_improving(e: Evidence) -> Answer:
    """Project the last quarter's slope over another quarter, for each arm and for the difference.

    The difference is what matters: arms that rise alike would compare as they do now.
    """
    rises = {arm: projected_rise(e.summary.curves, arm) for arm in e.design.arms}
    if not all(len(rise) > 1 for rise in rises.values()):
        return not_checked(f"Too few runs or epochs of {VALIDATION} were logged.")
    arms = ", ".join(f"{arm} {_by(np.array([*rise.values()]))}" for arm, rise in rises.items())
    odd = []
    for c in e.comparisons:
        base, other = rises[e.design.baseline], rises[c.treatment]
        both = [seed for seed in c.pairs.seeds if seed in base and seed in other]
        if len(both) < max(2, c.n_pairs / 2):
            return not_checked(f"Too few runs or epochs of {VALIDATION} were logged.")
        apart = np.array([other[seed] - base[seed] for seed in both])
        low, high = mean_interval(apart, level=0.95)
        if max(abs(low or 0.0), abs(high or 0.0)) > _matters(e, c):
            odd.append(f"{c.treatment} by {_by(apart)}")
    return passed_if(
        not odd,
        "Training had levelled off: with a quarter more epochs the difference would hardly move "
        f"(the arms: {arms}).",
        f"With a quarter more epochs the difference could move: {', '.join(odd)} "
        f"(the arms: {arms}).",
        "95% intervals of the last quarter's slope, carried on. With more epochs the arms might "
        "compare differently.",
    )


def _matters(e: Evidence, c: Treatment) -> float:
    """Return the change of a validation difference that matters: the margin, else half an SD."""
    if e.design.margin is not None and e.design.metric == "accuracy":
        return e.design.margin
    arms, seeds = (e.design.baseline, c.treatment), list(c.pairs.seeds)
    base, other = (e.best[arm]["best"].reindex(seeds) for arm in arms)
    return float((other - base).std(ddof=1)) / 2


def _by(values: Floats) -> str:
    return f"{interval(*mean_interval(values, level=0.95), 'fraction')} pp"


@check("C15", "caution")
def _validation_agrees(e: Evidence) -> Answer:
    if not e.design.measure.is_computed:
        return not_checked("There are no validation predictions.")
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
        return not_checked(text)
    if not seen:
        return not_checked("There are no validation predictions.")
    return passed_if(
        not against,
        "Validation and test data show a difference of the same sign.",
        f"Validation and test data differ in sign ({'; '.join(against)}).",
        "A difference that shows on one sample of images only is likely small.",
    )


@check("C20", "caution")
def _seeded(e: Evidence) -> Answer:
    """Look for trainings that drew from no stream and did not read their seed."""
    known = [run for run in e.summary.runs if run.status == "finished" and run.seeded is not None]
    if not known:
        return not_checked("Whether chance entered the trainings is not recorded.")
    odd = [run for run in known if not run.seeded]
    arms = [f"{arm} {n}" for arm in e.design.arms if (n := sum(run.arm == arm for run in odd))]
    return passed_if(
        not odd,
        f"In all {len(known)} runs what is drawn comes from the trial, or is seeded by it.",
        f"{len(odd)} of {count(len(known), 'run')} drew from no stream of the trial and did not "
        f"read its seed ({', '.join(arms)}).",
        "Whatever they drew came from a generator that is unseeded or fixed, so that a seed "
        "pairs nothing and a run cannot be repeated. bench’s doctor trains two seeds twice and "
        "shows it; trial.rng(…) or trial.seed mends it.",
    )


@check("C24", "caution")
def _near_ceiling(e: Evidence) -> Answer | None:
    """Answer only where the metric is an AUROC."""
    if e.design.metric != "auroc" or not e.summary.bins:
        return None
    means = {arm.name: arm.mean for arm in e.arms if arm.mean is not None}
    high = [f"{name} {value(mean, 'fraction')}" for name, mean in means.items() if mean > CEILING]
    return passed_if(
        not high,
        f"No arm's AUROC is above {CEILING:g}, where its interval becomes too narrow.",
        f"The AUROC is near its ceiling ({', '.join(high)}).",
        f"Above {CEILING:g} few examples decide it: its 95% interval held the true difference in "
        "93% of simulated studies, and in 91% where there were but 200 test examples.",
    )


@check("C25", "caution")
def _no_traceback(e: Evidence) -> Answer | None:
    """Answer only where a program printed a traceback, and ended with status 0."""
    odd = [run for run in e.summary.runs if run.traceback and run.status == "finished"]
    if not odd:
        return None
    arms = [f"{arm} {n}" for arm in e.design.arms if (n := sum(run.arm == arm for run in odd))]
    return passed_if(
        False,
        "",
        f"{count(len(odd), 'run')} printed a traceback and ended as if well ({', '.join(arms)}).",
        "An error that a program caught may have cost it a part of its training. Its log is with "
        "the run.",
    )


@check("C26", "caution")
def _files_kept(e: Evidence) -> Answer | None:
    """Answer only where configuration beside a program changed while it was trained."""
    odd = [run for run in e.summary.runs if run.changed_files]
    if not odd:
        return None
    names = dict.fromkeys(name for run in odd for name in run.changed_files.split(", "))
    listed = f"{', '.join([*names][:5])}{' …' if len(names) > 5 else ''}"
    return passed_if(
        False,
        "",
        f"{listed} changed while the runs were trained; {count(len(odd), 'run')} came after.",
        "Where trainings read it, runs of one arm are not alike. Where they write it, nothing is "
        "wrong.",
    )


@check("C17", "caution")
def _drew_alike(e: Evidence) -> Answer:
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
        return not_checked(text)
    if e.design.aa:
        return not_checked("An A/A draws anew in each arm.")
    listed = ", ".join(f"{name} in {count(n, 'pair')}" for name, n in sorted(odd.items()))
    return passed_if(
        not odd,
        f"Both arms of every seed drew the same from {', '.join(sorted(seen))}.",
        f"The arms of a seed drew differently from the same stream: {listed}.",
        "They need not have seen the same batches, so pairing removes less of the spread. The "
        "interval stays valid.",
    )
