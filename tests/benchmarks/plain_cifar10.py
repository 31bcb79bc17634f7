"""Plain CIFAR-10: the trainings of `experiments/cifar10.py` as one writes them without bench.

``python tests/benchmarks/plain_cifar10.py FOLDER --set weights=FILE`` fine-tunes both arms of
every seed, one after the other, on the images of {train,test}/CLASS/*, and prints the difference.
Recipe, seeds, first weights, crops and batches are those of the experiment; ImageFolder,
DataLoader, torchvision's transforms, loop and evaluation are what a tutorial shows.
"""

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench import Outcome, Predictions, Trial
from bench.experiments.cifar10 import EXPERIMENT
from bench.experiments.data.datasets import stratified
from bench.experiments.training.pretrained_weights import read
from bench.experiments.training.reproducible import initialised_by, word

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Loader = DataLoader[Any]


def preprocessing(size: int) -> v2.Compose:
    """Return what turns an image into the network's input."""
    return v2.Compose(
        [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Resize((size, size), antialias=True),
            v2.Normalize(MEAN, STD),
        ]
    )


class Augmented(Dataset[tuple[Tensor, int]]):
    """Training images, cropped and flipped as the sampler says."""

    def __init__(self, folder: ImageFolder, size: int, padding: int) -> None:
        self.folder, self.padding, self.finish = folder, padding, preprocessing(size)

    def __getitem__(self, chosen: tuple[int, int, int, bool]) -> tuple[Tensor, int]:
        row, top, left, flipped = chosen
        image, label = self.folder[row]
        width, height = image.size
        padded = v2.functional.pad(image, [self.padding])
        cropped = v2.functional.crop(padded, top, left, height, width)
        return self.finish(v2.functional.hflip(cropped) if flipped else cropped), label


class Shuffled(Sampler[tuple[int, int, int, bool]]):
    """Rows in a new order every epoch, with crop and flip, drawn as the experiment draws them."""

    def __init__(self, trial: Trial, rows: list[int], padding: int) -> None:
        self.trial, self.rows, self.padding = trial, rows, padding

    def __iter__(self) -> Iterator[tuple[int, int, int, bool]]:
        count, rng = len(self.rows), self.trial.rng("augment")
        top, left = rng.integers(0, 2 * self.padding + 1, size=(2, count))
        flipped = (rng.random(count) < 0.5) & self.trial.settings["flip"]
        for i in self.trial.rng("order").permutation(count):
            yield self.rows[i], int(top[i]), int(left[i]), bool(flipped[i])

    def __len__(self) -> int:
        return len(self.rows)


def loaders(trial: Trial, *, workers: int) -> tuple[Loader, Loader, Loader]:
    """Return the batches to train on, to validate on and to test on."""
    settings = trial.settings
    assert trial.data_dir is not None
    size = settings["image_size"]
    folder = ImageFolder(str(trial.data_dir / "train"))
    padding = round(folder[0][0].size[1] * settings["crop_padding"])
    per_class = settings["train_per_class"], settings["validation_per_class"]
    rows, held_out = stratified(torch.tensor(folder.targets), per_class, trial.rng("subset"))
    unchanged = ImageFolder(str(trial.data_dir / "train"), transform=preprocessing(size))
    test = ImageFolder(str(trial.data_dir / "test"), transform=preprocessing(size))
    loader = partial(
        DataLoader,
        batch_size=settings["batch_size"],
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=trial.device != "cpu",
    )
    training = Augmented(folder, size, padding)
    return (
        loader(training, sampler=Shuffled(trial, rows.tolist(), padding)),
        loader(Subset(unchanged, held_out.tolist())),
        loader(test),
    )


def build(trial: Trial, classes: int) -> nn.Module:
    """Return a pretrained ResNet of which the last children with parameters train."""
    settings = trial.settings
    with initialised_by(word(trial.torch_rng("init"))):
        model = torchvision.models.get_model(settings["model"], num_classes=classes)
    pretrained = read(settings["weights"], settings["model"])
    if pretrained is not None:
        model.load_state_dict(pretrained, strict=False)  # all but the classifier
    named = [child for child in model.children() if any(True for _ in child.parameters())]
    for child in named[: -settings["trainable_layers"]]:
        child.requires_grad_(False)
    return model.to(trial.device)


