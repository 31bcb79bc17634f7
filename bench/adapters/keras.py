"""Keras: a callback that logs, and a model's predictions as an outcome."""

from typing import Any

import numpy as np

from bench.adapters.lacking import needed
from bench.experiment import Outcome, Predictions, Trial

TINY = 1e-7


def seeded(trial: Trial) -> None:
    """Seed Keras, its backend, numpy and Python; call it before the model is made.

    Raises
    ------
    NotInstalled : keras is not
    """
    seed = int(trial.rng("init").integers(2**31))
    needed("keras", "keras").utils.set_random_seed(seed)


def callback(trial: Trial) -> Any:
    """Return a callback for `model.fit(…, callbacks=[callback(trial)])`: epochs reach MLflow."""
    base: Any = needed("keras.callbacks", "keras").Callback

    class Log(base):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            values = {
                f"val/{name[4:]}" if name.startswith("val_") else f"train/{name}": float(value)
                for name, value in (logs or {}).items()
            }
            trial.log(epoch, values)

    return Log()


def outcome(model: Any, x: Any, labels: Any, *, from_logits: bool = False) -> Outcome:
    """Return the predictions of a classifier on the test set.

    Parameters
    ----------
    labels : shape (N,), 0 to K - 1
    from_logits : the model ends without a softmax
    """
    said = np.asarray(model.predict(x, verbose=0), dtype=np.float64)
    if from_logits:
        said = said - said.max(axis=1, keepdims=True)
        logs: Any = said - np.log(np.exp(said).sum(axis=1, keepdims=True))
    else:
        said = said.clip(TINY)
        logs = np.log(said / said.sum(axis=1, keepdims=True))
    return Outcome(test=Predictions(logs, np.asarray(labels, dtype=np.int64)))
