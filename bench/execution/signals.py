"""Signals: Ctrl-C, SIGTERM and SIGHUP end a run in order, at a point where that is safe."""

import _weakrefset
import contextlib
import multiprocessing.util
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from types import FrameType

AGAIN_S = 0.02  # after which a signal that came at a bad moment is raised once more
FINALISERS = (
    weakref.__file__,
    _weakrefset.__file__,
    multiprocessing.util.__file__,
)  # files of functions that clean up


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

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take a signal: at once, or at the next `check` where somebody calls it."""
        kind = KeyboardInterrupt if number == signal.SIGINT else Terminated
        if self.patient:
            self.asked = kind if kind is Terminated else self.asked or kind
            self._presses += 1
            self.wake()
        elif _in_a_finaliser(frame):  # Python prints what is raised there, and goes on
            threading.Timer(AGAIN_S, signal.raise_signal, [number]).start()
        else:
            raise kind

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


def _in_a_finaliser(frame: FrameType | None) -> bool:
    """Tell whether Python is cleaning up after an object just now."""
    while frame is not None:
        if frame.f_code.co_name == "__del__" or frame.f_code.co_filename in FINALISERS:
            return True
        frame = frame.f_back
    return False


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
    try:
        yield ending
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
