"""Progress: what a person sees while it runs; all of it on stderr."""

import heapq
import statistics
import sys
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TextIO

from bench.analysis.data.format import Unit, count, duration, interval, number, suffix, value
from bench.analysis.data.metrics import METRICS
from bench.design.plan import Plan, TrialKey
from bench.design.results import Failure, Result
from bench.execution.runner import Look, Watcher
from bench.terminal import cut, end_waiting, label, printable

HEARTBEAT_S = 300.0


@dataclass
class Training:
    """What one slot trains, as its messages described it; without keys it is idle."""

    slot: int
    device: str
    keys: tuple[TrialKey, ...]
    epochs: int | None  # of all its trials together; None where the settings do not say
    attempt: int
    begun: float
    first: tuple[float, int] = (0.0, 0)  # when every trial had an epoch, and how many there were
    last: tuple[float, int] = (0.0, 0)  # the same for the latest epoch
    rows: dict[TrialKey, Mapping[str, Any]] = field(default_factory=dict)

    def log(self, key: TrialKey, row: Mapping[str, Any]) -> None:
        """Take in an epoch."""
        self.rows[key] = row
        self.last = (time.monotonic(), sum(int(row["epoch"]) + 1 for row in self.rows.values()))
        if len(self.rows) == len(self.keys) and not self.first[1]:
            self.first = self.last

    def seconds_an_epoch(self) -> float | None:
        """Return the time between epochs of any of its trials, once there are enough."""
        epochs = self.last[1] - self.first[1]
        enough = self.first[1] and epochs >= len(self.keys)
        return (self.last[0] - self.first[0]) / epochs if enough else None

    def seconds_left(self, run_s: float | None) -> float | None:
        """Return the time left: from its own epochs, or else from what a run takes."""
        now, each = time.monotonic(), self.seconds_an_epoch()
        if each is not None and self.epochs is not None:
            return max(0.0, each * (self.epochs - self.last[1]) - (now - self.last[0]))
        return None if run_s is None else max(0.0, run_s * len(self.keys) - (now - self.begun))


class Progress(Watcher):
    """Counts what the runner tells; the subclasses show it.

    Parameters
    ----------
    stream : where to write
    workers : how many packs train at once
    blind : hide the running difference until all pairs are done
    """

    def __init__(self, stream: TextIO = sys.stderr, *, workers: int, blind: bool = False) -> None:
        self.stream, self.workers, self.blind = stream, max(1, workers), blind
        self.lock = threading.RLock()  # messages come from other threads
        self.training: list[Training] = []  # one a worker, each in its place
        self.durations: list[float] = []
        self.device_s = 0.0  # on accelerators
        self.begun: set[TrialKey] = set()
        self.done: set[TrialKey] = set()
        self.failed: set[TrialKey] = set()
        self.last_look: Look | None = None
        self.enough = False  # the plan's rule has stopped the training: what trains now is the last
        self.time_is_up = False  # the same, before the plan was done
        self.started = time.monotonic()

    def begin(self, plan: Plan, finished: Collection[TrialKey], left: int) -> None:
        """Training is about to start."""
        end_waiting()
        self.plan, self.packs = plan, plan.packs_left(finished)
        self.done |= set(finished)
        self.started = time.monotonic()
        known = METRICS.get(plan.metric)
        self.unit: Unit = known.unit if known else "score"

    def start(self, message: Mapping[str, Any]) -> None:
        """A training has begun; called from another thread, as is `epoch`."""
        keys = tuple(TrialKey(*key) for key in message["keys"])
        planned = [self.plan.arms[key.arm].get("epochs") for key in keys]
        epochs = [n for n in planned if isinstance(n, int)]
        new = Training(
            slot=int(message["slot"]),
            device=str(message["device"]),
            keys=keys,
            epochs=sum(epochs) if len(epochs) == len(keys) else None,
            attempt=int(message["attempt"]),
            begun=time.monotonic(),
        )
        with self.lock:
            self.begun |= set(keys)
            for training in self.training:
                if set(training.keys) & set(keys):  # its worker died, and they train again
                    training.keys = ()
            mine = [t for t in self.training if t.slot == new.slot]
            idle = [t for t in self.training if not t.keys]
            if place := mine or (idle if len(self.training) >= self.workers else []):
                self.training[self.training.index(place[0])] = new
            else:
                self.training.append(new)
            if self.over().issuperset(keys):  # its results came by another way, and first
                new.keys = ()

    def epoch(self, message: Mapping[str, Any]) -> None:
        """A worker has logged an epoch."""
        key = TrialKey.of(message)
        with self.lock:
            for training in self.training:
                if key in training.keys:
                    training.log(key, message["row"])

    def result(self, result: Result, value: float | None) -> None:
        """A trial is over."""
        with self.lock:
            if isinstance(result, Failure):
                self.failed.add(result.key)
            else:
                self.done.add(result.key)
                self.durations.append(result.duration_s)
                self.device_s += 0.0 if result.device == "cpu" else result.duration_s
            for training in self.training:
                if self.over().issuperset(training.keys):
                    training.keys = ()

    def pair(self, seed: int, values: Mapping[str, float], look: Look | None) -> None:
        """All arms of a seed are finished."""
        self.last_look = look
        self.enough |= look is not None and look.stop

    def retry(self, failure: Failure) -> None:
        """A trial is tried again."""
        with self.lock:
            self.begun.discard(failure.key)
            for training in self.training:
                if failure.key in training.keys:
                    training.keys = ()

    def late(self) -> None:
        """The time is up: what trains now is the last."""
        self.time_is_up = True

    def over(self) -> set[TrialKey]:
        """Return the trials that need no more training."""
        return self.done | self.failed

    def busy(self) -> list[Training]:
        """Return what trains now."""
        return [training for training in self.training if training.keys]

    def waiting(self) -> list[tuple[TrialKey, ...]]:
        """Return the packs that have not begun, and will."""
        if self.enough or self.time_is_up:
            return []
        begun = self.begun | self.over()
        return [pack for pack in self.packs if not begun.issuperset(pack)]

    def pairs_done(self) -> int:
        """Count the seeds that are finished in every arm."""
        return sum(self.done.issuperset(self.plan.of_seed(seed)) for seed in self.plan.seeds)

    def run_s(self) -> float | None:
        """Return what a run takes: the median of those finished, or of those far enough."""
        if self.durations:
            return statistics.median(self.durations)
        each = [(t.seconds_an_epoch(), t) for t in self.busy()]
        found = [s * t.epochs / len(t.keys) for s, t in each if s is not None and t.epochs]
        return statistics.median(found) if found else None

    def seconds_left(self) -> float | None:
        """Return the time left, each waiting pack on the worker that is free first."""
        with self.lock:
            each = self.run_s()
            if each is None:
                return None
            free = [t.seconds_left(each) or 0.0 for t in self.busy()]
            free += [0.0] * (self.workers - len(free))
            heapq.heapify(free)
            for pack in self.waiting():
                heapq.heapreplace(free, free[0] + each * len(pack))
            return max(free)

    def so_far(self) -> str:
        """Return the running anytime-valid interval: the only thing that is safe to look at."""
        if self.blind:
            return "hidden (--blind)"
        look = self.last_look
        if look is None or look.low is None or look.high is None:
            return "not enough pairs yet"
        first, *others = list(self.plan.arms)[1:]
        limits = interval(look.low, look.high, self.unit)
        mean = number(look.mean, self.unit) + suffix(self.unit)
        return f"{f'{first} ' if others else ''}{mean}, anytime 95% {limits}"


