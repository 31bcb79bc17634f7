"""Reads a local MLflow store by SQL, to look at it only: importing MLflow takes seconds.

Only to look. What must be mended first, or is not as expected, is left to `mlflow_store`.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.design.plan import TrialKey
from bench.store import sqlite
from bench.store.address import address, database_of, state_folder
from bench.store.artifacts import Damaged
from bench.store.locks import Locks
from bench.store.records import benchmark_of, children_of, order, started_ms, states_of, unreadable
from bench.store.runs import Benchmark, Run, Unreadable

RUN = "r.run_uuid, r.name, r.experiment_id, r.status, r.start_time, r.lifecycle_stage"
BENCHMARKS = f"""
    select {RUN}, r.artifact_uri from runs r
    join tags k on k.run_uuid = r.run_uuid and k.key = 'bench.kind' and k.value = 'benchmark'
    join experiments e on e.experiment_id = r.experiment_id and e.lifecycle_stage = 'active'
    where r.lifecycle_stage = 'active'"""
TRIALS = f"""
    select {RUN}, r.artifact_uri from runs r
    join tags k on k.run_uuid = r.run_uuid and k.key = 'bench.kind' and k.value = 'trial'
    join tags p on p.run_uuid = r.run_uuid and p.key = 'mlflow.parentRunId'
    where r.lifecycle_stage = 'active' and p.value = ?"""


@dataclass(frozen=True)
class Glance:
    """What a list of all benchmarks takes of a store: it can be listed in the store's place."""

    found: tuple[Benchmark | Unreadable, ...]  # the one that was active last first
    words: dict[str, dict[TrialKey, str]]  # by the benchmark's run
    locks: Locks

    def recorded(self) -> Sequence[Benchmark | Unreadable]:
        """Return the benchmarks, damaged or not, the one that was active last first."""
        return self.found

    def trial_states(self, benchmark: Benchmark) -> Mapping[TrialKey, str]:
        """Return finished, failed or running for every trial with a run that counts."""
        return self.words[benchmark.run_id]

    def holder(self, benchmark_id: str) -> dict[str, Any] | None:
        """Return who is running a benchmark on this machine, or None."""
        return self.locks.holder(benchmark_id)


def glance(uri: str | None) -> Glance | None:
    """Look into a store, or return None where only MLflow can.

    Parameters
    ----------
    uri : as `mlflow_store.Store` takes it
    """
    uri = address(uri)
    path, state = database_of(uri), state_folder(uri)
    if path is None or not path.exists() or not path.stat().st_size or _waits(state / "pending"):
        return None
    locks = Locks(state / "locks")
    sqlite.prepare(path, _not_asked, locks.folder / "store.lock")
    try:
        with closing(sqlite3.connect(path, timeout=sqlite.BUSY_S)) as connection:
            found = [_seen(connection, run) for run in _runs(connection, BENCHMARKS)]
    except (sqlite3.Error, OSError):
        return None
    shown = (b for b, _ in found if isinstance(b, Unreadable) or not b.plan.vary)
    recorded = tuple(sorted(shown, key=order, reverse=True))
    return Glance(recorded, {b.run_id: words for b, words in found}, locks)


def _waits(pending: Path) -> bool:
    """Tell whether results may wait there to be written into the store."""
    try:
        return pending.is_dir() and any(any(place.iterdir()) for place in pending.iterdir())
    except OSError:
        return True


def _not_asked(uri: str) -> None:
    raise AssertionError(f"{uri} is there, so that no tables are made")


def _runs(connection: sqlite3.Connection, query: str, *values: str) -> list[Run]:
    tags: dict[str, dict[str, str]] = defaultdict(dict)
    chosen = f"select run_uuid from ({query})"
    where = f"select run_uuid, key, value from tags where run_uuid in ({chosen})"
    for run_id, key, value in connection.execute(where, values):
        tags[run_id][key] = value
    return [
        Run(
            run_id,
            name,
            experiment_id=str(experiment),
            status=status,
            started_ms=started_ms(started, run_id),
            deleted=stage != "active",
            artifact_uri=artifacts,
            tags=tags[run_id],
        )
        for run_id, name, experiment, status, started, stage, artifacts in connection.execute(
            query, values
        )
    ]


def _seen(
    connection: sqlite3.Connection, run: Run
) -> tuple[Benchmark | Unreadable, dict[TrialKey, str]]:
    """Return a benchmark with its trials' words, or what is left of it if it is damaged."""
    folder = sqlite.file_path(run.artifact_uri)
    if folder is None:
        raise OSError(f"{run.artifact_uri} is no folder")
    try:
        found = benchmark_of(run, lambda _, artifact: folder / artifact)
        children = children_of(_runs(connection, TRIALS, run.run_id), found.plan)
        return found, states_of(children)
    except Damaged as trouble:
        return unreadable(run, trouble), {}
