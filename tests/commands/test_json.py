"""--json: stdout is one object, whatever a command does and however it ends."""

import contextlib
import io
import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import cli
from bench.commands import common
from bench.commands.parser import parser

Bench = Callable[..., Any]


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    write_tiny: Callable[..., Path],
    copy_store: Callable[[Path], str],
) -> dict[str, Any]:
    """Train six pairs; gives the experiment's file, the store and the report."""
    home = tmp_path_factory.mktemp("home")
    mine, uri = write_tiny(home), copy_store(home / "store")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert cli._run(["run", str(mine), "--seeds", "6", "--store", uri, "-q"]) == 0
    table = home / "r.csv"
    table.write_text("seed,base,new\n" + "".join(f"{i},{i % 3},{i % 4 + 1}\n" for i in range(9)))
    report = home / "store" / "reports" / "tiny" / "report.html"
    script, new = home / "script.py", home / "new.toml"
    script.write_text(
        "import argparse\np = argparse.ArgumentParser()\n"
        "p.add_argument('--seed', type=int)\np.add_argument('--lr', default=0.1)\n"
    )
    return {
        "SCRIPT": script,
        "NEW": new,
        "MINE": mine,
        "STORE": uri,
        "REPORT": report,
        "TABLE": table,
    }


def filled(words: str, trained: dict[str, Any]) -> list[str]:
    return [str(trained.get(word, word)) for word in words.split()]


SUCCESSES = [
    ("run MINE --seeds 6 --store STORE", "schema"),
    ("run MINE --seeds 6 --store STORE --no-report", "trained"),
    ("run MINE --seeds 8 --store STORE --dry-run", "runs_left"),
    ("report tiny --store STORE", "schema"),
    ("compare TABLE --baseline base --treatment new --pair seed", "schema"),
    ("plan --detect 0.3", "by_seeds"),
    ("plan MINE --seeds 6 --freeze --store STORE", "benchmark_id"),
    ("verify REPORT", "values"),
    ("verify REPORT --rerun 3 --experiment MINE", "rerun"),
    ("doctor --store STORE", "findings"),
    ("list", "experiments"),
    ("init SCRIPT --out NEW", "written"),
    ("status --store STORE", "benchmarks"),
    ("status tiny --store STORE", "pairs_finished"),
]
FAILURES = [
    ("run MINE --seeds 6 --store STORE --redo 99:weak", "option"),
    ("run nowhere.py", "experiment"),
    ("report nothing --store STORE", "experiment"),
    ("report tiny --store STORE --format docx", "format"),
    ("compare TABLE --baseline base --treatment nothing --pair seed", "columns"),
    ("compare TABLE --baseline base --treatment new --out TABLE", "file"),
    ("plan --detect 0.3 --power 2", "plan"),
    ("plan --freeze", "option"),
    ("verify TABLE", "report"),
    ("verify REPORT --rerun 99 --experiment MINE", "experiment"),
    ("doctor nothing", "experiment"),
    ("status nothing --store STORE", "experiment"),
    ("list --nothing", "option"),
    ("init nothing.py", "arms"),
    ("ui --port 70000", "option"),
]


def test_every_command_is_covered():
    commands = parser(cli.app).commands
    assert {words.split()[0] for words, _ in SUCCESSES} | {"ui"} == set(commands)
    assert {words.split()[0] for words, _ in FAILURES} == set(commands)


@pytest.mark.parametrize(("words", "key"), SUCCESSES)
def test_success_is_one_object(words: str, key: str, trained: dict[str, Any], bench: Bench):
    said = bench(*filled(words, trained), "--json")
    assert said.status == 0, said.err
    assert key in said.json and "error" not in said.json


@pytest.mark.parametrize(("words", "code"), FAILURES)
def test_failure_is_one_object_with_code_message_and_fix(
    words: str, code: str, trained: dict[str, Any], bench: Bench
):
    said = bench(*filled(words, trained), "--json")
    assert said.status in (2, 4, 5) and set(said.json) == {"error"}
    error = said.json["error"]
    assert set(error) == {"code", "message", "fix"} and error["code"] == code
    what = said.err.splitlines()[0].removeprefix(f"error[{code}]: ")
    assert error["message"].startswith(what)


@pytest.mark.parametrize("name", list(parser(cli.app).commands))
def test_a_wrong_option_is_one_object_too(name: str, bench: Bench):
    said = bench(name, "--nope", "--json")
    assert (said.status, said.json["error"]["code"]) == (2, "option")


def test_a_verdict_that_fails_a_pipeline_is_the_object_of_success(
    trained: dict[str, Any], bench: Bench
):
    words = filled("report tiny --store STORE --fail-on", trained)
    said = bench(*words, ",".join(common.WORDS), "--json")
    assert said.status == 10 and "schema" in said.json


def test_failed_runs_are_one_object_without_the_report(
    tmp_path: Path, write_tiny: Callable[..., Path], copy_store: Callable[[Path], str], bench: Bench
):
    mine = write_tiny(tmp_path, "if trial.seed == 1: raise ValueError('no')")
    said = bench("run", mine, "--seeds", 3, "--store", copy_store(tmp_path), "--json")
    assert said.status == 3 and said.json["error"]["code"] == "training"
    assert "ValueError: no" in said.json["error"]["message"]


def test_a_pair_that_trains_otherwise_is_one_object(
    trained: dict[str, Any], bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    other = SimpleNamespace(arm="weak", same=False, trouble=None, again=0.5, stated=0.25)
    monkeypatch.setattr("bench.reports.verify.retrain", lambda *args, **how: [other])
    said = bench(*filled("verify REPORT --rerun 3 --experiment MINE --json", trained))
    assert said.status == 5 and set(said.json) == {"error"}


def test_a_report_that_cannot_be_written_is_one_object(
    trained: dict[str, Any], tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device", "report.html")

    monkeypatch.setattr("bench.reports.formats.replace_bytes", full)
    words = "compare TABLE --baseline base --treatment new --pair seed --json --out"
    said = bench(*filled(words, trained), tmp_path)
    assert said.status == 4 and said.json["error"]["code"] == "disk"


def test_ui_says_where_it_is_in_one_object(
    trained: dict[str, Any], bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    @contextlib.contextmanager
    def served(uri: str, port: int, host: str) -> Iterator[str]:
        yield "http://127.0.0.1:5999"

    def ctrl_c(self: Any, timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.store.mlflow_ui.served", served)
    monkeypatch.setattr(threading.Event, "wait", ctrl_c)
    said = bench("ui", "--port", 0, "--store", trained["STORE"], "--json")
    assert said.status == 0 and said.json["experiment"] == "tiny"
    assert all(link.startswith("http://127.0.0.1:5999/#/") for link in said.json["links"].values())


def test_a_bug_is_one_object_and_its_traceback_is_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["bench", "run", "digits", "--json"])
    monkeypatch.setenv("SOME_TOKEN", "hunter2hunter2")
    try:
        raise ZeroDivisionError("of hunter2hunter2")
    except ZeroDivisionError as error:
        cli._bug(type(error), error, error.__traceback__)
    said = capsys.readouterr()
    error = json.loads(said.out)["error"]
    assert error["code"] == "bug" and error["message"].startswith("ZeroDivisionError: of ")
    assert "Traceback" in said.err and "hunter2" not in said.out + said.err
