"""Trees: do extremely randomised trees beat a random forest? scikit-learn alone, no epochs."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

from bench import Experiment, Outcome, Predictions, Trial
from bench.experiment import Settings
from bench.experiments.data.download_cache import content_digest
from bench.experiments.training.setting_rules import check, one_of, whole

FORESTS = {"random": RandomForestClassifier, "extra": ExtraTreesClassifier}
SETTINGS = {"trees": 100, "per_class": 50}  # images a class, drawn by each seed
RULES = {"trees": whole(1), "per_class": whole(1, 87), "kind": one_of(FORESTS)}
ALL = np.arange(64)  # the columns, one a pixel


@lru_cache(maxsize=1)
def halves() -> dict[str, NDArray[np.int64]]:
    """Return pixels, shape (N, 64), and labels; every other image of a class is for testing."""
    x, y = (array.astype(np.int64) for array in load_digits(return_X_y=True))
    test, train = (np.argsort(y, kind="stable")[start::2] for start in (0, 1))
    return {"train": x[train], "train_labels": y[train], "test": x[test], "test_labels": y[test]}


def train(trial: Trial, columns: NDArray[np.int64] = ALL) -> Outcome:
    """Fit a forest to the images that the seed draws, and score it on the fixed half."""
    half, draw, trees = halves(), trial.rng("subset"), trial.settings["trees"]
    pools = [np.flatnonzero(half["train_labels"] == label) for label in range(10)]
    rows = np.concatenate([draw.permutation(p)[: trial.settings["per_class"]] for p in pools])
    seed = int(trial.rng("init").integers(2**31))
    forest = FORESTS[trial.settings["kind"]](trees, random_state=seed)
    forest.fit(half["train"][rows][:, columns], half["train_labels"][rows])
    p = forest.predict_proba(half["test"][:, columns]).clip(min=0.5 / trees)  # half a vote, not 0
    test = Predictions(np.log(p / p.sum(axis=1, keepdims=True)), half["test_labels"])
    return Outcome(test=test, facts={"trained_on": len(rows)})


def prepare(settings: Settings, data_dir: Path | None) -> dict[str, object]:
    """Check the settings and say which data this is; called once an arm, before any training."""
    check(settings, RULES, defaults={**SETTINGS, "kind": "extra"})
    data = {"name": "digits (scikit-learn)", "digest": content_digest(halves(), ())}
    return {**data, "train_pool": len(halves()["train"])}


EXPERIMENT = Experiment(
    name="trees",
    question="Do extremely randomised trees raise test accuracy over a random forest?",
    arms={"random forest": {"kind": "random"}, "extra trees": {"kind": "extra"}},
    settings=SETTINGS,
    train=train,
    prepare=prepare,
    device="cpu",
    margin=0.005,  # 0.5 pp, as in digits: four or five of the 899 test images
)
