"""Slot scheduling: which slot is free, whose device is leased, busy, full or shut out.

A place is also the permit to start: it comes back when the result of its training is recorded, so
that a stopping rule always knows all results before it is asked.
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from bench.execution import devices
from bench.execution.devices import Slot
from bench.execution.leases import Leases
from bench.execution.slot_lines import SlotLine

QUIET_WAIT_S = 5.0  # so long a device may be in use before that is said
WAIT_TOLD_S = 60.0  # and then again, for whoever began to listen later
LOOK_AGAIN_S = 0.2  # at a lease that somebody else holds
SHORT_S = 5.0  # before a card that was short of memory is looked at again
MOST_STRIKES = 2  # failures in a row that are a device's own, after which it is shut out


@dataclass(eq=False)
class Place:
    """A slot in use by one run of the executor."""

    number: int
    slot: Slot
    leases: tuple[int, ...] | None = None  # None while nobody holds its devices for it
    line: SlotLine | None = None
    busy: bool = False
    short: tuple[float, str] = (0.0, "")  # of memory: when to look again, and what to say
    reused: bool = False  # its training waits for the next pack
    others: list["Place"] = field(default_factory=list)  # on the same devices


class Places:
    """Hands out the places, one training each.

    Parameters
    ----------
    slots : one a training at once
    tell : says which devices are waited for, and why
    """

    def __init__(self, slots: Sequence[Slot], tell: Callable[[str], None]) -> None:
        self.every = [Place(number, slot) for number, slot in enumerate(slots)]
        for place in self.every:
            same = [p for p in self.every if p.slot.device == place.slot.device and p is not place]
            place.others = same if place.slot.devices else []
        self.shut_out: dict[str, str] = {}  # device to the reason
        self.needed = 0  # bytes of GPU memory that the last training took
        self._tell, self._leases = tell, Leases()
        self._changed = threading.Condition()
        self._alone: set[str] = set()  # devices that a training has for itself
        self._particular: Counter[int] = Counter()  # waiting for a place other than these
        self._strikes: Counter[str] = Counter()

    def take(
        self,
        stop: Callable[[], bool],
        *,
        avoid: Collection[str] = (),
        alone: bool = False,
    ) -> Place | None:
        """Wait for a place and return it; None where nothing is to be started any more.

        Parameters
        ----------
        stop : asked while it waits; True ends that
        avoid : devices that it would rather not have again
        alone : nothing else may train on the same device
        """
        tell_at = time.monotonic() + QUIET_WAIT_S
        with self._changed, self._first_choice(avoid, alone):
            while not stop():
                usable = [p for p in self.every if p.slot.device not in self.shut_out]
                if not usable:
                    return None
                wanted = [p for p in usable if p.slot.device not in avoid] or usable
                place, waits = self._free(wanted, bool(avoid) or alone, alone)
                if place is not None:
                    return place
                if waits and time.monotonic() >= tell_at:
                    self._tell(waits)
                    tell_at = time.monotonic() + WAIT_TOLD_S
                self._changed.wait(LOOK_AGAIN_S)
        return None

    @contextlib.contextmanager
    def _first_choice(self, avoid: Collection[str], alone: bool) -> Iterator[None]:
        """While a retry waits for another device, or an empty one, new trainings leave it that."""
        usable = [p for p in self.every if p.slot.device not in self.shut_out]
        other = [p for p in usable if p.slot.device not in avoid]
        mine = [p.number for p in (other if avoid else []) or (usable if alone else [])]
        self._particular.update(mine)
        try:
            yield
        finally:
            self._particular.subtract(mine)

    def _free(
        self, wanted: Sequence[Place], particular: bool, alone: bool
    ) -> tuple[Place | None, str]:
        """Return a free place, leased; or what is waited for, where others use the devices."""
        waits = ""
        for place in wanted:
            reserved = not particular and self._particular[place.number] > 0
            crowded = place.slot.device in self._alone or (
                alone and any(other.busy for other in place.others)
            )
            if place.busy or reserved or crowded:
                continue
            if place.leases is None and not self._leased(place):
                waits = waits or self._held(place)
                continue
            if short := self._short(place):
                waits = waits or short
                continue
            place.busy = True
            if alone and place.others:
                self._alone.add(place.slot.device)
            return place, ""
        return None, waits

    def _leased(self, place: Place) -> bool:
        place.leases = self._leases.take(place.slot)
        return place.leases is not None

    def _held(self, place: Place) -> str:
        holder = self._leases.holder(place.slot)
        who = f" ({holder})" if holder else ""
        return f"a training waits for {place.slot.device}: another benchmark{who} trains there."

    def _short(self, place: Place) -> str:
        """Say who uses the memory that the last training needed; others may release it."""
        if not self.needed or not place.slot.devices or any(p.busy for p in place.others):
            return ""
        if place.reused:  # it has its memory already
            return ""
        if time.monotonic() < place.short[0]:
            return place.short[1]
        now = {device.uuid: device for device in devices.source.devices()}
        for device in place.slot.devices:
            short = devices.shortage(now.get(device.uuid, device), self.needed)
            if short:
                place.short = time.monotonic() + SHORT_S, f"a training waits: {short}"
                return place.short[1]
        return ""

    def give_back(self, place: Place) -> None:
        """Take a place back, once the result of its training is recorded."""
        with self._changed:
            place.busy = False
            self._alone.discard(place.slot.device)
            self._changed.notify_all()

    def has_other(self, device: str) -> bool:
        """Tell whether a device other than this one may be used."""
        names = {place.slot.device for place in self.every}
        return bool(names - {device, *self.shut_out})

    def strike(self, place: Place) -> str | None:
        """Note that a device failed; return why it is shut out now, if it is."""
        device = place.slot.device
        with self._changed:
            self._strikes[device] += 1
            if self._strikes[device] < MOST_STRIKES or device in self.shut_out:
                return None
            named = ", ".join(f"{d.name} {d.uuid}" for d in place.slot.devices) or device
            self.shut_out[device] = f"{device} ({named}) is shut out: it failed twice in a row."
            self._changed.notify_all()
            return self.shut_out[device]

    def clear(self, names: Collection[str]) -> None:
        """Forget the failures of devices: one trained, or the fault was the training's own."""
        with self._changed:
            for name in names:
                self._strikes.pop(name, None)

    def wake(self) -> None:
        """Let everybody who waits look again whether to stop."""
        with self._changed:
            self._changed.notify_all()
