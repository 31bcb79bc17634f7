"""The training loop: networks side by side, until the training of each is over."""

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from torch import Tensor

from bench.experiments.training.label_smoothing import smoothed_cross_entropies, target_tensor
from bench.experiments.training.precision import autocast
from bench.experiments.training.selection import Selection
from bench.experiments.training.stacked import OneByOne, Stacked


def train_epochs(
    networks: OneByOne | Stacked,
    optimizer: torch.optim.Optimizer,
    selections: Sequence[Selection],
    batches: Callable[[Sequence[int]], Iterable[tuple[Tensor, Tensor]]],
    validate: Callable[[int], Tensor],
    precision: str = "fp32",
) -> None:
    """Train networks whose trials differ in seed and loss alone; log each one's epochs.

    Parameters
    ----------
    networks, selections : one a trial, in the same order
    batches : what these networks see in a new epoch, called with those that still train: inputs of
        shape (networks, N, …) and labels of shape (networks, N)
    validate : a network's log-probabilities of its validation images, shape (N, K)
    precision : of the forward pass, one of `experiments.precision.PRECISIONS`
    """
    settings = [selection.trial.settings for selection in selections]
    device = torch.device(selections[0].trial.device)
    smoothing = [(float(own["epsilon"]), str(own["convention"])) for own in settings]
    for epoch in range(int(settings[0]["epochs"])):
        active = [i for i, selection in enumerate(selections) if not selection.over]
        if not active:
            break
        started, targets = time.perf_counter(), None
        sums, examples = torch.zeros(len(active), 2, device=device), 0
        for x, y in batches(active):
            with autocast(precision, device):
                logits = networks(x, active).float()
            if targets is None:
                chosen = [smoothing[i] for i in active]
                targets = target_tensor(chosen, logits.shape[-1], device)
            loss = smoothed_cross_entropies(logits, y, targets)
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
            # summed on the device: reading a number every step would make a GPU wait
            correct = (logits.argmax(dim=2) == y).sum(dim=1)
            sums += torch.stack([loss.detach() * y.shape[1], correct], dim=1)
            examples += y.shape[1]

        with autocast(precision, device):
            log_p = [validate(i) for i in active]
        means = (sums / examples).tolist()  # here a GPU is waited for
        seconds = (time.perf_counter() - started) / len(active)
        for i, (loss_mean, accuracy), p in zip(active, means, log_p, strict=True):
            values = {"train/loss": loss_mean, "train/accuracy": accuracy}
            values |= {"lr": settings[i]["lr"], "time/epoch_s": seconds}
            selections[i].log(epoch, values, p, partial(networks.state, i))
