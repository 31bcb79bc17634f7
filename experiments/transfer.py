"""Transfer: a frozen pretrained trunk, a trainable head, and the recipe that trains the head."""

import copy
import hashlib
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from bench.contract import Outcome, Predictions, Settings, Trial
from experiments.data import Images, stratified
from experiments.label_smoothing import smoothed_cross_entropy, validation_scores
from experiments.reproducible import deterministic, initialised_by
from experiments.weights import read

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
EVALUATION_BATCH = 250  # divides 10,000, and 1,000: batches of one shape
CPU_BUDGET = 2**30  # bytes of trunk features that one process keeps


@deterministic()
def fine_tune(trial: Trial, images: Images) -> Outcome:
    """Train the head of a pretrained ResNet on a small subset drawn by the trial's seed.

    The epoch with the best validation accuracy is selected, the earliest where some tie; the test
    set is scored at that epoch and at the last, after the training.
    """
    settings, device = trial.settings, torch.device(trial.device)
    smoothing = float(settings["epsilon"]), str(settings["convention"])
    size = int(settings["image_size"])

    trunk, head = network(settings, len(images.classes), trial.torch_rng("init"))
    trunk, head = trunk.to(device).to(memory_format=torch.channels_last), head.to(device)
    known = f"{trunk_digest(trunk)} {images.digest}"
    per_class = int(settings["train_per_class"]), int(settings["validation_per_class"])
    rows, held_out = stratified(images.train_labels, per_class, trial.rng("subset"))
    crops = RandomCrops(images.train[rows].to(device), settings)
    labels = images.train_labels[rows].to(device)
    content = f"{known} {_digest(held_out)}"
    validation = Features(trunk, images.train[held_out], size, device, content)
    validation_labels = images.train_labels[held_out].to(device)
    test = Features(trunk, images.test, size, device, f"{known} test")
    optimizer = torch.optim.Adam(head.parameters(), lr=float(settings["lr"]), fused=True)

    best, selected = -1.0, 0
    for epoch in range(int(settings["epochs"])):
        started = time.perf_counter()
        head.train()
        loss_sum, correct = torch.zeros((), device=device), torch.zeros((), device=device)
        crops.draw(trial.rng("augment"))
        order = torch.from_numpy(trial.rng("order").permutation(len(rows))).to(device)
        for batch in batches(order, int(settings["batch_size"])):
            with torch.no_grad():
                features = trunk_features(trunk, crops[batch], size)
            logits = head(features)
            loss = smoothed_cross_entropy(logits, labels[batch], *smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            # summed on the device: reading a number every step would make a GPU wait
            loss_sum += loss.detach() * len(batch)
            correct += (logits.argmax(dim=1) == labels[batch]).sum()

        [log_p] = predict([head], validation)
        scores = validation_scores(log_p, validation_labels, *smoothing)
        trial.log(
            epoch,
            {
                "train/loss": float(loss_sum) / len(rows),
                "train/accuracy": float(correct) / len(rows),
                **scores,
                "lr": optimizer.param_groups[0]["lr"],
                "time/epoch_s": time.perf_counter() - started,
            },
        )
        if scores["val/accuracy"] > best:
            best, selected = scores["val/accuracy"], epoch
            best_head, best_log_p = copy.deepcopy(head), log_p
        elif epoch - selected >= int(settings["patience"]):
            break

    at_best, at_last = predict([best_head, head], test)
    return Outcome(
        test=_predictions(at_best, images.test_labels),
        test_last=_predictions(at_last, images.test_labels),
        validation=_predictions(best_log_p, images.train_labels[held_out]),
        selected_epoch=selected,
        facts={"epochs_trained": epoch + 1, "trunk_digest": trunk_digest(trunk)},
    )


def network(
    settings: Settings, classes: int, generator: torch.Generator
) -> tuple[nn.Sequential, nn.Sequential]:
    """Return the frozen trunk and the trainable head of a torchvision ResNet.

    The head is the last `trainable_layers` children that have parameters, and whatever stands
    between and after them. Every tensor that the weights file does not give, `fc` always, is drawn
    from `generator`.
    """
    model = str(settings["model"])
    with initialised_by(generator):
        net = torchvision.models.get_model(model, num_classes=classes)
    if (pretrained := read(str(settings["weights"]), model)) is not None:
        net.load_state_dict({**net.state_dict(), **pretrained})
    *layers, classifier = net.children()
    layers += [nn.Flatten(), classifier]
    trainable = [i for i, layer in enumerate(layers) if any(True for _ in layer.parameters())]
    cut = trainable[-int(settings["trainable_layers"])]
    trunk, head = nn.Sequential(*layers[:cut]), nn.Sequential(*layers[cut:])
    # Batch-norm layers of the trunk keep ImageNet's statistics: eval mode, whatever the head does.
    return trunk.requires_grad_(False).eval(), head


def trunk_digest(trunk: nn.Module) -> str:
    """Return a digest of the frozen weights: equal trunks give equal features."""
    sha = hashlib.sha256(repr(trunk).encode())
    for tensor in trunk.state_dict().values():
        sha.update(tensor.cpu().contiguous().numpy().data)
    return sha.hexdigest()[:16]


def _digest(rows: np.ndarray) -> str:
    return hashlib.sha256(rows.tobytes()).hexdigest()[:16]


def trunk_features(trunk: nn.Module, pixels: Tensor, size: int) -> Tensor:
    """Return what the frozen trunk makes of uint8 pixels, resized and normalised as ImageNet's."""
    x = pixels.to(torch.float32)
    if x.shape[-2:] != (size, size):
        shrinks = size < min(x.shape[-2:])  # only then does antialiasing change anything
        x = functional.interpolate(x, (size, size), mode="bilinear", antialias=shrinks)
    mean = torch.tensor(IMAGENET_MEAN, device=x.device)[:, None, None]
    std = torch.tensor(IMAGENET_STD, device=x.device)[:, None, None]
    x = ((x / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
    # On a CPU the trunk is faster in channels_last, the head, which also goes backward, is not.
    return trunk(x).contiguous()


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

    def draw(self, rng: np.random.Generator) -> None:
        """Choose where every image is cropped and whether it is flipped."""
        top, left = rng.integers(0, 2 * self.reach + 1, size=(2, self.count, 1))
        flipped = (rng.random((self.count, 1)) < 0.5) & self.flip
        columns = left + np.where(flipped, np.arange(self.width)[::-1], np.arange(self.width))
        rows = top + np.arange(self.height)
        device = self.padded.device
        self.rows, self.columns = (torch.from_numpy(a).to(device) for a in (rows, columns))

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


_kept: OrderedDict[tuple[Any, ...], list[Tensor]] = OrderedDict()


class Features:
    """The trunk's features of fixed images, batch by batch.

    Test features depend on neither seed nor arm, validation features not on the arm: they are kept
    for later trials of this process where they fit in its budget, and computed again where not.
    Both give the same bits, because the batches have the same shapes.
    """

    def __init__(
        self, trunk: nn.Module, pixels: Tensor, size: int, device: torch.device, content: str
    ) -> None:
        self.trunk, self.pixels, self.size, self.device = trunk, pixels, size, device
        # The number of threads changes the last bits.
        self.key = (content, size, str(self.device), torch.get_num_threads())

    def __iter__(self) -> Iterator[Tensor]:
        if self.key in _kept:
            _kept.move_to_end(self.key)
            yield from _kept[self.key]
            return
        computed: list[Tensor] = []
        budget = feature_budget(self.device)
        for pixels in self.pixels.split(EVALUATION_BATCH):
            features = trunk_features(self.trunk, pixels.to(self.device), self.size)
            if features.nbytes / len(features) * len(self.pixels) <= budget:
                computed.append(features)
            yield features
        if computed:
            _keep(self.key, computed, budget)


def _keep(key: tuple[Any, ...], features: list[Tensor], budget: int) -> None:
    """Remember features; the ones unused for longest go first."""
    _kept[key] = features
    held = {k: sum(f.nbytes for f in batches) for k, batches in _kept.items()}
    while sum(held.values()) > budget and len(_kept) > 1:
        oldest, _ = _kept.popitem(last=False)
        del held[oldest]


def feature_budget(device: torch.device) -> int:
    """Return how many bytes of features one process keeps on a device."""
    if device.type != "cuda":
        return CPU_BUDGET
    return max(CPU_BUDGET, torch.cuda.get_device_properties(device).total_memory // 8)


@torch.no_grad()
def predict(heads: list[nn.Module], features: Features) -> list[Tensor]:
    """Return the log-probabilities of each head, shape (N, K); the trunk runs once for all."""
    for head in heads:
        head.eval()
    outputs = [[head(batch).log_softmax(dim=1) for head in heads] for batch in features]
    return [torch.cat(column) for column in zip(*outputs, strict=True)]


def _predictions(log_p: Tensor, labels: Tensor) -> Predictions:
    return Predictions(log_p.cpu().numpy(), labels.numpy())
