"""Writes the gallery's four reports anew: `.venv/bin/python docs/gallery/make.py`.

Two are real trainings of scikit-learn's models on its own small data sets; two are simulated, and
say so. Each table is compared as anybody would, by `bench.compare`.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn import datasets
from sklearn.base import ClassifierMixin
from sklearn.ensemble import BaggingClassifier, ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import bench

HERE = Path(__file__).parent
SETS = ("iris", "wine", "breast_cancer", "digits")


def language_models() -> tuple[pd.DataFrame, dict[str, Any]]:
    """Simulate two language models on 60 passages with 1 to 9 questions each."""
    rng = np.random.default_rng(0)
    rows = []
    for passage in range(60):
        ease, gain = rng.normal(0.4, 1.2), rng.normal(0.25, 0.6)
        for question in range(rng.integers(1, 10)):
            hard = rng.normal(0, 1)
            right = [rng.random() < 1 / (1 + np.exp(hard - ease - g)) for g in (0.0, gain)]
            for model, answer in zip(("model-7b", "model-8b"), right, strict=True):
                rows.append((passage, f"{passage}-{question}", model, int(answer)))
    table = pd.DataFrame(rows, columns=["passage", "question", "model", "accuracy"])
    columns = {"arm": "model", "metric": "accuracy", "example": "question", "cluster": "passage"}
    return table, {**columns, "baseline": "model-7b", "margin": "3pp"}


def data_sets() -> tuple[pd.DataFrame, dict[str, Any]]:
    """Train three kinds of trees on five data sets, split once each, with ten seeds."""
    arms: dict[str, Callable[[int], ClassifierMixin]] = {
        "bagging": lambda seed: BaggingClassifier(n_estimators=60, random_state=seed),
        "forest": lambda seed: RandomForestClassifier(60, random_state=seed),
        "extra trees": lambda seed: ExtraTreesClassifier(60, random_state=seed),
    }
    sets = {name: getattr(datasets, f"load_{name}")(return_X_y=True) for name in SETS}
    sets["moons (simulated)"] = datasets.make_moons(600, noise=0.35, random_state=0)
    rows = []
    for name, (x, y) in sets.items():
        parts = train_test_split(x, y, test_size=0.4, stratify=y, random_state=0)
        for seed in range(10):
            for arm, make in arms.items():
                model = make(seed).fit(parts[0], parts[2])
                rows.append((name, seed, arm, model.score(parts[1], parts[3])))
    table = pd.DataFrame(rows, columns=["dataset", "seed", "model", "accuracy"])
    columns = {"arm": "model", "metric": "accuracy", "dataset": "dataset"}
    return table, {**columns, "baseline": "bagging", "margin": "1pp", "trained": "per-dataset"}


def folds() -> tuple[pd.DataFrame, dict[str, Any]]:
    """Train a forest and a linear model on ten folds of the breast cancer data."""
    x, y = datasets.load_breast_cancer(return_X_y=True)
    rows = []
    for fold, (train, test) in enumerate(
        StratifiedKFold(10, shuffle=True, random_state=0).split(x, y)
    ):
        linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        forest = RandomForestClassifier(100, random_state=0)
        rows.append(
            (fold, *(m.fit(x[train], y[train]).score(x[test], y[test]) for m in (linear, forest)))
        )
    table = pd.DataFrame(rows, columns=["fold", "linear", "forest"])
    how = {"baseline": "linear", "treatment": "forest", "metric": "accuracy", "margin": "1pp"}
    return table, how


def records() -> tuple[pd.DataFrame, dict[str, Any]]:
    """Simulate the runs of an old record and of a new one, which share no seeds."""
    rng = np.random.default_rng(1)
    old = [("old record", value) for value in rng.normal(94.00, 0.14, 30).round(2)]
    new = [("new record", value) for value in rng.normal(94.08, 0.16, 40).round(2)]
    table = pd.DataFrame([*old, *new], columns=["method", "accuracy"])
    how = {"arm": "method", "metric": "accuracy", "baseline": "old record", "margin": "0.05pp"}
    return table, how


GALLERY = {
    "language_models": language_models,
    "data_sets": data_sets,
    "folds": folds,
    "records": records,
}


def main() -> None:
    """Write every report."""
    for name, make in GALLERY.items():
        table, how = make()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.csv"
            table.to_csv(path, index=False)
            found = bench.compare(path, **how)
        found.save(HERE / f"{name}.html")
        print(found, end="\n\n")


if __name__ == "__main__":
    main()
