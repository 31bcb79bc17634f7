"""Executor: the contract of what trains jobs, on this machine or on others."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from bench.design.plan import TrialKey
from bench.design.results import Failure, Job, Result

Message = dict[str, Any]  # a start or an epoch of a training; JSON values


@dataclass(frozen=True)
class Options:
    """How to train, as against what: nothing in here changes a result."""

    data_dir: Path | None = None
    timeout_s: float | None = None
    redo: frozenset[TrialKey] = frozenset()
    streams: Sequence[str] = ()  # that every training has to draw from, or the first is the last
    fresh: bool = False
    deadline: float = float("inf")  # by time.monotonic(); nothing is started after it
    keep_going: bool = False  # train on after a failure that repeats before anything succeeds


class Closing:
    """What a `with` statement closes at its end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what it holds; idempotent."""
        raise NotImplementedError


class Executor(Protocol):
    """What trains jobs: processes of this machine, or a cluster."""

    def listen(self, deliver: Callable[[Message], None]) -> None:
        """Send what trainings say while they run to somebody, who may be called by any thread."""

    def run(
        self,
        jobs: Sequence[Job],
        *,
        stop: Callable[[], bool] = ...,
        on_retry: Callable[[Failure], None] = ...,
        check: Callable[[], None] = ...,
    ) -> Generator[list[Result], None, None]:
        """Train the jobs and yield each one's results as it finishes.

        Parameters
        ----------
        jobs : in the order in which they start
        stop : asked before each start, by any thread; True starts nothing more
        on_retry : told of a failure that is tried again
        check : called at least twice a second; where it raises, what trains is ended
        """

    def wake(self) -> None:
        """Have `check` called at once; may be called by a signal handler."""

    def close(self) -> None:
        """End everything that trains; idempotent."""
