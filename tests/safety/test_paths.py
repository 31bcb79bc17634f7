"""Paths: whatever experiment and arms are called, all that is written lies below the store."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HOSTILE = ("../x", "a\0b", "x" * 300, "CON", "dots...")
DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


@pytest.fixture
def parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copy_store: Callable[[Path], str]
) -> Path:
    """Return a folder with a store, and with the folder that bench is started in."""
    folder = tmp_path / "parent"
    copy_store(folder / "store")
    (folder / "here").mkdir()
    monkeypatch.chdir(folder / "here")
    return folder


@pytest.mark.parametrize("name", HOSTILE, ids=["up", "nul", "long", "device", "dots"])
def test_a_hostile_name_of_an_experiment_and_its_arms_writes_below_the_store_alone(
    name: str, parent: Path, tmp_path: Path, write_tiny: Callable[..., Path], answer: Any
):
    (tmp_path / "source").mkdir()
    path = write_tiny(tmp_path / "source", name=name)
    path.write_text(path.read_text().replace('"strong":', f"{name!r}:"))
    before = set(parent.rglob("*"))
    where = ["--store", f"sqlite:///{parent / 'store' / 'mlflow.db'}"]
    said = answer(["run", str(path), "--seeds", "1", "--workers", "1", "--no-report", *where])
    assert said.status == 0, said.err
    said = answer(["report", "--format", "html,csv,md,tex,svg", *where])
    assert said.status == 0, said.err
    made = set(parent.rglob("*")) - before
    assert all(path.is_relative_to(parent / "store") for path in made), made
    assert any(path.suffix == ".html" for path in made)
    for path in made:
        assert re.fullmatch(r"\.?[A-Za-z0-9_-][A-Za-z0-9._-]*", path.name), path
        assert len(path.name) <= 120 and path.name[-1] != "." and not DEVICE.fullmatch(path.name)
