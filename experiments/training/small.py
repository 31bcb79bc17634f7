"""Small networks on few images, several trainings at once.

The recipe of `digits`, for any network and any images that fit a device: each seed draws its
training and validation images; Adam; the epoch with the best validation accuracy is selected, the
earliest where some tie.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from bench.experiment import Diverged, Outcome, Trial
from bench.experiments.data.datasets import Images, stratified
from bench.experiments.training import label_smoothing
from bench.experiments.training.epochs import train_epochs
from bench.experiments.training.reproducible import deterministic, initialised_by, word
from bench.experiments.training.selection import Selection
from bench.experiments.training.setting_rules import POSITIVE, whole
from bench.experiments.training.stacked import Stacked, side_by_side

RULES = {"epochs": whole(1), "batch_size": whole(1), "lr": POSITIVE, **label_smoothing.RULES}


def train_small(
    trials: Sequence[Trial],
    network: Callable[[], nn.Module],
    images: Images,
    *,
    per_class: tuple[int, int],
    brightest: float = 255,
) -> list[Outcome | Diverged]:
    """Train a small network in each trial, those that differ in seed or loss alone as one.

    Parameters
    ----------
    network : makes one with fresh weights, drawn as torch's layers draw them
    per_class : images of each class to train on and to validate on
    brightest : what a pixel is divided by
    """
    return side_by_side(partial(_train_alike, network, images, per_class, brightest), trials)


@deterministic()
def _train_alike(
    network: Callable[[], nn.Module],
    images: Images,
    per_class: tuple[int, int],
    brightest: float,
    trials: Sequence[Trial],
) -> list[Outcome | Diverged]:
    settings, device = trials[0].settings, trials[0].device
    pixels, test = ((x / brightest).to(device) for x in (images.train, images.test))
    labels = images.train_labels.to(device)
    draws = [stratified(images.train_labels, per_class, t.rng("subset")) for t in trials]
    networks = Stacked([initialised(trial, network) for trial in trials])
    optimizer = torch.optim.Adam(networks.parameters(), lr=float(settings["lr"]))
    selections = [
        Selection(trial, labels[held_out], epochs=int(settings["epochs"]))
        for trial, (_, held_out) in zip(trials, draws, strict=True)
    ]

    def batches(active: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
        order = np.stack([trials[i].rng("order").permutation(draws[i][0]) for i in active])
        indices = torch.from_numpy(order).to(device)  # once an epoch, not at every step
        for batch in indices.split(int(settings["batch_size"]), dim=1):
            yield pixels[batch], labels[batch]

    def validate(i: int) -> Tensor:
        return networks.predict(networks.state(i), pixels[draws[i][1]])

    train_epochs(networks, optimizer, selections, batches, validate)
    tested = [{e: networks.predict(w, test) for e, w in s.weights.items()} for s in selections]
    return [
        selection.outcome(log_p, images.test_labels, trained_on=len(rows))
        for selection, log_p, (rows, _) in zip(selections, tested, draws, strict=True)
    ]


def initialised(trial: Trial, network: Callable[[], nn.Module]) -> nn.Module:
    """Return a network with the first weights that the trial draws, on its device."""
    with initialised_by(word(trial.torch_rng("init"))):
        return network().to(trial.device)
