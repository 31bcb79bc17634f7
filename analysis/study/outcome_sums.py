"""Outcome sums: what other outcomes, calibration and its figures come down to, by predictions."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bench.analysis.calibration.errors import (
    Calibration,
    ece_debiased,
    equal_width_bins,
    squared_error,
)
from bench.analysis.calibration.intervals import Error, ece_difference
from bench.analysis.data.format import Unit, count
from bench.analysis.data.metrics import ALWAYS, METRICS, Scored
from bench.analysis.data.set_metrics import risk_coverage
from bench.analysis.data.tables import Design, Tables
from bench.analysis.errors import UnusableRuns
from bench.analysis.inference.gram import gram
from bench.analysis.inference.two_way import MeanSquares, mean_squares
from bench.analysis.study.pairs import Paired
from bench.analysis.study.summary import OutcomeSums, RunBins

# Wrong validation answers a fit needs. Share of fits whose NLL is over 10 % above the ideal: 33 %
# with none, 31 % with 1 or 2, 7 % with 3 to 9, 2 % with 10 to 19 (simulated).
FEWEST_ERRORS = 10
Floats = NDArray[np.float64]
Head = tuple[str, str, Unit, bool | None]  # metric, label, unit, whether higher is better


@dataclass(frozen=True, eq=False)
class ScoredRun:
    """One run's scores, raw and scaled, and its calibration: raw first, then scaled."""

    raw: Scored
    scaled: Scored | None
    calibration: tuple[Calibration, ...]
    validation_errors: int | None = None  # that its temperature was fitted on


def run_bins(scored: Mapping[tuple[str, int], ScoredRun]) -> tuple[RunBins, ...]:
    """Return what every run's reliability diagram and risk-coverage curve are drawn from."""
    rows = []
    for (arm, seed), run in scored.items():
        sums = equal_width_bins(run.raw.confidence, run.raw.correct)
        rows.append(
            RunBins(
                arm=arm,
                seed=seed,
                count=tuple(int(c) for c in sums.count),
                correct=tuple(map(float, sums.correct)),
                confidence=tuple(map(float, sums.confidence)),
                risk=tuple(risk_coverage(run.raw.confidence, run.raw.correct).tolist()),
            )
        )
    return tuple(rows)


def outcome_sums(
    tables: Tables,
    design: Design,
    treatment: str,
    seeds: list[int],
    scored: Mapping[tuple[str, int], ScoredRun],
    *,
    rng: np.random.Generator,
) -> tuple[OutcomeSums, ...]:
    """Return what every outcome but the primary one is compared by.

    Parameters
    ----------
    seeds : those that finished in both arms
    rng : groups test examples for the intervals of calibration errors
    """
    arms = (design.baseline, treatment)
    found: list[OutcomeSums] = []
    if len(seeds) >= 2 and all((arm, s) in scored for arm in arms for s in seeds):
        found += _per_example(tables, design, treatment, seeds)
        found += _gap(design, treatment, seeds, scored)
        found += _calibration_errors(design, treatment, seeds, scored, rng)
    crossed = _items(tables, design, treatment, seeds)
    known = {sums.metric for sums in crossed}
    return (*found, *crossed, *_scores(tables, design, treatment, seeds, known))


def _sums(
    head: Head, baseline: Floats, treatment: Floats, crossed: Callable[[], MeanSquares] | None
) -> OutcomeSums:
    """Return the sums of a two-way analysis, or of a paired t over seeds where there is none."""
    metric, label, unit, higher = head
    sums = OutcomeSums(
        metric=metric,
        label=label,
        unit=unit,
        higher_is_better=higher,
        baseline=tuple(map(float, baseline)),
        treatment=tuple(map(float, treatment)),
        method="two_way" if crossed else "paired_t",
    )
    if crossed is None:
        return sums
    try:
        of = crossed()
    except UnusableRuns as refusal:
        return replace(sums, reason=refusal.what)
    squares = (of.seeds, of.examples, of.residual)
    return replace(sums, difference=of.difference, squares=squares, n_columns=of.n_examples)


def _per_example(
    tables: Tables, design: Design, treatment: str, seeds: list[int]
) -> list[OutcomeSums]:
    found = []
    for measure in (METRICS[name] for name in ALWAYS if name != design.metric):
        base = tables.per_example(measure, design.baseline, seeds)
        other = tables.per_example(measure, treatment, seeds)
        label = measure.label[:1].upper() + measure.label[1:]
        found.append(
            _sums(
                (measure.name, label, measure.unit, measure.higher_is_better),
                base.mean(axis=1),
                other.mean(axis=1),
                None if design.scope == "seeds" else partial(mean_squares, other - base),
            )
        )
    return found


def _gap(
    design: Design, treatment: str, seeds: list[int], scored: Mapping[tuple[str, int], ScoredRun]
) -> list[OutcomeSums]:
    """Return the signed gap: a mean over examples, so that its interval needs no grouping."""
    base, other = (
        np.stack([scored[arm, s].raw.confidence - scored[arm, s].raw.correct for s in seeds])
        for arm in (design.baseline, treatment)
    )
    crossed = None if design.scope == "seeds" else partial(mean_squares, other - base)
    head: Head = ("gap", "Confidence − accuracy", "fraction", None)
    return [_sums(head, base.mean(axis=1), other.mean(axis=1), crossed)]


