"""File locks: one process runs a benchmark at a time, and the others are told which."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.analysis.errors import Refusal


class Locked(Refusal):
    """A benchmark that another process is running."""

    code = "benchmark-locked"
    exit_status = 4


def now() -> str:
    """Return this moment, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Locks:
    """One file lock a benchmark; the system frees it when its process dies.

    Parameters
    ----------
    folder : the store's folder of locks, the same for every process of this machine
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, benchmark_id: str) -> Path:
        """Return a benchmark's lock file; who holds it is written beside it."""
        return self.folder / f"{benchmark_id[:32]}.lock"

    def holder(self, benchmark_id: str) -> dict[str, Any] | None:
        """Return who is running a benchmark on this machine, or None."""
        path = self.path(benchmark_id)
        if not path.exists():
            return None
        try:
            with FileLock(path, timeout=0):
                return None
        except Timeout:
            with suppress(OSError, ValueError, TypeError):
                held: dict[str, Any] = dict(json.loads(path.with_suffix(".json").read_text()))
                return held
            return {"pid": 0, "host": "this machine", "since": "?"}

    @contextmanager
    def hold(self, benchmark_id: str, name: str) -> Iterator[None]:
        """Hold a benchmark, called `name`, for as long as this process runs it.

        Raises
        ------
        Locked : another process holds it; says which
        """
        path = self.path(benchmark_id)
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0.5)  # who only looks holds it for a moment
        except Timeout:
            held = self.holder(benchmark_id) or {}
            raise Locked(
                "this benchmark is being run by another process "
                f"(pid {held.get('pid')} on {held.get('host')}, since {held.get('since')}).",
                facts=["Other benchmarks may use the same store."],
                fix="wait for it:",
                command=["bench", "status", name],
            ) from None
        try:
            holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": now()}
            path.with_suffix(".json").write_text(json.dumps(holder))
            yield
        finally:
            lock.release()
