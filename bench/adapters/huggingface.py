"""Hugging Face: one run of a `Trainer` as a training, from the trial's seed to its predictions."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bench.adapters.lacking import needed
from bench.experiment import Outcome, Predictions, Trial


def train(
    trial: Trial,
    *,
    model_init: Callable[[], Any],
    args: Mapping[str, Any],
    train_dataset: Any,
    eval_dataset: Any,
    test_dataset: Any = None,
    **more: Any,
) -> Outcome:
    """Train with a `transformers.Trainer`, and return its predictions.

    Parameters
    ----------
    model_init : returns a new model; called after the generators were seeded
    args : of `TrainingArguments`, as a dictionary; seeds, folders and reports are the trial's
    eval_dataset : where the Trainer evaluates while it trains, and selects with
        load_best_model_at_end
    test_dataset : what is scored; by default eval_dataset, on which nothing may be selected then
    more : further arguments of `Trainer`

    Returns
    -------
    log-probabilities of a classifier; of another task the numbers of `compute_metrics` as scores

    Raises
    ------
    NotInstalled : transformers or accelerate is not
    """
    transformers = needed("transformers", "huggingface")
    needed("accelerate", "huggingface")
    seed = int(trial.rng("init").integers(2**31))
    order = int(trial.rng("order").integers(2**31))
    arguments = transformers.TrainingArguments(
        **{
            "save_strategy": "no",
            "disable_tqdm": True,
            **args,
            "output_dir": str(trial.folder / "trainer"),
            "seed": seed,
            "data_seed": order,
            "report_to": [],
            "push_to_hub": False,
            "use_cpu": trial.device == "cpu",
        }
    )
    transformers.set_seed(seed)
    trainer = transformers.Trainer(
        model_init=model_init,
        args=arguments,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        **more,
    )
    trainer.add_callback(_callback(transformers, trial))
    trainer.train()
    found = trainer.predict(eval_dataset if test_dataset is None else test_dataset)
    return _outcome(found)


def _callback(transformers: Any, trial: Trial) -> Any:
    """Return what hands each log of the Trainer to the trial."""
    base: Any = transformers.TrainerCallback

    class Log(base):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            values = {
                f"val/{name[5:]}" if name.startswith("eval_") else f"train/{name}": float(value)
                for name, value in (logs or {}).items()
                if name != "epoch" and isinstance(value, int | float)
            }
            epoch = max(0, round(float(state.epoch or 0)) - 1)
            if values:
                trial.log(epoch, values)

    return Log()


def _outcome(found: Any) -> Outcome:
    logits = found.predictions[0] if isinstance(found.predictions, tuple) else found.predictions
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(found.label_ids)
    whole = labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer)
    if whole and logits.ndim == 2 and logits.shape[1] > 1:
        logits -= logits.max(axis=1, keepdims=True)
        logs: Any = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return Outcome(test=Predictions(logs, labels))
    numbers = {name.removeprefix("test_"): value for name, value in found.metrics.items()}
    timed = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")
    return Outcome(scores={n: float(v) for n, v in numbers.items() if n not in timed})
