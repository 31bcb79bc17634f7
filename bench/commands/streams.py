"""The standard streams: closed ones are opened again, and a stderr that fails ends no command."""

import errno
import os
import select
import sys
from typing import Any, cast

from bench.analysis.errors import Refusal


class OutputLost(Refusal):
    """Stdout that cannot be written to: closed, or on a full disk."""

    code = "output"
    exit_status = 4


def prepare_streams() -> None:
    """Make stdin, stdout and stderr safe to use, however this process was started.

    A descriptor that the caller closed would be given to the next file that is opened: a database
    with the number 2 would receive what a child process writes to stderr. Then stdin is empty,
    writing to stderr does nothing, and writing to stdout fails.

    Afterwards a failed write to stdout raises `OutputLost`; one to stderr is dropped.
    """
    # a stdout that is open for reading refuses every write, as a closed one does
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, flags)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)  # child processes have the same gap otherwise
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)
    stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)
    stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)
    sys.stdout, sys.stderr = cast(Any, _Stdout(stdout)), cast(Any, _Stderr(stderr))


class _Guarded:
    """A text stream whose failed writes are handled by `failed`; after one it discards all."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text."""
        try:
            return int(self._stream.write(text))
        except OSError as error:
            self._failed(error)
            return len(text)

    def flush(self) -> None:
        """Write what is buffered."""
        try:
            self._stream.flush()
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        raise NotImplementedError


class _Stdout(_Guarded):
    def _failed(self, error: OSError) -> None:
        if isinstance(error, BrokenPipeError):  # what read it has seen enough
            raise error
        discard(self)
        closed = error.errno == errno.EBADF
        why = "it is closed" if closed else (error.strerror or type(error).__name__).lower()
        raise OutputLost(
            f"stdout cannot be written to: {why}.",
            facts=["No finished run was harmed."],
            fix="the same command, with its output to a terminal, a pipe or a file with space",
        ) from error


class _Stderr(_Guarded):
    def _failed(self, error: OSError) -> None:
        if isinstance(error, BrokenPipeError) and reader_gone():  # both went into one pipe
            raise error
        discard(self)


def reader_gone() -> bool:
    """Tell whether stdout is a pipe that nobody reads; where the system cannot say, it is."""
    if not hasattr(select, "poll"):
        return True
    stdout = select.poll()
    stdout.register(sys.stdout, 0)  # no event but an error or a hang-up
    return bool(stdout.poll(0))


def discard(stream: Any) -> None:
    """Send what a stream has buffered, and all that follows, to the null device."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
