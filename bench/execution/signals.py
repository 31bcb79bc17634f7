"""Signals: Ctrl-C, SIGTERM and SIGHUP end a run in order, at a point where that is safe."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

AGAIN_S = 0.02  # after which a signal that Python swallowed is raised once more


class Terminated(BaseException):
    """SIGTERM: somebody (Slurm, Kubernetes, a shutdown) wants this process to end."""


class Ending:
    """The signals that end a process, held back while trainings are supervised.

    Ctrl-C once: those in training are finished and recorded, nothing new starts. Ctrl-C twice,
    SIGTERM and SIGHUP end what trains; whoever supervises asks `check`.
    """

    def __init__(self) -> None:
        self.asked: type[BaseException] | None = None
        self.patient = False
        self.wake: Callable[[], None] = lambda: None  # has `check` called at once
        self._presses = 0
        self._last = int(signal.SIGINT)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take a signal: at once, or at the next `check` where somebody calls it."""
        kind = KeyboardInterrupt if number == signal.SIGINT else Terminated
        if self.patient:
            self.asked = kind if kind is Terminated else self.asked or kind
            self._presses += 1
            self.wake()
        else:
            self._last = number
            raise kind

    def once_more(self, swallowed: "sys.UnraisableHookArgs") -> None:
        """Raise the last signal again: it came in a finaliser, from which Python raises nothing."""
        if swallowed.exc_type in (KeyboardInterrupt, Terminated):
            threading.Timer(AGAIN_S, signal.raise_signal, [self._last]).start()
        else:
            sys.__unraisablehook__(swallowed)

    @property
    def is_near(self) -> bool:
        """Whether nothing new is to be started."""
        return self.asked is not None

    @contextlib.contextmanager
    def held_back(self, wake: Callable[[], None]) -> Iterator[None]:
        """Hold signals back while somebody calls `check` again and again, and after."""
        self.patient, self.wake = True, wake
        try:
            yield
        finally:
            self.patient, self.wake = False, lambda: None
        if self.asked is not None:
            raise self.asked

    def check(self) -> None:
        """Raise what was asked for, where it does not wait for those in training."""
        if self.asked is Terminated or (self.asked is not None and self._presses > 1):
            raise self.asked


@contextlib.contextmanager
def ended_by_signals() -> Iterator[Ending]:
    """Turn the signals that end a process into exceptions, so that everything taken is written."""
    ending = Ending()
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    try:
        before = {name: signal.signal(getattr(signal, name), ending) for name in names}
    except ValueError:  # not the main thread: the owner of the process handles signals
        yield ending
        return
    hook, sys.unraisablehook = sys.unraisablehook, ending.once_more
    try:
        yield ending
    finally:
        sys.unraisablehook = hook
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
