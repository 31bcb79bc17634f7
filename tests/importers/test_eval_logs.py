"""Logs of evaluations, and benchopt's results: one row an item, or one a repetition."""

import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from bench.analysis.errors import Refusal
from bench.importers import eval_logs, inspect_logs, sources
from bench.importers.asked import Asked, At

DATE = "2024-06-11T10-11-12.345678"


def harness(folder: Path, model: str, right: str, date: str = DATE, **more: Any) -> Path:
    """Write what lm_eval --log_samples does, with 1 for every right answer."""
    place = folder / model.replace("/", "__")
    place.mkdir(parents=True, exist_ok=True)
    (place / f"results_{date}.json").write_text(json.dumps({"model_name": model, "results": {}}))
    lines = [
        {
            "doc_id": i, "doc": {"q": "?", "n": i}, "target": "A", "arguments": {}, "resps": [],
            "filtered_resps": ["x"], "doc_hash": "0", "prompt_hash": "0", "target_hash": "0",
            "acc": float(r == "1"), "correct": r == "1", "word_perplexity": [-1.0, 3], **more,
        }
        for i, r in enumerate(right)
    ]  # fmt: skip
    path = place / f"samples_arc_easy_{date}.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


def test_the_harness_gives_one_row_an_item_of_each_model(tmp_path: Path):
    harness(tmp_path, "org/a", "1101")
    harness(tmp_path, "org/b", "0111", filter="strict-match", metrics=["acc"])
    found = sources.read(f"lm-eval:{tmp_path}", Asked())
    columns = ["model", "task", "doc_id", "filter", "acc", "correct", "date", "folder"]
    assert found.columns.tolist() == columns
    assert found["model"].tolist() == ["org/a"] * 4 + ["org/b"] * 4
    assert set(found["task"]) == {"arc_easy"} and set(found["date"]) == {DATE}
    assert found["acc"].tolist() == [1, 1, 0, 1, 0, 1, 1, 1] == found["correct"].tolist()
    assert set(found["filter"]) == {"none", "strict-match"}


def test_without_results_the_folder_is_the_model(tmp_path: Path):
    path = harness(tmp_path, "a", "1")
    (path.parent / f"results_{DATE}.json").unlink()
    assert sources.read(f"lm-eval:{tmp_path}", Asked())["model"].tolist() == ["a"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"acc": 1}', "line 1 is no sample"),
        ("{", "line 1 is no JSON"),
        ("[" * 100_000, "line 1 is no JSON"),
        ("[1]", "line 1 is no sample"),
        ("", "hold no scored item"),
    ],
)
def test_samples_of_another_kind_are_refused(content: str, said: str, tmp_path: Path):
    (tmp_path / f"samples_x_{DATE}.jsonl").write_text(content)
    with pytest.raises(Refusal, match=said):
        sources.read(f"lm-eval:{tmp_path}", Asked())


def test_a_folder_without_samples_says_how_to_get_them(tmp_path: Path):
    (tmp_path / f"results_{DATE}.json").write_text("{}")
    with pytest.raises(Refusal, match="there is no samples_") as refusal:
        sources.read(f"lm-eval:{tmp_path}", Asked())
    assert "--log_samples" in (refusal.value.fix or "")


def samples(right: str) -> list[dict[str, Any]]:
    """Return items as inspect_ai writes them, scored by two scorers."""
    scores = {"C": 1, "I": 0, "P": 0.5, "N": 0}
    found = [
        {"id": f"q{i}", "epoch": 1, "input": "?", "target": "A",
         "scores": {"match": {"value": r, "answer": "A"},
                    "judge": {"value": {"style": scores[r], "sure": True}}}}
        for i, r in enumerate(right)
    ]  # fmt: skip
    return [*found, {"id": "dead", "epoch": 1, "scores": {}, "error": {"message": "timeout"}}]


def header(model: str, status: str = "success") -> dict[str, Any]:
    return {"version": 2, "status": status, "eval": {"model": model, "task": "t"}}