def train_mode(model: nn.Module) -> None:
    """Train what trains; the frozen layers keep their statistics."""
    model.train()
    for child in model.children():
        if not any(p.requires_grad for p in child.parameters()):
            child.eval()


def precision(trial: Trial) -> Any:
    """Return autocast in bfloat16 where the setting asks for it."""
    if trial.settings["precision"] == "bf16":
        return torch.autocast(torch.device(trial.device).type, torch.bfloat16)
    return nullcontext()


@torch.inference_mode()
def predict(model: nn.Module, loader: Loader, trial: Trial) -> tuple[Tensor, Tensor]:
    """Return log-probabilities and labels."""
    model.eval()
    outputs = []
    for x, y in loader:
        with precision(trial):
            logits = model(x.to(trial.device, non_blocking=True))
        outputs.append((logits.float().log_softmax(dim=1).cpu(), y))
    return torch.cat([log_p for log_p, _ in outputs]), torch.cat([y for _, y in outputs])


def train(trial: Trial, *, workers: int = 0) -> Outcome:
    """Fine-tune one arm with one seed."""
    settings = trial.settings
    training, validation, test = loaders(trial, workers=workers)
    classes = len(test.dataset.classes)
    model = build(trial, classes)
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trainable, lr=settings["lr"])
    # torch smooths uniformly over all K classes, the article over the K - 1 others
    criterion = nn.CrossEntropyLoss(label_smoothing=settings["epsilon"] * classes / (classes - 1))
    best, selected = -1.0, 0
    for epoch in range(settings["epochs"]):
        train_mode(model)
        loss_sum = 0.0
        for x, y in training:
            x, y = (t.to(trial.device, non_blocking=True) for t in (x, y))
            with precision(trial):
                loss = criterion(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(y)
        log_p, labels = predict(model, validation, trial)
        accuracy = float((log_p.argmax(dim=1) == labels).float().mean())
        values = {"train/loss": loss_sum / len(training.sampler), "val/accuracy": accuracy}
        trial.log(epoch, values)
        if accuracy > best:
            best, selected = accuracy, epoch
            weights = copy.deepcopy(model.state_dict())
            chosen = Predictions(log_p.numpy(), labels.numpy())
        elif epoch - selected >= settings["patience"]:
            break
    at_best = last = Predictions(*(x.numpy() for x in predict(model, test, trial)))
    if selected != epoch:
        model.load_state_dict(weights)
        at_best = Predictions(*(x.numpy() for x in predict(model, test, trial)))
    return Outcome(test=at_best, test_last=last, validation=chosen, selected_epoch=selected)


def main() -> None:
    """Train and print; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=0, help="of each DataLoader")
    parser.add_argument("--threads", type=int, help="torch's own default where not given")
    wanted = parser.parse_args()
    if wanted.threads:
        torch.set_num_threads(wanted.threads)
    own = {}
    for text in wanted.set:
        key, _, value = text.partition("=")
        own[key] = type(EXPERIMENT.settings[key])(value)
    torch.backends.fp32_precision = "tf32" if own.get("precision") == "tf32" else "ieee"
    torch.optim.Adam([torch.zeros(1)])  # imports what torch imports late; it is no training
    accuracy: dict[str, list[float]] = {arm: [] for arm in EXPERIMENT.arms}
    each_s = []
    for seed in range(wanted.seeds):
        for arm in EXPERIMENT.arms:
            started = time.perf_counter()
            settings = {**EXPERIMENT.arm_settings(arm), **own}
            trial = Trial(seed, arm, settings, device=wanted.device, data_dir=wanted.folder)
            test = train(trial, workers=wanted.workers).test
            assert test is not None
            each_s.append(time.perf_counter() - started)
            hits = test.log_probabilities.argmax(axis=1) == test.labels
            accuracy[arm].append(float(hits.mean()))
            print(f"seed {seed} {arm} {accuracy[arm][-1]:.4f}", flush=True)
    baseline, smoothed = accuracy.values()
    differences = [b - a for a, b in zip(baseline, smoothed, strict=True)]
    print(f"mean difference {statistics.mean(differences):+.4f}")
    print(json.dumps({"train_s": sum(each_s), "each_s": each_s, "accuracy": accuracy}))


if __name__ == "__main__":
    main()
