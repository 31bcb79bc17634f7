"""Work and pool: real workers on tiny experiments, and everything that can go wrong in one."""

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from multiprocessing import AuthenticationError, Pipe
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import pool as pool_module
from bench import work
from bench.devices import Slot, cpu_slots
from bench.discover import Discovered, discover
from bench.plan import Plan, TrialKey, arms_with, make_plan
from bench.pool import LeaseTrouble, Mailbox, Pool
from bench.work import Failure, Job, Result, Success

SCORED = """
import itertools, os, random, sys, time
from pathlib import Path
import numpy as np
from bench import Experiment, Outcome, Trial

HERE = Path({folder!r})

def train(trial):
    {body}

EXPERIMENT = Experiment(name="scored", question="?", metric="return", train=train,
    arms={{"off": {{"x": 0}}, "on": {{"x": 1}}}}, {extra})
"""

EPOCH = b'{"type": "epoch", "arm": "on", "seed": 1, "attempt": 1, "row": {"epoch": 0}}'
Run = Callable[..., dict[TrialKey, Result]]


class Heard:
    """What the workers said while they trained."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.retries: list[Failure] = []

    def epochs_within(self, key: TrialKey, count: int) -> list[tuple[int, int]]:
        """Return them once there are `count`: a line is read by a thread of its own."""
        deadline = time.monotonic() + 10
        while len(self.epochs(key)) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.epochs(key)

    def epochs(self, key: TrialKey) -> list[tuple[int, int]]:
        """Return (attempt, epoch) of a trial's messages, in their order."""
        return [
            (m["attempt"], m["row"]["epoch"])
            for m in self.messages
            if m["type"] == "epoch" and (m["arm"], m["seed"]) == (key.arm, key.seed)
        ]


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(cpu_slots(2), retries=1) as running:
        yield running


@pytest.fixture
def heard(pool: Pool) -> Heard:
    found = Heard()
    pool.listen(found.messages.append)
    return found


@pytest.fixture
def scored(tmp_path: Path) -> Callable[..., Discovered]:
    """Return what makes an experiment of the body of its `train`."""

    def make(body: str, extra: str = "") -> Discovered:
        path = tmp_path / f"tiny_{abs(hash(str(tmp_path) + body))}.py"
        text = body.strip("\n").replace("\n", "\n    ")
        path.write_text(SCORED.format(folder=str(tmp_path), body=text, extra=extra))
        return discover(str(path))

    return make


def planned(found: Discovered, seeds: int) -> Plan:
    return make_plan(found, data={}, arms=arms_with(found), seeds=tuple(range(seeds)))


def jobs_of(found: Discovered, seeds: int = 1, *, timeout_s: float | None = None) -> list[Job]:
    plan = planned(found, seeds)
    return [
        Job(n, pack, plan.arms, found.reference, found.source_digest, None, timeout_s)
        for n, pack in enumerate(plan.packs())
    ]


@pytest.fixture
def run(pool: Pool, heard: Heard) -> Run:
    def go(found: Discovered, seeds: int = 1, **how: Any) -> dict[TrialKey, Result]:
        jobs = jobs_of(found, seeds, **how)
        results = [r for some in pool.run(jobs, on_retry=heard.retries.append) for r in some]
        assert len({r.key for r in results}) == len(results) == 2 * seeds
        return {r.key: r for r in results}

    return go


OFF, ON = TrialKey("off", 0), TrialKey("on", 0)


# -- what comes back -------------------------------------------------------------------------


def test_a_trial_brings_its_outcome_epochs_and_circumstances(
    run: Run, heard: Heard, tiny: Discovered
):
    results = run(tiny, 2)
    assert {k.run_name for k in results} == {
        "weak/seed-00",
        "weak/seed-01",
        "strong/seed-00",
        "strong/seed-01",
    }
    for key, result in results.items():
        assert isinstance(result, Success)
        assert result.outcome.test is not None and len(result.outcome.test) == 40
        assert [row["epoch"] for row in result.epochs] == [0, 1, 2]
        assert [row["train/loss"] for row in result.epochs] == [1.0, 1 / 2, 1 / 3]
        assert (result.device, result.threads, result.attempt) == ("cpu", 1, 1)
        assert result.duration_s > 0 and abs(time.time() - result.started_at) < 60
        assert result.environment["numpy"] == np.__version__
        assert heard.epochs_within(key, 3) == [(1, 0), (1, 1), (1, 2)]  # live, not only at the end


