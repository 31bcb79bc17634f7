"""Progress: what a person sees while it runs; all of it on stderr."""

import statistics
import sys
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO

from analysis.format import Unit, duration, interval, number, suffix, value
from analysis.metrics import METRICS
from bench.plan import Plan, TrialKey
from bench.runner import Look
from bench.work import Failure, Result

EIGHTHS = " ▏▎▍▌▋▊▉█"
HEARTBEAT_S = 300.0


@dataclass
class _Training:
    """One run in training, as its last message described it."""

    key: TrialKey
    epoch: int
    row: Mapping[str, Any]
    since: float


class Progress:
    """Counts what the runner tells; the subclasses show it.

    Parameters
    ----------
    stream : where to write
    workers : how many trials train at once
    blind : hide the running difference until all pairs are done
    """

    def __init__(self, stream: TextIO = sys.stderr, *, workers: int, blind: bool = False) -> None:
        self.stream, self.workers, self.blind = stream, max(1, workers), blind
        self.lock = threading.Lock()
        self.training: dict[TrialKey, _Training] = {}
        self.durations: list[float] = []
        self.done: set[TrialKey] = set()
        self.failed: set[TrialKey] = set()
        self.last_look: Look | None = None
        self.started = time.monotonic()

    def begin(self, plan: Plan, finished: Collection[TrialKey], left: int) -> None:
        """Training is about to start."""
        self.plan, self.left = plan, left
        self.done |= set(finished)
        self.started = time.monotonic()
        known = METRICS.get(plan.metric)
        self.unit: Unit = known.unit if known else "score"

    def epoch(self, message: Mapping[str, Any]) -> None:
        """A worker has logged an epoch; called from another thread."""
        key = TrialKey(message["arm"], message["seed"])
        with self.lock:
            since = self.training[key].since if key in self.training else time.monotonic()
            row = message["row"]
            self.training[key] = _Training(key, int(row["epoch"]), row, since)

    def result(self, result: Result, value: float | None) -> None:
        """A trial is over."""
        with self.lock:
            self.training.pop(result.key, None)
            self.left = max(0, self.left - 1)
            if isinstance(result, Failure):
                self.failed.add(result.key)
            else:
                self.done.add(result.key)
                self.durations.append(result.duration_s)

    def pair(self, seed: int, values: Mapping[str, float], look: Look | None) -> None:
        """All arms of a seed are finished."""
        self.last_look = look

    def retry(self, failure: Failure) -> None:
        """A trial is tried again."""

    def notice(self, text: str) -> None:
        """Something that the person who waits should know."""

    def end(self) -> None:
        """Nothing more will happen."""

    def pairs_done(self) -> int:
        """Count the seeds that are finished in every arm."""
        return sum(
            all(TrialKey(arm, seed) in self.done for arm in self.plan.arms)
            for seed in self.plan.seeds
        )

    def seconds_left(self) -> float | None:
        """Return the time left, from the median of finished runs; None before the first."""
        if not self.durations:
            return None
        return statistics.median(self.durations) * self.left / self.workers

    def so_far(self) -> str:
        """Return the running anytime-valid interval: the only thing that is safe to look at."""
        if self.blind:
            return "hidden (--blind)"
        look = self.last_look
        if look is None or look.low is None or look.high is None:
            return "not enough pairs yet"
        limits = interval(look.low, look.high, self.unit)
        mean = number(look.mean, self.unit) + suffix(self.unit)
        return f"{mean}, anytime 95% {limits}   safe to look at"


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
                self._line(f"still training {len(self.training)} runs, {self.left} to go")

    def _line(self, text: str) -> None:
        self._last = time.monotonic()
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        print(f"{stamp} {text}", file=self.stream, flush=True)

    def result(self, result: Result, value: float | None) -> None:
        """A trial is over."""
        super().result(result, value)
        where = f"seed={result.key.seed} arm={result.key.arm}"
        if isinstance(result, Failure):
            self._line(f"run failed {where} error[{result.code}] {_one_line(result.what)}")
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
        where = f"seed={failure.key.seed} arm={failure.key.arm}"
        self._line(f"run retried {where} error[{failure.code}] {_one_line(failure.what)}")

    def notice(self, text: str) -> None:
        """Something that the person who waits should know."""
        self._line(text)

    def end(self) -> None:
        """Nothing more will happen."""
        self._closed.set()


