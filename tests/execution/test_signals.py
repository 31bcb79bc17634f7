"""Signals: they become exceptions where it is safe, and are held back while trainings run."""

import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.execution.signals import Ending, Terminated, ended_by_signals

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _handlers_as_before() -> Iterator[None]:
    before = [signal.getsignal(number) for number in HANDLED]
    yield
    assert [signal.getsignal(number) for number in HANDLED] == before


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (signal.SIGINT, KeyboardInterrupt),
        (signal.SIGTERM, Terminated),
        (signal.SIGHUP, Terminated),
    ],
)
def test_a_signal_is_an_exception_at_once_where_nothing_trains(
    number: signal.Signals, kind: type[BaseException]
):
    with pytest.raises(kind), ended_by_signals():
        signal.raise_signal(number)
        pytest.fail("it went on")


def test_ctrl_c_once_is_held_back_and_wakes_whoever_checks():
    woken: list[int] = []
    with pytest.raises(KeyboardInterrupt), ended_by_signals() as ending:
        with ending.held_back(lambda: woken.append(1)):
            assert not ending.is_near
            signal.raise_signal(signal.SIGINT)
            assert ending.is_near and woken == [1]
            ending.check()  # those in training finish
        pytest.fail("it was forgotten")


def test_ctrl_c_twice_ends_what_trains():
    with pytest.raises(KeyboardInterrupt), ended_by_signals() as ending:
        with ending.held_back(lambda: None):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                ending.check()


@pytest.mark.parametrize("first", [None, signal.SIGINT])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_end_does_not_wait_for_trainings(
    first: signal.Signals | None, number: signal.Signals
):
    with pytest.raises(Terminated), ended_by_signals() as ending:
        with ending.held_back(lambda: None):
            if first is not None:
                signal.raise_signal(first)
            signal.raise_signal(number)
            with pytest.raises(Terminated):
                ending.check()


def test_a_ctrl_c_after_a_request_to_end_does_not_take_it_back():
    with pytest.raises(Terminated), ended_by_signals() as ending:
        with ending.held_back(lambda: None):
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)


def test_without_a_signal_nothing_is_raised():
    with ended_by_signals() as ending, ending.held_back(lambda: None):
        ending.check()
    assert not ending.is_near


class Cleaned:
    """Receives a signal in the middle of its finaliser, where Python prints exceptions."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def dropped() -> None:
    cleaned: Any = Cleaned()
    del cleaned


def dropped_weakly() -> None:
    kept: Any = Ending()
    finalizer = weakref.finalize(kept, signal.raise_signal, signal.SIGINT)
    finalizer()


def dropped_in_a_callback() -> None:
    kept: Any = Ending()
    seen = weakref.ref(kept, lambda _: signal.raise_signal(signal.SIGINT))
    del kept, seen


@pytest.mark.parametrize("drop", [dropped, dropped_weakly, dropped_in_a_callback])
def test_a_signal_in_the_middle_of_a_finaliser_acts_right_after_it(drop: Callable[[], None]):
    with pytest.raises(KeyboardInterrupt), ended_by_signals():
        drop()  # not here, where it would be printed and lost
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            time.sleep(0.005)
        pytest.fail("it was lost")


def test_in_another_thread_signals_are_left_to_their_owner():
    found: list[Any] = []

    def body() -> None:
        before = signal.getsignal(signal.SIGINT)
        with ended_by_signals() as ending:
            found.append(signal.getsignal(signal.SIGINT) is before)
            ending.check()

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert found == [True]
