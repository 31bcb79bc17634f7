"""A store in memory, for unit tests: it ends with its process; its files lie in a folder."""

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.analysis.data.tables import Tables
from bench.design.plan import Plan, TrialKey
from bench.store import artifacts, spool
from bench.store.base import Store
from bench.store.locks import Locks, now
from bench.store.records import Locate, frozen, gone_on_with, late_modules_of, tables_of
from bench.store.runs import Benchmark, Measured, Run
from bench.store.spool import RunStatus
from bench.store.writer import recover


class MemoryStore(Store):
    """Benchmarks and runs in dictionaries; see `base.Store`.

    Parameters
    ----------
    folder : of the runs' files, of locks and of results that wait to be written
    """

    def __init__(self, folder: Path) -> None:
        self.uri = f"memory:{folder}"
        self.folder = folder
        self.moved_from, self.state, self.locks = None, folder, Locks(folder / "locks")
        self.runs: dict[str, Run] = {}  # of benchmarks and trials, in the order of their making
        self.published: dict[str, dict[str, str]] = defaultdict(dict)
        self._benchmarks: dict[str, Benchmark] = {}
        self._sources: dict[str, dict[str, str]] = {}
        self._sessions: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._sequence = 0

    # -- finding

    def _recorded(self, name: str | None) -> list[Benchmark]:
        there = [
            replace(b, verdict=self.runs[b.run_id].tags.get("bench.verdict"))
            for b in self._benchmarks.values()
            if name in (None, b.name) and not self.runs[b.run_id].deleted
        ]
        return sorted(there, key=lambda b: b.sequence, reverse=True)

    def find(self, benchmark_id: str, name: str) -> Benchmark | None:
        """Return the latest benchmark with this id."""
        return next((b for b in self._recorded(name) if b.benchmark_id == benchmark_id), None)

    def was_deleted(self, benchmark_id: str, name: str) -> bool:
        """Tell whether one with this id was deleted, and could be restored."""
        same = [b for b in self._benchmarks.values() if b.benchmark_id == benchmark_id]
        return any(b.name == name and self.runs[b.run_id].deleted for b in same)

    # -- reading

    def _trial_runs(self, benchmark: Benchmark) -> list[Run]:
        return [run for run in self.runs.values() if run.tags.get("parent") == benchmark.run_id]

    def tables(self, benchmark: Benchmark) -> Tables:
        """Read a benchmark back as tidy tables."""
        every = self._every_child(benchmark)
        return tables_of(benchmark, every, _file, lambda: self.again(benchmark))

    @contextmanager
    def _files(self) -> Iterator[Locate]:
        """Give what finds a run's files on this disk, as long as they are read."""
        yield _file

    def source(self, benchmark: Benchmark) -> dict[str, str]:
        """Return the texts of the modules that a benchmark was begun with, by their path."""
        return dict(self._sources[benchmark.run_id])

    def late_modules(self, benchmark: Benchmark) -> dict[str, str]:
        """Return the digests of what trainings loaded by themselves, of one run an arm."""
        return late_modules_of(self.settled(benchmark)[0], benchmark, _file)

    def provenance(self, benchmark: Benchmark) -> list[dict[str, Any]]:
        """Return what was recorded about code, versions and machine, one entry a session."""
        return [dict(facts) for facts in self._sessions[benchmark.run_id]]

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
        for entry in list(spool.waiting(self.pending_of(plan.benchmark_id))):
            recover(self, self._benchmarks[entry.parent], [entry])
        found = None if fresh else self.find(plan.benchmark_id, plan.experiment)
        if found is None:
            run = self._create(f"{plan.experiment} {plan.benchmark_id[:7]}", plan.experiment, {})
            found = _benchmark(run, plan)
            self._sources[run.run_id] = dict(source)
        merged, events = gone_on_with(found, plan, self.settled(found)[0])
        self._change(found.run_id, status="RUNNING")
        self._sequence += 1
        benchmark = replace(
            found,
            plan=merged,
            events=events,
            sequence=self._sequence,
            active_at=time.time(),
        )
        self._benchmarks[benchmark.run_id] = benchmark
        self.end_orphans(benchmark)
        self._sessions[benchmark.run_id].append(json.loads(json.dumps(provenance, default=str)))
        return benchmark

    def note(self, benchmark: Benchmark, event: Mapping[str, Any]) -> Benchmark:
        """Record what happened to a plan while it was trained, as a new version of it."""
        noted = replace(benchmark, events=(*benchmark.events, {"at": now(), **event}))
        self._benchmarks[benchmark.run_id] = noted
        return noted

    def start(self, benchmark: Benchmark, key: TrialKey, provenance: Mapping[str, Any]) -> Run:
        """Create the run of a trial and return it."""
        tags = {"parent": benchmark.run_id, **{name: str(part) for name, part in key.parts.items()}}
        return self._create(key.run_name, benchmark.experiment_id, tags)

    def _create(self, name: str, experiment_id: str, tags: Mapping[str, str]) -> Run:
        run_id = f"run-{len(self.runs)}"
        run = Run(
            run_id=run_id,
            name=name,
            experiment_id=experiment_id,
            status="RUNNING",
            started_ms=int(time.time() * 1000),
            deleted=False,
            artifact_uri=str(self.folder / "runs" / run_id),
            tags=dict(tags),
        )
        self.runs[run_id] = run
        return run

    def _change(self, run_id: str, **parts: Any) -> None:
        self.runs[run_id] = replace(self.runs[run_id], **parts)

    def describe(self, run: Run, plan: Plan, key: TrialKey) -> None:
        """Say what a run trains: arm, seed, settings."""
        values = {**key.parts, **plan.arms[key.arm]}
        self._change(run.run_id, params={name: str(value) for name, value in values.items()})

    def log(
        self,
        run_id: str,
        metrics: Sequence[Measured] = (),
        *,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write metrics, of which the last of each name is kept, and tags of a run."""
        run = self.runs[run_id]
        last = {name: value for name, value, _, _ in metrics}
        tagged = {**run.tags, **(tags or {})}
        self._change(run_id, metrics={**run.metrics, **last}, tags=tagged)

    def put(self, run: Run, folder: Path) -> None:
        """Give a run the files of a folder."""
        artifacts.put(folder, Path(run.artifact_uri))

    def end(self, run_id: str, status: RunStatus) -> None:
        """Set the status of a run: the last thing that is written of it."""
        self._change(run_id, status=status)

    def end_orphans(self, benchmark: Benchmark) -> None:
        """End the runs of a process that died: under the lock nobody else can be training."""
        for runs in self.children(benchmark).values():
            for child in runs:
                if child.status == "RUNNING":
                    self.end(child.run.run_id, "KILLED")

    def _attach(self, benchmark: Benchmark, files: Mapping[str, str]) -> None:
        self.published[benchmark.run_id] |= files

    def settle(self) -> None:
        """Memory is whole at any time."""

    def require_there(self) -> None:
        """Memory does not vanish under a session."""


def _benchmark(run: Run, plan: Plan) -> Benchmark:
    return Benchmark(
        run_id=run.run_id,
        experiment_id=run.experiment_id,
        name=plan.experiment,
        benchmark_id=plan.benchmark_id,
        started_at=run.started_ms / 1000,
        active_at=run.started_ms / 1000,
        plan=plan,
        events=(frozen(plan),),
    )


def _file(run: Run, artifact: str) -> Path:
    return Path(run.artifact_uri) / artifact