class Live(Progress):
    """A table that is redrawn twice a second, for a terminal."""

    def begin(self, plan: Plan, finished: Collection[TrialKey], left: int) -> None:
        """Training is about to start."""
        from rich.console import Console
        from rich.live import Live as RichLive

        super().begin(plan, finished, left)
        self._console = Console(file=self.stream, highlight=False)
        self._live = RichLive(
            get_renderable=self._draw,
            console=self._console,
            refresh_per_second=2,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        if left:
            self._live.start()

    def result(self, result: Result, value: float | None) -> None:
        """A trial is over."""
        super().result(result, value)
        if isinstance(result, Failure):
            self._failure(result, "failed")

    def retry(self, failure: Failure) -> None:
        """A trial is tried again."""
        self._failure(failure, "is tried again")

    def _failure(self, failure: Failure, what: str) -> None:
        whose = f"seed {failure.key.seed:02d}, {failure.key.arm}"
        self.notice(f"{whose}, {what}: {_one_line(failure.what)}")

    def notice(self, text: str) -> None:
        """Something that the person who waits should know: it stays above the table."""
        from rich.text import Text

        self._console.print(Text(text, style="yellow"))

    def end(self) -> None:
        """Nothing more will happen."""
        self._live.stop()

    def _draw(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        return Group(
            Text(""),
            self._table(),
            Text(""),
            *(Text(line, no_wrap=True, overflow="ellipsis") for line in self._lines()),
        )

    def _table(self) -> Any:
        from rich.table import Table

        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        for name, side in _COLUMNS:
            table.add_column(name, justify=side, no_wrap=True)
        with self.lock:
            running = sorted(self.training.values(), key=lambda t: (t.key.seed, t.key.arm))
        for t in running[: max(1, self._console.height - 8)]:
            table.add_row(*self._row(t))
        return table

    def _row(self, t: _Training) -> tuple[str, ...]:
        total = self.plan.arms[t.key.arm].get("epochs")
        done = t.epoch + 1
        bar, count, left = "", str(done), ""
        if isinstance(total, int) and total >= done:
            bar, count = _bar(done / total), f"{done}/{total}"
            left = duration((time.monotonic() - t.since) / max(done - 1, 1) * (total - done))
        accuracy = None if self.blind else t.row.get("val/accuracy")
        loss = t.row.get("train/loss", t.row.get("loss"))
        return (
            f"  {t.key.seed:>4}",
            t.key.arm[:18],
            bar,
            count,
            "" if accuracy is None else value(float(accuracy), "fraction"),
            "" if loss is None else f"{float(loss):.3f}",
            left,
        )

    def _lines(self) -> list[str]:
        seeds, arms = self.plan.seeds, list(self.plan.arms)
        running = {key.seed for key in self.training}
        marks = []
        for seed in seeds:
            keys = [TrialKey(arm, seed) for arm in arms]
            if any(key in self.failed for key in keys):
                marks.append("×")
            elif all(key in self.done for key in keys):
                marks.append("●")
            else:
                marks.append("◐" if seed in running else "·")
        dots = "".join(marks) if len(marks) <= 48 else ""
        waiting = marks.count("·")
        counts = (
            f"{marks.count('●')} done, {marks.count('◐')} running, {waiting} waiting, "
            f"{marks.count('×')} failed"
        )
        gone, left = time.monotonic() - self.started, self.seconds_left()
        clock = f"{duration(gone)} gone"
        if left is not None:
            ends = datetime.now() + timedelta(seconds=left)
            clock += f", {duration(left)} left (ends {ends:%H:%M})"
        return [
            f"  pairs    {dots}{'   ' if dots else ''}{counts}",
            f"  so far   {self.so_far()}; the verdict waits for {len(seeds)}",
            f"  time     {clock}",
        ]


_COLUMNS: tuple[tuple[str, Any], ...] = (
    ("  seed", "left"),
    ("arm", "left"),
    ("epoch", "left"),
    ("", "right"),
    ("val acc", "right"),
    ("loss", "right"),
    ("left", "right"),
)


def _bar(share: float, width: int = 10) -> str:
    whole, part = divmod(round(share * width * 8), 8)
    return ("█" * whole + (EIGHTHS[part] if part else "")).ljust(width)


def _metric_value(metric: str, x: float | None, unit: Unit) -> str:
    if x is None:
        return ""
    name = "acc" if metric == "accuracy" else metric
    return f" {name}={value(x, unit)}"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]


def progress(*, quiet: bool, workers: int, blind: bool, stream: TextIO | None = None) -> Progress:
    """Return the display that fits where stderr goes."""
    stream = stream or sys.stderr
    kind = Progress if quiet else Live if stream.isatty() else Plain
    return kind(stream, workers=workers, blind=blind)
