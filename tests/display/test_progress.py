"""Progress: plain lines for a log, a table for a terminal, and nothing hidden or given away."""

import io
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from bench import cli
from bench.design.description import Discovered
from bench.design.plan import Plan, TrialKey
from bench.design.results import Failure, Success
from bench.display import live as table, progress as shown
from bench.display.choose import progress
from bench.display.live import Live
from bench.display.progress import Plain, Progress
from bench.execution.base import Options
from bench.execution.devices import cpu_slots
from bench.execution.processes import Processes
from bench.execution.resume import jobs
from bench.execution.runner import Look
from bench.experiment import Outcome

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ "


def success(arm: str, seed: int, seconds: float = 764.0, device: str = "cuda:3") -> Success:
    return Success(
        key=TrialKey(arm, seed),
        outcome=Outcome(scores={"x": 1.0}),
        epochs=[],
        duration_s=seconds,
        started_at=0.0,
        device=device,
        threads=1,
        log="",
    )


def failure(arm: str, seed: int) -> Failure:
    return Failure(key=TrialKey(arm, seed), code="memory", what="wanted 2 GiB,\n  free 1 GiB")


def message(arm: str, seed: int, epoch: int, **row: Any) -> dict[str, Any]:
    return {"type": "epoch", "arm": arm, "seed": seed, "row": {"epoch": epoch, **row}}


def start(slot: int, *keys: tuple[str, int], attempt: int = 1) -> dict[str, Any]:
    where = {"slot": slot, "device": f"cuda:{slot}", "attempt": attempt}
    return {"type": "start", "pack": 0, "keys": [list(key) for key in keys], **where}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return what moves the time on."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def later(seconds: float) -> None:
        now[0] += seconds

    return later


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
    assert came.wait(5)
    display.end()
    assert "still training, 40 runs to go" in stream.getvalue()


# -- what is said about the time left and the difference ---------------------------------------


def test_the_time_left_is_unknown_before_the_first_run_and_then_their_median(plan: Plan):
    display = Progress(io.StringIO(), workers=4)
    display.begin(plan, [], 40)
    assert display.seconds_left() is None
    for seed, seconds in enumerate((10.0, 20.0, 300.0)):
        display.result(success("weak", seed, seconds), 0.9)
    assert display.seconds_left() == pytest.approx(20.0 * 10)  # 37 runs: ten rounds of four


def test_what_trains_now_is_nearly_done(plan: Plan, clock: Callable[[float], None]):
    display = Progress(io.StringIO(), workers=2)
    finished = [TrialKey(arm, seed) for arm in ("weak", "strong") for seed in range(18)]
    display.begin(plan, finished, 4)
    display.start(start(1, ("weak", 18)))
    display.start(start(2, ("strong", 18)))
    display.result(success("weak", 18, 100.0), 0.9)
    display.start(start(1, ("weak", 19)))
    clock(90.0)
    # strong 18 ends in 10 s and strong 19 follows it for 100 s; weak 19 has 10 s left
    assert display.seconds_left() == pytest.approx(110.0)


def test_epochs_tell_the_time_left_before_any_run_has_finished(
    plan: Plan, clock: Callable[[float], None]
):
    display = Progress(io.StringIO(), workers=1)
    finished = [TrialKey(arm, seed) for arm in ("weak", "strong") for seed in range(19)]
    display.begin(plan, finished, 2)
    display.start(start(1, ("weak", 19)))
    clock(50.0)  # imports and data are not epochs
    display.epoch(message("weak", 19, 0))
    assert display.seconds_left() is None
    clock(4.0)
    display.epoch(message("weak", 19, 1))
    assert display.seconds_left() == pytest.approx(4.0 + 3 * 4.0)  # its last epoch, and a run
    clock(3.0)
    assert display.seconds_left() == pytest.approx(1.0 + 3 * 4.0)


def test_a_pack_counts_the_epochs_of_all_its_trials(plan: Plan, clock: Callable[[float], None]):
    display = Progress(io.StringIO(), workers=1)
    display.begin(plan, [], 40)
    keys = [(arm, seed) for seed in range(5) for arm in ("weak", "strong")]
    display.start(start(1, *keys))
    for epoch in range(2):
        clock(6.0)
        for arm, seed in keys:
            display.epoch(message(arm, seed, epoch))
    [training] = display.training
    assert (training.last[1], training.epochs) == (20, 30)
    assert training.seconds_left(None) == pytest.approx(6.0)


def test_a_rule_that_has_stopped_waits_for_nothing_more(plan: Plan):
    display = Progress(io.StringIO(), workers=2)
    display.begin(plan, [], 40)
    display.result(success("weak", 0, 10.0), 0.9)
    display.pair(0, {}, Look(0.1, 0.0, 0.2, stop=True))
    display.pair(1, {}, Look(0.1, -0.1, 0.2))  # the runs in flight may blur it again
    assert display.waiting() == [] and display.seconds_left() == 0.0


