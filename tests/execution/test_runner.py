"""The runner's story, told with lists in place of MLflow and of processes."""

import os
import re
import signal
import weakref
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.analysis.data.metrics import METRICS
from bench.analysis.data.own_metrics import computed
from bench.analysis.errors import BadPredictions
from bench.design.description import Discovered
from bench.design.plan import Plan, TrialKey
from bench.design.results import Failure, Job, Result, Scored, ScoredOn, Success
from bench.execution import runner
from bench.execution.base import Options
from bench.execution.runner import Look, Pair, Ran, scored_of, value_of
from bench.execution.signals import Ending, Terminated, ended_by_signals
from bench.experiment import BadOutcome, Metric, Outcome, Predictions
from bench.store.memory import MemoryStore

Answer = Callable[[TrialKey], Result]


def success(key: TrialKey, value: float = 0.5, **changes: Any) -> Success:
    values: dict[str, Any] = {
        "outcome": Outcome(scores={"return": value}),
        "epochs": [],
        "duration_s": 1.0,
        "started_at": 0.0,
        "device": "cpu",
        "threads": 1,
        "log": "",
    }
    return Success(key=key, **{**values, **changes})


@dataclass
class Recorder:
    """A list in place of MLflow."""

    benchmark: Any
    finished: dict[TrialKey, float] = field(default_factory=dict)
    diverged: set[TrialKey] = field(default_factory=set)
    recorded: list[Result] = field(default_factory=list)
    delivered: list[dict[str, Any]] = field(default_factory=list)
    closed: str | None = None
    away: str | None = None
    refused: list[str] = field(default_factory=list)
    trouble: Exception | None = None
    left: dict[TrialKey, str] = field(default_factory=dict)  # which files are not kept
    compared: list[tuple[list[str], list[str]]] = field(default_factory=list)

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        self.closed = "FINISHED" if kind is None else "KILLED"

    stopped = False
    stopped_at: int | None = None

    def known_runs(self) -> dict[TrialKey, Scored]:
        return {key: Scored(value) for key, value in self.finished.items()}

    def known_test_sets(self) -> dict[str, Any]:
        return {}

    def stop(self, pairs: int) -> None:
        self.stopped_at = pairs

    def note_reuse(self, pack: Sequence[str], differs: Sequence[str]) -> None:
        self.compared.append((list(pack), list(differs)))

    def record(self, result: Result) -> str:
        assert self.closed is None
        self.recorded.append(result)
        return self.left.get(result.key, "")

    def deliver(self, message: dict[str, Any]) -> None:
        self.delivered.append(message)

    def check(self) -> None:
        if self.trouble:
            raise self.trouble


