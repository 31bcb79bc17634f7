"""Digits: does label smoothing help a small network on few images? The experiment to copy.

All randomness comes from the trial's streams: both arms of a seed share first weights and batches.
"""

import time
from pathlib import Path

import torch
from torch import Tensor, nn

from bench import Experiment, Outcome, Predictions, Trial
from bench.contract import Settings
from experiments import data, label_smoothing
from experiments.reproducible import deterministic, initialised_by
from experiments.settings import POSITIVE, check, whole

SETTINGS = {"epochs": 20, "batch_size": 20, "lr": 1e-3, "convention": "article"}
RULES = {"epochs": whole(1), "batch_size": whole(1), "lr": POSITIVE, **label_smoothing.RULES}
PER_CLASS = (20, 30)  # to train and to validate, drawn by each seed; the test half is fixed


def network() -> nn.Module:
    """Return a small convolutional network for 8 x 8 images."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


@torch.no_grad()
def predict(model: nn.Module, pixels: Tensor) -> Tensor:
    """Return log-probabilities, shape (N, 10)."""
    return model(pixels).log_softmax(dim=1).cpu()


@deterministic()
def train(trial: Trial) -> Outcome:
    """Train one arm with one seed; the test set is scored at the best epoch and at the last."""
    settings, images = trial.settings, data.digits()
    smoothing = settings["epsilon"], settings["convention"]
    rows, held_out = data.stratified(images.train_labels, PER_CLASS, trial.rng("subset"))
    pixels, test_pixels = ((x.to(trial.device) / 16) for x in (images.train, images.test))
    labels = images.train_labels.to(trial.device)
    with initialised_by(trial.torch_rng("init")):
        model = network().to(trial.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings["lr"])

    best = -1.0
    for epoch in range(settings["epochs"]):
        started, loss_sum, correct = time.perf_counter(), 0.0, 0
        order = torch.from_numpy(trial.rng("order").permutation(rows))
        for batch in order.split(settings["batch_size"]):
            logits = model(pixels[batch])
            loss = label_smoothing.smoothed_cross_entropy(logits, labels[batch], *smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += float(loss.detach()) * len(batch)
            correct += int((logits.argmax(dim=1) == labels[batch]).sum())

        log_p = predict(model, pixels[held_out])
        scores = label_smoothing.validation_scores(log_p, images.train_labels[held_out], *smoothing)
        values = {
            "train/loss": loss_sum / len(rows),
            "train/accuracy": correct / len(rows),
            "lr": settings["lr"],
            "time/epoch_s": time.perf_counter() - started,
        }
        trial.log(epoch, {**values, **scores})
        if scores["val/accuracy"] > best:  # of tied epochs the earliest stays
            best, selected = scores["val/accuracy"], epoch
            validation = Predictions(log_p.numpy(), images.train_labels[held_out].numpy())
            test = Predictions(predict(model, test_pixels).numpy(), images.test_labels.numpy())

    last = Predictions(predict(model, test_pixels).numpy(), images.test_labels.numpy())
    return Outcome(test=test, test_last=last, validation=validation, selected_epoch=selected)


def prepare(settings: Settings, data_dir: Path | None) -> dict[str, object]:
    """Check the settings and say which data this is; called once, before any training."""
    check(settings, RULES, defaults={**SETTINGS, "epsilon": 0.1}, experiment="digits")
    return data.digits().facts()


EXPERIMENT = Experiment(
    name="digits",
    question="Does label smoothing raise test accuracy on scikit-learn's digits?",
    arms=label_smoothing.ARMS,
    settings=SETTINGS,
    train=train,
    prepare=prepare,
    margin=0.005,  # 0.5 pp
    claim=0.01,  # 1.0 pp
)
