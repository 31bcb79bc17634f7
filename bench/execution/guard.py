"""Guard: runs the trainings of one slot, one after the other, and ends everything they leave.

It is forked from the fork server, leads a session of its own, is the subreaper of all that its
trainings start, and holds the slot's lease. It runs no user code. When its socket closes, because
the supervisor has gone, it kills what is left and ends. Linux alone has what this takes.
"""

import contextlib
import ctypes
import os
import select
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.execution.lines import Lines, encode

LEFTOVERS_S = 1.0  # between TERM and KILL of what a finished training left running
PAUSE_S = 0.002
SET_PDEATHSIG, SET_SUBREAPER = 1, 36  # <linux/prctl.h>
OOM_SCORE = "500"  # where memory runs out the kernel ends a training before its supervisor

Body = Callable[[dict[str, Any], int], None]  # a request, and where to write what is said meanwhile


def prctl(option: int, value: int) -> None:
    """Change how the kernel treats this process."""
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def children() -> list[int]:
    """Return the processes that this one is the parent of."""
    me = os.getpid()
    try:
        return [int(pid) for pid in Path(f"/proc/self/task/{me}/children").read_text().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [pid for pid, parent in _parents() if parent == me]


def _parents() -> Iterator[tuple[int, int]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                after_name = (folder / "stat").read_text().rpartition(")")[2].split()
                yield int(folder.name), int(after_name[1])


def end_all(grace_s: float, *, hurry: Callable[[], bool] = lambda: False) -> None:
    """Send TERM, then KILL, until no child is left; orphans become children of a subreaper.

    Parameters
    ----------
    grace_s : between the two; 0 kills at once
    hurry : asked again and again; True kills at once
    """
    until, asked = time.monotonic() + grace_s, set[int]()
    while True:
        late = time.monotonic() >= until or hurry()
        for pid in children():
            if late or pid not in asked:
                asked.add(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        if not reap():
            return
        time.sleep(PAUSE_S)


def reap() -> bool:
    """Collect the children that have ended; return whether there are others."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def woken_by_children() -> int:
    """Return a descriptor that becomes readable when a child ends."""
    r, w = os.pipe()
    os.set_blocking(r, False)
    os.set_blocking(w, False)
    signal.set_wakeup_fd(w, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    return r


class Guard:
    """The loop of one slot.

    Parameters
    ----------
    control : the supervisor's end of the slot: requests come in, everything else goes out
    body : what a training does in its process
    """

    def __init__(self, control: socket.socket, body: Body) -> None:
        os.setsid()
        prctl(SET_SUBREAPER, 1)
        self.control, self.body = control, body
        self.woken = woken_by_children()
        self.pid: int | None = None  # of the training
        self.line: socket.socket | None = None  # to it
        self._asked: list[dict[str, Any]] = []  # and not yet done
        self.request: str | None = None  # what it trains, or has trained last

    def run(self) -> None:
        """Serve until the supervisor has gone; never returns."""
        lines = Lines()
        while True:
            watched: list[Any] = [self.control, self.woken, *([self.line] if self.line else [])]
            ready, _, _ = select.select(watched, [], [])
            if self.line in ready:
                self._relay()
            if self.woken in ready:
                self._reaped()
            if self.control in ready:
                self._asked += lines.feed(self._read())
                while self._asked:
                    self._obey(self._asked.pop(0))

    def _read(self) -> bytes:
        data = b""
        with contextlib.suppress(ConnectionResetError):  # it left with something unread
            data = self.control.recv(2**16)
        if not data:  # the supervisor has gone
            end_all(0)
            os._exit(0)
        return data

    def _obey(self, message: dict[str, Any]) -> None:
        if message["do"] == "end":
            if self.pid is not None:
                self._over(None, float(message["grace_s"]))
        elif self.pid is not None and self.line is not None:  # it waits for its next pack
            self.request = message["answer"]
            self._send(self.line, encode(message))
        else:
            self._start(message)

    def _start(self, message: dict[str, Any]) -> None:
        mine, theirs = socket.socketpair()
        me, pid = os.getpid(), os.fork()
        if pid == 0:
            mine.close()
            self.control.close()
            _train(me, message, theirs, self.body)
        theirs.close()
        self.pid, self.line, self.request = pid, mine, message["answer"]
        if "exec" in message:
            self._send(self.line, encode(message))

    def _relay(self) -> bool:
        """Pass on what the training says; return whether there may be more."""
        if self.line is None:
            return False
        try:
            data = self.line.recv(2**16)
        except (BlockingIOError, ConnectionResetError):
            data = b""
        if data:
            self._send(self.control, data)
        else:
            self.line.close()
            self.line = None
        return bool(data)

    def _reaped(self) -> None:
        """Answer when the training has ended and nothing of it is left."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.woken, 4096)
        code = None
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if found[0] == self.pid:
                    code = os.waitstatus_to_exitcode(found[1])
        if code is not None:
            self._over(code, LEFTOVERS_S)

    def _over(self, code: int | None, grace_s: float) -> None:
        """End what is left of the training, and say how it ended; no code: it was asked to."""
        end_all(
            grace_s,
            hurry=lambda: bool(self._asked or select.select([self.control], [], [], 0)[0]),
        )
        if self.line is not None:
            self.line.setblocking(False)
            while self._relay():
                pass
        if self.line is not None:
            self.line.close()
        self.pid, self.line = None, None
        self._send(self.control, b"\n" + encode({"type": "exit", "code": code, "of": self.request}))

    def _send(self, to: socket.socket, data: bytes) -> None:
        try:
            to.sendall(data)
        except OSError:
            if to is self.control:  # the supervisor has gone
                end_all(0)
                os._exit(0)


def _train(guard: int, message: dict[str, Any], line: socket.socket, body: Body) -> None:
    """Be the training: its guard's death is its own; never returns."""
    status = 1
    try:
        prctl(SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(1)
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
        if "exec" in message:
            _become(message["exec"], message["environment"], line)
        body(message, line.detach())
        status = 0
    except BaseException:
        with contextlib.suppress(Exception), open(message["log"], "a", encoding="utf-8") as log:
            traceback.print_exc(file=log)
    finally:
        os._exit(status)


def _become(command: Sequence[str], environment: Mapping[str, str], line: socket.socket) -> None:
    """Become a fresh interpreter that reads its request from stdin and answers on stdout."""
    os.dup2(line.fileno(), 0)
    os.dup2(line.fileno(), 1)
    os.execve(command[0], list(command), {**os.environ, **environment})
