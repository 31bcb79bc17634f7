"""Dry run: what a plan will cost, from one epoch that is trained and thrown away."""

import statistics
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from bench.analysis.data.format import count, duration
from bench.analysis.errors import Refusal
from bench.design.plan import Plan, TrialKey
from bench.design.results import Failure
from bench.design.sample_size import Gain, gain_of, unit_of
from bench.execution.base import Options
from bench.execution.devices import Slot
from bench.execution.processes import Processes
from bench.execution.resume import jobs
from bench.execution.server import Server
from bench.programs.study_file import is_study
from bench.terminal import tell

BESIDES_S = 0.04  # that a run takes to fork and to record, whatever the workers (soak.md)
EPOCHS_TIMED = 2  # after the first, which pays for loading and warming up


@dataclass(frozen=True)
class Cost:
    """What is left to train, how long that takes and what it can show."""

    packs: tuple[tuple[int, ...], ...]  # left to train: of each plan its packs' runs
    planned: int  # runs
    epoch_s: float | None  # one epoch of one run; None where runs log no epochs
    run_s: float
    source: str  # where the times come from
    workers: int
    devices: tuple[str, ...]
    gain: Gain
    besides_s: float = 0.0  # on the clock, that every run adds to the time of training

    @property
    def runs(self) -> int:
        """How many runs are left to train."""
        return sum(map(sum, self.packs))

    @property
    def device_s(self) -> float:
        """Time on devices, one run after the other."""
        return self.runs * self.run_s

    @property
    def wall_s(self) -> float:
        """Time on the clock: plan after plan whole rounds of all workers, a pack to each."""
        return self.runs * self.besides_s + sum(
            -(-len(packs) // self.workers) * max(packs) * self.run_s
            for packs in self.packs
            if packs
        )

    @property
    def gpu_hours(self) -> float | None:
        """The same as `device_s` where GPUs train, else None."""
        on_gpus = any(device.startswith(("cuda", "mps")) for device in self.devices)
        return self.device_s / 3600 if on_gpus else None

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values, times in seconds."""
        return {
            "runs_left": self.runs,
            "runs_planned": self.planned,
            "epoch_s": self.epoch_s,
            "run_s": self.run_s,
            "besides_s": self.besides_s,
            "device_s": self.device_s,
            "gpu_hours": self.gpu_hours,
            "wall_s": self.wall_s,
            "source": self.source,
            "workers": self.workers,
            "devices": list(self.devices),
            "detectable": self.gain.value,
            "detectable_sds": self.gain.sds,
        }

    def text(self) -> str:
        """Return the cost for a terminal."""
        hours = self.gpu_hours
        spent = f"{duration(self.device_s)} of training"
        if hours is not None:
            spent = f"{hours:.2g} GPU-hours"
        workers = count(self.workers, "worker")
        lines = [("runs", f"{self.runs} of {self.planned} to train")]
        if self.epoch_s is not None:
            lines.append(("an epoch", f"{_seconds(self.epoch_s)}"))
        tested = ", then its test pass" if self.epoch_s is not None else ""
        lines += [
            ("a run", f"{_seconds(self.run_s)} at most{tested}"),
            ("in all", f"{spent}: about {duration(self.wall_s)} on {workers}"),
            ("gain", self.gain.text()),
            ("from", self.source),
        ]
        return "\n".join(f"  {name:<10}{text}" for name, text in lines)


def _seconds(s: float) -> str:
    return duration(s) if s >= 10 else f"{s:.2g} s"


class Unrehearsed(Refusal):
    """A first trial that fails."""

    code = "dry-run"
    exit_status = 3


class _Enough(Exception):
    """The epochs that were asked for are timed."""


def rehearse(
    plans: Sequence[tuple[Plan, Collection[TrialKey]]],
    server: Server,
    slots: Sequence[Slot],
    options: Options,
    *,
    durations: Sequence[float] = (),
) -> Cost:
    """Return what is left to train and what it costs.

    Parameters
    ----------
    plans : that are trained one after the other, each with its trials that need no training
    durations : seconds that finished runs of these plans took; without any the first trial's
        first epochs are trained here and thrown away
    """
    first = plans[0][0]
    packs = tuple(tuple(len(pack) for pack in plan.packs_left(settled)) for plan, settled in plans)
    if durations:
        epoch_s, run_s = None, statistics.median(durations)
        source = f"the median of {count(len(durations), 'recorded run')}"
    else:
        epoch_s, run_s, source = _timed(first, server, slots[0], options)
    workers = min(len(slots), max(1, *map(len, packs)))
    return Cost(
        packs=packs,
        planned=sum(len(plan.trials()) for plan, _ in plans),
        epoch_s=epoch_s,
        run_s=run_s,
        source=source,
        workers=workers,
        devices=tuple(dict.fromkeys(slot.device for slot in slots)),
        gain=gain_of(len(first.seeds), unit_of(first.metric)),
        besides_s=BESIDES_S + (server.import_s / workers if server.why_fresh else 0.0),
    )


def _timed(
    plan: Plan, server: Server, place: Slot, options: Options
) -> tuple[float | None, float, str]:
    [first, *_] = jobs(plan, server.found, options, ())
    epochs = plan.arms[plan.baseline].get("epochs")
    known = epochs if isinstance(epochs, int) and epochs > 0 else None
    if is_study(server.found.reference):  # to its end: only there it has a result, or has none
        known = None
    seen: dict[int, float] = {}  # epoch to when the last run of the pack had logged it
    together: set[TrialKey] = set()  # runs that have logged: all of a pack, or one after the other

    def deliver(message: dict[str, Any]) -> None:
        if message["type"] == "epoch":
            seen[int(message["row"]["epoch"])] = time.perf_counter()
            together.add(TrialKey.of(message))
        elif message["type"] == "notice":
            tell(message["text"])

    def check() -> None:
        if known is not None and len(seen) > EPOCHS_TIMED + 1:  # the last is whole
            raise _Enough

    what = f"{first.keys[0].title}, on {place.device}; it is not kept"
    with Processes(server, [place], deliver, retries=0) as executor:
        try:
            results = [r for rs in executor.run([first], check=check) for r in rs]
        except _Enough:
            at = [seen[epoch] for epoch in sorted(seen)][:-1]
            gaps = [b - a for a, b in zip(at, at[1:], strict=False)]
            epoch_s = statistics.fmean(gaps) / len(together)
            return epoch_s, epoch_s * (known or 1), f"{count(len(gaps), 'epoch')} timed now: {what}"
    for result in results:
        if isinstance(result, Failure):
            raise Unrehearsed(
                f"{result.key.title}, failed: {result.what}",
                facts=result.facts,
                fix="mend the experiment; nothing was recorded",
            )
    run_s = statistics.fmean(r.duration_s for r in results)
    return (run_s / known if known else None), run_s, f"one run trained now: {what}"
