"""Fail fast: is a failure the second of its kind in an arm without a success?"""

from collections import Counter
from collections.abc import Iterable

from bench.design.results import Failure

BY_CHANCE = ("nan", "timeout", "memory", "gpu-memory")  # of which the next training may be free
EDITED = "edited"  # a file of the experiment, while it trains
FROM_OUTSIDE = "SIGKILL"  # by which the kernel ends what takes too much memory
TWICE = 2

Kind = tuple[str, str, str]  # arm, exception, last line of the experiment's own code


class Repeats:
    """Counts equal failures: same arm, same exception, same last line of the experiment's code.

    Parameters
    ----------
    succeeded : the arms of which a training has finished before
    """

    def __init__(self, succeeded: Iterable[str] = ()) -> None:
        self.found: Failure | None = None
        self._succeeded = set(succeeded)
        self._seen: set[tuple[Kind, int, int]] = set()
        self._counts: Counter[Kind] = Counter()

    def succeeded(self, arm: str) -> None:
        """Note that a training of an arm has finished."""
        self._succeeded.add(arm)

    def failed(self, failure: Failure, pack: int, *, final: bool) -> None:
        """Note a failure; a pack fails once, and a retry counts.

        What a device did counts when the retry elsewhere has failed too: then it was not the
        device.
        """
        kind = failure.key.arm, failure.error, failure.place
        once = kind, pack, failure.attempt
        of_a_device = failure.code == "device"
        if failure.code == EDITED:  # as every further training will
            self.found = self.found or failure
            return
        by_chance = failure.code in BY_CHANCE or failure.error == FROM_OUTSIDE
        if by_chance or once in self._seen or (of_a_device and not final):
            return
        self._seen.add(once)
        self._counts[kind] += TWICE if of_a_device and failure.error else 1
        if self._counts[kind] >= TWICE and failure.key.arm not in self._succeeded:
            self.found = self.found or failure
