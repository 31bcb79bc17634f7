"""The runner's story, told with lists in place of MLflow and of workers."""

import contextlib
import os
import signal
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import runner
from bench.contract import BadOutcome, Outcome, Predictions
from bench.devices import cpu_slots
from bench.discover import Discovered
from bench.plan import Plan, TrialKey
from bench.runner import Look, Options, Pair, Ran, Terminated, value_of
from bench.work import Failure, Job, Result, Scored, Success

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
class Benchmark:
    """What the runner needs of a benchmark: its plan."""

    plan: Plan


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
    trouble: Exception | None = None

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        self.closed = "FINISHED" if kind is None else "KILLED"

    stopped = False
    stopped_at: int | None = None

    def known_runs(self) -> dict[TrialKey, Scored]:
        return {key: Scored(value) for key, value in self.finished.items()}

    def stop(self, pairs: int) -> None:
        self.stopped_at = pairs

    def record(self, result: Result) -> None:
        assert self.closed is None
        self.recorded.append(result)

    def deliver(self, message: dict[str, Any]) -> None:
        self.delivered.append(message)

    def check(self) -> None:
        if self.trouble:
            raise self.trouble


@dataclass
class Store:
    """Keeps what was finished from one call to the next."""

    finished: dict[TrialKey, float] = field(default_factory=dict)
    diverged: set[TrialKey] = field(default_factory=set)
    seeds: tuple[int, ...] = ()
    locked: bool = False
    recorder: Recorder | None = None
    trouble: Exception | None = None

    @contextlib.contextmanager
    def lock(self, plan: Plan) -> Iterator[None]:
        self.locked = True
        yield
        self.locked = False

    def begin(self, plan: Plan, **how: Any) -> Recorder:
        assert self.locked
        older = replace(plan, batches=(self.seeds,)).with_seeds(plan.seeds) if self.seeds else plan
        self.seeds = older.seeds
        self.recorder = Recorder(
            Benchmark(older), dict(self.finished), set(self.diverged), trouble=self.trouble
        )
        return self.recorder


class Pool:
    """Answers every job at once, in the order in which the jobs are given."""

    def __init__(self, answer: Answer, store: Store) -> None:
        self.answer, self.store = answer, store
        self.jobs: list[Job] = []
        self.retried: list[Failure] = []
        self.closed = 0
        self.deliver: Callable[[dict[str, Any]], None] = lambda message: None

    def listen(self, deliver: Callable[[dict[str, Any]], None]) -> None:
        self.deliver = deliver

    def run(
        self,
        jobs: Sequence[Job],
        *,
        stop: Callable[[], bool],
        on_retry: Callable[[Failure], None],
        check: Callable[[], None],
    ) -> Iterator[list[Result]]:
        for job in jobs:
            check()
            if stop():
                return
            self.jobs.append(job)
            for failure in self.retried:
                if failure.key in job.keys:
                    on_retry(failure)
            for key in job.keys:
                row = {"epoch": 0, "time": 1.0}
                self.deliver({"type": "epoch", "arm": key.arm, "seed": key.seed, "row": row})
            yield [self.answer(key) for key in job.keys]

    def close(self) -> None:
        if self.jobs and not self.closed:  # nobody trains on while nobody records
            assert self.store.recorder is None or self.store.recorder.closed is None
        self.closed += 1


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

    def __init__(self, found: Discovered, plan: Plan) -> None:
        self.found, self.plan = found, replace(plan, metric="return", margin=None)
        self.store, self.looks = Store(), list[list[dict[str, float]]]()

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
        self.pool, self.watcher = Pool(answer, self.store), Watcher()
        self.pool.retried = list(retried)

        def look_at(pairs: Sequence[Pair]) -> Look | None:
            self.looks.append([{arm: run.value for arm, run in p.items()} for p in pairs])
            return look(len(pairs))

        ran = runner.run(
            plan,
            self.found,
            store=self.store,  # type: ignore[arg-type]
            options=Options(slots=cpu_slots(2), **options),
            provenance={},
            watcher=self.watcher,
            look=look_at,
            pool=self.pool,  # type: ignore[arg-type]
        )
        for result in self.recorded:
            if isinstance(result, Success):
                self.store.finished[result.key] = result.outcome.scores.get("return", 0.0)
            elif result.code == "nan":
                self.store.diverged.add(result.key)
        return ran

    @property
    def recorded(self) -> list[Result]:
        assert self.store.recorder is not None
        return self.store.recorder.recorded

    @property
    def trained(self) -> list[TrialKey]:
        return [key for job in self.pool.jobs for key in job.keys]


