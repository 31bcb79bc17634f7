"""Resume: more seeds and failed runs, end to end; what is killed is in tests/faults."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

SEEDS = ("--seeds", "6")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory, write_tiny: Callable[..., Path]) -> Path:
    return write_tiny(tmp_path_factory.mktemp("mine"))


def lines(err: str, what: str) -> list[str]:
    return [line for line in err.splitlines() if f" {what} " in line]


def digests(uri: str) -> dict[str, str]:
    """Return the SHA-256 of every finished trial's predictions; none has two finished runs."""
    from bench.store.mlflow_store import Store

    store = Store(uri)
    found = {}
    for key, runs in store.children(store.benchmark("tiny")).items():
        finished = [child for child in runs if child.status == "FINISHED"]
        assert len(finished) <= 1
        for child in finished:
            files = json.loads(child.run.tags["bench.sha256"])
            found[key.run_name] = files["predictions.npz"]
    return found


@pytest.fixture(scope="module")
def trained(
    experiment: Path,
    tmp_path_factory: pytest.TempPathFactory,
    copy_store: Callable[[Path], str],
) -> str:
    """Return a store in which one worker trained everything at one go."""
    from bench.cli import _run

    uri = copy_store(tmp_path_factory.mktemp("one"))
    words = ["run", str(experiment), *SEEDS, "--store", uri, "--workers", "1", "--no-report", "-q"]
    assert _run(words) == 0
    return uri


def test_more_seeds_train_only_the_new_pairs(
    experiment: Path, trained: str, bench: Callable[..., Any]
):
    words = ("--store", trained, "--workers", "2", "--no-report")
    before = digests(trained)
    more = bench("run", experiment, "--seeds", "0-6", *words)
    assert more.status == 0, more.err
    assert sorted(line.split()[3] for line in lines(more.err, "run done")) == ["seed=6"] * 2
    assert before.items() < digests(trained).items()
    less = bench("run", experiment, "--seeds", "2", *words)
    assert less.status == 0 and lines(less.err, "run done") == []


def test_after_max_hours_nothing_new_is_started_and_the_same_command_goes_on(
    tmp_path: Path,
    write_tiny: Callable[..., Path],
    copy_store: Callable[[Path], str],
    bench: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
):
    """On a clock by which every training takes an hour."""
    marks = tmp_path / "trained"
    marks.mkdir()
    body = f"open({str(marks)!r} + f'/{{trial.arm}}-{{trial.seed}}', 'x').close()"
    clock, hours = time.monotonic, marks.iterdir
    slow = SimpleNamespace(monotonic=lambda: clock() + 3600 * len(list(hours())))
    monkeypatch.setattr("bench.execution.runner.time", slow)
    words = ("run", write_tiny(tmp_path, body), "--seeds", "3", "--store")
    words = (*words, copy_store(tmp_path / "store"), "--workers", "1", "--max-hours", "2.5")

    first = bench(*words)
    assert first.status == 3 and first.out == ""  # the verdict waits for what was planned
    assert len(lines(first.err, "run done")) == len(list(hours())) == 3
    assert first.err.count("the time of --max-hours is up: runs in training are finished") == 1
    assert first.err.endswith(
        "error[incomplete]: the time of --max-hours is up; 3 runs are left.\n"
        "  Everything that had finished is recorded; nothing was cut short.\n"
        f"  fix: bench {' '.join(map(str, words))}\n"
    )
    last = bench(*words, "--json", "--max-hours", "99")
    assert last.status == 0, last.err
    assert len(lines(last.err, "run done")) == 0 and len(list(hours())) == 6  # --json is quiet
    assert last.json["comparisons"][0]["n_pairs"] == 3


# -- trainings that fail ---------------------------------------------------------------------

TROUBLE = """
if trial.arm == "strong" and trial.seed == 1:
    trial.log(0, {{"train/loss": 0.902, "lr": 0.1}})
    {body}
"""


def test_a_training_that_raises_leaves_what_was_finished_and_is_resumable(
    tmp_path: Path,
    write_tiny: Callable[..., Path],
    copy_store: Callable[[Path], str],
    bench: Callable[..., Any],
):
    body = 'if not os.path.exists(MEND): raise ValueError("no such layer")'
    text = TROUBLE.format(body=body.replace("MEND", repr(str(tmp_path / "mended"))))
    path, uri = write_tiny(tmp_path, text), copy_store(tmp_path / "store")
    words = ("run", path, "--seeds", "3", "--store", uri, "--workers", "2", "--no-report")

    failed = bench(*words)
    assert failed.status == 3
    assert "run failed seed=1 arm=strong error[training] ValueError: no such layer" in failed.err
    source = Path(words[1])
    [line] = [text for text in source.read_text().splitlines() if "no such layer" in text]
    number = source.read_text().splitlines().index(line) + 1
    assert failed.err.endswith(
        "error[training]: seed 01, strong: ValueError: no such layer\n"
        f"  In {source.name}, line {number}: {line.strip()}\n"
        "  The run is kept as failed and counts in the report.\n"
        f"  fix: mend the cause, then bench {' '.join(map(str, words))}\n"
    )
    assert len(digests(uri)) == 5 and "Traceback" not in failed.err
    shown = bench("status", "tiny", "--store", uri, "--json")
    assert (shown.json["pairs_finished"], shown.json["pairs_failed"]) == (2, 1)

    (tmp_path / "mended").touch()
    mended = bench(*words, "--json")
    assert mended.status == 0, mended.err
    assert mended.json["trained"] == 1 and mended.json["experiment"] == "tiny"
    assert len(digests(uri)) == 6


