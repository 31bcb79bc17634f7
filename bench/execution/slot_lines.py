"""The supervisor's connection to one slot: a request goes out, events come back.

Where Linux has guards, the training is forked by one, or starts as a fresh interpreter below it.
Elsewhere the supervisor starts the fresh interpreter itself.
"""

import contextlib
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import IO, Any, Protocol

from bench.execution.lines import Lines, encode

HANG_UP_S = 1.0  # after its process has ended, for whoever else holds its pipe
WORKER = (sys.executable, "-P", "-m", "bench.execution.worker")
Request = Mapping[str, Any]


class SlotLine(Protocol):
    """One slot, which trains one request at a time."""

    def start(self, request: Request) -> bool:
        """Train a request; False where the slot was told to end."""

    def receive(self, deadline: float | None) -> dict[str, Any] | None:
        """Return the next message, None at the deadline (time.monotonic).

        {"type": "exit", "code": …} comes when nothing of the training is left, with the place of
        its answer as "of"; "lost" where whoever ran it has died.
        """

    def end(self, grace_s: float, *, for_good: bool) -> None:
        """End what trains, by TERM and then KILL; `for_good`: and start nothing more."""

    def close(self) -> None:
        """Kill what trains, and hang up."""


class Guarded:
    """A slot with a guard."""

    def __init__(self, control: socket.socket, *, fork: bool) -> None:
        self._control, self._fork = control, fork
        self._lines, self._said = Lines(), list[dict[str, Any]]()
        self._lock, self._ended = threading.Lock(), False

    def start(self, request: Request) -> bool:
        """Train a request; False where the slot was told to end."""
        message = {"do": "train", **request, **({} if self._fork else {"exec": WORKER})}
        with self._lock:
            if not self._ended:
                with contextlib.suppress(OSError):  # the guard has died: `receive` says so
                    self._control.sendall(encode(message))
            return not self._ended

    def receive(self, deadline: float | None) -> dict[str, Any] | None:
        """Return the next message, None at the deadline."""
        if _is_over(deadline):  # whatever a busy training has said meanwhile
            return None
        while not self._said:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                if not select.select([self._control], [], [], left)[0]:
                    return None
                data = self._control.recv(2**16)
            except (OSError, ValueError):  # it was closed
                data = b""
            if not data:
                return {"type": "lost"}
            self._said += self._lines.feed(data)
        return self._said.pop(0)

    def end(self, grace_s: float, *, for_good: bool) -> None:
        """End what trains, by TERM and then KILL; `for_good`: and start nothing more."""
        with self._lock:
            self._ended |= for_good
            with contextlib.suppress(OSError):
                self._control.sendall(encode({"do": "end", "grace_s": grace_s}))

    def close(self) -> None:
        """Hang up: the guard kills what trains."""
        self._control.close()


class Fresh:
    """A slot whose trainings are fresh interpreters, started from here."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._said: queue.Queue[dict[str, Any]] = queue.Queue()
        self._lock, self._ended = threading.Lock(), False
        self._trains: dict[str, str] = {}  # what the process trains, or has trained last

    def start(self, request: Request) -> bool:
        """Train a request; False where the slot was told to end."""
        with self._lock:
            if self._ended:
                return False
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(
                    WORKER,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env={**self._environment, **request["environment"]},
                    start_new_session=True,
                )
                self._trains = {}
                waits = threading.Thread(
                    target=self._wait, args=(self._process, self._trains), daemon=True
                )
                waits.start()
            self._trains["of"] = request["answer"]
            pipe: IO[bytes] | None = self._process.stdin
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.write(encode(dict(request)))
                    pipe.flush()
            return True

    def _listen(self, process: "subprocess.Popen[bytes]") -> None:
        lines, pipe = Lines(), process.stdout
        while pipe is not None and (data := os.read(pipe.fileno(), 2**16)):
            for message in lines.feed(data):
                self._said.put(message)
        for stream in (process.stdin, pipe):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _wait(self, process: "subprocess.Popen[bytes]", trains: Mapping[str, str]) -> None:
        """Say when a process has ended, and end the rest of its process group."""
        listener = threading.Thread(target=self._listen, args=(process,), daemon=True)
        listener.start()
        code = process.wait()
        if hasattr(os, "killpg"):
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
        listener.join(HANG_UP_S)
        self._said.put({"type": "exit", "code": code, **trains})

    def receive(self, deadline: float | None) -> dict[str, Any] | None:
        """Return the next message, None at the deadline."""
        if _is_over(deadline):
            return None
        left = None if deadline is None else max(0.001, deadline - time.monotonic())
        try:
            return self._said.get(timeout=left)
        except queue.Empty:
            return None

    def end(self, grace_s: float, *, for_good: bool) -> None:
        """End what trains, by TERM and then KILL; `for_good`: and start nothing more."""
        with self._lock:
            self._ended |= for_good
            process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        if grace_s > 0:
            threading.Timer(grace_s, process.kill).start()
        else:
            process.kill()

    def close(self) -> None:
        """Kill what trains."""
        self.end(0, for_good=True)


def _is_over(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline
