"""Tracking: what is in the MLflow store, when it is there, and that nothing is lost or doubled."""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.design.plan import Plan, TrialKey
from bench.design.results import Failure, Result, Success
from bench.display import status
from bench.experiment import Outcome, Predictions
from bench.reports.build import provenance_of
from bench.store import artifacts, spool, sqlite
from bench.store.address import StoreAway, StoreRefuses, StoreTrouble
from bench.store.artifacts import Damaged
from bench.store.locks import Locked
from bench.store.mlflow_store import Store
from bench.store.records import NothingRecorded
from bench.store.runs import Benchmark, Child, Unreadable
from bench.store.writer import recording

ARMS: dict[str, dict[str, Any]] = {
    "baseline": {"epsilon": 0.0, "lr": 0.1},
    "smoothed": {"epsilon": 0.1, "lr": 0.1},
}
LABELS = np.arange(6) % 2
NAMES = (f"experiment {i}" for i in range(10**6))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, copy_store: Callable[[Path], str]) -> Store:
    """Return one store for this file; every test has an experiment of its own in it."""
    return Store(copy_store(tmp_path_factory.mktemp("store")))


@pytest.fixture
def plan() -> Plan:
    """Return the plan of an experiment that no other test uses."""
    return Plan(
        experiment=next(NAMES),
        question="Does it help?",
        arms=ARMS,
        source_digest="s1",
        data={"name": "six numbers", "digest": "d1", "test_examples": 6},
        batches=((0, 1),),
        margin=0.01,
    )


def predictions(seed: int, arm: str) -> Predictions:
    z = np.random.default_rng([seed, len(arm)]).normal(size=6) + 2 * LABELS - 1
    return Predictions(np.stack([-np.logaddexp(0, z), -np.logaddexp(0, -z)], axis=1), LABELS)


def epoch_rows(n: int = 3, **more: float) -> list[dict[str, float]]:
    start = time.time()
    return [
        {"epoch": e, "time": start + e, "train/loss": 1 / (e + 1), "val/accuracy": 0.9, **more}
        for e in range(n)
    ]


def success(arm: str, seed: int, **changes: Any) -> Success:
    values: dict[str, Any] = {
        "key": TrialKey(arm, seed),
        "outcome": Outcome(
            test=predictions(seed, arm),
            test_last=predictions(seed + 100, arm),
            scores={"speed": 3.5},
            selected_epoch=1,
            facts={"images": 6},
        ),
        "epochs": epoch_rows(),
        "duration_s": 1.25,
        "started_at": time.time() - 2,
        "device": "cpu",
        "threads": 1,
        "log": "a printed line\n",
        "environment": {"python": "3.11"},
    }
    return Success(**{**values, **changes})


def failure(arm: str, seed: int, code: str = "training", **changes: Any) -> Failure:
    values: dict[str, Any] = {
        "key": TrialKey(arm, seed),
        "code": code,
        "what": "ValueError: no",
        "traceback": "Traceback\nValueError: no\n",
        "epochs": epoch_rows(2),
        "device": "cpu",
        "threads": 1,
    }
    return Failure(**{**values, **changes})


def session(store: Store, plan: Plan, results: list[Result] | None = None, **how: Any) -> Benchmark:
    """Record results as one call of `bench run` does; all trials by default."""
    if results is None:
        results = [success(key.arm, key.seed) for key in plan.trials()]
    how = {"provenance": {"commit": "c0ffee"}, "source": {"mine.py": "x = 1\n"}, **how}
    with store.lock(plan), recording(store, plan, **how) as recorder:
        for result in results:
            recorder.record(result)
    return recorder.benchmark


def message(arm: str, seed: int, row: Mapping[str, float], attempt: int = 1) -> dict[str, Any]:
    return {"type": "epoch", "arm": arm, "seed": seed, "row": dict(row), "attempt": attempt}


def children(store: Store, benchmark: Benchmark) -> dict[str, list[Child]]:
    return {key.run_name: runs for key, runs in store.children(benchmark).items()}


def history(store: Store, run_id: str) -> dict[str, list[tuple[int, float]]]:
    run = store.client.get_run(run_id)
    return {
        name: [(m.step, m.value) for m in store.client.get_metric_history(run_id, name)]
        for name in run.data.metrics
    }


def until(condition: Callable[[], Any], seconds: float) -> None:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "it did not happen in time"
        time.sleep(0.02)


# -- what is recorded ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(store: Store) -> Benchmark:
    """Return a whole benchmark of two seeds whose epochs came live as well as with the results."""
    plan = Plan(
        experiment="recorded whole",
        question="Does it help?",
        arms=ARMS,
        source_digest="s1",
        data={"name": "six numbers", "digest": "d1"},
        batches=((0, 7),),
    )
    with store.lock(plan):
        how: dict[str, Any] = {"provenance": {"commit": "c0ffee"}, "source": {"a.py": "x = 1\n"}}
        with recording(store, plan, **how) as recorder:
            for key in plan.trials():
                result = success(key.arm, key.seed)
                for row in result.epochs:
                    recorder.deliver(message(key.arm, key.seed, row))
                if key.seed == 7:
                    until(lambda: recorder._queue.empty(), 5)
                recorder.record(result)
    return recorder.benchmark