def _calibration_errors(
    design: Design,
    treatment: str,
    seeds: list[int],
    scored: Mapping[tuple[str, int], ScoredRun],
    rng: np.random.Generator,
) -> list[OutcomeSums]:
    """Return the squared calibration error, and the ECE for description alone.

    An ECE's interval misses 17 to 28 % of the time where one arm is calibrated, and never where
    both are far from it: nothing is claimed from it.
    """
    both = [[scored[arm, seed] for seed in seeds] for arm in (design.baseline, treatment)]
    found = []
    outcomes: tuple[tuple[str, str, Unit, int], ...] = (
        ("ece_debiased", "Calibration error (ECE)", "fraction", 0),
        ("ece_debiased_scaled", "ECE after temperature scaling", "fraction", 1),
        ("ce2", "Squared calibration error", "score", 0),
        ("ce2_scaled", "Squared calibration error after temperature scaling", "score", 1),
    )
    for name, label, unit, view in outcomes:
        of, error = ("ce2", squared_error) if "ce2" in name else ("ece_debiased", ece_debiased)
        runs = [[(run.raw, run.scaled)[view] for run in arm] for arm in both]
        if any(run is None for arm in runs for run in arm):
            continue  # without validation predictions no temperature can be fitted
        complete = [[run for run in arm if run is not None] for arm in runs]
        errors = [np.array([getattr(run.calibration[view], of) for run in arm]) for arm in both]
        parts = [([r.confidence for r in arm], [r.correct for r in arm]) for arm in complete]
        fewest = min((run.validation_errors or 0 for arm in both for run in arm), default=0)
        crossed = partial(_error_difference, *parts, rng=rng, error=error)
        if view and fewest < FEWEST_ERRORS:
            crossed = partial(_not_identified, fewest)
        sums = _sums((name, label, unit, False), errors[0], errors[1], crossed)
        found.append(replace(sums, descriptive=error is ece_debiased))
    return sorted(found, key=lambda outcome: outcome.descriptive)


def _not_identified(errors: int) -> MeanSquares:
    raise UnusableRuns(
        f"a temperature is not identified by {count(errors, 'wrong validation answer')}; "
        f"it takes {FEWEST_ERRORS}"
    )


def _error_difference(
    baseline: tuple[list[Floats], list[Floats]],
    treatment: tuple[list[Floats], list[Floats]],
    *,
    rng: np.random.Generator,
    error: Error,
) -> MeanSquares:
    if baseline[0][0].size < 2:
        raise UnusableRuns("one test example cannot be grouped, so there is no interval")
    c = ece_difference(baseline, treatment, rng=rng, error=error)
    squares = c.ms_seeds, c.ms_examples, c.ms_residual
    return MeanSquares(c.difference, *squares, c.n, c.n_examples)


def _items(tables: Tables, design: Design, treatment: str, seeds: list[int]) -> list[OutcomeSums]:
    """Return the user's own further scores that every run has of every example or cluster."""
    arms, of = (design.baseline, treatment), tables.columns
    if design.scope == "seeds" or not design.units.are_seeds or of.strata is not None or of.filled:
        return []
    runs = [tables.items.get((arm, s), {}) for arm in arms for s in seeds]
    names = set(runs[0]).intersection(*runs) - {design.metric} if len(seeds) >= 2 else set()
    found = []
    for name in sorted(names):
        both = np.stack([run[name] for run in runs]).reshape(2, len(seeds), -1)
        known, means = METRICS.get(name), (of.mean(both[0]), of.mean(both[1]))
        head: Head = (name, name, "score", None)
        if known is not None and design.benchmark_id:  # elsewhere it may be in percent
            head = (name, known.label, known.unit, known.higher_is_better)
        found.append(_sums(head, *means, gram(both[1] - both[0], of.weights).mean_squares))
    return found


def _scores(
    tables: Tables, design: Design, treatment: str, seeds: list[int], known: Collection[str]
) -> list[OutcomeSums]:
    """Return the user's own further scores and metrics; only a metric has a declared direction.

    Parameters
    ----------
    known : names that are left out
    """
    found, arms = [], (design.baseline, treatment)
    for name in sorted(set(tables.scores.score) - {design.metric, *known}):
        rows = tables.scores[tables.scores.score == name]
        wide = rows.pivot_table(index="seed", columns="arm", values="value").reindex(seeds)
        if {design.baseline, treatment} - set(wide.columns) or wide.isna().any(axis=None):
            continue
        base = wide[design.baseline].to_numpy(dtype=np.float64)
        other = wide[treatment].to_numpy(dtype=np.float64)
        head: Head = (name, name, "score", None)
        own = [[tables.own(arm, seed).get(name) for seed in seeds] for arm in arms]
        computed = [[metric for metric in arm if metric is not None] for arm in own]
        crossed = None
        if seeds and all(len(arm) == len(seeds) for arm in computed):
            head = (name, computed[0][0].label, "score", computed[0][0].higher_is_better)
            if design.scope != "seeds":
                before, after = (np.stack([m.columns for m in arm]) for arm in computed)
                crossed = partial(mean_squares, after - before)
        sums = _sums(head, base, other, crossed)
        if design.units.nested:
            strata, means = [tables.datasets[s] for s in seeds], design.units.new_datasets
            of = Paired.in_strata(seeds, base, other, strata, means=means)
            sums = replace(sums, baseline=of.baseline, treatment=of.treatment, strata=of.strata)
        found.append(sums)
    return found
