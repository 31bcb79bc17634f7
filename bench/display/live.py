"""Live: what trains now, what is done and what is left, on a terminal; redrawn twice a second."""

import statistics
import time
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console, Group
from rich.live import Live as RichLive
from rich.table import Table
from rich.text import Text

from bench.analysis.data.format import count, duration, value
from bench.design.plan import Plan, TrialKey
from bench.design.results import Failure, Result
from bench.display.progress import Progress, Training, one_line
from bench.terminal import label, printable, wrapped

EIGHTHS = " ▏▎▍▌▋▊▉█"
INDENT = 11  # of what follows "  pairs    "
BESIDES = 9  # lines that are not a worker's
COLUMNS: dict[str, tuple[str, Any, int]] = {  # heading, side, width of what it often holds
    "device": ("  device", "left", 8),
    "seed": ("seed", "right", 5),
    "arm": ("arm", "left", 3),
    "bar": ("epoch", "left", 10),
    "epoch": ("", "right", 5),
    "accuracy": ("val acc", "right", 7),
    "loss": ("loss", "right", 5),
    "left": ("left", "right", 7),
    "attempt": ("", "left", 0),
}
LONGEST_ARM = 18
OF_EPOCHS = ("bar", "epoch", "accuracy", "loss")
PLAIN = str.maketrans({"●": "o", "◐": "-", "×": "x", "·": ".", "–": "-", "−": "-", "…": "."})
PLAIN |= {ord(part): "#" for part in EIGHTHS.strip()}


