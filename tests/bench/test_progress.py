"""Progress: plain lines for a log, a table for a terminal, and nothing hidden or given away."""

import io
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from bench import progress as shown
from bench.contract import Outcome
from bench.discover import Discovered
from bench.plan import Plan, TrialKey
from bench.progress import Live, Plain, Progress, progress
from bench.runner import Look
from bench.work import Failure, Success

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ "


def success(arm: str, seed: int, seconds: float = 764.0) -> Success:
    return Success(
        key=TrialKey(arm, seed),
        outcome=Outcome(scores={"x": 1.0}),
        epochs=[],
        duration_s=seconds,
        started_at=0.0,
        device="cuda:3",
        threads=1,
        log="",
    )


def failure(arm: str, seed: int) -> Failure:
    return Failure(key=TrialKey(arm, seed), code="memory", what="wanted 2 GiB,\n  free 1 GiB")


def message(arm: str, seed: int, epoch: int, **row: Any) -> dict[str, Any]:
    return {"type": "epoch", "arm": arm, "seed": seed, "row": {"epoch": epoch, **row}}


@pytest.fixture
def plan(tiny: Discovered, plan_of: Callable[..., Plan]) -> Plan:
    return plan_of(tiny, range(20))


def finish_pair(display: Progress, seed: int, look: Look | None) -> None:
    display.result(success("weak", seed), 0.90)
    display.result(success("strong", seed), 0.9511)
    display.pair(seed, {"weak": 0.90, "strong": 0.9511}, look)


# -- lines for a log -------------------------------------------------------------------------


@pytest.fixture
def log(plan: Plan) -> tuple[Plain, io.StringIO]:
    stream = io.StringIO()
    display = Plain(stream, workers=2)
    display.begin(plan, [], 40)
    return display, stream


def test_a_finished_run_and_a_finished_pair_are_a_line_each(log: tuple[Plain, io.StringIO]):
    display, stream = log
    finish_pair(display, 11, Look(0.0035, 0.0012, 0.0058))
    display.end()
    first, second, third = stream.getvalue().splitlines()
    assert re.fullmatch(
        STAMP + r"run done seed=11 arm=weak acc=90\.00% device=cuda:3 764\.0s", first
    )
    assert "run done seed=11 arm=strong acc=95.11%" in second
    assert re.fullmatch(
        STAMP
        + r"pair done 1/20 diff=\+5\.11pp mean=\+0\.35 anytime95=\[\+0\.12,\+0\.58\] left=\S+",
        third,
    )


def test_lines_hold_no_colour_and_no_carriage_return(log: tuple[Plain, io.StringIO]):
    display, stream = log
    finish_pair(display, 0, Look(0.1, 0.0, 0.2))
    display.result(failure("weak", 1), None)
    display.retry(failure("weak", 2))
    display.end()
    assert not set("\r\x1b") & set(stream.getvalue())


def test_failures_and_retries_are_one_line_each(log: tuple[Plain, io.StringIO]):
    display, stream = log
    display.retry(failure("weak", 2))
    display.result(failure("weak", 2), None)
    display.end()
    lines = stream.getvalue().splitlines()
    what = r"seed=2 arm=weak error\[memory\] wanted 2 GiB, free 1 GiB"
    assert re.fullmatch(STAMP + "run retried " + what, lines[0])
    assert re.fullmatch(STAMP + "run failed " + what, lines[1])


def test_blind_shows_progress_but_no_difference(plan: Plan):
    stream = io.StringIO()
    display = Plain(stream, workers=2, blind=True)
    display.begin(plan, [], 40)
    finish_pair(display, 0, Look(0.0035, 0.0012, 0.0058))
    display.end()
    text = stream.getvalue()
    assert "pair done 1/20" in text
    assert "run done seed=0 arm=strong device=cuda:3" in text
    for given_away in ("diff", "mean", "0.35", "5.11", "90.00"):
        assert given_away not in text
    assert display.so_far() == "hidden (--blind)"


def test_pairs_of_earlier_sessions_count(plan: Plan):
    stream = io.StringIO()
    display = Plain(stream, workers=2)
    display.begin(plan, [TrialKey(arm, s) for arm in ("weak", "strong") for s in range(12)], 16)
    finish_pair(display, 12, None)
    display.end()
    assert "pair done 13/20" in stream.getvalue()


def test_a_long_silence_is_broken_by_a_heartbeat(plan: Plan, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shown, "HEARTBEAT_S", 0.05)
    stream, came = io.StringIO(), threading.Event()
    display = Plain(stream, workers=2)
    monkeypatch.setattr(display, "_line", lambda text: (stream.write(text), came.set()))
    display.begin(plan, [], 40)
    display.epoch(message("weak", 0, 1))
    assert came.wait(5)
    display.end()
    assert "still training" in stream.getvalue() and "40 to go" in stream.getvalue()


# -- what is said about the time left and the difference ---------------------------------------


def test_the_time_left_is_unknown_before_the_first_run_and_then_their_median(plan: Plan):
    display = Progress(io.StringIO(), workers=4)
    display.begin(plan, [], 40)
    assert display.seconds_left() is None
    for seed, seconds in enumerate((10.0, 20.0, 300.0)):
        display.result(success("weak", seed, seconds), 0.9)
    assert display.seconds_left() == pytest.approx(20.0 * 37 / 4)


