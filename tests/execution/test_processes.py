"""Processes: order, back-pressure, stopping, retries, sick and busy devices, and a clean end."""

import errno
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bench.design.plan import TrialKey
from bench.design.results import Failure, Job, Success
from bench.execution import devices as devices_module
from bench.execution.base import Message
from bench.execution.devices import Device, Slot, User, cpu_slots
from bench.execution.processes import Processes, _failures, _halves, _Heard, too_slow
from bench.execution.server import Server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="guards")

Run = Callable[..., Any]
Until = Callable[..., bool]
GIB = 2**30


def fake(index: int, **more: Any) -> Device:
    return Device("cuda", index, f"GPU-fake-{index}", "Fake 9000", **more)


def gpu_slots(count: int, lanes: int = 1) -> list[Slot]:
    found = [fake(index) for index in range(count)]
    return [Slot(d.label, lane, 1, (d,)) for lane in range(lanes) for d in found]


# -- order, back-pressure, stopping ------------------------------------------------------------


def test_packs_start_in_the_order_of_the_plan(server: Server, jobs_of: Run):
    started: list[Message] = []
    with Processes(server, cpu_slots(2), started.append) as running:
        results = list(running.run(jobs_of(server, 5, code="return score()")))
    packs = [message["pack"] for message in started if message["type"] == "start"]
    assert len(results) == 10 and sorted(packs) == list(range(10))
    assert all(abs(pack - place) <= 1 for place, pack in enumerate(packs))
    assert {message["slot"] for message in started} == {0, 1}


def test_an_answer_that_this_process_cannot_open_is_no_failure_of_the_training(
    server: Server, jobs_of: Run, monkeypatch: pytest.MonkeyPatch
):
    def read(folder: Path, *, log: str) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("bench.execution.answers.read", read)
    with Processes(server, cpu_slots(1)) as running, pytest.raises(OSError, match="open files"):
        list(running.run(jobs_of(server, 1, code="return score()")))


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_no_more_is_started_than_there_are_places_before_results_are_recorded(
    slots: int, server: Server, jobs_of: Run
):
    started: list[Message] = []
    recorded, most, asked = 0, 0, list[int]()

    def stop() -> bool:
        asked.append(recorded)
        return recorded >= 6

    with Processes(server, cpu_slots(slots), started.append) as running:
        for _ in running.run(jobs_of(server, 10, code="return score()"), stop=stop):
            time.sleep(0.1)  # a slow store: meanwhile trainings end
            most = max(most, len(started) - recorded)
            recorded += 1
    assert most == slots and set(range(7)) <= set(asked)
    assert 6 <= len(started) == recorded <= 6 + slots - 1


def test_stop_lets_those_in_training_finish(server: Server, jobs_of: Run):
    code = "time.sleep(0.2)\nreturn score()"
    stopped: list[bool] = []
    with Processes(server, cpu_slots(2), lambda message: stopped.append(True)) as running:
        results = [
            result
            for some in running.run(jobs_of(server, 9, code=code), stop=lambda: len(stopped) >= 2)
            for result in some
        ]
    assert [type(result) for result in results] == [Success] * 2


def test_an_executor_runs_again_after_a_run_and_after_a_stopped_one(server: Server, jobs_of: Run):
    jobs = jobs_of(server, 2, code="return score()")
    slow = jobs_of(server, 2, code="time.sleep(600)")
    with Processes(server, cpu_slots(2)) as running:
        for _ in range(3):
            assert len(list(running.run(jobs))) == 4
        started: list[Message] = []
        running.listen(started.append)

        def check() -> None:
            if started:
                raise KeyboardInterrupt

        for _ in range(2):
            started.clear()
            with pytest.raises(KeyboardInterrupt):
                list(running.run(slow, check=check))
            results = [result for some in running.run(jobs) for result in some]
            assert [type(result) for result in results] == [Success] * 4
            assert {result.attempt for result in results} == {1}


