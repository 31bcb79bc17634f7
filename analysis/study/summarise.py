"""Summarise: tables and plan in, one Summary out; everything that reads raw predictions is here.

Predictions are read once, a run at a time.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.analysis.calibration.errors import calibrate
from bench.analysis.calibration.temperature import Temperature, fit_temperature, score_scaled
from bench.analysis.data.json_values import plain
from bench.analysis.data.metrics import METRICS
from bench.analysis.data.tables import BadTables, Design, Split, Tables, records
from bench.analysis.errors import BadPredictions, UnusableRuns
from bench.analysis.inference.gram import Gram, gram
from bench.analysis.inference.two_way import effective_df
from bench.analysis.inference.unpaired import Runs
from bench.analysis.inference.variance_sources import ALL, source_values
from bench.analysis.study.claim import best_epoch_optimism
from bench.analysis.study.curves import run_curves
from bench.analysis.study.outcome_sums import ScoredRun, outcome_sums, run_bins
from bench.analysis.study.pairs import DataSet, Paired
from bench.analysis.study.per_class import class_sums
from bench.analysis.study.robustness import chance_level
from bench.analysis.study.summary import (
    Between,
    Changed,
    ChangedExample,
    LateModule,
    Run,
    Summary,
    TreatmentSums,
)

Floats = NDArray[np.float64]
Key = tuple[str, int]
T = TypeVar("T")

MOST_CHANGED = 12  # examples that are named
_BOTH: tuple[Split, Split] = ("validation", "test")


def summarise(
    tables: Tables,
    design: Design,
    *,
    provenance: Mapping[str, Any] | None = None,
    families: Mapping[str, Tables] | None = None,
    seed: int = 0,
) -> Summary:
    """Return what a benchmark's tables come down to.

    Parameters
    ----------
    tables : everything recorded
    design : what was decided before the results, with its history
    provenance : what is known about code, data and machine; printed, and read by some checks
    families : source of randomness to the runs in which it alone varied
    seed : of the noise floor, the resampling analyses and the calibration intervals

    Raises
    ------
    BadTables : runs that cannot be compared, such as different test sets
    """
    facts = plain(dict(provenance or {}))
    design = replace(design, arm_settings=plain(design.arm_settings))  # as results.json has them
    for name in design.arms:
        if not tables.finished(name):
            raise BadTables(
                f"no run of arm {name!r} has finished, so there is nothing to compare.",
                fix=facts.get("again"),
            )
    rng = np.random.default_rng(seed)
    noise, *streams = rng.spawn(1 + len(design.treatments))
    scored = score_runs(tables, design, rng=noise)
    tables.require_one_test_set()
    treatments = tuple(
        _treatment(tables, design, name, scored, stream)
        for name, stream in zip(design.treatments, streams, strict=True)
    )
    some = next((tables.scored(*key) for key in tables.predictions), None)
    sizes = {
        len(tables.scored(*key).labels) for key in tables.predictions if key[2] == "validation"
    }
    return Summary(
        design=design,
        seed=seed,
        provenance=facts,
        runs=_runs(tables, design),
        treatments=treatments,
        between=tuple(
            Between(first=a, second=b, pairs=_paired(tables, replace(design, baseline=a), b))
            for a, b in itertools.combinations(design.treatments, 2)
        ),
        classes=class_sums(tables, design, {t.treatment: t.pairs for t in treatments}, facts),
        calibration=tuple(row for run in scored.values() for row in run.calibration),
        bins=run_bins(scored),
        curves=run_curves(tables, design),
        sources=source_values({**families, ALL: tables}, design) if families else (),
        late_modules=_late_modules(tables),
        environments=_environments(tables),
        n_classes=None if some is None else some.n_classes,
        n_validation=sizes.pop() if len(sizes) == 1 else None,
        logs_accuracy="logged_accuracy" in tables.trials.columns,
    )


def score_runs(tables: Tables, design: Design, *, rng: np.random.Generator) -> dict[Key, ScoredRun]:
    """Compute every finished run's calibration, reading its predictions once."""
    return {
        (arm, seed): _scored_run(tables, design, arm, seed, rng)
        for arm in design.arms
        for seed in tables.finished(arm)
        if (arm, seed, "test") in tables.predictions
    }


