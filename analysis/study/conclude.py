"""Conclude: a Summary in, one frozen Findings out; every printed number comes from here.

Pure arithmetic and words: whoever has a report can conclude again from the summary in it.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bench.analysis.data.tables import Design
from bench.analysis.errors import UnusableRuns
from bench.analysis.inference import paired_t
from bench.analysis.inference.distributions import t_isf
from bench.analysis.inference.effect_size import clopper_pearson
from bench.analysis.inference.variance_sources import source_rows
from bench.analysis.study import robustness
from bench.analysis.study.among import among
from bench.analysis.study.checks.registry import Evidence
from bench.analysis.study.checks.run import blocking, run_checks
from bench.analysis.study.claim_protocol import claimed
from bench.analysis.study.compare_arm import blocked, compare, metric_label
from bench.analysis.study.curves import best_epochs, curves, epochs_of, gaps
from bench.analysis.study.findings import Arm, Cost, Findings, RunRow, Treatment
from bench.analysis.study.per_class import class_rows
from bench.analysis.study.secondary import calibration_rows, reliability_diagrams, secondary
from bench.analysis.study.summary import Summary
from bench.analysis.study.verdict_interval import mean_interval

COLLAPSE_MADS = 10.0  # scaled
SCALED = 1.4826  # so that a MAD estimates a normal standard deviation
FEWEST_RUNS = 5  # of an arm whose median says where a healthy run lies
TOWARDS_CHANCE = 0.1  # of the way from the median to what a model that knows nothing gets


def conclude(s: Summary) -> Findings:
    """Return everything that a summary says."""
    design = replace(s.design, pending=_pending(s))
    epochs = epochs_of(s.curves)
    best = {arm: best_epochs(epochs, arm) for arm in design.arms}
    scale = _pooled_mad(s)
    arms = tuple(_arm(s, name, scale) for name in design.arms)
    n_test = _n_test(s)
    rng = np.random.default_rng(s.seed)
    _, *streams = rng.spawn(1 + len(s.treatments))
    seen = [
        compare(
            of.pairs,
            design,
            of.treatment,
            claim=partial(claimed, s, of, best),
            secondary=secondary(of.outcomes, design),
            n_test=n_test,
            rng=stream.spawn(2)[0],
        )
        for of, stream in zip(s.treatments, streams, strict=True)
    ]
    pairs = {of.treatment: of.pairs for of in s.treatments}
    looks = robustness.adjusted_for_looks(s.provenance, pairs, design)
    evidence = Evidence(
        summary=s,
        design=design,
        best=best,
        arms=arms,
        comparisons=tuple(seen),
        words={c.treatment: robustness.other_words(c, c.pairs, design) for c in seen},
        worst_case={of.treatment: robustness.worst_word(of.worst, design) for of in s.treatments},
        without_seed={c.treatment: robustness.decisive_seeds(c, c.pairs, design) for c in seen},
        provenance={**s.provenance, "earlier_looks_interval": looks},
    )
    checks = run_checks(evidence)
    return Findings(
        design=design,
        metric_label=metric_label(design),
        arms=arms,
        comparisons=tuple(
            replace(
                blocked(c, blocking(evidence, checks, c), design),
                changed=of.changed,
            )
            for c, of in zip(seen, s.treatments, strict=True)
        ),
        calibration=calibration_rows(s.calibration, design),
        reliability=reliability_diagrams(s.bins, design),
        curves=curves(epochs, design),
        gaps=gaps(epochs, design),
        runs=_runs(s),
        checks=checks,
        summary=s,
        n_test=n_test,
        run_calibration=s.calibration,
        run_bins=s.bins,
        sources=source_rows(s.sources, design),
        costs=tuple(cost for c in seen if (cost := _cost(s, c)) is not None),
        among=among(s.treatments, s.between, design),
        classes=class_rows(s.classes, {name: p.n for name, p in pairs.items()}, design),
        provenance=s.provenance,
    )


def _cost(s: Summary, c: Treatment) -> Cost | None:
    """Compare the training times of a pair's runs; None where they were not recorded."""
    times = {(run.arm, run.seed): run.duration_s for run in s.runs if run.duration_s is not None}
    keys = [[(arm, seed) for seed in c.pairs.seeds] for arm in (s.design.baseline, c.treatment)]
    if not c.pairs.seeds or c.pairs.independent or not all(k in times for own in keys for k in own):
        return None
    base, other = ([times[key] for key in own] for own in keys)
    level = 1 - s.design.alpha
    cost = Cost(
        of=c.treatment,
        baseline=float(np.mean(base)),
        treatment=float(np.mean(other)),
        difference=float(np.mean(other) - np.mean(base)),
        level=level,
    )
    try:
        found = paired_t(base, other, level=level)
    except UnusableRuns:
        return cost
    return replace(cost, low=found.low, high=found.high)


def _n_test(s: Summary) -> int | None:
    """Count the test examples, however many columns a crossed analysis makes of them."""
    if s.bins:
        return sum(s.bins[0].count)
    return next((t.pairs.n_examples for t in s.treatments if t.pairs.n_examples is not None), None)