def test_the_running_interval_waits_until_it_is_safe(plan: Plan):
    display = Progress(io.StringIO(), workers=1)
    display.begin(plan, [], 40)
    assert display.so_far() == "not enough pairs yet"
    display.pair(0, {}, Look(0.0035, None, None))
    assert display.so_far() == "not enough pairs yet"
    display.pair(1, {}, Look(0.0035, 0.0012, 0.0058))
    assert display.so_far() == "+0.35 pp, anytime 95% [+0.12, +0.58]"


def test_of_many_treatments_it_says_whose_interval_it_is(plan: Plan):
    display = Progress(io.StringIO(), workers=1)
    display.begin(replace(plan, arms={**plan.arms, "third": {}}), [], 60)
    display.pair(0, {}, Look(0.0035, 0.0012, 0.0058))
    assert display.so_far() == "strong +0.35 pp, anytime 95% [+0.12, +0.58]"


# -- who trains what ---------------------------------------------------------------------------


def trained(display: Progress) -> list[tuple[int, tuple[TrialKey, ...]]]:
    return [(t.slot, t.keys) for t in display.training]


def test_every_worker_keeps_its_place(plan: Plan):
    display = Progress(io.StringIO(), workers=2)
    display.begin(plan, [], 40)
    display.start(start(1, ("weak", 0), ("strong", 0)))
    display.start(start(2, ("weak", 1), ("strong", 1)))
    display.result(success("weak", 0), 0.9)
    assert trained(display)[0] == (1, (TrialKey("weak", 0), TrialKey("strong", 0)))
    display.result(success("strong", 0), 0.9)
    assert trained(display)[0] == (1, ())
    display.start(start(1, ("weak", 2)))
    assert trained(display)[0] == (1, (TrialKey("weak", 2),))


def test_a_worker_that_died_gives_its_place_to_the_one_after_it(plan: Plan):
    display = Progress(io.StringIO(), workers=2)
    display.begin(plan, [], 40)
    display.start(start(1, ("weak", 0)))
    display.start(start(2, ("strong", 0)))
    display.retry(failure("weak", 0))  # and worker 2 was ended with it, without a word
    display.start(start(3, ("strong", 0), attempt=2))
    display.start(start(4, ("weak", 0), attempt=2))
    assert sorted(slot for slot, keys in trained(display) if keys) == [3, 4]
    assert len(display.training) == 2


def test_what_trainings_say_reaches_their_rows(
    plan: Plan, write_tiny: Any, tmp_path: Any, serve: Any
):
    server = serve(write_tiny(tmp_path))
    small = replace(plan, batches=((0, 1),), source_digest=server.found.source_digest)
    display = Progress(io.StringIO(), workers=2)
    display.begin(small, [], 4)
    heard: list[dict[str, Any]] = []

    def deliver(message: dict[str, Any]) -> None:
        heard.append(message)
        getattr(display, message["type"])(message)

    with Processes(server, cpu_slots(2), deliver) as executor:
        for results in executor.run(jobs(small, server.found, Options(), ())):
            for result in results:
                assert isinstance(result, Success)
                display.result(result, 0.9)
    assert {t.device for t in display.training} == {"cpu"} and not display.busy()
    assert len({t.slot for t in display.training}) == len(display.training) <= 2
    assert sum(m["type"] == "epoch" for m in heard) == 12
    assert display.begun == set(small.trials()) == display.done


def test_a_start_that_is_heard_after_its_results_leaves_the_worker_idle(plan: Plan):
    display = begun(plan)
    finish_pair(display, 12, None)
    display.start(start(0, ("weak", 12), ("strong", 12)))
    assert [t.keys for t in display.training if t.slot == 0] == [()]
    display.end()


# -- a table for a terminal ------------------------------------------------------------------


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def drawn(display: Live, width: int = 80, height: int = 30) -> list[str]:
    stream = Terminal()
    console = Console(file=stream, width=width, height=height, force_terminal=True, no_color=True)
    display._console = console
    console.print(display._draw())
    return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in stream.getvalue().splitlines()]


def begun(plan: Plan, **how: Any) -> Live:
    """Return a display of which twelve pairs were finished before."""
    display = Live(Terminal(), workers=4, **how)
    display.begin(plan, [TrialKey(arm, s) for arm in ("weak", "strong") for s in range(12)], 16)
    return display


@pytest.fixture
def live(plan: Plan) -> Any:
    display = begun(plan)
    yield display
    display.end()


