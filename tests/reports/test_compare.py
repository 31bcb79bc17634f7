"""Comparing scores from elsewhere, through the command line: files, and another project's runs."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.importers import mlflow_runs
from bench.importers.asked import Asked, At
from bench.store.mlflow_store import Store

BENCH = Path(sys.executable).with_name("bench")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    rng = np.random.default_rng(2)
    base = rng.normal(0.8, 0.01, 12)
    frame = pd.DataFrame(
        {"seed": range(12), "base": base, "new": base + rng.normal(0.005, 0.004, 12)}
    )
    path = tmp_path / "results.csv"
    frame.to_csv(path, index=False)
    return path


def test_answers_with_scipys_numbers(results: Path, bench: Callable[..., Any]):
    said = bench("compare", results, "--baseline", "base", "--treatment", "new", "--json")
    frame = pd.read_csv(results)
    expected = stats.ttest_rel(frame.new, frame.base)
    primary = said.json["comparisons"][0]["primary"]
    assert said.status == 0
    assert primary["p_value"] == pytest.approx(expected.pvalue, rel=1e-9)
    assert primary["low"] == pytest.approx(expected.confidence_interval().low, rel=1e-9)
    assert said.json["provenance"]["data"] == {"name": "results.csv"}


def test_writes_a_report_where_it_is_asked_to(
    results: Path, bench: Callable[..., Any], tmp_path: Path
):
    out = tmp_path / "out"
    said = bench("compare", results, "--baseline", "base", "--treatment", "new", "--out", out)
    assert said.status == 0
    assert "report.html" in said.out
    assert "bench ui" not in said.out  # nothing of it is in a store
    assert json.loads((out / "results.json").read_text())["experiment"] == "results"


def test_a_verdict_word_can_fail_a_pipeline(results: Path, bench: Callable[..., Any]):
    words = ("compare", results, "--baseline", "base", "--treatment", "new")
    assert bench(*words, "--fail-on", "better").status == 10
    assert bench(*words, "--fail-on", "worse").status == 0


@pytest.mark.parametrize(
    ("more", "status", "words"),
    [
        ((), 2, "which values are the baseline's is not said"),
        (("--baseline", "base"), 2, "a comparison needs a treatment"),
        (("--baseline", "bse", "--treatment", "new"), 2, "Closest: base"),
        (("--baseline", "base", "--margin", "-1"), 2, "margin -1 is not a number above 0."),
        (("--baseline", "base", "--margin", "nan"), 2, "margin nan is not a number above 0."),
        (("--baseline", "base", "--claim", "nan"), 2, "claim nan is not a number."),
        (("--baseline", "base", "--treatment", "new", "--unit", "km"), 2, "--unit auto"),
        (("--baseline", "base", "--treatment", "new", "--pair", "nr"), 2, 'no column "nr"'),
    ],
)
def test_bad_options_are_refused_with_a_fix(
    more: tuple[str, ...], status: int, words: str, results: Path, bench: Callable[..., Any]
):
    said = bench("compare", results, *more)
    assert said.status == status
    assert said.err.startswith("error[")
    assert words in said.err
    assert "fix: " in said.err


def test_imports_neither_torch_nor_mlflow_nor_a_drawing_library(results: Path):
    script = (
        "import sys; from bench.cli import _run; sys.argv = ['bench', *sys.argv[1:]]\n"
        "assert _run(sys.argv[1:]) == 0\n"
        "heavy = {'torch', 'mlflow', 'matplotlib', 'scipy.stats', 'scipy.optimize'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    words = ["compare", str(results), "--baseline", "base", "--treatment", "new"]
    done = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_reads_another_projects_mlflow_runs(
    copy_store: Callable[[Path], str], tmp_path: Path, bench: Callable[..., Any]
):
    store = Store(copy_store(tmp_path))
    theirs = store.client.create_experiment("theirs", (tmp_path / "artifacts").as_uri())
    rng = np.random.default_rng(3)
    values: dict[str, list[float]] = {"a": [], "b": []}
    for seed in range(8):
        for model in ("a", "b"):
            run = store.client.create_run(theirs)
            values[model].append(float(rng.normal(0.5 + 0.05 * (model == "b"), 0.01)))
            store.client.log_param(run.info.run_id, "model", model)
            store.client.set_tag(run.info.run_id, "seed", str(seed))
            store.client.log_metric(run.info.run_id, "val_acc", values[model][-1])
            store.client.set_terminated(run.info.run_id, "FINISHED")
    unfinished = store.client.create_run(theirs)
    store.client.log_param(unfinished.info.run_id, "model", "b")
    said = bench(
        *("compare", "mlflow:theirs", "--store", store.uri, "--arm", "params.model"),
        *("--metric", "metrics.val_acc", "--pair", "tags.seed", "--baseline", "a", "--json"),
    )
    assert said.status == 0, said.err
    found = said.json["comparisons"][0]
    expected = stats.ttest_rel(values["b"], values["a"])
    assert found["n_pairs"] == 8
    assert found["primary"]["p_value"] == pytest.approx(expected.pvalue, rel=1e-9)
    for step, acc in ((1, 0.9), (2, 0.1)):
        last = run.info.run_id
        store.client.log_metric(last, "val_acc", acc, step=step)
        store.client.log_metric(last, "epochs", step, step=step)
    asked = Asked(store=store.uri, at=At("max", "metrics.val_acc"))
    chosen = mlflow_runs.read("theirs", asked).set_index("run_id")
    assert (len(chosen), chosen["status"].value_counts()["FINISHED"]) == (17, 16)
    assert chosen.loc[last, ["metrics.val_acc", "metrics.epochs"]].tolist() == [0.9, 1]
    said = bench("compare", "mlflow:thiers", "--store", store.uri, "--baseline", "a")
    assert (said.status, "Closest: theirs" in said.err) == (2, True)


def test_gaps_that_were_filled_are_said_and_the_arms_are_no_conditions(tmp_path: Path, bench: Any):
    rng = np.random.default_rng(0)
    rows = [
        {"seed": s, "item": i, "model": m, "score": rng.normal()}
        for s in range(7) for i in range(9) for m in ("base", "new")
    ]  # fmt: skip
    pd.DataFrame(rows[1:]).to_csv(tmp_path / "r.csv", index=False)
    how = ("--arm", "model", "--metric", "score", "--baseline", "base", "--seed", "seed")
    found = bench("compare", tmp_path / "r.csv", *how, "--example", "item", "--allow-missing")
    assert "1 score inside runs lacking: filled" in " ".join(found.out.split())
    split = bench("compare", tmp_path / "r.csv", *how, "--by", "model")
    assert "splits nothing" in split.err and split.status == 2
