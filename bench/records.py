"""Records: what a benchmark and its runs are, and how they read back as tables."""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.metrics import Predictions
from analysis.table import TRIAL_COLUMNS, Design, Split, Tables
from bench import artifacts, pending
from bench.address import first_line
from bench.artifacts import Damaged
from bench.plan import Plan, TrialKey

Run = Any  # MLflow's own: info, and data with tags and metrics
Locate = Callable[[Run, str], Path]  # a run's artifact to its local path
EXTRA_COLUMNS = (
    "code",
    "threads",
    "attempts",
    "selected_epoch",
    "facts",
    "logged_accuracy",
    "run_id",
)


@dataclass(frozen=True)
class Benchmark:
    """One parent run: a plan, its history and where it lives."""

    run_id: str
    experiment_id: str
    name: str
    benchmark_id: str
    started_at: float
    active_at: float
    plan: Plan
    events: tuple[dict[str, Any], ...]
    verdict: str | None = None  # of the last report

    def design(self) -> Design:
        """Return the plan as the analysis reads it, with its history."""
        judged = [e for e in self.events if e["event"] in ("frozen", "analysis changed")]
        return self.plan.design(
            frozen_at=judged[-1]["at"],
            frozen_before_first_run=judged[-1]["pairs_finished"] == 0,
            analysis_changed_after_results=any(
                e["event"] == "analysis changed" and e["pairs_finished"] > 0 for e in judged
            ),
            looks=tuple(e["pairs_finished"] for e in self.events if e["event"] == "seeds added"),
            stopped_at=self.stopped_at,
        )

    @property
    def stopped_at(self) -> int | None:
        """Pairs at which the plan's rule ended the training; None if seeds were added since."""
        last = next((e for e in reversed(self.events) if e["event"] != "analysis changed"), None)
        return last["pairs_finished"] if last and last["event"] == "stopped" else None


@dataclass(frozen=True)
class Child:
    """One trial's run as the store lists it."""

    key: TrialKey
    run: Run = field(repr=False)

    @property
    def status(self) -> str:
        """What MLflow says: RUNNING, FINISHED, FAILED or KILLED."""
        return str(self.run.info.status)

    @property
    def deleted(self) -> bool:
        """Whether somebody deleted it in MLflow, from where it can be restored."""
        return bool(self.run.info.lifecycle_stage != "active")

    @property
    def started(self) -> int:
        """Milliseconds since 1970."""
        return int(self.run.info.start_time)


def benchmark_of(run: Run, text: str) -> Benchmark:
    """Return a benchmark from its parent run and its stored plan.

    Raises
    ------
    Damaged : the text is no plan of ours, or not the one that it says it is
    """
    tags = run.data.tags
    try:
        record = json.loads(text)
        found = Benchmark(
            run_id=run.info.run_id,
            experiment_id=run.info.experiment_id,
            name=record["plan"]["experiment"],
            benchmark_id=tags["bench.benchmark"],
            started_at=run.info.start_time / 1000,
            active_at=float(tags.get("bench.active_at", 0)),
            plan=Plan.from_dict(record["plan"]),
            events=tuple(_event(event) for event in record["events"]),
            verdict=tags.get("bench.verdict"),
        )
        if found.plan.hash != record["plan"]["hash"]:
            raise ValueError("It is not the plan that has the hash which it states.")
        found.design()  # which reads all of its history
    except Exception as error:  # a file that is not ours can be wrong in any way
        raise Damaged(
            f"the stored plan of {run.info.run_name} cannot be read.",
            facts=[first_line(error), f"MLflow run {run.info.run_id}."],
            fix="restore its plan/*.json and tags, or delete that run: bench ui",
        ) from error
    return found


