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
START = 1.5  # seconds, about, from a command's start to its first finished run
SLACK = 4  # runs that may finish between the decision to hit and the hit


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
    fault.right(name, bench.numbers(), undisturbed)


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("name", "short", "long"),
    [
        ("kill -9 of the parent", 20, 100),
        ("kill -9 of the process group", 2, 20),
        ("SIGTERM", 2, 20),
        ("Ctrl-C once", 2, 20),
        ("Ctrl-C twice", 2, 20),
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
    wanted, hits, midway = times(short, long), 0, 0
    for round_ in range(wanted):
        bench, commands = on(f"store-{round_}"), []
        while hits < wanted and (left := 12 - bench.told(commands).total()) > SLACK:
            command = bench.start("--no-report", NAP=NAP)
            commands.append(command)
            wait_for_moment(command, left, chance, edge=hits % 4 == 2)
            done = command.runs_done()
            if stop(name, command):
                hits, midway = hits + 1, midway + (0 < done < left)
                with fault(name):
                    ended_as_told(name, command, bench, 0 < done < left)
                    if name == "Ctrl-C once":  # what was in training was finished and recorded
                        assert bench.trained() == bench.told(commands).total()
            command.wait(30)
        end_well(bench, commands, undisturbed, fault, name)
        if hits == wanted:
            break
    assert hits == wanted and 2 * midway >= hits, f"{midway} of {hits} hits fell into the training"


def wait_for_moment(command: Any, left: int, chance: random.Random, *, edge: bool) -> None:
    """Wait until some of the runs that are left are done, and part of the time of another.

    An edge lies before the first of them is done, or about the end of the last.
    """
    early = chance.randint(1, (left - SLACK) // 2 + 1)  # so that one store takes several hits
    wanted = chance.choice((0, left - 1, left)) if edge else early
    while command.runs_done() < wanted and not command.done.is_set():
        time.sleep(0.005)
    time.sleep(chance.random() * (NAP if wanted else START))


def ended_as_told(name: str, command: Any, bench: Any, midway: bool) -> None:
    """See that a command which was hit leaves nobody behind, and says what has to be said."""
    command.wait(30)
    command.leaves_nobody_behind()
    assert "Traceback" not in command.err
    complete = name in SIGNALS and "pair done 6/6" in command.err
    assert command.status in STATUSES[name] or (complete and command.status == 0), command.err
    if command.status in (130, 143) or (name in SIGNALS and midway and not complete):
        assert ": everything that had finished is recorded.\n" in command.err
        assert f"  resume: bench run {bench.experiment} " in command.err


SIGNALS = ("SIGTERM", "Ctrl-C once", "Ctrl-C twice")
STATUSES = {  # -15 and -2 while Python itself starts or ends
    "kill -9 of the parent": (-signal.SIGKILL,),
    "kill -9 of the process group": (-signal.SIGKILL,),
    "SIGTERM": (143, -signal.SIGTERM),
    "Ctrl-C once": (130, -signal.SIGINT),
    "Ctrl-C twice": (130, -signal.SIGINT),
}


def stop(name: str, command: Any) -> bool:
    """Hit a command; tell whether it lived to be hit."""
    if name == "kill -9 of the process group":
        return bool(command.kill_group())
    if name == "kill -9 of the parent":
        return bool(command.kill(signal.SIGKILL))
    if name == "SIGTERM":
        return bool(command.kill(signal.SIGTERM))
    alive = command.kill(signal.SIGINT)
    if name == "Ctrl-C twice":
        time.sleep(0.05)
        command.kill(signal.SIGINT)
    return bool(alive)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "short", "long"),
    [("kill -9 of the parent", 2, 20), ("SIGTERM", 1, 10), ("Ctrl-C once", 1, 10)],
)
def test_a_command_that_is_stopped_while_it_reports_is_completed_by_the_same_command(
    name: str,
    short: int,
    long: int,
    on: Callable[..., Any],
    undisturbed: Any,
    chance: random.Random,
    fault: Any,
    times: Callable[[int, int], int],
):
    """From the last finished pair to the end: the last writing, the analysis, the files, MLflow."""
    wanted, hits = times(short, long), 0
    for round_ in range(3 * wanted):
        bench = on(f"store-{round_}")
        command = bench.start()
        command.until("pair done 6/6")
        time.sleep(REPORT * chance.random())
        if stop(name, command):
            hits += 1
            with fault(f"{name}, at the report"):
                ended_as_told(name, command, bench, False)
                assert all(map(is_whole, bench.report.glob("[!.]*")))
                end_well(bench, [command], undisturbed, fault, f"{name}, at the report")
                assert {path.name for path in bench.report.glob("[!.]*")} == FILES
                assert all(map(is_whole, bench.report.glob("[!.]*")))
                (published,) = bench.folder.glob("artifacts/*/*/artifacts/results.json")
                assert published.read_bytes() == (bench.report / "results.json").read_bytes()
        command.wait(30)
        if hits == wanted:
            break
    assert hits == wanted


