"""No traceback: numbers beyond reason, odd tables and odd reports are refused by name."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.importers import files
from bench.importers.files import BadScores

ROWS = [{"seed": i, "a": 0.5 + i % 3 / 10, "b": 0.6 + i % 4 / 10} for i in range(8)]
WORDS = ("--baseline", "a", "--treatment", "b")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "r.csv"
    lines = [",".join(map(str, row.values())) for row in ROWS]
    path.write_text("\n".join(["seed,a,b", *lines]))
    return path


@pytest.mark.parametrize("option", ["--margin", "--claim"])
@pytest.mark.parametrize("value", ["1e308", "1e61", "1e-320", "9" * 400, "1e-300"])
def test_an_option_beyond_reason_is_refused(option: str, value: str, table: Path, answer: Any):
    said = answer(["compare", str(table), *WORDS, option, value])
    assert said.status == 2 and option in said.err and "fix: bench compare" in said.err


@pytest.mark.parametrize("seed", ["-1", str(2**32), "9" * 400])
def test_a_seed_to_train_again_that_is_none_is_refused(
    seed: str, table: Path, tmp_path: Path, answer: Any
):
    assert answer(["compare", str(table), *WORDS, "--out", str(tmp_path / "out")]).status == 0
    said = answer(["verify", str(tmp_path / "out" / "report.html"), f"--rerun={seed}"])
    assert said.status == 2 and "is no seed" in said.err and "--rerun 0" in said.err


@pytest.mark.parametrize(
    "line",
    [
        '{"seed": 2, "a": 1, "a": 9, "b": 2}',
        '{"seed": 2, "a": 1, "b": 2, "x": {"y": 1, "y": 2}}',
    ],
)
def test_a_row_with_a_key_twice_is_refused_by_line(line: str, tmp_path: Path, answer: Any):
    path = tmp_path / "r.jsonl"
    path.write_text("\n".join([json.dumps(ROWS[0]), "", line, json.dumps(ROWS[1])]))
    said = answer(["compare", str(path), *WORDS])
    assert said.status == 5 and "r.jsonl: line 3 has" in said.err and "twice" in said.err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.jsonl", b'{"a": ' + b"[" * 10_000 + b"]" * 10_000 + b', "b": 1}'),
        ("r.jsonl", b'{"seed": 1, "a": ' + b"9" * 400 + b', "b": 1}'),
        ("r.jsonl", b'{"seed": 1, "a": "\xff", "b": 1}'),
        ("r.csv", b"seed,a,b\n1," + b"9" * 400 + b",2\n2,1,2\n"),
        ("r.csv", b"seed,a,b\n" + b"1,2,3\n" * 1000 + b"9,\0,1\n"),
        ("r.csv", b"seed,a,b\n1," + b"1" * 10_000_000 + b",2\n"),
        ("r.csv", b"PK\x03\x04\x14\0\6\0" + b"xyz" * 99),
        ("r.csv", b""),
    ],
    ids=["deep", "long number", "no UTF-8", "long cell", "NUL", "10 MB", "xlsx", "empty"],
)
def test_an_odd_table_is_refused(name: str, content: bytes, tmp_path: Path, answer: Any):
    (tmp_path / name).write_bytes(content)
    said = answer(["compare", str(tmp_path / name), *WORDS])
    assert said.status == 5 and f"error[scores]: {name}" in said.err


@pytest.mark.parametrize("value", ["1e61", "1e-61", "5e-324"])
def test_a_score_whose_powers_are_no_numbers_is_refused(value: str, tmp_path: Path, answer: Any):
    path = tmp_path / "r.csv"
    path.write_text(f"seed,a,b\n0,{value},1\n1,2,3\n2,3,5\n")
    said = answer(["compare", str(path), *WORDS])
    assert said.status == 5 and "squares can be computed" in " ".join(said.err.split())


def test_what_is_no_file_is_never_waited_for(tmp_path: Path, answer: Any):
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path, tmp_path / "pipe.csv", "/dev/zero", tmp_path / "none.csv"):
        assert answer(["compare", str(path), *WORDS]).status == 5
        assert answer(["verify", str(path)]).status == 5


def test_a_report_whose_data_do_not_fit_together_is_refused(
    table: Path, tmp_path: Path, answer: Any
):
    assert answer(["compare", str(table), *WORDS, "--out", str(tmp_path / "out")]).status == 0
    data = json.loads((tmp_path / "out" / "results.json").read_text())
    path, changed = tmp_path / "results.json", {**data, "comparisons": []}
    for odd, code in (*((x, "report") for x in ([], None, 1, "x", {})), (changed, "verify")):
        path.write_text(json.dumps(odd))
        said = answer(["verify", str(path)])
        assert said.status == 5 and f"error[{code}]" in said.err


@pytest.mark.parametrize("kind", ["numbers", "texts", "columns"])
def test_a_small_file_that_is_large_in_memory_is_refused_unread(
    kind: str, tmp_path: Path, answer: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(files, "MOST_DECODED", 2**20)
    path = tmp_path / "r.parquet"
    if kind == "columns":
        path = tmp_path / "r.jsonl"
        rows = ({"seed": i, "a": 1, "b": 2, f"k{i}": 3} for i in range(1000))
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        values = (
            pd.Series(np.ones(200_000)) if kind == "numbers" else pd.Series(["x" * 10_000] * 500)
        )
        pd.DataFrame({"seed": values, "a": values, "b": values}).to_parquet(path)
    assert path.stat().st_size < 100_000
    said = answer(["compare", str(path), *WORDS])
    assert said.status == 5 and f"error[scores]: {path.name}" in said.err
    assert "a table of scores is far smaller" in said.err


def test_flipped_parquet_bytes_never_change_a_number_where_pages_have_checksums(tmp_path: Path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"seed": range(20), "a": rng.normal(size=20), "b": rng.normal(size=20)})
    path = tmp_path / "x.parquet"
    frame.to_parquet(path, write_page_checksum=True, compression=None)
    whole = path.read_bytes()
    refused = 0
    for place in rng.choice(np.arange(4, len(whole) - 8), size=150, replace=False):
        flipped = bytearray(whole)
        flipped[place] ^= 0x10
        path.write_bytes(flipped)
        try:
            found = files.read(path)
        except BadScores:
            refused += 1
            continue
        numbers = found[["a", "b"]] if {"a", "b"} <= set(found) else frame[["a", "b"]]
        assert np.array_equal(numbers, frame[["a", "b"]])
    assert refused > 50