def test_every_epoch_and_metric_is_there_once_with_its_step(store: Store, recorded: Benchmark):
    runs = children(store, recorded)
    assert len(runs) == 4
    for (child,) in runs.values():
        found = history(store, child.run.run_id)
        assert found["train/loss"] == [(0, 1.0), (1, 1 / 2), (2, pytest.approx(1 / 3))]
        assert found["val/accuracy"] == [(0, 0.9), (1, 0.9), (2, 0.9)]
        assert not {"epoch", "time"} & set(found)
        assert all(len(points) in (1, 3) for points in found.values())


def test_a_run_is_named_for_its_arm_and_seed_and_hangs_below_its_benchmark(
    store: Store, recorded: Benchmark
):
    runs = children(store, recorded)
    expected = {f"{arm}/seed-{seed:02d}" for arm in ARMS for seed in (0, 7)}
    assert {child.run.name for (child,) in runs.values()} == expected == set(runs)
    for (child,) in runs.values():
        assert child.run.tags["mlflow.parentRunId"] == recorded.run_id
        assert child.status == "FINISHED"
    parent = store.client.get_run(recorded.run_id)
    assert (parent.info.status, parent.data.tags["bench.kind"]) == ("FINISHED", "benchmark")
    assert parent.data.params["arms"] == "baseline, smoothed"


def test_arm_seed_and_settings_are_params_so_that_the_ui_can_group_by_them(
    store: Store, recorded: Benchmark
):
    (child,) = children(store, recorded)["smoothed/seed-07"]
    assert child.run.params == {"arm": "smoothed", "seed": "7", "epsilon": "0.1", "lr": "0.1"}
    tags = child.run.tags
    assert (tags["arm"], tags["seed"]) == ("smoothed", "7")
    assert tags["bench.trial"] == recorded.plan.trial_digest(child.key)
    assert tags["bench.benchmark"] == recorded.benchmark_id
    assert (tags["bench.device"], tags["bench.threads"]) == ("cpu", "1")
    assert json.loads(tags["bench.environment"]) == {"commit": "c0ffee", "python": "3.11"}
    assert tags["mlflow.source.git.commit"] == "c0ffee"


def test_the_data_set_and_its_digest_are_shown_with_every_run(store: Store, recorded: Benchmark):
    (child,) = children(store, recorded)["baseline/seed-00"]
    for run_id in (child.run.run_id, recorded.run_id):
        (used,) = store.client.get_run(run_id).inputs.dataset_inputs
        assert (used.dataset.name, used.dataset.digest) == ("six numbers", "d1")


def test_scores_are_computed_from_the_stored_predictions(store: Store, recorded: Benchmark):
    (child,) = children(store, recorded)["baseline/seed-00"]
    item = predictions(0, "baseline")
    right = (item.log_probabilities.argmax(axis=1) == item.labels).mean()
    metrics = child.run.metrics
    assert metrics["test/accuracy"] == pytest.approx(right)
    assert metrics["speed"] == 3.5
    kinds = ("accuracy", "nll", "brier", "ece")
    assert {f"{split}/{k}" for split in ("test", "test_last") for k in kinds} <= set(metrics)


def test_the_files_of_a_run_are_kept_with_their_digests(store: Store, recorded: Benchmark):
    (child,) = children(store, recorded)["smoothed/seed-00"]
    run_id = child.run.run_id
    kept = {f.path for f in store.client.list_artifacts(run_id)}
    assert kept == {"epochs.parquet", "predictions.npz", "outcome.json", "log.txt"}
    digests = json.loads(child.run.tags["bench.sha256"])
    assert set(digests) == {"epochs.parquet", "predictions.npz", "outcome.json"}
    root = Path(child.run.artifact_uri.removeprefix("file://"))
    assert root.is_absolute() and root.is_relative_to(store.folder)
    assert all(artifacts.sha256(root / name) == digest for name, digest in digests.items())


def test_plan_source_and_provenance_are_kept_with_the_benchmark(store: Store, recorded: Benchmark):
    client, run_id = store.client, recorded.run_id
    for folder, name in (("plan", "0001.json"), ("provenance", "0001.json")):
        assert [f.path for f in client.list_artifacts(run_id, folder)] == [f"{folder}/{name}"]
    assert store.provenance(recorded) == [{"commit": "c0ffee"}]
    assert store.source(recorded) == {"a.py": "x = 1\n"}


