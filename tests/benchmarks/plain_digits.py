"""Plain digits: the trainings of `experiments/digits.py` as one writes them without bench.

``python tests/benchmarks/plain_digits.py --seeds 20`` trains both arms of every seed, one after
the other, and prints the difference. Recipe, seeds, first weights and batches are those of the
experiment; DataLoader, loop and evaluation are what a tutorial shows.
"""

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, Subset, TensorDataset

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench import Outcome, Predictions, Trial
from bench.experiments.data import datasets
from bench.experiments.digits import EXPERIMENT, network
from bench.experiments.training.small import initialised

PER_CLASS = (20, 30)  # to train and to validate, drawn by each seed


class Shuffled(Sampler[int]):
    """The training images in a new order every epoch, drawn as the experiment draws it."""

    def __init__(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        self.rows, self.rng = rows, rng

    def __iter__(self) -> Iterator[int]:
        return iter(self.rng.permutation(self.rows).tolist())

    def __len__(self) -> int:
        return len(self.rows)


def loaders(trial: Trial) -> tuple[DataLoader[Any], DataLoader[Any], DataLoader[Any]]:
    """Return the batches to train on, to validate on and to test on."""
    images = datasets.digits()
    rows, held_out = datasets.stratified(images.train_labels, PER_CLASS, trial.rng("subset"))
    train = TensorDataset(images.train / 16, images.train_labels)
    test = TensorDataset(images.test / 16, images.test_labels)
    shuffled = Shuffled(rows, trial.rng("order"))
    return (
        DataLoader(train, batch_size=trial.settings["batch_size"], sampler=shuffled),
        DataLoader(Subset(train, held_out.tolist()), batch_size=256),
        DataLoader(test, batch_size=256),
    )


@torch.inference_mode()
def predict(model: nn.Module, loader: DataLoader[Any]) -> tuple[Tensor, Tensor]:
    """Return log-probabilities and labels."""
    model.eval()
    outputs = [(model(x).log_softmax(dim=1), y) for x, y in loader]
    return torch.cat([log_p for log_p, _ in outputs]), torch.cat([y for _, y in outputs])


def train(trial: Trial) -> Outcome:
    """Train one arm with one seed."""
    training, validation, test = loaders(trial)
    model = initialised(trial, network)
    optimizer = torch.optim.Adam(model.parameters(), lr=trial.settings["lr"])
    # torch smooths uniformly over all 10 classes, the article over the 9 others
    criterion = nn.CrossEntropyLoss(label_smoothing=trial.settings["epsilon"] * 10 / 9)
    best = -1.0
    for epoch in range(trial.settings["epochs"]):
        model.train()
        loss_sum, correct = 0.0, 0
        for x, y in training:
            logits = model(x)
            loss = criterion(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(y)
            correct += int((logits.argmax(dim=1) == y).sum())
        log_p, labels = predict(model, validation)
        accuracy = float((log_p.argmax(dim=1) == labels).float().mean())
        trial.log(epoch, {"train/loss": loss_sum / 200, "val/accuracy": accuracy})
        if accuracy > best:
            best, selected = accuracy, epoch
            weights = copy.deepcopy(model.state_dict())
            chosen = Predictions(log_p.numpy(), labels.numpy())
    last = Predictions(*(x.numpy() for x in predict(model, test)))
    model.load_state_dict(weights)
    at_best = Predictions(*(x.numpy() for x in predict(model, test)))
    return Outcome(test=at_best, test_last=last, validation=chosen, selected_epoch=selected)


def main() -> None:
    """Train and print; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--threads", type=int, help="torch's own default where not given")
    wanted = parser.parse_args()
    if wanted.threads:
        torch.set_num_threads(wanted.threads)
    torch.optim.Adam([torch.zeros(1)])  # imports what torch imports late; it is no training
    started = time.perf_counter()
    accuracy: dict[str, list[float]] = {arm: [] for arm in EXPERIMENT.arms}
    for seed in range(wanted.seeds):
        for arm in EXPERIMENT.arms:
            outcome = train(Trial(seed, arm, EXPERIMENT.arm_settings(arm)))
            test = outcome.test
            assert test is not None
            hits = test.log_probabilities.argmax(axis=1) == test.labels
            accuracy[arm].append(float(hits.mean()))
            print(f"seed {seed} {arm} {accuracy[arm][-1]:.4f}", flush=True)
    seconds = time.perf_counter() - started
    baseline, smoothed = accuracy.values()
    differences = [b - a for a, b in zip(baseline, smoothed, strict=True)]
    print(f"mean difference {statistics.mean(differences):+.4f}")
    print(json.dumps({"train_s": seconds, "accuracy": accuracy}))


if __name__ == "__main__":
    main()
