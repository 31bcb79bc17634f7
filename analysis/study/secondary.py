"""Outcomes: what the predictions say beside the primary metric: calibration, NLL, Brier."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bench.analysis.calibration import errors as cal
from bench.analysis.data.format import Unit
from bench.analysis.data.metrics import METRICS, Predictions, confidence, correct
from bench.analysis.data.tables import Design, Tables
from bench.analysis.errors import UnusableRuns
from bench.analysis.inference import TwoWay, paired_t, two_way
from bench.analysis.inference.comparison import Comparison
from bench.analysis.inference.multiplicity import bonferroni
from bench.analysis.inference.two_way import two_way_from_mean_squares
from bench.analysis.study.findings import (
    Calibration,
    Reliability,
    RunBins,
    RunCalibration,
    Secondary,
    SecondarySums,
)

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


def run_rows(scored: Mapping[tuple[str, int], ScoredRun]) -> tuple[RunCalibration, ...]:
    """Return every run's calibration, raw and, where a temperature was fitted, scaled."""
    rows = []
    for (arm, seed), run in scored.items():
        for found, heat in ((run.raw, None), (run.scaled, run.temperature)):
            if found is not None:
                numbers = dataclasses.asdict(found)
                rows.append(
                    RunCalibration(
                        arm=arm, seed=seed, scaled=heat is not None, temperature=heat, **numbers
                    )
                )
    return tuple(rows)


def run_bins(scored: Mapping[tuple[str, int], ScoredRun]) -> tuple[RunBins, ...]:
    """Return the sums that every run's reliability diagram is drawn from."""
    rows = []
    for (arm, seed), run in scored.items():
        sums = cal.equal_width_bins(run.sure, run.right)
        rows.append(
            RunBins(
                arm=arm,
                seed=seed,
                count=tuple(int(c) for c in sums.count),
                correct=tuple(map(float, sums.correct)),
                confidence=tuple(map(float, sums.confidence)),
            )
        )
    return tuple(rows)


def calibration_rows(rows: Sequence[RunCalibration], design: Design) -> tuple[Calibration, ...]:
    """Average each arm's calibration over its seeds, raw first, then scaled."""
    found = []
    for arm in design.arms:
        raw = [row for row in rows if row.arm == arm and not row.scaled]
        scaled = [row for row in rows if row.arm == arm and row.scaled]
        if raw:
            found.append(_mean_row(raw, scaled=False))
        if raw and len(scaled) == len(raw):
            found.append(_mean_row(scaled, scaled=True))
    return tuple(found)


def _mean_row(rows: Sequence[RunCalibration], *, scaled: bool) -> Calibration:
    names = [field.name for field in dataclasses.fields(cal.Calibration)]
    means = {name: float(np.mean([getattr(row, name) for row in rows])) for name in names}
    heats = [row.temperature for row in rows if row.temperature is not None]
    heat = float(np.mean(heats)) if heats else None
    return Calibration(arm=rows[0].arm, scaled=scaled, temperature=heat, **means)