REPORT = 2.0  # seconds, about, from the last finished pair to the end of a command
FILES = {"report.html", "results.json"}


def is_whole(path: Path) -> bool:
    text = path.read_text("utf-8").rstrip()
    return text.endswith("</html>" if path.suffix == ".html" else "}") and len(text) > 1000


@pytest.mark.thorough
def test_a_store_that_was_being_made_is_made_again(
    on: Callable[..., Any],
    undisturbed: Any,
    chance: random.Random,
    fault: Any,
    times: Callable[[int, int], int],
):
    """Half of MLflow's tables would make a database that nobody could ever open again."""
    bench, commands, name = on(), [], "kill -9 while the store is made"
    for _ in range(times(3, 10)):
        (bench.folder / "mlflow.db").unlink(missing_ok=True)
        with fault(name):
            command = bench.start("--no-report", NAP=NAP)
            commands.append(command)
            time.sleep(START * chance.random())
            while not command.kill_group():  # it is being forked still
                assert not command.done.is_set()
            command.wait(30)
            assert command.status == -signal.SIGKILL
    (bench.folder / "trained.txt").unlink(missing_ok=True)
    last = bench.run(NAP=NAP)
    assert last.status == 0, last.err
    fault.right(name, bench.numbers(), undisturbed)


@pytest.mark.sample(1)
@pytest.mark.parametrize("victim", ["training", "guard"])
def test_a_training_that_is_killed_is_trained_again(
    victim: str,
    on: Callable[..., Any],
    undisturbed: Any,
    chance: random.Random,
    fault: Any,
    times: Callable[[int, int], int],
):
    for round_ in range(times(2, 10)):
        bench = on(f"store-{round_}")
        with fault(f"kill -9 of a {victim}"):
            command = bench.start("--retries", 9, NAP=0.4)
            command.until("run done")
            time.sleep(0.3 * chance.random())
            while "run retried" not in command.err:  # one that was just ending is not missed
                os.kill(chance.choice(below_the_server(command, victim)), signal.SIGKILL)
                time.sleep(0.5)
            assert command.wait() == 0, command.err
            command.leaves_nobody_behind()
        end_well(bench, [command], undisturbed, fault, f"kill -9 of a {victim}")


def below_the_server(command: Any, what: str) -> list[int]:
    """Return the trainings of a command, or their guards, once it has some."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        parents = {pid: parent_of(pid) for pid in command.family()}
        [server] = [pid for pid, parent in parents.items() if parent == command.pid]
        guards = {pid for pid, parent in parents.items() if parent == server}
        trainings = {pid: parent for pid, parent in parents.items() if parent in guards}
        if trainings:  # a guard that trains nothing would not be missed
            return [*trainings] if what == "training" else [*trainings.values()]
    raise AssertionError(f"nothing trains: {command.err}")


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
