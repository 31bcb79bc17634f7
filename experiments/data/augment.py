"""Augmentation: which images a trial trains on, in which batches, cropped and flipped."""

import hashlib

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bench.experiment import Settings, Trial
from bench.experiments.data.datasets import Images, stratified


class Subset:
    """The images that one trial draws, and their batches, drawn anew for every epoch.

    Attributes
    ----------
    rows, held_out : positions in the training split, to train on and to validate on
    name : of this epoch's batches: equal names, equal batches
    """

    def __init__(self, trial: Trial, images: Images) -> None:
        self.trial = trial
        settings, device = trial.settings, torch.device(trial.device)
        per_class = int(settings["train_per_class"]), int(settings["validation_per_class"])
        self.rows, self.held_out = stratified(images.train_labels, per_class, trial.rng("subset"))
        self.labels = images.train_labels[self.rows].to(device)
        self.crops = RandomCrops(images.train[self.rows].to(device), settings)

    def draw(self) -> int:
        """Draw an epoch: crops, flips and order; return the number of its batches."""
        drawn = self.crops.draw(self.trial.rng("augment"))
        order = self.trial.rng("order").permutation(len(self.rows))
        self.name = digest(self.rows, order, *drawn)
        indices = torch.from_numpy(order).to(self.labels.device)
        self._batches = batches(indices, int(self.trial.settings["batch_size"]))
        return len(self._batches)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the pixels, uint8, and labels of this epoch's batch number `step`."""
        chosen = self._batches[step]
        return self.crops[chosen], self.labels[chosen]


class RandomCrops:
    """Training images, cropped and flipped at random: a new draw every epoch.

    A crop has the size of the image and reaches past its edge, into black, by up to `crop_padding`
    of the side: 4 pixels of 32.
    """

    def __init__(self, pixels: Tensor, settings: Settings) -> None:
        self.count, _, self.height, self.width = pixels.shape
        self.reach = round(self.height * float(settings["crop_padding"]))
        self.flip = bool(settings["flip"])
        self.padded = functional.pad(pixels, (self.reach,) * 4)

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Choose where every image is cropped and whether it is flipped; return top, left, flip."""
        top, left = rng.integers(0, 2 * self.reach + 1, size=(2, self.count, 1))
        flipped = (rng.random((self.count, 1)) < 0.5) & self.flip
        columns = left + np.where(flipped, np.arange(self.width)[::-1], np.arange(self.width))
        rows = top + np.arange(self.height)
        device = self.padded.device
        self.rows, self.columns = (torch.from_numpy(a).to(device) for a in (rows, columns))
        return top, left, flipped

    def __getitem__(self, batch: Tensor) -> Tensor:
        rows, columns = self.rows[batch][:, :, None], self.columns[batch][:, None, :]
        return self.padded[batch[:, None, None], :, rows, columns].permute(0, 3, 1, 2)


def batches(order: Tensor, size: int) -> list[Tensor]:
    """Cut an epoch's order into batches of `size`, the last one smaller.

    A single left-over image joins the batch before it: batch-norm cannot train on one value.
    """
    pieces = list(order.split(size))
    if len(pieces) > 1 and len(pieces[-1]) == 1:
        pieces[-2:] = [torch.cat(pieces[-2:])]
    return pieces


def digest(*arrays: np.ndarray) -> str:
    """Return a digest of numbers: equal arrays have equal ones."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()[:16]