def test_a_worker_gives_the_same_numbers_as_this_process(run: Run, tiny: Discovered):
    from bench.contract import Trial

    for key, result in run(tiny).items():
        settings = tiny.experiment.arm_settings(key.arm)
        here = tiny.experiment.train(Trial(seed=key.seed, arm=key.arm, settings=settings))
        assert isinstance(result, Success) and result.outcome.test and here.test
        a, b = result.outcome.test, here.test
        assert a.log_probabilities.tobytes() == b.log_probabilities.tobytes()


def test_workers_are_other_processes_and_do_not_share_the_parents_threads(
    run: Run, scored: Callable[..., Discovered]
):
    found = scored(
        """
import threadpoolctl
np.ones((50, 50)) @ np.ones((50, 50))
most = max([pool["num_threads"] for pool in threadpoolctl.threadpool_info()], default=1)
return Outcome(scores={"return": most}, facts={"pid": os.getpid(), "omp":
    [os.environ.get(n + "_NUM_THREADS") for n in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")]})
"""
    )
    for result in run(found).values():
        assert isinstance(result, Success)
        assert result.outcome.facts["pid"] != os.getpid()
        assert result.outcome.facts["omp"] == ["1"] * 4
        assert result.outcome.scores["return"] == 1


def test_global_generators_are_seeded_by_the_trial_whatever_ran_before(
    run: Run, scored: Callable[..., Discovered]
):
    found = scored(
        """
drawn = random.random() + np.random.random()
for _ in range(17 * trial.settings["x"]):
    random.random(), np.random.random()
return Outcome(scores={"return": drawn})
"""
    )

    def drawn(results: dict[TrialKey, Result]) -> dict[TrialKey, float]:
        return {k: r.outcome.scores["return"] for k, r in results.items() if isinstance(r, Success)}

    first, again = drawn(run(found, 3)), drawn(run(found, 3))
    assert first == again and len(first) == 6
    assert all(first[TrialKey("off", s)] == first[TrialKey("on", s)] for s in range(3))
    assert len(set(first.values())) == 3


def test_a_million_printed_lines_stay_out_of_the_terminal_and_of_json(
    run: Run, scored: Callable[..., Discovered], capfd: pytest.CaptureFixture[str]
):
    found = scored(
        """
if trial.arm == "on":
    sys.stdout.write("a line of many\\n" * 999_999)
    print("the last line")
    os.system("echo from a child process")
    print("and an error", file=sys.stderr)
return Outcome(scores={"return": 1.0})
"""
    )
    results = run(found)
    assert capfd.readouterr() == ("", "")
    log = results[ON].log
    assert len(log) <= work.LOG_TAIL_BYTES
    for line in ("the last line", "from a child process", "and an error"):
        assert line in log
    assert results[OFF].log == ""  # each trial's own output, not the worker's whole


def test_packs_train_together_and_are_told_apart(run: Run, scored: Callable[..., Discovered]):
    extra = "train_pack=lambda trials: [train(t) for t in trials], pack_seeds=2"
    found = scored(
        'return Outcome(scores={"return": 10 * trial.seed + trial.settings["x"]})', extra
    )
    results = run(found, 3)
    assert {
        k: r.outcome.scores["return"] for k, r in results.items() if isinstance(r, Success)
    } == {
        TrialKey(arm, seed): 10 * seed + x
        for seed in range(3)
        for x, arm in enumerate(("off", "on"))
    }
    packs = {
        (k.seed, k.arm): r.outcome.facts["pack"]
        for k, r in results.items()
        if isinstance(r, Success)
    }
    assert packs[0, "on"] == packs[1, "off"] == ["off/seed-00", "on/seed-00", "off/seed-01",
        "on/seed-01"]  # fmt: skip
    assert packs[2, "on"] == ["off/seed-02", "on/seed-02"]


def test_a_pack_has_the_time_of_all_its_trainings(run: Run, scored: Callable[..., Discovered]):
    extra = "train_pack=lambda trials: [train(t) for t in trials], pack_seeds=2"
    found = scored('time.sleep(0.6)\nreturn Outcome(scores={"return": 1.0})', extra)
    results = run(found, 2, timeout_s=1.0)  # four trainings in one pack: 2.4 s of 4
    assert all(isinstance(r, Success) and r.duration_s < 1 for r in results.values())