def test_a_result_that_the_store_never_takes_is_set_aside_and_blocks_nobody(
    store: Store, plan: Plan, monkeypatch: pytest.MonkeyPatch
):
    real = store.put

    def put(run: Any, folder: Path) -> None:
        if run.tags.get("seed") == str(plan.seeds[0]) and run.tags["arm"] == plan.baseline:
            raise StoreRefuses("no.", facts=["INVALID_PARAMETER_VALUE: no such thing"])
        real(run, folder)

    monkeypatch.setattr(store, "put", put)
    with store.lock(plan), recording(store, plan, provenance={}, source={}) as recorder:
        for key in plan.trials():
            recorder.record(success(key.arm, key.seed))
    [said] = recorder.refused
    assert said.startswith(f"the result of seed {plan.seeds[0]:02d}, {plan.baseline}, cannot be")
    assert "INVALID_PARAMETER_VALUE: no such thing" in said
    kept = Path(said.partition("is kept in ")[2].partition(": ")[0])
    assert any(kept.iterdir()) and not any(store.pending_of(plan.benchmark_id).iterdir())
    assert len(store.settled(recorder.benchmark)[0]) == len(plan.trials()) - 1


@pytest.mark.parametrize("gone", ["folder", "file", "byte"])
def test_a_result_whose_files_vanished_is_never_finished(store: Store, plan: Plan, gone: str):
    with store.lock(plan), recording(store, plan, provenance={}, source={}) as recorder:
        recorder._queue.put = lambda item, put=recorder._queue.put: (  # type: ignore[method-assign]
            spoil(item, gone) if isinstance(item, spool.Entry) else None,
            put(item),
        )
        recorder.record(success(plan.baseline, plan.seeds[0]))
    assert "its files are gone or changed on this disk" in recorder.refused[0]
    assert store.settled(recorder.benchmark)[0] == {}


def spoil(entry: spool.Entry, gone: str) -> None:
    if gone == "folder":
        shutil.rmtree(entry.folder)
    elif gone == "file":
        (entry.files / "predictions.npz").unlink()
    else:
        with (entry.files / "predictions.npz").open("r+b") as handle:
            handle.seek(100)
            handle.write(b"\xff")


# -- when it is there ------------------------------------------------------------------------


def test_an_epoch_is_in_the_store_while_its_run_goes_on(store: Store, plan: Plan):
    how: dict[str, Any] = {"provenance": {}, "source": {}}
    with store.lock(plan), recording(store, plan, **how) as recorder:
        recorder.deliver(message("baseline", 0, epoch_rows(1)[0]))

        def arrived() -> bool:
            runs = children(store, recorder.benchmark).get("baseline/seed-00")
            return bool(runs) and runs[0].run.metrics.get("train/loss") == 1.0

        until(arrived, 60)
        (child,) = children(store, recorder.benchmark)["baseline/seed-00"]
        assert child.status == "RUNNING"
        recorder.deliver(message("baseline", 0, epoch_rows(2)[1]))
        until(lambda: len(history(store, child.run.run_id)["train/loss"]) == 2, 60)


def test_finished_is_the_last_thing_that_is_written(
    store: Store, plan: Plan, monkeypatch: pytest.MonkeyPatch
):
    written: list[tuple[str, str]] = []
    for name in ("log_batch", "set_terminated", "set_tag", "log_inputs"):
        original = getattr(store.client, name)

        def spy(run_id: str, *args: Any, _name: str = name, _do: Any = original, **kw: Any) -> Any:
            written.append((run_id, _name))
            return _do(run_id, *args, **kw)

        monkeypatch.setattr(store.client, name, spy)
    put = artifacts.put

    def put_spy(folder: Path, root: Path) -> None:
        written.append((root.parent.name, "put"))
        put(folder, root)

    monkeypatch.setattr(artifacts, "put", put_spy)
    benchmark = session(store, plan, [success("baseline", 0)])
    ((child,),) = children(store, benchmark).values()
    order = [name for run_id, name in written if run_id == child.run.run_id]
    assert order[-3:] == ["put", "log_batch", "set_terminated"]
    assert order.count("set_terminated") == 1


def test_a_message_that_comes_after_the_end_does_not_bring_a_run_back(store: Store, plan: Plan):
    how: dict[str, Any] = {"provenance": {}, "source": {}}
    with store.lock(plan), recording(store, plan, **how) as recorder:
        recorder.record(success("baseline", 0))
        until(lambda: recorder._ended, 5)
        recorder.deliver(message("baseline", 0, {"epoch": 9, "time": 1.0, "late": 1.0}))
    ((child,),) = children(store, recorder.benchmark).values()
    assert child.status == "FINISHED" and "late" not in child.run.metrics


