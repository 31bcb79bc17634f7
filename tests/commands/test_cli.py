"""The command line: every refusal with its code and fix, one JSON object, and never a traceback."""

import contextlib
import errno
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import cli
from bench.commands import common
from bench.commands.streams import reader_gone

Bench = Callable[..., Any]
COMMANDS = ("run", "report", "verify", "compare", "plan", "status", "doctor", "list", "init", "ui")
BENCH = Path(sys.executable).with_name("bench")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def mine(home: Path, write_tiny: Callable[..., Path]) -> Path:
    """Return a small experiment of one's own."""
    return write_tiny(home)


@pytest.fixture(scope="module")
def empty(home: Path, copy_store: Callable[[Path], str]) -> str:
    """Return a store with nothing in it."""
    return copy_store(home / "empty")


@pytest.fixture(scope="module")
def trained(home: Path, mine: Path, copy_store: Callable[[Path], str]) -> dict[str, Any]:
    """Train five pairs quietly; gives the store, stdout and stderr."""
    uri, out, err = copy_store(home / "trained"), io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        words = ["run", str(mine), "--seeds", "5", "--store", uri, "--workers", "2", "-q"]
        status = cli._run(words)
    return {"status": status, "uri": uri, "out": out.getvalue(), "err": err.getvalue()}


# -- help ------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["-h"], *([c, "--help"] for c in COMMANDS)])
def test_help_is_narrower_than_80_columns_and_says_what_to_type(
    words: list[str], bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "200")
    said = bench(*words)
    assert said.status == 0 and said.err == ""
    assert max(map(len, said.out.splitlines())) <= 80
    if words[0] in COMMANDS:
        assert f"\n    bench {words[0]}" in said.out and "Exit codes: 0 done" in said.out


def test_every_command_is_covered_by_these_tests():
    from typer.main import get_command

    assert set(get_command(cli.app).commands) == set(COMMANDS)  # type: ignore[attr-defined]


def test_bench_alone_shows_the_help(bench: Bench):
    said = bench()
    assert said.status == 2 and said.out.startswith("Usage: bench") and said.err == ""


def test_the_version_is_the_packages(bench: Bench):
    from bench import __version__

    assert bench("--version").out == f"bench {__version__}\n"


# -- refusals --------------------------------------------------------------------------------


def refusal_of(said: Any) -> str:
    assert "Traceback" not in said.err
    return str(said.err)


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        (
            ["--seeds", "0-"],
            2,
            'error[seeds]: --seeds "0-" is not a number, range or list.\n'
            "  Use 20, 0-19 or 0,3,7. Seeds are whole numbers from 0 to 4294967295, each once.\n"
            "  fix: bench run MINE --seeds 20\n",
        ),
        (
            ["--seed", "20"],
            2,
            "error[option]: bench run has no option --seed. Did you mean --seeds?\n"
            "  fix: bench run -h\n",
        ),
        (
            ["--zzz"],
            2,
            "error[option]: bench run has no option --zzz.\n  fix: bench run -h\n",
        ),
        (
            ["--data", "/no/such/folder"],
            4,
            "error[dataset]: there is no folder /no/such/folder.\n"
            "  --data names the folder that holds the data set.\n"
            "  fix: bench run MINE --data FOLDER\n",
        ),
        (
            ["--fail-on", "wors"],
            2,
            'error[option]: --fail-on "wors" is no verdict word.\n'
            "  Words: better, worse, equivalent, inconclusive, none.\n"
            "  fix: bench run MINE --fail-on worse\n",
        ),
        (
            ["--scope", "all"],
            2,
            'error[option]: --scope "all" is not seeds-and-examples, seeds or new-datasets.\n'
            "  fix: bench run MINE --scope seeds\n",
        ),
        (
            ["--set", "epoch=3"],
            2,
            'error[setting]: there is no setting "epoch".\n'
            "  Closest: epochs.\n"
            "  Known: epochs, nap.\n"
            "  fix: bench run MINE --set epochs=3\n",
        ),
        (
            ["--redo", "²:weak"],
            2,
            'error[option]: --redo "²:weak" is not SEED:ARM.\n'
            "  Arms: weak, strong.\n"
            "  fix: bench run MINE --redo 0:weak\n",
        ),
        (
            ["--store", "somewhere"],
            4,
            'error[store]: "somewhere" is not a store.\n'
            "  A store is sqlite:///FILE or the address of an MLflow server, http://…\n"
            "  fix: bench run MINE --store sqlite:///mlruns/mlflow.db\n",
        ),
    ],
)
def test_a_refusal_names_the_trouble_the_facts_and_a_fix_that_can_be_typed(
    words: list[str], status: int, expected: str, mine: Path, bench: Bench
):
    said = bench("run", mine, *words)
    assert refusal_of(said).replace(str(mine), "MINE").endswith(f"\n{expected}") or (
        refusal_of(said).replace(str(mine), "MINE") == expected
    )
    assert (said.status, said.out) == (status, "")