def test_a_training_that_diverges_leaves_the_others_of_its_pack_alone(
    run: Run, heard: Heard, scored: Callable[..., Discovered]
):
    found = scored(
        """
from bench.contract import Diverged
trial.log(0, {"train/loss": 0.9})
try:
    trial.log(1, {"train/loss": float("nan") if (trial.arm, trial.seed) == ("on", 0) else 0.5})
except Diverged as diverged:
    return diverged
return Outcome(scores={"return": 1.0})
""",
        "train_pack=lambda trials: [train(t) for t in trials], pack_seeds=2",
    )
    results = run(found, 2)
    failure = results.pop(ON)
    assert isinstance(failure, Failure) and failure.code == "nan" and not failure.retryable
    assert failure.what == "train/loss became nan at epoch 1."
    assert failure.facts == ("Last finite loss 0.900 at epoch 0.",)
    assert [type(r) for r in results.values()] == [Success] * 3
    assert heard.retries == []


# -- what goes wrong in a training -----------------------------------------------------------


def test_an_exception_is_a_failure_with_its_traceback_and_harms_nobody(
    run: Run, heard: Heard, scored: Callable[..., Discovered]
):
    found = scored(
        """
trial.log(0, {"train/loss": 1.0})
if trial.arm == "on":
    raise ValueError("shapes (3,) and (4,) not aligned")
return Outcome(scores={"return": 1.0})
"""
    )
    results = run(found)
    failure = results[ON]
    assert isinstance(failure, Failure) and isinstance(results[OFF], Success)
    assert failure.code == "training" and not failure.retryable
    assert failure.what == "ValueError: shapes (3,) and (4,) not aligned"
    assert 'raise ValueError("shapes (3,) and (4,) not aligned")' in failure.traceback
    assert [row["epoch"] for row in failure.epochs] == [0]
    assert heard.retries == []


def test_a_loss_that_is_no_number_says_where_it_last_was_one(
    run: Run, heard: Heard, scored: Callable[..., Discovered]
):
    found = scored(
        """
for epoch, loss in enumerate([0.9, 0.902, float("nan") if trial.arm == "on" else 0.5]):
    trial.log(epoch, {"train/loss": loss, "lr": 0.1})
return Outcome(scores={"return": 1.0})
"""
    )
    failure = run(found)[ON]
    assert isinstance(failure, Failure) and failure.code == "nan"
    assert failure.what == "train/loss became nan at epoch 2."
    assert failure.facts == ("Last finite loss 0.902 at epoch 1, learning rate 0.1.",)
    assert heard.epochs(ON)[-1] == (1, 2)  # the bad epoch is recorded too
    assert heard.retries == []


@pytest.mark.parametrize(
    ("body", "code", "what"),
    [
        ("return 0.93", "outcome", "the training returned float, not one Outcome a trial."),
        ("pass", "outcome", "the training returned NoneType, not one Outcome a trial."),
        ("return Outcome()", "outcome", "neither test predictions nor scores"),
        ("sys.exit(3)", "worker", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "worker", "KeyboardInterrupt"),
        ("trial.log(0, {'top@5': 1.0})", "outcome", "nothing can be logged under the name"),
    ],
)
def test_a_training_that_breaks_the_contract_fails_alone(
    body: str, code: str, what: str, run: Run, scored: Callable[..., Discovered]
):
    text = f'if trial.arm == "on":\n    {body}\nelse:\n    return Outcome(scores={{"return": 1.0}})'
    results = run(scored(text))
    failure = results[ON]
    assert isinstance(failure, Failure) and isinstance(results[OFF], Success)
    assert failure.code == code and what in failure.what


def test_a_source_that_changed_after_the_plan_is_not_trained(run: Run, tiny: Discovered):
    path = Path(tiny.reference)
    path.write_text(path.read_text() + "# one more line\n")
    for failure in run(tiny).values():
        assert isinstance(failure, Failure)
        assert failure.what == "the experiment's source changed while it was running."


