"""Process: starts a program, hears what it prints while it runs, and waits for its end.

What it leaves running is ended by the guard of the slot, as of every training.
"""

import contextlib
import os
import selectors
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.analysis.errors import text_of
from bench.programs.lines import Splitter
from bench.programs.refusals import BadArms

POLL_S = 0.25
DRAIN_S = 1.0  # for what is still in the pipes of a program that has ended
MOST_LOG = 16 * 2**20  # bytes of its output that are kept; the end counts
CHUNK = 2**16


def run(
    words: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    on_line: Callable[[str], None],
    on_poll: Callable[[], None],
    log: int = 1,
) -> int:
    """Run a program to its end, and return its exit status, or minus the signal that ended it.

    Parameters
    ----------
    on_line : called with every line that it prints, on stdout or stderr
    on_poll : called four times a second and at the end
    log : descriptor to which its output is copied

    Raises
    ------
    BadArms : there is no such program
    """
    try:
        process = subprocess.Popen(
            words,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except (OSError, ValueError) as error:
        raise BadArms(
            f"{words[0][:200]} cannot be started: {text_of(error)}.", facts=[f"In {folder}."]
        ) from None
    with _Pipes(process, on_line, log) as pipes:
        while process.poll() is None:
            pipes.read(POLL_S)
            on_poll()
        pipes.drain()
    on_poll()
    return process.returncode


class _Pipes:
    """Both pipes of a program, each cut into lines."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", on_line: Callable[[str], None], log: int
    ) -> None:
        self._on_line, self._log, self._written = on_line, log, 0
        self._last = b""
        self._selector = selectors.DefaultSelector()
        self._process = process
        self._ended = -1
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, selectors.EVENT_READ, Splitter())

    def __enter__(self) -> "_Pipes":
        with contextlib.suppress(AttributeError, OSError):  # Linux: its end wakes us at once
            self._ended = os.pidfd_open(self._process.pid)
            self._selector.register(self._ended, selectors.EVENT_READ, None)
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        if self._ended >= 0:
            os.close(self._ended)
        if self._process.poll() is None:  # what reads it has refused a line, or an epoch
            self._process.kill()
            self._process.wait()

    def read(self, seconds: float) -> bool:
        """Take in what there is; returns whether there was something."""
        some = False
        for key, _ in self._selector.select(seconds):
            if key.data is not None:
                some |= self._take(key.fileobj, key.data)
            elif self._process.poll() is not None:
                self._selector.unregister(key.fileobj)
        if not self._pipes_open():
            time.sleep(0 if self._ended >= 0 or self._process.poll() is not None else 0.02)
        return some

    def _take(self, pipe: object, splitter: Splitter) -> bool:
        try:
            data = os.read(pipe.fileno(), CHUNK)  # type: ignore[attr-defined]
        except BlockingIOError:
            return False
        if not data:
            self._selector.unregister(pipe)  # type: ignore[arg-type]
        self._keep(data)
        for line in splitter.feed(data, last=not data):
            self._on_line(line)
        return bool(data)

    def _keep(self, data: bytes) -> None:
        """Copy what is printed to the log; one too long to keep begins anew with its last piece."""
        if not data:
            return
        again = b""
        if self._written > MOST_LOG:
            with contextlib.suppress(OSError):
                os.ftruncate(self._log, 0)
            self._written, again = 0, self._last
        self._last = data
        with contextlib.suppress(OSError):
            self._written += os.write(self._log, again + data)

    def _pipes_open(self) -> bool:
        return any(key.data is not None for key in self._selector.get_map().values())

    def drain(self) -> None:
        """Take in the rest; a child that it left may hold the pipes open for ever."""
        until = time.monotonic() + DRAIN_S
        while self._pipes_open() and time.monotonic() < until and self.read(0):
            pass
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                for line in key.data.feed(b"", last=True):
                    self._on_line(line)