def test_ten_thousand_metrics_of_one_run_are_all_written(store: Store, plan: Plan):
    many = success("baseline", 0, epochs=epoch_rows(2500, a=1.0, b=2.0))
    ((child,),) = children(store, session(store, plan, [many])).values()
    found = history(store, child.run.run_id)
    assert [step for step, _ in found["a"]] == list(range(2500)) == [s for s, _ in found["b"]]


def test_every_one_of_many_settings_is_a_param(store: Store, plan: Plan):
    wide = {arm: {**own, **{f"p{i}": i for i in range(250)}} for arm, own in ARMS.items()}
    benchmark = session(store, replace(plan, arms=wide), [success("baseline", 0)])
    ((child,),) = children(store, benchmark).values()
    assert {child.run.params[f"p{i}"] for i in range(250)} == {str(i) for i in range(250)}


def test_a_metric_that_is_no_number_is_recorded_as_such(store: Store, plan: Plan):
    lost = failure("baseline", 0, "nan", epochs=epoch_rows(1, extra=float("nan")))
    ((child,),) = children(store, session(store, plan, [lost])).values()
    ((_, value),) = history(store, child.run.run_id)["extra"]
    assert np.isnan(value)


def test_facts_about_the_data_may_be_any_values(store: Store, plan: Plan):
    odd = replace(plan, data={"name": "x", "digest": "d", "n": np.int64(5), "at": Path("here")})
    benchmark = session(store, odd, [])
    again = session(store, odd, [])
    assert benchmark.run_id == again.run_id
    assert store.benchmark(plan.experiment).plan.data["at"] == "here"


def test_trainings_get_their_settings_as_they_were_typed_in_every_session(store: Store, plan: Plan):
    typed = replace(plan, arms={arm: {**own, "sizes": (3, 4)} for arm, own in ARMS.items()})
    for _ in range(2):
        benchmark = session(store, typed, [])
        assert benchmark.plan.arms["baseline"]["sizes"] == (3, 4)


# -- failures, attempts, orphans -------------------------------------------------------------


def test_a_failed_run_keeps_its_reason_and_traceback(store: Store, plan: Plan):
    benchmark = session(store, plan, [failure("smoothed", 1)])
    ((child,),) = children(store, benchmark).values()
    assert child.status == "FAILED"
    assert child.run.tags["bench.reason"] == "ValueError: no"
    names = {f.path for f in store.client.list_artifacts(child.run.run_id)}
    assert names == {"epochs.parquet", "traceback.txt"}
    (row,) = store.tables(benchmark).trials.to_dict("records")
    assert (row["status"], row["code"], row["reason"]) == ("failed", "training", "ValueError: no")
    assert store.settled(benchmark)[0] == {}


def test_the_benchmarks_own_run_is_killed_when_bench_is_stopped(store: Store, plan: Plan):
    how: dict[str, Any] = {"provenance": {}, "source": {}}
    with pytest.raises(KeyboardInterrupt), recording(store, plan, **how) as recorder:
        raise KeyboardInterrupt
    assert store.client.get_run(recorder.benchmark.run_id).info.status == "KILLED"


def test_an_orphan_of_a_process_that_died_is_killed_by_the_next(store: Store, plan: Plan):
    benchmark = session(store, plan, [success("smoothed", 0)])
    tags = {
        "bench.kind": "trial",
        "arm": "baseline",
        "seed": "0",
        "mlflow.parentRunId": benchmark.run_id,
    }
    orphan = store.client.create_run(benchmark.experiment_id, tags=tags).info.run_id
    assert store.trial_states(benchmark)[TrialKey("baseline", 0)] == "running"
    session(store, plan, [])
    assert store.client.get_run(orphan).info.status == "KILLED"
    assert set(store.settled(benchmark)[0]) == {TrialKey("smoothed", 0)}
    assert TrialKey("baseline", 0) not in store.trial_states(benchmark)


def test_what_cannot_be_written_stops_the_run_with_the_reason(
    store: Store, plan: Plan, monkeypatch: pytest.MonkeyPatch
):
    def broken(*args: Any, **kw: Any) -> None:
        raise OSError("(sqlite3.OperationalError) attempt to write a readonly database\n[SQL: …]")

    how: dict[str, Any] = {"provenance": {}, "source": {}}
    with pytest.raises(StoreTrouble, match="could not be used") as caught:
        with recording(store, plan, **how) as recorder:
            with monkeypatch.context() as patch:
                patch.setattr(store.client._client, "log_batch", broken)
                recorder.record(success("baseline", 0))
                until(lambda: recorder._error, 5)
            recorder.check()
    assert caught.value.exit_status == 4 and not isinstance(caught.value, StoreAway)
    assert caught.value.facts == (
        "OSError: (sqlite3.OperationalError) attempt to write a readonly database",
        "What was recorded in it is kept.",
    )
    assert "the same command: it goes on where it stopped" in str(caught.value.fix)
    benchmark = session(store, plan, [])  # what was finished is written by the next session
    assert set(store.settled(benchmark)[0]) == {TrialKey("baseline", 0)}