def test_too_little_memory_is_tried_again_and_then_a_failure(
    run: Run, heard: Heard, scored: Callable[..., Discovered]
):
    found = scored(
        """
if trial.arm == "on":
    trial.log(0, {"train/loss": 1.0})
    raise MemoryError("1.9 GiB")
marker = HERE / "tried"
if not marker.exists():
    marker.touch()
    raise MemoryError("only once")
return Outcome(scores={"return": 1.0})
"""
    )
    results = run(found)
    assert isinstance(results[OFF], Success) and results[OFF].attempt == 2
    assert isinstance(results[ON], Failure) and results[ON].attempt == 2
    assert results[ON].code == "memory"
    assert sorted((f.key.arm, f.attempt) for f in heard.retries) == [("off", 1), ("on", 1)]
    assert heard.epochs(ON) == [(1, 0), (2, 0)]  # each attempt's epochs are told apart


def test_a_training_that_takes_too_long_fails_and_its_worker_goes_on(
    run: Run, heard: Heard, scored: Callable[..., Discovered]
):
    found = scored(
        """
for epoch in itertools.count():
    trial.log(epoch, {"train/loss": 1.0})
    time.sleep(0.02)
    if trial.arm == "off":
        return Outcome(scores={"return": 1.0})
"""
    )
    results = run(found, 2, timeout_s=0.3)
    failure = results[ON]
    assert isinstance(failure, Failure) and (failure.code, failure.retryable) == ("timeout", False)
    assert failure.what == "the training took longer than --timeout 0.005 min."
    assert failure.duration_s < 5 and heard.retries == []
    assert isinstance(results[OFF], Success)


def test_a_training_that_hangs_in_a_sleep_is_stopped_there(
    run: Run, scored: Callable[..., Discovered]
):
    found = scored(
        """
if trial.arm == "on":
    time.sleep(600)
return Outcome(scores={"return": 1.0})
"""
    )
    failure = run(found, timeout_s=0.3)[ON]
    assert isinstance(failure, Failure) and failure.code == "timeout"
    assert "time.sleep(600)" in failure.traceback and failure.duration_s < 5


def test_a_training_that_cannot_be_stopped_has_timed_out_and_is_not_tried_again(
    run: Run, heard: Heard, scored: Callable[..., Discovered]
):
    found = scored(
        """
import bench.work
bench.work.GRACE_S = 0.2
while trial.arm == "on":
    try:
        time.sleep(600)
    except BaseException:
        pass
return Outcome(scores={"return": 1.0})
"""
    )
    results = run(found, timeout_s=0.3)
    failure = results[ON]
    assert isinstance(failure, Failure) and isinstance(results[OFF], Success)
    assert (failure.code, failure.retryable, failure.attempt) == ("timeout", False, 1)
    assert failure.what == "the training took longer than --timeout 0.005 min."
    assert failure.facts == ("It did not stop when it was asked to, so its process was ended.",)
    assert heard.retries == []


def test_a_training_that_swallows_every_exception_is_ended_with_its_process(
    scored: Callable[..., Discovered], monkeypatch: pytest.MonkeyPatch
):
    exits: list[int] = []

    class Ended(BaseException):
        pass

    def leave(status: int) -> None:
        exits.append(status)
        raise Ended

    here, there = Pipe()
    worker = work._Worker(cpu_slots(1)[0], there, Path(), None, deadline=time.monotonic() - 99)
    monkeypatch.setattr(work, "_worker", worker)
    monkeypatch.setattr(work.os, "_exit", leave)
    with pytest.raises(Ended):
        work._watch(os.getppid())
    assert exits == [1]
    assert json.loads(here.recv_bytes()) == {"type": "stuck", "pid": os.getpid()}


# -- what goes wrong with a worker -----------------------------------------------------------


def test_a_dead_worker_is_a_crash_tried_once_more_at_the_cost_of_the_guilty_alone(
    run: Run, heard: Heard, scored: Callable[..., Discovered]
):
    # When seed 0 of "on" dies, "off" is in the middle of a training and dies with it.
    found = scored(
        """
trial.log(0, {"train/loss": 1.0})
if trial.arm == "on" and trial.seed == 0:
    print("about to die", flush=True)
    time.sleep(0.1)
    os.kill(os.getpid(), 9)
time.sleep(0.4)
return Outcome(scores={"return": 1.0})
"""
    )
    results = run(found, 2)
    crash = results[ON]
    assert [key for key, r in results.items() if isinstance(r, Failure)] == [ON]
    assert isinstance(crash, Failure) and crash.code == "crash"
    assert crash.what == "the worker process died."
    assert "out of memory, a time limit" in crash.facts[0] and "about to die" in crash.log
    assert [(f.key, f.attempt) for f in heard.retries] == [(ON, 1)] and crash.attempt == 2
    # Every start of an innocent trial has a number of its own, so that no epoch is there twice.
    for key in results:
        assert len(set(heard.epochs(key))) == len(heard.epochs(key))
    assert max(attempt for key in results for attempt, _ in heard.epochs(key)) > 1


