"""Tables: the tidy data that every analysis reads, checked, and paired by seed."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.analysis.data.examples import LARGEST
from bench.analysis.data.metrics import METRICS, Metric, Predictions, Scored, score
from bench.analysis.data.own_metrics import OwnMetric, own_metrics
from bench.analysis.data.units import Units
from bench.analysis.errors import Refusal

Split = Literal["test", "test_last", "validation"]
Scope = Literal["seeds_and_examples", "seeds"]
Stop = Literal["fixed", "group", "anytime"]

Goal = Literal["better", "equivalent", "not_worse"]

TRIAL_COLUMNS = ("arm", "seed", "status", "reason", "device", "duration_s", "environment")


class BadTables(Refusal):
    """Tables whose rows contradict each other."""

    code = "pairs"


@dataclass(frozen=True, kw_only=True)
class Design:
    """What was decided before the results: the analysis part of a plan, and its history."""

    experiment: str
    question: str
    baseline: str
    treatments: tuple[str, ...]
    metric: str
    higher_is_better: bool
    seeds: tuple[int, ...]  # planned, in plan order
    batches: tuple[tuple[int, ...], ...] = ()  # the same seeds, in the portions of their planning
    margin: float | None = None  # metric units
    claim: float | None = None  # metric units; a gain is positive, whatever the direction
    alpha: float = 0.05
    scope: Scope = "seeds_and_examples"
    units: Units = Units()
    goal: Goal = "better"
    conditions: int = 1  # comparisons like this one that share the error rate
    labels: Mapping[int, str] = field(default_factory=dict)  # what the rows of a file are called
    stop: Stop = "fixed"
    max_seeds: int | None = None
    unit: Literal["fraction", "nats", "score"] = "score"  # of a metric that is not one of ours
    arm_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    aa: bool = False  # both arms are the baseline: nothing should be found
    hash: str = ""
    benchmark_id: str = ""
    frozen_at: str | None = None  # ISO 8601, UTC
    frozen_before_first_run: bool = False
    analysis_changed_after_results: bool = False
    stop_changed_after_results: bool = False  # what decided the number of pairs is no one rule
    replaced: str | None = None  # when a plan was frozen that this one replaced before any result
    pending: int = 0  # planned runs that are still to be trained: this is an interim look
    stopped_at: int | None = None  # pairs at which a sequential plan's rule ended the training
    looks: tuple[int, ...] = ()  # pairs finished whenever seeds were added to the plan

    @property
    def arms(self) -> tuple[str, ...]:
        """Baseline first, then the treatments in plan order."""
        return (self.baseline, *self.treatments)

    @property
    def seeds_added_after_look(self) -> bool:
        """Whether the list of seeds grew after results could be seen."""
        return any(pairs > 0 for pairs in self.looks)

    @property
    def free_to_look(self) -> bool:
        """Whether results could have decided the number of pairs, whatever the rule says now."""
        return self.seeds_added_after_look or self.stop_changed_after_results

    @property
    def claimed_difference(self) -> float | None:
        """The claim as treatment minus baseline: a gain in a loss is a fall."""
        return self.claim if self.claim is None or self.higher_is_better else -self.claim

    @property
    def guards(self) -> tuple[float, ...]:
        """Values that a printed limit may only show when it equals them: zero, the margins."""
        return (0.0,) if self.margin is None else (0.0, self.margin, -self.margin)

    @property
    def measure(self) -> Metric:
        """How the metric is computed and read; a score of the user's own is a plain number."""
        known = METRICS.get(self.metric)
        if known is not None and known.per_example is None and not self.benchmark_id:
            return replace(known, unit=self.unit)  # of scores from elsewhere, as they are read
        if known is not None:
            return known
        return Metric(self.metric, self.metric, self.unit, self.higher_is_better)