def _pending(s: Summary) -> int:
    """Count the planned runs that are neither finished nor failed; none once a rule has stopped."""
    design = s.design
    if not design.benchmark_id or design.stopped_at is not None:
        return 0
    settled = {(run.arm, run.seed) for run in s.runs if run.status in ("finished", "failed")}
    return sum((arm, seed) not in settled for arm in design.arms for seed in design.seeds)


def _arm(s: Summary, name: str, scale: float) -> Arm:
    if name in s.published:
        return _published_arm(s, name)
    design, own = s.design, sorted((r for r in s.runs if r.arm == name), key=lambda run: run.seed)
    values = _finished(s, name)
    chance = robustness.chance_level(s.n_classes, design)
    collapsed = int(_collapsed(values, design, chance, scale).sum())
    collapse_low, collapse_high = clopper_pearson(collapsed, values.size)
    alike = design.units.rows == "seeds" and not design.units.nested  # drawn one by one, from one
    low, high = mean_interval(values, level=1 - design.alpha) if alike else (None, None)
    return Arm(
        name=name,
        settings=dict(design.arm_settings.get(name, {})),
        n_finished=values.size,
        n_failed=sum(run.status == "failed" for run in own),
        n_collapsed=collapsed,
        collapse_low=collapse_low,
        collapse_high=collapse_high,
        mean=float(values.mean()),
        sd=float(values.std(ddof=1)) if values.size > 1 and not design.units.nested else None,
        min=float(values.min()),
        max=float(values.max()),
        low=low,
        high=high,
    )


def _published_arm(s: Summary, name: str) -> Arm:
    """Return an arm of which only the mean and the standard deviation are known."""
    of = s.published[name]
    reach = t_isf(s.design.alpha / 2, of.n - 1) * of.sd / math.sqrt(of.n) if of.n > 1 else None
    collapse_low, collapse_high = clopper_pearson(0, of.n)
    return Arm(
        name=name,
        settings={},
        n_finished=of.n,
        n_failed=0,
        n_collapsed=0,
        collapse_low=collapse_low,
        collapse_high=collapse_high,
        mean=of.mean,
        sd=of.sd,
        min=None,
        max=None,
        low=None if reach is None else of.mean - reach,
        high=None if reach is None else of.mean + reach,
    )


def _finished(s: Summary, arm: str) -> NDArray[np.float64]:
    return np.array([r.value for r in s.runs if r.arm == arm and r.status == "finished"], float)


def _pooled_mad(s: Summary) -> float:
    """Return the scaled MAD of all finished runs around their arm's median."""
    target = s.design.units.target is not None
    by_arm = [_finished(s, arm) for arm in s.design.arms if not target or arm != s.design.baseline]
    if s.published:
        return 0.0
    apart = np.concatenate([values - np.median(values) for values in by_arm if values.size])
    return SCALED * float(np.median(np.abs(apart)))


def _collapsed(
    values: NDArray[np.float64], design: Design, chance: float | None, scale: float
) -> NDArray[np.bool_]:
    """Mark finished runs at chance level, or far out on the bad side of their arm's median.

    Far out is 10 scaled MADs, and a tenth of the way to chance where chance is known. Without a
    spread (`scale` 0), or with fewer than five runs, only chance level counts.
    """
    sign = 1.0 if design.higher_is_better else -1.0
    good = sign * values
    median = float(np.median(good))
    limit = median - COLLAPSE_MADS * scale
    enough = scale > 0 and good.size >= FEWEST_RUNS
    bad: NDArray[np.bool_] = np.full(good.size, enough) & (good < limit)
    if chance is not None:
        bad &= good < median - TOWARDS_CHANCE * (median - sign * chance)
        bad |= good <= sign * chance
    return bad


def _runs(s: Summary) -> tuple[RunRow, ...]:
    """Return every run that was planned or recorded."""
    known = {(run.arm, run.seed): run for run in s.runs}
    rows = []
    for seed in dict.fromkeys([*s.design.seeds, *(run.seed for run in s.runs)]):
        for arm in s.design.arms:
            run = known.get((arm, seed))
            shown = () if run is None else (f.name for f in fields(RunRow))
            facts = {name: getattr(run, name) for name in shown}
            rows.append(RunRow(**{"seed": seed, "arm": arm, **facts}))
    return tuple(rows)


def summary_settings(design: Design) -> Sequence[tuple[str, tuple[str, ...]]]:
    """Return the settings in which the arms differ: key, then one value an arm."""
    keys = dict.fromkeys(key for arm in design.arms for key in design.arm_settings.get(arm, {}))
    rows = []
    for key in keys:
        values = tuple(
            json.dumps(design.arm_settings.get(arm, {}).get(key), default=str, ensure_ascii=False)
            for arm in design.arms
        )
        if len(set(values)) > 1:
            rows.append((key, values))
    return rows