def test_workers_that_cannot_start_fail_their_trials_and_do_not_hang(
    tiny: Discovered, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Mailbox, "address", "/nowhere")
    with Pool(cpu_slots(1), retries=0) as broken:
        results = [r for some in broken.run(jobs_of(tiny)) for r in some]
    assert [(type(r), r.code) for r in results if isinstance(r, Failure)] == 2 * [
        (Failure, "crash")
    ]


def test_stop_starts_nothing_more_but_lets_the_running_finish(pool: Pool, tiny: Discovered):
    finished: list[Result] = []

    def enough() -> bool:
        return len(finished) >= 3

    for results in pool.run(jobs_of(tiny, 10), stop=enough):
        finished += results
    assert 3 <= len(finished) <= 5


def test_every_worker_takes_the_packs_in_the_order_of_the_plan(pool: Pool, tiny: Discovered):
    started: dict[int, list[int]] = {}

    def note(message: dict[str, Any]) -> None:
        if message["type"] == "start":
            started.setdefault(message["pid"], []).append(message["pack"])

    pool.listen(note)
    jobs = jobs_of(tiny, 6)
    assert [job.keys[0].arm for job in jobs] == ["weak", "strong"] * 6  # drift hits both arms alike
    list(pool.run(jobs))
    assert sorted(pack for packs in started.values() for pack in packs) == list(range(12))
    assert all(packs == sorted(packs) for packs in started.values())


# -- who trains on which device --------------------------------------------------------------


@pytest.mark.parametrize(
    ("visible", "job", "name"),
    [
        (None, None, "cuda-1-0.lock"),
        ("2,3", None, "cuda-3-0.lock"),
        ("GPU-8932f937, MIG-GPU-8932f937/1/0", None, "cuda-MIG-GPU-8932f937-1-0-0.lock"),
        ("", None, "cuda-1-0.lock"),
        ("0,1", "77", "cuda-1-job-77-0.lock"),  # numbered by Slurm, from 0 in every job
    ],
)
def test_a_lease_is_named_for_the_device_itself(
    visible: str | None, job: str | None, name: str, monkeypatch: pytest.MonkeyPatch
):
    for variable, value in (("CUDA_VISIBLE_DEVICES", visible), ("SLURM_JOB_ID", job)):
        monkeypatch.delenv(variable, raising=False)
        if value is not None:
            monkeypatch.setenv(variable, value)
    assert work.lease_name(Slot("cuda:1", 0, 1)) == name
    assert work.lease_name(Slot("mps", 0, 1)).startswith("mps-")


@pytest.mark.skipif(os.name == "nt", reason="named pipes have no folder")
def test_a_mailbox_opens_where_temporary_folders_have_long_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (deep := tmp_path / ("x" * 120)).mkdir()
    monkeypatch.setitem(multiprocessing.current_process()._config, "tempdir", str(deep))  # type: ignore[attr-defined]
    heard: list[Any] = []
    box = pool_module.Mailbox(heard.append)
    folder = Path(box.address).parent
    assert folder.is_dir() and folder != deep
    with Client(box.address, authkey=box.authkey) as worker:
        worker.send_bytes(json.dumps({"type": "start", "pid": 1, "pack": 0}).encode())
        deadline = time.monotonic() + 10
        while not heard and time.monotonic() < deadline:
            time.sleep(0.01)
    box.close()
    assert heard and not folder.exists()


class Waits(Exception):
    """What a worker said in place of waiting."""


class Line:
    """A worker's line to its parent, where nothing is said without the test's ending."""

    def send_bytes(self, message: bytes) -> None:
        raise Waits(json.loads(message))


