"""Transfer: a frozen pretrained trunk, a trainable head, and the recipe that trains the head."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.experiment import Diverged, Outcome, Settings, Trial
from bench.experiments.data import datasets
from bench.experiments.data.augment import Subset, digest
from bench.experiments.data.datasets import Images
from bench.experiments.training import pretrained_weights
from bench.experiments.training.epochs import train_epochs
from bench.experiments.training.frozen_features import Features, Trunk
from bench.experiments.training.label_smoothing import RULES as SMOOTHING
from bench.experiments.training.precision import RULE as PRECISION, autocast, computing_in, require
from bench.experiments.training.reproducible import deterministic, word
from bench.experiments.training.resnet import network, trunk_digest, with_products
from bench.experiments.training.selection import Selection, Weights
from bench.experiments.training.setting_rules import (
    POSITIVE,
    SWITCH,
    TEXT,
    check,
    number,
    one_of,
    whole,
)
from bench.experiments.training.stacked import OneByOne, Stacked

RULES = {
    "model": one_of(pretrained_weights.MODELS),
    "weights": TEXT,
    "trainable_layers": whole(1, 7),
    "image_size": whole(8),
    "train_per_class": whole(1),
    "validation_per_class": whole(1),
    "epochs": whole(1),
    "patience": whole(1),
    "batch_size": whole(2),
    "lr": POSITIVE,
    "crop_padding": number(0, 1),
    "flip": SWITCH,
    "precision": PRECISION,
    **SMOOTHING,
}
SMALL = 64  # pixels
MOST_SEEDS = 10  # in a pack: more no longer make a step much cheaper
BYTES_A_SEED = 2 * 2**30  # of a GPU's memory, for the stacked heads of a seed; more than they need


def prepare(
    settings: Settings, data_dir: Path | None, defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Check the settings, make images and weights ready, and say what they are.

    Parameters
    ----------
    defaults : a good value of each setting, for the fix

    Raises
    ------
    BadSetting, BadDataset, BadWeights : what cannot be trained with
    """
    check(settings, RULES, defaults=defaults)
    images = datasets.load(data_dir)
    wanted = {name: settings[name] for name in ("train_per_class", "validation_per_class")}
    datasets.require_per_class(images, wanted)
    return {**images.facts(), **pretrained_weights.fetch(settings["weights"], settings["model"])}


@deterministic()
def fine_tune(images: Images, trials: Sequence[Trial]) -> list[Outcome | Diverged]:
    """Train the heads of pretrained ResNets, each on the small subset that its trial draws.

    Of each training the epoch with the best validation accuracy is selected, the earliest where
    some tie; the test set is scored at that epoch and at the last, after the training.

    Parameters
    ----------
    trials : they differ in seed and loss alone
    """
    precision, device = str(trials[0].settings["precision"]), torch.device(trials[0].device)
    with computing_in(precision, device):
        return _fine_tune(images, trials, precision, device)


def _fine_tune(
    images: Images, trials: Sequence[Trial], precision: str, device: torch.device
) -> list[Outcome | Diverged]:
    settings = trials[0].settings
    epochs, patience = int(settings["epochs"]), int(settings["patience"])
    subsets = [Subset(trial, images) for trial in trials]
    trunks, heads = networks(trials, len(images.classes))
    validation = [
        Features(trunk, images.train[s.held_out], f"{images.digest} {digest(s.held_out)}")
        for trunk, s in zip(trunks, subsets, strict=True)
    ]
    optimizer = torch.optim.Adam(heads.parameters(), lr=float(settings["lr"]), fused=True)
    selections = []
    for trial, subset in zip(trials, subsets, strict=True):
        labels = images.train_labels[subset.held_out].to(device)
        selections.append(Selection(trial, labels, epochs=epochs, patience=patience))

    def batches(active: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
        steps = max([subsets[i].draw() for i in active])  # as many in all
        for step in range(steps):
            yield batch(step, [(trunks[i], subsets[i]) for i in active])

    def validate(i: int) -> Tensor:
        return predict(heads, [heads.state(i)], validation[i])[0]

    train_epochs(heads, optimizer, selections, batches, validate, precision)
    with autocast(precision, device):
        tests = tested(images, heads, selections, trunks)
    return [
        selection.outcome(
            log_p, images.test_labels, trunk_digest=trunk.digest, trained_on=len(subset.rows)
        )
        for selection, log_p, trunk, subset in zip(selections, tests, trunks, subsets, strict=True)
    ]


def networks(trials: Sequence[Trial], classes: int) -> tuple[list[Trunk], OneByOne | Stacked]:
    """Return each trial's frozen trunk, one object where they are equal, and the heads."""
    settings, device = trials[0].settings, torch.device(trials[0].device)
    size = int(settings["image_size"])
    dtype = torch.bfloat16 if settings["precision"] == "bf16" else torch.float32
    words = [word(trial.torch_rng("init")) for trial in trials]
    made = {number: network(settings, classes, number) for number in dict.fromkeys(words)}
    digests = {number: trunk_digest(trunk) for number, (trunk, _) in made.items()}
    nets = {digests[number]: trunk for number, (trunk, _) in made.items()}
    cores = device.type == "cuda" and settings["precision"] != "fp32"
    trunks = {
        name: Trunk(net, name, size, device, dtype, tensor_cores=cores)
        for name, net in nets.items()
    }
    chosen = [trunks[digests[number]] for number in words]
    layout = head_layout(device, str(settings["precision"]))
    heads = [
        with_products(made[number][1], trunk.example).to(device, memory_format=layout)
        for number, trunk in zip(words, chosen, strict=True)
    ]
    return chosen, Stacked(heads) if stacking_pays(device, size) else OneByOne(heads)


def head_layout(device: torch.device, precision: str) -> torch.memory_format:
    """Return the layout in which a head's convolutions go forward and backward fastest.

    NVIDIA's tensor cores, which compute tf32 and bf16, read channels side by side.
    """
    tensor_cores = device.type == "cuda" and precision != "fp32"
    return torch.channels_last if tensor_cores else torch.contiguous_format


def pack_seeds(settings: Settings, device: str) -> int:
    """Return how many seeds train together, by the memory of the device, before anything trains.

    Raises
    ------
    BadSetting : a precision that the device does not have
    """
    where = torch.device(device)
    require(str(settings["precision"]), where)
    if not stacking_pays(where, int(settings["image_size"])):
        return 1
    memory = torch.cuda.get_device_properties(where).total_memory
    return max(1, min(MOST_SEEDS, memory // BYTES_A_SEED))


def stacking_pays(device: torch.device, size: int) -> bool:
    """Say whether one head alone would leave a GPU waiting for its next instruction."""
    return device.type == "cuda" and size <= SMALL


def batch(step: int, trials: Sequence[tuple[Trunk, Subset]]) -> tuple[Tensor, Tensor]:
    """Return the features and labels of each trial's batch: equal ones pass the trunk once."""
    pixels: dict[Trunk, dict[str, Tensor]] = {}
    labels: dict[str, Tensor] = {}
    for trunk, subset in trials:
        own = pixels.setdefault(trunk, {})
        if subset.name not in own:
            own[subset.name], labels[subset.name] = subset.batch(step)
    known: dict[tuple[Trunk, str], Tensor] = {}
    for trunk, own in pixels.items():
        each = _features(trunk, [*own.values()])
        known |= {(trunk, name): x for name, x in zip(own, each, strict=True)}
    x = torch.stack([known[trunk, subset.name] for trunk, subset in trials])
    return x, torch.stack([labels[subset.name] for _, subset in trials])


def _features(trunk: Trunk, pixels: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return the features of several batches: on a GPU in one call, which waits for fewer starts.

    On a CPU the size of a batch changes the last bits, which shall not depend on the pack.
    """
    if trunk.device.type == "cpu":
        return [trunk(each) for each in pixels]
    return trunk(torch.cat([*pixels])).split([len(each) for each in pixels])


def predict(
    heads: OneByOne | Stacked, states: Sequence[Weights], features: Features
) -> list[Tensor]:
    """Return the log-probabilities of a head in each state, shape (N, K), in one pass."""
    outputs = [[heads.predict(state, x) for state in states] for x in features]
    return [torch.cat(column) for column in zip(*outputs, strict=True)]


def tested(
    images: Images,
    heads: OneByOne | Stacked,
    selections: Sequence[Selection],
    trunks: Sequence[Trunk],
) -> list[dict[int, Tensor]]:
    """Return each trial's log-probabilities of the test images, by the epoch of the weights."""
    found: list[dict[int, Tensor]] = [{} for _ in selections]
    for trunk in dict.fromkeys(trunks):
        wanted = [
            (i, epoch, state)
            for i, selection in enumerate(selections)
            for epoch, state in selection.weights.items()
            if trunks[i] is trunk
        ]
        features = Features(trunk, images.test, f"{images.digest} test")
        log_p = predict(heads, [state for *_, state in wanted], features) if wanted else []
        for (i, epoch, _), p in zip(wanted, log_p, strict=True):
            found[i][epoch] = p
    return found