def reliability_diagrams(bins: Sequence[RunBins], design: Design) -> tuple[Reliability, ...]:
    """Return one diagram an arm: bins' mean over seeds and the middle 95 % of seeds."""
    found = []
    for arm in design.arms:
        runs = [run for run in bins if run.arm == arm]
        if not runs:
            continue
        count = np.array([run.count for run in runs], dtype=np.float64)
        with np.errstate(invalid="ignore"):  # an empty bin has no mean: NaN
            accuracy = np.array([run.correct for run in runs]) / count
            sure = np.array([run.confidence for run in runs]) / count

        def each(of: Callable[[Floats], Any], table: Floats) -> tuple[float | None, ...]:
            columns = [column[~np.isnan(column)] for column in table.T]
            return tuple(float(of(column)) if column.size else None for column in columns)

        found.append(
            Reliability(
                arm=arm,
                confidence=each(np.mean, sure),
                accuracy=each(np.mean, accuracy),
                low=each(partial(np.quantile, q=0.025), accuracy),
                high=each(partial(np.quantile, q=0.975), accuracy),
                share=tuple(float(s) for s in count.sum(axis=0) / count.sum()),
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
    baseline: Floats  # one value a seed
    treatment: Floats
    method: Literal["two_way", "paired_t"]
    comparison: Comparison

    @classmethod
    def compared(
        cls,
        head: tuple[str, str, Unit, bool | None],
        baseline: Floats,
        treatment: Floats,
        two_way: Callable[[], Comparison] | None,
    ) -> "_Outcome":
        """Compare by a two-way analysis, or by a paired t over seeds where there is none."""
        compare = two_way or partial(paired_t, baseline, treatment)
        try:
            comparison = compare()
        except UnusableRuns as refusal:
            comparison = Comparison(
                name=head[0],
                n=0,
                difference=float(treatment.mean() - baseline.mean()),
                low=None,
                high=None,
                level=0.95,
                p_value=None,
                reason=refusal.what,
            )
        method: Literal["two_way", "paired_t"] = "two_way" if two_way else "paired_t"
        return cls(*head, baseline, treatment, method, comparison)

    def sums(self) -> SecondarySums:
        """Return what the comparison is computed from."""
        c = self.comparison if isinstance(self.comparison, TwoWay) else None
        return SecondarySums(
            metric=self.metric,
            baseline=tuple(map(float, self.baseline)),
            treatment=tuple(map(float, self.treatment)),
            method=self.method,
            squares=None if c is None else (c.ms_seeds, c.ms_examples, c.ms_residual),
            n_columns=None if c is None else c.n_examples,
        )


def secondary(
    tables: Tables,
    design: Design,
    treatment: str,
    seeds: list[int],
    scored: Mapping[tuple[str, int], ScoredRun],
    *,
    rng: np.random.Generator,
) -> tuple[tuple[Secondary, ...], tuple[SecondarySums, ...]]:
    """Compare every outcome but the primary one; interval and p adjusted together.

    Parameters
    ----------
    seeds : those that finished in both arms
    scored : what `score_runs` returned
    rng : groups test examples for the intervals of calibration errors

    Returns
    -------
    the outcomes, and what they can be computed from again
    """
    arms = (design.baseline, treatment)
    outcomes: list[_Outcome] = []
    if len(seeds) >= 2 and all((arm, s) in scored for arm in arms for s in seeds):
        outcomes += _per_example(tables, design, treatment, seeds)
        outcomes += _calibration_errors(design, treatment, seeds, scored, rng)
    outcomes += _scores(tables, design, treatment, seeds)
    return _adjusted(outcomes, design), tuple(o.sums() for o in outcomes)


def secondary_again(
    before: Sequence[Secondary], sums: Sequence[SecondarySums], design: Design
) -> tuple[Secondary, ...]:
    """Return the same outcomes from what they were computed from, for `recompute`."""
    outcomes = []
    for s, of in zip(before, sums, strict=True):
        base, other = np.array(of.baseline), np.array(of.treatment)
        crossed = partial(_crossed_again, s, of, float(other.mean() - base.mean()))
        outcomes.append(
            _Outcome.compared(
                (s.metric, s.label, s.unit, s.higher_is_better),
                base,
                other,
                crossed if of.method == "two_way" else None,
            )
        )
    return _adjusted(outcomes, design)


def _crossed_again(before: Secondary, sums: SecondarySums, difference: float) -> Comparison:
    if sums.squares is None or sums.n_columns is None:
        raise UnusableRuns(before.reason or "the mean squares are not known")
    return two_way_from_mean_squares(
        difference, *sums.squares, n_seeds=len(sums.baseline), n_examples=sums.n_columns
    )


def _adjusted(outcomes: Sequence[_Outcome], design: Design) -> tuple[Secondary, ...]:
    m = max(1, len(design.treatments))  # every treatment has the same outcomes
    adjusted = bonferroni([o.comparison for o in outcomes], level=1 - design.alpha / m)
    return tuple(
        Secondary(
            metric=o.metric,
            label=o.label,
            unit=o.unit,
            higher_is_better=o.higher_is_better,
            baseline=float(o.baseline.mean()),
            treatment=float(o.treatment.mean()),
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
        label = measure.label[:1].upper() + measure.label[1:]
        found.append(
            _Outcome.compared(
                (measure.name, label, measure.unit, measure.higher_is_better),
                base.mean(axis=1),
                other.mean(axis=1),
                None if design.scope == "seeds" else partial(two_way, other - base),
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
        errors = [np.array([error for error, _, _ in arm]) for arm in complete]
        parts = [([sure for _, sure, _ in a], [right for _, _, right in a]) for a in complete]
        compare = partial(_ece_difference, *parts, rng=rng)
        found.append(
            _Outcome.compared((name, label, "fraction", False), errors[0], errors[1], compare)
        )
    return found


def _ece_difference(
    baseline: tuple[list[Floats], list[Floats]],
    treatment: tuple[list[Floats], list[Floats]],
    *,
    rng: np.random.Generator,
) -> Comparison:
    if baseline[0][0].size < 2:
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
        found.append(_Outcome.compared((name, name, "score", None), base, other, None))
    return found
