"""CIFAR-10: does label smoothing help a ResNet-18 that was pretrained on ImageNet?"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bench import Experiment, Outcome, Trial
from bench.experiment import Diverged, Settings
from bench.experiments.data import datasets
from bench.experiments.training import pretrained_weights, transfer
from bench.experiments.training.label_smoothing import ARMS
from bench.experiments.training.stacked import alone, side_by_side

SETTINGS: Settings = {
    "model": "resnet18",
    "weights": "imagenet",  # or "none", or a file with a state dict
    "trainable_layers": 2,  # layer4 and fc; all before them is frozen
    "image_size": 224,
    "train_per_class": 100,  # drawn by each seed from the training split
    "validation_per_class": 100,
    "epochs": 20,
    "patience": 10,  # epochs without a better validation accuracy
    "batch_size": 256,
    "lr": 1e-3,
    "crop_padding": 0.125,  # of the side: 4 pixels of 32
    "flip": True,
    "convention": "article",
    "precision": "fp32",
}


def train_pack(trials: Sequence[Trial]) -> list[Outcome | Diverged]:
    """Fine-tune all arms of some seeds, each on the images that its seed draws."""
    return side_by_side(partial(transfer.fine_tune, datasets.load(trials[0].data_dir)), trials)


def train(trial: Trial) -> Outcome:
    """Fine-tune one arm with one seed."""
    return alone(train_pack([trial]))


def ready(data_dir: Path | None) -> str | None:
    """Say within seconds why this experiment could not run here; None where it could."""
    return datasets.missing(data_dir) or pretrained_weights.missing(
        SETTINGS["weights"], SETTINGS["model"]
    )


EXPERIMENT = Experiment(
    name="cifar10",
    question="Does label smoothing raise the test accuracy of a fine-tuned ResNet-18 on CIFAR-10?",
    arms=ARMS,
    settings=SETTINGS,
    train=train,
    train_pack=train_pack,
    pack_seeds=transfer.pack_seeds,
    prepare=partial(transfer.prepare, defaults={**SETTINGS, "epsilon": 0.1}),
    margin=0.001,  # 0.1 pp
    claim=0.003,  # 0.3 pp, what the article reports
)
