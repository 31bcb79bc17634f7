"""Safety: counts the inputs that were tried, and says what a well-behaved command does."""

import contextlib
import io
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SLOWEST_S = 60  # no input may take longer, whatever the machine does besides
STATUSES = (0, 2, 3, 4, 5, 10)


@dataclass(frozen=True)
class Answer:
    """What a command line left behind."""

    status: int
    out: str
    err: str


class Hang(BaseException):
    """An input that a command does not come back from."""


@contextlib.contextmanager
def no_hang() -> Iterator[None]:
    """End what takes longer than any input may."""

    def stop(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SLOWEST_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def tried(counts: dict[str, Any]) -> Callable[[str], Any]:
    """Return what counts an input, and ends it when it hangs."""
    table = counts.setdefault("bad and hostile input", {})

    @contextlib.contextmanager
    def count(name: str) -> Iterator[None]:
        table.setdefault(name, {"tried": 0})["tried"] += 1
        with no_hang():
            yield

    return count


@pytest.fixture(scope="session")
def answer() -> Callable[[Sequence[str]], Answer]:
    """Return what runs a command line here and sees that it behaves, whatever it was given.

    It ends with one of our exit statuses, never with a traceback; a refusal is `error[code]` with
    one JSON object on stdout where that was asked for.
    """
    from bench import cli

    def run(words: Sequence[str]) -> Answer:
        out, err = _Terminal(), _Terminal()
        before, sys.argv = sys.argv, ["bench", *words]
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = cli._run(words)
        finally:
            sys.argv = before
        said = Answer(status, out.getvalue(), err.getvalue())
        assert status in STATUSES, said
        assert "Traceback" not in said.err and "\x1b" not in said.err
        if status not in (0, 10) and not said.out.startswith("Usage"):
            assert said.err.count("error[") >= 1, said
        if status not in (0, 10) and "--json" in words:
            assert set(json.loads(said.out)) == {"error"}, said
        return said

    return run


class _Terminal(io.TextIOWrapper):
    """A stream that takes what a UTF-8 terminal takes, and no more."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", errors="backslashreplace")

    def getvalue(self) -> str:
        self.flush()
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode("utf-8")


@pytest.fixture(scope="session")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file that whoever runs a pickle creates."""
    return tmp_path_factory.mktemp("canary") / "sings"


class Touch:
    """Unpickled, it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


@pytest.fixture
def evil(canary: Path) -> Iterator[Any]:
    """Return an object whose pickle does something, and see afterwards that nobody read it."""
    canary.unlink(missing_ok=True)
    yield Touch(canary)
    assert not canary.exists(), "a pickle was read"
