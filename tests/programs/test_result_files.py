"""Files that programs leave: read as they stand, or refused with what is wrong."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.experiment import Outcome
from bench.programs.epoch_files import Followed, rows
from bench.programs.lines import Printed
from bench.programs.refusals import NoResults
from bench.programs.results import name_of, outcome_of


def outcome(folder: Path, metric: str, /, cluster: str = "", **files: str) -> Outcome:
    """Return the outcome of a run that wrote some files, named with _ for the point."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return outcome_of(folder, Printed({}), metric, cluster=cluster)


@pytest.mark.parametrize(
    "text",
    [
        '{"f1": 0.8, "epoch": 1.0, "step": 10}\n{"f1": 0.9, "epoch": 1.99, "step": 20}\n',
        '{"f1": 0.8, "step": 100}\n{"f1": 0.85, "step": 200}\n{"f1": 0.9}\n',
        '{"f1": 0.8}\n{"f1": 0.9, "note": "a\N{LINE SEPARATOR}b"}\n',
    ],
)
def test_the_last_row_counts_also_with_half_an_epoch_or_none(tmp_path, text):
    assert outcome(tmp_path, "f1", metrics_jsonl=text).scores == {"f1": 0.9}


def test_a_csv_of_epochs_may_have_spaces_and_ends_where_it_is_broken(tmp_path):
    text = f"step, f1\n10, 0.8\n20, 0.9\n30, {'9' * 200_000}\n"
    assert outcome(tmp_path, "f1", metrics_csv=text).scores == {"f1": 0.9}
    assert rows(tmp_path / "metrics.csv") == [(10, {"f1": 0.8}), (20, {"f1": 0.9})]


def test_the_last_of_values_that_mlflow_got_in_one_millisecond_counts(tmp_path):
    logged = {"mlflow__0__aaa__metrics__f1": "1 0.9 0\n1 0.8 0\n"}
    assert outcome(tmp_path, "f1", **logged).scores == {"f1": 0.8}


def test_a_metric_of_two_mlflow_runs_is_no_result_and_others_are_left_out(tmp_path):
    runs = {f"mlflow__0__{run}__metrics__f1": f"1 0.{run} 0\n" for run in (8, 9)}
    with pytest.raises(NoResults, match=r"logged f1 in 2 MLflow runs: 0\.8, 0\.9"):
        outcome(tmp_path, "f1", **runs)
    assert outcome(tmp_path, "acc", metrics_json='{"acc": 0.5}').scores == {"acc": 0.5}


def test_examples_are_ordered_by_ids_of_any_kind_and_named_by_them(tmp_path):
    found = outcome(tmp_path, "hit", examples_jsonl='{"id": 1, "hit": 1}\n{"id": "a", "hit": 0}\n')
    again = outcome(tmp_path, "hit", examples_jsonl='{"id": "a", "hit": 0}\n{"id": 1, "hit": 1}\n')
    other = outcome(tmp_path, "hit", examples_jsonl='{"id": "b", "hit": 0}\n{"id": 1, "hit": 1}\n')
    assert found.examples["hit"].tolist() == again.examples["hit"].tolist() == [1, 0]
    assert found.facts == again.facts != other.facts


def test_a_number_of_seconds_is_no_date(tmp_path):
    rows = "".join(f'{{"id": {i}, "run_time": {31536001 + i}}}\n' for i in range(2))
    found = outcome(tmp_path, "run_time", examples_jsonl=rows)
    assert found.examples["run_time"].tolist() == [31536001, 31536002]


def test_a_cluster_may_be_called_na_and_must_be_called_something(tmp_path):
    found = outcome(tmp_path, "hit", "country", examples_csv="id,country,hit\n2,NA,1\n1,DE,0\n")
    assert found.clusters.tolist() == ["DE", "NA"]
    with pytest.raises(NoResults, match="has no country in 1 of 2 rows"):
        outcome(tmp_path, "hit", "country", examples_csv="id,country,hit\n2,,1\n1,DE,0\n")
    with pytest.raises(NoResults, match="has no id in 1 of 2 rows"):
        outcome(tmp_path, "hit", "country", examples_csv="id,country,hit\n,NA,1\n1,DE,0\n")


def test_splits_may_be_bytes_and_half_an_archive_is_refused(tmp_path):
    path = tmp_path / "predictions.npz"
    np.savez(path, labels=[0, 1], logits=[[1.0, 2], [2, 1]], split=np.array([b"test", b"val"]))
    found = outcome(tmp_path, "accuracy")
    assert found.test is not None and found.validation is not None
    path.write_bytes(path.read_bytes()[:99])
    with pytest.raises(NoResults, match="cannot be read"):
        outcome(tmp_path, "accuracy")


LOGITS = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("scale", "values"),
    [
        ("logits", LOGITS),
        ("probabilities", PROBABILITIES),
        ("log_probabilities", np.log(PROBABILITIES)),
    ],
)
@pytest.mark.parametrize("kind", ["npz", "csv", "parquet"])
@pytest.mark.sample(9)
def test_every_scale_and_file_gives_the_same_predictions(tmp_path, kind, scale, values):
    path = tmp_path / f"predictions.{kind}"
    columns = {f"{scale}_{k}": values[:, k] for k in range(3)}
    table = pd.DataFrame({"label": [1, 2], **columns})
    match kind:
        case "npz":
            np.savez(path, labels=[1, 2], **{scale: values})
        case "csv":
            table.to_csv(path, index=False)
        case "parquet":
            table.to_parquet(path)
    found = outcome(tmp_path, "accuracy").test
    assert found is not None
    np.testing.assert_allclose(found.log_probabilities, np.log(PROBABILITIES), rtol=1e-5)
    assert found.labels.tolist() == [1, 2]


def test_predictions_without_labels_or_a_class_are_refused(tmp_path):
    np.savez(tmp_path / "predictions.npz", logits=LOGITS)
    with pytest.raises(NoResults, match="it has logits; predictions are labels and"):
        outcome(tmp_path, "accuracy")
    (tmp_path / "predictions.npz").unlink()
    with pytest.raises(NoResults, match="are not all there"):
        outcome(tmp_path, "accuracy", predictions_csv="label,logit_0,logit_2\n0,1,2\n")


def test_a_file_that_grows_or_is_written_anew_tells_each_epoch_once(tmp_path):
    path, followed = tmp_path / "metrics.jsonl", Followed(tmp_path)
    assert [*followed.poll()] == []
    path.write_text('{"epoch": 0, "f1": 0.1}\r\n{"epoch": 1, "f1"')
    assert [*followed.poll()] == [(0, {"f1": 0.1})]
    path.write_text('{"epoch": 0, "f1": 0.1}\n{"epoch": 1, "f1": 0.2}\n')
    assert [*followed.poll()] == [(1, {"f1": 0.2})]
    path.write_text('{"epoch": 1, "f1": 0.2, "loss": 3}\n')
    assert [*followed.poll()] == [(1, {"loss": 3.0})]
    assert [*followed.poll()] == []


@pytest.mark.parametrize(
    ("name", "kept"),
    [("val/top@5", "val/top_5"), ("/a//b/", "a/b"), ("../x", "x"), ("é%", "é_"), ("//", "score")],
)
@pytest.mark.sample(5)
def test_names_that_mlflow_cannot_hold_are_changed(name, kept):
    assert name_of(name) == kept
