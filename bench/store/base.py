"""What every store offers: what a benchmark, its runs and their results are recorded in."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from bench.analysis.data.tables import Tables
from bench.design.loading import known_names, nearest
from bench.design.plan import Plan, TrialKey
from bench.design.results import Success
from bench.store.address import redacted
from bench.store.artifacts import Damaged
from bench.store.locks import Locks
from bench.store.records import (
    Locate,
    NothingRecorded,
    children_of,
    earlier,
    goes_on,
    result_of,
    standing,
    states_of,
)
from bench.store.runs import REPLACES, SUPERSEDED, Benchmark, Child, Measured, Run, Unreadable
from bench.store.spool import RunStatus


class Store(Protocol):
    """Where benchmarks are recorded, and read back; what is the same in every store is here.

    Looking never changes a number. What is written is idempotent: it may be written again after
    it failed, and `end` comes last, so that a run counts only when all of it is there. One process
    writes a benchmark, under `lock`; any number of them look.
    """

    uri: str
    folder: Path  # beside which reports are written
    moved_from: Path | None  # where it lay before somebody moved it
    state: Path  # of locks, and of results on their way, on this machine
    locks: Locks

    # -- finding

    def _recorded(self, name: str | None) -> Sequence[Benchmark | Unreadable]:
        """Return all benchmarks, the one that was active last first."""

    def recorded(self, name: str | None = None) -> Sequence[Benchmark | Unreadable]:
        """Return the benchmarks, damaged or not, the one that was active last first.

        What a process that died had finished but not yet recorded is recorded now. Those in which
        one source of randomness varied alone are parts of another: see `families`.
        """
        every = self._recorded(name)
        return [b for b in every if isinstance(b, Unreadable) or not b.plan.vary]

    def benchmarks(self, name: str | None = None) -> Sequence[Benchmark]:
        """Return the same, without those that are damaged."""
        return [b for b in self.recorded(name) if isinstance(b, Benchmark)]

    def benchmark(self, name: str | None = None) -> Benchmark:
        """Return the latest benchmark, of one experiment or of all.

        Raises
        ------
        NothingRecorded : there is none, or none of that name
        Damaged : it cannot be read; an earlier one would be another answer
        """
        for found in self.recorded(name):
            if isinstance(found, Unreadable):
                raise found.trouble
            return found
        known = sorted({found.name for found in self.benchmarks()}) if name else []
        if known and name:
            raise NothingRecorded(
                f'no experiment called "{name}".',
                facts=[known_names(name, known)],
                replace=[(name, nearest(name, known))],
            )
        raise NothingRecorded(
            f"nothing is recorded in {redacted(self.uri)} yet.",
            command=["bench", "run", "digits", "--seeds", "20"],
        )

    def find(self, benchmark_id: str, name: str) -> Benchmark | None:
        """Return the latest benchmark with this id."""

    def was_deleted(self, benchmark_id: str, name: str) -> bool:
        """Tell whether one with this id was deleted, and could be restored."""

    def families(self, benchmark: Benchmark) -> Mapping[str, Benchmark]:
        """Return the benchmarks in which one source of randomness varied alone, by the source."""
        return {
            other.plan.vary: other
            for other in reversed(self._recorded(benchmark.name))  # the latest is kept
            if isinstance(other, Benchmark) and other.varies_a_source_of(benchmark)
        }

    # -- reading

    def _trial_runs(self, benchmark: Benchmark) -> Sequence[Run]:
        """Return the runs of a benchmark's trials, deleted ones too."""

    def _every_child(self, benchmark: Benchmark) -> Mapping[TrialKey, Sequence[Child]]:
        return children_of(self._trial_runs(benchmark), benchmark.plan)

    def children(self, benchmark: Benchmark) -> Mapping[TrialKey, Sequence[Child]]:
        """Return every run of every trial, in the order in which they count, the last last."""
        everything = self._every_child(benchmark).items()
        active = {key: [c for c in runs if not c.deleted] for key, runs in everything}
        return {key: runs for key, runs in active.items() if runs}

    def settled(self, benchmark: Benchmark) -> tuple[dict[TrialKey, Child], set[TrialKey]]:
        """Return the runs that stand for their trials, and the trials whose loss became NaN."""
        current = standing(self.children(benchmark))
        return (
            {key: child for key, child in current.items() if child.status == "FINISHED"},
            {k for k, c in current.items() if c.run.tags.get("bench.failure") == "nan"},
        )

    def trial_states(self, benchmark: Benchmark) -> Mapping[TrialKey, str]:
        """Return finished, failed or running for every trial with a run that counts."""
        return states_of(self.children(benchmark))

    def tables(self, benchmark: Benchmark) -> Tables:
        """Read a benchmark back as tidy tables, checking every prediction's digest.

        Raises
        ------
        Damaged : something is not what was recorded; names all such runs
        """

    @contextmanager
    def _files(self) -> Iterator[Locate]:
        """Give what finds a run's files on this disk, as long as they are read."""

    def results_of_others(
        self, benchmark: Benchmark, wanted: Collection[TrialKey]
    ) -> dict[TrialKey, tuple[Success, Benchmark]]:
        """Return results of other benchmarks of the experiment that some trials would have again.

        The identity of a trial is all that its result follows from; damaged ones are passed over.
        """
        others = [b for b in self.benchmarks(benchmark.name) if b.run_id != benchmark.run_id]
        each = earlier(benchmark, [(b, self.settled(b)[0]) for b in others], wanted)
        found = {}
        with self._files() as locate:
            for key, (other, child) in each.items():
                with suppress(Damaged):  # it is trained again
                    found[key] = (result_of(child, other, locate), other)
        return found

    def source(self, benchmark: Benchmark) -> dict[str, str]:
        """Return the texts of the modules that a benchmark was begun with, by their path.

        Raises
        ------
        Damaged : they are not what was recorded
        """

    def late_modules(self, benchmark: Benchmark) -> dict[str, str]:
        """Return the digests of what trainings loaded by themselves, of one run an arm."""

    def provenance(self, benchmark: Benchmark) -> list[dict[str, Any]]:
        """Return what was recorded about code, versions and machine, one entry a session.

        Raises
        ------
        Damaged : it is not what was recorded
        """

    def again(self, benchmark: Benchmark) -> list[str]:
        """Return the words of the command that goes on with a benchmark: what was typed last."""
        try:
            sessions = self.provenance(benchmark)
        except Damaged:
            sessions = []
        return goes_on(benchmark, str(sessions[-1].get("command") or "") if sessions else "")

    # -- one process at a time

    def holder(self, benchmark_id: str) -> dict[str, Any] | None:
        """Return who is running a benchmark on this machine, or None."""
        return self.locks.holder(benchmark_id)

    @contextmanager
    def lock(self, plan: Plan) -> Iterator[None]:
        """Hold a benchmark for as long as this process runs it.

        Raises
        ------
        Locked : another process holds it; says which
        """
        with self.locks.hold(plan.benchmark_id, plan.experiment):
            yield

    def pending_of(self, benchmark_id: str) -> Path:
        """Return the folder of results that are safe on this disk but not yet in the store."""
        return self.state / "pending" / benchmark_id[:32]

    def folders_of(self, benchmark_id: str) -> Path:
        """Return where the runs of a benchmark have folders of their own while they train."""
        return self.state / "folders" / benchmark_id[:32]

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
        self.log(new.run_id, tags={REPLACES: old.run.run_id})
        self.log(old.run.run_id, tags={SUPERSEDED: new.run_id})

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
        """Put a report on the benchmark's run, so that the runs table sorts by result."""
        self._attach(benchmark, files)
        stamp = int(time.time() * 1000)
        numbers = [(name, value, stamp, 0) for name, value in metrics.items() if value is not None]
        self.log(benchmark.run_id, numbers, tags={**tags, "mlflow.note.content": note})
        self.settle()

    def _attach(self, benchmark: Benchmark, files: Mapping[str, str]) -> None:
        """Give the benchmark's own run some texts."""

    def settle(self) -> None:
        """Let what was written be whole on the disk for whoever copies it."""

    def require_there(self) -> None:
        """Refuse to call a session complete whose store has vanished under it."""
