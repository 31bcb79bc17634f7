"""Tracking: the MLflow store, written by the parent alone and read back as tables."""

import json
import logging
import os
import queue
import re
import shlex
import socket
import sqlite3
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import unquote, urlparse

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")

import pandas as pd
from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from analysis.errors import Refusal
from analysis.metrics import METRICS, Predictions
from analysis.table import TRIAL_COLUMNS, Design, Split, Tables
from bench import artifacts
from bench.discover import unknown
from bench.plan import Plan, TrialKey, varied_settings
from bench.work import Result, Success

logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)

Attempt = tuple[TrialKey, int]  # a trial that is tried again gets a run of its own
FLUSH_S = 1.0  # epochs of all runs are collected this long, then one call a run
RunStatus = Literal["FINISHED", "FAILED", "KILLED"]


class StoreTrouble(Refusal):
    """A store that cannot be opened, read or written."""

    code = "store"
    exit_status = 4


class Locked(Refusal):
    """A benchmark that another process is running."""

    code = "benchmark-locked"
    exit_status = 4


class NothingRecorded(Refusal):
    """A store without the benchmark that was asked for."""

    code = "experiment"
    exit_status = 2


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
        judged = [event for event in self.events if event["event"] != "seeds added"]
        return self.plan.design(
            frozen_at=judged[-1]["at"],
            frozen_before_first_run=judged[-1]["pairs_finished"] == 0,
            analysis_changed_after_results=any(
                e["event"] == "analysis changed" and e["pairs_finished"] > 0 for e in judged
            ),
            looks=tuple(e["pairs_finished"] for e in self.events if e["event"] == "seeds added"),
        )


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
    def started(self) -> int:
        """Milliseconds since 1970."""
        return int(self.run.info.start_time)