class Store(MemoryStore):
    """A store in memory whose recorder is a list; keeps what was finished between the calls."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.finished: dict[TrialKey, float] = {}
        self.diverged: set[TrialKey] = set()
        self.recorder: Recorder | None = None
        self.trouble: Exception | None = None
        self.left: dict[TrialKey, str] = {}

    def recording(self, plan: Plan, **how: Any) -> Recorder:
        assert self.holder(plan.benchmark_id) is not None
        benchmark = self.begin(plan, **how)
        self.recorder = Recorder(benchmark, dict(self.finished), set(self.diverged))
        self.recorder.trouble, self.recorder.left = self.trouble, self.left
        return self.recorder


@dataclass
class Watcher:
    """Writes down what a person would have seen."""

    seen: list[tuple[Any, ...]] = field(default_factory=list)

    def begin(self, plan: Plan, finished: Collection[TrialKey], left: int) -> None:
        self.seen.append(("begin", len(finished), left))

    def epoch(self, message: Mapping[str, Any]) -> None:
        self.seen.append(("epoch", message["arm"], message["seed"]))

    def result(self, result: Result, value: float | None) -> None:
        self.seen.append(("result", result.key, value))

    def pair(self, seed: int, values: Mapping[str, float], look: Look | None) -> None:
        self.seen.append(("pair", seed, dict(values), look))

    def retry(self, failure: Failure) -> None:
        self.seen.append(("retry", failure.key))

    def notice(self, text: str) -> None:
        self.seen.append(("notice", text))

    def late(self) -> None:
        self.seen.append(("late",))

    def end(self) -> None:
        self.seen.append(("end",))

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        return [event for event in self.seen if event[0] == kind]


class Bench:
    """One benchmark that is run again and again."""

    def __init__(self, found: Discovered, plan: Plan, folder: Path, in_process: Any) -> None:
        self.in_process = in_process
        self.found, self.plan = found, replace(plan, metric="return", margin=None)
        self.store, self.looks = Store(folder), list[list[dict[str, float]]]()
        self.patch: Callable[..., Generator[list[Result], None, None]] | None = None

    def run(
        self,
        answer: Answer = success,
        *,
        seeds: Sequence[int] | None = None,
        look: Callable[[int], Look | None] = lambda pairs: None,
        retried: Sequence[Failure] = (),
        **options: Any,
    ) -> Ran:
        plan = self.plan if seeds is None else replace(self.plan, batches=(tuple(seeds),))
        self.executor, self.watcher = self.in_process(answer, self.nobody_trains_on), Watcher()
        self.executor.retried = list(retried)
        if self.patch is not None:
            self.executor.run = self.patch

        def look_at(pairs: Sequence[Pair]) -> Look | None:
            self.looks.append([{arm: run.value for arm, run in p.items()} for p in pairs])
            return look(len(pairs))

        ran = runner.run(
            plan,
            self.found,
            store=self.store,
            options=Options(**options),
            provenance={},
            watcher=self.watcher,
            look=look_at,
            executor=self.executor,
        )
        for result in self.recorded:
            if isinstance(result, Success):
                self.store.finished[result.key] = result.outcome.scores.get("return", 0.0)
            elif result.code == "nan":
                self.store.diverged.add(result.key)
        return ran

    def nobody_trains_on(self) -> None:
        """See that the executor is closed before what it trains is no longer recorded."""
        assert self.store.recorder is None or self.store.recorder.closed is None

    def describe(self, **changes: Any) -> None:
        """Let the experiment say other things of itself."""
        self.found = replace(self.found, experiment=replace(self.found.experiment, **changes))

    @property
    def recorded(self) -> list[Result]:
        assert self.store.recorder is not None
        return self.store.recorder.recorded

    @property
    def trained(self) -> list[TrialKey]:
        return [key for job in self.executor.jobs for key in job.keys]


@pytest.fixture
def mine(
    tiny: Discovered,
    plan_of: Callable[..., Plan],
    in_process: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Bench:
    monkeypatch.setattr(runner, "recording", Store.recording)
    return Bench(tiny, plan_of(tiny, range(3)), tmp_path / "store", in_process)


def keys(*seeds: int) -> list[TrialKey]:
    return [TrialKey(arm, seed) for seed in seeds for arm in ("weak", "strong")]


# -- what is trained -------------------------------------------------------------------------


def test_the_arms_of_a_seed_are_trained_side_by_side(mine: Bench):
    ran = mine.run()
    assert mine.trained == keys(0, 1, 2)
    assert (ran.trained, ran.failures, ran.stopped_early) == (6, (), False)
    assert [r.key for r in mine.recorded] == keys(0, 1, 2)


def test_a_job_carries_what_its_training_needs(mine: Bench):
    mine.run(data_dir=Path("/data"), timeout_s=60.0)
    job = mine.executor.jobs[1]
    assert job.keys == (TrialKey("strong", 0),)
    assert job.settings == {"strong": {"epochs": 3, "nap": 0.0, "strength": 1.0}}
    assert (job.data_dir, job.timeout_s) == ("/data", 60.0)
    assert (job.reference, job.source_digest) == (mine.found.reference, mine.found.source_digest)
    assert job.draws == {TrialKey("strong", 0): mine.plan.draw(TrialKey("strong", 0))}
    assert job.folders == str(mine.store.folders_of(mine.plan.benchmark_id))
    assert (job.devices, job.reuse_process) == (1, False)


def test_what_the_experiment_wants_of_its_processes_is_asked_for(mine: Bench):
    mine.describe(devices=2, reuse_process=True)
    mine.run()
    assert {(job.devices, job.reuse_process) for job in mine.executor.jobs[:6]} == {(2, True)}


def test_the_same_again_trains_nothing(mine: Bench):
    mine.run()
    ran = mine.run()
    assert mine.trained == [] and ran.trained == 0
    assert mine.watcher.of("begin") == [("begin", 6, 0)]
    assert mine.watcher.of("end") == [("end",)]


def test_thirty_seeds_after_twenty_train_ten_pairs(mine: Bench):
    mine.run(seeds=range(20))
    ran = mine.run(seeds=range(30))
    assert mine.trained == keys(*range(20, 30)) and ran.trained == 20
    assert len(mine.watcher.of("pair")) == 10
    assert len(mine.looks[-1]) == 30  # the running interval sees the older pairs too


def test_only_what_is_missing_is_trained(mine: Bench):
    mine.store.finished = {TrialKey("weak", 0): 0.1, TrialKey("strong", 2): 0.9}
    mine.run()
    assert mine.trained == [k for k in keys(0, 1, 2) if k not in {*keys(0)[:1], *keys(2)[1:]}]
    assert [job.pack for job in mine.executor.jobs] == [1, 2, 3, 4]  # numbered by the plan


def test_an_incomplete_pack_trains_again_whole_but_keeps_what_it_had(mine: Bench):
    mine.plan = replace(mine.plan, pack_seeds=2)
    mine.store.finished = {TrialKey("weak", 0): 0.1}
    ran = mine.run()
    assert mine.trained == keys(0, 1, 2)
    assert TrialKey("weak", 0) not in {r.key for r in mine.recorded}
    assert ran.trained == 5


def test_redo_trains_one_run_again(mine: Bench):
    mine.run()
    mine.run(redo=frozenset({TrialKey("strong", 1)}))
    assert mine.trained == [TrialKey("strong", 1)]
    assert [e[1] for e in mine.watcher.of("pair")] == [1]


def test_redo_of_a_run_that_is_not_planned_is_refused(mine: Bench):
    with pytest.raises(runner.NotPlanned, match="seed 9, strong, is not planned") as caught:
        mine.run(redo=frozenset({TrialKey("strong", 9)}))
    assert caught.value.facts == ("Planned seeds: 0, 1, 2.",) and caught.value.exit_status == 2
    assert mine.trained == []


def test_a_loss_that_diverged_is_not_trained_again_until_redo(mine: Bench):
    lost = TrialKey("strong", 1)
    failed = Failure(key=lost, code="nan", what="loss became nan at epoch 2.")
    first = mine.run(lambda key: failed if key == lost else success(key))
    assert [f.key for f in first.failures] == [lost]
    second = mine.run()
    assert mine.trained == [] and second.failures == ()
    assert (first.lost, second.lost) == ((), (lost,))  # still incomplete, and said so
    third = mine.run(redo=frozenset({lost}))
    assert mine.trained == [lost] and third.lost == ()


def test_any_other_failure_is_trained_again(mine: Bench):
    failed = Failure(key=TrialKey("strong", 1), code="training", what="ValueError: no")
    mine.run(lambda key: failed if key == failed.key else success(key))
    mine.run()
    assert mine.trained == [failed.key]


# -- failures --------------------------------------------------------------------------------


def test_failures_are_counted_recorded_and_stop_nothing(mine: Bench):
    ran = mine.run(
        lambda key: (
            Failure(key=key, code="training", what="no", place=f"mine.py, line {key.seed}")
            if key.arm == "strong" and key.seed < 2
            else success(key)
        )
    )
    assert [f.key for f in ran.failures] == [TrialKey("strong", 0), TrialKey("strong", 1)]
    assert ran.trained == 4 and len(mine.recorded) == 6
    assert [e[1] for e in mine.watcher.of("pair")] == [2]
    assert ("result", TrialKey("strong", 0), None) in mine.watcher.seen
    assert ran.repeated is None


def wrong(key: TrialKey) -> Result:
    """Answer as an experiment whose arm "strong" has a bug."""
    how = {"code": "training", "what": "KeyError: 'lr'", "error": "KeyError"}
    return Failure(key=key, place="mine.py, line 9", **how) if key.arm == "strong" else success(key)


def test_the_second_equal_failure_of_an_arm_without_success_starts_nothing_more(mine: Bench):
    ran = mine.run(wrong)
    assert mine.trained == keys(0, 1) and len(mine.recorded) == 4
    assert ran.repeated is not None and ran.repeated.key == TrialKey("strong", 1)
    assert [f.key for f in ran.failures] == [TrialKey("strong", 0), TrialKey("strong", 1)]
    assert ran.unstarted == tuple(keys(2)) and ran.trained == 2
    assert mine.store.recorder is not None and mine.store.recorder.closed == "FINISHED"


def test_keep_going_trains_on_after_equal_failures(mine: Bench):
    ran = mine.run(wrong, keep_going=True)
    assert ran.repeated is None and mine.trained == keys(0, 1, 2)
    assert len(ran.failures) == 3 and ran.unstarted == ()


def test_an_arm_that_has_trained_may_fail_as_often_as_it_likes(mine: Bench):
    mine.store.finished = {TrialKey("strong", 0): 0.5}
    ran = mine.run(wrong, seeds=range(4))
    assert ran.repeated is None and len(ran.failures) == 3 and ran.unstarted == ()


def test_a_retry_that_fails_alike_counts(mine: Bench):
    again = replace(wrong(TrialKey("strong", 0)), retryable=True)
    assert isinstance(again, Failure)
    ran = mine.run(lambda key: replace(wrong(key), attempt=2), retried=[again])
    assert ran.repeated is not None and mine.trained == keys(0)


def test_which_files_of_a_run_are_not_kept_is_said(mine: Bench):
    mine.store.left = {TrialKey("weak", 1): "big.bin (70.0 MiB): too large"}
    mine.run()
    assert mine.watcher.of("notice") == [("notice", "seed 01, weak: big.bin (70.0 MiB): too large")]


# -- one process for many trainings ------------------------------------------------------------


def test_the_last_whole_pack_of_reused_processes_is_trained_once_more_in_a_fresh_one(mine: Bench):
    mine.describe(reuse_process=True)
    mine.run()
    again = mine.executor.jobs[-1]
    assert mine.trained == [*keys(0, 1, 2), keys(2)[1]]
    assert (again.reuse_process, again.folders) == (False, None)
    assert mine.store.recorder is not None and len(mine.recorded) == 6
    assert mine.store.recorder.compared == [(["strong/seed-02"], [])]


def test_other_bits_in_a_fresh_process_are_noted(mine: Bench):
    values = iter(range(100))
    mine.describe(reuse_process=True)
    mine.run(lambda key: success(key, float(next(values))))
    assert mine.store.recorder is not None
    [(pack, differs)] = mine.store.recorder.compared
    assert pack == differs == [keys(2)[1].run_name]


def test_nothing_is_compared_where_every_training_has_its_own_process(mine: Bench):
    mine.run()
    assert mine.store.recorder is not None and mine.store.recorder.compared == []


def test_a_failure_that_is_tried_again_is_recorded_and_shown(mine: Bench):
    again = Failure(key=TrialKey("weak", 0), code="memory", what="MemoryError", retryable=True)
    ran = mine.run(retried=[again])
    first = mine.recorded[0]
    assert isinstance(first, Failure) and first.retryable and ran.failures == ()
    assert mine.watcher.of("retry") == [("retry", again.key)]


def test_an_innocent_companion_of_a_failed_pack_is_not_recorded_as_failed(mine: Bench):
    mine.plan = replace(mine.plan, pack_seeds=3)
    mine.store.finished = {TrialKey("weak", 0): 0.1}
    again = Failure(key=TrialKey("weak", 0), code="crash", what="died", retryable=True)
    mine.run(retried=[again])
    assert all(isinstance(r, Success) for r in mine.recorded)
    assert len(mine.recorded) == 5 and mine.watcher.of("retry") == []


def test_a_store_that_fails_ends_the_run_and_its_workers(mine: Bench):
    mine.store.trouble = RuntimeError("disk full")
    with pytest.raises(RuntimeError, match="disk full"):
        mine.run()
    assert mine.store.recorder is not None and mine.store.recorder.closed == "KILLED"
    assert mine.executor.closed >= 1 and mine.executor.jobs == []
    assert mine.watcher.of("end") == [("end",)]


# -- looking and stopping --------------------------------------------------------------------


def test_a_look_is_taken_after_every_pair_and_shown(mine: Bench):
    mine.run(
        lambda key: success(key, key.seed + (key.arm == "strong")), look=lambda n: Look(n, 0, 1)
    )
    assert mine.looks == [[{"weak": s, "strong": s + 1.0} for s in range(n)] for n in range(4)]
    assert mine.watcher.of("pair")[1] == ("pair", 1, {"weak": 1.0, "strong": 2.0}, Look(2, 0, 1))


def test_pairs_are_looked_at_in_the_order_of_the_plan(mine: Bench):
    mine.store.finished = dict.fromkeys(keys(1), 7.0)
    mine.run(seeds=(2, 1, 0))
    assert [pair["weak"] for pair in mine.looks[-1]] == [0.5, 7.0, 0.5]


def test_the_stopping_rule_is_honoured(mine: Bench):
    ran = mine.run(seeds=range(10), look=lambda n: Look(1.0, 0.5, 1.5, stop=n >= 2))
    assert ran.stopped_early and mine.trained == keys(0, 1)
    assert mine.store.recorder is not None and mine.store.recorder.stopped_at == 2
    assert "stops after 2 pairs" in mine.watcher.of("notice")[0][1]


def test_pairs_that_are_enough_already_train_nothing(mine: Bench):
    mine.store.finished = dict.fromkeys(keys(0, 1), 7.0)
    ran = mine.run(seeds=range(10), look=lambda n: Look(1.0, 0.5, 1.5, stop=n >= 2))
    assert ran.stopped_early and mine.trained == []


def test_what_is_to_be_repeated_trains_first_and_when_a_rule_has_stopped_alone(mine: Bench):
    mine.store.finished = dict.fromkeys(keys(0, 1, 2), 7.0)
    redo = frozenset(keys(2)[:1])
    ran = mine.run(seeds=range(10), redo=redo, look=lambda n: Look(1.0, 0.5, 1.5, stop=n >= 2))
    assert ran.stopped_early and mine.trained == keys(2)[:1] and ran.unstarted == ()
    mine.trained.clear()
    mine.run(seeds=range(10), redo=redo)
    assert mine.trained[0] == keys(2)[0] and len(mine.trained) == 1 + 14


def test_after_the_deadline_nothing_is_started_and_what_is_left_is_named(mine: Bench):
    mine.store.finished = dict.fromkeys(keys(1), 7.0)
    ran = mine.run(deadline=0.0)
    assert mine.trained == [] and ran.unstarted == (*keys(0), *keys(2))
    assert "the time of --max-hours is up" in mine.watcher.of("notice")[0][1]
    assert mine.watcher.of("late") == [("late",)]


def test_a_rule_that_has_its_answer_leaves_nothing_unstarted(mine: Bench):
    enough = Look(1.0, 0.5, 1.5, stop=True)
    assert mine.run(look=lambda n: enough if n else None, deadline=float("inf")).unstarted == ()
    assert len(mine.trained) == 2


def test_what_failed_was_started(mine: Bench):
    ran = mine.run(lambda key: Failure(key=key, code="crash", what="died."), keep_going=True)
    assert len(ran.failures) == 6 and ran.unstarted == ()


def test_without_a_rule_nothing_stops_early(mine: Bench):
    ran = mine.run(seeds=range(10), look=lambda n: Look(9.0, 8.0, 10.0))
    assert not ran.stopped_early and ran.trained == 20


def test_epochs_go_to_the_store_and_to_the_display(mine: Bench):
    mine.run()
    assert mine.store.recorder is not None and len(mine.store.recorder.delivered) == 6
    assert mine.watcher.of("epoch")[:2] == [("epoch", "weak", 0), ("epoch", "strong", 0)]


def test_epochs_that_may_be_trained_again_elsewhere_are_shown_and_not_recorded(mine: Bench):
    def answer(key: TrialKey) -> Result:
        row = {"epoch": 1, "time": 1.0}
        epoch = {"type": "epoch", "arm": key.arm, "seed": key.seed, "row": row}
        mine.executor.deliver({**epoch, "passing": True})
        return success(key)

    mine.run(answer)
    assert mine.store.recorder is not None and len(mine.store.recorder.delivered) == 6
    assert len(mine.watcher.of("epoch")) == 12


# -- values ----------------------------------------------------------------------------------


def test_a_value_is_computed_from_predictions_or_taken_from_the_scores():
    log_p = np.log([[0.8, 0.2], [0.8, 0.2], [0.4, 0.6], [0.8, 0.2]])
    outcome = Outcome(test=Predictions(log_p, np.array([0, 1, 1, 0])), scores={"return": 3.0})
    assert value_of(outcome, "accuracy") == 0.75
    assert value_of(outcome, "nll") == pytest.approx(-np.log([0.8, 0.2, 0.6, 0.8]).mean())
    assert value_of(outcome, "return") == 3.0
    assert value_of(outcome, "regret") is None
    assert value_of(Outcome(scores={"accuracy": 0.25}), "accuracy") == 0.25
    assert value_of(outcome, "auroc") == pytest.approx(0.75)  # of 4 pairs two are ties
    assert value_of(outcome, "aurc") == pytest.approx((3 * 1 / 3 + 1 / 4) / 4)


def test_a_test_set_without_a_class_of_the_metric_ends_it_all(mine: Bench):
    mine.plan = replace(mine.plan, metric="macro_f1")
    one_class = Predictions(np.log([[0.8, 0.2], [0.4, 0.6]]), np.array([0, 0]))
    with pytest.raises(BadPredictions, match="no test example is of class 1, so there is no macro"):
        mine.run(lambda key: success(key, outcome=Outcome(test=one_class)))
    assert mine.recorded == []


@pytest.mark.parametrize("metric", ["auroc", "cost"])
def test_a_rule_looks_at_groups_where_a_metric_is_no_mean(metric: str, mine: Bench):
    plan = replace(mine.plan, metric=metric, stop="anytime")
    run = Predictions(np.log([[0.8, 0.2], [0.4, 0.6]] * 50), np.array([0, 1] * 50))
    own = computed([Metric("cost", of=METRICS["auroc"].value)], run)
    outcome = Outcome(test=run, facts={"own_metrics": own})
    columns = scored_of(outcome, 0.5, plan).examples
    assert columns is not None and columns.shape == (40,)
    assert columns.mean() == pytest.approx(METRICS["auroc"].value(run))
    assert scored_of(outcome, 0.5, replace(plan, stop="fixed")).examples is None


def test_the_first_run_without_the_metric_ends_it_all_and_says_what_it_has(mine: Bench):
    with pytest.raises(BadOutcome, match='seed 00, weak, has no "return" to compare') as caught:
        mine.run(lambda key: success(key, outcome=Outcome(scores={"a": 1.0, "retrun": 1.0})))
    assert caught.value.facts[0] == "It has a, retrun."
    assert caught.value.facts[1].startswith("Known: accuracy, nll, brier, macro_f1")
    assert caught.value.fix is not None and 'metric="retrun"' in caught.value.fix
    assert mine.trained == keys(0)[:1] and mine.recorded == []
    assert mine.store.recorder is not None and mine.store.recorder.closed == "KILLED"


def test_a_misspelt_metric_of_the_predictions_is_answered_with_the_nearest(mine: Bench):
    mine.plan = replace(mine.plan, metric="acuracy")
    test = Predictions(np.log([[0.8, 0.2]]), np.array([0]))
    with pytest.raises(BadOutcome) as caught:
        mine.run(lambda key: success(key, outcome=Outcome(test=test)))
    assert caught.value.facts[0] == f"It has {', '.join(METRICS)}."
    assert caught.value.fix is not None and 'metric="accuracy"' in caught.value.fix


# -- signals ---------------------------------------------------------------------------------


def test_sigterm_ends_the_run_after_everything_is_written(mine: Bench):
    def answer(key: TrialKey) -> Result:
        if key == TrialKey("weak", 1):
            os.kill(os.getpid(), signal.SIGTERM)
        return success(key)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated):
        mine.run(answer)
    assert signal.getsignal(signal.SIGTERM) == before
    assert mine.store.recorder is not None and mine.store.recorder.closed == "KILLED"
    assert len(mine.recorded) == 3 and mine.executor.closed >= 1  # what was in hand is kept too


def test_a_signal_during_the_last_training_is_not_lost(mine: Bench):
    def answer(key: TrialKey) -> Result:
        if key == keys(2)[-1]:
            os.kill(os.getpid(), signal.SIGTERM)
        return success(key)

    with pytest.raises(Terminated):
        mine.run(answer)
    assert len(mine.recorded) == 6
    assert mine.store.recorder is not None and mine.store.recorder.closed == "KILLED"


def test_a_signal_while_the_store_takes_the_last_runs_ends_us_as_any_other(
    mine: Bench, monkeypatch: pytest.MonkeyPatch
):
    def close(recorder: Recorder, *_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Recorder, "__exit__", close)
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # else a process without a message
    try:
        with pytest.raises(Terminated):
            mine.run()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_ctrl_c_once_finishes_and_records_what_trains_and_starts_nothing_new(mine: Bench):
    def answer(key: TrialKey) -> Result:
        if key == TrialKey("weak", 1):
            signal.raise_signal(signal.SIGINT)
        return success(key)

    with pytest.raises(KeyboardInterrupt):
        mine.run(answer)
    assert mine.trained == [*keys(0), TrialKey("weak", 1)]
    assert [r.key for r in mine.recorded] == mine.trained and mine.executor.woken == 1
    assert mine.watcher.of("notice") == [
        ("notice", "interrupted: runs in training are finished first; Ctrl-C again ends them.")
    ]
    assert mine.store.recorder is not None and mine.store.recorder.closed == "KILLED"


def test_ctrl_c_twice_ends_what_trains(mine: Bench):
    mine.plan = replace(mine.plan, pack_seeds=3)
    ended = []

    def run(jobs: Sequence[Job], **how: Any) -> Generator[list[Result], None, None]:
        try:
            signal.raise_signal(signal.SIGINT)
            how["check"]()  # one is patient
            assert how["stop"]()
            signal.raise_signal(signal.SIGINT)
            how["check"]()
            yield []
        finally:
            ended.append(len(jobs))

    mine.patch = run
    with pytest.raises(KeyboardInterrupt):
        mine.run()
    assert ended == [1] and mine.recorded == [] and mine.executor.woken == 2


def test_ctrl_c_once_waits_ctrl_c_twice_and_sigterm_do_not():
    def held(*numbers: int) -> Ending:
        ending = Ending()
        ending.patient = True
        for number in numbers:
            ending(number, None)
        return ending

    ending = held(signal.SIGINT)
    ending.check()  # nothing yet
    assert ending.is_near
    for numbers, kind in (
        ((signal.SIGINT, signal.SIGINT), KeyboardInterrupt),
        ((signal.SIGTERM,), Terminated),
        ((signal.SIGINT, signal.SIGTERM), Terminated),
        ((signal.SIGTERM, signal.SIGINT), Terminated),
    ):
        with pytest.raises(kind):
            held(*numbers).check()


def test_what_was_asked_for_is_raised_when_signals_are_held_back_no_more():
    ending = Ending()
    with pytest.raises(KeyboardInterrupt), ending.held_back(lambda: None):
        ending(signal.SIGINT, None)
        ending.check()


def test_a_signal_while_nobody_checks_acts_at_once():
    with pytest.raises(Terminated):
        Ending()(signal.SIGTERM, None)
    Ending().check()  # nobody asked: nothing happens


class Closing:
    """Something whose end is interrupted."""

    def __init__(self, told: list[str]) -> None:
        self.told = told

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)
        self.told.append("closed")


def interrupted(told: list[str]) -> None:
    signal.raise_signal(signal.SIGINT)
    told.append("finalised")


def finalised(kind: str, told: list[str]) -> Any:
    thing: Any = Closing(told) if kind == "closed" else Plain()
    if kind == "finalised":
        weakref.finalize(thing, interrupted, told)
    return thing


@pytest.mark.parametrize("kind", ["closed", "finalised"])
def test_a_second_signal_in_the_middle_of_a_finaliser_acts_at_the_next_check(kind: str):
    told: list[str] = []
    thing = finalised(kind, told)
    with (
        pytest.raises(KeyboardInterrupt),
        ended_by_signals() as ending,
        ending.held_back(lambda: told.append("woken")),
    ):
        signal.raise_signal(signal.SIGINT)  # the first one waits, as it should
        ending.check()
        del thing
        ending.check()
        told.append("never")
    assert told == ["woken", "woken", kind]


class Plain:
    """Something that can be referred to weakly."""


# -- a device in use, a store that is away, and secrets ---------------------------------------


def test_that_the_store_is_away_and_back_is_said_once_each(mine: Bench):
    reasons = iter([None, "no route", "no route", None, None, None])

    def answer(key: TrialKey) -> Result:
        assert mine.store.recorder is not None
        mine.store.recorder.away = next(reasons)
        return success(key)

    mine.run(answer)
    assert [text for _, text in mine.watcher.of("notice")] == [
        "the store does not answer; finished runs are kept on this disk until it does. no route",
        "the store answers again.",
    ]


def test_what_the_executor_has_to_say_is_shown_and_not_recorded(mine: Bench):
    text = "a training waits for cuda:0: another benchmark (eve, pid 7) trains there."

    def answer(key: TrialKey) -> Result:
        if key == keys(0)[0]:
            mine.executor.deliver({"type": "notice", "text": text})
        return success(key)

    mine.run(answer)
    assert mine.watcher.of("notice") == [("notice", text)]


def test_no_secret_that_a_training_writes_is_recorded_or_shown(
    mine: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    said = "401 for hf_0123456789 at https://me:s3cret@host/x"

    def answer(key: TrialKey) -> Result:
        if key.arm == "weak":
            return success(key, log=said)
        how: dict[str, Any] = {"what": said, "facts": (said,), "traceback": said, "log": said}
        return Failure(key=key, code="training", **how)

    ran = mine.run(answer)
    for result in [*mine.recorded, *ran.failures]:
        assert "0123456789" not in repr(result) and "s3cret" not in repr(result)
        assert "401 for *** at https://me:***@host/x" in result.log


def scored_on(key: TrialKey, labels: Sequence[int]) -> Success:
    log_p = np.log(np.full((len(labels), 2), 0.5))
    return success(key, outcome=Outcome(test=Predictions(log_p, np.array(labels))))


def test_the_test_set_of_a_run_comes_back_from_its_tag():
    found = ScoredOn.of(scored_on(TrialKey("weak", 0), [0, 1, 0]))
    assert found is not None and found.size == 3 and ScoredOn.from_tag(found.tag) == found
    for odd in ("", "3", "3-", "x-0123456789abcdef", f"{found.tag}0", "³-0123456789abcdef"):
        assert ScoredOn.from_tag(odd) is None


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([0, 1, 1], r"its test labels, or their order, are not those of seed 00, \w+\."),
        ([0, 1], r"it has 2 test examples, seed 00, \w+ had 3\."),
        ([0], r"it has 1 test example, seed 00, \w+ had 3\."),
    ],
)
def test_a_training_scored_on_other_examples_fails_at_once(
    mine: Bench, labels: list[int], says: str
):
    mine.plan = replace(mine.plan, metric="accuracy")
    first, second, *_ = mine.plan.trials()
    answers = {second: scored_on(second, labels)}
    ran = mine.run(lambda key: answers.get(key) or scored_on(key, [0, 1, 0]))
    [failure] = ran.failures
    assert failure.key == second and failure.code == "outcome"
    assert re.fullmatch(says, failure.what)
