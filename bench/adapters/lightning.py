"""Lightning: `fit` as a training: its seed, its logger, its predictions."""

from typing import Any

from bench.adapters.lacking import needed
from bench.experiment import Outcome, Predictions, Trial


def fit(
    trial: Trial, module: Any, datamodule: Any, *, test_dataloader: Any = None, **how: Any
) -> Outcome:
    """Train a module with a `lightning.Trainer`, and return its predictions.

    Parameters
    ----------
    module : a LightningModule, made in `train(trial)` by weights from the global generator, which
        bench has seeded; its `predict_step` returns logits of shape (n, K)
    datamodule : a LightningDataModule, or a DataLoader of the training data. Where these are
        shuffled, give the loader `generator=trial.torch_rng("order")`, so that both arms of a seed
        see the same batches
    test_dataloader : what is scored, by default the datamodule's `predict_dataloader`; its batches
        end with their labels
    how : arguments of `Trainer`, as max_epochs

    Raises
    ------
    NotInstalled : lightning is not
    """
    lightning = needed("lightning", "lightning")
    trainer = lightning.Trainer(
        **{
            "accelerator": "cpu" if trial.device == "cpu" else "auto",
            "devices": 1,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "deterministic": "warn",
            **how,
            "logger": logger(trial),
            "default_root_dir": str(trial.folder),
        }
    )
    whole = isinstance(datamodule, lightning.LightningDataModule)
    trainer.fit(module, **{"datamodule" if whole else "train_dataloaders": datamodule})
    scored = datamodule.predict_dataloader() if test_dataloader is None else test_dataloader
    return _outcome(lightning, module, scored)


def _outcome(lightning: Any, module: Any, batches: Any) -> Outcome:
    """Return what the module says of every batch, in their order."""
    torch, logits, labels = needed("torch", "lightning"), [], []
    module.eval()
    with torch.no_grad():
        for number, batch in enumerate(batches):
            there = lightning.fabric.utilities.move_data_to_device(batch, module.device)
            logits.append(module.predict_step(there, number).float().cpu())
            labels.append(batch[-1])
    return Outcome(test=Predictions(torch.cat(logits).log_softmax(dim=1), torch.cat(labels)))


def logger(trial: Trial) -> Any:
    """Return a Lightning logger that hands every number to the trial."""
    base: Any = needed("lightning.pytorch.loggers.logger", "lightning").Logger

    class Log(base):  # type: ignore[misc]
        name, version = "bench", 0

        def log_hyperparams(self, *_: Any, **__: Any) -> None:
            """Leave them: the settings are recorded."""

        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            """Record what belongs to an epoch."""
            values = {name: float(value) for name, value in metrics.items() if name != "epoch"}
            if values:
                trial.log(int(metrics.get("epoch", 0)), values)

    return Log()