def now() -> str:
    """Return this moment, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Store:
    """An MLflow tracking store: a local SQLite file or a server.

    Parameters
    ----------
    uri : what MLflow calls a tracking URI; None is $MLFLOW_TRACKING_URI, else
        sqlite:///mlruns/mlflow.db below the current folder

    Raises
    ------
    StoreTrouble : it cannot be opened
    """

    def __init__(self, uri: str | None = None) -> None:
        uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlruns/mlflow.db"
        self.database = sqlite_path(uri)
        self.uri = f"sqlite:///{self.database}" if self.database else uri
        if self.database is None and not re.match(r"https?://|[a-z]+(\+[a-z0-9]+)?://", uri):
            raise StoreTrouble(
                f'"{uri}" is not a store.',
                facts=["A store is sqlite:///FILE or the address of an MLflow server, http://…"],
                fix="--store sqlite:///mlruns/mlflow.db",
            )
        self.folder = self.database.parent if self.database else Path("mlruns").absolute()
        try:
            (self.folder / "locks").mkdir(parents=True, exist_ok=True)
            self.client = self._open()
        except Refusal:
            raise
        except Exception as error:
            raise StoreTrouble(
                f"the store {redacted(self.uri)} cannot be opened.",
                facts=[_first_line(error)],
                fix="--store sqlite:///FILE, in a folder you may write to",
            ) from error

    def _open(self) -> MlflowClient:
        if self.database is None:
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
            client = MlflowClient(tracking_uri=self.uri)
            client.search_experiments(max_results=1)
            return client
        if self.database.exists() and not _is_sqlite(self.database):
            raise StoreTrouble(
                f"{self.database} is not an SQLite database.",
                facts=["It was left as it is."],
                fix="--store sqlite:///another.db",
            )
        # Two processes that create the tables at once trip over each other.
        with FileLock(self.folder / "locks" / "store.lock"):
            fresh = not self.database.exists()
            client = MlflowClient(tracking_uri=self.uri)
            client.search_experiments(max_results=1)
            if fresh:
                with closing(sqlite3.connect(self.database)) as connection:
                    connection.execute("PRAGMA journal_mode=WAL")
        return client

    # -- finding ---------------------------------------------------------------------------

    def benchmarks(self, name: str | None = None) -> list[Benchmark]:
        """Return the recorded benchmarks, the one that was active last first."""
        experiments = self.client.search_experiments(max_results=1000)
        ids = [e.experiment_id for e in experiments if name is None or e.name == name]
        runs = self._search(ids, "tags.`bench.kind` = 'benchmark'")
        return sorted((self._benchmark(run) for run in runs), key=lambda b: -b.active_at)

    def benchmark(self, name: str | None = None) -> Benchmark:
        """Return the latest benchmark, of one experiment or of all.

        Raises
        ------
        NothingRecorded : there is none
        UnknownExperiment : there is none of that name
        """
        found = self.benchmarks(name)
        if found:
            return found[0]
        known = sorted({b.name for b in self.benchmarks()}) if name else []
        if known and name:
            refusal = unknown(name, known)
            nearest = (refusal.fix or "").removeprefix("bench run ")
            fix = shlex.join(["bench", "report", nearest])
            raise NothingRecorded(refusal.what, facts=refusal.facts[:1], fix=fix)
        raise NothingRecorded(
            f"nothing is recorded in {redacted(self.uri)} yet.", fix="bench run digits --seeds 20"
        )

    def find(self, benchmark_id: str, name: str) -> Benchmark | None:
        """Return the latest benchmark with this id."""
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            return None
        where = f"tags.`bench.kind` = 'benchmark' and tags.`bench.benchmark` = '{benchmark_id}'"
        runs = self._search([experiment.experiment_id], where)
        found = [self._benchmark(run) for run in runs]
        return max(found, key=lambda b: b.started_at, default=None)

    def _search(self, experiment_ids: Sequence[str], where: str) -> list[Run]:
        if not experiment_ids:
            return []
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self.client.search_runs(list(experiment_ids), where, page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs

    def _benchmark(self, run: Run) -> Benchmark:
        tags = run.data.tags
        record = json.loads(self._read(run, f"plan/{int(tags['bench.plan_version']):04d}.json"))
        return Benchmark(
            run_id=run.info.run_id,
            experiment_id=run.info.experiment_id,
            name=record["plan"]["experiment"],
            benchmark_id=tags["bench.benchmark"],
            started_at=run.info.start_time / 1000,
            active_at=float(tags.get("bench.active_at", 0)),
            plan=Plan.from_dict(record["plan"]),
            events=tuple(record["events"]),
            verdict=tags.get("bench.verdict"),
        )

    def children(self, benchmark: Benchmark) -> dict[TrialKey, list[Child]]:
        """Return every run of every trial, oldest first."""
        where = f"tags.`mlflow.parentRunId` = '{benchmark.run_id}'"
        found: dict[TrialKey, list[Child]] = defaultdict(list)
        for run in self._search([benchmark.experiment_id], where):
            tags = run.data.tags
            if tags.get("bench.kind") == "trial":
                key = TrialKey(tags["arm"], int(tags["seed"]))
                found[key].append(Child(key, run))
        for runs in found.values():
            runs.sort(key=lambda child: child.started)
        return found

    def trial_states(self, benchmark: Benchmark) -> dict[TrialKey, str]:
        """Return finished, failed or running for every trial with a run that counts."""
        current = {key: _current(runs) for key, runs in self.children(benchmark).items()}
        return {key: c.status.lower() for key, c in current.items() if c is not None}

    def holder(self, benchmark_id: str) -> dict[str, Any] | None:
        """Return who is running a benchmark on this machine, or None."""
        path = self._lock_path(benchmark_id)
        try:
            with FileLock(path, timeout=0):
                return None
        except Timeout:
            with suppress(OSError, ValueError):
                held: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
                return held
            return {"pid": 0, "host": "this machine", "since": "?"}

    def started_before(self, benchmark_id: str) -> bool:
        """Tell cheaply whether this benchmark was ever run from here."""
        return self._lock_path(benchmark_id).exists()

    def _lock_path(self, benchmark_id: str) -> Path:
        return self.folder / "locks" / f"{benchmark_id[:32]}.lock"

    @contextmanager
    def lock(self, plan: Plan) -> Iterator[None]:
        """Hold a benchmark for as long as this process runs it.

        Raises
        ------
        Locked : another process holds it; says which
        """
        lock = FileLock(self._lock_path(plan.benchmark_id))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            held = self.holder(plan.benchmark_id) or {}
            raise Locked(
                "this benchmark is being run by another process "
                f"(pid {held.get('pid')} on {held.get('host')}, since {held.get('since')}).",
                facts=["Other benchmarks may use the same store."],
                fix=f"bench status {plan.experiment}, and wait for it",
            ) from None
        try:
            holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": now()}
            self._lock_path(plan.benchmark_id).with_suffix(".json").write_text(json.dumps(holder))
            yield
        finally:
            lock.release()

    # -- reading ---------------------------------------------------------------------------

    def tables(self, benchmark: Benchmark) -> Tables:
        """Read a benchmark back as tidy tables, checking every prediction's digest.

        Raises
        ------
        Damaged : a file is not what was recorded
        """
        rows, epochs, scores = [], [], []
        predictions: dict[tuple[str, int, Split], Predictions] = {}
        for key, runs in self.children(benchmark).items():
            child = _current(runs)
            if child is None:
                continue
            files = self._files(child, benchmark.name)
            outcome = artifacts.read_outcome(files[artifacts.OUTCOME]) if files else {}
            rows.append(_trial_row(child, outcome, attempts=len(runs)))
            if artifacts.EPOCHS in files:
                table = pd.read_parquet(files[artifacts.EPOCHS])
                epochs.append(table.assign(arm=key.arm, seed=key.seed))
            if artifacts.PREDICTIONS in files:
                for split, item in artifacts.read_predictions(files[artifacts.PREDICTIONS]).items():
                    predictions[key.arm, key.seed, split] = item
            scores += [
                {"arm": key.arm, "seed": key.seed, "score": name, "value": value}
                for name, value in outcome.get("scores", {}).items()
            ]
        return Tables(
            trials=pd.DataFrame(rows, columns=[*TRIAL_COLUMNS, *_EXTRA_COLUMNS]),
            epochs=pd.concat(epochs, ignore_index=True) if epochs else _no_epochs(),
            scores=pd.DataFrame(scores, columns=["arm", "seed", "score", "value"]),
            predictions=predictions,
        )

    def _files(self, child: Child, name: str) -> dict[str, Path]:
        """Return the verified files of a finished run."""
        if child.status != "FINISHED":
            return {}
        key = child.key
        digests = json.loads(child.run.data.tags.get("bench.sha256", "{}"))
        found = {
            file: artifacts.verified(
                file,
                digests,
                lambda artifact: self._local(child.run, artifact),
                who=f"seed {key.seed:02d}, {key.arm},",
                fix=f"restore the file, or bench run {name} --redo {key.seed}:{key.arm}",
            )
            for file in (artifacts.OUTCOME, artifacts.EPOCHS, artifacts.PREDICTIONS)
        }
        return {file: path for file, path in found.items() if path is not None}

    def foreign_runs(self, experiment: str) -> pd.DataFrame:
        """Return another project's finished runs: params.*, tags.* and metrics.*, a row each.

        Raises
        ------
        NothingRecorded : no such experiment, or no finished run in it
        """
        found = self.client.get_experiment_by_name(experiment)
        if found is None:
            names = [e.name for e in self.client.search_experiments(max_results=1000)]
            refusal = unknown(experiment, names)
            raise NothingRecorded(refusal.what, facts=refusal.facts[:1], fix="mlflow:EXPERIMENT")
        rows = [
            {
                "run_id": run.info.run_id,
                **{f"params.{k}": v for k, v in run.data.params.items()},
                **{f"tags.{k}": v for k, v in run.data.tags.items() if not k.startswith("mlflow.")},
                **{f"metrics.{k}": v for k, v in run.data.metrics.items()},
            }
            for run in self._search([found.experiment_id], "attributes.status = 'FINISHED'")
        ]
        if not rows:
            raise NothingRecorded(f'experiment "{experiment}" has no finished run.')
        return pd.DataFrame(rows)

    def provenance(self, benchmark: Benchmark) -> list[dict[str, Any]]:
        """Return what was recorded about code, versions and machine, one entry a session."""
        run = self.client.get_run(benchmark.run_id)
        count = int(run.data.tags.get("bench.sessions", 0))
        return [json.loads(self._read(run, f"provenance/{i + 1:04d}.json")) for i in range(count)]

    def _read(self, run: Run, artifact: str) -> str:
        return self._local(run, artifact).read_text("utf-8")

    def _local(self, run: Run, artifact: str) -> Path:
        """Return a local file with an artifact's bytes; a server's is downloaded."""
        root = _file_path(run.info.artifact_uri)
        if root is not None:
            path = root / artifact
            if not path.exists():
                raise FileNotFoundError(path)
            return path
        try:
            return Path(self.client.download_artifacts(run.info.run_id, artifact))
        except (MlflowException, OSError) as error:
            raise FileNotFoundError(artifact) from error

    # -- writing ---------------------------------------------------------------------------

    def begin(
        self,
        plan: Plan,
        *,
        provenance: Mapping[str, Any],
        source: Mapping[str, str],
        fresh: bool = False,
    ) -> "Recorder":
        """Open a plan's benchmark for writing, or go on with it. Call it under `lock`."""
        try:
            found = None if fresh else self.find(plan.benchmark_id, plan.experiment)
            benchmark = (
                self._update(found, plan) if found else self._create(plan, source, provenance)
            )
            self._mark_orphans(benchmark)
            self._add_provenance(benchmark, provenance)
        except MlflowException as error:
            raise StoreTrouble(
                f"the store {redacted(self.uri)} refused to be written.", facts=[_first_line(error)]
            ) from error
        return Recorder(self, benchmark, provenance)

    def _create(
        self, plan: Plan, source: Mapping[str, str], provenance: Mapping[str, Any]
    ) -> Benchmark:
        experiment = self.client.get_experiment_by_name(plan.experiment)
        if experiment is None:
            location = None
            if self.database:
                folder = f"{_safe(plan.experiment)}-{plan.benchmark_id[:7]}"
                location = (self.folder / "artifacts" / folder).as_uri()
            experiment_id = self.client.create_experiment(plan.experiment, location)
        elif experiment.lifecycle_stage != "active":
            self.client.restore_experiment(experiment.experiment_id)
            experiment_id = experiment.experiment_id
        else:
            experiment_id = experiment.experiment_id
        tags = {
            "bench.kind": "benchmark",
            "bench.benchmark": plan.benchmark_id,
            "bench.plan": plan.hash,
            "bench.active_at": str(time.time()),
            "mlflow.note.content": plan.question,
            **_source_tags(provenance),
        }
        run_name = f"{plan.experiment} {plan.benchmark_id[:7]}"
        run = self.client.create_run(experiment_id, tags=tags, run_name=run_name)
        run_id = run.info.run_id
        self._put(run_id, {f"source/{_safe(name)}": text for name, text in source.items()})
        params = {
            "arms": ", ".join(plan.arms),
            "metric": plan.metric,
            "margin": plan.margin,
            "claim": plan.claim,
        }
        self.client.log_batch(run_id, params=_params(params))
        self.client.log_inputs(run_id, [_dataset(plan)])
        event = {"at": now(), "event": "frozen", "pairs_finished": 0, **_judged(plan)}
        return self._freeze(run, plan, (event,), version=1)

    def _update(self, found: Benchmark, plan: Plan) -> Benchmark:
        """Go on with a benchmark: its seeds may grow, its analysis may change; both are noted."""
        pairs = len(_complete_seeds(found.plan, self.finished(found)))
        merged = replace(plan, batches=found.plan.batches).with_seeds(plan.seeds)
        events = list(found.events)
        if merged.seeds != found.plan.seeds:
            events.append({"at": now(), "event": "seeds added", "pairs_finished": pairs})
        if merged.analysis() != found.plan.analysis():
            events.append(
                {"at": now(), "event": "analysis changed", "pairs_finished": pairs, **_judged(plan)}
            )
        run = self.client.get_run(found.run_id)
        self.client.update_run(found.run_id, status="RUNNING")
        self.client.set_tag(found.run_id, "bench.active_at", str(time.time()))
        if len(events) == len(found.events):
            return replace(found, plan=merged)
        version = int(run.data.tags["bench.plan_version"]) + 1
        return self._freeze(run, merged, tuple(events), version=version)

    def _freeze(
        self, run: Run, plan: Plan, events: tuple[dict[str, Any], ...], *, version: int
    ) -> Benchmark:
        """Write the plan as a new version; older ones stay."""
        record = {"plan": plan.as_dict(), "events": events}
        text = json.dumps(record, indent=1, default=str)  # as the digests read the data's facts
        self._put(run.info.run_id, {f"plan/{version:04d}.json": text})
        self.client.set_tag(run.info.run_id, "bench.plan", plan.hash)
        self.client.set_tag(run.info.run_id, "bench.plan_version", str(version))
        stored = self._benchmark(self.client.get_run(run.info.run_id))
        return replace(stored, plan=plan)  # JSON knows no tuples; trainings get what was typed

    def finished(self, benchmark: Benchmark) -> dict[TrialKey, Child]:
        """Return the trials that need no training."""
        current = {key: _current(runs) for key, runs in self.children(benchmark).items()}
        return {k: c for k, c in current.items() if c is not None and c.status == "FINISHED"}

    def diverged(self, benchmark: Benchmark) -> set[TrialKey]:
        """Return the trials whose latest word is a loss that became NaN."""
        current = {key: _current(runs) for key, runs in self.children(benchmark).items()}
        return {
            key
            for key, child in current.items()
            if child is not None and child.run.data.tags.get("bench.failure") == "nan"
        }

    def _mark_orphans(self, benchmark: Benchmark) -> None:
        """End the runs of a process that died: under the lock nobody else can be training."""
        for runs in self.children(benchmark).values():
            for child in runs:
                if child.status == "RUNNING":
                    self.client.set_terminated(child.run.info.run_id, "KILLED")

    def _add_provenance(self, benchmark: Benchmark, provenance: Mapping[str, Any]) -> None:
        tags = self.client.get_run(benchmark.run_id).data.tags
        session = int(tags.get("bench.sessions", 0)) + 1
        text = json.dumps(dict(provenance), indent=1, default=str)
        self._put(benchmark.run_id, {f"provenance/{session:04d}.json": text})
        self.client.set_tag(benchmark.run_id, "bench.sessions", str(session))

    def _put(self, run_id: str, files: Mapping[str, str]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, "utf-8")
            self.client.log_artifacts(run_id, folder)

    def publish(
        self,
        benchmark: Benchmark,
        *,
        files: Mapping[str, str],
        metrics: Mapping[str, float | None],
        tags: Mapping[str, str],
        note: str,
    ) -> None:
        """Put a report on the parent run, so that the runs table sorts by result."""
        self._put(benchmark.run_id, files)
        stamp = int(time.time() * 1000)
        self.client.log_batch(
            benchmark.run_id,
            metrics=[Metric(k, v, stamp, 0) for k, v in metrics.items() if v is not None],
            tags=[RunTag(k, v) for k, v in {**tags, "mlflow.note.content": note}.items()],
        )

    def share_views(self, benchmark: Benchmark, views: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep states of the runs table where MLflow's own "share" button keeps them."""
        try:
            for key, state in views.items():
                tag = f"mlflow.sharedViewState.{key}"
                self.client.set_experiment_tag(benchmark.experiment_id, tag, json.dumps(state))
        except MlflowException as error:
            raise StoreTrouble(
                f"the store {redacted(self.uri)} refused to be written.", facts=[_first_line(error)]
            ) from error


class Recorder:
    """Writes one benchmark from one background thread; nothing else writes while it lives."""

    def __init__(self, store: Store, benchmark: Benchmark, provenance: Mapping[str, Any]) -> None:
        self.store = store
        self.benchmark = benchmark
        self.finished = store.finished(benchmark)
        self.diverged = store.diverged(benchmark)
        self._client = store.client
        self._commit = str(provenance.get("commit") or "")
        self._source_tags = _source_tags(provenance)
        self._queue: queue.Queue[dict[str, Any] | Result | None] = queue.Queue()
        self._runs: dict[Attempt, str] = {}  # in training
        self._ended: set[Attempt] = set()  # a late message must not bring a run back to life
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._write, name="mlflow-writer", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close("FINISHED" if kind is None else "KILLED")

    def known_values(self, metric: str) -> dict[TrialKey, float]:
        """Return the recorded values of the plan's metric, for the progress display."""
        logged = metric if metric not in METRICS else f"test/{metric}"
        return {
            key: child.run.data.metrics[logged]
            for key, child in self.finished.items()
            if logged in child.run.data.metrics
        }

    def deliver(self, message: dict[str, Any]) -> None:
        """Take a worker's message (its next epoch); returns at once."""
        if message["type"] == "epoch":
            self._queue.put(message)

    def record(self, result: Result) -> None:
        """Take a finished or failed trial; returns at once."""
        self._queue.put(result)

    def check(self) -> None:
        """Raise what went wrong while writing, if anything did."""
        if self._error is not None:
            raise StoreTrouble(
                f"the store {redacted(self.store.uri)} could not be written.",
                facts=[_first_line(self._error), "Finished runs that were recorded are kept."],
                fix="mend the store, then the same command: it goes on where it stopped",
            ) from self._error

    def close(self, status: RunStatus = "FINISHED") -> None:
        """Write everything that was taken, then end the parent run."""
        self._queue.put(None)
        self._thread.join()
        with suppress(MlflowException):
            for run_id in self._runs.values():  # in training when we were stopped
                self._client.set_terminated(run_id, "KILLED")
            self._client.set_terminated(self.benchmark.run_id, status)
        if status == "FINISHED":
            self.check()

    def _write(self) -> None:
        """Collect for a second, write, repeat: live in the UI, at a few calls a second."""
        open_end = True
        while open_end:
            items = [self._queue.get()]
            deadline = time.monotonic() + FLUSH_S
            while items[-1] is not None and (left := deadline - time.monotonic()) > 0:
                with suppress(queue.Empty):
                    items.append(self._queue.get(timeout=left))
            open_end = items[-1] is not None
            if self._error is None:
                try:
                    self._flush([item for item in items if item is not None])
                except Exception as error:  # shown by the main thread's next `check`
                    self._error = error

    def _flush(self, items: Iterable[dict[str, Any] | Result]) -> None:
        rows: dict[Attempt, list[dict[str, float]]] = defaultdict(list)
        for item in items:
            if isinstance(item, dict):
                attempt = TrialKey(item["arm"], item["seed"]), int(item["attempt"])
                rows[attempt].append(item["row"])
                continue
            rows.pop((item.key, item.attempt), None)  # the whole history comes with the result
            self._finish(item)
        for attempt, epochs in rows.items():
            if attempt not in self._ended:
                self._batch(self._run(attempt), metrics=_metrics(epochs))

    def _run(self, attempt: Attempt) -> str:
        """Return the run of a trial in training, creating it on its first sign of life."""
        key = attempt[0]
        if attempt not in self._runs:
            plan = self.benchmark.plan
            tags = {
                "bench.kind": "trial",
                "bench.benchmark": plan.benchmark_id,
                "bench.trial": plan.trial_digest(key),
                "mlflow.parentRunId": self.benchmark.run_id,
                "arm": key.arm,
                "seed": str(key.seed),
                **self._source_tags,
            }
            run = self._client.create_run(
                self.benchmark.experiment_id, tags=tags, run_name=key.run_name
            )
            self._runs[attempt] = run.info.run_id
            params = {"arm": key.arm, "seed": key.seed, **plan.arms[key.arm]}
            self._batch(run.info.run_id, params=_params(params))
            self._client.log_inputs(run.info.run_id, [_dataset(plan)])
        return self._runs[attempt]

    def _finish(self, result: Result) -> None:
        """Write history, artifacts, tags and, last of all, the status."""
        attempt = result.key, result.attempt
        run_id = self._run(attempt)
        tags = {
            "bench.device": result.device,
            "bench.threads": str(result.threads),
            "bench.duration_s": repr(result.duration_s),
            "bench.environment": json.dumps(
                {**result.environment, "commit": self._commit}, sort_keys=True
            ),
        }
        metrics = _metrics(result.epochs)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            tags["bench.sha256"] = json.dumps(artifacts.write(folder, result))
            if isinstance(result, Success):
                stamp = int((result.started_at + result.duration_s) * 1000)
                scores = artifacts.final_scores(result)
                metrics += [Metric(name, value, stamp, 0) for name, value in scores.items()]
            else:
                tags |= {"bench.failure": result.code, "bench.reason": result.what[:4000]}
            if any(folder.iterdir()):
                self._client.log_artifacts(run_id, name)
        self._batch(run_id, metrics=metrics, tags=[RunTag(k, v) for k, v in tags.items()])
        status: RunStatus = "FINISHED" if isinstance(result, Success) else "FAILED"
        self._client.set_terminated(run_id, status)
        self._ended.add(attempt)
        del self._runs[attempt]
        if isinstance(result, Success):
            self._supersede(result.key)

    def _supersede(self, key: TrialKey) -> None:
        """Keep the run that --redo replaced, marked, once the new one is safe."""
        old = self.finished.get(key)
        if old is not None:
            self._client.set_tag(old.run.info.run_id, "bench.superseded", "true")

    def _batch(
        self,
        run_id: str,
        *,
        metrics: Sequence[Metric] = (),
        params: Sequence[Param] = (),
        tags: Sequence[RunTag] = (),
    ) -> None:
        """Write through `log_batch`, which takes 1,000 metrics and 100 params at a time."""
        for i in range(max(-(-len(metrics) // 800), -(-len(params) // 90), 1)):
            self._client.log_batch(
                run_id,
                metrics=metrics[800 * i : 800 * (i + 1)],
                params=params[90 * i : 90 * (i + 1)],
                tags=tags if i == 0 else (),
            )


# -- what a run holds ------------------------------------------------------------------------

_EXTRA_COLUMNS = (
    "code",
    "threads",
    "attempts",
    "selected_epoch",
    "facts",
    "logged_accuracy",
    "run_id",
)


def _current(runs: Sequence[Child]) -> Child | None:
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


def _metrics(epochs: Iterable[Mapping[str, float]]) -> list[Metric]:
    return [
        Metric(name, value, int(row["time"] * 1000), int(row["epoch"]))
        for row in epochs
        for name, value in row.items()
        if name not in ("epoch", "time")
    ]


def _params(values: Mapping[str, Any]) -> list[Param]:
    return [Param(str(k)[:250], str(v)[:5000]) for k, v in values.items() if v is not None]


def _dataset(plan: Plan) -> DatasetInput:
    facts = plan.data
    data = Dataset(
        name=str(facts.get("name", plan.experiment))[:500],
        digest=str(facts.get("digest", "not recorded"))[:36],
        source_type="local",
        source=json.dumps({"name": facts.get("name", plan.experiment)}),
        profile=json.dumps({k: v for k, v in facts.items() if isinstance(v, (int, float, str))}),
    )
    return DatasetInput(data, [InputTag("mlflow.data.context", "train, validation and test")])


def _judged(plan: Plan) -> dict[str, Any]:
    return {"analysis": plan.analysis(), "varied": varied_settings(plan.arms)}


def _source_tags(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return what MLflow's own client would have recorded; `create_run` records almost nothing."""
    tags = {"mlflow.source.name": "bench run", "mlflow.source.type": "LOCAL"}
    if provenance.get("user"):
        tags["mlflow.user"] = str(provenance["user"])
    if provenance.get("commit"):
        tags["mlflow.source.git.commit"] = str(provenance["commit"])
        tags["mlflow.source.git.dirty"] = str(bool(provenance.get("dirty"))).lower()
    return tags


def _complete_seeds(plan: Plan, finished: Mapping[TrialKey, Any]) -> list[int]:
    return [s for s in plan.seeds if all(TrialKey(arm, s) in finished for arm in plan.arms)]


# -- small things ----------------------------------------------------------------------------


def sqlite_path(uri: str) -> Path | None:
    """Return the file of an SQLite URI, absolute, or None for other stores."""
    match = re.fullmatch(r"sqlite:///(.+)", uri)
    return Path(match[1]).expanduser().absolute() if match else None


def redacted(uri: str) -> str:
    """Return a URI without the password it may hold."""
    return re.sub(r"(://[^:/@\s]*):[^/\s]*@", r"\1:…@", uri)


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as handle:
        return handle.read(16) in (b"SQLite format 3\x00", b"")


def _file_path(uri: str) -> Path | None:
    parsed = urlparse(uri)
    if parsed.scheme == "file":
        path = unquote(parsed.path)
        return Path(path.lstrip("/") if re.match(r"/[A-Za-z]:", path) else path)
    return Path(uri) if parsed.scheme == "" else None


def _safe(name: str) -> str:
    """Turn any name into a file name."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:80]
    return plain or "unnamed"


def _first_line(error: BaseException) -> str:
    text = redacted(str(error)).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:300] if text else 'no message'}"
