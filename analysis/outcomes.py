"""Outcomes: what the predictions say beside the primary metric: calibration, NLL, Brier."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from analysis import calibration as cal
from analysis.comparisons import paired_t, two_way
from analysis.errors import UnusableRuns
from analysis.findings import Calibration, Reliability, Secondary
from analysis.format import Unit
from analysis.metrics import METRICS, Predictions, confidence, correct
from analysis.multiplicity import bonferroni
from analysis.result import Comparison
from analysis.table import Design, Tables

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ScoredRun:
    """One run's calibration, raw and scaled, with what the paired comparisons need."""

    raw: cal.Calibration
    scaled: cal.Calibration | None
    temperature: float | None
    right: Floats  # shape (N,)
    sure: Floats
    sure_scaled: Floats | None


def score_runs(
    tables: Tables, design: Design, *, rng: np.random.Generator
) -> dict[tuple[str, int], ScoredRun]:
    """Compute every finished run's calibration once."""
    found = {}
    for arm in design.arms:
        for seed in tables.finished(arm):
            test = tables.predictions.get((arm, seed, "test"))
            if test is not None:
                validation = tables.predictions.get((arm, seed, "validation"))
                found[arm, seed] = _score(test, validation, rng)
    return found


def _score(
    test: Predictions, validation: Predictions | None, rng: np.random.Generator
) -> ScoredRun:
    scaled = temperature = sure_scaled = None
    if validation is not None:
        fit = cal.fit_temperature(validation.log_probabilities, validation.labels)
        temperature = fit.temperature
        log_p = cal.scale(test.log_probabilities, temperature).astype(np.float32)
        cooled = Predictions(log_p, test.labels)
        scaled, sure_scaled = cal.calibrate(cooled, rng=rng), confidence(cooled)
    return ScoredRun(
        raw=cal.calibrate(test, rng=rng),
        scaled=scaled,
        temperature=temperature,
        right=correct(test),
        sure=confidence(test),
        sure_scaled=sure_scaled,
    )


def calibration_rows(
    scored: Mapping[tuple[str, int], ScoredRun], design: Design
) -> tuple[Calibration, ...]:
    """Average each arm's calibration over its seeds, raw first, then scaled."""
    rows = []
    for arm in design.arms:
        runs = [run for (name, _), run in scored.items() if name == arm]
        if not runs:
            continue
        rows.append(_mean_row(arm, [run.raw for run in runs], None))
        scaled = [run.scaled for run in runs if run.scaled is not None]
        if len(scaled) == len(runs):
            heat = float(np.mean([run.temperature for run in runs if run.temperature is not None]))
            rows.append(_mean_row(arm, scaled, heat))
    return tuple(rows)


def _mean_row(arm: str, runs: Sequence[cal.Calibration], temperature: float | None) -> Calibration:
    names = [field.name for field in dataclasses.fields(cal.Calibration)]
    means = {name: float(np.mean([getattr(run, name) for run in runs])) for name in names}
    return Calibration(arm=arm, scaled=temperature is not None, temperature=temperature, **means)


def reliability_diagrams(
    scored: Mapping[tuple[str, int], ScoredRun], design: Design
) -> tuple[Reliability, ...]:
    """Return one diagram an arm: bins' mean over seeds and the middle 95 % of seeds."""
    found = []
    for arm in design.arms:
        runs = [cal.reliability(r.sure, r.right) for (name, _), r in scored.items() if name == arm]
        if not runs:
            continue
        accuracy = np.array([[np.nan if a is None else a for a in run.accuracy] for run in runs])
        sure = np.array([[np.nan if c is None else c for c in run.confidence] for run in runs])
        counts = np.array([run.count for run in runs], dtype=np.float64)
        share = counts.sum(axis=0) / counts.sum()
        bins = range(len(share))
        used = [not np.isnan(accuracy[:, b]).all() for b in bins]
        column = [accuracy[:, b][~np.isnan(accuracy[:, b])] for b in bins]
        found.append(
            Reliability(
                arm=arm,
                confidence=tuple(float(np.nanmean(sure[:, b])) if used[b] else None for b in bins),
                accuracy=tuple(float(column[b].mean()) if used[b] else None for b in bins),
                low=tuple(float(np.quantile(column[b], 0.025)) if used[b] else None for b in bins),
                high=tuple(float(np.quantile(column[b], 0.975)) if used[b] else None for b in bins),
                share=tuple(float(s) for s in share),
            )
        )
    return tuple(found)


@dataclass(frozen=True, eq=False)
class _Outcome:
    """A secondary outcome before adjustment."""

    metric: str
    label: str
    unit: Unit
    higher_is_better: bool | None
    baseline: float
    treatment: float
    comparison: Comparison


