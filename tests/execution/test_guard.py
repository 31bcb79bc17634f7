"""Guard: runs trainings of one slot and ends all they leave; here spoken to over its socket."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.execution.lines import Lines, encode

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prctl, and looks at /proc")

Until = Callable[..., bool]

# A guard whose trainings run the text that they are sent, in a process that has nothing else.
HOST = """
import os, signal, socket, subprocess, sys, time
from bench.execution.guard import Guard
from bench.execution.lines import encode

def body(message, line):
    exec(message["code"], {**globals(), "message": message, "line": line})

Guard(socket.socket(fileno=int(sys.argv[1])), body).run()
"""


class Slot:
    """The supervisor's end."""

    def __init__(self, control: socket.socket, process: "subprocess.Popen[bytes]") -> None:
        self.control, self.process = control, process
        self.lines, self.said = Lines(), list[dict[str, Any]]()

    def train(self, code: str, answer: str = "1") -> None:
        self.control.sendall(encode({"do": "train", "answer": answer, "code": code}))

    def end(self, grace_s: float) -> None:
        self.control.sendall(encode({"do": "end", "grace_s": grace_s}))

    def receive(self) -> dict[str, Any]:
        self.control.settimeout(20)
        while not self.said:
            data = self.control.recv(2**16)
            assert data, "the guard has hung up"
            self.said += self.lines.feed(data)
        return self.said.pop(0)


@pytest.fixture
def slot(tmp_path: Path, tag: str) -> Iterator[Slot]:
    mine, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-c", HOST, str(theirs.fileno())], pass_fds=[theirs.fileno()]
    )
    theirs.close()
    yield Slot(mine, process)
    mine.close()
    try:
        process.wait(10)
    finally:
        process.kill()
        process.wait()


SAYS = 'os.write(line, encode({"type": "said", "pid": os.getpid()}))\n'
SLEEPS = 'subprocess.Popen(["sleep", "600"], start_new_session=True)\n'


def test_what_a_training_says_comes_before_its_exit_with_what_it_trained(slot: Slot):
    for number in range(3):
        slot.train(f"{SAYS}os._exit({number})", answer=f"answer-{number}")
        assert slot.receive()["type"] == "said"
        assert slot.receive() == {"type": "exit", "code": number, "of": f"answer-{number}"}


def test_a_signal_is_minus_its_number_and_an_exception_is_status_1(slot: Slot):
    for code, expected in (("os.kill(os.getpid(), 9)", -9), ("1 / 0", 1), ("pass", 0)):
        slot.train(code)
        assert slot.receive()["code"] == expected


def test_a_message_cut_off_by_death_does_not_swallow_the_exit(slot: Slot):
    slot.train('os.write(line, b\'{"type": "epo\')\nos._exit(3)')
    assert slot.receive() == {"type": "exit", "code": 3, "of": "1"}


def test_all_that_is_said_before_the_end_arrives(slot: Slot):
    slot.train('for n in range(20_000): os.write(line, encode({"n": n}))')
    assert [slot.receive()["n"] for _ in range(20_000)] == list(range(20_000))
    assert slot.receive()["code"] == 0


def test_the_exit_comes_when_nothing_is_left(slot: Slot, tag: str, living: Any):
    slot.train(SLEEPS + SAYS)
    assert slot.receive()["type"] == "said" and slot.receive()["code"] == 0
    assert living(tag) == [slot.process.pid]


def test_what_is_left_has_time_to_end_by_itself(slot: Slot, tmp_path: Path):
    child = f"""
import signal, sys, time
from pathlib import Path
def ends(number, frame):
    Path({str(tmp_path)!r}, "saved").touch()
    sys.exit()
signal.signal(signal.SIGTERM, ends)
Path({str(tmp_path)!r}, "began").touch()
time.sleep(600)
"""
    slot.train(
        f"subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True)\n"
        f"while not os.path.exists({str(tmp_path / 'began')!r}): time.sleep(0.01)"
    )
    assert slot.receive()["code"] == 0 and (tmp_path / "saved").exists()


def test_asked_to_end_it_ends_the_training_and_all_below(slot: Slot, tag: str, living: Any):
    slot.train(f"{SLEEPS}{SAYS}time.sleep(600)")
    assert slot.receive()["type"] == "said"
    slot.end(10.0)
    assert slot.receive() == {"type": "exit", "code": None, "of": "1"}
    assert living(tag) == [slot.process.pid]
    slot.end(10.0)  # nothing trains: nothing is said
    slot.train("pass", answer="2")
    assert slot.receive() == {"type": "exit", "code": 0, "of": "2"}


def test_who_ignores_being_asked_is_killed_after_the_grace_or_when_asked_again(slot: Slot):
    ignores = f"signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SAYS}time.sleep(600)"
    slot.train(ignores)
    slot.receive()
    slot.end(0.2)
    assert slot.receive()["code"] is None
    slot.train(ignores)
    slot.receive()
    began = time.monotonic()
    slot.end(600.0)
    slot.end(600.0)
    assert slot.receive()["code"] is None and time.monotonic() - began < 20


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_training_dies_with_its_guard(slot: Slot, number: int, until: Until):
    slot.train(f"{SAYS}time.sleep(600)")
    pid = slot.receive()["pid"]
    slot.process.send_signal(number)
    slot.process.wait()
    assert until(lambda: not alive(pid))


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.parametrize("busy", [True, False])
def test_a_guard_ends_all_when_its_supervisor_hangs_up(
    busy: bool, slot: Slot, tag: str, living: Any, until: Until
):
    ignores = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    talks = f"while True: os.write(line, {b'x' * 1000 + bytes([10])!r})"
    slot.train(ignores + SLEEPS + SAYS + (talks if busy else "time.sleep(600)"))
    assert slot.receive()["type"] == "said"
    slot.control.close()
    assert until(lambda: living(tag) == [])


def test_a_training_has_a_session_of_its_own_and_default_signals(slot: Slot):
    slot.train(
        'os.write(line, encode({"mine": [os.getsid(0) == os.getpid() != os.getppid(),'
        "signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,"
        "signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL,"
        "signal.getsignal(signal.SIGINT) is signal.default_int_handler,"
        "signal.set_wakeup_fd(-1) == -1]}))"
    )
    assert slot.receive()["mine"] == [True] * 5


def test_a_process_that_waits_gets_its_next_request_over_its_line(slot: Slot):
    slot.train(
        "for _ in range(2):\n"
        '    os.write(line, encode({"type": "done", "pid": os.getpid()}))\n'
        "    said = os.read(line, 9999)\n"
        "assert b'next' in said"
    )
    first = slot.receive()["pid"]
    slot.train("never run as code", answer="next")
    assert slot.receive()["pid"] == first
    slot.train("never run as code", answer="next but one")
    assert slot.receive() == {"type": "exit", "code": 0, "of": "next but one"}