@pytest.fixture
def mine(tiny: Discovered, plan_of: Callable[..., Plan]) -> Bench:
    return Bench(tiny, plan_of(tiny, range(3)))


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
    job = mine.pool.jobs[1]
    assert job.keys == (TrialKey("strong", 0),)
    assert job.settings == {"strong": {"epochs": 3, "nap": 0.0, "strength": 1.0}}
    assert (job.data_dir, job.timeout_s) == ("/data", 60.0)
    assert (job.reference, job.source_digest) == (mine.found.reference, mine.found.source_digest)


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
    assert [job.pack for job in mine.pool.jobs] == [1, 2, 3, 4]  # numbered by the plan


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
            Failure(key=key, code="training", what="no")
            if key.arm == "strong" and key.seed < 2
            else success(key)
        )
    )
    assert [f.key for f in ran.failures] == [TrialKey("strong", 0), TrialKey("strong", 1)]
    assert ran.trained == 4 and len(mine.recorded) == 6
    assert [e[1] for e in mine.watcher.of("pair")] == [2]
    assert ("result", TrialKey("strong", 0), None) in mine.watcher.seen


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
    assert mine.pool.closed >= 1 and mine.pool.jobs == []
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
    ran = mine.run(lambda key: Failure(key=key, code="crash", what="died."))
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
        mine.pool.deliver({**epoch, "passing": True})
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


def test_the_first_run_without_the_metric_ends_it_all_and_says_what_it_has(mine: Bench):
    with pytest.raises(BadOutcome, match='seed 00, weak, has no "return" to compare') as caught:
        mine.run(lambda key: success(key, outcome=Outcome(scores={"a": 1.0, "retrun": 1.0})))
    assert caught.value.facts[0] == "It has a, retrun."
    assert caught.value.facts[1].startswith("Known: accuracy, nll, brier, from test predictions")
    assert caught.value.fix is not None and 'metric="retrun"' in caught.value.fix
    assert mine.trained == keys(0)[:1] and mine.recorded == []
    assert mine.store.recorder is not None and mine.store.recorder.closed == "KILLED"


def test_a_misspelt_metric_of_the_predictions_is_answered_with_the_nearest(mine: Bench):
    mine.plan = replace(mine.plan, metric="acuracy")
    test = Predictions(np.log([[0.8, 0.2]]), np.array([0]))
    with pytest.raises(BadOutcome) as caught:
        mine.run(lambda key: success(key, outcome=Outcome(test=test)))
    assert caught.value.facts[0] == "It has accuracy, nll, brier."
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
    assert len(mine.recorded) == 3 and mine.pool.closed >= 1  # what was in hand is kept too


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


def test_the_first_signal_waits_for_a_safe_moment_and_the_second_acts_at_once():
    ending = runner.Ending()
    ending.patient = True
    ending(signal.SIGINT, None)  # nothing yet
    with pytest.raises(KeyboardInterrupt):
        ending.check()
    with pytest.raises(runner.Terminated):
        ending(signal.SIGTERM, None)


def test_a_signal_while_nobody_checks_acts_at_once():
    with pytest.raises(runner.Terminated):
        runner.Ending()(signal.SIGTERM, None)
    runner.Ending().check()  # nobody asked: nothing happens


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


@pytest.mark.parametrize("patient", [False, True])
@pytest.mark.parametrize("kind", ["closed", "finalised"])
def test_a_signal_in_the_middle_of_a_finaliser_acts_right_after_it(kind: str, patient: bool):
    told: list[str] = []
    thing: Any = Closing(told) if kind == "closed" else Plain()
    if kind == "finalised":
        weakref.finalize(thing, interrupted, told)
    with pytest.raises(KeyboardInterrupt), runner.ended_by_signals() as ending:
        if patient:  # then the first one waits, as it should
            ending.patient = True
            signal.raise_signal(signal.SIGINT)
        del thing
        time.sleep(5)
        told.append("never")
    assert told == [kind]


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


def test_that_workers_wait_for_a_device_is_said_once(mine: Bench):
    def answer(key: TrialKey) -> Result:
        mine.pool.deliver({"type": "waiting", "pid": key.seed, "devices": "cuda:0"})
        return success(key)

    mine.run(answer)
    assert [text for _, text in mine.watcher.of("notice")] == [
        "a worker waits for cuda:0: another benchmark of yours trains there."
    ]


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