def _scored_run(
    tables: Tables, design: Design, arm: str, seed: int, rng: np.random.Generator
) -> ScoredRun:
    fit = _temperature(tables, arm, seed)
    heat = None if fit is None else fit.temperature
    wanted = {m.name: m for m in (METRICS["aurc"], design.measure) if m.is_computed}
    test = tables.read(arm, seed, "test", wanted.values())
    raw = tables.scored(arm, seed, "test")
    scaled = None if heat is None else score_scaled(test, heat)
    found = []
    for view, at in ((scaled, heat), (raw, None)):  # in the order of their draws
        if view is not None:
            row = calibrate(view, rng=rng)
            found.append(replace(row, arm=arm, seed=seed, scaled=at is not None, temperature=at))
    errors = None if fit is None else fit.errors
    return ScoredRun(
        raw=raw, scaled=scaled, calibration=tuple(found[::-1]), validation_errors=errors
    )


def _temperature(tables: Tables, arm: str, seed: int) -> Temperature | None:
    if (arm, seed, "validation") not in tables.predictions:
        return None
    validation = tables.read(arm, seed, "validation")
    return fit_temperature(validation.log_probabilities, validation.labels)


def _treatment(
    tables: Tables,
    design: Design,
    name: str,
    scored: Mapping[Key, ScoredRun],
    rng: np.random.Generator,
) -> TreatmentSums:
    _, grouping = rng.spawn(2)
    seeds = tables.paired_seeds(design, name)
    pairs = paired(tables, design, name)
    plain = design.units.are_seeds and tables.columns.alike
    examples = _differences(tables, design, name, seeds) if plain else None
    if examples is not None and min(examples.shape) >= 2:
        pairs = replace(pairs, effective_df=effective_df(examples))
    return TreatmentSums(
        treatment=name,
        pairs=pairs,
        worst=_with_failed(tables, design, name, pairs),
        outcomes=outcome_sums(tables, design, name, seeds, scored, rng=grouping),
        optimism=_optimism(tables, design, name, seeds),
        changed=_changed(tables, design, name, seeds),
        streams=_streams(tables, design, name, seeds),
    )


# -- pairs -------------------------------------------------------------------------------------


def paired(tables: Tables, design: Design, treatment: str) -> Paired:
    """Return both arms on the units that they share: seeds, folds, examples or data sets."""
    found = _paired(tables, design, treatment)
    if design.units.datasets and design.units.paired:
        return replace(found, sets=_by_data_set(tables, design, treatment))
    return found


def _paired(tables: Tables, design: Design, treatment: str) -> Paired:
    units, arms = design.units, (design.baseline, treatment)
    if not units.paired:
        return _independent(tables, design, treatment)
    seeds = tables.paired_seeds(design, treatment)
    if units.rows == "none":
        return _of_columns(tables, design, treatment, seeds[:1])
    base, other = (tables.values(design, arm, seeds) for arm in arms)
    if units.nested:
        return _of_data_sets(tables, design, seeds, base, other)
    examples = _differences(tables, design, treatment, seeds)
    of = tables.columns
    return Paired(
        seeds=tuple(seeds),
        baseline=tuple(base.tolist()),
        treatment=tuple(other.tolist()),
        crossed=None
        if examples is None
        else gram(examples, of.weights, of.strata, filled=of.filled),
        test_share=units.test_share,
    )


def _independent(tables: Tables, design: Design, treatment: str) -> Paired:
    """Return two arms whose runs share nothing but what they are scored on."""
    arms = (design.baseline, treatment)
    seeds = [tables.finished(arm) for arm in arms]
    values = [tables.values(design, arm, own) for arm, own in zip(arms, seeds, strict=True)]
    crossed = None
    both = list(zip(arms, seeds, strict=True))
    if all(tables.has_columns(design.measure, arm, own) for arm, own in both):
        every = np.concatenate([tables.per_example(design.measure, arm, own) for arm, own in both])
        found = gram(every, tables.columns.weights)
        if isinstance(found, Gram) and tables.columns.strata is None:
            crossed = Runs(scores=found, n_baseline=len(seeds[0]))
    return Paired(
        seeds=tuple(range(min(map(len, seeds)))),
        baseline=tuple(values[0].tolist()),
        treatment=tuple(values[1].tolist()),
        crossed=crossed,
        independent=True,
    )


def _of_columns(tables: Tables, design: Design, treatment: str, run: list[int]) -> Paired:
    """Return one run of each arm, a pair for every example or cluster."""
    base, other = (
        tables.per_example(design.measure, arm, run)[0] for arm in (design.baseline, treatment)
    )
    of = tables.columns
    return Paired(
        seeds=tuple(range(base.size)),
        baseline=tuple(base.tolist()),
        treatment=tuple(other.tolist()),
        weights=None if of.weights is None else tuple(of.weights.tolist()),
        strata=None if of.strata is None else tuple(map(int, of.strata)),
    )