def packed(path: Path, files: dict[str, Any], zstd: bool = False) -> Path:
    """Write a .eval; with zstd as inspect_ai does since 2025, method 93 of the zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in files.items():
            out.writestr(name, json.dumps(content))
    return _as_zstd(path) if zstd else path


def _as_zstd(path: Path) -> Path:
    """Write a zip again with every file compressed by zstd, record by record (APPNOTE.TXT)."""
    with zipfile.ZipFile(path) as given:
        files = {name: given.read(name) for name in given.namelist()}
    body, directory = b"", b""
    for name, content in files.items():
        data = pa.Codec("zstd").compress(content, asbytes=True)
        sizes = (zlib.crc32(content), len(data), len(content), len(name))
        common = struct.pack("<HHHHHIIIHH", 63, 0, 93, 0, 33, *sizes, 0)
        directory += b"PK\1\2\x3f\0" + common + struct.pack("<HHHII", 0, 0, 0, 0, len(body))
        directory += name.encode()
        body += b"PK\3\4" + common + name.encode() + data
    n = len(files)
    end = struct.pack("<HHHHIIH", 0, 0, n, n, len(directory), len(body), 0)
    path.write_bytes(body + directory + b"PK\5\6" + end)
    return path


@pytest.mark.parametrize("kind", ["json", "eval", "zstd", "samples"])
def test_inspect_gives_one_row_an_item_of_each_model(kind: str, tmp_path: Path):
    for model, right in (("a", "CIP"), ("b", "NCC")):
        if kind == "json":
            log = {**header(model), "samples": samples(right)}
            (tmp_path / f"{model}.json").write_text(json.dumps(log))
        elif kind == "samples":
            each = {f"samples/{s['id']}_epoch_1.json": s for s in samples(right)}
            packed(tmp_path / f"{model}.eval", {**each, "header.json": header(model)})
        else:
            files = {"summaries.json": samples(right), "header.json": header(model)}
            packed(tmp_path / f"{model}.eval", files, zstd=kind == "zstd")
    found = sources.read(f"inspect:{tmp_path}", Asked(values=("match",)))
    assert found["model"].tolist() == ["a"] * 4 + ["b"] * 4
    assert found["sample_id"].tolist()[:4] == ["q0", "q1", "q2", "dead"]
    assert found["match"].tolist()[:3] == [1, 0, 0.5]
    assert found["match"].tolist()[4:7] == [0, 1, 1]
    assert found["match"].isna().tolist() == [False, False, False, True] * 2
    assert found["judge.style"].tolist()[:3] == [1, 0, 0.5] and found["judge.sure"][0] == 1
    assert set(found["status"]) == {"success", "error"}


def test_a_log_that_died_has_no_scores(tmp_path: Path):
    start = {k: v for k, v in header("a").items() if k != "status"}
    files = {"_journal/start.json": start, "samples/q0_epoch_1.json": samples("C")[0]}
    packed(tmp_path / "a.eval", files)
    found = sources.read(f"inspect:{tmp_path}", Asked(values=("match",)))
    assert found["status"].tolist() == ["started"] and found["match"].isna().all()


def test_logs_that_are_none_or_damaged_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = packed(tmp_path / "a.eval", {"header.json": header("a"), "summaries.json": []}, True)
    whole = path.read_bytes()
    for place in range(30, len(whole) - 60, 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with pytest.raises(Refusal):
            sources.read(f"inspect:{path}", Asked())
    path.write_text('{"eval": {"model": "m"}}')
    with pytest.raises(Refusal, match="names no model and task"):
        sources.read(f"inspect:{path}", Asked())
    packed(path, {"header.json": header("a"), "summaries.json": ["x" * 10_000]})
    monkeypatch.setattr(inspect_logs, "MOST_DECODED", 10_000)
    with pytest.raises(Refusal, match="MiB unpacked"):
        sources.read(f"inspect:{path}", Asked())


def test_more_logs_than_are_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    harness(tmp_path, "a", "1" * 20)
    monkeypatch.setattr(eval_logs, "MOST_BYTES", 100)
    with pytest.raises(Refusal, match="GiB together"):
        sources.read(f"lm-eval:{tmp_path}", Asked())


def test_benchopt_gives_the_end_of_every_curve(tmp_path: Path):
    rows = [
        {"objective_name": "o", "solver_name": solver, "dataset_name": "d", "idx_rep": rep,
         "stop_val": stop, "time": i / 10, "objective_value": 1.0 / (i + 1) + rep}
        for solver, stops in (("gd", [0, 1, 9]), ("cd", [1e-1, 1e-3, 1e-5]))
        for rep in range(2)
        for i, stop in enumerate(stops)
    ]  # fmt: skip
    pd.DataFrame(rows).to_parquet(tmp_path / "r.parquet")
    found = sources.read(f"benchopt:{tmp_path / 'r.parquet'}", Asked())
    assert found["stop_val"].tolist() == [9, 9, 1e-5, 1e-5]
    assert found["objective_value"].tolist() == pytest.approx([1 / 3, 4 / 3, 1 / 3, 4 / 3])
    first = sources.read(
        f"benchopt:{tmp_path / 'r.parquet'}", Asked(at=At("max", "objective_value"))
    )
    assert first["stop_val"].tolist() == [0, 0, 1e-1, 1e-1]
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "r.parquet")
    with pytest.raises(Refusal, match="is no result of benchopt: no column idx_rep, solver_name"):
        sources.read(f"benchopt:{tmp_path / 'r.parquet'}", Asked())