def test_a_loss_that_is_no_number_ends_with_3_however_often_it_is_asked(
    tmp_path: Path,
    write_tiny: Callable[..., Path],
    copy_store: Callable[[Path], str],
    bench: Callable[..., Any],
):
    text = TROUBLE.format(body='trial.log(12, {"train/loss": float("nan")})')
    path, uri = write_tiny(tmp_path, text), copy_store(tmp_path / "store")
    words = ("run", path, "--seeds", "4", "--store", uri, "--workers", "2", "--json")

    first = bench(*words)
    assert first.status == 3
    error = first.json["error"]  # one object, although a report could be written
    assert error["code"] == "nan" and "train/loss became nan at epoch 12." in error["message"]
    assert "Last finite loss 0.902 at epoch 0, learning rate 0.1." in error["message"]
    assert error["fix"].startswith("change the experiment in both arms, then bench run ")
    assert error["fix"].endswith(" --fresh")
    assert (tmp_path / "store" / "reports" / "tiny" / "results.json").is_file()
    assert len(digests(uri)) == 7

    second = bench(*words)
    assert second.status == 3 and second.json["error"]["code"] == "nan"
    assert "seed 01, strong, diverged when it was trained" in second.json["error"]["message"]
    redone = bench(*words, "--redo", "1:strong", "--no-report")
    assert redone.status == 3 and "became nan" in redone.json["error"]["message"]


def test_when_every_training_fails_the_failure_is_shown_and_not_an_empty_report(
    tmp_path: Path,
    write_tiny: Callable[..., Path],
    copy_store: Callable[[Path], str],
    bench: Callable[..., Any],
):
    path = write_tiny(tmp_path, 'raise RuntimeError("always")')
    words = ("--seeds", "2", "--store", copy_store(tmp_path / "store"), "--workers", "1")
    said = bench("run", path, *words, "--keep-going")
    assert said.status == 3 and said.out == ""
    assert "error[training]: seed 00, weak: RuntimeError: always" in said.err
    assert "3 more runs failed." in said.err
    line = path.read_text().splitlines().index('    raise RuntimeError("always")') + 1
    assert f'  In {path.name}, line {line}: raise RuntimeError("always")\n' in said.err
    assert "Traceback" not in said.err
    loud = bench("run", path, *words, "-v")
    shown = loud.err.partition("In the training:\n")[2]
    assert shown.startswith("Traceback") and f'{path.name}", line {line}, in train' in shown


def test_the_second_equal_failure_ends_the_run_where_nothing_of_its_arm_has_succeeded(
    tmp_path: Path,
    write_tiny: Callable[..., Path],
    copy_store: Callable[[Path], str],
    bench: Callable[..., Any],
):
    path = write_tiny(tmp_path, 'if trial.arm == "strong": raise RuntimeError("always")')
    words = ("--seeds", "4", "--store", copy_store(tmp_path / "store"), "--workers", "1")
    said = bench("run", path, *words, "--no-report")
    assert said.status == 3 and said.out == ""
    assert len(lines(said.err, "run done")) == 2 and len(lines(said.err, "run failed")) == 2
    assert "error[training]: seed 01, strong: RuntimeError: always" in said.err
    told = " ".join(said.err.split())
    assert (
        "1 more run failed. It failed so twice, and no training of strong has succeeded: nothing "
        "more was started; 4 runs are left. --keep-going trains on." in told
    )
    gone_on = bench("run", path, *words, "--no-report", "--keep-going", "--json")
    assert gone_on.status == 3 and gone_on.json["error"]["code"] == "training"
    assert "3 more runs failed." in gone_on.json["error"]["message"]


def test_an_edit_while_it_trains_ends_it_and_undone_it_goes_on(
    tmp_path: Path,
    write_tiny: Callable[..., Path],
    copy_store: Callable[[Path], str],
    bench: Callable[..., Any],
):
    body = 'if trial.seed == 2:\n    open(__file__, "a").write("# edited\\n")'
    path, uri = write_tiny(tmp_path, body), copy_store(tmp_path / "store")
    before = path.read_text()
    words = ("run", path, "--seeds", "9", "--store", uri, "--workers", "1", "--no-report")

    said = bench(*words)
    assert said.status == 3 and said.err.count("run failed") == 1
    assert f": {path.name} changed while the benchmark trained.\n" in said.err
    assert "Nothing that had finished is lost" in said.err
    assert "Nothing more was started; 12 runs are left." in said.err
    assert said.err.endswith(f"fix: undo the change, then bench {' '.join(map(str, words))}\n")

    path.write_text(before)
    again = bench(*words)
    assert again.status == 3 and "run done seed=2 arm=strong" in again.err
    assert "run done seed=1" not in again.err