# -- damage and --redo -----------------------------------------------------------------------


def file_of(store: Store, benchmark: Benchmark, run: str, name: str) -> Path:
    (child,) = children(store, benchmark)[run]
    return Path(child.run.artifact_uri.removeprefix("file://")) / name


def test_damaged_predictions_are_refused_with_both_digests_and_the_way_out(
    store: Store, plan: Plan
):
    benchmark = session(store, plan)
    path = file_of(store, benchmark, "smoothed/seed-01", "predictions.npz")
    before = artifacts.sha256(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(Damaged) as caught:
        store.tables(benchmark)
    after = artifacts.sha256(path)
    assert caught.value.render() == (
        "error[predictions]: the stored predictions of seed 01, smoothed, are damaged.\n"
        f"  Expected sha256 {before[:8]}…, found {after[:8]}…. "
        "The report would rest on data that changed.\n"
        f"  fix: restore it, or bench run '{plan.experiment}' --seeds 2 --redo 1:smoothed"
    )
    assert caught.value.exit_status == 5


def test_predictions_that_change_after_their_digest_was_checked_are_refused(
    store: Store, plan: Plan
):
    benchmark = session(store, plan, [success("baseline", 0)])
    tables = store.tables(benchmark)
    path = file_of(store, benchmark, "baseline/seed-00", "predictions.npz")
    content = bytearray(path.read_bytes())
    log_p = tables.predictions["baseline", 0, "test"].log_probabilities
    content[content.index(log_p.tobytes())] ^= 1  # of a number's last digits
    path.write_bytes(bytes(content))
    with pytest.raises(Damaged, match="predictions of seed 00, baseline, cannot be read") as caught:
        tables.predictions["baseline", 0, "test"]
    assert "--redo 0:baseline" in str(caught.value.remedy())


@pytest.mark.parametrize(
    ("name", "kind"),
    [("predictions.npz", "predictions"), ("epochs.parquet", "epochs"), ("outcome.json", "outcome")],
)
def test_a_missing_file_is_refused(name: str, kind: str, store: Store, plan: Plan):
    benchmark = session(store, plan, [success("baseline", 0)])
    file_of(store, benchmark, "baseline/seed-00", name).unlink()
    what = rf"the stored {kind} of seed 00, baseline, are missing"
    with pytest.raises(Damaged, match=what) as caught:
        store.tables(benchmark)
    assert "--redo 0:baseline" in str(caught.value.remedy())


def test_the_command_that_mends_is_the_one_that_was_typed(store: Store, plan: Plan):
    typed = "bench run 'my file.py' --set lr=0.1 --store sqlite:///x.db --redo 1:smoothed --fresh"
    benchmark = session(store, plan, [success("baseline", 0)], provenance={"command": typed})
    file_of(store, benchmark, "baseline/seed-00", "outcome.json").unlink()
    again = "bench run 'my file.py' --set lr=0.1 --store sqlite:///x.db"
    with pytest.raises(Damaged) as caught:
        store.tables(benchmark)
    assert caught.value.remedy() == f"restore it, or {again} --redo 0:baseline"
    assert f"  resume   {again}" in status.one(store, plan.experiment).text(unicode=True)


# -- what was edited in MLflow ------------------------------------------------------------------


def mark_as_superseded(store: Store, benchmark: Benchmark) -> None:
    (only,) = children(store, benchmark)["smoothed/seed-01"]
    store.client.set_tag(only.run.run_id, "bench.superseded", "true")


def mark_the_repeated_run_instead(store: Store, benchmark: Benchmark) -> None:
    session(store, benchmark.plan, [success("smoothed", 1)])
    old, new = children(store, benchmark)["smoothed/seed-01"]
    store.client.delete_tag(old.run.run_id, "bench.superseded")
    store.client.set_tag(new.run.run_id, "bench.superseded", old.run.run_id)


def mark_as_superseded_by_another_trials(store: Store, benchmark: Benchmark) -> None:
    (only,) = children(store, benchmark)["smoothed/seed-01"]
    (other,) = children(store, benchmark)["smoothed/seed-00"]
    store.client.set_tag(only.run.run_id, "bench.superseded", other.run.run_id)


def delete_the_one_that_finished(store: Store, benchmark: Benchmark) -> None:
    (only,) = children(store, benchmark)["smoothed/seed-01"]
    store.client.delete_run(only.run.run_id)
    session(store, benchmark.plan, [failure("smoothed", 1)])


def test_a_clock_that_was_set_back_changes_no_order(
    store: Store, plan: Plan, monkeypatch: pytest.MonkeyPatch
):
    """--redo and --fresh go by what replaced what, and by the number of the session."""
    session(store, plan, [success("smoothed", 1)])
    now = time.time
    monkeypatch.setattr("time.time", lambda: now() - 86_400)
    benchmark = session(store, plan, [success("smoothed", 1)])  # as --redo does
    old, new = children(store, benchmark)["smoothed/seed-01"]
    assert new.started < old.started and old.replaced_by == new.run.run_id
    assert store.settled(benchmark)[0][TrialKey("smoothed", 1)].run.run_id == new.run.run_id
    store.tables(benchmark)
    with store.lock(plan), recording(store, plan, provenance={}, source={}, fresh=True) as recorder:
        fresh = recorder.benchmark
    found = store.find(plan.benchmark_id, plan.experiment)
    assert found is not None and found.run_id == fresh.run_id != benchmark.run_id
    assert store.benchmarks()[0].run_id == fresh.run_id


def test_a_database_that_is_deleted_in_mid_run_is_said(
    tmp_path: Path, copy_store: Callable[[Path], str], plan: Plan
):
    store = Store(copy_store(tmp_path / "mine"))
    with (
        pytest.raises(StoreTrouble, match="was deleted or replaced while it was in use"),
        store.lock(plan),
        recording(store, plan, provenance={}, source={}),
    ):
        assert store.database is not None
        moved = store.database.rename(store.database.with_name("moved.db"))
        shutil.copy2(moved, store.database)


@pytest.mark.parametrize(
    ("version", "fix"),
    [
        ("ffffffffffff", "pip install --upgrade mlflow, then the same command"),
        ("451aebb31d03", "mlflow db upgrade sqlite:///"),  # of MLflow 1.0
    ],
)
def test_a_database_of_another_mlflow_is_named_with_what_mends_it(
    tmp_path: Path, copy_store: Callable[[Path], str], version: str, fix: str
):
    uri = copy_store(tmp_path / "other")
    with contextlib.closing(sqlite3.connect(tmp_path / "other" / "mlflow.db")) as connection:
        connection.execute("update alembic_version set version_num = ?", (version,))
        connection.commit()
    with pytest.raises(StoreTrouble, match="cannot be opened") as caught:
        Store(uri)
    assert fix in str(caught.value.fix)


def test_logging_stays_synchronous_whatever_the_environment_says(
    store: Store, plan: Plan, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")
    benchmark = session(store, plan)
    assert len(store.tables(benchmark).trials) == 4


@pytest.mark.parametrize(
    "edit",
    [
        mark_as_superseded,
        mark_as_superseded_by_another_trials,
        mark_the_repeated_run_instead,
        delete_the_one_that_finished,
    ],
)
def test_a_run_that_was_taken_away_is_named_and_can_be_repeated(
    edit: Callable[[Store, Benchmark], None], store: Store, plan: Plan
):
    benchmark = session(store, plan)
    edit(store, benchmark)
    with pytest.raises(Damaged, match="the run of seed 01, smoothed, ") as caught:
        store.tables(benchmark)
    assert "--redo 1:smoothed" in str(caught.value.remedy())
    session(store, plan, [success("smoothed", 1)])
    assert len(store.tables(benchmark).trials) == 4


@pytest.mark.parametrize(
    ("tag", "value"),
    [("bench.plan_version", "1"), ("bench.plan_version", "x"), ("bench.plan_version", None),
     ("bench.plan", "0" * 64), ("bench.plan", None)],
)  # fmt: skip
def test_an_edit_cannot_bring_an_older_plan_back(
    tag: str, value: str | None, store: Store, plan: Plan
):
    session(store, plan)
    benchmark = session(store, plan.with_seeds(range(4)), [])
    if value is None:
        store.client.delete_tag(benchmark.run_id, tag)
    else:
        store.client.set_tag(benchmark.run_id, tag, value)
    with pytest.raises(Damaged, match="which version of its plan holds") as caught:
        store.benchmark(plan.experiment)
    said = value or "nothing"
    expected = "2" if tag == "bench.plan_version" else benchmark.plan.hash
    assert caught.value.facts == (f"Its tag {tag} is {said}; recorded was {expected}.",)
    store.client.set_tag(benchmark.run_id, tag, expected)
    assert store.benchmark(plan.experiment).design().seeds_added_after_look


# -- one damaged record blocks nobody -----------------------------------------------------------


@pytest.fixture
def alone(tmp_path: Path, copy_store: Callable[[Path], str]) -> Store:
    """Return a store that no other test uses."""
    return Store(copy_store(tmp_path / "alone"))


def tear(store: Store, benchmark: Benchmark) -> Path:
    """Damage the stored plan of a benchmark."""
    run = store.client.get_run(benchmark.run_id)
    path = Path(run.info.artifact_uri.removeprefix("file://")) / "plan" / "0001.json"
    path.write_text(path.read_text().replace("?", "!"))
    return path


def kept(store: Store, benchmark: Benchmark, run_id: str | None = None) -> spool.Entry:
    """Keep a result as a process does that dies before the store has it."""
    return spool.keep(
        store.pending_of(benchmark.benchmark_id),
        success("baseline", 0),
        parent=run_id or benchmark.run_id,
        trial=benchmark.plan.trial_digest(TrialKey("baseline", 0)),
        commit="",
    )


def test_a_damaged_benchmark_is_named_and_the_others_are_read(alone: Store, plan: Plan):
    benchmark = session(alone, plan)
    torn = session(alone, replace(plan, experiment="torn"), [])
    tear(alone, torn)
    damaged, whole = alone.recorded()
    assert isinstance(damaged, Unreadable) and damaged.name == "torn"
    assert alone.benchmarks() == [whole] and whole.run_id == benchmark.run_id
    said = f"left out of all counts: torn {torn.benchmark_id[:7]}."
    assert said in provenance_of(alone, benchmark)["notes"][-1]
    assert alone.benchmark(plan.experiment).run_id == benchmark.run_id
    for name in ("torn", None):  # the latest; an earlier one would be another answer
        with pytest.raises(Damaged, match="the stored plan files of torn .* are damaged"):
            alone.benchmark(name)
    session(alone, replace(plan, experiment="torn"), [], fresh=True)
    assert alone.benchmark().name == "torn"


def test_a_damaged_benchmark_that_was_deleted_is_in_nobodys_way(alone: Store, plan: Plan):
    torn = session(alone, plan, [])
    tear(alone, torn)
    alone.client.delete_run(torn.run_id)
    assert "was deleted in MLflow" in str(status.begins_anew(alone, None, plan))
    assert session(alone, plan, []).run_id != torn.run_id


def test_a_run_without_its_seed_can_be_deleted(alone: Store, plan: Plan):
    benchmark = session(alone, plan)
    (child,) = children(alone, benchmark)["smoothed/seed-01"]
    alone.client.set_tag(child.run.run_id, "seed", "one")
    with pytest.raises(Damaged, match="which arm and seed it is") as caught:
        alone.tables(benchmark)
    assert "delete that run" in str(caught.value.remedy())
    alone.client.delete_run(child.run.run_id)
    assert len(alone.tables(benchmark).trials) == 3


def test_a_result_whose_benchmark_is_gone_is_set_aside_and_told_once(
    alone: Store, plan: Plan, capsys: pytest.CaptureFixture[str]
):
    benchmark = session(alone, plan, [])
    entry = kept(alone, benchmark, run_id="0" * 32)
    assert [b.run_id for b in alone.recorded()] == [benchmark.run_id]
    aside = alone.folder / "aside" / entry.folder.parent.name
    assert capsys.readouterr().err == (
        f"1 finished run belongs to a benchmark that is no longer in the store; kept in {aside}.\n"
    )
    assert (aside / entry.name / "files" / "outcome.json").is_file()
    session(alone, plan, [])
    assert alone.recorded() and capsys.readouterr().err == ""


def test_a_result_waits_for_a_benchmark_that_is_damaged_or_deleted(alone: Store, plan: Plan):
    benchmark = session(alone, plan, [])
    path = tear(alone, benchmark)
    entry = kept(alone, benchmark)
    assert isinstance(alone.recorded()[0], Unreadable)
    alone.client.delete_experiment(benchmark.experiment_id)
    assert alone.recorded() == [] and entry.folder.is_dir()
    path.write_text(path.read_text().replace("!", "?"))
    alone.client.restore_experiment(benchmark.experiment_id)
    [found] = alone.benchmarks()
    assert set(alone.settled(found)[0]) == {entry.key} and not entry.folder.exists()


def test_a_result_that_the_disk_does_not_give_back_is_kept(
    alone: Store, plan: Plan, monkeypatch: pytest.MonkeyPatch
):
    benchmark = session(alone, plan, [])
    entry = kept(alone, benchmark)

    def broken(folder: Path) -> None:
        raise OSError(5, "Input/output error", str(folder))

    with monkeypatch.context() as patch:
        patch.setattr(spool, "_read", broken)
        assert [b.run_id for b in alone.recorded()] == [benchmark.run_id]
        with pytest.raises(StoreTrouble, match="cannot be read from") as caught:
            session(alone, plan, [])
    assert "is kept there, and not trained again" in caught.value.facts[1]
    assert entry.folder.is_dir()
    session(alone, plan, [])
    assert set(alone.settled(benchmark)[0]) == {entry.key}


# -- large stores, and servers -------------------------------------------------------------------


def test_every_page_of_experiments_is_read(
    alone: Store, plan: Plan, monkeypatch: pytest.MonkeyPatch
):
    names = [session(alone, replace(plan, experiment=f"e{i}"), []).name for i in range(3)]
    asked = alone.client._client.search_experiments

    def one_a_page(max_results: int, page_token: str | None = None) -> Any:
        return asked(max_results=1, page_token=page_token)

    monkeypatch.setattr(alone.client._client, "search_experiments", one_a_page)
    assert [b.name for b in alone.benchmarks()] == names[::-1]


def test_what_a_server_sent_is_not_left_behind(
    alone: Store, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    session(alone, plan, [success("baseline", 0)])
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    monkeypatch.setattr(sqlite, "file_path", lambda uri: None)  # as if behind a server
    found = alone.benchmark(plan.experiment)
    assert len(alone.tables(found).predictions) == 2 and alone.provenance(found)
    assert list((tmp_path / "scratch").iterdir()) == []


# -- one benchmark over time -----------------------------------------------------------------


def test_every_version_of_a_plan_stays_a_file_of_its_own(store: Store, plan: Plan):
    first = session(store, plan, [])
    session(store, plan.with_seeds(range(4)), [])
    session(store, replace(plan, batches=((0, 1, 9),)), [])
    versions = [f.path for f in store.client.list_artifacts(first.run_id, "plan")]
    assert versions == ["plan/0001.json", "plan/0002.json", "plan/0003.json"]  # older ones stay


def test_an_experiment_that_was_deleted_in_the_ui_comes_back(store: Store, plan: Plan):
    benchmark = session(store, plan, [success("baseline", 0)])
    store.client.delete_experiment(benchmark.experiment_id)
    again = session(store, plan, [])
    assert store.client.get_experiment(again.experiment_id).lifecycle_stage == "active"
    assert store.benchmark(plan.experiment).experiment_id == benchmark.experiment_id


# -- the lock --------------------------------------------------------------------------------

HOLDER = """
import json, os, sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    facts = {"pid": os.getpid(), "host": "node07", "since": "14:02"}
    open(sys.argv[1].replace(".lock", ".json"), "w").write(json.dumps(facts))
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held(store: Store, plan: Plan) -> Iterator[int]:
    """Hold a plan's lock in another process; gives its pid."""
    path = str(store.locks.path(plan.benchmark_id))
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLDER, path], **pipes) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process.pid
        process.kill()


def test_a_benchmark_that_another_process_runs_is_refused_with_its_pid(
    store: Store, plan: Plan, held: int
):
    with pytest.raises(Locked) as caught, store.lock(plan):
        pass
    assert caught.value.render() == (
        "error[benchmark-locked]: this benchmark is being run by another process "
        f"(pid {held} on node07, since 14:02).\n"
        "  Other benchmarks may use the same store.\n"
        f"  fix: wait for it: bench status '{plan.experiment}'"
    )
    assert caught.value.exit_status == 4
    holder = store.holder(plan.benchmark_id)
    assert holder is not None and holder["pid"] == held
    with store.lock(replace(plan, source_digest="another")):
        pass  # other benchmarks go on


def test_the_lock_of_a_process_that_died_is_free(store: Store, plan: Plan, held: int):
    os.kill(held, 9)
    until(lambda: store.holder(plan.benchmark_id) is None, 5)
    with store.lock(plan):
        holder = store.holder(plan.benchmark_id)
        assert holder is not None and holder["pid"] == os.getpid()
    assert store.holder(plan.benchmark_id) is None


# -- stores that cannot be used --------------------------------------------------------------


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path):
    path = tmp_path / "thesis.txt"
    path.write_text("three years of work")
    with pytest.raises(StoreTrouble, match=r"thesis\.txt is not an SQLite database") as caught:
        Store(f"sqlite:///{path}")
    assert caught.value.facts == ("It was left as it is.",)
    assert caught.value.options == (("store", "sqlite:///another.db"),)
    assert path.read_text() == "three years of work"


def test_a_store_that_cannot_be_opened_never_shows_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(StoreAway, match="does not answer") as caught:
        Store("http://me:s3cret@127.0.0.1:9")
    assert "s3cret" not in caught.value.render() and "me:***@127.0.0.1:9" in caught.value.what
    assert caught.value.exit_status == 4


def test_an_unknown_name_is_answered_with_the_nearest_recorded_one(
    store: Store, recorded: Benchmark
):
    with pytest.raises(NothingRecorded, match='no experiment called "recorded hole"') as caught:
        store.benchmark("recorded hole")
    assert caught.value.facts[0].startswith("Closest: recorded whole. Known:")
    assert caught.value.replace == (("recorded hole", "recorded whole"),)
    with pytest.raises(NothingRecorded) as caught:
        status.one(store, "recorded hole")
    assert caught.value.replace == (("recorded hole", "recorded whole"),)


def test_a_new_store_is_made_where_it_was_asked_for_and_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    made = Store()
    assert made.database == tmp_path / "mlruns" / "mlflow.db" and made.database.is_file()
    assert made.benchmarks() == []
    assert not (tmp_path / "mlflow.db").exists()
