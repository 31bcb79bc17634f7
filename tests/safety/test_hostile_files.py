"""Hostile files: nothing in a file that bench reads is ever run or written outside its folder."""

import ast
import json
import pickle
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from bench import cli
from bench.store import artifacts, spool

ROOT = Path(__file__).parents[2]


PRODUCT = [
    path
    for package in ("analysis", "bench", "experiments")
    for path in sorted((ROOT / package).rglob("*.py"))
]
OPENERS = ("marshal", "shelve", "dill", "joblib.load", "torch.jit.load", "read_pickle", "Unpickler")


def calls() -> Iterator[tuple[Path, str, ast.Call]]:
    """Yield every call in the product: file, what is called, the call."""
    for path in PRODUCT:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                yield path.relative_to(ROOT), ast.unparse(node.func), node


def test_the_product_reads_no_pickle_and_unpacks_no_archive():
    unpacking = ("extractall", "extract", "unpack_archive", "loads")
    wrong = []
    for path, name, call in calls():
        named = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        last = name.rpartition(".")[2]
        if name in ("np.load", "np.savez", "np.save") and named.get("allow_pickle") != "False":
            wrong.append((str(path), ast.unparse(call)))
        if name == "torch.load" and named.get("weights_only") != "True":
            wrong.append((str(path), ast.unparse(call)))
        if last in unpacking and not name.startswith(("json.", "tomllib.")):
            wrong.append((str(path), name))
        if name in ("eval", "exec", "pickle.load"):
            wrong.append((str(path), name))
    assert not wrong


def mentioned(tree: ast.AST) -> Iterator[str]:
    """Yield every name that a file imports or uses, in full."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, (ast.Name, ast.Attribute)):
            yield ast.unparse(node)


def opens_pickles(name: str) -> bool:
    return any(f".{opener}." in f".{name}." for opener in OPENERS)


def test_nothing_that_could_read_a_pickle_is_mentioned_but_by_the_reader_of_cifar10():
    """Its own class knows numbers, texts and arrays of bytes; see tests/experiments."""
    found = {
        (str(path.relative_to(ROOT)), name)
        for path in PRODUCT
        for name in mentioned(ast.parse(path.read_text("utf-8")))
        if opens_pickles(name)
    }
    assert found == {("experiments/data/cifar_pickles.py", "pickle.Unpickler")}


@pytest.mark.parametrize(
    "line",
    [
        "import marshal",
        "from pickle import Unpickler",
        "from joblib import load",
        "torch.jit.load(x)",
        "pandas.read_pickle(x)",
        "f = pd.read_pickle",
        "import dill as d",
        "from shelve import open",
    ],
)
def test_the_search_for_readers_of_pickles_finds_them(line: str):
    assert any(map(opens_pickles, mentioned(ast.parse(line))))


@pytest.fixture
def store(
    tmp_path: Path, write_tiny: Callable[..., Path], copy_store: Callable[[Path], str]
) -> tuple[str, Path]:
    """Return a store with two runs, and the predictions of the first."""
    uri = copy_store(tmp_path / "store")
    words = ["run", str(write_tiny(tmp_path)), "--seeds", "1", "--workers", "1", "--store", uri]
    assert cli._run([*words, "--no-report", "-q"]) == 0
    return uri, min((tmp_path / "store").glob("artifacts/*/*/artifacts/predictions.npz"))


def reseal(uri: str, path: Path) -> None:
    """Make the record fit a file that was put in place of another, as its author could."""
    run_id = path.parent.parent.name
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as connection, connection:
        rows = connection.execute("select key, value from tags where run_uuid = ?", (run_id,))
        tags = dict(rows.fetchall())
        digests = json.loads(tags[spool.DIGESTS])
        tags[spool.DIGESTS] = json.dumps({**digests, path.name: artifacts.sha256(path)})
        tags[spool.SEAL] = spool.seal(tags["bench.trial"], tags)
        for key in (spool.DIGESTS, spool.SEAL):
            connection.execute(
                "update tags set value = ? where run_uuid = ? and key = ?",
                (tags[key], run_id, key),
            )


def object_array(evil: Any) -> bytes:
    buffer = BytesIO()
    np.savez(buffer, test_labels=np.array([evil], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def bare_pickle(evil: Any) -> bytes:
    return pickle.dumps(evil)


def pickle_in_the_zip(evil: Any) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("test_labels.npy", pickle.dumps(evil))
        archive.writestr("../../escaped.npy", b"x")
    return buffer.getvalue()


@pytest.mark.parametrize("make", [object_array, bare_pickle, pickle_in_the_zip])
def test_predictions_with_a_pickle_in_them_are_refused_even_where_the_record_fits_them(
    make: Callable[[Any], bytes], store: tuple[str, Path], evil: Any, answer: Any, tmp_path: Path
):
    uri, path = store
    path.unlink()  # another name of it may be in use
    path.write_bytes(make(evil))
    reseal(uri, path)
    said = answer(["report", "tiny", "--store", uri])
    assert said.status == 5 and "error[predictions]: the stored predictions of" in said.err
    assert "cannot be read" in said.err and not list(tmp_path.rglob("escaped*"))


def test_a_parquet_table_that_names_a_pickled_type_is_only_a_table(
    tmp_path: Path, evil: Any, answer: Any
):
    """What arrow once unpickled when it met it in a file's schema (CVE-2023-47248)."""
    metadata = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(evil),
    }
    numbers = pa.array(np.arange(8.0))
    schema = pa.schema([pa.field("a", numbers.type, metadata=metadata), ("b", numbers.type)])
    path = tmp_path / "r.parquet"
    parquet.write_table(pa.table([numbers, pa.array(np.arange(8.0) ** 2)], schema=schema), path)
    words = ["--baseline", "a", "--treatment", "b", "--pair", "row", "--json"]
    said = answer(["compare", str(path), *words])
    assert said.status == 0 and json.loads(said.out)["comparisons"][0]["n_pairs"] == 8


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl", "pkl"])
def test_a_pickle_in_place_of_a_table_is_refused(kind: str, tmp_path: Path, evil: Any, answer: Any):
    path = tmp_path / f"r.{kind}"
    path.write_bytes(pickle.dumps(evil))
    said = answer(["compare", str(path), "--baseline", "a", "--treatment", "b"])
    assert said.status == 5 and "error[scores]" in said.err


