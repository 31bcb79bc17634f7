"""Surroundings: odd paths, clocks, streams, limits; what is cleaned or edited meanwhile."""

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and looks at /proc")


def one_line(text: str) -> str:
    return " ".join(text.split())


def complete(bench: Any, command: Any, fault: Any, name: str, undisturbed: Any) -> None:
    """See that one command trained and recorded every run once, with the right numbers."""
    assert command.wait() == 0, command.err
    assert "Traceback" not in command.err
    told, finished = bench.told([command]), bench.finished()
    fault.lost(name, len(told - finished) + len(finished - told))
    assert finished.total() == bench.trained() == 12
    fault.right(name, bench.numbers(), undisturbed)


# -- paths, clocks, variables ------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.by_hand
def test_a_store_with_a_path_that_reads_like_an_address_is_that_file(
    on: Callable[..., Any],
    undisturbed: Any,
    fault: Any,
    times: Callable[[int, int], int],
    tmp_path: Path,
):
    """With all of the signs in one path; in the campaign, each in one of its own too."""
    paths = ["it's a%41b?mode=ro", "a%41b", "q?mode=ro", "it's"][: times(1, 4)]
    signs = [[sign for sign in ("%41", "?", "'") if sign in path] for path in paths]
    benches = [on(f"{path}/{path}") for path in paths]
    commands = [bench.start() for bench in benches]
    for bench, command, inside in zip(benches, commands, signs, strict=True):
        for sign in inside:
            with fault(f"store path with {sign}"):
                complete(bench, command, fault, f"store path with {sign}", undisturbed)
                assert [path.name for path in bench.folder.parent.iterdir()] == [bench.folder.name]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(paths)


@pytest.mark.thorough
@pytest.mark.by_hand
def test_a_clock_that_was_set_back_before_fresh_and_redo_changes_no_order(
    on: Callable[..., Any], undisturbed: Any, fault: Any
):
    from bench.design.plan import TrialKey
    from bench.store.mlflow_store import Store

    bench, key, day = on(), TrialKey("strong", 1), 86_400
    assert bench.run("--no-report").status == 0
    first = Store(bench.uri).benchmark("tiny").run_id
    before_fresh, before_redo = "clock set back before --fresh", "clock set back before --redo"
    with fault(before_fresh):
        fresh = bench.run("--fresh", CLOCK_S=-day)
        assert fresh.status == 0 and bench.told([fresh]).total() == 12, fresh.err
        assert Store(bench.uri).benchmark("tiny").run_id != first
        fault.lost(before_fresh, 12 - bench.finished().total())
        fault.right(before_fresh, bench.numbers(), undisturbed)
    with fault(before_redo):
        redone = bench.run("--redo", "1:strong", CLOCK_S=-2 * day)
        assert redone.status == 0 and bench.told([redone]).total() == 1, redone.err
        store = Store(bench.uri)
        benchmark = store.benchmark("tiny")
        new, old = sorted(store.children(benchmark)[key], key=lambda child: child.started)
        assert old.started - new.started > 80_000 and old.replaced_by == new.run.run_id
        finished = store.settled(benchmark)[0]
        assert finished[key].run.run_id == new.run.run_id
        fault.lost(before_redo, 12 - len(finished))
        fault.right(before_redo, bench.numbers(), undisturbed)


# -- standard streams and limits ---------------------------------------------------------------


NO_STDERR: dict[str, dict[str, Any]] = {
    "stdin and stderr closed": {"closed": ("stdin", "stderr")},
    "stderr on a full disk": {"terminal": "/dev/full"},
}


def test_a_stderr_that_takes_nothing_changes_no_result(
    on: Callable[..., Any], undisturbed: Any, fault: Any
):
    benches = {name: on(name) for name in NO_STDERR}
    commands = {name: bench.start(**NO_STDERR[name]) for name, bench in benches.items()}
    for name, bench in benches.items():
        with fault(name):
            assert commands[name].wait() == 0 and "tiny" in commands[name].out
            status = bench.command("status", **NO_STDERR[name])
            assert status.wait() == 0 and "tiny" in status.out
            fault.lost(name, 12 - bench.finished().total())
            fault.right(name, bench.numbers(), undisturbed)


NO_STDOUT: dict[str, tuple[dict[str, Any], str]] = {
    "stdout closed": ({"closed": ("stdout",)}, "it is closed"),
    "stdout on a full disk": ({"stdout": "/dev/full"}, "no space left on device"),
}