def beyond_computing(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell of each value whether it is so large, or so near zero, that its powers are no numbers.

    Parameters
    ----------
    values : any shape
    """
    size = np.abs(values)
    return (size > LARGEST) | ((size > 0) & (size < 1 / LARGEST))


@dataclass(frozen=True, eq=False)
class Columns:
    """What every run is scored on: what each column counts, and in which stratum it lies.

    Attributes
    ----------
    weights : shape (N,), positive; None: all count alike
    strata : shape (N,), the data set of each column; None: one
    filled : cells that no run scored, and that the additive fit filled
    names : what the columns are called; none: by their place
    """

    weights: NDArray[np.float64] | None = None
    strata: NDArray[np.intp] | None = None
    filled: int = 0
    names: tuple[str, ...] = ()

    @property
    def alike(self) -> bool:
        """Whether every column counts alike, in one stratum."""
        return self.weights is None and self.strata is None and not self.filled

    def mean(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean of each row, shape (S,), of a table of shape (S, N)."""
        if self.strata is None and self.weights is None:
            return np.asarray(table.mean(axis=1, dtype=np.float64))
        if self.strata is None:
            found: NDArray[np.float64] = np.average(table, axis=1, weights=self.weights)
            return found
        parts = [self.strata == t for t in np.unique(self.strata)]
        own = [None if self.weights is None else self.weights[at] for at in parts]
        each = [
            np.average(table[:, at], axis=1, weights=w) for at, w in zip(parts, own, strict=True)
        ]
        return np.asarray(np.mean(each, axis=0), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Tables:
    """Everything recorded in one benchmark.

    Attributes
    ----------
    trials : one row a run: arm, seed, status ("finished", "failed", "running"), reason, device,
        duration_s, environment
    epochs : one row a run and epoch: arm, seed, epoch, then one column a logged metric
    scores : one row a run and score: arm, seed, score, value
    predictions : (arm, seed, split) to predictions; splits "test", "test_last", "validation"; a
        store's are read from their file whenever asked for, and not kept: `scored` keeps of each
        run what the analyses need
    items : (arm, seed) to scores of every column that are no predictions, by their name, shape
        (N,); whole numbers from 0 to 127 may be int8
    columns : of `items`
    datasets : seed to the data set it was trained for, where each has trainings of its own
    """

    trials: pd.DataFrame
    epochs: pd.DataFrame
    scores: pd.DataFrame
    predictions: Mapping[tuple[str, int, Split], Predictions]
    items: Mapping[tuple[str, int], Mapping[str, NDArray[np.float64]]] = field(default_factory=dict)
    columns: Columns = Columns()
    datasets: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [c for c in TRIAL_COLUMNS if c not in self.trials.columns]
        if missing:
            raise BadTables(f"the table of trials has no column {missing[0]!r}.")
        twice = self.trials.duplicated(["arm", "seed"])
        if twice.any():
            row = self.trials[twice].iloc[0]
            raise BadTables(f"seed {row.seed}, {row.arm}, occurs twice in the table of trials.")
        odd = beyond_computing(self.scores.value.to_numpy(np.float64))
        if odd.any():
            row = self.scores[odd].iloc[0]
            raise BadTables(
                f"score {row.score!r} of seed {row.seed}, {row.arm}, is {row.value:g}.",
                facts=[f"Between {1 / LARGEST:g} and {LARGEST:g} squares can be computed."],
                fix="give the score in another unit, or leave out what has no value",
            )

    def finished(self, arm: str) -> list[int]:
        """Return the seeds of an arm's finished runs, ascending."""
        rows = self.trials[(self.trials.arm == arm) & (self.trials.status == "finished")]
        return sorted(int(seed) for seed in rows.seed)

    def paired_seeds(self, design: Design, treatment: str) -> list[int]:
        """Return the seeds that finished in both arms, in plan order, extra seeds last."""
        both = set(self.finished(design.baseline)) & set(self.finished(treatment))
        planned = [seed for seed in design.seeds if seed in both]
        return planned + sorted(both - set(planned))

    def values(self, design: Design, arm: str, seeds: list[int]) -> NDArray[np.float64]:
        """Return the metric of one arm for these seeds; shape (len(seeds),)."""
        if self.has_columns(design.measure, arm, seeds):
            runs = (self.per_example(design.measure, arm, [seed]) for seed in seeds)
            return np.concatenate([self.columns.mean(run) for run in runs])
        rows = self.scores[(self.scores.arm == arm) & (self.scores.score == design.metric)]
        found = dict(zip(rows.seed, rows.value, strict=True))
        lacking = [seed for seed in seeds if seed not in found]
        if lacking:
            known = sorted(set(self.scores.score))
            raise BadTables(
                f"seed {lacking[0]}, {arm}, has no score {design.metric!r}.",
                facts=[f"Known scores: {', '.join(known)}." if known else "It has no scores."],
                fix=f"name a metric that every run returns, or one of {', '.join(METRICS)}",
            )
        return np.array([found[seed] for seed in seeds], dtype=np.float64)

    def has_columns(self, measure: Metric, arm: str, seeds: list[int]) -> bool:
        """Tell whether the metric of every test example is known of every one of these runs."""
        return bool(seeds) and all(
            measure.name in self.items.get((arm, seed), {})
            or (measure.is_computed and (arm, seed, "test") in self.predictions)
            or measure.name in self.own(arm, seed)
            for seed in seeds
        )

    def filled(self, design: Design, failed: Sequence[tuple[str, int]], worst: float) -> "Tables":
        """Return these tables as if failed runs had finished with one value, on every column.

        Parameters
        ----------
        failed : arm and seed of each
        worst : the value of the plan's metric
        """
        name, trials = design.metric, self.trials.copy()
        gone = pd.MultiIndex.from_frame(trials[["arm", "seed"]]).isin(failed)
        trials.loc[gone, "status"] = "finished"
        values = pd.DataFrame(failed, columns=["arm", "seed"]).assign(score=name, value=worst)
        others = self.scores[~pd.MultiIndex.from_frame(self.scores[["arm", "seed"]]).isin(failed)]
        kept = trials.loc[~gone, ["arm", "seed"]]
        some = next(kept.itertuples(index=False, name=None), None)
        items = dict(self.items)
        if some is not None and self.has_columns(design.measure, some[0], [some[1]]):
            width = self.per_example(design.measure, some[0], [some[1]]).shape[1]
            items |= {key: {**items.get(key, {}), name: np.full(width, worst)} for key in failed}
        return self._with(
            trials=trials, scores=pd.concat([others, values], ignore_index=True), items=items
        )

    def per_example(self, measure: Metric, arm: str, seeds: list[int]) -> NDArray[np.float64]:
        """Return what the metric is the mean of, shape (len(seeds), N).

        That is its value on every test example or cluster; of a metric that is no mean over
        examples, on 40 groups of them.
        """
        return np.stack([self._per_example(measure, arm, seed) for seed in seeds])

    def _per_example(self, measure: Metric, arm: str, seed: int) -> NDArray[np.float64]:
        given = self.items.get((arm, seed), {}).get(measure.name)
        if given is not None:
            return given
        if not measure.is_computed:
            own = self.own(arm, seed).get(measure.name)
            if own is None:
                raise BadTables(f"{measure.name!r} is not computed from predictions.")
            return own.columns
        return self.scored(arm, seed, "test", [measure]).values[measure.name]

    def own(self, arm: str, seed: int) -> Mapping[str, OwnMetric]:
        """Return the metrics of the user's own that were computed from a run's predictions."""
        return self._own.get((arm, seed), {})

    @cached_property
    def _own(self) -> dict[tuple[str, int], dict[str, OwnMetric]]:
        rows = records(self.trials) if "facts" in self.trials.columns else []
        return {
            (row["arm"], row["seed"]): own_metrics(json.loads(row["facts"] or "{}")) for row in rows
        }

    def scored(self, arm: str, seed: int, split: Split, also: Iterable[Metric] = ()) -> Scored:
        """Return what one run's predictions score on every example; they are read once.

        Parameters
        ----------
        also : metrics that are no mean over examples, where they are needed

        Raises
        ------
        KeyError : the run stored no such predictions
        """
        known = self._scored.get((arm, seed, split))
        lacking = [m for m in also if known is None or m.name not in known.values]
        if known is None or lacking:
            self.read(arm, seed, split, lacking)
        return self._scored[arm, seed, split]

    def read(self, arm: str, seed: int, split: Split, also: Iterable[Metric] = ()) -> Predictions:
        """Return one run's predictions themselves; what they score is kept, they are not.

        Parameters
        ----------
        also : metrics that are no mean over examples and are kept too

        Raises
        ------
        KeyError : the run stored no such predictions
        """
        found, known = self.predictions[arm, seed, split], self._scored.get((arm, seed, split))
        now = score(found, also)
        values = now.values if known is None else {**known.values, **now.values}
        self._scored[arm, seed, split] = replace(now, values=values)
        return found

    def _with(self, **changes: Any) -> "Tables":
        """Return changed tables that know what was read of the predictions already."""
        other = replace(self, **changes)
        other._scored.update(self._scored)
        return other

    @cached_property
    def _scored(self) -> dict[tuple[str, int, Split], Scored]:
        return {}

    def of_data_set(self, place: int, units: Units) -> "Tables":
        """Return what belongs to one data set: its trainings, or its columns of every run.

        Parameters
        ----------
        place : of the data set among `units.datasets`
        """
        if units.nested:
            own = [seed for seed, at in self.datasets.items() if at == place]
            kept = (
                frame[frame.seed.isin(own)] for frame in (self.trials, self.epochs, self.scores)
            )
            trials, epochs, scores = kept
            return self._with(trials=trials, epochs=epochs, scores=scores, datasets={})
        strata = self.columns.strata
        at = [place] if strata is None else np.flatnonzero(strata == place)
        weights = None if self.columns.weights is None else self.columns.weights[at]
        items = {
            key: {name: values[at] for name, values in scored.items()}
            for key, scored in self.items.items()
        }
        return self._with(items=items, columns=Columns(weights=weights))

    def require_one_test_set(self) -> None:
        """Refuse runs whose test labels differ: seeds × examples would not be a table."""
        tests = [key for key in self.predictions if key[2] == "test"]
        for key in tests[1:]:
            if not np.array_equal(self.scored(*key).labels, self.scored(*tests[0]).labels):
                raise BadTables(
                    f"seed {key[1]}, {key[0]}, was scored on other test examples than "
                    f"seed {tests[0][1]}, {tests[0][0]}.",
                    facts=["The test set must be the same examples in the same order in all runs."],
                    fix="draw the test set without the trial's seed",
                )


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table's rows as plain dictionaries, a missing value as None."""
    rows: list[dict[str, Any]] = [
        {str(k): None if v is None or v is pd.NA or v != v else v for k, v in row.items()}
        for row in frame.to_dict("records")
    ]
    return rows
