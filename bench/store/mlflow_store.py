"""Tracking: the MLflow store, written by the parent alone and read back as tables."""

import errno
import json
import logging
import os
import shlex
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # stdout is the result
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # we try again ourselves
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    Experiment,
    InputTag,
    Metric,
    Param,
    Run,
    RunTag,
    ViewType,
)
from mlflow.exceptions import MlflowException

from bench.analysis.data.tables import Tables
from bench.analysis.errors import DiskFull, Refusal, is_disk_full
from bench.design.loading import unknown
from bench.design.plan import Plan, TrialKey, varied_settings
from bench.store import artifacts, run_folder, spool, sqlite
from bench.store.address import (
    StoreAway,
    StoreRefuses,
    StoreTrouble,
    address,
    database_of,
    first_line,
    redacted,
    state_folder,
)
from bench.store.artifacts import Damaged
from bench.store.locks import Locked, Locks, now
from bench.store.names import storable
from bench.store.records import (
    REPLACES,
    SEQUENCE,
    SUPERSEDED,
    Benchmark,
    Child,
    Locate,
    Unreadable,
    benchmark_of,
    complete_seeds,
    current_of,
    digest_tag,
    facts_of,
    goes_on,
    in_order,
    key_of,
    order,
    recorded,
    sequence_of,
    tables_of,
    text_of,
    unreadable,
)
from bench.store.spool import RunStatus
from bench.store.writer import Measured, Recorder, recover, unread
from bench.terminal import tell

for _name in ("mlflow", "alembic"):  # what goes wrong in them is raised, and told once
    logging.getLogger(_name).setLevel(logging.CRITICAL)


FOR_GOOD = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "REQUEST_LIMIT_EXCEEDED")
SOURCE = "source.json"  # what a benchmark was begun with


class NothingRecorded(Refusal):
    """A store without the benchmark that was asked for."""

    code = "experiment"
    exit_status = 2


class _Gone(StoreTrouble):
    """A run that is no longer in the store."""


class _Client:
    """MLflow's client; what goes wrong in it comes out as a refusal."""

    def __init__(self, uri: str, place: Path) -> None:
        self._uri, self._place = uri, place
        self._client = MlflowClient(tracking_uri=sqlite.mlflow_uri(uri))

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **named: Any) -> Any:
            try:
                try:
                    return method(*args, **named)
                except MlflowException as error:
                    if "IntegrityError" not in str(error):
                        raise
                    return method(*args, **named)  # another process wrote the same row just then
            except (MlflowException, OSError) as error:
                raise _refusal(error, self._uri, self._place) from error

        return call