def test_a_wake_asks_at_once_and_a_second_one_kills(
    server: Server, jobs_of: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bench.execution.processes.CHECK_S", 600.0)
    code = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntrial.log(0, {'a': 1})\ntime.sleep(600)"
    stop = False
    with Processes(server, cpu_slots(1)) as running:

        def heard(message: Message) -> None:
            nonlocal stop
            if message["type"] == "epoch":
                stop = True
                running.wake()
                threading.Timer(0.2, running.wake).start()

        def check() -> None:
            if stop:
                raise KeyboardInterrupt

        running.listen(heard)
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            list(running.run(jobs_of(server, code=code), check=check))
    assert time.monotonic() - began < 8  # not the ten seconds between TERM and KILL


def test_what_is_asked_to_end_has_time_to_do_so(tmp_path: Path, server: Server, jobs_of: Run):
    code = f"""
def ends(number, frame):
    Path({str(tmp_path)!r}, "saved").write_text("a checkpoint")
    os._exit(0)
signal.signal(signal.SIGTERM, ends)
trial.log(0, {{"a": 1}})
time.sleep(600)
"""
    said: list[Message] = []

    def check() -> None:
        if any(message["type"] == "epoch" for message in said):
            raise KeyboardInterrupt

    with Processes(server, cpu_slots(1), said.append) as running:
        with pytest.raises(KeyboardInterrupt):
            list(running.run(jobs_of(server, code=code), check=check))
    assert (tmp_path / "saved").read_text() == "a checkpoint"


def test_a_bug_in_who_listens_is_raised_and_ends_the_run(server: Server, jobs_of: Run):
    def broken(message: Message) -> None:
        raise ZeroDivisionError("a bug of ours")

    with Processes(server, cpu_slots(1), broken) as running:
        with pytest.raises(ZeroDivisionError):
            list(running.run(jobs_of(server, 3, code="return score()")))


def test_a_bug_in_a_supervising_thread_is_raised_and_not_swallowed(
    server: Server, jobs_of: Run, monkeypatch: pytest.MonkeyPatch
):
    def broken(*arguments: Any) -> None:
        raise ZeroDivisionError("a bug of ours")

    with Processes(server, cpu_slots(2)) as running:
        monkeypatch.setattr(running, "_request", broken)
        with pytest.raises(ZeroDivisionError):
            list(running.run(jobs_of(server, 3, code="return score()")))


# -- retries -----------------------------------------------------------------------------------


def test_too_little_memory_is_tried_again_and_then_a_failure(run: Run, tmp_path: Path):
    trained = run(
        f"""
if trial.arm == "on":
    trial.log(0, {{"train/loss": 1.0}})
    raise MemoryError("1.9 GiB")
marker = Path({str(tmp_path)!r}, "tried")
if not marker.exists():
    marker.touch()
    raise MemoryError("only once")
return score()
"""
    )
    assert trained.success("off").attempt == 2
    assert (trained.failure().attempt, trained.failure().code) == (2, "memory")
    assert sorted((f.key.arm, f.attempt) for f in trained.retries) == [("off", 1), ("on", 1)]
    assert trained.epochs("on") == [(1, 0), (2, 0)]  # each attempt's epochs are told apart
    starts = [(m["keys"][0][0], m["attempt"]) for m in trained.messages if m["type"] == "start"]
    assert sorted(starts) == [("off", 1), ("off", 2), ("on", 1), ("on", 2)]


@pytest.mark.parametrize("retries", [0, 2])
def test_a_crash_is_tried_again_as_often_as_asked(retries: int, run: Run):
    trained = run("os._exit(3)", retries=retries)
    assert trained.failure().attempt == retries + 1 and len(trained.retries) == 2 * retries


def test_an_exception_is_not_tried_again(run: Run):
    assert run("raise ValueError", retries=5).retries == []


def test_a_pack_short_of_the_cpus_memory_is_split_by_its_seeds(train: Run, scored: Run):
    path = scored(
        'return score(trial.rng("x").normal())',
        top="""
def train_pack(trials):
    if len(trials) > 4:
        os.kill(os.getpid(), 9) if trials[0].seed else np.empty(2**55)
    return [train(trial) for trial in trials]
""",
        extra="train_pack=train_pack, pack_seeds=4",
    )
    trained = train(path, 8, pack_seeds=4, slots=1)
    assert len(trained.scores) == 16
    assert trained.scores == train(path, 8).scores
    assert {r.attempt for r in trained.results.values()} == {2}
    assert {f.code for f in trained.retries} == {"memory", "crash"}
    packs = [m["keys"] for m in trained.messages if m["type"] == "start"]
    assert [len(keys) for keys in packs] == [8, 4, 4] * 2
    assert packs[1] == [["off", 0], ["on", 0], ["off", 1], ["on", 1]]


def test_only_what_runs_out_of_the_cpus_memory_is_split():
    keys = tuple(TrialKey(arm, seed) for seed in range(3) for arm in ("a", "b"))
    job = Job(0, keys, {}, "r", "d", None, None)
    (cpu,), (gpu,) = cpu_slots(1), gpu_slots(1)
    memory = Failure(key=keys[0], code="memory", what="")
    first, second = _halves(job, [memory], cpu)
    assert {key.seed for key in first.keys} == {0} and {key.seed for key in second.keys} == {1, 2}
    assert first.attempt == second.attempt == 2
    killed = Failure(key=keys[0], code="crash", what="", error="SIGKILL")
    assert len(_halves(job, [killed], cpu)) == 2
    assert _halves(job, [memory], gpu) == [job]
    assert _halves(job, [replace(killed, error="SIGSEGV")], cpu) == [job]
    assert _halves(job.only(keys[:2]), [memory], cpu) == [job.only(keys[:2])]


@pytest.mark.parametrize(
    ("heard", "code", "what", "retryable"),
    [
        (_Heard(-11, False, {}), "crash", "its process was ended by SIGSEGV.", True),
        (_Heard(None, False, {}), "crash", "its process was ended by SIGKILL.", True),
        (
            _Heard(0, False, {}),
            "crash",
            "its process ended with status 0 before it returned anything.",
            True,
        ),
        (
            _Heard(None, True, {}),
            "timeout",
            "the training took longer than --timeout 1 min.",
            False,
        ),
    ],
)
def test_a_process_that_ends_without_an_answer_says_how(
    heard: _Heard, code: str, what: str, retryable: bool
):
    key = TrialKey("on", 1)
    job = Job(0, (key,), {}, "r", "d", None, 60.0, attempt=3)
    heard = replace(heard, rows={key: [{"epoch": 0}]})
    (failure,) = _failures(job, cpu_slots(1)[0], heard, "one\n two \n\n", 5.0, 2.0)
    assert (failure.code, failure.what, failure.retryable) == (code, what, retryable)
    assert failure.facts[0] == "It printed last: two" and failure.epochs == [{"epoch": 0}]
    assert (failure.attempt, failure.duration_s, failure.started_at) == (3, 2.0, 5.0)
    assert (
        too_slow(replace(job, timeout_s=90)) == "the training took longer than --timeout 1.5 min."
    )


# -- devices -----------------------------------------------------------------------------------

CARD = 'card = os.environ["CUDA_VISIBLE_DEVICES"]\n'
SICK = 'raise RuntimeError("CUDA error: device-side assert triggered")'


def test_a_training_sees_the_device_of_its_slot_alone(run: Run):
    trained = run(
        CARD + "time.sleep(0.1)\nreturn score(card=card, device=trial.device)",
        4,
        slots=gpu_slots(2),
    )
    seen = set()
    for result in trained.results.values():
        facts = result.outcome.facts
        index = facts["card"].removeprefix("GPU-fake-")
        assert result.device == f"cuda:{index}" and facts["device"] == "cuda:0"
        assert result.hardware["0"] == f"Fake 9000 GPU-fake-{index}"
        seen.add(index)
    assert seen == {"0", "1"}


def test_trainings_on_several_devices_find_each_other(run: Run):
    pair = Slot("cuda:0+1", 0, 1, (fake(0), fake(1)))
    code = CARD + 'return score(card=card, port=os.environ["MASTER_PORT"])'
    trained = run(code, slots=[pair], devices=2)
    assert trained.facts()["card"] == "GPU-fake-0,GPU-fake-1"
    assert trained.facts("off")["port"] != trained.facts("on")["port"]
    assert {int(trained.facts(arm)["port"]) > 1023 for arm in ("off", "on")} == {True}


def test_a_sick_device_is_shut_out_by_name_and_every_run_finishes(run: Run):
    code = f'{CARD}if card.endswith("1"):\n    {SICK}\ntime.sleep(0.02)\nreturn score()'
    trained = run(code, 20, slots=gpu_slots(2))
    assert len(trained.scores) == 40
    assert {result.device for result in trained.results.values()} == {"cuda:0"}
    assert trained.notices == [
        "cuda:1 (Fake 9000 GPU-fake-1) is shut out: it failed twice in a row."
    ]
    assert {(f.device, f.code) for f in trained.retries} == {("cuda:1", "device")}
    assert 2 <= len(trained.retries) <= 6


def test_a_device_that_fails_now_and_then_is_not_shut_out(run: Run, tmp_path: Path):
    code = f"""
{CARD}
fails = Path({str(tmp_path)!r}, f"{{trial.arm}}-{{trial.seed}}")
if trial.arm == "on" and not fails.exists():
    fails.touch()
    {SICK}
return score()
"""
    trained = run(code, 5, slots=gpu_slots(1))
    assert len(trained.scores) == 10 and trained.notices == [] and len(trained.retries) == 5


def test_a_device_on_which_two_guilty_trainings_failed_first_is_not_shut_out(
    run: Run, tmp_path: Path
):
    code = f"""
{CARD}
if trial.arm == "on":
    while card.endswith("0") and len(list(Path({str(tmp_path)!r}).glob("met-*"))) < 2:
        Path({str(tmp_path)!r}, f"met-{{trial.seed}}").touch()
        time.sleep(0.01)
    {SICK}
return score()
"""
    trained = run(code, 5, slots=gpu_slots(2, lanes=2))
    assert trained.notices == [] and len(trained.scores) == 5


def test_what_fails_on_every_device_is_the_trainings_own_fault(run: Run):
    code = f'{CARD}if trial.arm == "on":\n    {SICK}\nreturn score()'
    trained = run(code, 5, slots=gpu_slots(3))
    assert trained.notices == [] and len(trained.scores) == 5
    for seed in range(5):
        failure = trained.failure("on", seed)
        (first,) = [f for f in trained.retries if f.key == failure.key]
        assert failure.code == first.code == "device" and failure.device != first.device


def test_where_all_devices_are_shut_out_the_rest_fails_with_their_names(run: Run):
    trained = run(CARD + SICK, 3, slots=gpu_slots(2), retries=0)
    failures = [trained.failure(key.arm, key.seed) for key in trained.results]
    nowhere = [f for f in failures if f.what == "no device is left to train on."]
    assert len(failures) == 6 and len(nowhere) >= 1
    assert all("is shut out: it failed twice in a row." in f.facts[0] for f in nowhere)


OUT_OF_MEMORY = [
    'type("AcceleratorError", (RuntimeError,), {})("CUDA error: out of memory")',
    'RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")',
    'RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")',
    'RuntimeError("HIP out of memory. Tried to allocate 2.00 GiB")',
    'RuntimeError("MPS backend out of memory (MPS allocated: 9.0 GB)")',
    'RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 123 bytes.")',
]


def test_a_gpus_lack_of_memory_is_tried_again_on_the_device_alone(run: Run, tmp_path: Path):
    folder = str(tmp_path)
    code = f"""
others = [name for name in os.listdir({folder!r}) if name.startswith("trains-")]
mine = Path({folder!r}, f"trains-{{trial.arm}}-{{trial.seed}}")
failed = Path({folder!r}, f"failed-{{trial.seed}}")
mine.touch()
try:
    time.sleep(0.1)
    if trial.arm == "on" and not failed.exists():
        failed.touch()
        raise [{", ".join(OUT_OF_MEMORY)}][trial.seed]
    met = [name for name in os.listdir({folder!r}) if name.startswith("trains-")]
    return score(others=others, met=met, mine=mine.name)
finally:
    mine.unlink()
"""
    trained = run(code, 6, slots=gpu_slots(1, lanes=2))
    assert len(trained.scores) == 12
    assert [(f.key.arm, f.code) for f in trained.retries] == [("on", "gpu-memory")] * 6
    for seed in range(6):
        facts = trained.facts("on", seed)
        assert trained.success("on", seed).attempt == 2
        assert facts["others"] == [] and facts["met"] == [facts["mine"]]
    starts = [(m["keys"][0], m["attempt"]) for m in trained.messages if m["type"] == "start"]
    assert starts.index((["on", 0], 2)) < starts.index((["off", 5], 1))  # it need not wait for all


@dataclass
class Busy:
    """A source whose card has little memory until it was looked at a few times."""

    looks: int

    def devices(self) -> list[Device]:
        self.looks -= 1
        users = (User(4711, "alice", 70 * GIB),)
        free = 80 * GIB if self.looks < 0 else 10 * GIB
        return [fake(0, memory=80 * GIB, free=free, users=users)]


def test_a_busy_card_is_waited_for_with_its_user_named(
    server: Server, jobs_of: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bench.execution.scheduling.QUIET_WAIT_S", 0.1)
    monkeypatch.setattr("bench.execution.scheduling.SHORT_S", 0.1)
    monkeypatch.setattr(devices_module, "source", Busy(3))
    said: list[Message] = []
    with Processes(server, gpu_slots(1), said.append) as running:
        running._places.needed = 40 * GIB
        results = list(running.run(jobs_of(server, code="return score()")[:1]))
    assert isinstance(results[0][0], Success)
    (notice,) = [message["text"] for message in said if message["type"] == "notice"]
    assert notice == (
        "a training waits: cuda:0 (Fake 9000) has 10.0 of 80.0 GiB free and 40.0 GiB are needed: "
        "alice (pid 4711) uses 70.0 GiB"
    )


def test_a_card_that_another_benchmark_holds_is_waited_for(
    server: Server, jobs_of: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bench.execution.scheduling.QUIET_WAIT_S", 0.1)
    said: list[Message] = []
    job = jobs_of(server, code="return score()")[:1]
    with Processes(server, gpu_slots(1)) as other, Processes(server, gpu_slots(1)) as mine:
        list(other.run(job))
        mine.listen(lambda message: (said.append(message), other.close()))
        (results,) = mine.run(job)
    assert isinstance(results[0], Success)
    assert "a training waits for cuda:0: another benchmark (user " in said[0]["text"]


# -- the end -----------------------------------------------------------------------------------


def test_nothing_is_left_after_a_run_whatever_ends_it(
    tag: str,
    living: Run,
    until: Until,
    jobs_of: Run,
    scored: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    before = {thread.name for thread in threading.enumerate()}
    with Server(scored('trial.log(0, {"a": 1})\ntime.sleep(trial.seed * 600)')) as server:
        with Processes(server, cpu_slots(2)) as running:
            with pytest.raises(ZeroDivisionError):
                for _ in running.run(jobs_of(server, 2)):
                    raise ZeroDivisionError("in who records")
        running.close()  # idempotent
        assert until(lambda: living(tag) == [server._process.pid])
    server.close()
    assert living(tag) == [] and list((tmp_path / "temporary").iterdir()) == []
    assert until(lambda: {thread.name for thread in threading.enumerate()} <= before)


def test_closing_ends_what_trains_whatever_it_does(
    tag: str, living: Run, jobs_of: Run, scored: Run, until: Until
):
    body = 'signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntrial.log(0, {"a": 1})\ntime.sleep(600)'
    said: list[Message] = []
    with Server(scored(body)) as server, Processes(server, cpu_slots(2), said.append) as running:

        def run() -> None:
            assert list(running.run(jobs_of(server))) == []

        training = threading.Thread(target=run)
        training.start()
        assert until(lambda: [m["type"] for m in said].count("epoch") == 2)
        began = time.monotonic()
        running.close()
        training.join(5)
        assert not training.is_alive() and time.monotonic() - began < 5
        assert until(lambda: living(tag) == [server._process.pid])