def _of_data_sets(
    tables: Tables, design: Design, seeds: list[int], base: Floats, other: Floats
) -> Paired:
    """Return trainings of several data sets: pairs within them, or a pair for each data set."""
    strata = [tables.datasets[seed] for seed in seeds]
    return Paired.in_strata(seeds, base, other, strata, means=design.units.new_datasets)


def _by_data_set(tables: Tables, design: Design, treatment: str) -> tuple[DataSet, ...]:
    """Return each data set's own pairs."""
    alone = replace(design, units=replace(design.units, datasets=(), trained=None))
    return tuple(
        DataSet(name=name, pairs=_paired(tables.of_data_set(t, design.units), alone, treatment))
        for t, name in enumerate(design.units.datasets)
    )


def _differences(tables: Tables, design: Design, treatment: str, seeds: list[int]) -> Floats | None:
    """Return treatment minus baseline of every example, shape (n, N), where it is known."""
    arms, measure = (treatment, design.baseline), design.measure
    if not all(tables.has_columns(measure, arm, seeds) for arm in arms):
        return None
    difference: NDArray[Any] | None = None
    for row, seed in enumerate(seeds):  # a run at a time: two arms may be all that fits in memory
        other, base = (tables.per_example(measure, arm, [seed])[0] for arm in arms)
        whole = base.dtype == other.dtype == np.int8
        apart = other - base if whole else other.astype(np.float64) - base
        if difference is None:
            difference = np.empty((len(seeds), apart.size), dtype=apart.dtype)
        difference[row] = apart
    return difference


def _with_failed(tables: Tables, design: Design, treatment: str, pairs: Paired) -> Paired | None:
    """Return the pairs with every failed run at its worst value; None without failures."""
    failed = [
        (str(row["arm"]), int(row["seed"]))
        for row in records(tables.trials[tables.trials.status == "failed"])
        if row["arm"] in (design.baseline, treatment) and row["seed"] in design.seeds
    ]
    if not failed:
        return None
    filled = paired(
        tables.filled(design, failed, _worst_value(tables, pairs, design)), design, treatment
    )
    same = len(filled.baseline) == len(pairs.baseline) and len(filled.treatment) == len(
        pairs.treatment
    )
    return None if same else filled  # the other run of each failed one's pair is still missing


def _changed(tables: Tables, design: Design, treatment: str, seeds: list[int]) -> Changed | None:
    """Return on which examples the arms differ most, on average over their runs."""
    arms = (design.baseline, treatment)
    own = [seeds if design.units.paired else tables.finished(arm) for arm in arms]
    known = zip(arms, own, strict=True)
    items = any(design.metric in scored for scored in tables.items.values())
    if design.measure.per_example is None and not items:
        return None  # groups of examples, not examples
    if not all(tables.has_columns(design.measure, arm, runs) for arm, runs in known):
        return None
    base, other = (
        tables.per_example(design.measure, arm, runs).mean(axis=0, dtype=np.float64)
        for arm, runs in zip(arms, own, strict=True)
    )
    difference = (other - base) * (1 if design.higher_is_better else -1)
    most = np.argsort(-np.abs(difference), kind="stable")[:MOST_CHANGED]
    names = tables.columns.names
    return Changed(
        better=int((difference > 0).sum()),
        worse=int((difference < 0).sum()),
        same=int((difference == 0).sum()),
        examples=tuple(
            ChangedExample(
                name=names[i] if names else str(i),
                baseline=float(base[i]),
                treatment=float(other[i]),
            )
            for i in most
            if difference[i] != 0
        ),
    )


def _worst_value(tables: Tables, pairs: Paired, design: Design) -> float:
    some = next((tables.scored(*key) for key in tables.predictions), None)
    chance = chance_level(None if some is None else some.n_classes, design)
    if chance is not None:
        return chance
    seen = [*pairs.baseline, *pairs.treatment]
    return min(seen) if design.higher_is_better else max(seen)


def _optimism(
    tables: Tables, design: Design, treatment: str, seeds: list[int]
) -> tuple[float, float | None, float | None] | None:
    """Return how much the best validation epoch flatters, averaged over the arms of a seed."""
    arms = (design.baseline, treatment)
    keys = [(arm, seed) for arm in arms for seed in seeds]
    if design.claim is None or not all(
        (*key, split) in tables.predictions for key in keys for split in _BOTH
    ):
        return None
    try:
        mean = {
            split: np.mean(
                [[tables.scored(arm, s, split).correct for s in seeds] for arm in arms], axis=0
            )
            for split in _BOTH
        }
        found = best_epoch_optimism(mean["validation"], mean["test"])
    except (UnusableRuns, ValueError):  # validation sets of several sizes are no table
        return None
    return found.mean, found.low, found.high


