"""Planted: what lies in the current folder, or was linked into the store, is never followed."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.design.plan import digest
from bench.store import spool
from bench.store.mlflow_ui import served

BENCH = Path(sys.executable).with_name("bench")
MODULES = ("mlflow", "queue", "torch", "uvicorn", "gunicorn", "fastapi", "flask", "numpy", "json",
           "bench", "analysis", "sqlalchemy", "selectors", "pandas")  # fmt: skip


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """Return a folder of modules that say so when they are imported."""
    folder = tmp_path / "planted"
    folder.mkdir()
    for name in MODULES:
        text = f"open({str(tmp_path / 'imported')!r}, 'a').write({name!r} + chr(10))\n"
        (folder / f"{name}.py").write_text(f"{text}raise SystemExit\n")
    return folder


def imported(tmp_path: Path) -> list[str]:
    path = tmp_path / "imported"
    return path.read_text().split() if path.exists() else []


def test_the_ui_imports_nothing_from_the_current_folder(
    planted: Path, tmp_path: Path, copy_store: Callable[[Path], str],
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.chdir(planted)
    uri = copy_store(tmp_path / "store")
    with served(uri, 0) as address:
        assert address.startswith("http://127.0.0.1:")
    assert imported(tmp_path) == []
    assert {path.suffix for path in planted.iterdir()} == {".py"}  # nor is anything left there


def test_no_command_imports_from_the_current_folder(
    planted: Path, tmp_path: Path, copy_store: Callable[[Path], str],
    write_tiny: Callable[..., Path],
):  # fmt: skip
    (tmp_path / "mine").mkdir()
    path, uri = write_tiny(tmp_path / "mine"), copy_store(tmp_path / "store")
    table = tmp_path / "r.csv"
    table.write_text("seed,a,b\n" + "".join(f"{i},{i % 3},{i % 4}\n" for i in range(8)))
    for words in (["run", str(path), "--seeds", "2", "--workers", "1", "--store", uri, "-q"],
                  ["compare", str(table), "--baseline", "a", "--treatment", "b"],
                  ["verify", str(tmp_path / "store" / "reports" / "tiny" / "report.html")],
                  ["status", "--store", uri]):  # fmt: skip
        done = subprocess.run([BENCH, *words], cwd=planted, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert imported(tmp_path) == []


def test_every_python_that_is_started_is_told_not_to_look_in_the_current_folder():
    root = Path(__file__).parents[2]
    for path in (root / "bench").rglob("*.py"):
        for line in path.read_text("utf-8").splitlines():
            if "sys.executable" in line and "[" in line or "(sys.executable" in line:
                assert 'sys.executable, "-P"' in line, (path.name, line)


# -- the folder of pending results ---------------------------------------------------------------


def entry(place: Path, name: str) -> Path:
    """Write a pending result that is whole."""
    plain = {
        "parent": "p", "trial": "t", "key": {"arm": "a", "seed": 1}, "attempt": 1,
        "status": "FINISHED", "scores": {}, "epochs": [], "ended_at": 0.0,
        "tags": {spool.DIGESTS: "{}"},
    }  # fmt: skip
    folder = place / name
    (folder / spool.FILES).mkdir(parents=True)
    text = spool.json.dumps({"sha256": digest(plain), "entry": plain})
    (folder / spool.ENTRY).write_text(text)
    return folder


def link_itself(folder: Path, elsewhere: Path) -> None:
    os.rename(folder, elsewhere)
    folder.symlink_to(elsewhere)


def link_its_record(folder: Path, elsewhere: Path) -> None:
    os.rename(folder / spool.ENTRY, elsewhere)
    (folder / spool.ENTRY).symlink_to(elsewhere)


def link_its_files(folder: Path, elsewhere: Path) -> None:
    os.rename(folder / spool.FILES, elsewhere)
    (folder / spool.FILES).symlink_to(elsewhere)


def link_a_file(folder: Path, elsewhere: Path) -> None:
    elsewhere.write_text("s3cret")
    (folder / spool.FILES / "log.txt").symlink_to(elsewhere)


def put_a_pipe(folder: Path, elsewhere: Path) -> None:
    (folder / spool.ENTRY).unlink()
    os.mkfifo(folder / spool.ENTRY)


def link_to_nowhere(folder: Path, elsewhere: Path) -> None:
    (folder / spool.FILES / "x").symlink_to(elsewhere)


@pytest.mark.skipif(os.name != "posix", reason="links need leave elsewhere")
@pytest.mark.parametrize(
    "plant",
    [link_itself, link_its_record, link_its_files, link_a_file, put_a_pipe, link_to_nowhere],
)
def test_a_pending_result_with_a_link_in_it_is_set_aside_and_named_and_the_others_are_used(
    plant: Callable[[Path, Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    place, elsewhere = tmp_path / "store" / "pending" / "b1", tmp_path / "elsewhere"
    entry(place, "1-good")
    plant(entry(place, "2-linked"), elsewhere)
    before = sorted(path.name for path in tmp_path.rglob("*") if "store" not in path.parts)
    assert [found.name for found in spool.waiting(place)] == ["1-good"]
    said = capsys.readouterr().err
    assert "2-linked" in said and "link" in said and "store/aside/b1" in said
    assert os.path.lexists(tmp_path / "store" / "aside" / "b1" / "2-linked")
    assert sorted(p.name for p in tmp_path.rglob("*") if "store" not in p.parts) == before
    assert [found.name for found in spool.waiting(place)] == ["1-good"]
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(os.name != "posix", reason="links need leave elsewhere")
def test_a_hard_link_is_ours_and_used(tmp_path: Path):
    folder = entry(tmp_path / "pending" / "b1", "1-good")
    os.link(folder / spool.ENTRY, tmp_path / "second name")
    assert [found.name for found in spool.waiting(folder.parent)] == ["1-good"]


@pytest.mark.skipif(os.name != "posix", reason="links need leave elsewhere")
def test_a_folder_of_pending_results_that_is_a_link_is_refused(tmp_path: Path):
    entry(tmp_path / "elsewhere", "1-good")
    (tmp_path / "pending").mkdir()
    (tmp_path / "pending" / "b1").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="a link, which is not followed"):
        list(spool.waiting(tmp_path / "pending" / "b1"))
    assert (tmp_path / "elsewhere" / "1-good").is_dir()