def _refusal(error: Exception, uri: str, place: Path) -> Refusal:
    """Tell a store that is away for now from one that is full, and both from other trouble."""
    said, shown = first_line(error), redacted(uri)
    locked = "database is locked" in str(error)  # not always in its first line
    nothing_free = "disk I/O error" in str(error) and sqlite.free_bytes(place) < 2**16
    if is_disk_full(error) or nothing_free:
        return DiskFull(
            f"no space left for the store {shown}.",
            facts=[f"{said}", "No finished run was harmed."],
            fix="free some space, then the same command: it goes on where it stopped",
        )
    local = database_of(uri) is not None
    if isinstance(error, MlflowException):
        status = int(error.get_http_status_code())
    else:  # of requests: a server that cannot be reached has no answer to ask for its status
        status = getattr(getattr(error, "response", None), "status_code", 503)
    if locked or (not local and (status >= 500 or status == 429)):
        return StoreAway(
            f"the store {shown} does not answer.",
            facts=["Its database is locked by another program." if locked else said],
            fix="the same command once more, when it does",
        )
    code = str(getattr(error, "error_code", ""))
    kinds = {"RESOURCE_DOES_NOT_EXIST": _Gone, **dict.fromkeys(FOR_GOOD, StoreRefuses)}
    return kinds.get(code, StoreTrouble)(
        f"the store {shown} could not be used.",
        facts=[said, "What was recorded in it is kept."],
        fix="mend the store, then the same command: it goes on where it stopped",
    )


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
        self.uri = address(uri)
        self.database = database_of(self.uri)
        self.folder = self.database.parent if self.database else Path("mlruns").absolute()
        state = state_folder(self.uri)
        self.locks = Locks(state / "locks")
        self._pending = state / "pending"
        self.moved_from: Path | None = None
        try:
            if self.database is not None:
                lock = self.locks.folder / "store.lock"
                self.moved_from = sqlite.prepare(self.database, _make_tables, lock)
            self.client = _Client(self.uri, self.folder)
            self.client.search_experiments(max_results=1)
        except Refusal:
            raise
        except Exception as error:
            if is_disk_full(error) or "database is locked" in str(error):
                raise _refusal(error, self.uri, self.folder) from error
            raise StoreTrouble(
                f"the store {redacted(self.uri)} cannot be opened.",
                facts=[first_line(error)],
                fix=self._other_schema() or "--store sqlite:///FILE, in a folder you may write to",
            ) from error
        self._opened = sqlite.identity(self.database) if self.database else None

    def _other_schema(self) -> str | None:
        """Return how to mend a database that another version of MLflow has made."""
        found = sqlite.schema(self.database) if self.database else None
        if self.database is None or found is None:
            return None
        folder = Path(metadata.distribution("mlflow").locate_file("mlflow"))  # type: ignore[arg-type]
        known = (folder / "store" / "db_migrations" / "versions").glob(f"{found}_*.py")
        if not any(known):  # of a newer one
            return "pip install --upgrade mlflow, then the same command"
        upgrade = f"mlflow db upgrade {shlex.quote(sqlite.mlflow_uri(self.uri))}"
        return f"cp {shlex.quote(str(self.database))}{{,.bak}} && {upgrade}, then the same command"

    def require_there(self) -> None:
        """See that the database is still the file that was opened.

        Raises
        ------
        StoreTrouble : it was deleted, or another one took its place
        """
        if self.database is not None and sqlite.identity(self.database) != self._opened:
            raise StoreTrouble(
                f"{self.database} was deleted or replaced while it was in use.",
                facts=["What this session recorded in it is gone; the files of its runs are kept."],
                fix="restore the file, or the same command, which trains again what is missing",
            )

    # -- finding ---------------------------------------------------------------------------

    def recorded(self, name: str | None = None) -> list[Benchmark | Unreadable]:
        """Return the benchmarks, damaged or not, the one that was active last first.

        What a process that died had finished but not yet recorded is recorded now. Those in which
        one source of randomness varied alone are parts of another: see `families`.
        """
        every = self._recorded(name)
        return [b for b in every if isinstance(b, Unreadable) or not b.plan.vary]

    def benchmarks(self, name: str | None = None) -> list[Benchmark]:
        """Return the same, without those that are damaged."""
        return [b for b in self.recorded(name) if isinstance(b, Benchmark)]

    def families(self, benchmark: Benchmark) -> dict[str, Benchmark]:
        """Return the benchmarks in which one source of randomness varied alone, by the source."""
        return {
            other.plan.vary: other
            for other in reversed(self._recorded(benchmark.name))  # the latest is kept
            if isinstance(other, Benchmark)
            and other.plan.vary
            and replace(other.plan, vary="").benchmark_id == benchmark.benchmark_id
        }

    def _recorded(self, name: str | None) -> list[Benchmark | Unreadable]:
        self._recover()
        ids = [e.experiment_id for e in self._experiments(name)]
        runs = self._search(ids, "tags.`bench.kind` = 'benchmark'")
        return sorted(map(self._readable, runs), key=order, reverse=True)

    def benchmark(self, name: str | None = None, *, ask: str = "bench report") -> Benchmark:
        """Return the latest benchmark, of one experiment or of all.

        Parameters
        ----------
        name : of the experiment
        ask : what a name that is known would be typed after

        Raises
        ------
        NothingRecorded : there is none, or none of that name
        Damaged : it cannot be read; an earlier one would be another answer
        """
        for found in self.recorded(name):
            if isinstance(found, Unreadable):
                raise found.trouble
            return found
        known = sorted({b.name for b in self.benchmarks()}) if name else []
        if known and name:
            refusal = unknown(name, known)
            nearest = shlex.quote((refusal.fix or "").removeprefix("bench run "))
            raise NothingRecorded(refusal.what, facts=refusal.facts[:1], fix=f"{ask} {nearest}")
        raise NothingRecorded(
            f"nothing is recorded in {redacted(self.uri)} yet.", fix="bench run digits --seeds 20"
        )

    def find(self, benchmark_id: str, name: str) -> Benchmark | None:
        """Return the latest benchmark with this id."""
        runs = self._with_id(benchmark_id, name, ViewType.ACTIVE_ONLY)
        latest = max(runs, key=lambda r: (sequence_of(r), r.info.start_time), default=None)
        return None if latest is None else self._benchmark(latest)

    def was_deleted(self, benchmark_id: str, name: str) -> bool:
        """Tell whether a benchmark with this id was deleted in MLflow, and is still there."""
        return bool(self._with_id(benchmark_id, name, ViewType.DELETED_ONLY))

    def _with_id(self, benchmark_id: str, name: str, view: int) -> list[Run]:
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            return []
        where = f"tags.`bench.kind` = 'benchmark' and tags.`bench.benchmark` = '{benchmark_id}'"
        return self._search([experiment.experiment_id], where, view)

    def _search(
        self, experiment_ids: Sequence[str], where: str, view: int = ViewType.ACTIVE_ONLY
    ) -> list[Run]:
        runs: list[Run] = []
        token: str | None = None
        while experiment_ids:
            page = self.client.search_runs(list(experiment_ids), where, view, page_token=token)
            runs += page
            token = page.token
            if not token:
                break
        return runs

    def _experiments(self, name: str | None = None) -> list[Experiment]:
        """Return all experiments of the store, or the one of a name; not those deleted."""
        if name is not None:
            found = self.client.get_experiment_by_name(name)
            return [found] if found is not None and found.lifecycle_stage == "active" else []
        experiments: list[Experiment] = []
        token: str | None = None
        while True:
            page = self.client.search_experiments(max_results=1000, page_token=token)
            experiments += page
            token = page.token
            if not token:
                return experiments

    def _benchmark(self, run: Run) -> Benchmark:
        with self._files() as locate:
            return benchmark_of(run, locate)

    def _readable(self, run: Run) -> Benchmark | Unreadable:
        try:
            return self._benchmark(run)
        except Damaged as trouble:
            return unreadable(run, trouble)

    def children(self, benchmark: Benchmark) -> dict[TrialKey, list[Child]]:
        """Return every run of every trial, oldest first; not those deleted in MLflow."""
        everything = self._every_child(benchmark).items()
        active = {key: [c for c in runs if not c.deleted] for key, runs in everything}
        return {key: runs for key, runs in active.items() if runs}

    def _every_child(self, benchmark: Benchmark) -> dict[TrialKey, list[Child]]:
        where = f"tags.`mlflow.parentRunId` = '{benchmark.run_id}'"
        found: dict[TrialKey, list[Child]] = defaultdict(list)
        for run in self._search([benchmark.experiment_id], where, ViewType.ALL):
            if run.data.tags.get("bench.kind") != "trial":
                continue
            try:
                key = key_of(run)
            except Damaged:
                if run.info.lifecycle_stage == "active":
                    raise
                continue  # it was deleted for that
            found[key].append(Child(key, run))
        return defaultdict(list, {key: in_order(runs) for key, runs in found.items()})

    def trial_states(self, benchmark: Benchmark) -> dict[TrialKey, str]:
        """Return finished, failed or running for every trial with a run that counts."""
        current = {key: current_of(runs) for key, runs in self.children(benchmark).items()}
        return {key: c.status.lower() for key, c in current.items() if c is not None}

    # -- one process at a time -------------------------------------------------------------

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
        return self._pending / benchmark_id[:32]

    def folders_of(self, benchmark_id: str) -> Path:
        """Return where the runs of a benchmark have folders of their own while they train."""
        return self._pending.with_name("folders") / benchmark_id[:32]

    def _recover(self) -> None:
        """Write what processes that died left in `pending`; who runs a benchmark does so itself.

        What cannot be read from this disk just now stays where it is.
        """
        for place in sorted(self._pending.iterdir()) if self._pending.is_dir() else ():
            with suppress(Locked, OSError):
                if any(place.iterdir()):
                    with self.locks.hold(place.name, "it"):
                        self._write_pending(place)

    def _write_pending(self, place: Path) -> None:
        """Write what waits there; what belongs to a damaged or deleted benchmark waits on."""
        by_parent: dict[str, list[spool.Entry]] = defaultdict(list)
        for entry in spool.waiting(place):
            by_parent[entry.parent].append(entry)
        for run_id, entries in by_parent.items():
            try:
                run = self.client.get_run(run_id)
            except _Gone:
                _set_aside(entries)
                continue
            if run.info.lifecycle_stage == "active":  # else it may be restored in MLflow
                with suppress(Damaged):  # said wherever the benchmark itself is asked for
                    recover(self, self._benchmark(run), entries)

    # -- reading ---------------------------------------------------------------------------

    def tables(self, benchmark: Benchmark) -> Tables:
        """Read a benchmark back as tidy tables, checking every prediction's digest.

        Raises
        ------
        Damaged : something is not what was recorded; names all such runs
        """
        with self._files() as locate:
            every = self._every_child(benchmark)
            return tables_of(benchmark, every, locate, lambda: self.again(benchmark))

    def again(self, benchmark: Benchmark) -> list[str]:
        """Return the words of the command that goes on with a benchmark: what was typed last."""
        try:
            sessions = self.provenance(benchmark)
        except Damaged:
            sessions = []
        return goes_on(benchmark, str(sessions[-1].get("command") or "") if sessions else "")

    def foreign_runs(self, experiment: str) -> pd.DataFrame:
        """Return another project's finished runs: params.*, tags.* and metrics.*, a row each.

        Raises
        ------
        NothingRecorded : no such experiment, or no finished run in it
        """
        found = self.client.get_experiment_by_name(experiment)
        if found is None:
            names = [e.name for e in self._experiments()]
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
        try:
            count = int(run.data.tags.get("bench.sessions", 0))
            names = [f"provenance/{i + 1:04d}.json" for i in range(count)]
            with self._files() as locate:
                return [facts_of(json.loads(text_of(run, name, locate))) for name in names]
        except (TypeError, ValueError) as error:
            raise Damaged(
                f"the stored provenance of {benchmark.name} cannot be read.",
                facts=[first_line(error)],
                fix="restore its provenance/*.json and tags",
            ) from error

    @contextmanager
    def _files(self) -> Iterator[Locate]:
        """Give what finds an artifact on this disk; what a server sent is removed at the end."""
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            yield lambda run, artifact: self._local(run, artifact, folder)

    def _local(self, run: Run, artifact: str, folder: str) -> Path:
        """Return a local file with an artifact's bytes; a server's is downloaded to the folder."""
        root = sqlite.file_path(run.info.artifact_uri)
        if root is not None:
            path = root / artifact
            if not path.is_file():
                raise FileNotFoundError(path)
            return path
        try:
            return Path(self.client.download_artifacts(run.info.run_id, artifact, folder))
        except StoreAway:
            raise
        except Refusal as error:
            raise FileNotFoundError(artifact) from error

    # -- writing ---------------------------------------------------------------------------

    def begin(
        self,
        plan: Plan,
        *,
        provenance: Mapping[str, Any],
        source: Mapping[str, str],
        fresh: bool = False,
    ) -> Recorder:
        """Open a plan's benchmark for writing, or go on with it. Call it under `lock`.

        Raises
        ------
        StoreTrouble : what an earlier session finished is on this disk, but cannot be read
        """
        place = self.pending_of(plan.benchmark_id)
        try:
            self._write_pending(place)
        except OSError as error:
            raise unread(place, error) from error
        found = None if fresh else self.find(plan.benchmark_id, plan.experiment)
        benchmark = self._update(found, plan) if found else self._create(plan, source, provenance)
        self.end_orphans(benchmark)
        run_folder.tidy(self.folders_of(plan.benchmark_id))
        self._add_provenance(benchmark, provenance)
        finished, diverged = self._settled(benchmark)
        return Recorder(self, benchmark, provenance, finished, diverged)

    def _create(
        self, plan: Plan, source: Mapping[str, str], provenance: Mapping[str, Any]
    ) -> Benchmark:
        experiment_id = self._experiment(plan)
        tags = {
            "bench.benchmark": plan.benchmark_id,
            "bench.plan": plan.hash,
            "bench.active_at": str(time.time()),
            SEQUENCE: self._next_in_sequence(),
            "mlflow.note.content": storable(plan.question),
            **_source_tags(provenance),
        }
        run_name = f"{plan.experiment} {plan.benchmark_id[:7]}"
        run = self.client.create_run(experiment_id, tags=tags, run_name=run_name)
        self._put(run, {SOURCE: json.dumps(dict(source), indent=1)})
        params = {
            "arms": ", ".join(plan.arms),
            "metric": plan.metric,
            "margin": plan.margin,
            "claim": plan.claim,
        }
        self.client.log_batch(run.info.run_id, params=_params(params))
        self.client.log_inputs(run.info.run_id, [_dataset(plan)])
        event = {"at": now(), "event": "frozen", "pairs_finished": 0, **_judged(plan)}
        return self._freeze(run, plan, (event,), version=1)

    def _next_in_sequence(self) -> str:
        """Count on from the latest benchmark of this store, whatever the clock says."""
        ids = [e.experiment_id for e in self._experiments()]
        runs = self._search(ids, "tags.`bench.kind` = 'benchmark'", ViewType.ALL)
        return str(1 + max(map(sequence_of, runs), default=0))

    def source(self, benchmark: Benchmark) -> dict[str, str]:
        """Return the texts of the modules that a benchmark was begun with, by their path.

        Raises
        ------
        Damaged : they are not what was recorded
        """
        with self._files() as locate:
            run = self.client.get_run(benchmark.run_id)
            if digest_tag(SOURCE) not in run.data.tags:  # of an earlier version of bench
                return {}
            return dict(json.loads(text_of(run, SOURCE, locate)))

    def _experiment(self, plan: Plan) -> str:
        """Return the experiment of a plan, made or restored if need be."""
        found = self.client.get_experiment_by_name(plan.experiment)
        if found is None:
            location = self.database and sqlite.artifact_folder(
                self.database, plan.experiment, plan.benchmark_id
            )
            try:
                uri = location and location.as_uri()
                return str(self.client.create_experiment(plan.experiment, uri))
            except StoreTrouble:
                found = self.client.get_experiment_by_name(plan.experiment)
                if found is None:  # else another plan's process was faster
                    raise
        if found.lifecycle_stage != "active":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _update(self, found: Benchmark, plan: Plan) -> Benchmark:
        """Go on with a benchmark: its seeds may grow, its analysis may change; both are noted."""
        pairs = len(complete_seeds(found.plan, self.finished(found)))
        merged = plan.in_batches(found.plan.batches).with_seeds(plan.seeds)
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
        self.client.set_tag(found.run_id, SEQUENCE, self._next_in_sequence())
        if len(events) == len(found.events):
            return replace(found, plan=merged)
        version = int(run.data.tags["bench.plan_version"]) + 1
        return self._freeze(run, merged, tuple(events), version=version)

    def note(self, benchmark: Benchmark, event: Mapping[str, Any]) -> Benchmark:
        """Record what happened to a plan while it was trained, as a new version of it."""
        run = self.client.get_run(benchmark.run_id)
        version = int(run.data.tags["bench.plan_version"]) + 1
        events = (*benchmark.events, {"at": now(), **event})
        return self._freeze(run, benchmark.plan, events, version=version)

    def _freeze(
        self, run: Run, plan: Plan, events: tuple[dict[str, Any], ...], *, version: int
    ) -> Benchmark:
        """Write the plan as a new version; older ones stay."""
        record = {"plan": plan.as_dict(), "events": events}
        text = json.dumps(record, indent=1, default=str)  # as the digests read the data's facts
        tags = {
            "bench.kind": "benchmark",  # from here on it can be found
            "bench.plan": plan.hash,
            "bench.plan_version": str(version),
        }
        self._put(run, {f"plan/{version:04d}.json": text}, tags=tags)
        stored = self._benchmark(self.client.get_run(run.info.run_id))
        return replace(stored, plan=plan)  # JSON knows no tuples; trainings get what was typed

    def finished(self, benchmark: Benchmark) -> dict[TrialKey, Child]:
        """Return the trials that need no training."""
        return self._settled(benchmark)[0]

    def diverged(self, benchmark: Benchmark) -> set[TrialKey]:
        """Return the trials whose latest word is a loss that became NaN."""
        return self._settled(benchmark)[1]

    def _settled(self, benchmark: Benchmark) -> tuple[dict[TrialKey, Child], set[TrialKey]]:
        found = {key: current_of(runs) for key, runs in self.children(benchmark).items()}
        current = {key: child for key, child in found.items() if child is not None}
        return (
            {key: child for key, child in current.items() if child.status == "FINISHED"},
            {k for k, c in current.items() if c.run.data.tags.get("bench.failure") == "nan"},
        )

    def late_modules(self, benchmark: Benchmark) -> dict[str, str]:
        """Return the digests of what trainings loaded by themselves, of one run an arm."""
        late: dict[str, str] = {}
        latest = {key.arm: child for key, child in self.finished(benchmark).items()}
        with self._files() as locate, suppress(Damaged):  # the report says so
            for child in latest.values():
                facts = recorded(child, benchmark, locate).outcome.get("facts", {})
                late |= facts.get("late_modules", {})
        return late

    def end_orphans(self, benchmark: Benchmark) -> None:
        """End the runs of a process that died: under the lock nobody else can be training."""
        parent = f"tags.`mlflow.parentRunId` = '{benchmark.run_id}'"
        where = f"{parent} and attributes.status = 'RUNNING'"
        for run in self._search([benchmark.experiment_id], where):
            self.end(run.info.run_id, "KILLED")

    def _add_provenance(self, benchmark: Benchmark, provenance: Mapping[str, Any]) -> None:
        run = self.client.get_run(benchmark.run_id)
        session = int(run.data.tags.get("bench.sessions", 0)) + 1
        text = json.dumps(dict(provenance), indent=1, default=str)
        files = {f"provenance/{session:04d}.json": text}
        self._put(run, files, tags={"bench.sessions": str(session)})

    def _put(
        self, run: Run, files: Mapping[str, str], tags: Mapping[str, str] | None = None
    ) -> None:
        """Write texts of the parent run, their digests, and then the tags that point to them."""
        digests = {}
        with tempfile.TemporaryDirectory() as name:
            for artifact, text in files.items():
                path = Path(name) / artifact
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(storable(text), "utf-8")
                digests[digest_tag(artifact)] = artifacts.sha256(path)
            self._put_files(run, Path(name))
        self.log(run.info.run_id, tags={**digests, **(tags or {})})

    def _put_files(self, run: Run, folder: Path) -> None:
        root = sqlite.file_path(run.info.artifact_uri)
        if root is None:
            self.client.log_artifacts(run.info.run_id, str(folder))
            return
        try:
            artifacts.put(folder, root)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise StoreRefuses("a name is too long.", facts=[first_line(error)]) from error
            raise _refusal(error, self.uri, self.folder) from error

    # What the recorder writes; each of these may be called again after it failed.

    def start(self, benchmark: Benchmark, key: TrialKey, provenance: Mapping[str, Any]) -> Run:
        """Create the run of a trial and return it."""
        tags = {
            "bench.kind": "trial",
            "bench.benchmark": benchmark.benchmark_id,
            "bench.trial": benchmark.plan.trial_digest(key),
            "mlflow.parentRunId": benchmark.run_id,
            "arm": key.arm,
            "seed": str(key.seed),
            **_source_tags(provenance),
        }
        return self.client.create_run(benchmark.experiment_id, tags=tags, run_name=key.run_name)

    def describe(self, run: Run, plan: Plan, key: TrialKey) -> None:
        """Say what a run trains: arm, seed, settings, data."""
        params = {"arm": key.arm, "seed": key.seed, **plan.arms[key.arm]}
        self._batches(run.info.run_id, [], _params(params), {})
        self.client.log_inputs(run.info.run_id, [_dataset(plan)])

    def log(
        self,
        run_id: str,
        metrics: Sequence[Measured] = (),
        *,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write metrics and tags of a run."""
        self._batches(run_id, [Metric(*item) for item in metrics], [], tags or {})

    def _batches(
        self,
        run_id: str,
        metrics: Sequence[Metric],
        params: Sequence[Param],
        tags: Mapping[str, str],
    ) -> None:
        """Write through `log_batch`, which takes 1,000 metrics and 100 params at a time."""
        for i in range(max(-(-len(metrics) // 800), -(-len(params) // 90), 1)):
            self.client.log_batch(
                run_id,
                metrics=metrics[800 * i : 800 * (i + 1)],
                params=params[90 * i : 90 * (i + 1)],
                tags=[RunTag(k, storable(v)) for k, v in tags.items()] if i == 0 else (),
                synchronous=True,  # whatever MLFLOW_ENABLE_ASYNC_LOGGING says
            )

    def put(self, run: Run, folder: Path) -> None:
        """Give a run the files of a folder."""
        self._put_files(run, folder)

    def end(self, run_id: str, status: RunStatus) -> None:
        """Set the status of a run: the last thing that is written of it."""
        self.client.set_terminated(run_id, status)

    def supersede(self, old: Child, new: Run) -> None:
        """Keep the run that --redo replaced, marked with the new one, once that is safe."""
        self.client.set_tag(new.info.run_id, REPLACES, old.run.info.run_id)
        self.client.set_tag(old.run.info.run_id, SUPERSEDED, new.info.run_id)

    def settle(self) -> None:
        """Let the database's file alone hold everything, for whoever copies it."""
        if self.database is not None:
            sqlite.checkpoint(self.database)

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
        stamp = int(time.time() * 1000)
        run_id = benchmark.run_id
        self._put(self.client.get_run(run_id), files)
        numbers = [(k, v, stamp, 0) for k, v in metrics.items() if v is not None]
        self.log(run_id, numbers, tags={**tags, "mlflow.note.content": note})
        self.settle()

    def share_views(self, benchmark: Benchmark, views: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep states of the runs table where MLflow's own "share" button keeps them."""
        for key, state in views.items():
            tag = f"mlflow.sharedViewState.{key}"
            self.client.set_experiment_tag(benchmark.experiment_id, tag, json.dumps(state))


def _make_tables(uri: str) -> None:
    MlflowClient(tracking_uri=uri).search_experiments(max_results=1)


def _set_aside(entries: Sequence[spool.Entry]) -> None:
    """Keep results whose benchmark is gone where no later command meets them, and say so."""
    for entry in entries:
        folder = spool.set_aside(entry)
    n = len(entries)
    tell(
        f"{n} finished {'run belongs' if n == 1 else 'runs belong'} to a benchmark that is no "
        f"longer in the store; kept in {folder}."
    )


def _params(values: Mapping[str, Any]) -> list[Param]:
    return [
        Param(str(k)[:250], storable(redacted(str(v)))[:5000])
        for k, v in values.items()
        if v is not None
    ]


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
