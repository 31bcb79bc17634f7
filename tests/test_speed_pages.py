"""The page of tests/benchmarks/training_speed.py: what was measured stays, the rest says how."""

import importlib.util
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent / "benchmarks" / "training_speed.py"


@pytest.fixture
def speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("training_speed", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "training_speed", module)
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "PAGE", tmp_path / "page.md")
    yield module


def test_a_row_that_is_measured_alone_leaves_the_others_as_they_were(speed: ModuleType):
    rows = {row.name: row for row in speed.ROWS}
    speed.write({"help": speed.line(rows["help"], "**0.12 s**", "2026-01-01, load 0.1")})
    lines = speed.kept() | {"eight": speed.line(rows["eight"], "**7.9 ×**", "2026-01-02, load 0.1")}
    speed.write(lines)
    text = speed.PAGE.read_text()
    assert text.count("**0.12 s**") == text.count("**7.9 ×**") == 1
    assert [name for name in speed.kept() if name in rows] == list(rows)


def test_a_row_that_was_never_measured_names_the_command_that_measures_it(speed: ModuleType):
    speed.write({})
    page = speed.PAGE.read_text().splitlines()
    for row in speed.ROWS:
        [line] = [line for line in page if line.startswith(f"| {row.name} |")]
        assert "not measured" in line
        assert ("training_speed_gpu.py" in line) == row.name.startswith("h200")
        assert (f"--rows {row.name}`" in line) == (not row.name.startswith("h200"))


def test_the_training_part_is_from_the_first_pack_to_the_end_of_the_last(speed: ModuleType):
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("create table metrics (run_uuid, key, value, timestamp)")
        database.execute("create table tags (run_uuid, key, value)")
        # two packs of two on one worker: 100 to 104, 104 to 110; a run ends after its share
        for run, arm, seed, began, share in (
            ("r1", "a", 0, 100, 2), ("r2", "b", 0, 100, 2), ("r3", "a", 1, 104, 3),
            ("r4", "b", 1, 104, 3),
        ):  # fmt: skip
            ended = 1000 * (began + share)
            database.execute(
                "insert into metrics values (?, 'test/accuracy', 0.5, ?)", (run, ended)
            )
            for key, value in (("arm", arm), ("seed", str(seed)), ("bench.duration_s", str(share))):
                database.execute("insert into tags values (?, ?, ?)", (run, key, value))
        found = speed._read(database, 12.0, 2, 0)
    assert (found.whole_s, found.train_s) == (12.0, 10.0)
    assert found.accuracy == {"a": {0: 0.5, 1: 0.5}, "b": {0: 0.5, 1: 0.5}}
