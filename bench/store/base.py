"""What every store offers: what a benchmark, its runs and their results are recorded in."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from bench.analysis.data.tables import Design, Tables
from bench.design.plan import Plan, TrialKey
from bench.store.artifacts import Damaged
from bench.store.spool import RunStatus

SUPERSEDED = "bench.superseded"  # the id of the run that replaced one; "true" in old stores
REPLACES = "bench.replaces"  # of the run that replaced one: its id
Measured = tuple[str, float, int, int]  # name, value, milliseconds since 1970, epoch


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


class Store(Protocol):
    """Where benchmarks are recorded, and read back.

    Looking never changes a number. What is written is idempotent: it may be written again after
    it failed, and `end` comes last, so that a run counts only when all of it is there. One process
    writes a benchmark, under `lock`; any number of them look.
    """

    uri: str
    folder: Path  # beside which reports are written
    moved_from: Path | None  # where it lay before somebody moved it

    # -- finding

    def recorded(self, name: str | None = None) -> Sequence[Benchmark | Unreadable]:
        """Return the benchmarks, damaged or not, the one that was active last first."""

    def benchmarks(self, name: str | None = None) -> Sequence[Benchmark]:
        """Return the same, without those that are damaged."""

    def benchmark(self, name: str | None = None) -> Benchmark:
        """Return the latest benchmark, of one experiment or of all.

        Raises
        ------
        NothingRecorded : there is none
        Damaged : it cannot be read; an earlier one would be another answer
        """

    def find(self, benchmark_id: str, name: str) -> Benchmark | None:
        """Return the latest benchmark with this id."""

    def was_deleted(self, benchmark_id: str, name: str) -> bool:
        """Tell whether one with this id was deleted, and could be restored."""

    def families(self, benchmark: Benchmark) -> Mapping[str, Benchmark]:
        """Return the benchmarks in which one source of randomness varied alone, by the source."""

    # -- reading

    def children(self, benchmark: Benchmark) -> Mapping[TrialKey, Sequence[Child]]:
        """Return every run of every trial, in the order in which they count, the last last."""

    def settled(self, benchmark: Benchmark) -> tuple[dict[TrialKey, Child], set[TrialKey]]:
        """Return the runs that stand for their trials, and the trials whose loss became NaN."""

    def trial_states(self, benchmark: Benchmark) -> Mapping[TrialKey, str]:
        """Return finished, failed or running for every trial with a run that counts."""

    def tables(self, benchmark: Benchmark) -> Tables:
        """Read a benchmark back as tidy tables.

        Raises
        ------
        Damaged : something is not what was recorded
        """

    def source(self, benchmark: Benchmark) -> dict[str, str]:
        """Return the texts of the modules that a benchmark was begun with, by their path."""

    def late_modules(self, benchmark: Benchmark) -> dict[str, str]:
        """Return the digests of what trainings loaded by themselves, of one run an arm."""

    def provenance(self, benchmark: Benchmark) -> list[dict[str, Any]]:
        """Return what was recorded about code, versions and machine, one entry a session."""

    def again(self, benchmark: Benchmark) -> list[str]:
        """Return the words of the command that goes on with a benchmark."""

    # -- one process at a time

    def holder(self, benchmark_id: str) -> dict[str, Any] | None:
        """Return who is running a benchmark on this machine, or None."""

    def lock(self, plan: Plan) -> AbstractContextManager[None]:
        """Hold a benchmark for as long as this process runs it.

        Raises
        ------
        Locked : another process holds it; says which
        """

    def pending_of(self, benchmark_id: str) -> Path:
        """Return the folder of results that are safe on this disk but not yet in the store."""

    def folders_of(self, benchmark_id: str) -> Path:
        """Return where the runs of a benchmark have folders of their own while they train."""

    # -- writing

    def begin(
        self,
        plan: Plan,
        *,
        provenance: Mapping[str, Any],
        source: Mapping[str, str],
        fresh: bool = False,
    ) -> Benchmark:
        """Open a plan's benchmark for writing, or go on with it. Call it under `lock`."""

    def note(self, benchmark: Benchmark, event: Mapping[str, Any]) -> Benchmark:
        """Record what happened to a plan while it was trained, as a new version of it."""

    def start(self, benchmark: Benchmark, key: TrialKey, provenance: Mapping[str, Any]) -> Run:
        """Create the run of a trial and return it."""

    def describe(self, run: Run, plan: Plan, key: TrialKey) -> None:
        """Say what a run trains: arm, seed, settings, data."""

    def log(
        self,
        run_id: str,
        metrics: Sequence[Measured] = (),
        *,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write metrics and tags of a run."""

    def put(self, run: Run, folder: Path) -> None:
        """Give a run the files of a folder."""

    def end(self, run_id: str, status: RunStatus) -> None:
        """Set the status of a run: the last thing that is written of it."""

    def supersede(self, old: Child, new: Run) -> None:
        """Keep the run that was trained again, marked with the one in its place."""

    def end_orphans(self, benchmark: Benchmark) -> None:
        """End the runs of a process that died: under the lock nobody else can be training."""

    def publish(
        self,
        benchmark: Benchmark,
        *,
        files: Mapping[str, str],
        metrics: Mapping[str, float | None],
        tags: Mapping[str, str],
        note: str,
    ) -> None:
        """Put a report on the benchmark's run."""

    def settle(self) -> None:
        """Let what was written be whole on the disk for whoever copies it."""

    def require_there(self) -> None:
        """Refuse to call a session complete whose store has vanished under it."""
