"""Reporting: what a user typed stays text, and files are written whole or not at all."""

import os
from pathlib import Path
from typing import Any

import pytest

from bench.reports.formats import (
    BadFormat,
    Unwritable,
    parse_formats,
    replace_bytes,
    require_writable,
)

# -- files -----------------------------------------------------------------------------------


def test_a_file_is_replaced_whole(tmp_path: Path):
    tmp_path.chmod(0o755)  # a file is as open as its folder
    path = tmp_path / "new" / "report.html"
    replace_bytes(path, b"first")
    replace_bytes(path, "zweite Größe".encode())
    assert path.read_text("utf-8") == "zweite Größe"
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "report.html"
    replace_bytes(path, b"old")

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        replace_bytes(path, b"new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_found_out_before_the_analysis(tmp_path: Path):
    require_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("x" * 300)):
        with pytest.raises(Unwritable) as caught:
            require_writable(folder)
        assert caught.value.exit_status == 4
        assert str(folder) in caught.value.what and caught.value.options == (("out", "DIR"),)
    assert (tmp_path / "file").read_text() == "mine"


# -- formats ---------------------------------------------------------------------------------


def test_formats_are_a_list_in_any_case_each_once():
    assert parse_formats(" HTML,csv , csv,") == ("html", "csv")
    assert parse_formats("png") == ("png",)


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("htm", "html"),
        ("markdown", "md"),
        ("LaTeX", "tex"),
        ("pdff", "html"),
        ("cvs", "csv"),
        ("", "html"),
        (",", "html"),
        ("zzz", "html"),
        ("html,jsonl", "json"),
    ],
)
def test_an_unknown_format_names_the_nearest(typed: str, near: str):
    with pytest.raises(BadFormat) as caught:
        parse_formats(typed)
    assert caught.value.render().startswith("error[format]: --format ")
    assert caught.value.options == (("format", near),) and caught.value.exit_status == 2
    assert "html, json, csv, md, tex, svg, png" in caught.value.facts[0]
