"""MLflow's folder of files: read as it lies, with nested and unfinished runs told apart."""

from pathlib import Path
from typing import Any

import pytest

from bench.analysis.errors import Refusal
from bench.importers import mlflow_folder, mlflow_runs
from bench.importers.asked import Asked, At
from bench.store.records import NothingRecorded

EXPERIMENT = """artifact_location: file:///x/mlruns/7
creation_time: 1796070060794
experiment_id: '7'
last_update_time: 1796070060794
lifecycle_stage: {stage}
name: {name}
"""
RUN = """artifact_uri: file:///x/mlruns/7/{id}/artifacts
end_time: 1796070060911
entry_point_name: ''
experiment_id: '7'
lifecycle_stage: {stage}
run_id: {id}
run_name: {name}
source_name: ''
source_type: 4
source_version: ''
start_time: 1796070060908
status: {status}
tags: []
user_id: me
"""


def experiment(store: Path, name: str = "old", stage: str = "active", number: str = "7") -> Path:
    place = store / number
    place.mkdir(parents=True)
    (place / "meta.yaml").write_text(EXPERIMENT.format(name=name, stage=stage))
    (store / ".trash").mkdir(exist_ok=True)
    (store / "models").mkdir(exist_ok=True)
    return place


def run(place: Path, name: str, status: int = 3, stage: str = "active", **files: str) -> Path:
    """Write a run as file_store.py does; in names of files __ stands for a slash."""
    folder = place / f"{len(list(place.iterdir())):032x}"
    for kind in ("params", "metrics", "tags", "artifacts"):
        (folder / kind).mkdir(parents=True)
    text = RUN.format(id=folder.name, name=name, status=status, stage=stage)
    (folder / "meta.yaml").write_text(text)
    for path, content in files.items():
        file = folder / path.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return folder


def all_files(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return a store with 8 pairs and a crashed run; the value at the last step counts."""
    place = experiment(tmp_path / "mlruns")
    for seed in range(8):
        for arm in ("base", "new"):
            last = 0.9 + seed / 1000 + 0.01 * (arm == "new") * (1 + seed / 8)
            lines = f"17 0.1 0\n19 {last!r} 2\n18 0.99 1\n"
            run(place, f"{arm}-{seed}", params__seed=str(seed), params__model=arm,
                metrics__val__acc=lines)  # fmt: skip
    run(place, "base-9", 4, params__seed="9", params__model="base", metrics__val__acc="17 0.1 0\n")
    run(place, "gone", stage="deleted", metrics__val__acc="17 0.1 0\n")
    return tmp_path / "mlruns"


def test_a_folder_gives_its_numbers_and_nothing_is_written_there(store: Path, bench: Any):
    before = all_files(store.parent)
    words = ["compare", "mlflow:old", "--store", str(store), "--arm", "params.model"]
    words += ["--metric", "metrics.val/acc", "--seed", "params.seed", "--baseline", "base"]
    said = bench(*words)
    assert said.status == 5 and "pair 9 has no base" in said.err
    said = bench(*words, "--where", "status=FINISHED", "--json")
    assert said.status == 0, said.err
    (found,) = said.json["comparisons"]
    gains = [0.01 * (1 + s / 8) for s in range(8)]
    assert found["n_pairs"] == 8
    assert found["primary"]["difference"] == pytest.approx(sum(gains) / 8)
    assert all_files(store.parent) == before


def test_the_default_folder_is_found_where_no_store_is_named(
    store: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(store.parent)
    for named in (None, "mlruns", "./mlruns", "file:./mlruns", store.as_uri()):
        assert len(mlflow_runs.read("old", Asked(store=named))) == 17
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:mlruns")
    assert len(mlflow_runs.read("old", Asked())) == 17
    assert not (store / "mlflow.db").exists()


def test_a_metric_chooses_a_step_of_the_folders_history(store: Path):
    said = list[str]()
    asked = Asked(store=str(store), at=At("max", "metrics.val/acc"), say=said.append)
    found = mlflow_runs.read("old", asked)
    assert set(found["metrics.val/acc"]) == {0.99, 0.1}
    assert found[["params.seed", "run_name", "status"]].notna().all(axis=None)
    assert "metrics.val/acc is highest (step 0 to 1)" in said[0]


def test_a_parent_without_metrics_is_no_run_and_a_child_names_it(tmp_path: Path):
    place = experiment(tmp_path / "mlruns")
    parent = run(place, "sweep")
    child = run(place, "trial", metrics__acc="1 0.5 0\n")
    (child / "tags" / "mlflow.parentRunId").write_text(parent.name)
    found = mlflow_runs.read("old", Asked(store=str(tmp_path / "mlruns")))
    assert found["run_name"].tolist() == ["trial"] and found["parent"].tolist() == [parent.name]


@pytest.mark.parametrize(
    ("yaml", "name"),
    [
        ("plain", "plain"),
        ("'7'", "7"),
        ("'it''s: mine'", "it's: mine"),
        (r'"\u2192 tab\t"', "\u2192 tab\t"),
        ("a very long name that\n  YAML folds", "a very long name that YAML folds"),
    ],
)
def test_a_name_is_read_as_yaml_writes_it(yaml: str, name: str, tmp_path: Path):
    place = experiment(tmp_path / "mlruns", yaml)
    run(place, "r", metrics__acc="1 0.5 0\n")
    assert len(mlflow_folder.runs(tmp_path / "mlruns", name)) == 1


def test_another_experiment_is_refused_with_the_known_ones(store: Path):
    experiment(store, "deleted one", "deleted", "8")
    with pytest.raises(NothingRecorded, match='no experiment called "odl"') as refusal:
        mlflow_runs.read("odl", Asked(store=str(store)))
    assert refusal.value.facts == ("Closest: old. Known: old.",)
    assert list(refusal.value.replace) == [("mlflow:odl", "mlflow:old")]


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("metrics/acc", b"now 0.5 0\n", "is no time, value and step"),
        ("metrics/acc", b"", "it is empty"),
        ("metrics/acc", b"\xff\xfe", "no text in UTF-8"),
        ("params/lr", b"x" * (2**20 + 1), "more than 1 MiB"),
        ("meta.yaml", b'run_name: "open\n', "is no text"),
    ],
)
def test_a_file_that_mlflow_did_not_write_is_refused(file, content, said, tmp_path: Path):
    place = experiment(tmp_path / "mlruns")
    folder = run(place, "r", metrics__acc="1 0.5 0\n")
    (folder / file).write_bytes(content)
    with pytest.raises(Refusal, match=said):
        mlflow_runs.read("old", Asked(store=str(tmp_path / "mlruns")))