@pytest.mark.parametrize(
    ("words", "status", "what"),
    [
        (["run", "digts"], 2, 'no experiment called "digts".\n  Closest: digits.'),
        (["plan", "digts", "--seeds", "9"], 2, "fix: bench plan digits --seeds 9\n"),
        (["run", "nowhere.py"], 2, "error[experiment]: there is no file nowhere.py."),
        (["runn"], 2, 'error[option]: bench has no command "runn". Did you mean run?'),
        (["--json", "run"], 2, "error[option]: bench has no option --json."),
        (["run", "MINE", "--devices", "97"], 2, '"97": no device cuda:97'),
        (["run", "MINE", "--workers", "0"], 2, "error[devices]: --workers 0 leaves nobody"),
        (["run", "MINE", "--workers", "many"], 2, "error[option]: invalid value for '--workers'"),
        (["run", "MINE", "--retries", "-1"], 2, "error[option]: --retries -1 is below 0."),
        (["run", "MINE", "--timeout", "0"], 2, "error[option]: --timeout 0 leaves no time"),
        (["run", "MINE", "--timeout", "nan"], 2, "error[option]: --timeout nan leaves no time"),
        (["run", "MINE", "--max-hours", "0"], 2, "error[option]: --max-hours 0 leaves no time"),
        (["run", "MINE", "--max-hours", "nan"], 2, "error[option]: --max-hours nan leaves no"),
        (["run", "MINE", "--margin", "0"], 2, "error[setting]: margin 0 is not a number above 0"),
        (["run", "MINE", "--margin", "nan"], 2, "error[setting]: margin nan is not a number"),
        (["run", "MINE", "--claim", "inf"], 2, "error[setting]: --claim inf is not a number"),
        (["run", "MINE", "--arm", "weak:strength=2"], 2, 'error[setting]: --arm "weak:'),
        (["run", "MINE", "--arm", "twin:strength=1"], 2, "arms 'strong' and 'twin' have"),
        (["run", "MINE", "extra"], 2, "error[option]: got unexpected extra argument"),
        (["run", "--seeds"], 2, "error[option]: option '--seeds' requires an argument."),
        (["report"], 2, "error[experiment]: nothing is recorded in sqlite:///"),
        (["status", "digits"], 2, "error[experiment]: nothing is recorded in sqlite:///"),
        (["ui"], 2, "error[experiment]: nothing is recorded in sqlite:///"),
        (["ui", "--port", "70000"], 2, "error[option]: --port 70000 is not a port (0 to 65535)."),
        (["compare", "no.csv", "--baseline", "a", "--treatment", "b"], 5, "no.csv"),
        (["plan", "--seeds", "0"], 2, "error[plan]: --seeds 0 is not between"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_its_status(
    words: list[str], status: int, what: str, mine: Path, empty: str, bench: Bench,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", empty)
    said = bench(*[str(mine) if word == "MINE" else word for word in words])
    assert what in refusal_of(said)
    assert said.err.startswith("error[") and "\n  fix: " in said.err
    assert said.status == status and (said.out == "" or "--json" in words)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("x = = 1", "line 1)\n  In line 1: x = = 1"),
        ("import nosuchpackage", "ModuleNotFoundError: No module named 'nosuchpackage'"),
        ("raise SystemExit(0)", "does not import: SystemExit: 0"),
        ("pass", "defines no EXPERIMENT"),
        (
            "from bench import Experiment\n"
            "EXPERIMENT = Experiment(name='x', question='?', arms={'a': {}}, train=print)",
            "experiment 'x' has 1 arm; a comparison needs two",
        ),
    ],
)
def test_a_file_that_is_no_experiment_is_refused_with_its_line(
    text: str, what: str, bench: Bench, write_tiny: Callable[..., Path], tmp_path: Path
):
    path = write_tiny(tmp_path)
    path.write_text(text)
    said = bench("run", path, "--store", f"sqlite:///{tmp_path}/new.db", "--workers", "1")
    assert said.status == 2 and what in refusal_of(said) and said.out == ""
    assert said.err.startswith("error[experiment]: ")


def test_pairs_that_do_not_match_are_not_dropped_silently(tmp_path: Path, bench: Bench):
    path = tmp_path / "r.csv"
    path.write_text("seed,a,b\n0,1,2\n1,2,\n2,3,4\n")
    said = bench("compare", path, "--baseline", "a", "--treatment", "b")
    assert said.status == 5
    assert "has 3 a and 2 b values; pair 1 has no b." in refusal_of(said)
    assert "counts as a failed run" in said.err and " --allow-missing\n" in said.err


def test_json_on_failure_is_one_object_with_code_message_and_fix(mine: Path, bench: Bench):
    said = bench("run", mine, "--seeds", "x", "--json")
    error = said.json["error"]
    assert said.status == 2 and set(error) == {"code", "message", "fix"}
    assert error["code"] == "seeds" and error["fix"] == f"bench run {mine} --json --seeds 20"
    assert 'x" is not a number, range or list.' in error["message"]


def test_a_fix_repeats_no_secret_that_was_typed(
    mine: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SOME_TOKEN", "hunter2's secret")
    words = ("--set", "nap=hunter2's secret", "--store", "http://me:hunter2@host:5000")
    said = bench("run", mine, "--seeds", "x", *words)
    assert "fix: bench run" in said.err and "--seeds 20" in said.err and "hunter2" not in said.err


def test_json_on_a_wrong_option_is_one_object_too(bench: Bench):
    assert bench("status", "--json", "--nope").json["error"]["code"] == "option"


def test_verbose_shows_the_traceback_of_a_refusal(mine: Path, bench: Bench):
    said = bench("run", mine, "--seeds", "x", "-v")
    assert "Traceback" in said.err and said.err.endswith(f"fix: bench run {mine} -v --seeds 20\n")


def test_a_name_with_spaces_is_quoted_in_the_fix(
    tmp_path: Path, write_tiny: Callable[..., Path], bench: Bench
):
    path = write_tiny(tmp_path).rename(tmp_path / "tiny my own.py")
    assert f"fix: bench run '{path}' --seeds 20\n" in bench("run", path, "--seeds", "x").err


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (OSError(28, "No space left on device", "/scratch/x"), 4, "error[disk]: no space left"),
        (
            PermissionError(13, "Permission denied", "/root/x"),
            4,
            "error[file]: /root/x: permission",
        ),
        (
            NotADirectoryError(20, "Not a directory", "/a/b"),
            4,
            "error[file]: /a/b: not a directory",
        ),
    ],
)
def test_what_only_the_machines_owner_can_mend_is_refused(
    error: OSError, status: int, text: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    def broken(*args: Any) -> None:
        raise error

    monkeypatch.setattr("bench.commands.drafting.seeds_of", broken)
    said = bench("run", "digits")
    assert said.status == status and text in refusal_of(said) and "fix: " in said.err


def test_a_bug_keeps_its_traceback(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    def broken(*args: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("bench.commands.drafting.seeds_of", broken)
    with pytest.raises(ZeroDivisionError):
        bench("run", "digits")


def test_ctrl_c_says_how_to_resume(mine: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.commands.drafting.seeds_of", interrupted)
    said = bench("run", mine, "--seeds", "3")
    assert said.status == 130 and said.out == ""
    assert said.err == (
        "\ninterrupted: everything that had finished is recorded.\n"
        f"  resume: bench run {mine} --seeds 3\n"
    )
    assert bench("run", mine, "--json").json["error"]["code"] == "interrupted"
    anew = bench("run", mine, "--fresh", "--redo", "1:weak", "--seeds", "3")
    assert anew.err.endswith(f"  resume: bench run {mine} --seeds 3\n")


def test_output_that_nobody_reads_any_more_is_no_error(empty: str):
    command = f"{BENCH} run -h | head -1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True
    )
    assert done.stderr == "" and done.stdout.startswith("Usage")


def test_an_error_as_json_that_nobody_reads_keeps_its_message_and_status(empty: str):
    command = f"{BENCH} report nothing --json --store {empty}"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | true"], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.startswith("error[experiment]: "), done.stderr


def test_another_pipe_that_breaks_is_a_bug_and_not_the_end_of_the_output(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    def broken(*args: Any) -> None:
        raise BrokenPipeError("a server's")

    monkeypatch.setattr("bench.commands.drafting.seeds_of", broken)
    with pytest.raises(RuntimeError, match="a pipe broke that is not the output") as caught:
        bench("run", "digits")
    assert isinstance(caught.value.__cause__, BrokenPipeError)


def test_only_a_pipe_without_a_reader_is_a_broken_output(monkeypatch: pytest.MonkeyPatch):
    end, start = os.pipe()
    with os.fdopen(start, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert not reader_gone()
        os.close(end)
        assert reader_gone()


# -- what works ------------------------------------------------------------------------------


def test_quiet_keeps_the_summary_and_nothing_else(trained: dict[str, Any]):
    assert (trained["status"], trained["err"]) == (0, "")
    assert "tiny" in trained["out"] and "report" in trained["out"]
    assert trained["out"].endswith(f"next     bench ui --store {trained['uri']}\n")


def test_status_lists_what_is_recorded_and_shows_one(
    trained: dict[str, Any], empty: str, bench: Bench
):
    listed = bench("status", "--store", trained["uri"])
    assert listed.status == 0 and re.search(r"tiny +5/5", listed.out)
    assert "5 done" in bench("status", "tiny", "--store", trained["uri"]).out
    plain = bench("status", "--json", "--store", trained["uri"]).json["benchmarks"]
    assert [(b["experiment"], b["pairs_finished"]) for b in plain] == [("tiny", 5)]
    nothing = bench("status", "--store", empty)
    assert nothing.status == 0 and "Nothing is recorded yet." in nothing.out


def test_status_of_a_file_shows_the_experiment_that_it_defines(
    trained: dict[str, Any], mine: Path, bench: Bench
):
    assert "5 done" in bench("status", mine, "--store", trained["uri"]).out


def test_the_same_run_again_prints_one_object_and_trains_nothing(
    trained: dict[str, Any], mine: Path, bench: Bench
):
    words = ("--seeds", "5", "--store", trained["uri"], "--workers", "2", "--json")
    whole = bench("run", mine, *words)
    assert whole.status == 0 and whole.json["schema"].startswith("bench.report/")
    bare = bench("run", mine, *words, "--no-report")
    assert bare.status == 0 and bare.json["trained"] == 0


def test_a_read_only_folder_is_told_in_words(
    trained: dict[str, Any], bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*args: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system", "store.lock")

    monkeypatch.setattr("bench.store.sqlite.prepare", refuse)
    said = bench("status", "--store", trained["uri"])
    assert said.status == 4 and "store.lock: read-only file system." in said.err
    assert "Traceback" not in said.err and "fix: name a folder" in said.err


def test_fail_on_ends_with_10_only_on_its_words(trained: dict[str, Any], bench: Bench):
    words = ("report", "tiny", "--json", "--store", trained["uri"])
    said = bench(*words)
    word = said.json["comparisons"][0]["verdict"]["word"]
    others = ",".join(w for w in common.WORDS if w != word)
    assert said.status == 0
    assert bench(*words, "--fail-on", f"{others},{word}").status == 10
    assert bench(*words, "--fail-on", others).status == 0


def test_a_report_goes_where_it_is_asked_for(trained: dict[str, Any], tmp_path: Path, bench: Bench):
    said = bench("report", "--out", tmp_path / "new" / "place", "--store", trained["uri"])
    assert said.status == 0
    assert {p.name for p in (tmp_path / "new" / "place").iterdir()} == {
        "report.html",
        "results.json",
    }
    assert str(tmp_path / "new" / "place" / "report.html") in said.out
    (tmp_path / "file").write_text("mine")
    blocked = bench("report", "--out", tmp_path / "file", "--store", trained["uri"])
    assert blocked.status == 4 and "error[file]: " in refusal_of(blocked)
    assert (tmp_path / "file").read_text() == "mine"


def test_damaged_predictions_end_with_5_and_can_be_made_again(
    mine: Path, tmp_path: Path, copy_store: Callable[[Path], str], bench: Bench
):
    words = ("run", mine, "--seeds", "2", "--store", copy_store(tmp_path), "--workers", "2")
    assert bench(*words, "--no-report").status == 0
    file = next(tmp_path.rglob("predictions.npz"))
    file.write_bytes(file.read_bytes()[:-1])
    said = bench("report", "--store", words[5])
    assert said.status == 5
    what = r"error\[predictions\]: the stored predictions of seed (\d\d), (\w+), are damaged\."
    found = re.search(what, refusal_of(said))
    assert found is not None and f"--redo {int(found[1])}:{found[2]}" in said.err
    assert bench(*words, "--redo", f"{int(found[1])}:{found[2]}").status == 0
    assert bench("report", "--store", words[5]).status == 0


def test_blind_shows_no_difference_before_all_pairs_are_done(
    tmp_path: Path, write_tiny: Callable[..., Path], copy_store: Callable[[Path], str], bench: Bench
):
    mended = tmp_path / "mended"
    body = f"if trial.seed == 5 and not os.path.exists({str(mended)!r}): raise ValueError('no')"
    words = ("run", write_tiny(tmp_path, body), "--seeds", "6", "--workers", "2", "--blind")
    words = (*words, "--store", copy_store(tmp_path / "store"))
    said = bench(*words)
    assert said.status == 3 and said.out == "" and "diff=" not in said.err
    assert "No report before all pairs are done (--blind); bench report tiny writes" in said.err
    assert not list(tmp_path.rglob("report.html"))
    mended.touch()
    said = bench(*words)
    assert said.status == 0 and "6 of 6 pairs" in said.out
    assert (tmp_path / "store/reports/tiny/report.html").is_file()


# -- the browser -----------------------------------------------------------------------------


def test_ui_refuses_a_port_that_is_in_use(trained: dict[str, Any], bench: Bench):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = bench("ui", "--port", port, "--store", trained["uri"])
    assert said.status == 4
    assert said.err.startswith(f"error[ui]: port {port} is in use by another program.\n")
    assert re.search(r"fix: bench ui .*--port \d+\n", said.err)


def processes_with(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += [path.parent.name] * (text in path.read_text(errors="replace"))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_ui_answers_on_this_machine_only_and_leaves_nothing_behind(trained: dict[str, Any]):
    command = [str(BENCH), "ui", "--port", "0", "--store", trained["uri"]]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        try:
            assert process.stdout is not None
            lines = process.stdout.readline() + process.stdout.readline()
            link = r"tiny\n  by arm +(http://127\.0\.0\.1:\d+)/#/experiments/(\d+)/runs"
            found = re.search(link, lines)
            assert found is not None, lines
            with urllib.request.urlopen(f"{found[1]}/") as page:
                assert page.status == 200 and b'<div id="root"' in page.read()
            api = f"{found[1]}/ajax-api/2.0/mlflow/experiments/get?experiment_id={found[2]}"
            with urllib.request.urlopen(api) as answer:
                assert json.load(answer)["experiment"]["name"] == "tiny"
            served_at = f"--port\0{found[1].rpartition(':')[2]}\0"
            assert len(processes_with(served_at)) >= 2
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        finally:
            if process.poll() is None:
                process.kill()
    assert process.returncode == 0 and "Traceback" not in err
    assert processes_with(served_at) == []