def test_two_jobs_wait_for_each_other_on_the_same_device_only_and_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(work, "QUIET_WAIT_S", 0.3)
    slots = [Slot("cuda:0", 0, 1)]
    leases = []
    for visible in ("0", "1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        leases.append(work._take_slot(slots, str(tmp_path), Line())[1])  # type: ignore[arg-type]
    with pytest.raises(Waits) as said:
        work._take_slot(slots, str(tmp_path), Line())  # type: ignore[arg-type]
    message = {"type": "waiting", "pid": os.getpid(), "devices": "cuda:0"}
    assert said.value.args == (message,) and pool_module._checked(message) == message
    assert leases[1] is not None
    leases[1].release()
    assert work._take_slot(slots, str(tmp_path), Line())[0] == slots[0]  # type: ignore[arg-type]


def test_that_a_worker_waits_is_said_where_nobody_else_listens(capfd: pytest.CaptureFixture[str]):
    pool_module.say_waiting({"type": "waiting", "pid": 1, "devices": "cuda:0, cuda:1"})
    pool_module.say_waiting({"type": "stuck", "pid": 1})
    out, err = capfd.readouterr()
    assert out == "" and err.splitlines() == [
        "a worker waits for cuda:0, cuda:1: another benchmark of yours trains there."
    ]


def test_a_folder_of_leases_that_others_can_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = Path(pool_module._lease_dir())
    assert folder.parent == tmp_path and pool_module._lease_dir() == str(folder)
    folder.chmod(0o777)
    with pytest.raises(LeaseTrouble, match="is not a folder of yours alone") as caught:
        Pool([Slot("cuda:0", 0, 1)])
    assert caught.value.fix == f"chmod 700 {folder}" and caught.value.exit_status == 4
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(LeaseTrouble) as caught:
        pool_module._lease_dir()
    assert "drwx" not in caught.value.facts[0] and "TMPDIR" in (caught.value.fix or "")


def test_a_folder_of_leases_that_another_user_made_first_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    with pytest.raises(LeaseTrouble, match="of yours alone") as caught:
        pool_module._lease_dir()
    assert caught.value.facts == (f"It is drwx------ and belongs to user {os.geteuid()}.",)
    assert caught.value.fix == 'export TMPDIR="$HOME", then the same command'


# -- the line between worker and parent ------------------------------------------------------


@contextlib.contextmanager
def mailbox() -> Iterator[tuple[Mailbox, list[dict[str, Any]]]]:
    heard: list[dict[str, Any]] = []
    box = Mailbox(heard.append)
    try:
        yield box, heard
    finally:
        box.close()


def until(condition: Callable[[], Any], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_strangers_are_refused_and_workers_still_heard():
    with mailbox() as (box, heard), socket.socket(socket.AF_UNIX) as silent:
        silent.connect(box.address)  # and says nothing, all the time
        for garbage in (b"hello there, how are you\n", b"\x00\x00\x00\x05abcde", b"", b"\xff" * 64):
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.settimeout(5)
                stranger.connect(box.address)
                with contextlib.suppress(ConnectionError):
                    stranger.sendall(garbage)
                    while garbage and stranger.recv(1024):  # until it has been read and refused
                        pass
        with pytest.raises((AuthenticationError, EOFError, OSError)):
            Client(box.address, authkey=b"wrong")
        with Client(box.address, authkey=box.authkey) as worker:
            worker.send_bytes(b'{"type": "start", "pid": 5, "pack": 2}')
            worker.send_bytes(EPOCH)
            assert until(lambda: len(heard) == 2)
        assert [m["type"] for m in heard] == ["start", "epoch"]


@given(
    st.one_of(
        st.binary(max_size=40),
        st.recursive(
            st.one_of(st.none(), st.integers(), st.text(max_size=4), st.just("epoch")),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3),
                st.dictionaries(st.sampled_from(["type", "pid", "arm", "seed"]), inner),
            ),
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_what_is_no_message_of_a_worker_closes_its_own_line_and_no_other(garbage: bytes):
    with mailbox() as (box, heard):
        with Client(box.address, authkey=box.authkey) as odd:
            odd.send_bytes(garbage)
            with Client(box.address, authkey=box.authkey) as worker:
                worker.send_bytes(EPOCH)
                assert until(lambda: heard)
        assert heard == [json.loads(EPOCH)]


def test_what_is_no_json_is_never_unpickled_and_ends_only_its_own_line(tmp_path: Path):
    import pickle

    class Touch:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "unpickled"),)

    with mailbox() as (box, heard):
        with Client(box.address, authkey=box.authkey) as evil:
            evil.send_bytes(pickle.dumps(Touch()))
            with Client(box.address, authkey=box.authkey) as worker:
                worker.send_bytes(EPOCH)
                assert until(lambda: heard)
        assert heard == [json.loads(EPOCH)] and not (tmp_path / "unpickled").exists()


def test_the_first_line_that_breaks_names_the_pack_that_was_training():
    with mailbox() as (box, heard):
        lines = defaultdict(lambda: Client(box.address, authkey=box.authkey))
        for pid in (11, 12):
            lines[pid].send_bytes(b'{"type": "start", "pid": %d, "pack": %d}' % (pid, pid + 100))
        assert until(lambda: len(heard) == 2)
        for pid in (12, 11):
            lines[pid].close()
            assert box.first_to_die() == (12, 112)
        box.forget()
        assert box.first_to_die() is None


def test_a_bug_in_who_listens_is_raised_once_and_kills_no_worker(tiny: Discovered):
    def broken(message: dict[str, Any]) -> None:
        raise ZeroDivisionError("a bug of ours")

    with Pool(cpu_slots(1), broken) as pool:
        with pytest.raises(ZeroDivisionError):
            list(pool.run(jobs_of(tiny, 3)))
        assert pool._mailbox._closed == []


def test_the_line_is_open_to_this_user_only():
    with mailbox() as (box, _):
        assert Path(box.address).parent.stat().st_mode & 0o077 == 0


# -- the end ---------------------------------------------------------------------------------


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


ORPHANED = """
import json, sys, threading
from bench.devices import cpu_slots
from bench.discover import discover
from bench.plan import arms_with, make_plan
from bench.pool import Pool
from bench.work import Job

found = discover(sys.argv[1])
plan = make_plan(found, data={}, arms=arms_with(found), seeds=(0,))
jobs = [Job(n, p, plan.arms, found.reference, found.source_digest, None, None)
        for n, p in enumerate(plan.packs())]

def heard(message):
    if message["type"] == "start":
        print(message["pid"], flush=True)

if __name__ == "__main__":
    with Pool(cpu_slots(2), heard) as pool:
        list(pool.run(jobs))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_workers_end_when_their_parent_is_killed(tmp_path: Path, write_tiny: Callable[..., Path]):
    path = write_tiny(tmp_path, "time.sleep(600)")
    script = tmp_path / "parent.py"
    script.write_text(ORPHANED)
    command = [sys.executable, str(script), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = [int(parent.stdout.readline()) for _ in range(2)]
        assert all(map(alive, workers))
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert until(lambda: not any(map(alive, workers)), seconds=5)


def test_closing_a_pool_ends_its_workers_whatever_they_do(
    tmp_path: Path, write_tiny: Callable[..., Path]
):
    found = discover(str(write_tiny(tmp_path, "time.sleep(600)")))
    heard: list[dict[str, Any]] = []
    with Pool(cpu_slots(1), heard.append) as running:
        scratch = running._scratch
        running._submit(jobs_of(found)[0])
        assert until(lambda: heard)
        pid = heard[0]["pid"]
        started = time.monotonic()
    assert time.monotonic() - started < 5
    assert until(lambda: not alive(pid), seconds=2) and not scratch.exists()
    running.close()  # again is harmless


def test_a_pool_that_is_closed_right_after_it_got_work_ends_silently(
    tiny: Discovered, capfd: pytest.CaptureFixture[str]
):
    for _ in range(5):
        with Pool(cpu_slots(2)) as running:
            running.warm(tiny.reference)
            running._submit(jobs_of(tiny)[0])
    assert capfd.readouterr().err == ""  # nor did a thread of the executor end in an exception


def test_what_loky_trips_over_while_it_is_ended_is_not_for_the_user(
    capfd: pytest.CaptureFixture[str],
):
    killed: list[int] = []

    class Worker:
        def is_alive(self) -> bool:
            return True

        def terminate(self) -> None:
            killed.append(1)

    class Executor:
        _processes: ClassVar[dict[int, Worker]] = {1: Worker(), 2: Worker()}

        def shutdown(self, **how: bool) -> None:
            for name in ("ExecutorManagerThread", "another"):
                thread = threading.Thread(target=self.trip, args=(name,), name=name)
                thread.start()
                thread.join()

        def trip(self, name: str) -> None:
            raise KeyError(f"lost in {name}")

    with Pool(cpu_slots(1)) as running:
        real, running._executor = running._executor, Executor()  # type: ignore[assignment]
        running._end_workers()
        running._executor = real
    assert killed == [1, 1]
    said = capfd.readouterr().err
    assert "lost in another" in said
    assert "lost in ExecutorManagerThread" not in said