def test_the_table_shows_what_trains_what_is_done_and_what_is_left(live: Live):
    live.start(start(0, ("weak", 12)))
    live.start(start(1, ("strong", 12), attempt=2))
    live.epoch(message("weak", 12, 0, **{"val/accuracy": 0.9481, "train/loss": 0.021}))
    live.epoch(message("strong", 12, 1, **{"val/accuracy": 0.9502}))
    finish_pair(live, 13, Look(0.0035, 0.0012, 0.0058))
    live.result(failure("weak", 14), None)
    text = "\n".join(drawn(live))
    assert re.search(r"cuda:0 +12 +weak +███▍? +1/3 +94\.81% +0\.021 +12m 44s", text)
    assert re.search(r"cuda:1 +12 +strong +\S+ +2/3 +95\.02% +12m 44s +attempt 2", text)
    assert "13 done, 1 running, 5 waiting, 1 failed" in text
    assert "●" * 12 + "◐●×" + "·" * 5 in text
    assert "so far   +0.35 pp, anytime 95% [+0.12, +0.58]   the verdict waits for 20" in text
    assert re.search(r"time     .* gone, .* left \(ends .*\d\d:\d\d\), 0\.4 GPU-hours used", text)
    assert "   safe to look at; the verdict waits for 20" in "\n".join(drawn(live, 100))


def test_a_pack_is_one_row_with_the_means_of_its_trials(live: Live):
    keys = [(arm, seed) for seed in (12, 13, 14) for arm in ("weak", "strong")]
    live.start(start(0, *keys))
    for arm, seed in keys:
        accuracy = 0.9 if arm == "weak" else 0.8
        live.epoch(message(arm, seed, 0, **{"val/accuracy": accuracy, "train/loss": seed / 10}))
    [row] = [line for line in drawn(live) if "cuda:0" in line]
    assert re.search(r"cuda:0 +12–14 +2 arms +███▍? +1/3 +85\.00% +1\.300", row)


def test_rows_stay_where_they_are_between_two_packs(live: Live):
    live.start(start(0, ("weak", 12)))
    live.start(start(1, ("strong", 12)))
    before = drawn(live)
    live.result(success("weak", 12), 0.9)
    between = drawn(live)
    live.start(start(0, ("strong", 13)))
    after = drawn(live)
    assert len(before) == len(between) == len(after)
    assert [line.find("cuda:1") for line in before] == [line.find("cuda:1") for line in after]
    assert before[1].split() == after[1].split() and len(before[1]) == len(after[1])


def test_runs_without_epochs_take_no_columns_for_them(plan: Plan):
    bare = replace(plan, arms={name: {} for name in plan.arms})
    display = begun(bare)
    display.start(start(0, ("weak", 12)))
    display.result(success("strong", 12, 60.0), 0.9)
    heading = next(line for line in drawn(display) if "device" in line)
    assert heading.split() == ["device", "seed", "arm", "left"]
    assert any(re.search(r"cuda:0 +12 +weak +60 s", line) for line in drawn(display))
    display.end()


def test_a_blind_table_shows_no_accuracy_by_arm(plan: Plan):
    display = begun(plan, blind=True)
    display.start(start(0, ("strong", 12)))
    display.epoch(message("strong", 12, 1, **{"val/accuracy": 0.9502}))
    display.pair(0, {}, Look(0.0035, 0.0012, 0.0058))
    text = "\n".join(drawn(display))
    assert "12  strong" in text and "95.02" not in text and "0.35" not in text
    assert "so far   hidden (--blind)" in text
    display.end()


@pytest.mark.parametrize("width", [200, 80, 60, 40])
def test_the_table_stays_within_the_terminal(live: Live, width: int):
    for seed in range(12, 20):
        for i, arm in enumerate(("weak", "strong")):
            row = {"val/accuracy": 1.0, "train/loss": 123456.789, "lr": 0.1}
            live.start(start(2 * seed + i, (arm, seed)))
            live.epoch(message(arm, seed, 99_999, **row))
    finish_pair(live, 13, Look(-123.4567, -999.1234, 999.1234))
    lines = drawn(live, width)
    assert max(map(cell_len, lines)) <= width
    assert len(lines) <= 30


