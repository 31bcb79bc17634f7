"""`bench verify`: a report against its data, and a pair trained again."""

import contextlib
import io
import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import cli

Bench = Callable[..., Any]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, write_tiny: Callable[..., Path]) -> Path:
    return write_tiny(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def report(source: Path, copy_store: Callable[[Path], str]) -> Path:
    """Train six pairs; gives the folder of the report."""
    uri = copy_store(source.parent / "store")
    words = ["run", str(source), "--seeds", "6", "--store", uri, "--workers", "2", "-q"]
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        patch.setattr(sys, "argv", ["bench", *words])  # what is recorded as its command
        assert cli._run(words) == 0
    return source.parent / "store" / "reports" / "tiny"


@pytest.mark.parametrize("name", ["report.html", "results.json"])
def test_what_bench_wrote_verifies(report: Path, name: str, bench: Bench):
    said = bench("verify", report / name)
    assert said.status == 0 and said.err == ""
    assert re.search(r"numbers +[\d,]{3,} computed again", said.out)
    assert "unproved that the summary is that of the raw predictions" in said.out
    assert ("pieces of text" in said.out) == (name == "report.html")


def test_a_changed_number_ends_with_5_and_is_named(report: Path, tmp_path: Path, bench: Bench):
    text = (report / "results.json").read_text()
    data = json.loads(text)
    data["comparisons"][0]["primary"]["high"] += 0.001
    changed = tmp_path / "results.json"
    changed.write_text(json.dumps(data))
    said = bench("verify", changed)
    assert said.status == 5
    assert "error[verify]" in said.err and "comparisons[0].primary.high" in said.err
    assert "fix: write it anew: bench report tiny" in said.err


def test_a_pair_trains_to_the_same_values_again(report: Path, source: Path, bench: Bench):
    said = bench("verify", report / "report.html", "--rerun", 3, "--experiment", source, "--json")
    assert said.status == 0
    runs = said.json["rerun"]
    assert [run["arm"] for run in runs] == ["weak", "strong"]
    assert all(run["stated"] == run["again"] is not None for run in runs)


def test_a_seed_that_the_report_lacks_is_refused(report: Path, source: Path, bench: Bench):
    said = bench("verify", report / "report.html", "--rerun", 99, "--experiment", source)
    assert said.status == 5
    assert "the report has no seed 99" in said.err and "0, 1, 2, 3, 4, 5" in said.err


def test_a_pair_of_a_changed_source_is_not_trained(
    report: Path, tmp_path: Path, write_tiny: Callable[..., Path], bench: Bench
):
    other = write_tiny(tmp_path, "noise = 0.0")
    said = bench("verify", report / "report.html", "--rerun", 3, "--experiment", other)
    assert said.status == 5
    assert "the source of tiny is not the one that the report is about" in said.err


def test_a_pair_that_trains_to_another_value_ends_with_5(
    tmp_path: Path, write_tiny: Callable[..., Path], copy_store: Callable[[Path], str], bench: Bench
):
    body = f"trial.settings['strength'] = 3 if os.path.exists({str(tmp_path / 'flag')!r}) else 0.5"
    body = body.replace("trial.settings['strength'] =", "strength =")
    source = write_tiny(
        tmp_path,
        body + "\nglobal LABELS\nif strength == 3: LABELS = LABELS.copy(); LABELS[:4] = 1",
        name="drifting",
    )
    uri = copy_store(tmp_path / "store")
    assert bench("run", source, "--seeds", 6, "--store", uri, "--workers", 1, "-q").status == 0
    (tmp_path / "flag").touch()
    page = tmp_path / "store" / "reports" / "drifting" / "report.html"
    said = bench("verify", page, "--rerun", 2, "--experiment", source)
    assert said.status == 5
    assert "seed 2 did not train to the values of the report" in said.err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "there is no file"),
        (b"\x80\x81", "is no text"),
        (b"<html></html>", "neither a report.html nor a results.json"),
        (b'{"schema": "bench.report/1"}', "holds no digest"),
        (b'{"schema": "bench.report/2"}', "its summary cannot be read"),
    ],
)
def test_what_is_no_report_is_refused(
    content: bytes | None, says: str, tmp_path: Path, bench: Bench
):
    path = tmp_path / "some.html"
    if content is not None:
        path.write_bytes(content)
    said = bench("verify", path)
    assert said.status == 5
    assert "error[report]" in said.err and says in said.err


def test_a_report_of_a_file_asks_for_it_with_a_command_that_works(
    report: Path, source: Path, bench: Bench
):
    page = report / "report.html"
    said = bench("verify", page, "--rerun", 3)
    assert said.status == 2 and "its file has to be named" in said.err
    fix = re.search(r"^  fix: bench (.+)$", said.err, re.MULTILINE)
    assert fix and shlex.split(fix[1]) == [
        *("verify", str(page), "--rerun", "3", "--experiment", str(source))
    ]
    said = bench(*shlex.split(fix[1]))
    assert said.status == 0 and "all equal" in said.out


def test_an_arm_is_no_seed_to_train_again(report: Path, bench: Bench):
    said = bench("verify", report / "report.html", "--rerun", "3:weak")
    assert said.status == 2 and "--rerun 3:weak is no seed." in said.err
    assert "Every arm of it is trained again." in said.err
    assert re.search(r"fix: bench verify \S+ --rerun 3\n", said.err)
