"""Writes an MLflow store: one process a benchmark, from one thread of it."""

import errno
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag, ViewType

from bench.design.plan import Plan, TrialKey
from bench.store import artifacts, run_folder, spool, sqlite
from bench.store.address import StoreRefuses, StoreTrouble, first_line, redacted
from bench.store.artifacts import Damaged
from bench.store.locks import Locked, now
from bench.store.mlflow_reader import SOURCE, Gone, Reader, refusal, run_of
from bench.store.names import storable
from bench.store.records import SEQUENCE, digest_tag, frozen, gone_on_with, sequence_of
from bench.store.runs import Benchmark, Measured, Run
from bench.store.spool import RunStatus
from bench.store.writer import recover, unread
from bench.terminal import tell


class Store(Reader):
    """An MLflow tracking store: a local SQLite file or a server; see `Reader` and `base.Store`."""

    def _recover(self) -> None:
        """Write what processes that died left in `pending`; who runs a benchmark does so itself.

        What cannot be read from this disk just now stays where it is.
        """
        pending = self.state / "pending"
        for place in sorted(pending.iterdir()) if pending.is_dir() else ():
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
                run = self._run(run_id)
            except Gone:
                _set_aside(entries)
                continue
            if not run.deleted:  # else it may be restored in MLflow
                with suppress(Damaged):  # said wherever the benchmark itself is asked for
                    recover(self, self._benchmark(run), entries)

    # -- writing ---------------------------------------------------------------------------

    def begin(
        self,
        plan: Plan,
        *,
        provenance: Mapping[str, Any],
        source: Mapping[str, str],
        fresh: bool = False,
    ) -> Benchmark:
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
        return benchmark

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
        run = run_of(self.client.create_run(experiment_id, tags=tags, run_name=run_name))
        self._put(run, {SOURCE: json.dumps(dict(source), indent=1)})
        params = {
            "arms": ", ".join(plan.arms),
            "metric": plan.metric,
            "margin": plan.margin,
            "claim": plan.claim,
        }
        self.client.log_batch(run.run_id, params=_params(params))
        self.client.log_inputs(run.run_id, [_dataset(plan)])
        return self._freeze(run, plan, (frozen(plan),), version=1)

    def _next_in_sequence(self) -> str:
        """Count on from the latest benchmark of this store, whatever the clock says."""
        ids = [e.experiment_id for e in self._experiments()]
        runs = self._search(ids, "tags.`bench.kind` = 'benchmark'", ViewType.ALL)
        return str(1 + max(map(sequence_of, runs), default=0))

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
        merged, events = gone_on_with(found, plan, self.settled(found)[0])
        run = self._run(found.run_id)
        self.client.update_run(found.run_id, status="RUNNING")
        self.client.set_tag(found.run_id, "bench.active_at", str(time.time()))
        self.client.set_tag(found.run_id, SEQUENCE, self._next_in_sequence())
        if len(events) == len(found.events):
            return replace(found, plan=merged)
        version = int(run.tags["bench.plan_version"]) + 1
        return self._freeze(run, merged, events, version=version)

    def note(self, benchmark: Benchmark, event: Mapping[str, Any]) -> Benchmark:
        """Record what happened to a plan while it was trained, as a new version of it."""
        run = self._run(benchmark.run_id)
        version = int(run.tags["bench.plan_version"]) + 1
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
        stored = self._benchmark(self._run(run.run_id))
        return replace(stored, plan=plan)  # JSON knows no tuples; trainings get what was typed

    def end_orphans(self, benchmark: Benchmark) -> None:
        """End the runs of a process that died: under the lock nobody else can be training."""
        parent = f"tags.`mlflow.parentRunId` = '{benchmark.run_id}'"
        where = f"{parent} and attributes.status = 'RUNNING'"
        for run in self._search([benchmark.experiment_id], where):
            self.end(run.run_id, "KILLED")

    def _add_provenance(self, benchmark: Benchmark, provenance: Mapping[str, Any]) -> None:
        run = self._run(benchmark.run_id)
        session = int(run.tags.get("bench.sessions", 0)) + 1
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
            self.put(run, Path(name))
        self.log(run.run_id, tags={**digests, **(tags or {})})

    def put(self, run: Run, folder: Path) -> None:
        """Give a run the files of a folder."""
        root = sqlite.file_path(run.artifact_uri)
        if root is None:
            self.client.log_artifacts(run.run_id, str(folder))
            return
        try:
            artifacts.put(folder, root)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise StoreRefuses("a name is too long.", facts=[first_line(error)]) from error
            raise refusal(error, self.uri, self.folder) from error

    # What the recorder writes; each of these may be called again after it failed.

    def start(self, benchmark: Benchmark, key: TrialKey, provenance: Mapping[str, Any]) -> Run:
        """Create the run of a trial and return it."""
        tags = {
            "bench.kind": "trial",
            "bench.benchmark": benchmark.benchmark_id,
            "bench.trial": benchmark.plan.trial_digest(key),
            "mlflow.parentRunId": benchmark.run_id,
            **{name: str(part) for name, part in key.parts.items()},
            **_source_tags(provenance),
        }
        made = self.client.create_run(benchmark.experiment_id, tags=tags, run_name=key.run_name)
        return run_of(made)

    def describe(self, run: Run, plan: Plan, key: TrialKey) -> None:
        """Say what a run trains: arm, seed, settings, data."""
        params = {**key.parts, **plan.arms[key.arm]}
        self._batches(run.run_id, [], _params(params), {})
        self.client.log_inputs(run.run_id, [_dataset(plan)])

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

    def end(self, run_id: str, status: RunStatus) -> None:
        """Set the status of a run: the last thing that is written of it."""
        self.client.set_terminated(run_id, status)

    def settle(self) -> None:
        """Let the database's file alone hold everything, for whoever copies it."""
        if self.database is not None:
            sqlite.checkpoint(self.database)

    def _attach(self, benchmark: Benchmark, files: Mapping[str, str]) -> None:
        self._put(self._run(benchmark.run_id), files)

    def share_views(self, benchmark: Benchmark, views: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep states of the runs table where MLflow's own "share" button keeps them."""
        for key, state in views.items():
            tag = f"mlflow.sharedViewState.{key}"
            self.client.set_experiment_tag(benchmark.experiment_id, tag, json.dumps(state))


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


def _source_tags(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return what MLflow's own client would have recorded; `create_run` records almost nothing."""
    tags = {"mlflow.source.name": "bench run", "mlflow.source.type": "LOCAL"}
    if provenance.get("user"):
        tags["mlflow.user"] = str(provenance["user"])
    if provenance.get("commit"):
        tags["mlflow.source.git.commit"] = str(provenance["commit"])
        tags["mlflow.source.git.dirty"] = str(bool(provenance.get("dirty"))).lower()
    return tags