def test_more_workers_than_lines_are_counted(plan: Plan):
    display = Live(Terminal(), workers=40)
    display.begin(plan, [], 40)
    for i in range(40):
        display.start(start(i, (("weak", "strong")[i % 2], i // 2)))
    lines = drawn(display, height=24)
    assert len(lines) <= 24
    assert sum("cuda:" in line for line in lines) + 26 == 40 and "  26 more workers" in lines
    display.end()


@pytest.mark.parametrize(("seeds", "width"), [(20, 80), (60, 80), (60, 200), (1000, 80)])
def test_pairs_are_drawn_where_there_is_room_and_always_counted(
    seeds: int, width: int, plan_of: Callable[..., Plan], tiny: Discovered
):
    display = Live(Terminal(), workers=4)
    display.begin(plan_of(tiny, range(seeds)), [], 0)
    lines = drawn(display, width)
    [counts] = [line for line in lines if f"0 done, 0 running, {seeds} waiting, 0 failed" in line]
    assert any("·" * seeds in line for line in lines) == (seeds < 1000)
    assert ("·" in counts) == (seeds == 20 or width == 200)
    assert max(map(cell_len, lines)) <= width
    display.end()


def test_a_rule_that_may_stop_early_says_so(plan: Plan):
    display = begun(replace(plan, stop="anytime", max_seeds=20))
    finish_pair(display, 12, Look(0.0035, 0.0012, 0.0058))
    before = "\n".join(drawn(display))
    assert "[+0.12, +0.58]   --stop anytime, at most 20" in before
    assert ", at most 50m 56s left" in before and "7 waiting" in before
    finish_pair(display, 13, Look(0.0035, 0.0012, 0.0058, stop=True))
    after = "\n".join(drawn(display))
    assert "--stop anytime, enough" in after and "6 not needed" in after
    assert "at most" not in after
    display.end()


def test_when_the_time_is_up_only_what_trains_is_waited_for(plan: Plan):
    display = begun(plan)
    finish_pair(display, 12, Look(0.0035, 0.0012, 0.0058))
    assert "7 waiting" in "\n".join(drawn(display)) and display.waiting()
    display.late()
    after = "\n".join(drawn(display))
    assert "7 for another time" in after and "waiting, " not in after
    assert not display.waiting()
    display.end()


def test_an_end_on_another_day_says_which(monkeypatch: pytest.MonkeyPatch):
    class Now(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Now":
            return cls(2026, 3, 2, 15, 0)

    monkeypatch.setattr(table, "datetime", Now)
    assert table._ends(42 * 60) == "ends 15:42"
    assert table._ends(10 * 3600) == "ends Tue 03 Mar, 01:00"


def test_a_terminal_without_unicode_gets_letters(live: Live):
    live.start(start(0, ("weak", 12)))
    live.epoch(message("weak", 12, 1))
    finish_pair(live, 13, Look(-0.0035, -0.0058, -0.0012))
    drawn(live)
    live._console = Console(
        file=io.TextIOWrapper(io.BytesIO(), "latin-1"), width=80, force_terminal=True
    )
    live._console.print(live._draw())
    live._console.file.flush()
    text = live._console.file.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    assert "oooooooooooo-o......" in text and "#######" in text and "-0.35 pp" in text


def test_it_may_be_drawn_while_messages_come_in(plan: Plan):
    display, over = begun(plan), threading.Event()

    def talk() -> None:
        for slot in range(2000):
            display.start(start(slot, ("weak", 12 + slot % 8)))
            display.epoch(message("weak", 12 + slot % 8, 0))
        over.set()

    threading.Thread(target=talk).start()
    lines = drawn(display)
    while not over.is_set():
        lines = drawn(display)
    assert sum("cuda:" in line for line in lines) <= 8
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


@pytest.mark.parametrize("name", ["NO_COLOR", None])
def test_no_color_is_respected(plan: Plan, name: str | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    if name is not None:
        monkeypatch.setenv(name, "1")
    stream = Terminal()
    display = Live(stream, workers=1)
    display.begin(plan, [], 40)
    display.result(failure("weak", 7), None)
    display.end()
    colours = re.findall(r"\x1b\[(?:\d+;)*3[0-7]m", stream.getvalue())
    assert bool(colours) == (name is None)


def test_the_option_is_the_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_COLOR", "")
    monkeypatch.setattr(sys, "argv", ["bench", "plan", "-h", "--no-color"])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # main sets its own
    with pytest.raises(SystemExit):
        cli.main()
    assert os.environ["NO_COLOR"] == "1"


# -- which of them ---------------------------------------------------------------------------


def test_the_display_fits_where_stderr_goes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    how: dict[str, Any] = {"workers": 1, "blind": False}
    assert type(progress(quiet=False, stream=Terminal(), **how)) is Live
    assert type(progress(quiet=False, stream=io.StringIO(), **how)) is Plain
    assert type(progress(quiet=True, stream=Terminal(), **how)) is Progress
    monkeypatch.setenv("TERM", "dumb")
    assert type(progress(quiet=False, stream=Terminal(), **how)) is Plain


def test_quiet_writes_nothing(plan: Plan):
    stream = Terminal()
    display = progress(quiet=True, workers=1, blind=False, stream=stream)
    display.begin(plan, [], 40)
    display.start(start(1, ("weak", 0)))
    display.epoch(message("weak", 0, 1))
    finish_pair(display, 0, Look(1, 0, 2))
    display.result(failure("weak", 1), None)
    display.end()
    assert stream.getvalue() == ""
