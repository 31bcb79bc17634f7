"""Files that programs leave: read as they stand, or refused with what is wrong."""

from pathlib import Path

import numpy as np
import pytest

from bench.experiment import Outcome
from bench.programs.epoch_files import rows
from bench.programs.lines import Printed
from bench.programs.refusals import NoResults
from bench.programs.results import outcome_of


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