def test_weights_with_a_pickle_in_them_are_refused(
    tmp_path: Path, evil: Any, answer: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BENCH_OFFLINE", "1")
    path = tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps({"conv1.weight": evil}))
    _images(tmp_path / "data")
    words = ["run", "cifar10", "--data", str(tmp_path / "data"), "--set", f"weights={path}"]
    words += ["--set", "train_per_class=1", "--set", "validation_per_class=1"]
    said = answer([*words, "--store", f"sqlite:///{tmp_path}/new.db", "--workers", "1"])
    assert said.status == 4 and "nothing in it was run" in said.err


def _images(folder: Path) -> None:
    from PIL import Image

    for split in ("train", "test"):
        for label in ("cat", "dog"):
            (folder / split / label).mkdir(parents=True)
            for name in ("1.png", "2.png"):
                Image.new("RGB", (8, 8)).save(folder / split / label / name)


def test_an_archive_writes_nothing_outside_its_folder_nor_inside(
    tmp_path: Path, evil: Any, answer: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BENCH_OFFLINE", "1")
    folder = tmp_path / "data"
    folder.mkdir()
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        for name in ("../escaped", "/tmp/escaped-bench", "cifar-10-batches-py/data_batch_1"):
            member = tarfile.TarInfo(name)
            content = pickle.dumps(evil)
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
        link = tarfile.TarInfo("cifar-10-batches-py/data_batch_2")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    words = ["run", "cifar10", "--data", str(folder), "--set", "weights=none"]
    said = answer([*words, "--store", f"sqlite:///{tmp_path}/new.db", "--workers", "1"])
    assert said.status == 4 and "error[dataset]" in said.err
    assert [path.name for path in folder.iterdir()] == ["cifar-10-python.tar.gz"]
    assert not (tmp_path / "escaped").exists() and not Path("/tmp/escaped-bench").exists()