def test_the_running_interval_waits_until_it_is_safe(plan: Plan):
    display = Progress(io.StringIO(), workers=1)
    display.begin(plan, [], 40)
    assert display.so_far() == "not enough pairs yet"
    display.pair(0, {}, Look(0.0035, None, None))
    assert display.so_far() == "not enough pairs yet"
    display.pair(1, {}, Look(0.0035, 0.0012, 0.0058))
    assert display.so_far() == "+0.35 pp, anytime 95% [+0.12, +0.58]   safe to look at"


# -- a table for a terminal ------------------------------------------------------------------


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def drawn(display: Live, width: int) -> list[str]:
    stream = Terminal()
    console = Console(file=stream, width=width, height=30, force_terminal=True, no_color=True)
    display._console = console
    console.print(display._draw())
    return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def live(plan: Plan) -> Any:
    display = Live(Terminal(), workers=4)
    display.begin(plan, [TrialKey(arm, s) for arm in ("weak", "strong") for s in range(12)], 16)
    yield display
    display.end()


def test_the_table_shows_what_trains_what_is_done_and_what_is_left(live: Live):
    live.epoch(message("weak", 12, 0, **{"val/accuracy": 0.9481, "train/loss": 0.021}))
    live.epoch(message("strong", 12, 1, **{"val/accuracy": 0.9502}))
    finish_pair(live, 13, Look(0.0035, 0.0012, 0.0058))
    live.result(failure("weak", 14), None)
    text = "\n".join(drawn(live, 80))
    assert re.search(r"12 +weak +███▍? +1/3 +94\.81% +0\.021", text)
    assert re.search(r"12 +strong +\S+ +2/3 +95\.02%", text)
    assert "13 done, 1 running, 5 waiting, 1 failed" in text
    assert "●" * 12 + "◐●×" + "·" * 5 in text
    assert "so far   +0.35 pp, anytime 95% [+0.12, +0.58]   safe to look at" in text
    assert re.search(r"time     .* gone, .* left \(ends \d\d:\d\d\)", text)


def test_a_blind_table_shows_no_accuracy_by_arm(plan: Plan):
    display = Live(Terminal(), workers=4, blind=True)
    display.begin(plan, [], 0)
    display.epoch(message("strong", 12, 1, **{"val/accuracy": 0.9502}))
    display.pair(0, {}, Look(0.0035, 0.0012, 0.0058))
    text = "\n".join(drawn(display, 80))
    assert "12  strong" in text and "95.02" not in text and "0.35" not in text
    assert "so far   hidden (--blind)" in text
    display.end()


@pytest.mark.parametrize("width", [80, 60, 40])
def test_the_table_stays_within_the_terminal(live: Live, width: int):
    for seed in range(12, 20):
        for arm in ("weak", "strong"):
            row = {"val/accuracy": 1.0, "train/loss": 123456.789, "lr": 0.1}
            live.epoch(message(arm, seed, 99_999, **row))
    finish_pair(live, 13, Look(-123.4567, -999.1234, 999.1234))
    lines = drawn(live, width)
    assert max(map(cell_len, lines)) <= width
    assert len(lines) <= 30


def test_many_seeds_are_counted_and_not_drawn(plan_of: Callable[..., Plan], tiny: Discovered):
    display = Live(Terminal(), workers=4)
    display.begin(plan_of(tiny, range(1000)), [], 0)
    lines = drawn(display, 80)
    assert any("0 done, 0 running, 1000 waiting, 0 failed" in line for line in lines)
    assert max(map(cell_len, lines)) <= 80
    display.end()


def test_a_failure_stays_above_the_table(plan: Plan):
    stream = Terminal()
    display = Live(stream, workers=1)
    display.begin(plan, [], 40)
    display.result(failure("weak", 7), None)
    display.retry(failure("strong", 8))
    display.end()
    assert "seed 07, weak, failed: wanted 2 GiB, free 1 GiB" in stream.getvalue()
    assert "seed 08, strong, is tried again: wanted 2 GiB" in stream.getvalue()


def test_a_name_with_brackets_is_no_markup(plan: Plan):
    stream = Terminal()
    display = Live(stream, workers=1)
    display.begin(plan, [], 40)
    display.result(Failure(key=TrialKey("[red]a", 1), code="x", what="[/bold] [link=x]y"), None)
    display.end()
    assert "[red]a, failed: [/bold] [link=x]y" in stream.getvalue()


# -- which of them ---------------------------------------------------------------------------


def test_the_display_fits_where_stderr_goes():
    how: dict[str, Any] = {"workers": 1, "blind": False}
    assert type(progress(quiet=False, stream=Terminal(), **how)) is Live
    assert type(progress(quiet=False, stream=io.StringIO(), **how)) is Plain
    assert type(progress(quiet=True, stream=Terminal(), **how)) is Progress


def test_quiet_writes_nothing(plan: Plan):
    stream = Terminal()
    display = progress(quiet=True, workers=1, blind=False, stream=stream)
    display.begin(plan, [], 40)
    display.epoch(message("weak", 0, 1))
    finish_pair(display, 0, Look(1, 0, 2))
    display.result(failure("weak", 1), None)
    display.end()
    assert stream.getvalue() == ""