def _event(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event of a benchmark's history, or raise where it is none."""
    kinds = {"at": str, "event": str, "pairs_finished": int}
    if any(type(plain[name]) is not kind for name, kind in kinds.items()):
        raise TypeError(f"{dict(plain)!r} is no event.")
    return dict(plain)


def facts_of(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return a session's provenance, or raise where something in it has another shape."""
    shapes: dict[str, Any] = {"packages": dict, "devices": list, "notes": list}
    for name, value in plain.items():
        if not isinstance(value, shapes.get(name, (str, int, float, type(None)))):
            raise TypeError(f"{name} is {value!r}.")
        inner: list[Any] = []
        if name in shapes:
            inner = list(value.values() if isinstance(value, dict) else value)
        if not all(isinstance(item, str) for item in inner):
            raise TypeError(f"{name} holds {inner!r}.")
    return dict(plain)


def key_of(run: Run) -> TrialKey:
    """Return which trial a run is of."""
    try:
        return TrialKey(run.data.tags["arm"], int(run.data.tags["seed"]))
    except (KeyError, ValueError) as error:
        raise Damaged(
            f"MLflow run {run.info.run_id} no longer says which arm and seed it is.",
            facts=["Its tags arm and seed were changed."],
            fix="restore them, or delete that run: bench ui",
        ) from error


def tables_of(
    benchmark: Benchmark, every: Mapping[TrialKey, Sequence[Child]], locate: Locate
) -> Tables:
    """Read a benchmark back as tidy tables, checking every prediction's digest.

    Parameters
    ----------
    benchmark : whose runs they are
    every : all runs of every trial, oldest first, deleted ones too
    locate : gives the local path of a run's artifact, or raises FileNotFoundError

    Raises
    ------
    Damaged : something is not what was recorded; names all such runs
    """
    rows, epochs, scores = [], [], []
    predictions: dict[tuple[str, int, Split], Predictions] = {}
    damaged: dict[TrialKey, Damaged] = {}
    order = {key: position for position, key in enumerate(benchmark.plan.trials())}
    for key in sorted(every, key=lambda key: order.get(key, len(order))):
        runs = every[key]
        active = [child for child in runs if not child.deleted]
        child = current_of(active)
        try:
            _require_kept(key, runs, child)
            if child is None:
                continue
            found = _recorded(child, benchmark, locate)
        except Damaged as damage:
            damaged[key] = damage
            continue
        rows.append(_trial_row(child, found.outcome, attempts=len(active)))
        if found.epochs is not None:
            epochs.append(found.epochs.assign(arm=key.arm, seed=key.seed))
        for split, item in found.predictions.items():
            predictions[key.arm, key.seed, split] = item
        scores += [
            {"arm": key.arm, "seed": key.seed, "score": name, "value": value}
            for name, value in found.outcome.get("scores", {}).items()
        ]
    if damaged:
        raise _all_damaged(damaged, benchmark.name)
    return Tables(
        trials=pd.DataFrame(rows, columns=[*TRIAL_COLUMNS, *EXTRA_COLUMNS]),
        epochs=pd.concat(epochs, ignore_index=True) if epochs else _no_epochs(),
        scores=pd.DataFrame(scores, columns=["arm", "seed", "score", "value"]),
        predictions=predictions,
    )


def _recorded(child: Child, benchmark: Benchmark, locate: Locate) -> artifacts.Recorded:
    """Return the files of a run, after checking that nothing was changed since it ended."""
    if child.status not in ("FINISHED", "FAILED"):
        return artifacts.Recorded({}, None, {})
    tags, key = child.run.data.tags, child.key
    if tags.get(pending.SEAL) != pending.seal(benchmark.plan.trial_digest(key), tags):
        raise Damaged(
            f"the record of {_who(key)} was changed after its training.",
            facts=[f"MLflow run {child.run.info.run_id}: its tags do not fit their seal."],
        )
    if child.status == "FAILED":
        return artifacts.Recorded({}, None, {})
    digests = json.loads(tags[pending.DIGESTS])
    return artifacts.load(digests, lambda name: locate(child.run, name), who=_who(key))


def _who(key: TrialKey) -> str:
    return f"seed {key.seed:02d}, {key.arm},"


def current_of(runs: Sequence[Child]) -> Child | None:
    """Choose the run that stands for a trial: the latest finished, else the latest failed."""
    for wanted in ("FINISHED", "FAILED", "RUNNING"):
        found = [
            child
            for child in runs
            if child.status == wanted and "bench.superseded" not in child.run.data.tags
        ]
        if found:
            return found[-1]
    return None


def _require_kept(key: TrialKey, runs: Sequence[Child], current: Child | None) -> None:
    """Refuse to go on without a finished run that was deleted, unless another stands for it."""
    if current is None and any(child.status == "FINISHED" for child in runs if child.deleted):
        raise Damaged(f"the run of {_who(key)} was deleted in MLflow.")


def _all_damaged(damaged: Mapping[TrialKey, Damaged], name: str) -> Damaged:
    """Return one refusal for all damaged runs, with the command that mends them."""
    first, *others = damaged.values()
    repeats = [word for key in damaged for word in ("--redo", f"{key.seed}:{key.arm}")]
    return Damaged(
        first.what,
        facts=[*first.facts, *(f"And {other.what}" for other in others)],
        fix=f"restore it, or {shlex.join(['bench', 'run', name, *repeats])}",
    )


def _trial_row(child: Child, outcome: Mapping[str, Any], *, attempts: int) -> dict[str, Any]:
    tags = child.run.data.tags
    return {
        "arm": child.key.arm,
        "seed": child.key.seed,
        "status": child.status.lower(),
        "reason": tags.get("bench.reason", ""),
        "code": tags.get("bench.failure", ""),
        "device": tags.get("bench.device", ""),
        "threads": int(tags.get("bench.threads", 0)),
        "duration_s": float(tags.get("bench.duration_s", "nan")),
        "environment": tags.get("bench.environment", "{}"),
        "attempts": attempts,
        "selected_epoch": outcome.get("selected_epoch"),
        "facts": json.dumps(outcome.get("facts", {}), sort_keys=True),
        "logged_accuracy": child.run.data.metrics.get("test/accuracy"),
        "run_id": child.run.info.run_id,
    }


def _no_epochs() -> pd.DataFrame:
    return pd.DataFrame({"arm": [], "seed": [], "epoch": []})


def complete_seeds(plan: Plan, finished: Mapping[TrialKey, Any]) -> list[int]:
    """Return the seeds that every arm has finished."""
    return [s for s in plan.seeds if all(TrialKey(arm, s) in finished for arm in plan.arms)]
