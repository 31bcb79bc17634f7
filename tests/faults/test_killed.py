"""Killed: whatever dies and whenever, no finished run is lost or doubled, and nobody trains on."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and looks at /proc")

NAP = 0.12  # of one training: a run of twelve takes a second, its start another
SPAN = 3.0  # the moments lie in the first so many seconds of a command


def end_well(bench: Any, commands: list[Any], undisturbed: Any, fault: Any, name: str) -> None:
    """Let the same command complete, and compare with what nothing happened to."""
    last = bench.run(NAP=NAP)
    assert last.status == 0, last.err
    commands.append(last)
    finished, told = bench.finished(), bench.told(commands)
    lost = [run for run in told if run not in finished]
    doubled = [run for run, n in (finished | told).items() if n > 1]
    fault.lost(name, len(lost) + len(doubled))
    assert sorted(finished.values()) == [1] * 12
    assert bench.numbers() == undisturbed


@pytest.mark.parametrize(
    ("name", "short", "long"),
    [
        ("kill -9 of the parent", 20, 100),
        ("kill -9 of the process group", 3, 20),
        ("SIGTERM", 3, 20),
        ("Ctrl-C once", 3, 20),
        ("Ctrl-C twice", 3, 20),
    ],
)
def test_a_command_that_is_stopped_at_any_moment_loses_nothing(
    name: str,
    short: int,
    long: int,
    on: Callable[..., Any],
    undisturbed: Any,
    chance: random.Random,
    fault: Any,
    times: Callable[[int, int], int],
):
    left, round_ = times(short, long), 0
    while left:
        bench, commands = on(f"store-{round_}"), []
        while left and (not commands or bench.trained() < 12):
            left -= 1
            with fault(name):
                command = bench.start("--no-report", NAP=NAP)
                commands.append(command)
                time.sleep(SPAN * chance.random())
                stop(name, command)
                command.wait(30)
                command.leaves_nobody_behind()
                assert "Traceback" not in command.err
                assert command.status in STATUSES[name], command.err
                if command.status in (130, 143) or is_between(command):
                    assert ": everything that had finished is recorded.\n" in command.err
                    assert f"  resume: bench run {bench.experiment} " in command.err
        end_well(bench, commands, undisturbed, fault, name)
        round_ += 1


STATUSES = {  # 0 is one that had ended before; -15 and -2 while Python itself started or ended
    "kill -9 of the parent": (0, -9),
    "kill -9 of the process group": (0, -9),
    "SIGTERM": (0, 143, -15),
    "Ctrl-C once": (0, 130, -2),
    "Ctrl-C twice": (0, 130, -2),
}


def is_between(command: Any) -> bool:
    """Whether a signal ended it after its first run and before its last: then it has to say so."""
    return (
        command.status in (-signal.SIGTERM, -signal.SIGINT)
        and "run done" in command.err
        and "pair done 6/6" not in command.err
    )


def stop(name: str, command: Any) -> None:
    if name == "kill -9 of the process group":
        command.kill_group()
    elif name == "kill -9 of the parent":
        command.kill(signal.SIGKILL)
    elif name == "SIGTERM":
        command.kill(signal.SIGTERM)
    else:
        command.kill(signal.SIGINT)
        if name == "Ctrl-C twice":
            time.sleep(0.05)
            command.kill(signal.SIGINT)


def test_a_store_that_was_being_made_is_made_again(
    on: Callable[..., Any],
    undisturbed: Any,
    chance: random.Random,
    fault: Any,
    times: Callable[[int, int], int],
):
    """Half of MLflow's tables would make a database that nobody could ever open again."""
    bench, commands = on(), []
    for _ in range(times(3, 10)):
        (bench.folder / "mlflow.db").unlink(missing_ok=True)
        with fault("kill -9 while the store is made"):
            command = bench.start("--no-report", NAP=NAP)
            commands.append(command)
            time.sleep(SPAN / 2 * chance.random())
            command.kill_group()
            command.wait(30)
    (bench.folder / "trained.txt").unlink(missing_ok=True)
    last = bench.run(NAP=NAP)
    assert last.status == 0, last.err
    assert bench.numbers() == undisturbed


def test_a_worker_that_is_killed_is_replaced_and_its_trial_trained_again(
    on: Callable[..., Any],
    undisturbed: Any,
    chance: random.Random,
    fault: Any,
    times: Callable[[int, int], int],
):
    for round_ in range(times(2, 10)):
        bench = on(f"store-{round_}")
        with fault("kill -9 of a worker"):
            command = bench.start("--retries", 9, NAP=0.2)
            command.until("run done")
            time.sleep(0.3 * chance.random())
            workers = [pid for pid in command.family() if is_worker(pid)]
            assert workers
            os.kill(chance.choice(workers), signal.SIGKILL)
            assert command.wait() == 0, command.err
            command.leaves_nobody_behind()
        end_well(bench, [command], undisturbed, fault, "kill -9 of a worker")


def is_worker(pid: int) -> bool:
    try:
        return "popen_loky_posix" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False