def secondary(
    tables: Tables,
    design: Design,
    treatment: str,
    seeds: list[int],
    scored: Mapping[tuple[str, int], ScoredRun],
    *,
    rng: np.random.Generator,
) -> tuple[Secondary, ...]:
    """Compare every outcome but the primary one; interval and p adjusted together.

    Parameters
    ----------
    seeds : those that finished in both arms
    scored : what `score_runs` returned
    rng : groups test examples for the intervals of calibration errors
    """
    arms = (design.baseline, treatment)
    outcomes: list[_Outcome] = []
    if len(seeds) >= 2 and all((arm, s) in scored for arm in arms for s in seeds):
        outcomes += _per_example(tables, design, treatment, seeds)
        outcomes += _calibration_errors(design, treatment, seeds, scored, rng)
    outcomes += _scores(tables, design, treatment, seeds)
    m = max(1, len(design.treatments))  # every treatment has the same outcomes
    family = 1 - design.alpha / m
    adjusted = bonferroni([o.comparison for o in outcomes], level=family)
    return tuple(
        Secondary(
            metric=o.metric,
            label=o.label,
            unit=o.unit,
            higher_is_better=o.higher_is_better,
            baseline=o.baseline,
            treatment=o.treatment,
            difference=a.difference,
            low=a.low,
            high=a.high,
            level=a.family_level,
            p_value=a.p_value,
            p_adjusted=_times(a.p_adjusted, m),
            p_holm=_times(a.p_holm, m),
            reason=a.reason,
        )
        for o, a in zip(outcomes, adjusted, strict=True)
    )


def _times(p: float | None, m: int) -> float | None:
    return None if p is None else min(1.0, m * p)


def _per_example(
    tables: Tables, design: Design, treatment: str, seeds: list[int]
) -> list[_Outcome]:
    found = []
    for measure in METRICS.values():
        if measure.name == design.metric:
            continue
        base = tables.per_example(measure, design.baseline, seeds)
        other = tables.per_example(measure, treatment, seeds)
        means = float(base.mean()), float(other.mean())
        label = measure.label[:1].upper() + measure.label[1:]
        compare: Callable[[], Comparison]
        if design.scope == "seeds":
            compare = partial(paired_t, base.mean(axis=1), other.mean(axis=1))
        else:
            compare = partial(two_way, other - base)
        comparison = _attempt(compare, measure.name, means)
        found.append(
            _Outcome(
                measure.name, label, measure.unit, measure.higher_is_better, *means, comparison
            )
        )
    return found


def _calibration_errors(
    design: Design,
    treatment: str,
    seeds: list[int],
    scored: Mapping[tuple[str, int], ScoredRun],
    rng: np.random.Generator,
) -> list[_Outcome]:
    both = [[scored[arm, seed] for seed in seeds] for arm in (design.baseline, treatment)]
    found = []
    for name, label, scaled in (
        ("ece_debiased", "Calibration error (debiased ECE)", False),
        ("ece_debiased_scaled", "Calibration error after temperature scaling", True),
    ):
        views = [[_view(run, scaled=scaled) for run in arm] for arm in both]
        if any(view is None for arm in views for view in arm):
            continue  # without validation predictions no temperature can be fitted
        complete = [[view for view in arm if view is not None] for arm in views]
        means = tuple(float(np.mean([error for error, _, _ in arm])) for arm in complete)
        stacks = [
            (np.stack([sure for _, sure, _ in arm]), np.stack([right for _, _, right in arm]))
            for arm in complete
        ]
        compare = partial(_ece_difference, stacks[0], stacks[1], rng=rng)
        comparison = _attempt(compare, name, (means[0], means[1]))
        found.append(_Outcome(name, label, "fraction", False, means[0], means[1], comparison))
    return found


def _ece_difference(
    baseline: tuple[Floats, Floats], treatment: tuple[Floats, Floats], *, rng: np.random.Generator
) -> Comparison:
    if baseline[0].shape[1] < 2:
        raise UnusableRuns("one test example cannot be grouped, so there is no interval")
    return cal.ece_difference(baseline, treatment, rng=rng)


def _view(run: ScoredRun, *, scaled: bool) -> tuple[float, Floats, Floats] | None:
    """Return debiased ECE, confidences and correctness, raw or scaled."""
    if not scaled:
        return run.raw.ece_debiased, run.sure, run.right
    if run.scaled is None or run.sure_scaled is None:
        return None
    return run.scaled.ece_debiased, run.sure_scaled, run.right


def _scores(tables: Tables, design: Design, treatment: str, seeds: list[int]) -> list[_Outcome]:
    """Compare the user's own further scores; nobody declared which direction is better."""
    found = []
    for name in sorted(set(tables.scores.score) - {design.metric}):
        rows = tables.scores[tables.scores.score == name]
        wide = rows.pivot_table(index="seed", columns="arm", values="value").reindex(seeds)
        if {design.baseline, treatment} - set(wide.columns) or wide.isna().any(axis=None):
            continue
        base = wide[design.baseline].to_numpy(dtype=np.float64)
        other = wide[treatment].to_numpy(dtype=np.float64)
        means = float(base.mean()), float(other.mean())
        comparison = _attempt(partial(paired_t, base, other), name, means)
        found.append(_Outcome(name, name, "score", None, *means, comparison))
    return found


def _attempt(
    compare: Callable[[], Comparison], name: str, means: tuple[float, float]
) -> Comparison:
    """Return the comparison, or one without numbers that says why."""
    try:
        return compare()
    except UnusableRuns as refusal:
        return Comparison(
            name=name,
            n=0,
            difference=means[1] - means[0],
            low=None,
            high=None,
            level=0.95,
            p_value=None,
            reason=refusal.what,
        )