class Live(Progress):
    """A table with a row a worker, and below it pairs, the running interval and the time."""

    def begin(self, plan: Plan, finished: Collection[TrialKey], left: int) -> None:
        """Training is about to start."""
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
        super().retry(failure)
        self._failure(failure, "is tried again")

    def _failure(self, failure: Failure, what: str) -> None:
        self.notice(f"{failure.key.title}, {what}: {one_line(failure.what)}")

    def notice(self, text: str) -> None:
        """Something that the person who waits should know: it stays above the table."""
        text = wrapped(self._shown(text), self._console.width)
        self._console.print(Text(text, style="yellow"), soft_wrap=True)

    def end(self) -> None:
        """Nothing more will happen."""
        self._live.stop()

    def _shown(self, text: str) -> str:
        """Return a text as this terminal can show it."""
        text = printable(text)
        return text if self._console.encoding.startswith("utf") else text.translate(PLAIN)

    def _draw(self) -> Any:
        with self.lock:
            lines = [
                Text(self._shown(line), no_wrap=True, overflow="ellipsis") for line in self._lines()
            ]
            return Group(Text(""), *self._table(), *lines)

    def _table(self) -> list[Any]:
        """Return the table of the workers and the line below it."""
        if not self.training:
            return []
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        room = max(1, self._console.height - BESIDES)
        shown = self.training[: room if len(self.training) <= room else room - 1]
        logs = any(t.epochs or t.rows for t in self.training)
        columns = [name for name in COLUMNS if logs or name not in OF_EPOCHS]
        for name in columns:
            heading, side, least = COLUMNS[name]
            if name == "arm":  # as wide for the next one
                least = max(len(_arms(pack)) for pack in self.packs)
            table.add_column(heading, justify=side, no_wrap=True, min_width=least)
        for training in shown:
            cells = self._cells(training) if training.keys else {}
            cells["device"] = f"  {training.device}"
            table.add_row(*(self._shown(cells.get(name, "")) for name in columns))
        more = len(self.training) - len(shown)
        return [table, Text(f"  {count(more, 'more worker')}\n" if more else "")]

    def _cells(self, t: Training) -> dict[str, str]:
        """Return what a worker's row says, by column."""
        done, n = t.last[1], len(t.keys)
        accuracy = None if self.blind else _mean(t, "val/accuracy")
        loss, left = _mean(t, "train/loss", "loss"), t.seconds_left(self.run_s())
        width = min(30, max(10, self._console.width - 70))
        return {
            "seed": _seeds(t.keys),
            "arm": _arms(t.keys),
            "bar": _bar(done / t.epochs, width=width) if t.epochs else "",
            "epoch": f"{done // n}/{t.epochs // n}" if t.epochs else f"{done // n}",
            "accuracy": "" if accuracy is None else value(accuracy, "fraction"),
            "loss": "" if loss is None else f"{loss:.3f}",
            "left": "" if left is None else duration(left),
            "attempt": f"attempt {t.attempt}" if t.attempt > 1 else "",
        }

    def _lines(self) -> list[str]:
        width = self._console.width - INDENT
        gone, left = time.monotonic() - self.started, self.seconds_left()
        clock = f"{duration(gone)} gone"
        if left is not None:
            clock += (
                f", {'' if self._certain() else 'at most '}{duration(left)} left ({_ends(left)})"
            )
        if self.device_s:
            clock += f", {self.device_s / 3600:.1f} GPU-hours used"
        names = ("pairs", "", "so far", "time")
        texts = (*self._pairs(width), self._so_far(width), clock)
        return [f"  {name:<9}{text}" for name, text in zip(names, texts, strict=True) if text]

    def _certain(self) -> bool:
        """Tell whether all that waits will be trained."""
        return self.plan.stop == "fixed" or self.enough or self.time_is_up

    def _pairs(self, width: int) -> tuple[str, str]:
        """Return a mark for each pair and their counts: on one line, on two, or counts alone."""
        running = {key.seed for key in self.begun}
        marks = "".join(self._mark(seed, running) for seed in self.plan.seeds)
        unstarted = "waiting"
        if self.enough or self.time_is_up:
            unstarted = "not needed" if self.enough else "for another time"
        words = {"●": "done", "◐": "running", "·": unstarted, "×": "failed"}
        counts = ", ".join(f"{marks.count(mark)} {word}" for mark, word in words.items())
        if len(marks) + 3 + len(counts) <= width:
            return f"{marks}   {counts}", ""
        return counts, marks if len(marks) <= width else ""

    def _mark(self, seed: int, running: Collection[int]) -> str:
        keys = self.plan.of_seed(seed)
        if any(key in self.failed for key in keys):
            return "×"
        if all(key in self.done for key in keys):
            return "●"
        return "◐" if seed in running else "·"

    def _so_far(self, width: int) -> str:
        """Return the running interval and as much of what it means as there is room for."""
        n, found = len(self.plan.seeds), self.so_far()
        waits = f"the verdict waits for {n}"
        if self.plan.stop != "fixed":
            waits = f"--stop {self.plan.stop}, {'enough' if self.enough else f'at most {n}'}"
        safe = "safe to look at; " if found.endswith("]") else ""
        longer = (f"{found}   {safe}{waits}", f"{found}   {waits}")
        return next((text for text in longer if len(text) <= width), found)


def _bar(share: float, *, width: int) -> str:
    whole, part = divmod(round(min(1.0, share) * width * 8), 8)
    return ("█" * whole + (EIGHTHS[part] if part else "")).ljust(width)


def _seeds(pack: Sequence[TrialKey]) -> str:
    seeds = [key.seed for key in pack]
    low, high = min(seeds), max(seeds)
    return str(low) if low == high else f"{low}–{high}"


def _arms(pack: Sequence[TrialKey]) -> str:
    arms = {key.arm for key in pack}
    name = min(arms) if len(arms) == 1 else f"{len(arms)} arms"
    where = pack[0].dataset  # one for all
    return label(f"{name}, {where}" if where else name, LONGEST_ARM)


def _mean(t: Training, *names: str) -> float | None:
    """Return a metric's mean over the trials of a pack, each at its last epoch."""
    found = [next((row[name] for name in names if name in row), None) for row in t.rows.values()]
    known = [float(x) for x in found if x is not None]
    return statistics.fmean(known) if known else None


def _ends(left: float) -> str:
    """Say when it ends: the clock, with the day where that is another one."""
    now = datetime.now()
    then = now + timedelta(seconds=left)
    return f"ends {then:%H:%M}" if then.date() == now.date() else f"ends {then:%a %d %b, %H:%M}"
