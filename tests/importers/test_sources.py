"""The table of sources: what a name means, and names that mean nothing."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.errors import Refusal
from bench.importers import sources
from bench.importers.asked import Asked, BadRequest


@pytest.mark.parametrize(
    ("typed", "parts"),
    [
        ("mlflow:a:b", ("mlflow", "a:b")), ("lm-eval:x/y", ("lm-eval", "x/y")),
        ("r.csv", (None, "r.csv")), ("C:/r.csv", (None, "C:/r.csv")), ("s3:x", (None, "s3:x")),
    ],
)  # fmt: skip
def test_a_prefix_is_one_of_the_table(typed: str, parts: tuple[str | None, str]):
    assert sources.parted(typed) == parts


def test_an_unknown_source_names_the_closest():
    with pytest.raises(BadRequest, match="no file wandbb:x, and no such source") as refusal:
        sources.read("wandbb:x", Asked())
    assert list(refusal.value.replace) == [("wandbb:x", "wandb:x")]
    assert "tensorboard:" in refusal.value.facts[0]
    with pytest.raises(BadRequest, match="names nothing"):
        sources.read("wandb:", Asked())


def test_a_file_with_a_colon_in_its_name_is_that_file(tmp_path: Path, monkeypatch: Any):
    monkeypatch.chdir(tmp_path)
    Path("x:y.csv").write_text("a,b\n1,2\n")
    assert len(sources.read("x:y.csv", Asked())) == 1


def test_names_of_runs_are_read_only_where_there_are_some(tmp_path: Path):
    path = tmp_path / "r.csv"
    path.write_text("run_name,acc\na-s1,0.5\n")
    assert sources.read(str(path), Asked(name="{arm}-s{seed}"))["seed"].tolist() == ["1"]
    path.write_text("seed,acc\n1,0.5\n")
    with pytest.raises(BadRequest, match="no names of runs or files") as refusal:
        sources.read(str(path), Asked(name="{arm}-s{seed}"))
    assert list(refusal.value.without) == ["name"]


@pytest.mark.parametrize("prefix", sources.READERS)
def test_any_bytes_in_the_place_of_logs_are_refused(
    prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    names = ("x.eval", "x.json", "x.parquet", "x.csv", "events.out.tfevents.1",
             "samples_a_2024-01-01T00-00-00.1.jsonl", "mlruns/1/meta.yaml")  # fmt: skip
    for content in (b"", b"\0\xff" * 50, b"{", b"[]", b"null", b"PK\3\4" + b"\0" * 40, b"a: b\n"):
        shutil.rmtree("logs", ignore_errors=True)
        for name in names:
            place = Path("logs", name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        for rest in ("logs", *(f"logs/{name}" for name in names), "none"):
            with pytest.raises(Refusal):
                sources.read(f"{prefix}:{rest}", Asked(store="logs/mlruns"))