@pytest.mark.thorough
@pytest.mark.by_hand
def test_a_stdout_that_takes_nothing_is_an_error_after_everything_else(
    on: Callable[..., Any], undisturbed: Any, fault: Any, tmp_path: Path
):
    table = tmp_path / "table.csv"
    rows = (f"{seed},{seed % 3},{seed % 4}\n" for seed in range(8))
    table.write_text("".join(("seed,a,b\n", *rows)))
    compare = ("compare", table, "--baseline", "a", "--treatment", "b", "--out", tmp_path / "out")
    bench = on()
    for name, (how, why) in NO_STDOUT.items():
        with fault(name):
            said = [bench.run(**how)]
            said += [bench.command(*some, **how) for some in (("status",), ("report", "--json"))]
            said += [bench.zygote.start(*compare, **how)]
            for command in said:
                assert command.wait() == 4 and "Traceback" not in command.err, command.err
                expected = f"error[output]: stdout cannot be written to: {why}."
                assert command.err.count(expected) == command.err.count("error[") == 1
            wrong = bench.command("report", "nothing", "--json", **how)
            assert wrong.wait() == 2 and wrong.err.startswith("error[experiment]: "), wrong.err
            fault.lost(name, 12 - bench.finished().total())
            fault.right(name, bench.numbers(), undisturbed)


@pytest.mark.thorough
@pytest.mark.by_hand
def test_streams_that_are_closed_where_a_command_starts_are_opened_before_any_file(
    on: Callable[..., Any],
):
    """In a process of its own: the others are forks, whose streams Python had opened already."""
    bench = on()
    program = Path(sys.executable).with_name("bench")
    words = [str(program), "status", "--store", bench.uri]
    done = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *words], stderr=subprocess.PIPE, cwd=bench.folder
    )
    assert done.returncode == 4 and done.stderr.startswith(b"error[output]: stdout cannot")
    done = subprocess.run(
        ["sh", "-c", '"$@" <&- 2>&-', "sh", *words], stdout=subprocess.PIPE, cwd=bench.folder
    )
    assert done.returncode == 0 and done.stdout


def test_too_few_descriptors_are_named_with_their_limit(on: Callable[..., Any], fault: Any):
    bench = on()
    with fault("too few file descriptors (ulimit -n)"):
        command = bench.run(NOFILE=14)
        assert command.status == 4 and "Traceback" not in command.err, command.err
        assert "A process may have 14 files open at once (ulimit -n)" in command.err
        assert "fix: ulimit -n 1024, then the same command" in command.err


CLOSES = """
if trial.seed == 0: sys.stdout.close()
if trial.seed == 1: sys.stdout = sys.stderr = None
if trial.seed == 2: sys.stdout, sys.stderr = open(os.devnull, "w"), open(os.devnull, "w")
if trial.seed == 3: os.close(1)
if trial.seed == 4: os.close(1); os.close(2)
if trial.seed == 5: os.closerange(0, 3); sys.stdin = None
"""


@pytest.mark.thorough
@pytest.mark.by_hand
def test_asynchronous_logging_and_trainings_that_close_their_streams_change_nothing(
    on: Callable[..., Any], undisturbed: Any, fault: Any
):
    bench = on()
    closes, logging = "training closes or replaces stdout", "MLFLOW_ENABLE_ASYNC_LOGGING=true"
    with fault(closes), fault(logging):
        command = bench.start(DO=CLOSES, MLFLOW_ENABLE_ASYNC_LOGGING="true")
        complete(bench, command, fault, closes, undisturbed)
        complete(bench, command, fault, logging, undisturbed)


# -- what is cleaned, deleted or damaged in mid-run --------------------------------------------


@pytest.mark.thorough
@pytest.mark.by_hand
def test_a_temporary_folder_that_is_cleaned_in_mid_run_costs_no_finished_run(
    on: Callable[..., Any], undisturbed: Any, fault: Any, tmp_path: Path
):
    bench, name, temporary = on(), "/tmp cleaned in mid-run", tmp_path / "tmp"
    temporary.mkdir()
    with fault(name):
        first = bench.start(NAP=0.2, TMPDIR=temporary)
        first.until("run done")
        for path in temporary.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        first.wait()
        assert "Traceback" not in first.err, first.err
        first.leaves_nobody_behind()
        last = bench.run(TMPDIR=temporary)
        assert last.status == 0, last.err
        told, finished = bench.told([first, last]), bench.finished()
        fault.lost(name, len(told - finished) + len(finished - told))
        fault.right(name, bench.numbers(), undisturbed)


