"""Benchmarks and their runs, as every store lists them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from bench.analysis.data.tables import Design
from bench.design.plan import Plan, TrialKey
from bench.store.artifacts import Damaged

SUPERSEDED = "bench.superseded"  # the id of the run that replaced one; "true" in old stores
REPLACES = "bench.replaces"  # of the run that replaced one: its id
Measured = tuple[str, float, int, int]  # name, value, milliseconds since 1970, epoch

Logged = tuple[int, int, float]  # step, milliseconds since 1970, value: in the order they count
History = Mapping[str, Sequence[Logged]]  # of a run, by metric


@dataclass(frozen=True, eq=False)
class Run:
    """One run as a store lists it: a benchmark's own, or that of one trial."""

    run_id: str
    name: str
    experiment_id: str
    status: str  # RUNNING, FINISHED, FAILED or KILLED
    started_ms: int  # since 1970
    deleted: bool  # from where it can be restored
    artifact_uri: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)


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
    sequence: int = 0  # counts the benchmarks and sessions of a store: clocks may be set back

    def design(self) -> Design:
        """Return the plan as the analysis reads it, with its history."""
        judged = [e for e in self.events if e["event"] in ("frozen", "analysis changed")]
        replaced = next((e["at"] for e in reversed(judged[:-1]) if not e["pairs_finished"]), None)
        return self.plan.design(
            frozen_at=judged[-1]["at"],
            frozen_before_first_run=judged[-1]["pairs_finished"] == 0,
            analysis_changed_after_results=any(
                e["event"] == "analysis changed" and e["pairs_finished"] > 0 for e in judged
            ),
            stop_changed_after_results=any(
                new["pairs_finished"] > 0 and _rule(new) != _rule(old)
                for old, new in pairwise(judged)
            ),
            replaced=None if judged[-1]["pairs_finished"] else replaced,
            looks=tuple(e["pairs_finished"] for e in self.events if e["event"] == "seeds added"),
            stopped_at=self.stopped_at,
        )

    @property
    def stopped_at(self) -> int | None:
        """Pairs at which the plan's rule ended the training; None once that is not its end."""
        stopped, rule = None, None
        for event in self.events:
            if event["event"] == "stopped":
                stopped = int(event["pairs_finished"])
            elif event["event"] == "seeds added":
                stopped = None
            elif "analysis" in event:
                stopped = stopped if _rule(event) == rule else None
                rule = _rule(event)
        return stopped

    def varies_a_source_of(self, other: "Benchmark") -> bool:
        """Tell whether it is a part of another one, in which one source varied alone."""
        alone = bool(self.plan.vary)
        return alone and replace(self.plan, vary="").benchmark_id == other.benchmark_id


def _rule(event: Mapping[str, Any]) -> str:
    """Return the stopping rule that a plan was frozen or changed with."""
    return str(event["analysis"]["stop"])


@dataclass(frozen=True)
class Unreadable:
    """What is still known of a benchmark whose record is damaged."""

    run_id: str
    name: str
    benchmark_id: str
    active_at: float
    trouble: Damaged = field(compare=False)
    sequence: int = 0


@dataclass(frozen=True)
class Child:
    """One trial's run as the store lists it."""

    key: TrialKey
    run: Run = field(repr=False)

    @property
    def status(self) -> str:
        """RUNNING, FINISHED, FAILED or KILLED."""
        return self.run.status

    @property
    def deleted(self) -> bool:
        """Whether somebody deleted it, from where it can be restored."""
        return self.run.deleted

    @property
    def replaced_by(self) -> str:
        """The run that was trained again in its place: its id, or "" where there is none."""
        return str(self.run.tags.get(SUPERSEDED, ""))

    @property
    def replaces(self) -> str:
        """The run in whose place this one was trained: its id, or ""."""
        return str(self.run.tags.get(REPLACES, ""))

    @property
    def started(self) -> int:
        """Milliseconds since 1970."""
        return self.run.started_ms