class Plain(Progress):
    """One line a finished run, and a heartbeat when it is quiet for long: Slurm, CI, a file."""

    def begin(self, plan: Plan, finished: Collection[TrialKey], left: int) -> None:
        """Training is about to start."""
        super().begin(plan, finished, left)
        self._closed = threading.Event()
        self._last = time.monotonic()
        if left:
            threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        while not self._closed.wait(HEARTBEAT_S / 10):
            if time.monotonic() - self._last >= HEARTBEAT_S:
                with self.lock:
                    left = {key for pack in self.packs for key in pack} - self.over()
                self._line(f"still training, {count(len(left), 'run')} to go")

    def _line(self, text: str) -> None:
        self._last = time.monotonic()
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        line = printable(text).replace("\n", " ")
        print(f"{stamp} {line}", file=self.stream, flush=True)

    def result(self, result: Result, value: float | None) -> None:
        """A trial is over."""
        super().result(result, value)
        where = _where(result.key)
        if isinstance(result, Failure):
            self._line(f"run failed {where} error[{result.code}] {one_line(result.what)}")
            return
        shown = "" if self.blind else _metric_value(self.plan.metric, value, self.unit)
        self._line(f"run done {where}{shown} device={result.device} {result.duration_s:.1f}s")

    def pair(self, seed: int, values: Mapping[str, float], look: Look | None) -> None:
        """All arms of a seed are finished."""
        super().pair(seed, values, look)
        left = self.seconds_left()
        text = f"pair done {self.pairs_done()}/{len(self.plan.seeds)}"
        if not self.blind:
            treatments = list(self.plan.arms)[1:]
            diff = values[treatments[0]] - values[self.plan.baseline]
            text += f" diff={number(diff, self.unit)}{suffix(self.unit).strip()}"
            if look is not None and look.low is not None and look.high is not None:
                limits = interval(look.low, look.high, self.unit).replace(" ", "")
                text += f" mean={number(look.mean, self.unit)} anytime95={limits}"
        self._line(text + (f" left={duration(left).replace(' ', '')}" if left is not None else ""))

    def retry(self, failure: Failure) -> None:
        """A trial is tried again."""
        super().retry(failure)
        where = _where(failure.key)
        self._line(f"run retried {where} error[{failure.code}] {one_line(failure.what)}")

    def notice(self, text: str) -> None:
        """Something that the person who waits should know."""
        self._line(text)

    def end(self) -> None:
        """Nothing more will happen."""
        self._closed.set()


def _where(key: TrialKey) -> str:
    """Return what a line calls a trial."""
    found = f"seed={key.seed} arm={label(key.arm)}"
    return found + (f" dataset={label(key.dataset)}" if key.dataset else "")


def _metric_value(metric: str, x: float | None, unit: Unit) -> str:
    if x is None:
        return ""
    name = "acc" if metric == "accuracy" else metric
    return f" {name}={value(x, unit)}"


def one_line(text: str) -> str:
    """Return a text of any length for one line."""
    return cut(" ".join(text.split()), 200)