@pytest.mark.thorough
@pytest.mark.by_hand
def test_a_database_that_is_deleted_in_mid_run_is_said_and_made_again(
    on: Callable[..., Any], undisturbed: Any, fault: Any
):
    bench, name = on(), "mlflow.db deleted in mid-run"
    with fault(name):
        command = bench.start(NAP=0.2)
        command.until("run done")
        for path in bench.folder.glob("mlflow.db*"):
            path.unlink()
        assert command.wait() == 4 and "Traceback" not in command.err, command.err
        assert "was deleted or replaced while it was in use." in command.err
        (bench.folder / "trained.txt").unlink()
        again = bench.start()
        complete(bench, again, fault, name, undisturbed)


OTHERS = {
    "MLflow schema newer": ("ffffffffffff", "pip install --upgrade mlflow"),
    "MLflow schema older": ("451aebb31d03", "mlflow db upgrade sqlite:///"),  # of MLflow 1.0
}


def test_a_database_of_another_mlflow_is_named_with_what_mends_it_and_left_alone(
    on: Callable[..., Any], bench: Callable[..., Any], undisturbed: Any, fault: Any
):
    def write(number: str) -> str:
        with closing(sqlite3.connect(other.folder / "mlflow.db")) as connection, connection:
            [[before]] = connection.execute("select version_num from alembic_version").fetchall()
            connection.execute("update alembic_version set version_num = ?", (number,))
        return str(before)

    other = on()
    run = ("run", other.experiment, "--seeds", 6, "--store", other.uri)
    for name, (version, fix) in OTHERS.items():
        with fault(name):
            ours = write(version)
            said = bench(*run)
            assert said.status == 4 and "Traceback" not in said.err and fix in said.err
            assert write(ours) == version and other.trained() == 0
    command = other.start()
    for name in OTHERS:
        complete(other, command, fault, name, undisturbed)


