"""What every store owes to who writes and reads it; a new store joins in `conftest.py`.

The store's files, tags and client are its own matter: tests of them are in its own file.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.analysis.data.tables import BadTables
from bench.design.plan import Plan, TrialKey
from bench.design.results import Failure, Result, Success
from bench.experiment import Outcome, Predictions
from bench.store import spool
from bench.store.artifacts import Damaged
from bench.store.base import Store
from bench.store.locks import Locked
from bench.store.records import NothingRecorded
from bench.store.runs import Benchmark, Child
from bench.store.writer import Recorder, recording

LABELS = np.arange(6) % 2
ARMS: dict[str, dict[str, Any]] = {"baseline": {"lr": 0.1}, "smoothed": {"lr": 0.2}}
NAMES = (f"contract {i}" for i in range(10**6))
KEY = TrialKey("baseline", 0)


@pytest.fixture
def store(any_store: Store) -> Store:
    return any_store


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


def predictions(key: TrialKey) -> Predictions:
    z = np.random.default_rng([key.seed, len(key.arm)]).normal(size=6) + 2 * LABELS - 1
    return Predictions(np.stack([-np.logaddexp(0, z), -np.logaddexp(0, -z)], axis=1), LABELS)


def rows(n: int = 3) -> list[dict[str, float]]:
    return [{"epoch": e, "time": 10.0 + e, "train/loss": 1 / (e + 1)} for e in range(n)]


def success(key: TrialKey = KEY, **changes: Any) -> Success:
    values: dict[str, Any] = {
        "outcome": Outcome(test=predictions(key), scores={"speed": 3.5}, selected_epoch=1),
        "epochs": rows(),
        "duration_s": 1.25,
        "started_at": 2.0,
        "device": "cpu",
        "threads": 1,
        "log": "a printed line\n",
    }
    return Success(key=key, **{**values, **changes})


def failure(key: TrialKey = KEY, code: str = "training", **changes: Any) -> Failure:
    values = {"what": "ValueError: no", "traceback": "ValueError: no", "epochs": rows(2)}
    return Failure(key=key, code=code, **{**values, **changes})


def recorder_of(store: Store, plan: Plan, **how: Any) -> Recorder:
    how = {"provenance": {"commit": "c0ffee"}, "source": {"mine.py": "x = 1\n"}, **how}
    return recording(store, plan, **how)


def session(
    store: Store, plan: Plan, results: Sequence[Result] | None = None, **how: Any
) -> Benchmark:
    """Record results as one call of `bench run` does; all trials by default."""
    if results is None:
        results = [success(key) for key in plan.trials()]
    with store.lock(plan), recorder_of(store, plan, **how) as recorder:
        for result in results:
            recorder.record(result)
    return recorder.benchmark


def runs_of(store: Store, benchmark: Benchmark, key: TrialKey = KEY) -> Sequence[Child]:
    return store.children(benchmark)[key]


# -- what is recorded is read back --------------------------------------------------------------


def test_a_benchmark_is_read_back_as_it_was_recorded(store: Store, plan: Plan):
    session(store, plan)
    tables = store.tables(store.benchmark(plan.experiment))
    assert len(tables.trials) == 4 and set(tables.trials.status) == {"finished"}
    assert set(tables.trials.duration_s) == {1.25} and set(tables.trials.attempts) == {1}
    assert len(tables.epochs) == 12 and tables.epochs["train/loss"].max() == 1.0
    assert set(tables.predictions) == {(arm, seed, "test") for arm in ARMS for seed in (0, 1)}
    item = tables.predictions["smoothed", 1, "test"]
    expected = predictions(TrialKey("smoothed", 1)).log_probabilities
    assert item.log_probabilities.tobytes() == expected.tobytes()
    assert set(tables.scores.value) == {3.5}


def test_a_run_carries_its_name_settings_scores_and_the_seal_of_its_files(store: Store, plan: Plan):
    benchmark = session(store, plan, [success()])
    (child,) = runs_of(store, benchmark)
    assert (child.status, child.run.name, child.deleted) == ("FINISHED", "baseline/seed-00", False)
    assert child.run.params == {"arm": "baseline", "seed": "0", "lr": "0.1"}
    assert child.run.metrics["speed"] == 3.5 and 0 <= child.run.metrics["test/accuracy"] <= 1
    tags = child.run.tags
    assert tags[spool.SEAL] == spool.seal(plan.trial_digest(KEY), tags)
    assert set(json.loads(tags[spool.DIGESTS])) >= {"epochs.parquet", "predictions.npz"}


def test_source_and_each_sessions_provenance_are_kept(store: Store, plan: Plan):
    session(store, plan, [], provenance={"commit": "one"})
    benchmark = session(store, plan, [], provenance={"commit": "two", "command": "bench run x.py"})
    assert [facts["commit"] for facts in store.provenance(benchmark)] == ["one", "two"]
    assert store.source(benchmark) == {"mine.py": "x = 1\n"}
    assert store.again(benchmark) == ["bench", "run", "x.py"]


def test_a_failed_run_keeps_its_reason_and_settles_nothing(store: Store, plan: Plan):
    benchmark = session(store, plan, [failure(TrialKey("smoothed", 1))])
    (row,) = store.tables(benchmark).trials.to_dict("records")
    assert (row["status"], row["code"], row["reason"]) == ("failed", "training", "ValueError: no")
    assert store.settled(benchmark) == ({}, set())
    assert store.trial_states(benchmark) == {TrialKey("smoothed", 1): "failed"}


def test_a_diverged_run_is_known_to_the_next_session(store: Store, plan: Plan):
    session(store, plan, [failure(), failure(TrialKey("smoothed", 1), "nan")])
    with recorder_of(store, plan) as recorder:
        assert recorder.diverged == {TrialKey("smoothed", 1)}


@pytest.mark.parametrize("metric", ["accuracy", "aurc", "speed", "nothing"])
def test_recorded_values_are_known_to_the_next_session(store: Store, plan: Plan, metric: str):
    plan = replace(plan, metric=metric)
    session(store, plan, [success(), failure(TrialKey("smoothed", 0))])
    with recorder_of(store, plan) as recorder:
        known = recorder.known_runs()
    assert set(known) == ({KEY} if metric != "nothing" else set())
    assert all(run.examples is None for run in known.values())  # nobody looks between the runs
    assert metric != "speed" or known[KEY].value == 3.5


def test_a_plan_that_may_stop_knows_the_examples_of_what_is_recorded(store: Store, plan: Plan):
    plan = replace(plan, stop="anytime")
    session(store, plan, [success()])
    with recorder_of(store, plan) as recorder:
        [run] = recorder.known_runs().values()
    assert run.examples is not None and run.value == pytest.approx(run.examples.mean())


def scored(key: TrialKey, clusters: Any = ("a", "b", "a"), **scores: Any) -> Success:
    values = {"f1": [key.seed + 0.5, 0.25, 1.0], "em": [True, False, True], **scores}
    return success(key, outcome=Outcome(examples=values, clusters=clusters))


def test_scores_of_examples_are_read_back_as_means_of_their_clusters(store: Store, plan: Plan):
    plan = replace(plan, metric="f1", cluster="passage", stop="anytime")
    benchmark = session(store, plan, [scored(key) for key in plan.trials()])
    tables, units = store.tables(benchmark), benchmark.design().units
    assert (units.columns, units.column.many) == ("clusters", "passages")
    assert tables.items["smoothed", 1]["f1"].tolist() == [1.25, 0.25]
    assert tables.columns.weights is not None and tables.columns.weights.tolist() == [2, 1]
    values = tables.values(benchmark.design(), "smoothed", [0, 1])
    assert values.tolist() == pytest.approx([1.75 / 3, 2.75 / 3])
    (child,) = runs_of(store, benchmark)
    assert child.run.metrics["f1"] == pytest.approx(1.75 / 3)
    assert "examples.npz" in json.loads(child.run.tags[spool.DIGESTS])
    with recorder_of(store, plan) as recorder:
        known, test_sets = recorder.known_runs()[KEY], recorder.known_test_sets()
    assert known.examples is not None and known.examples.tolist() == [0.75, 0.25]
    assert known.weights is not None and known.weights.tolist() == [2, 1]
    assert test_sets[""][0].size == 3


@pytest.mark.parametrize("clusters", [None, ("a", "b", "b")])
def test_runs_of_other_test_examples_are_no_table(store: Store, plan: Plan, clusters: Any):
    first, second, *_ = plan.trials()
    benchmark = session(store, plan, [scored(first), scored(second, clusters)])
    with pytest.raises(BadTables, match="smoothed, was scored on other test examples than seed 00"):
        store.tables(benchmark)


def test_scores_of_examples_that_changed_are_damaged(store: Store, plan: Plan):
    benchmark = session(store, plan, [scored(key) for key in plan.trials()])
    (child,) = runs_of(store, benchmark)
    path = Path(child.run.artifact_uri.removeprefix("file://")) / "examples.npz"
    if not path.is_file():
        pytest.skip("this store keeps its files elsewhere")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(Damaged, match="the stored examples of seed 00, baseline, are damaged"):
        store.tables(benchmark)


# -- runs of one trial --------------------------------------------------------------------------


def test_every_attempt_has_a_run_of_its_own(store: Store, plan: Plan):
    results = [failure(code="memory", attempt=1), success(attempt=2)]
    benchmark = session(store, plan, results)
    assert [child.status for child in runs_of(store, benchmark)] == ["FAILED", "FINISHED"]
    (row,) = store.tables(benchmark).trials.to_dict("records")
    assert (row["status"], row["attempts"]) == ("finished", 2)


def test_a_repeated_run_stands_for_the_old_one_which_is_kept_and_marked(store: Store, plan: Plan):
    benchmark = session(store, plan, [success()])
    (old,) = runs_of(store, benchmark)
    session(store, plan, [success(duration_s=99.0)])
    first, second = runs_of(store, benchmark)
    assert (first.status, second.status) == ("FINISHED", "FINISHED")
    assert first.run.run_id == old.run.run_id == second.replaces
    assert first.replaced_by == second.run.run_id
    (row,) = store.tables(benchmark).trials.to_dict("records")
    assert row["duration_s"] == 99.0 and row["attempts"] == 2


def test_a_repeated_run_that_fails_leaves_the_old_one_standing(store: Store, plan: Plan):
    benchmark = session(store, plan, [success()])
    session(store, plan, [failure()])
    assert set(store.settled(benchmark)[0]) == {KEY}


def test_what_was_in_training_when_bench_was_stopped_is_killed(store: Store, plan: Plan):
    message = {"type": "epoch", "arm": "baseline", "seed": 0, "row": rows(1)[0], "attempt": 1}
    with pytest.raises(KeyboardInterrupt), recorder_of(store, plan) as recorder:
        recorder.deliver(message)
        recorder.record(success(TrialKey("smoothed", 0)))
        raise KeyboardInterrupt
    assert runs_of(store, recorder.benchmark)[0].status == "KILLED"
    assert runs_of(store, recorder.benchmark, TrialKey("smoothed", 0))[0].status == "FINISHED"


def test_an_orphan_of_a_process_that_died_is_killed_by_the_next(store: Store, plan: Plan):
    benchmark = session(store, plan, [])
    store.start(benchmark, KEY, {})
    assert store.trial_states(benchmark) == {KEY: "running"}
    session(store, plan, [])
    assert [child.status for child in runs_of(store, benchmark)] == ["KILLED"]
    assert store.trial_states(benchmark) == {}


def test_what_a_session_left_on_this_disk_is_recorded_once_by_the_next(store: Store, plan: Plan):
    benchmark = session(store, plan, [])
    place = store.pending_of(plan.benchmark_id)
    left = {"parent": benchmark.run_id, "trial": plan.trial_digest(KEY), "commit": ""}
    spool.keep(place, success(), **left)
    session(store, plan, [])
    session(store, plan, [])
    assert [child.status for child in runs_of(store, benchmark)] == ["FINISHED"]
    assert list(spool.waiting(place)) == []


def test_what_is_written_again_is_there_once(store: Store, plan: Plan, tmp_path: Path):
    benchmark = session(store, plan, [])
    run = store.start(benchmark, KEY, {})
    (tmp_path / "a.txt").write_text("a")
    for _ in range(2):
        store.describe(run, plan, KEY)
        store.put(run, tmp_path)
        store.log(run.run_id, [("loss", 0.5, 1000, 0)], tags={"bench.device": "cpu"})
        store.end(run.run_id, "FAILED")
    (child,) = runs_of(store, benchmark)
    assert (child.status, child.run.metrics) == ("FAILED", {"loss": 0.5})
    assert child.run.tags["bench.device"] == "cpu"


# -- one benchmark over time --------------------------------------------------------------------


def test_seeds_grow_in_one_benchmark_and_every_look_is_recorded(store: Store, plan: Plan):
    first = session(store, plan)
    second = session(store, plan.with_seeds(range(4)), [])
    third = session(store, replace(plan, batches=((0, 1, 9),)), [])
    assert first.run_id == second.run_id == third.run_id
    assert third.plan.batches == ((0, 1), (2, 3), (9,))
    design = store.benchmark(plan.experiment).design()
    assert design.seeds == (0, 1, 2, 3, 9)
    assert design.looks == (2, 2) and design.seeds_added_after_look
    assert not design.analysis_changed_after_results


def test_fewer_seeds_than_before_take_nothing_away(store: Store, plan: Plan):
    session(store, plan)
    again = session(store, replace(plan, batches=((0,),)), [])
    assert again.plan.seeds == (0, 1) and len(again.events) == 1


def test_an_analysis_that_changes_after_results_is_recorded(store: Store, plan: Plan):
    session(store, plan)
    changed = session(store, replace(plan, margin=0.02), [])
    design = store.benchmark(plan.experiment).design()
    assert design.margin == 0.02 and changed.plan.margin == 0.02
    assert design.analysis_changed_after_results and not design.frozen_before_first_run
    same = session(store, replace(plan, margin=0.02), [])
    assert len(same.events) == len(changed.events) == 2


def test_an_analysis_that_changes_before_any_result_is_no_change_after_results(
    store: Store, plan: Plan
):
    session(store, plan, [])
    session(store, replace(plan, margin=0.02), [])
    design = store.benchmark(plan.experiment).design()
    assert not design.analysis_changed_after_results and design.frozen_before_first_run


def test_a_stop_is_noted_for_the_next_session_until_seeds_are_added(store: Store, plan: Plan):
    plan = replace(plan, stop="anytime")
    with recorder_of(store, plan) as recorder:
        assert not recorder.stopped
        recorder.stop(7)
    with recorder_of(store, plan) as recorder:
        assert recorder.stopped and recorder.benchmark.design().stopped_at == 7
    with recorder_of(store, plan.with_seeds(range(90, 95))) as recorder:
        assert not recorder.stopped


# -- which benchmark ----------------------------------------------------------------------------


def test_fresh_begins_another_benchmark_and_overwrites_nothing(store: Store, plan: Plan):
    old = session(store, plan)
    new = session(store, plan, [], fresh=True)
    assert new.run_id != old.run_id and new.benchmark_id == old.benchmark_id
    assert store.benchmark(plan.experiment).run_id == new.run_id
    assert len(store.settled(old)[0]) == 4 and store.settled(new)[0] == {}
    assert not store.was_deleted(plan.benchmark_id, plan.experiment)


def test_the_benchmark_that_was_active_last_comes_first(store: Store, plan: Plan):
    first = session(store, plan, [])
    second = session(store, replace(plan, source_digest="s2"), [])
    assert [b.run_id for b in store.benchmarks(plan.experiment)] == [second.run_id, first.run_id]
    session(store, plan, [])
    assert store.benchmark(plan.experiment).run_id == first.run_id


def test_what_varies_one_source_alone_is_listed_with_the_benchmark_that_varies_all(
    store: Store, plan: Plan
):
    whole = session(store, plan, [])
    part = session(store, replace(plan, vary="init"), [])
    assert [b.run_id for b in store.benchmarks(plan.experiment)] == [whole.run_id]
    assert {name: b.run_id for name, b in store.families(whole).items()} == {"init": part.run_id}


def test_an_empty_store_says_what_to_run(store: Store, store_of: Callable[[str], Store]):
    empty = store_of("memory" if store.uri.startswith("memory") else "mlflow")
    with pytest.raises(NothingRecorded, match="nothing is recorded in ") as caught:
        empty.benchmark()
    assert caught.value.remedy() == "bench run digits --seeds 20" and caught.value.exit_status == 2


def test_an_unknown_name_is_answered_with_the_nearest_recorded_one(store: Store, plan: Plan):
    session(store, replace(plan, experiment="recorded whole"), [])
    with pytest.raises(NothingRecorded, match='no experiment called "recorded hole"') as caught:
        store.benchmark("recorded hole")
    assert caught.value.facts[0].startswith("Closest: recorded whole. Known:")
    assert caught.value.replace == (("recorded hole", "recorded whole"),)


# -- one process at a time ----------------------------------------------------------------------


def test_a_benchmark_that_is_held_is_refused_and_others_go_on(store: Store, plan: Plan):
    assert store.holder(plan.benchmark_id) is None
    with store.lock(plan):
        holder = store.holder(plan.benchmark_id)
        assert holder is not None and holder["pid"] == os.getpid()
        with pytest.raises(Locked, match=f"pid {os.getpid()}"), store.lock(plan):
            pass
        with store.lock(replace(plan, source_digest="another")):
            pass
    assert store.holder(plan.benchmark_id) is None


def test_a_report_is_put_on_the_benchmark(store: Store, plan: Plan):
    benchmark = session(store, plan)
    tags = {"bench.verdict": "better"}
    metrics = {"difference": 0.5, "p": None}
    store.publish(benchmark, files={"report.html": "<p>"}, metrics=metrics, tags=tags, note="n")
    assert store.benchmark(plan.experiment).verdict == "better"
    store.settle()
    store.require_there()
