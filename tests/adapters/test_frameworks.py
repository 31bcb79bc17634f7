"""Adapters, each with its real library: the examples of docs/frameworks, run by `bench run`."""

import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits, make_regression
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.tree import DecisionTreeClassifier

from bench import Experiment
from bench.adapters.lacking import NotInstalled, needed
from bench.design.plan import TrialKey
from bench.experiment import BadExperiment, Trial
from bench.store.mlflow_store import Store

ROOT = Path(__file__).parents[2]
FRAMEWORKS = {"trainer": "transformers", "module": "lightning", "layers": "keras"}
EPOCHS = {"trainer": 2, "module": 3, "layers": 3}


@pytest.fixture
def run(tmp_path: Path, bench: Callable[..., Any], copy_store: Any, monkeypatch: Any) -> Any:
    """Return what runs an example in an empty folder, and returns its store."""

    def run(name: str, seeds: int = 2, *words: str) -> Store:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("KERAS_BACKEND", "torch")
        uri = copy_store(tmp_path / "mlruns")
        shutil.copy(ROOT / f"docs/frameworks/{name}.py", tmp_path)
        said = bench("run", f"{name}.py", "--seeds", seeds, "--workers", 2, *words)
        assert said.status == 0, said.err
        return Store(uri)

    return run


@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.sample(3)
def test_an_example_trains_logs_its_epochs_and_gives_predictions(name: str, run: Any):
    if importlib.util.find_spec(FRAMEWORKS[name]) is None:
        pytest.skip(f"{FRAMEWORKS[name]} is not installed")
    store = run(name)
    tables = store.tables(store.benchmark())
    assert len(tables.predictions) >= 4
    epochs = tables.epochs.groupby(["arm", "seed"]).epoch.max().tolist()
    assert epochs == [EPOCHS[name] - 1] * 4
    values = [tables.scored(arm, s, "test").correct.mean() for arm, s, _ in tables.predictions]
    assert len({*values}) > 2


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_same_seed_gives_the_same_bits(name: str, bench: Any, tmp_path: Path, monkeypatch: Any):
    if importlib.util.find_spec(FRAMEWORKS[name]) is None:
        pytest.skip(f"{FRAMEWORKS[name]} is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    shutil.copy(ROOT / f"docs/frameworks/{name}.py", tmp_path)
    said = bench("doctor", f"{name}.py")
    assert "4 runs trained twice: the same bits" in said.out
    assert "another seed gives other results in every arm" in " ".join(said.out.split())


def test_a_framework_that_is_not_there_is_named_with_what_installs_it(monkeypatch: Any):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(NotInstalled, match="keras is not installed") as refused:
        needed("keras", "keras")
    assert refused.value.fix == "pip install 'bench-paired[keras]'"


def test_every_example_fits_on_a_screen():
    for path in (ROOT / "docs/frameworks").glob("*.py"):
        lines = [line for line in path.read_text().splitlines() if line.strip()]
        assert len(lines) - 1 <= 35, path.name


# -- scikit-learn --------------------------------------------------------------------------------


def trained(experiment: Experiment, arm: str = "baseline", seed: int = 0) -> Any:
    settings = experiment.arm_settings(arm)
    return experiment.train(Trial(seed=seed, arm=arm, settings=settings))


def test_two_estimators_are_an_experiment(run: Any):
    store = run("estimators", 3)
    benchmark = store.benchmark()
    assert list(benchmark.plan.arms) == ["forest", "extra"]
    assert "RandomForestClassifier" in benchmark.plan.arms["forest"]["estimator"]
    assert len(store.tables(benchmark).predictions) >= 6


def test_both_arms_of_a_seed_see_the_same_rows_and_seeds_differ():
    x, y = load_digits(return_X_y=True)
    same = Experiment.from_estimators(
        DecisionTreeClassifier(max_depth=5), DecisionTreeClassifier(max_depth=6), x, y
    )
    one, other = (trained(same, arm="baseline", seed=seed).test for seed in (0, 1))
    again = trained(same, arm="baseline", seed=0).test
    assert np.array_equal(one.log_probabilities, again.log_probabilities)
    assert not np.array_equal(one.log_probabilities, other.log_probabilities)
    assert np.array_equal(one.labels, trained(same, arm="treatment").test.labels)


def test_labels_that_are_texts_are_classes():
    x, y = load_digits(return_X_y=True)
    names = np.array(["even" if label % 2 == 0 else "odd" for label in y])
    found = trained(
        Experiment.from_estimators(LogisticRegression(), LogisticRegression(C=2.0), x / 16, names)
    )
    assert found.test.n_classes == 2
    assert (found.test.log_probabilities.argmax(axis=1) == found.test.labels).mean() > 0.8


def test_regressors_give_the_squared_error_of_every_example():
    x, y = make_regression(200, 5, noise=5.0, random_state=0)
    experiment = Experiment.from_estimators(LinearRegression(), Ridge(), x, y)
    assert (experiment.metric, experiment.higher_is_better) == ("squared_error", False)
    assert trained(experiment).examples["squared_error"].shape == (100,)


def test_a_classifier_beside_a_regressor_is_refused():
    x, y = load_digits(return_X_y=True)
    with pytest.raises(BadExperiment, match="and the other is none"):
        Experiment.from_estimators(LogisticRegression(), LinearRegression(), x, y)


FOLDS = """
from sklearn.datasets import load_breast_cancer
from sklearn.tree import DecisionTreeClassifier
from bench import Experiment

x, y = load_breast_cancer(return_X_y=True)
EXPERIMENT = Experiment.from_estimators(
    DecisionTreeClassifier(max_depth=1), DecisionTreeClassifier(max_depth=4), x, y,
    name="folds", folds=10, arms=("stump", "tree"),
)
"""


def test_folds_are_the_unit_of_a_cross_validation(
    tmp_path: Path, bench: Any, copy_store: Any, monkeypatch: Any
):
    monkeypatch.chdir(tmp_path)
    copy_store(tmp_path / "mlruns")
    (tmp_path / "cv.py").write_text(FOLDS)
    said = bench("run", "cv.py", "--seeds", 10, "--json")
    assert said.status == 0, said.err
    units = said.json["plan"]["units"]
    assert (units["rows"], units["test_share"]) == ("folds", pytest.approx(1 / 9))
    [found] = said.json["comparisons"]
    store = Store(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    recorded = store.settled(store.benchmark())[0]
    by_arm = [
        np.array([recorded[TrialKey(arm, fold)].run.metrics["accuracy"] for fold in range(10)])
        for arm in ("stump", "tree")
    ]
    differences = by_arm[1] - by_arm[0]
    error = np.sqrt((1 / 10 + 1 / 9) * differences.var(ddof=1))  # Nadeau & Bengio (2003)
    assert found["primary"]["standard_error"] == pytest.approx(error)
    said = bench("run", "cv.py", "--stop", "anytime")
    assert said.status == 2
    assert "folds share their examples" in said.err