def rewritten(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change an entry as one that the disk has whole."""
    from bench.design.plan import digest
    from bench.store import spool

    path = folder / spool.ENTRY
    plain = json.loads(path.read_text("utf-8"))["entry"]
    change(plain)
    path.write_text(json.dumps({"sha256": digest(plain), "entry": plain}), "utf-8")


def waiting_in(bench: Any) -> list[Path]:
    """Return the results that are safe on the disk and not yet in the store, oldest first."""
    return sorted(path.parent for path in bench.folder.glob("pending/*/*/entry.json"))


@pytest.mark.thorough
@pytest.mark.by_hand
def test_a_result_that_vanishes_before_it_is_in_the_store_is_named_and_never_finished(
    on: Callable[..., Any], undisturbed: Any, fault: Any
):
    bench = on()
    names = ("entry whose folder vanished in mid-run", "entry that lost a file in mid-run")
    with fault(names[0]), fault(names[1]):
        first = bench.start("--no-report", NAP=0.2, BUSY_S=0.5)
        first.until("run done")
        with bench.locked():
            first.until("pair done 6/6")
            vanished, lacking, *_ = waiting_in(bench)
            shutil.rmtree(vanished)
            (lacking / "files" / "predictions.npz").unlink()
        assert first.wait() == 3, first.err
        for seed_arm in (vanished, lacking):
            _, seed, arm = seed_arm.name.split("-")
            whose = f"the result of seed {int(seed):02d}, {arm}, cannot be recorded"
            assert whose in one_line(first.err), first.err
        assert "error[incomplete]: the result of seed" in first.err
        assert "its files are gone or changed on this disk." in first.err
        assert bench.finished().total() == 10
        last = bench.run()
        assert last.status == 0 and bench.told([last]).total() == 2, last.err
        finished = bench.finished()
        for name in names:
            fault.lost(name, 12 - finished.total())
            fault.right(name, bench.numbers(), undisturbed)


@pytest.mark.thorough
@pytest.mark.by_hand
def test_what_is_wrong_with_waiting_results_is_set_aside_and_trained_again(
    on: Callable[..., Any], undisturbed: Any, fault: Any, tmp_path: Path
):
    bench = on()
    first = bench.start("--no-report", NAP=0.2, BUSY_S=0.5)
    first.until("run done")
    with bench.locked():
        first.until("pair done 6/6")
        assert first.kill()
        first.wait()
    first.leaves_nobody_behind()
    vanished, lacking, refused, linked, link, *_ = waiting_in(bench)
    place = link.parent
    shutil.rmtree(vanished)
    (lacking / "files" / "predictions.npz").unlink()
    rewritten(refused, lambda plain: plain["scores"].update({"no;metric": 1.0}))
    (tmp_path / "secret").write_text("s3cret")
    (linked / "files" / "log.txt").symlink_to(tmp_path / "secret")
    shutil.move(link, tmp_path / "elsewhere")
    link.symlink_to(tmp_path / "elsewhere")
    names = (
        "entry whose folder vanished",
        "entry that lacks a file",
        "entry that the store refuses",
        "symlink in an entry",
        "symlink in place of an entry",
    )
    with fault(names[0]), fault(names[1]), fault(names[2]), fault(names[3]), fault(names[4]):
        last = bench.run()
        assert last.status == 0 and "Traceback" not in last.err, last.err
        for folder in (linked, link):
            assert f"{folder.name} holds a link, or is one; kept in " in last.err
        assert "cannot be recorded and is kept in" in last.err
        aside = {path.name for path in (bench.folder / "aside" / place.name).iterdir()}
        assert aside == {refused.name, linked.name, link.name}
        assert bench.told([last]).total() == len(names), last.err
        finished = bench.finished()
        fault.lost(names[0], 12 - finished.total())
        assert set(finished.values()) == {1} and not any(place.iterdir())
        for name in names:
            fault.right(name, bench.numbers(), undisturbed)


# -- code that is edited -----------------------------------------------------------------------

USES = """
import {module}
time.sleep(float(os.environ.get("NAP", "0")))
trial.log(0, {{"own": {module}.VALUE}})
"""


@pytest.fixture
def own(tmp_path: Path, write_tiny: Callable[..., Path]) -> Callable[..., tuple[Path, Path]]:
    """Return what makes an experiment in src/ and its module, which it may import late."""

    def make(module: str, *, late: bool) -> tuple[Path, Path]:
        folder = tmp_path / "src"
        folder.mkdir()
        path = write_tiny(folder, USES.format(module=module))
        if not late:
            path.write_text(path.read_text().replace("import os,", f"import {module}, os,"))
        helper = folder / f"{module}.py"
        helper.write_text("VALUE = 1.0\n")
        return path, helper

    return make


@pytest.mark.thorough
@pytest.mark.by_hand
def test_a_module_that_is_edited_between_two_runs_or_while_one_trains_is_never_mixed(
    own: Callable[..., tuple[Path, Path]], on: Callable[..., Any], fault: Any
):
    experiment, helper = own("own_helper", late=False)
    bench = on(other=experiment)
    first = bench.run("--no-report")
    assert first.status == 0, first.err
    between, meanwhile = "module edited between two runs", "module in src/ edited in mid-run"
    with fault(between), fault(meanwhile):
        helper.write_text("VALUE = 2.0\n")
        second = bench.start("--no-report", NAP=0.2)
        second.until("run done")
        assert "so this is a new" in one_line(second.err) and helper.name in second.err
        helper.write_text("VALUE = 1.0\n")
        assert second.wait() == 3 and "Traceback" not in second.err, second.err
        assert "error[edited]: seed 0" in second.err
        assert f"{helper.name} changed while the benchmark trained." in second.err
        fault.right(between, set(values(bench).values()), {2.0})
        helper.write_text("VALUE = 2.0\n")
        last = bench.run("--no-report")
        assert last.status == 0, last.err
        fault.right(meanwhile, set(values(bench).values()), {2.0})
        told = bench.told([second, last])
        fault.lost(meanwhile, len(told - bench.finished()) + len(bench.finished() - told))


@pytest.mark.thorough
@pytest.mark.by_hand
def test_a_module_that_trainings_load_themselves_and_that_is_edited_in_mid_run_is_found(
    own: Callable[..., tuple[Path, Path]], on: Callable[..., Any], fault: Any
):
    name = "late module edited in mid-run"
    experiment, helper = own("late_helper", late=True)
    bench = on(other=experiment)
    with fault(name):
        command = bench.start(NAP=0.2)
        command.until("run done")
        helper.write_text("VALUE = 2.0\n")
        command.wait()
        assert "Traceback" not in command.err, command.err
        (check,) = (c for c in bench.results()["checks"] if c["id"] == "B2")
        assert check["state"] == "failed" and helper.name in check["text"]


def values(bench: Any) -> dict[str, float]:
    """Return what the module of an experiment was when each run trained."""
    from bench.store.mlflow_store import Store

    store = Store(bench.uri)
    finished = store.settled(store.benchmark("tiny"))[0]
    return {key.run_name: child.run.metrics["own"] for key, child in finished.items()}
