"""Store paths: a store lies in the very file that was named, and nothing lies beside it."""

import contextlib
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from bench.design.plan import Plan
from bench.reports.formats import replace_bytes
from bench.store.address import StoreTrouble, address
from bench.store.mlflow_store import Store
from bench.store.private import make_folder
from bench.store.sqlite import mlflow_uri
from bench.store.writer import recording

BENCH = Path(sys.executable).with_name("bench")
NAMES = ("a%41b", "q?mode=ro", "it's", "ha#sh", "sp ace", "Größe", "a%2Fb", "100%", "~", 'quo"te',
         "new\nline", "back\\slash", "{x}", "plus+&;=")  # fmt: skip


def begin(uri: str) -> Store:
    """Write a benchmark, which takes MLflow, SQLite and files."""
    store = Store(uri)
    plan = Plan(
        experiment="planned", question="?", arms={"a": {"x": 0}, "b": {"x": 1}}, source_digest="s",
        data={}, batches=((0,),),
    )  # fmt: skip
    with store.lock(plan), recording(store, plan, provenance={"at": "x"}, source={"a.py": "x = 1"}):
        pass
    return store


@pytest.mark.parametrize("name", NAMES)
def test_everything_lies_below_the_folder_that_was_named_and_is_found_again(
    name: str, tmp_path: Path, copy_store: Callable[[Path], str], answer: Any
):
    top = tmp_path / "top"
    uri = copy_store(top / name)
    begin(uri)
    store = Store(uri)
    assert store.benchmark().name == "planned"
    assert store.provenance(store.benchmark()) == [{"at": "x"}]
    said = answer(["status", "--store", uri])
    assert said.status == 0 and "planned" in said.out
    assert [path.name for path in top.iterdir()] == [name]
    assert (top / name / "artifacts").is_dir()


def test_a_store_that_is_made_is_the_file_that_was_named_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = "it's a%41b?mode=ro&cache=shared#1.db"
    (tmp_path / "t%41mp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t%41mp"))
    folder = tmp_path / "top"
    begin(f"sqlite:///{folder / name}")
    made = {path.name for path in folder.iterdir()}
    assert made - {f"{name}-wal", f"{name}-shm"} == {name, "artifacts", "locks"}
    assert (folder / name).stat().st_size > 100_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t%41mp", "top"]


@pytest.mark.parametrize("name", ["m.db", "a%41.db", "a?b=c.db", "%", "a%25.db"])
def test_what_mlflow_is_given_means_the_file_that_was_named(name: str):
    url = make_url(mlflow_uri(f"sqlite:////x/{name}"))
    assert url.database == f"/x/{name}" and not url.query
    assert mlflow_uri("http://host:5000/%41") == "http://host:5000/%41"


@pytest.mark.parametrize(
    "uri", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite+pysqlite:///x"]
)
def test_a_store_without_a_file_is_refused_with_one_that_works(
    uri: str, tmp_path: Path, answer: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    said = answer(["status", "--store", uri])
    assert said.status == 4 and "names no file" in said.err
    assert "fix: bench status --store sqlite:///mlruns/mlflow.db\n" in said.err
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert "fix: bench status --store sqlite:///mlruns/mlflow.db\n" in answer(["status"]).err


ODD = b"od\xffd"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have names in UTF-8 alone")
def test_in_a_folder_that_is_no_utf8_a_store_elsewhere_works_and_one_there_is_refused(
    tmp_path: Path, copy_store: Callable[[Path], str]
):
    folder = os.fsencode(tmp_path) + b"/" + ODD
    os.mkdir(folder)
    table = b"seed,a,b\n" + b"".join(b"%d,%d,%d\n" % (i, i % 3, i % 4) for i in range(8))
    with open(folder + b"/" + ODD + b".csv", "wb") as handle:
        handle.write(table)

    def run(*words: bytes | str) -> "subprocess.CompletedProcess[bytes]":
        done = subprocess.run([BENCH, *words], cwd=folder, capture_output=True)
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        return done

    done = run("status", "--store", copy_store(tmp_path / "store"))
    assert (done.returncode, done.stderr) == (0, b"")
    done = run("report")
    assert done.returncode == 4 and b"its name is no UTF-8" in done.stderr
    assert b"fix: bench report --store sqlite:////" in done.stderr
    done = run("report", "--json")
    assert done.returncode == 4 and b"no UTF-8" in done.stdout
    words = ("--baseline", "a", "--treatment", "b", "--out")
    for more in (["--json"], []):
        done = run("compare", ODD + b".csv", *words, ODD, *more)
        assert done.returncode == 0, done.stderr
    done = run("verify", ODD + b"/report.html")
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(folder)) == [ODD, ODD + b".csv"]


def test_a_home_that_is_read_only_is_no_obstacle(tmp_path: Path, copy_store: Callable[[Path], str]):
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    uri = copy_store(tmp_path / "store")
    environment = {**os.environ, "HOME": str(home) if os.getuid() else "/proc/self/nowhere"}
    environment.pop("BENCH_CACHE", None)
    for words in (["status"], ["doctor", "--help"], ["report", "x"]):
        done = subprocess.run(
            [BENCH, *words, "--store", uri] if words[1:] != ["--help"] else [BENCH, *words],
            env=environment, cwd=tmp_path, capture_output=True,
        )  # fmt: skip
        assert done.returncode in (0, 2) and b"Traceback" not in done.stderr, done.stderr.decode()
    assert not list(home.iterdir())


def test_the_address_of_a_home_that_nobody_has_is_a_folder_like_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert address("sqlite:///~nobody-of-that-name/x.db").endswith("/~nobody-of-that-name/x.db")
    with pytest.raises(StoreTrouble, match="no UTF-8"):
        address("sqlite:///od\udcffd.db")


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755])
def test_no_file_of_a_store_is_open_to_whom_its_folder_keeps_out(
    mode: int, tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
):
    def made_fast(uri: str) -> None:
        shutil.copyfile(empty_database, uri.removeprefix("sqlite:///"))

    monkeypatch.setattr("bench.store.mlflow_reader._make_tables", made_fast)
    before = os.umask(0o022)
    try:
        folder = tmp_path / "store"
        folder.mkdir()
        folder.chmod(mode)
        begin(f"sqlite:///{folder / 'mlflow.db'}")
        replace_bytes(folder / "reports" / "planned" / "report.html", b"x")
    finally:
        os.umask(before)
    made = list(folder.rglob("*"))
    assert {"mlflow.db", "mlflow.db-wal", "0001.json", "report.html"} <= {p.name for p in made}
    for path in made:
        if "locks" not in path.parts:
            assert stat.S_IMODE(path.stat().st_mode) & ~mode & 0o777 == 0, path
    if mode == 0o755:
        assert stat.S_IMODE((folder / "mlflow.db").stat().st_mode) == 0o644


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_a_folder_that_is_made_is_as_private_as_the_one_it_lies_in(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(0o750)
    with contextlib.ExitStack() as stack:
        stack.callback(os.umask, os.umask(0o022))
        make_folder(tmp_path / "a" / "b" / "c")
        make_folder(tmp_path / "a" / "b" / "c")  # and again is harmless
    assert stat.S_IMODE((tmp_path / "a" / "b" / "c").stat().st_mode) == 0o750
