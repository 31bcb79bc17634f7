"""Experiments that train on several data sets, through `bench run` to the report."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.design.plan import TrialKey
from bench.store.mlflow_store import Store

# Three data sets of other sizes and difficulties; the arms differ by more where it is hard.
SETS = '''"""An experiment of a test."""
import numpy as np
from bench import Experiment, Outcome, Predictions, Trial

EASE = {{"wine": 0.2, "digits": 1.0, "cancer": 1.5}}


def train(trial):
    {body}
    y = np.arange(40 + 10 * len(trial.dataset)) % 2
    z = (2 * y - 1) * (EASE[trial.dataset] + trial.settings["gain"])
    z = z + trial.rng("init").normal(size=y.size)
    trial.log(0, {{"train/loss": 1.0}})
    log_p = np.stack([-np.logaddexp(0, z), -np.logaddexp(0, -z)], axis=1)
    return Outcome(test=Predictions(log_p, y), scores={{"mean": z.mean()}})


EXPERIMENT = Experiment(name="sets", question="Does it help?", datasets={sets},
    arms={{"plain": {{"gain": 0.0}}, "more": {{"gain": 0.4}}}}, train=train)
'''
NAMES = ("wine", "digits", "cancer")
FILES = (f"mine_sets_{i}.py" for i in range(10**6))


def write(folder: Path, body: str = "pass") -> Path:
    path = folder / next(FILES)
    path.write_text(SETS.format(body=body, sets=NAMES))
    return path


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, copy_store: Callable[[Path], str]
) -> tuple[Path, str, Path]:
    """Return an experiment that was trained on 3 seeds, its store and the folder of its report."""
    from bench.cli import _run

    folder = tmp_path_factory.mktemp("sets")
    path, uri = write(folder), copy_store(folder)
    assert _run(["run", str(path), "--seeds", "3", "--store", uri, "-q"]) == 0
    return path, uri, folder / "reports" / "sets"


def comparison(folder: Path) -> Any:
    return json.loads((folder / "results.json").read_text())["comparisons"][0]


def values_of(uri: str, name: str = "test/accuracy") -> Any:
    """Return what MLflow has of every run; shape (arms, seeds, data sets)."""
    store = Store(uri)
    settled, _ = store.settled(store.benchmark("sets"))
    seeds = sorted({key.seed for key in settled})
    return np.array(
        [
            [[settled[TrialKey(a, s, d)].run.metrics[name] for d in NAMES] for s in seeds]
            for a in ("plain", "more")
        ]
    )


def nested(difference: Any) -> tuple[float, float, float]:
    """Return difference and 95 % limits for new seeds on these data sets, from the formulas."""
    s, t = difference.shape
    each = difference.var(axis=0, ddof=1) / s / t**2
    df = each.sum() ** 2 / (each**2 / (s - 1)).sum()
    reach = stats.t.ppf(0.975, df) * np.sqrt(each.sum())
    return difference.mean(), difference.mean() - reach, difference.mean() + reach


def test_every_seed_is_trained_on_every_data_set_for_itself(trained: tuple[Path, str, Path]):
    _, uri, folder = trained
    accuracy, main = values_of(uri), comparison(folder)["primary"]
    assert accuracy.shape == (2, 3, 3) and len(set(accuracy[0].ravel())) > 5
    expected = nested(accuracy[1] - accuracy[0])
    assert (main["difference"], main["low"], main["high"]) == pytest.approx(expected, rel=1e-9)
    assert main["method"] == "weighted_t" and comparison(folder)["n_pairs"] == 9
    assert "new seeds on these 3 data sets" in (folder / "report.html").read_text()


def test_further_scores_are_analysed_alike(trained: tuple[Path, str, Path]):
    _, uri, folder = trained
    found = {row["metric"]: row for row in comparison(folder)["secondary"]}
    assert set(found) == {"mean", "nll", "brier"}
    nll = values_of(uri, "test/nll")
    difference, low, high = nested(nll[1] - nll[0])
    assert found["nll"]["difference"] == pytest.approx(difference)
    assert found["nll"]["low"] < low < high < found["nll"]["high"]  # three share the error rate


def test_the_same_values_in_a_file_are_compared_alike(
    trained: tuple[Path, str, Path], bench: Callable[..., Any], tmp_path: Path
):
    _, uri, folder = trained
    values = values_of(uri)
    arm, seed, task = np.indices(values.shape).reshape(3, -1)
    names = {"arm": np.array(["plain", "more"])[arm], "seed": seed, "task": np.array(NAMES)[task]}
    pd.DataFrame({**names, "acc": values.ravel()}).to_csv(tmp_path / "acc.csv", index=False)
    words = "--arm arm --metric acc --seed seed --dataset task --baseline plain --json"
    said = bench("compare", tmp_path / "acc.csv", *words.split(), "--trained", "per-dataset")
    ours, theirs = comparison(folder)["primary"], said.json["comparisons"][0]["primary"]
    for name in ("difference", "low", "high", "p_value"):
        assert theirs[name] == pytest.approx(ours[name], rel=1e-9)


def test_runs_say_their_data_set_and_draw_for_it_alone(trained: tuple[Path, str, Path]):
    store = Store(trained[1])
    settled, _ = store.settled(store.benchmark("sets"))
    run = settled[TrialKey("more", 2, "wine")].run
    assert (run.name, run.tags["dataset"], run.tags["seed"]) == ("more/wine/seed-02", "wine", "2")
    assert run.params["dataset"] == "wine"
    tables = store.tables(store.benchmark("sets"))
    assert sorted(set(tables.trials.seed)) == list(range(9))
    assert [tables.datasets[row] for row in range(9)] == [0, 1, 2] * 3
    design = store.benchmark("sets").design()
    assert design.labels[5] == "cancer, 1" and design.units.datasets == NAMES
    facts = [json.loads(text)["streams"]["init"] for text in tables.trials.facts]
    assert len(set(facts)) == 9  # both arms of a seed and data set draw alike, and no others


def test_the_report_of_several_data_sets_is_verified(
    trained: tuple[Path, str, Path], bench: Callable[..., Any]
):
    page = trained[2] / "report.html"
    assert "all equal" in bench("verify", page).out
    said = bench("verify", page, "--rerun", "0", "--experiment", trained[0])
    assert "the report is of 3 data sets, and a pair is of one" in said.err


def test_a_run_is_repeated_and_seeds_are_added(
    tmp_path: Path, copy_store: Callable[[Path], str], bench: Callable[..., Any]
):
    path, uri = write(tmp_path), copy_store(tmp_path / "store")
    words = ("--store", uri, "--no-report", "--workers", "1")
    assert bench("run", path, "--seeds", "2", *words).err.count("run done") == 12
    said = bench("run", path, "--seeds", "2", *words, "--redo", "1:more:wine")
    assert said.err.count("run done seed=1 arm=more dataset=wine") == 1
    assert said.err.count("run done") == 1
    assert bench("run", path, "--seeds", "3", *words).err.count("run done seed=2") == 6
    said = bench("status", "sets", "--store", uri, "--json")
    assert said.json["pairs_finished"] == 3 and len(said.json["trials"]) == 18
    for typed in ("1:more", "1:more:rice"):
        said = bench("run", path, "--seeds", "3", *words, "--redo", typed)
        assert f'--redo "{typed}" is not SEED:ARM:DATASET' in said.err
        assert "--redo 0:plain:wine" in said.err
    said = bench("report", "sets", "--store", uri, "--out", tmp_path)  # a look, and then more
    assert comparison(tmp_path)["primary"]["method"] == "anytime"


def test_new_data_sets_are_spoken_of_by_how_these_differ(
    tmp_path: Path, copy_store: Callable[[Path], str], bench: Callable[..., Any]
):
    path, uri = write(tmp_path), copy_store(tmp_path)
    said = bench("run", path, "--seeds", "2", "--store", uri, "-q", "--scope", "new-datasets")
    found, means = comparison(tmp_path / "reports" / "sets"), values_of(uri).mean(axis=1)
    assert found["n_pairs"] == 3 and "3 data sets are too few for a verdict" in said.out
    test = stats.ttest_rel(means[1], means[0])
    main, interval = found["primary"], test.confidence_interval(0.95)
    assert (main["low"], main["high"]) == pytest.approx((interval.low, interval.high))
    assert main["p_value"] == pytest.approx(test.pvalue)


def test_a_failure_names_its_data_set_and_leaves_the_others(
    tmp_path: Path, copy_store: Callable[[Path], str], bench: Callable[..., Any]
):
    body = 'assert trial.dataset != "wine" or trial.arm == "plain", "no wine"'
    path, uri = write(tmp_path, body), copy_store(tmp_path)
    said = bench("run", path, "--seeds", "1", "--store", uri, "--no-report")
    assert said.status == 3 and "seed 00, more, wine: AssertionError: no wine" in said.err
    assert said.err.count("run done") == 5


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--stop", "anytime"), "--stop anytime looks at pairs of one data set, and there"),
        (("--vary", "init"), "--vary asks where the spread on one data set comes from"),
    ],
)
def test_what_does_not_fit_several_data_sets_is_refused(
    words: tuple[str, ...],
    what: str,
    trained: tuple[Path, str, Path],
    bench: Callable[..., Any],
):
    said = bench("run", trained[0], "--seeds", "6", "--store", trained[1], *words)
    assert said.status == 2 and what in said.err
    assert said.err.splitlines()[-1].endswith(f"--seeds 6 --store {trained[1]}")


def test_new_data_sets_take_several(
    tmp_path: Path, write_tiny: Callable[..., Path], bench: Callable[..., Any]
):
    said = bench("run", write_tiny(tmp_path), "--seeds", "6", "--scope", "new-datasets")
    assert said.status == 2 and "tiny trains on one data set, which says nothing of" in said.err
