"""Reads an MLflow store: benchmarks, their runs, and both as tables."""

import json
import logging
import os
import shlex
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # stdout is the result
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # we try again ourselves
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from mlflow import MlflowClient
from mlflow.entities import Experiment, ViewType
from mlflow.exceptions import MlflowException

from bench.analysis.data.tables import Tables
from bench.analysis.errors import DiskFull, Refusal, is_disk_full
from bench.store import sqlite
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
from bench.store.base import Store
from bench.store.locks import Locks
from bench.store.records import (
    Locate,
    benchmark_of,
    digest_tag,
    facts_of,
    late_modules_of,
    no_experiment,
    order,
    sequence_of,
    started_ms,
    tables_of,
    text_of,
    unreadable,
)
from bench.store.runs import Benchmark, History, Run, Unreadable

for _name in ("mlflow", "alembic"):  # what goes wrong in them is raised, and told once
    logging.getLogger(_name).setLevel(logging.CRITICAL)


FOR_GOOD = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "REQUEST_LIMIT_EXCEEDED")
SOURCE = "source.json"  # what a benchmark was begun with


class Gone(StoreTrouble):
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
                raise refusal(error, self._uri, self._place) from error

        return call


def refusal(error: Exception, uri: str, place: Path) -> Refusal:
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
    kinds = {"RESOURCE_DOES_NOT_EXIST": Gone, **dict.fromkeys(FOR_GOOD, StoreRefuses)}
    return kinds.get(code, StoreTrouble)(
        f"the store {shown} could not be used.",
        facts=[said, "What was recorded in it is kept."],
        fix="mend the store, then the same command: it goes on where it stopped",
    )


def run_of(run: Any) -> Run:
    """Return a run of MLflow's as bench knows it."""
    return Run(
        run_id=run.info.run_id,
        name=str(run.info.run_name),
        experiment_id=run.info.experiment_id,
        status=str(run.info.status),
        started_ms=started_ms(run.info.start_time, run.info.run_id),
        deleted=run.info.lifecycle_stage != "active",
        artifact_uri=run.info.artifact_uri,
        tags=run.data.tags,
        metrics=run.data.metrics,
        params=run.data.params,
    )


