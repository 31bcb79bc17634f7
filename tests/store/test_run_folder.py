"""Run folder: which files are kept with a run, how they get there, and what stays."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from bench.design.plan import TrialKey
from bench.design.results import Failure
from bench.store import artifacts, run_folder
from bench.store.run_folder import clear, contents, keep, packed_up


def result(folder: Path | None, **more: Any) -> Failure:
    return Failure(key=TrialKey("on", 0), code="training", what="", folder=folder, **more)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (folder := tmp_path / "pack-1" / "on-0").mkdir(parents=True)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_files_are_kept_with_the_run_and_their_folder_goes(own: Path, tmp_path: Path):
    (own / "sub").mkdir()
    (own / "sub" / "b.bin").write_bytes(b"b")
    (own / "a.txt").write_text("a")
    found = keep(result(own), tmp_path / "kept")
    assert files(tmp_path / "kept") == {"a.txt": b"a", "sub/b.bin": b"b"}
    clear(result(own), found)
    assert not own.parent.exists()  # the pack's too: it was the last
    assert files(tmp_path / "kept") == {"a.txt": b"a", "sub/b.bin": b"b"}


def test_the_folder_of_the_pack_stays_while_another_run_has_one(own: Path):
    (own.parent / "off-0").mkdir()
    clear(result(own), keep(result(own), own))
    assert not own.exists() and own.parent.exists()


def test_a_run_without_files_or_without_a_folder_keeps_nothing(own: Path, tmp_path: Path):
    assert keep(result(own), tmp_path / "kept") is None
    assert keep(result(None), tmp_path / "kept") is None
    assert keep(result(tmp_path / "never made"), tmp_path / "kept") is None
    clear(result(None), None)
    assert not (tmp_path / "kept").exists()


@pytest.mark.skipif(os.name == "nt", reason="hard links of one disk")
def test_files_are_linked_and_where_that_fails_copied(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (own / "a.txt").write_text("a")
    keep(result(own), tmp_path / "linked")
    assert (tmp_path / "linked" / "a.txt").stat().st_ino == (own / "a.txt").stat().st_ino

    def refused(*arguments: Any) -> None:
        raise OSError("another disk")

    monkeypatch.setattr(os, "link", refused)
    keep(result(own), tmp_path / "copied")
    assert (tmp_path / "copied" / "a.txt").stat().st_ino != (own / "a.txt").stat().st_ino
    assert (tmp_path / "copied" / "a.txt").read_text() == "a"


def test_the_smallest_are_kept_up_to_the_limit_and_the_rest_stays_and_is_named(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(run_folder, "MOST_BYTES", 2 * 2**20)
    for name, size in (("large.bin", 3 * 2**20), ("small.bin", 2**20), ("next.bin", 2**20)):
        (own / name).write_bytes(b"x" * size)
    found = keep(result(own), tmp_path / "kept")
    assert found is not None and set(files(tmp_path / "kept")) == {"small.bin", "next.bin"}
    assert found.said(own).startswith("large.bin (3.0 MiB): 2 MiB ")
    assert found.said(own).endswith(f" left in {own}")
    clear(result(own), found)
    assert set(files(own)) == {"large.bin"}


def test_more_than_three_that_stay_are_counted(own: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run_folder, "MOST_BYTES", 0)
    for number in range(5):
        (own / f"{number}.bin").write_bytes(b"x")
    assert ", 2.bin (0.0 MiB) and 2 more: 0 MiB " in contents(own).said(own)


@pytest.mark.skipif(os.name == "nt", reason="links and sockets")
def test_links_pipes_and_sockets_are_never_followed_nor_kept(own: Path, tmp_path: Path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("thesis")
    (own / "link").symlink_to(tmp_path / "secret" / "key")
    (own / "folder").symlink_to(tmp_path / "secret")
    (own / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(own / "pipe")
    with socket.socket(socket.AF_UNIX) as unix:
        here = os.getcwd()
        os.chdir(own)  # paths of sockets are short
        try:
            unix.bind("socket")
        finally:
            os.chdir(here)
    found = keep(result(own), tmp_path / "kept")
    assert found is not None and found.kept == () and len(found.left) == 5
    assert not (tmp_path / "kept").exists()
    clear(result(own), found)
    assert (tmp_path / "secret" / "key").read_text() == "thesis" and len(list(own.iterdir())) == 5


def test_files_travel_to_another_machine_with_their_result(own: Path, tmp_path: Path):
    (own / "sub").mkdir()
    (own / "sub" / "b.bin").write_bytes(b"b")
    sent = packed_up(result(own))
    assert sent.files == {"sub/b.bin": b"b"} and sent.folder is None and not own.exists()
    assert keep(sent, tmp_path / "kept") is None
    assert files(tmp_path / "kept") == {"sub/b.bin": b"b"}
    assert packed_up(result(None)).files == {}


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil"])
def test_a_name_from_another_machine_that_leaves_the_folder_is_refused(name: str, tmp_path: Path):
    with pytest.raises(ValueError, match="is not the name of a file"):
        keep(result(None, files={name: b"x"}), tmp_path / "kept")
    assert list(tmp_path.rglob("evil")) == []


def test_a_link_in_place_of_the_folder_is_not_followed(tmp_path: Path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis").write_text("x")
    (tmp_path / "mine").symlink_to(tmp_path / "theirs")
    found = contents(tmp_path / "mine")
    assert found.kept == () and "a link in place of the folder" in found.said(tmp_path / "mine")


def test_the_largest_file_that_is_left_is_named_first(tmp_path: Path):
    for i in range(5):
        (tmp_path / f"link{i}").symlink_to("/etc/passwd")
    with (tmp_path / "big").open("wb") as handle:
        handle.truncate(70 * 2**20)
    assert contents(tmp_path).said(tmp_path).startswith("big (70.0 MiB), ")


def test_a_name_of_the_full_length_reaches_the_artifacts(tmp_path: Path):
    (tmp_path / "from").mkdir()
    longest = "x" * 255
    (tmp_path / "from" / longest).write_text("1")
    artifacts.put(tmp_path / "from", tmp_path / "to")
    assert [path.name for path in (tmp_path / "to").iterdir()] == [longest]
