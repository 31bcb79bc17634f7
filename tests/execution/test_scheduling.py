"""Places: who gets which slot, who waits for whom, and which device is shut out."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from bench.execution import devices as devices_module, scheduling
from bench.execution.devices import Device, Slot, User, cpu_slots
from bench.execution.scheduling import Place, Places

GIB = 2**30


MADE: list[Places] = []


@pytest.fixture(autouse=True)
def _leases_end() -> Iterator[None]:
    yield
    for place in (place for some in MADE for place in some.every):
        for lease in place.leases or ():
            with contextlib.suppress(OSError):
                os.close(lease)
    MADE.clear()


def gpu_slots(count: int, lanes: int = 1, *, name: str = "GPU") -> list[Slot]:
    found = [Device("cuda", index, f"{name}-{index}", "Fake") for index in range(count)]
    return [Slot(d.label, lane, 1, (d,)) for lane in range(lanes) for d in found]


def places(slots: Sequence[Slot], tell: Callable[[str], None] = lambda text: None) -> Places:
    MADE.append(Places(slots, tell))
    return MADE[-1]


def take(some: Places, **how: Any) -> Place:
    until = time.monotonic() + 20
    place = some.take(lambda: time.monotonic() > until, **how)
    assert place is not None
    return place


@contextmanager
def waiting(some: Places, **how: Any) -> Iterator[Callable[[], Place | None]]:
    """Take in a thread; gives what returns the place, or None while that still waits."""
    got: list[Place | None] = []
    over = threading.Event()
    thread = threading.Thread(target=lambda: got.append(some.take(over.is_set, **how)))
    thread.start()

    def place() -> Place | None:
        thread.join(0.3)
        return got[0] if got else None

    try:
        yield place
    finally:
        over.set()
        some.wake()
        thread.join(5)
        assert not thread.is_alive()


# -- permits -----------------------------------------------------------------------------------


def test_places_are_handed_out_in_order_and_once():
    some = places(cpu_slots(2))
    assert [take(some).number, take(some).number] == [0, 1]
    with waiting(some) as third:
        assert third() is None
        some.give_back(some.every[1])
        assert third() is some.every[1]


def test_whoever_waits_stops_when_nothing_is_to_be_started_any_more():
    some, stopped = places(cpu_slots(1)), False
    take(some)
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(some.take(lambda: stopped)))
    thread.start()
    stopped = True
    some.wake()
    thread.join(5)
    assert got == [None] and some.take(lambda: True) is None


# -- retries -----------------------------------------------------------------------------------


def test_a_retry_gets_another_device_where_there_is_one():
    some = places(gpu_slots(2))
    assert take(some, avoid=["cuda:0"]).slot.device == "cuda:1"
    with waiting(some, avoid=["cuda:0"]) as retry:
        assert retry() is None  # though cuda:0 is free
        some.give_back(some.every[1])
        place = retry()
        assert place is not None and place.slot.device == "cuda:1"


def test_a_retry_gets_the_same_device_where_there_is_no_other():
    assert take(places(gpu_slots(1)), avoid=["cuda:0"]).slot.device == "cuda:0"
    some = places(gpu_slots(2, name="Other"))
    for _ in range(2):
        some.strike(some.every[1])
    assert take(some, avoid=["cuda:0"]).slot.device == "cuda:0"


def test_new_trainings_leave_a_place_to_the_retry_that_waits_for_it():
    some = places(gpu_slots(2))
    first, second = take(some), take(some)
    with waiting(some, avoid=["cuda:0"]) as retry:
        assert retry() is None
        with waiting(some) as new:
            assert new() is None
            some.give_back(second)
            assert retry() is second and new() is None
            some.give_back(first)
            assert new() is first


def test_a_training_that_needs_a_device_alone_waits_until_it_is_empty_and_keeps_it_so():
    some = places(gpu_slots(1, lanes=2))
    one, other = take(some), take(some)
    with waiting(some, avoid=["cuda:0"], alone=True) as alone:
        some.give_back(one)
        assert alone() is None
        with waiting(some) as new:
            assert new() is None  # else others would take turns for ever
            some.give_back(other)
            assert alone() is not None and new() is None
            some.give_back(alone() or one)
            assert new() is not None


def test_alone_says_nothing_about_other_devices():
    some = places(gpu_slots(2, lanes=2))
    assert take(some, alone=True).slot.device == "cuda:0"
    assert take(some).slot.device == take(some).slot.device == "cuda:1"
    with waiting(some) as fourth:
        assert fourth() is None


def test_on_the_cpu_everybody_is_alone():
    some = places(cpu_slots(2))
    take(some)
    assert take(some, alone=True).number == 1


# -- sick devices ------------------------------------------------------------------------------


def test_two_failures_in_a_row_shut_a_device_out_with_its_name_and_one_does_not():
    some = places(gpu_slots(2))
    assert some.strike(some.every[1]) is None and some.shut_out == {}
    some.clear(["cuda:1"])
    assert some.strike(some.every[1]) is None
    assert some.has_other("cuda:0")
    why = "cuda:1 (Fake GPU-1) is shut out: it failed twice in a row."
    assert some.strike(some.every[1]) == why
    assert some.shut_out == {"cuda:1": why} and some.strike(some.every[1]) is None
    assert not some.has_other("cuda:0") and some.has_other("cuda:1")
    assert take(some).slot.device == "cuda:0"
    with waiting(some) as second:
        assert second() is None


def test_where_every_device_is_shut_out_nobody_waits():
    some = places(gpu_slots(1))
    with waiting(some) as first:
        assert first() is not None
    with waiting(some) as second:
        for _ in range(2):
            some.strike(some.every[0])
        assert second() is None
    assert some.take(lambda: False) is None


# -- devices that others use -------------------------------------------------------------------


def test_a_lease_is_taken_with_the_first_training_and_kept():
    mine, other = places(gpu_slots(1)), places(gpu_slots(1))
    place = take(mine)
    assert place.leases is not None and len(place.leases) == 1
    mine.give_back(place)
    with waiting(other) as waits:
        assert waits() is None
        os.close(place.leases[0])
        place.leases = None
        assert waits() is not None


def test_another_device_is_taken_while_one_is_leased(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scheduling, "QUIET_WAIT_S", 0.0)
    told: list[str] = []
    mine, other = places(gpu_slots(1)), places(gpu_slots(2), told.append)
    take(mine)
    assert take(other).slot.device == "cuda:1" and told == []
    with waiting(other) as second:
        assert second() is None
    assert told[0].startswith("a training waits for cuda:0: another benchmark (user ")
    assert told[0].endswith(f", pid {os.getpid()}) trains there.") and len(told) == 1


class Card:
    """A source with one card of 80 GiB."""

    free, asked = 10 * GIB, 0

    def devices(self) -> list[Device]:
        self.asked += 1
        users = (User(1, "bob", 5 * GIB), User(2, "alice", 60 * GIB))
        return [Device("cuda", 0, "GPU-0", "Fake", 80 * GIB, self.free, users)]


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    found = Card()
    monkeypatch.setattr(devices_module, "source", found)
    monkeypatch.setattr(scheduling, "SHORT_S", 0.1)
    monkeypatch.setattr(scheduling, "QUIET_WAIT_S", 0.0)
    return found


def test_a_card_is_waited_for_until_the_memory_of_the_last_training_is_free(card: Card):
    told: list[str] = []
    some = places(gpu_slots(1), told.append)
    assert take(some) is some.every[0] and card.asked == 0  # nothing is known of the first
    some.give_back(some.every[0])
    some.needed = 40 * GIB
    with waiting(some) as second:
        assert second() is None
        card.free = 40 * GIB
        assert second() is some.every[0]
    assert told == [
        "a training waits: cuda:0 (Fake) has 10.0 of 80.0 GiB free and 40.0 GiB are needed: "
        "alice (pid 2) uses 60.0 GiB, bob (pid 1) uses 5.0 GiB"
    ]


def test_memory_that_our_own_trainings_use_is_not_waited_for(card: Card):
    some = places(gpu_slots(1, lanes=2))
    take(some)
    some.needed = 40 * GIB
    assert take(some) is some.every[1] and card.asked == 0
    some.give_back(some.every[1])
    some.give_back(some.every[0])
    some.every[0].reused = True  # its process has the memory already
    assert take(some) is some.every[0] and card.asked == 0


def test_a_busy_card_is_not_asked_about_all_the_time(card: Card, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scheduling, "SHORT_S", 600.0)
    some = places(gpu_slots(1))
    some.needed = 40 * GIB
    with waiting(some) as first:
        for _ in range(5):
            some.wake()
            time.sleep(0.02)
        assert first() is None
    assert card.asked == 1


def test_a_free_card_is_used_while_another_is_busy(card: Card):
    some = places(gpu_slots(2))
    some.needed = 40 * GIB
    assert take(some).slot.device == "cuda:1"
