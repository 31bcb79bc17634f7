"""Digits: does label smoothing help a small network on few images? The experiment to copy.

All randomness comes from the trial's streams: both arms of a seed share first weights and batches.
Trials train side by side as one network; the first axis of its input is the trial.
"""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bench import Experiment, Outcome, Trial
from bench.contract import Diverged, Settings
from experiments import data, label_smoothing
from experiments.reproducible import deterministic, initialised_by, word
from experiments.selection import Selection
from experiments.settings import POSITIVE, check, whole
from experiments.stacked import Stacked, alone, side_by_side

SETTINGS = {"epochs": 20, "batch_size": 20, "lr": 1e-3, "convention": "article"}
RULES = {"epochs": whole(1), "batch_size": whole(1), "lr": POSITIVE, **label_smoothing.RULES}
PER_CLASS = (20, 30)  # to train and to validate, drawn by each seed; the test half is fixed


def network(trial: Trial) -> nn.Module:
    """Return a small convolutional network for 8 x 8 images."""
    with initialised_by(word(trial.torch_rng("init"))):
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 10),
        ).to(trial.device)


@deterministic()
def train_alike(trials: list[Trial]) -> list[Outcome | Diverged]:
    """Train trials that differ in seed and loss alone; each selects its own best epoch."""
    settings, device, images = trials[0].settings, trials[0].device, data.digits()
    pixels, test = ((x / 16).to(device) for x in (images.train, images.test))
    labels = images.train_labels.to(device)
    draws = [data.stratified(images.train_labels, PER_CLASS, t.rng("subset")) for t in trials]
    rows, held_out = (np.stack(parts) for parts in zip(*draws, strict=True))  # (trials, images)
    smoothing = [(t.settings["epsilon"], t.settings["convention"]) for t in trials]
    stack = Stacked([network(trial) for trial in trials])
    optimizer = torch.optim.Adam(stack.parameters(), lr=settings["lr"])
    selections = [
        Selection(trial, labels[held], epochs=settings["epochs"])
        for trial, held in zip(trials, held_out, strict=True)
    ]
    for epoch in range(settings["epochs"]):
        started = time.perf_counter()
        sums = torch.zeros(len(trials), 2, device=device)  # of losses, of correct answers
        order = [t.rng("order").permutation(r) for t, r in zip(trials, rows, strict=True)]
        for batch in torch.from_numpy(np.stack(order)).split(settings["batch_size"], dim=1):
            logits = stack(pixels[batch])
            loss = label_smoothing.smoothed_cross_entropies(logits, labels[batch], smoothing)
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
            correct = (logits.argmax(dim=2) == labels[batch]).sum(dim=1)
            sums += torch.stack([loss.detach() * batch.shape[1], correct], dim=1)

        log_p = [stack.predict(stack.state(i), pixels[held]) for i, held in enumerate(held_out)]
        seconds = (time.perf_counter() - started) / len(trials)
        for i, (loss_mean, accuracy) in enumerate((sums / rows.shape[1]).tolist()):
            values = {"train/loss": loss_mean, "train/accuracy": accuracy}
            values |= {"lr": settings["lr"], "time/epoch_s": seconds}
            selections[i].log(epoch, values, log_p[i], partial(stack.state, i))
        if all(selection.over for selection in selections):
            break

    tested = [{e: stack.predict(w, test) for e, w in s.weights.items()} for s in selections]
    return [s.outcome(t, images.test_labels) for s, t in zip(selections, tested, strict=True)]


def train_pack(trials: Sequence[Trial]) -> list[Outcome | Diverged]:
    """Train both arms of some seeds."""
    return side_by_side(train_alike, trials)


def train(trial: Trial) -> Outcome:
    """Train one arm with one seed."""
    return alone(train_pack([trial]))


def prepare(settings: Settings, data_dir: Path | None) -> dict[str, object]:
    """Check the settings and say which data this is; called once an arm, before any training."""
    check(settings, RULES, defaults={**SETTINGS, "epsilon": 0.1})
    return data.digits().facts()


EXPERIMENT = Experiment(
    name="digits",
    question="Does label smoothing raise test accuracy on scikit-learn's digits?",
    arms=label_smoothing.ARMS,
    settings=SETTINGS,
    train=train,
    train_pack=train_pack,
    pack_seeds=5,
    prepare=prepare,
    margin=0.005,  # 0.5 pp
    claim=0.01,  # 1.0 pp
)
