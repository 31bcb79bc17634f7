"""Damage: what was changed after it was recorded is found by its digest, named, never used."""

import json
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and looks at /proc")


@pytest.fixture(scope="module")
def whole(
    zygote: Any,
    experiment: Path,
    copy_store: Callable[[Path], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Return the folder of a store with twelve finished runs."""
    folder = tmp_path_factory.mktemp("whole") / "store"
    uri = copy_store(folder)
    words = ("run", experiment, "--seeds", 6, "--workers", 2, "--store", uri, "--no-report")
    command = zygote.start(*words, TRAINED=folder.parent / "trained.txt")
    assert command.wait() == 0, command.err
    return folder


@pytest.fixture
def damaged(
    whole: Path, tmp_path: Path, experiment: Path, zygote: Any, on: Callable[..., Any]
) -> Any:
    """Return a copy of that store, to be damaged."""
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    found = on()
    found.folder, found.uri = folder, f"sqlite:///{folder / 'mlflow.db'}"
    return found


def runs(bench: Any) -> dict[str, Any]:
    """Return the one run of every trial, as MLflow knows it."""
    from bench.store.mlflow_store import Store

    store = Store(bench.uri)
    found = store.children(store.benchmark("tiny"))
    return {f"{key.seed}:{key.arm}": children[-1].run for key, children in found.items()}


def predictions(bench: Any, trial: str) -> Path:
    return Path(runs(bench)[trial].artifact_uri.removeprefix("file://")) / "predictions.npz"


def client(bench: Any) -> Any:
    from bench.store.mlflow_store import Store

    return Store(bench.uri).client


def mended(bench: Any, *words: object) -> Any:
    """Run the command that the refusal named; return its report's numbers."""
    command = bench.run(*words)
    assert command.status == 0, command.err
    return bench.numbers()


# -- predictions -------------------------------------------------------------------------------


def truncate(bench: Any) -> list[str]:
    path = predictions(bench, "1:strong")
    path.write_bytes(path.read_bytes()[:100])
    return ["1:strong"]


def flip_a_bit(bench: Any) -> list[str]:
    path = predictions(bench, "0:weak")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return ["0:weak"]


def swap(bench: Any) -> list[str]:
    one, other = predictions(bench, "2:weak"), predictions(bench, "2:strong")
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    return ["2:strong", "2:weak"]


def remove(bench: Any) -> list[str]:
    predictions(bench, "5:weak").unlink()
    return ["5:weak"]


def edit_a_tag(bench: Any) -> list[str]:
    run = runs(bench)["3:strong"]
    client(bench).set_tag(run.run_id, "bench.device", "cuda:0")
    return ["3:strong"]


def edit_the_digest(bench: Any) -> list[str]:
    run = runs(bench)["3:weak"]
    client(bench).set_tag(run.run_id, "bench.sha256", "{}")
    return ["3:weak"]


def delete_the_run(bench: Any) -> list[str]:
    client(bench).delete_run(runs(bench)["4:strong"].run_id)
    return ["4:strong"]


DAMAGES: dict[str, Callable[[Any], list[str]]] = {
    "predictions truncated": truncate,
    "predictions: one bit flipped": flip_a_bit,
    "predictions of two runs swapped": swap,
    "predictions removed": remove,
    "run edited in MLflow": edit_a_tag,
    "digest edited in MLflow": edit_the_digest,
    "run deleted in MLflow": delete_the_run,
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_run_that_was_changed_is_named_and_never_used(
    name: str, damaged: Any, bench: Callable[..., Any], fault: Any
):
    with fault(name):
        refused_and_named(DAMAGES[name](damaged), damaged, bench)


@pytest.mark.thorough
def test_redo_mends_all_that_was_changed(
    damaged: Any, bench: Callable[..., Any], undisturbed: Any, fault: Any
):
    name = "all of these at once, then --redo"
    with fault(name):
        trials = [trial for damage in DAMAGES.values() for trial in damage(damaged)]
        refused_and_named(trials, damaged, bench)
        redo = [word for trial in trials for word in ("--redo", trial)]
        fault.right(name, mended(damaged, *redo), undisturbed)
        assert damaged.trained() == len(trials)


def refused_and_named(trials: list[str], damaged: Any, bench: Callable[..., Any]) -> None:
    said = bench("report", "tiny", "--store", damaged.uri)
    assert said.status == 5 and said.out == "", said.err
    assert "Traceback" not in said.err and said.err.startswith("error[predictions]: ")
    for trial in trials:
        seed, arm = trial.split(":")
        assert f"seed 0{seed}, {arm}," in said.err and f"--redo {trial}" in said.err


@pytest.mark.thorough
def test_a_benchmark_that_was_deleted_in_mlflow_is_not_begun_again_without_a_word(
    damaged: Any, undisturbed: Any, fault: Any
):
    from bench.store.mlflow_store import Store

    name = "benchmark deleted in MLflow"
    with fault(name):
        store = Store(damaged.uri)
        parent = store.benchmark("tiny").run_id
        store.client.delete_run(parent)
        command = damaged.run()
        assert command.status == 0, command.err
        said = " ".join(command.err.split())
        assert "with this plan was deleted in MLflow, so this one begins anew" in said
        fault.right(name, damaged.numbers(), undisturbed)
        store.client.restore_run(parent)
        assert len(store.benchmarks("tiny")) == 2


# -- plan and provenance -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plan", "provenance"])
def test_a_record_of_the_benchmark_that_was_changed_is_refused(
    kind: str, damaged: Any, bench: Callable[..., Any], fault: Any
):
    with fault(f"{kind} edited"):
        (path,) = damaged.folder.glob(f"artifacts/*/*/artifacts/{kind}/0001.json")
        before = path.read_text()
        path.write_text(before.replace('"tiny"', '"tony"').replace('"threads": 1', '"threads": 8'))
        said = bench("report", "tiny", "--store", damaged.uri)
        assert said.status == 5 and "Traceback" not in said.err, said.err
        assert f"error[predictions]: the stored {kind} files of tiny " in said.err
        assert f"fix: restore {kind}/0001.json of MLflow run " in said.err
        path.write_text(before)
        assert bench("report", "tiny", "--store", damaged.uri).status == 0


# -- the database ------------------------------------------------------------------------------


def text(path: Path) -> None:
    path.write_text("three years of work\n" * 100)


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeros(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 : len(content) - 4096] = bytes(len(content) - 8192)
    path.write_bytes(content)


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table thesis (chapter text)")
        connection.execute("insert into thesis values ('one')")


@pytest.mark.parametrize("spoil", [text, half, zeros, foreign])
@pytest.mark.parametrize("command", ["report", "run"])
def test_a_database_that_is_not_one_of_ours_is_refused_and_left_as_it_is(
    spoil: Callable[[Path], None],
    command: str,
    damaged: Any,
    experiment: Path,
    bench: Callable[..., Any],
    fault: Any,
):
    with fault(f"database: {spoil.__name__}"):
        path = damaged.folder / "mlflow.db"
        spoil(path)
        before = path.read_bytes()
        words = ("report", "tiny") if command == "report" else ("run", experiment, "--seeds", 6)
        said = bench(*words, "--store", damaged.uri)
        assert said.status == 4 and said.err.count("error[store]: ") == 1, said.err
        assert "Traceback" not in said.err and path.read_bytes() == before


# -- a store that lies elsewhere ---------------------------------------------------------------


@pytest.mark.thorough
def test_a_store_that_was_moved_works_where_it_is_and_mlflow_finds_its_files(
    damaged: Any, whole: Path, bench: Callable[..., Any], undisturbed: Any, fault: Any
):
    name = "store moved to another folder"
    with fault(name):
        elsewhere = damaged.folder.parent / "else where" / "mlruns"
        elsewhere.parent.mkdir()
        shutil.move(damaged.folder, elsewhere)
        damaged.folder, damaged.uri = elsewhere, f"sqlite:///{elsewhere / 'mlflow.db'}"
        said = bench("report", "tiny", "--store", damaged.uri)
        assert said.status == 0 and f"The store was moved here from {whole}" in said.err, said.err
        fault.right(name, damaged.numbers(), undisturbed)
        assert bench("report", "tiny", "--store", damaged.uri).err == ""  # said once
        more = damaged.run(seeds=7)
        assert more.status == 0 and damaged.told([more]).total() == 2, more.err
        for run in runs(damaged).values():
            kept = {f.path for f in client(damaged).list_artifacts(run.run_id)}
            assert kept == {"epochs.parquet", "outcome.json", "predictions.npz"}
            assert f"{elsewhere.as_uri()}/artifacts/" in run.artifact_uri
    (original,) = whole.glob("artifacts/*/*/artifacts/plan")
    assert [path.name for path in original.iterdir()] == ["0001.json"]  # the copy left it alone


def test_a_store_without_its_artifacts_says_what_is_missing(
    damaged: Any, bench: Callable[..., Any], fault: Any
):
    with fault("artifacts left behind in a move"):
        shutil.rmtree(damaged.folder / "artifacts")
        with closing(sqlite3.connect(damaged.folder / "mlflow.db")) as connection, connection:
            query = "update runs set artifact_uri = replace(artifact_uri, 'whole', 'gone')"
            connection.execute(query)
        said = bench("report", "tiny", "--store", damaged.uri)
        assert said.status == 5 and "Traceback" not in said.err
        assert "error[predictions]: the stored plan files of tiny" in said.err
        assert "are missing" in said.err


@pytest.mark.thorough
def test_results_that_a_killed_command_left_half_written_are_not_used(
    damaged: Any, undisturbed: Any, fault: Any
):
    """What the disk had not taken whole before a loss of power is trained again."""
    from bench.store.mlflow_store import Store

    name = "result half written before a power cut"
    with fault(name):
        store = Store(damaged.uri)
        place = store.pending_of(store.benchmark("tiny").benchmark_id)
        for entry, content in (("1-0-weak", "{"), ("2-1-weak", json.dumps({"key": {}}))):
            (place / entry / "files").mkdir(parents=True)
            (place / entry / "entry.json").write_text(content)
        (place / ".part-x").mkdir()
        fault.right(name, mended(damaged), undisturbed)
        assert not place.exists() or not list(place.iterdir())