class Reader(Store):
    """An MLflow tracking store, read: a local SQLite file or a server.

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
        self.state = state_folder(self.uri)
        self.locks = Locks(self.state / "locks")
        self.moved_from = None
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
                raise refusal(error, self.uri, self.folder) from error
            upgrade = self._other_schema()
            raise StoreTrouble(
                f"the store {redacted(self.uri)} cannot be opened.",
                facts=[first_line(error)],
                fix=upgrade or "name one in a folder you may write to:",
                options=[] if upgrade else [("store", "sqlite:///FILE")],
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

    def _recorded(self, name: str | None) -> list[Benchmark | Unreadable]:
        self._recover()
        ids = [e.experiment_id for e in self._experiments(name)]
        runs = self._search(ids, "tags.`bench.kind` = 'benchmark'")
        return sorted(map(self._readable, runs), key=order, reverse=True)

    def find(self, benchmark_id: str, name: str) -> Benchmark | None:
        """Return the latest benchmark with this id."""
        runs = self._with_id(benchmark_id, name, ViewType.ACTIVE_ONLY)
        latest = max(runs, key=lambda r: (sequence_of(r), r.started_ms), default=None)
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
        if not experiment_ids:
            return []
        search = partial(self.client.search_runs, list(experiment_ids), where, view)
        return [run_of(run) for run in _every_page(search)]

    def _run(self, run_id: str) -> Run:
        return run_of(self.client.get_run(run_id))

    def _experiments(self, name: str | None = None) -> list[Experiment]:
        """Return all experiments of the store, or the one of a name; not those deleted."""
        if name is not None:
            found = self.client.get_experiment_by_name(name)
            return [found] if found is not None and found.lifecycle_stage == "active" else []
        return list(_every_page(partial(self.client.search_experiments, max_results=1000)))

    def _benchmark(self, run: Run) -> Benchmark:
        with self._files() as locate:
            return benchmark_of(run, locate)

    def _readable(self, run: Run) -> Benchmark | Unreadable:
        try:
            return self._benchmark(run)
        except Damaged as trouble:
            return unreadable(run, trouble)

    def _trial_runs(self, benchmark: Benchmark) -> list[Run]:
        where = f"tags.`mlflow.parentRunId` = '{benchmark.run_id}'"
        runs = self._search([benchmark.experiment_id], where, ViewType.ALL)
        return [run for run in runs if run.tags.get("bench.kind") == "trial"]

    # -- reading ---------------------------------------------------------------------------

    def tables(self, benchmark: Benchmark) -> Tables:
        """Read a benchmark back as tidy tables, checking every prediction's digest.

        Raises
        ------
        Damaged : something is not what was recorded; names all such runs
        """
        with ExitStack() as stack:
            locate = stack.enter_context(self._files())
            every = self._every_child(benchmark)
            found = tables_of(benchmark, every, locate, lambda: self.again(benchmark))
            # What a server sent stays as long as it may still be read.
            weakref.finalize(found.predictions, stack.pop_all().close)
            return found

    def late_modules(self, benchmark: Benchmark) -> dict[str, str]:
        """Return the digests of what trainings loaded by themselves, of one run an arm."""
        with self._files() as locate:
            return late_modules_of(self.settled(benchmark)[0], benchmark, locate)

    def source(self, benchmark: Benchmark) -> dict[str, str]:
        """Return the texts of the modules that a benchmark was begun with, by their path.

        Raises
        ------
        Damaged : they are not what was recorded
        """
        with self._files() as locate:
            run = self._run(benchmark.run_id)
            if digest_tag(SOURCE) not in run.tags:  # of an earlier version of bench
                return {}
            return dict(json.loads(text_of(run, SOURCE, locate)))

    def provenance(self, benchmark: Benchmark) -> list[dict[str, Any]]:
        """Return what was recorded about code, versions and machine, one entry a session."""
        run = self._run(benchmark.run_id)
        try:
            count = int(run.tags.get("bench.sessions", 0))
            names = [f"provenance/{i + 1:04d}.json" for i in range(count)]
            with self._files() as locate:
                return [facts_of(json.loads(text_of(run, name, locate))) for name in names]
        except (TypeError, ValueError) as error:
            raise Damaged(
                f"the stored provenance of {benchmark.name} cannot be read.",
                facts=[first_line(error)],
                fix="restore its provenance/*.json and tags",
            ) from error

    def foreign_runs(self, experiment: str) -> list[Run]:
        """Return another project's runs, finished or not, each with the last of its metrics.

        Raises
        ------
        NothingRecorded : no such experiment
        """
        found = self.client.get_experiment_by_name(experiment)
        if found is None:
            raise no_experiment(experiment, [e.name for e in self._experiments()])
        return self._search([found.experiment_id], "")

    def history(self, run: Run) -> History:
        """Return every value of every metric of a run."""
        logged = {name: self.client.get_metric_history(run.run_id, name) for name in run.metrics}
        return {k: [(m.step, m.timestamp, m.value) for m in each] for k, each in logged.items()}

    @contextmanager
    def _files(self) -> Iterator[Locate]:
        """Give what finds an artifact on this disk; what a server sent is removed at the end."""
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            yield lambda run, artifact: self._local(run, artifact, folder)

    def _local(self, run: Run, artifact: str, folder: str) -> Path:
        """Return a local file with an artifact's bytes; a server's is downloaded to the folder."""
        root = sqlite.file_path(run.artifact_uri)
        if root is not None:
            path = root / artifact
            if not path.is_file():
                raise FileNotFoundError(path)
            return path
        own = Path(folder) / run.run_id  # files of two runs have the same names
        own.mkdir(exist_ok=True)
        try:
            return Path(self.client.download_artifacts(run.run_id, artifact, str(own)))
        except StoreAway:
            raise
        except Refusal as error:
            raise FileNotFoundError(artifact) from error

    def _recover(self) -> None:
        """Write what processes that died had finished; who only reads leaves it where it is."""


def _every_page(search: Callable[..., Any]) -> Iterator[Any]:
    token: str | None = None
    while token != "":
        page = search(page_token=token)
        yield from page
        token = page.token or ""


def _make_tables(uri: str) -> None:
    MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
