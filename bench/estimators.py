"""Estimators: two of scikit-learn, fitted on random training sets or the folds of one data set.

It knows neither trials nor experiments: `Experiment.from_estimators` makes one of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.analysis.data.metrics import Predictions

TINY = 1e-12  # the least probability whose logarithm is taken
Whole = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Estimators:
    """Estimators by arm, and the data set that all are fitted on.

    Attributes
    ----------
    arms : name to estimator; clones of them are fitted
    x, y : shape (N, …) and (N,); x an array or a data frame
    folds : K, or None for one fixed test set
    test_size, train_size : share of the rows in the fixed test set, of the others that a seed draws
    """

    arms: Mapping[str, Any]
    x: Any
    y: NDArray[Any]
    folds: int | None
    test_size: float
    train_size: float

    @property
    def classify(self) -> bool | None:
        """Whether they are classifiers; None where some are and some are not."""
        from sklearn.base import is_classifier

        kinds = {bool(is_classifier(each)) for each in self.arms.values()}
        return kinds.pop() if len(kinds) == 1 else None

    @property
    def metric(self) -> str:
        """What decides."""
        return "accuracy" if self.classify else "squared_error"

    def settings(self) -> dict[str, dict[str, Any]]:
        """Return what each arm is, in words."""
        return {arm: {"estimator": " ".join(str(e).split())} for arm, e in self.arms.items()}

    def fitted(
        self, arm: str, seed: int, subset: np.random.Generator, init: np.random.Generator
    ) -> dict[str, Any]:
        """Fit a clone and return what it says of the test set, as the fields of an outcome.

        Parameters
        ----------
        seed : chooses the fold
        subset, init : draw the training set, and every `random_state`
        """
        from sklearn.base import clone

        model, state = clone(self.arms[arm]), int(init.integers(2**31))
        params = model.get_params()
        drawn = [p for p in params if p == "random_state" or p.endswith("__random_state")]
        model.set_params(**dict.fromkeys(drawn, state))
        train, test = self._rows(seed, subset)
        model.fit(self._take(train), self.y[train])
        x, y = self._take(test), self.y[test]
        if self.classify and self.folds is None and hasattr(model, "predict_proba"):
            return {"test": self._predictions(model, x, test)}
        said = np.asarray(model.predict(x))
        each = (said == y).astype(float) if self.classify else (said - y.astype(float)) ** 2
        if self.folds is not None:
            return {"scores": {self.metric: float(each.mean())}}
        return {"examples": {self.metric: each}}

    def _rows(self, seed: int, subset: np.random.Generator) -> tuple[Whole, Whole]:
        """Return the rows to train on and to test on."""
        n = len(self.y)
        if self.folds is not None:
            again, fold = divmod(seed, self.folds)
            test = np.array_split(np.random.default_rng(again).permutation(n), self.folds)[fold]
            return np.setdiff1d(np.arange(n), test), np.sort(test)
        order = np.random.default_rng(0).permutation(n)
        cut = n - round(self.test_size * n)
        drawn = subset.choice(cut, size=round(self.train_size * cut), replace=False)
        return order[drawn], order[cut:]

    def _take(self, rows: Whole) -> Any:
        return self.x.iloc[rows] if hasattr(self.x, "iloc") else np.asarray(self.x)[rows]

    def _predictions(self, model: Any, x: Any, test: Whole) -> Predictions:
        """Return log-probabilities of all classes, also of those that no training row has."""
        known, labels = np.unique(self.y, return_inverse=True)
        probabilities = np.full((len(test), len(known)), TINY)
        probabilities[:, np.searchsorted(known, model.classes_)] = model.predict_proba(x)
        probabilities = probabilities.clip(TINY)
        logs = np.log(probabilities / probabilities.sum(axis=1, keepdims=True))
        return Predictions(logs.astype(np.float32), labels[test])
