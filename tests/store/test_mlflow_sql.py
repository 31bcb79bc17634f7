"""A glance at a local store says what MLflow says, or leaves it to MLflow."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.design.plan import Plan, TrialKey
from bench.design.results import Failure, Success
from bench.display.status import listing
from bench.experiment import Outcome
from bench.store.mlflow_sql import glance
from bench.store.mlflow_store import Store
from bench.store.runs import Benchmark, Unreadable
from bench.store.writer import recording

ARMS: dict[str, dict[str, Any]] = {"a": {"x": 0}, "b": {"x": 1}}


@pytest.fixture
def store(tmp_path: Path, copy_store: Callable[[Path], str]) -> Store:
    return Store(copy_store(tmp_path / "store"))


def plan(name: str, **changes: Any) -> Plan:
    values: dict[str, Any] = {"source_digest": "s1", "data": {}, "batches": ((0, 1, 2),)}
    return Plan(experiment=name, question="?", arms=ARMS, **{**values, **changes})


def success(arm: str, seed: int) -> Success:
    outcome = Outcome(scores={"return": float(np.hypot(seed, len(arm)))})
    return Success(
        key=TrialKey(arm, seed), outcome=outcome, epochs=[], duration_s=1.0, started_at=1.7e9,
        device="cpu", threads=1, log="",
    )  # fmt: skip


def record(store: Store, plan: Plan, *results: Success | Failure) -> None:
    with store.lock(plan), recording(store, plan, provenance={}, source={}) as recorder:
        for result in results:
            recorder.record(result)


def test_a_glance_says_what_mlflow_says(store: Store):
    lost = Failure(key=TrialKey("b", 1), code="nan", what="no number", started_at=1.7e9)
    record(store, plan("first"), success("a", 0), success("b", 0), success("a", 1), lost)
    record(store, plan("first", source_digest="s2"), success("a", 0))
    record(store, plan("second"), *(success(arm, seed) for seed in range(3) for arm in "ab"))
    record(store, plan("second", vary="order"), success("a", 0))  # a part of another: not listed
    record(store, plan("deleted"), success("a", 0))
    gone = store.benchmark("deleted")
    store.client.delete_run(gone.run_id)
    trial = store.children(store.benchmark("second"))[TrialKey("a", 2)][0]
    store.client.delete_run(trial.run.run_id)
    record(store, plan("second"), success("b", 1))  # recorded twice
    seen = glance(store.uri)
    assert seen is not None
    said = listing(seen)
    assert said == listing(store)
    assert [state.name for state in said.states] == ["second", "first", "first"]
    assert said.states[2].trials[TrialKey("b", 1)] == "failed"
    assert said.states[0].trials[TrialKey("a", 2)] == "waiting"


def damage_the_version(store: Store, benchmark: Benchmark) -> None:
    store.client.set_tag(benchmark.run_id, "bench.plan_version", "one")


def damage_no_version(store: Store, benchmark: Benchmark) -> None:
    store.client.delete_tag(benchmark.run_id, "bench.plan_version")


def damage_the_file(store: Store, benchmark: Benchmark) -> None:
    folder = store.client.get_run(benchmark.run_id).info.artifact_uri.removeprefix("file://")
    path = Path(folder, "plan", "0001.json")
    path.write_text(path.read_text().replace('"?"', '"!"'))


def damage_no_file(store: Store, benchmark: Benchmark) -> None:
    folder = store.client.get_run(benchmark.run_id).info.artifact_uri.removeprefix("file://")
    Path(folder, "plan", "0001.json").unlink()


def damage_the_time(store: Store, benchmark: Benchmark) -> None:
    store.client.set_tag(benchmark.run_id, "bench.active_at", "1e300")


def damage_a_trial(store: Store, benchmark: Benchmark) -> None:
    [[child]] = store.children(benchmark).values()
    store.client.set_tag(child.run.run_id, "seed", "one")


@pytest.mark.parametrize(
    "damage",
    [
        damage_the_version,
        damage_no_version,
        damage_the_file,
        damage_no_file,
        damage_the_time,
        damage_a_trial,
    ],
)
def test_a_damaged_benchmark_is_listed_as_such_among_the_others(
    damage: Callable[[Store, Benchmark], None], store: Store
):
    record(store, plan("whole"), success("a", 0))
    record(store, plan("torn"), success("a", 0))
    damage(store, store.benchmark("torn"))
    seen = glance(store.uri)
    assert seen is not None
    said = listing(seen)
    assert said == listing(store)
    torn, whole = said.states
    assert isinstance(torn, Unreadable) and torn.name == "torn" and whole.name == "whole"
    for by in (seen.recorded(), store.recorded()):
        assert by[1].name == "whole"
    assert "damaged" in said.text(unicode=True).splitlines()[1]


def test_a_benchmark_that_is_being_run_is_running(store: Store):
    mine = plan("mine")
    with store.lock(mine), recording(store, mine, provenance={}, source={}) as recorder:
        recorder.deliver(
            {"type": "epoch", "arm": "a", "seed": 0, "attempt": 1, "row": {"epoch": 0, "time": 1.0}}
        )
        while not store.trial_states(recorder.benchmark):
            pass
        seen = glance(store.uri)
        assert seen is not None
        [state] = listing(seen).states
        assert state.held and state.trials[TrialKey("a", 0)] == "running"


def test_what_only_mlflow_can_answer_is_left_to_it(store: Store, tmp_path: Path):
    assert glance("http://127.0.0.1:9") is None
    assert glance(f"sqlite:///{tmp_path}/nothing.db") is None
    mine = plan("mine")
    record(store, mine, success("a", 0))
    assert glance(store.uri) is not None
    (store.folder / "pending").mkdir(exist_ok=True)
    (store.folder / "pending" / "a stray file").touch()
    assert glance(store.uri) is None
    (store.folder / "pending" / "a stray file").unlink()
    waiting = store.pending_of(mine.benchmark_id) / "one"
    waiting.mkdir(parents=True)
    assert glance(store.uri) is None  # a process died before its result was in the store


def test_tables_of_another_version_are_left_to_mlflow(store: Store):
    import sqlite3
    from contextlib import closing

    record(store, plan("mine"), success("a", 0))
    with closing(sqlite3.connect(store.database or "")) as database, database:
        database.execute("alter table runs rename column artifact_uri to artifact_place")
    assert glance(store.uri) is None


def test_the_list_of_a_local_store_needs_no_mlflow(store: Store):
    record(store, plan("mine"), success("a", 0))
    code = (
        "import sys; from bench.cli import _run; _run(['status', '--json', '--store', sys.argv[1]])"
        "; sys.stderr.write(' '.join({'mlflow', 'torch', 'scipy'} & set(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, store.uri], capture_output=True, text=True, check=True
    )
    assert json.loads(said.stdout)["benchmarks"][0]["experiment"] == "mine" and said.stderr == ""


def test_an_order_of_seeds_is_kept(store: Store):
    mine = replace(plan("mine"), batches=((3, 1), (2,)))
    record(store, mine, success("a", 1))
    seen = glance(store.uri)
    assert seen is not None
    [found] = seen.recorded()
    assert isinstance(found, Benchmark) and found.plan.seeds == (3, 1, 2)