# -- runs --------------------------------------------------------------------------------------


def _runs(tables: Tables, design: Design) -> tuple[Run, ...]:
    values = {
        (arm, seed): float(value)
        for arm in design.arms
        for seed, value in zip(
            tables.finished(arm), tables.values(design, arm, tables.finished(arm)), strict=True
        )
    }
    epochs = tables.epochs.groupby(["arm", "seed"]).size().to_dict() if len(tables.epochs) else {}
    found = []
    for row in records(tables.trials):
        key, epoch = (str(row["arm"]), int(row["seed"])), row.get("selected_epoch")
        found.append(
            Run(
                arm=key[0],
                seed=key[1],
                status=str(row.get("status", "missing")),
                value=values.get(key),
                validation=_validation(tables, design, key),
                device=str(row.get("device", "")),
                duration_s=row.get("duration_s"),
                attempts=int(row.get("attempts") or 0),
                note=str(row.get("reason") or ""),
                n_epochs=int(epochs.get(key, 0)),
                selected_epoch=None if epoch is None else int(epoch),
                log_agrees=_log_agrees(tables, key, row.get("logged_accuracy")),
                seeded=_of_type(_facts(row).get("seed_used"), bool),
                trained_on=_of_type(_facts(row).get("trained_on"), int),
                traceback=_facts(row).get("traceback_printed") is True,
                changed_files=", ".join(map(str, _listed(_facts(row).get("changed_files")))),
                taken_from=_of_type(_facts(row).get("taken_from"), str) or "",
            )
        )
    return tuple(found)


def _of_type(value: object, kind: type[T]) -> T | None:
    """Return a fact if it is of the kind that it should be; a training may record what it likes."""
    return value if type(value) is kind else None


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _validation(tables: Tables, design: Design, key: Key) -> float | None:
    measure = design.measure
    if not measure.is_computed or (*key, "validation") not in tables.predictions:
        return None
    try:
        found = tables.scored(*key, "validation", [measure]).values[measure.name]
    except BadPredictions:  # a class without validation examples
        return None
    return float(found.mean())


def _log_agrees(tables: Tables, key: Key, logged: float | None) -> bool | None:
    if logged is None or (*key, "test") not in tables.predictions:
        return None
    return abs(float(tables.scored(*key, "test").correct.mean()) - logged) <= 1e-9


def _facts(row: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(row.get("facts") or "{}")
    return found


def _late_modules(tables: Tables) -> tuple[LateModule, ...]:
    """Return the own modules that finished runs loaded while they trained."""
    versions: dict[str, set[str]] = {}
    arms: dict[str, set[str]] = {}
    for row in records(tables.trials):
        late = _facts(row).get("late_modules") or {} if row["status"] == "finished" else {}
        for path, digest in late.items():
            versions.setdefault(path, set()).add(digest)
            arms.setdefault(path, set()).add(row["arm"])
    return tuple(
        LateModule(path=path, versions=len(versions[path]), arms=tuple(sorted(arms[path])))
        for path in sorted(versions)
    )


def _environments(tables: Tables) -> dict[str, tuple[str, ...]] | None:
    """Return in which versions, code and hardware the finished runs differ."""
    rows = tables.trials[tables.trials.status == "finished"]
    found = [json.loads(t) if t and isinstance(t, str) else {} for t in rows.environment]
    if not any(found):
        return None
    values = {
        key: tuple(sorted({str(item.get(key) or "none") for item in found}))
        for key in sorted({k for item in found for k in item})
    }
    return {key: seen for key, seen in values.items() if len(seen) > 1}


def _streams(
    tables: Tables, design: Design, treatment: str, seeds: Sequence[int]
) -> dict[str, int]:
    """Compare where the generators of both arms of a seed stood after equally many epochs."""
    wanted = {(arm, seed) for arm in (design.baseline, treatment) for seed in seeds}
    streams = {
        key: _facts(row).get("streams") or {}
        for row in records(tables.trials)
        if (key := (row["arm"], row["seed"])) in wanted
    }
    epochs = tables.epochs.groupby(["arm", "seed"]).size().to_dict() if len(tables.epochs) else {}
    odd: dict[str, int] = {}
    for seed in seeds:
        one, other = (design.baseline, seed), (treatment, seed)
        if epochs.get(one) != epochs.get(other):
            continue  # stopped at different epochs: the longer one went on drawing
        here, there = streams[one], streams[other]
        for name in sorted(here.keys() & there.keys()):
            odd[name] = odd.get(name, 0) + (here[name] != there[name])
    return odd
