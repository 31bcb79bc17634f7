"""Writer: one background thread writes the epochs and results of a session to the store.

A result is safe on this disk when `record` returns (`spool`); the store follows within
seconds, or when it answers again.
"""

import queue
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from bench.analysis.data.metrics import METRICS
from bench.analysis.errors import DiskFull, Refusal, is_disk_full
from bench.design.plan import Plan, TrialKey
from bench.design.results import Result, Scored, ScoredOn
from bench.store import spool
from bench.store.address import StoreAway, StoreRefuses, StoreTrouble, first_line
from bench.store.base import Store
from bench.store.runs import Benchmark, Measured, Run
from bench.store.spool import Entry, RunStatus
from bench.store.sqlite import free_bytes
from bench.terminal import tell

Attempt = tuple[TrialKey, int]  # a trial that is tried again gets a run of its own
Moment = tuple[float, float]  # epoch and time of a row
FLUSH_S = 1.0  # epochs of all runs are collected this long, then one call a run
LONGEST_PAUSE_S = 30.0  # between two attempts to write to a store that is away
PATIENCE_S = 60.0  # at the end: so long a store that is away is waited for


class Recorder:
    """Writes one benchmark from one background thread; nothing else writes while it lives.

    Parameters
    ----------
    store, benchmark : where to write
    provenance : of this session
    """

    def __init__(
        self,
        store: Store,
        benchmark: Benchmark,
        provenance: Mapping[str, Any],
    ) -> None:
        self.store = store
        self.benchmark = benchmark
        self.finished, self.diverged = store.settled(benchmark)
        self.while_closing: Callable[[], None] = lambda: None  # called while the last is written
        self.away: str | None = None  # why the store does not take anything just now
        self.refused: list[str] = []  # what it never will take, and where that is kept
        self._place = store.pending_of(benchmark.benchmark_id)
        self._provenance = provenance
        self._queue: queue.Queue[dict[str, Any] | Entry | None] = queue.Queue()
        self._rows: dict[Attempt, list[dict[str, float]]] = defaultdict(list)
        self._logged: dict[Attempt, set[Moment]] = defaultdict(set)  # rows that the store has
        self._entries: deque[Entry] = deque()  # kept on the disk, not yet in the store
        self._runs: dict[Attempt, Run] = {}  # in training
        self._described: set[Attempt] = set()
        self._ended: set[Attempt] = set()  # a late message must not bring a run back to life
        self._error: Exception | None = None
        self._events: list[dict[str, Any]] = []  # of the plan, written when the session ends
        self._patience_s = 0.0
        self._thread = threading.Thread(target=self._work, name="mlflow-writer", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close("FINISHED" if kind is None else "KILLED")

    def known_runs(self) -> dict[TrialKey, Scored]:
        """Return the recorded runs' metric; its examples too where the plan may stop early."""
        plan = self.benchmark.plan
        logged = plan.metric if plan.metric not in METRICS else f"test/{plan.metric}"
        known = {
            key: Scored(child.run.metrics[logged])
            for key, child in self.finished.items()
            if logged in child.run.metrics
        }
        if plan.stop == "fixed" or not known:
            return known
        tables, design = self.store.tables(self.benchmark), self.benchmark.design()
        for key, run in known.items():
            measure = design.measure
            if design.scope != "seeds" and tables.has_columns(measure, key.arm, [key.seed]):
                [examples] = tables.per_example(measure, key.arm, [key.seed])
                known[key] = Scored(run.value, examples, tables.columns.weights)
        return known

    def known_test_sets(self) -> dict[str, tuple[ScoredOn, TrialKey]]:
        """Return the test set of a recorded run, and the run, by the data set."""
        known: dict[str, tuple[ScoredOn, TrialKey]] = {}
        for key, child in self.finished.items():
            if found := ScoredOn.from_tag(child.run.tags.get(spool.TEST_SET, "")):
                known.setdefault(key.dataset, (found, key))
        return known

    @property
    def stopped(self) -> bool:
        """Whether the plan's rule has ended the training, and no seeds were added since."""
        return self.benchmark.stopped_at is not None

    def stop(self, pairs: int) -> None:
        """Note that the plan's rule has ended the training."""
        self._events.append({"event": "stopped", "pairs_finished": pairs})

    def note_reuse(self, pack: Sequence[str], differs: Sequence[str]) -> None:
        """Note which runs of a pack gave other bits in a process of their own."""
        pairs = len({key.seed for key in self.finished})
        facts = {"runs": [*pack], "differs": [*differs], "pairs_finished": pairs}
        self._events.append({"event": "reuse compared", **facts})

    def deliver(self, message: dict[str, Any]) -> None:
        """Take a worker's message (its next epoch); returns at once."""
        if message["type"] == "epoch":
            self._queue.put(message)

    def record(self, result: Result) -> str:
        """Take a finished or failed trial; when this returns, it is safe on the disk.

        Returns
        -------
        which files of its own folder are not kept, in words, or nothing

        Raises
        ------
        DiskFull, StoreTrouble : the disk did not take it
        """
        try:
            entry = spool.keep(
                self._place,
                result,
                parent=self.benchmark.run_id,
                trial=self.benchmark.plan.trial_digest(result.key),
                commit=str(self._provenance.get("commit") or ""),
                metric=self.benchmark.plan.metric,
            )
        except OSError as error:
            raise unsaved(self._place, result.key, error) from error
        self._queue.put(entry)
        return entry.tags.get(spool.LEFT, "")

    def check(self) -> None:
        """Raise what went wrong while writing, if waiting does not mend it."""
        if self._error is not None:
            raise self._error

    def close(self, status: RunStatus = "FINISHED") -> None:
        """Write everything that was taken, then end the parent run.

        Raises
        ------
        StoreTrouble : something is left; it stays on this disk for the next session
        """
        self._patience_s = PATIENCE_S if status == "FINISHED" else 0.0
        self._queue.put(None)
        while self._thread.is_alive():
            self._thread.join(0.2)
            self.while_closing()
        if self.away is None and self._error is None:
            with suppress(Refusal):
                for event in self._events:
                    self.benchmark = self.store.note(self.benchmark, event)
                self.store.end_orphans(self.benchmark)  # in training when we were stopped
                self.store.end(self.benchmark.run_id, status)
        self.store.settle()
        if status == "FINISHED":
            self.store.require_there()
            self.check()
            if self.away is not None:
                raise StoreTrouble(
                    f"the store does not answer: {self.away}",
                    facts=[self._kept()],
                    fix="the same command once more, when the store is back",
                )

    def _kept(self) -> str:
        n = len(self._entries)
        return (
            f"{n} finished {'run is' if n == 1 else 'runs are'} safe in {self._place.parent}, "
            "to be written by the same command."
        )

    # -- the thread ------------------------------------------------------------------------

    def _work(self) -> None:
        """Collect for a second, write, repeat: live in the UI, at a few calls a second."""
        pause, deadline, open_end = FLUSH_S, float("inf"), True
        while open_end or (self.away is not None and time.monotonic() < deadline):
            if open_end:
                open_end = self._collect(pause)
                deadline = float("inf") if open_end else time.monotonic() + self._patience_s
            else:
                time.sleep(min(pause, 1.0))
            try:
                if self._error is None:
                    self._flush()
                pause, self.away = FLUSH_S, None
            except StoreAway as trouble:  # it may be back any moment
                pause, self.away = min(2 * pause, LONGEST_PAUSE_S), " ".join(trouble.facts)
            except Exception as error:  # shown by the main thread's next `check`
                self._error = error

    def _collect(self, seconds: float) -> bool:
        """Take what comes for so long; False when it was the last."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            with suppress(queue.Empty):
                item = self._queue.get(timeout=left)
                if item is None:
                    return False
                self._take(item)
        return True

    def _take(self, item: dict[str, Any] | Entry) -> None:
        if isinstance(item, Entry):
            self._rows.pop((item.key, item.attempt), None)  # the entry holds the whole history
            self._ended.add((item.key, item.attempt))
            self._entries.append(item)
            return
        attempt = TrialKey.of(item), int(item["attempt"])
        if attempt not in self._ended:
            self._rows[attempt].append(item["row"])

    def _flush(self) -> None:
        """Write all that was taken; what the store refused to take is still there afterwards."""
        while self._entries:
            entry = self._entries[0]
            attempt = entry.key, entry.attempt
            run = self._run(attempt)
            logged = self._logged[attempt]
            if (refused := written(self.store, entry, run, logged)) is not None:
                self.refused.append(refused)
            elif entry.status == "FINISHED" and (old := self.finished.get(entry.key)) is not None:
                self.store.supersede(old, run)
            del self._runs[attempt], self._logged[attempt]
            self._entries.popleft()
        for attempt in list(self._rows):
            rows = self._rows[attempt]
            self.store.log(self._run(attempt).run_id, measured(rows))
            self._logged[attempt] |= {moment(row) for row in rows}
            del self._rows[attempt]

    def _run(self, attempt: Attempt) -> Run:
        """Return the run of a trial in training, creating it on its first sign of life."""
        key = attempt[0]
        if attempt not in self._runs:
            self._runs[attempt] = self.store.start(self.benchmark, key, self._provenance)
        run = self._runs[attempt]
        if attempt not in self._described:
            self.store.describe(run, self.benchmark.plan, key)
            self._described.add(attempt)
        return run


def recording(
    store: Store,
    plan: Plan,
    *,
    provenance: Mapping[str, Any],
    source: Mapping[str, str],
    fresh: bool = False,
) -> Recorder:
    """Open a plan's benchmark and return what records into it; call it under the store's lock.

    Parameters
    ----------
    provenance : of this session
    source : text of each of the experiment's own modules
    fresh : begin it anew, whatever is recorded
    """
    benchmark = store.begin(plan, provenance=provenance, source=source, fresh=fresh)
    return Recorder(store, benchmark, provenance)


def moment(row: Mapping[str, float]) -> Moment:
    """Return what tells one logged epoch from another of the same run."""
    return row["epoch"], row["time"]


def written(store: Store, entry: Entry, run: Run, logged: Container[Moment] = ()) -> str | None:
    """Write an entry and forget it; one that the store will never take is set aside.

    Parameters
    ----------
    logged : rows of its history that the store has already; to compare each with what is there
        takes MLflow five times as long as to write it

    Returns
    -------
    what was set aside, and why, or None where it is written
    """
    try:
        if not entry.is_whole:
            raise StoreRefuses("its files are gone or changed on this disk.")
        write(store, entry, run, logged)
    except StoreRefuses as trouble:
        store.end(run.run_id, "FAILED")
        place = spool.set_aside(entry) if entry.folder.exists() else entry.folder
        why = " ".join((trouble.facts or (trouble.what,))[:1])
        whose = f"the result of {entry.key.title}"
        return f"{whose}, cannot be recorded and is kept in {place}: {why}"
    entry.forget()
    return None


def write(store: Store, entry: Entry, run: Run, logged: Container[Moment] = ()) -> None:
    """Write artifacts, history, tags and, last of all, the status; idempotent."""
    store.put(run, entry.files)
    stamp = int(entry.ended_at * 1000)
    scores = [(name, value, stamp, 0) for name, value in entry.scores.items()]
    tags = {**entry.tags, "bench.entry": entry.name}
    left = measured(row for row in entry.epochs if moment(row) not in logged)
    store.log(run.run_id, [*left, *scores], tags=tags)
    store.end(run.run_id, entry.status)


def recover(store: Store, benchmark: Benchmark, entries: Iterable[Entry]) -> None:
    """Write what a process that died had finished; call it under the benchmark's lock."""
    children = store.children(benchmark)
    there = {
        child.run.tags.get("bench.entry")
        for runs in children.values()
        for child in runs
        if child.status in ("FINISHED", "FAILED")
    }
    for entry in entries:
        if entry.name not in there:
            old = store.settled(benchmark)[0].get(entry.key)
            run = store.start(benchmark, entry.key, {})
            store.describe(run, benchmark.plan, entry.key)
            refused = written(store, entry, run)
            if refused is not None:
                tell(f"note: {refused}")
            elif entry.status == "FINISHED" and old is not None:
                store.supersede(old, run)
        else:
            entry.forget()


def measured(epochs: Iterable[Mapping[str, float]]) -> list[Measured]:
    """Return what epochs measured as the store takes it: name, value, milliseconds, epoch."""
    return [
        (name, value, int(row["time"] * 1000), int(row["epoch"]))
        for row in epochs
        for name, value in row.items()
        if name not in ("epoch", "time")
    ]


def unsaved(place: Path, key: TrialKey, error: OSError) -> Refusal:
    """Return the refusal for a result that the disk did not take."""
    whose = key.title
    harm = "No finished run was harmed; this one is trained again."
    again = "then the same command: it goes on where it stopped"
    if is_disk_full(error):
        free = f"Free {free_bytes(place) / 2**30:.1f} GiB. {harm}"
        what = f"no space left in {place} while saving {whose}."
        return DiskFull(what, facts=[free], fix=f"free some space, {again}")
    what = f"{whose} could not be saved in {place}: {error.strerror or type(error).__name__}."
    return StoreTrouble(what, facts=[harm], fix=f"mend the disk, {again}")


def unread(place: Path, error: OSError) -> Refusal:
    """Return the refusal for finished results that the disk does not give back just now."""
    return StoreTrouble(
        f"what an earlier session finished cannot be read from {place}.",
        facts=[first_line(error), "It is kept there, and not trained again."],
        fix="mend the disk, then the same command: it goes on where it stopped",
    )
