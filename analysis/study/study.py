"""Study: tables and plan in, one frozen Findings out; every printed number comes from here."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.analysis.data.tables import BadTables, Design, Tables, records
from bench.analysis.inference.effect_size import clopper_pearson
from bench.analysis.inference.variance_sources import ALL, source_rows
from bench.analysis.study.checks import Evidence, blocking, run_checks
from bench.analysis.study.claim_protocol import best_epochs_of, claimed
from bench.analysis.study.compare_arm import blocked, compare, metric_label
from bench.analysis.study.curves import curves, gaps
from bench.analysis.study.findings import Arm, BestEpochs, Findings, RunRow, Treatment, plain
from bench.analysis.study.per_class import class_rows
from bench.analysis.study.robustness import (
    adjusted_for_looks,
    chance_level,
    decisive_seeds,
    other_words,
    worst_word,
)
from bench.analysis.study.secondary import (
    ScoredRun,
    calibration_rows,
    reliability_diagrams,
    run_bins,
    run_rows,
    score_runs,
    secondary,
)
from bench.analysis.study.verdict_interval import Paired, mean_interval

COLLAPSE_MADS = 6.0


def study(
    tables: Tables,
    design: Design,
    *,
    provenance: Mapping[str, Any] | None = None,
    families: Mapping[str, Tables] | None = None,
    rng: np.random.Generator,
) -> Findings:
    """Analyse one benchmark.

    Parameters
    ----------
    tables : everything recorded
    design : what was decided before the results, with its history
    provenance : what is known about code, data and machine; printed, and read by some checks
    families : source of randomness to the runs in which it alone varied
    rng : for the noise floor, the resampling analyses and the calibration intervals

    Raises
    ------
    BadTables : runs that cannot be compared, such as different test sets
    """
    facts = plain(dict(provenance or {}))
    design = replace(design, arm_settings=plain(design.arm_settings))  # as results.json has them
    design = replace(design, pending=_pending(tables, design))
    noise, *streams = rng.spawn(1 + len(design.treatments))
    _require_runs(tables, design, facts.get("again"))
    tables.require_one_test_set()
    pairs = {name: paired(tables, design, name) for name in design.treatments}
    scored = score_runs(tables, design, rng=noise)
    arms = tuple(_arm(tables, design, name) for name in design.arms)
    seen = [
        _treatment(tables, design, name, pairs[name], scored, stream)
        for name, stream in zip(pairs, streams, strict=True)
    ]
    evidence = Evidence(
        tables=tables,
        design=design,
        arms=arms,
        comparisons=tuple(seen),
        pairs=pairs,
        words={c.treatment: other_words(c, pairs[c.treatment], design) for c in seen},
        worst_case={c.treatment: worst_word(tables, c, pairs[c.treatment], design) for c in seen},
        without_seed={c.treatment: decisive_seeds(c, pairs[c.treatment], design) for c in seen},
        provenance={**facts, "earlier_looks_interval": adjusted_for_looks(facts, pairs, design)},
    )
    checks = run_checks(evidence)
    seen = [blocked(c, blocking(evidence, checks, c), design) for c in seen]
    rows, bins = run_rows(scored), run_bins(scored)
    return Findings(
        design=design,
        metric_label=metric_label(design),
        arms=arms,
        comparisons=tuple(seen),
        calibration=calibration_rows(rows, design),
        reliability=reliability_diagrams(bins, design),
        curves=curves(tables, design),
        gaps=gaps(tables, design),
        runs=_runs(tables, design),
        checks=checks,
        n_test=next((p.n_examples for p in pairs.values() if p.n_examples is not None), None),
        run_calibration=rows,
        run_bins=bins,
        sources=source_rows({**families, ALL: tables}, design) if families else (),
        classes=class_rows(tables, design, pairs, facts.get("data") or {}),
        provenance=facts,
    )


def _treatment(
    tables: Tables,
    design: Design,
    name: str,
    pairs: Paired,
    scored: Mapping[tuple[str, int], ScoredRun],
    rng: np.random.Generator,
) -> Treatment:
    resampling, grouping = rng.spawn(2)
    found, sums = secondary(tables, design, name, list(pairs.seeds), scored, rng=grouping)
    best = best_epochs_of(tables, design, name, pairs)
    return compare(
        pairs,
        design,
        name,
        claim=partial(claimed, tables, design, name, pairs, best),
        secondary=found,
        sums=(best if isinstance(best, BestEpochs) else None, sums),
        rng=resampling,
    )


def _pending(tables: Tables, design: Design) -> int:
    """Count the planned runs that are neither finished nor failed; none once a rule has stopped."""
    if not design.benchmark_id or design.stopped_at is not None:
        return 0
    settled = {
        (row["arm"], row["seed"])
        for row in records(tables.trials)
        if row["status"] in ("finished", "failed")
    }
    return sum((arm, seed) not in settled for arm in design.arms for seed in design.seeds)


def _require_runs(tables: Tables, design: Design, again: str | None) -> None:
    for name in design.arms:
        if not tables.finished(name):
            raise BadTables(
                f"no run of arm {name!r} has finished, so there is nothing to compare.",
                fix=again,
            )


def paired(tables: Tables, design: Design, treatment: str) -> Paired:
    """Return both arms on the seeds that finished in both."""
    seeds = tables.paired_seeds(design, treatment)
    base = tables.values(design, design.baseline, seeds)
    other = tables.values(design, treatment, seeds)
    examples = None
    measure = design.measure
    if measure.per_example is not None and all(
        tables.has_predictions(design, arm, seeds) for arm in (design.baseline, treatment)
    ):
        examples = tables.per_example(measure, treatment, seeds)
        examples -= tables.per_example(measure, design.baseline, seeds)
    return Paired(tuple(seeds), base, other, examples)


# -- arms and runs ---------------------------------------------------------------------------


def _arm(tables: Tables, design: Design, name: str) -> Arm:
    values = tables.values(design, name, tables.finished(name))
    rows = tables.trials[tables.trials.arm == name]
    collapsed = int(_collapsed(values, design, chance_level(tables, design)).sum())
    collapse_low, collapse_high = clopper_pearson(collapsed, values.size)
    low, high = mean_interval(values, level=1 - design.alpha)
    return Arm(
        name=name,
        settings=dict(design.arm_settings.get(name, {})),
        n_finished=values.size,
        n_failed=int((rows.status == "failed").sum()),
        n_collapsed=collapsed,
        collapse_low=collapse_low,
        collapse_high=collapse_high,
        mean=float(values.mean()),
        sd=float(values.std(ddof=1)) if values.size > 1 else None,
        min=float(values.min()),
        max=float(values.max()),
        low=low,
        high=high,
    )


def _collapsed(
    values: NDArray[np.float64], design: Design, chance: float | None
) -> NDArray[np.bool_]:
    """Mark finished runs at chance level, or more than 6 MADs on the bad side of the median."""
    good = values if design.higher_is_better else -values
    median = float(np.median(good))
    mad = float(np.median(np.abs(good - median)))
    bad: NDArray[np.bool_] = (
        good < median - COLLAPSE_MADS * mad if mad > 0 else np.zeros(good.size, dtype=np.bool_)
    )
    if chance is not None:
        bad |= good <= (chance if design.higher_is_better else -chance)
    return bad


def _runs(tables: Tables, design: Design) -> tuple[RunRow, ...]:
    known = {(row["arm"], row["seed"]): row for row in records(tables.trials)}
    values = {
        (arm, seed): float(value)
        for arm in design.arms
        for seed, value in zip(
            tables.finished(arm),
            tables.values(design, arm, tables.finished(arm)),
            strict=True,
        )
    }
    seeds = list(dict.fromkeys([*design.seeds, *(int(s) for s in tables.trials.seed)]))
    rows = []
    for seed in seeds:
        for arm in design.arms:
            row = known.get((arm, seed), {})
            rows.append(
                RunRow(
                    seed=seed,
                    arm=arm,
                    value=values.get((arm, seed)),
                    status=str(row.get("status", "missing")),
                    device=str(row.get("device", "")),
                    duration_s=row.get("duration_s"),
                    attempts=int(row.get("attempts") or 0),
                    note=str(row.get("reason") or ""),
                )
            )
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
