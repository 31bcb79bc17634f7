"""CIFAR-10: does label smoothing help a ResNet-18 that was pretrained on ImageNet?"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench import Experiment, Outcome, Trial
from bench.contract import Diverged, Settings
from experiments import data, weights
from experiments.label_smoothing import ARMS
from experiments.label_smoothing import RULES as SMOOTHING
from experiments.precision import RULE as PRECISION
from experiments.settings import POSITIVE, SWITCH, TEXT, check, number, one_of, whole
from experiments.stacked import alone, side_by_side
from experiments.transfer import fine_tune, pack_seeds

SETTINGS: dict[str, Any] = {
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
RULES = {
    "model": one_of(weights.MODELS),
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


def train_pack(trials: Sequence[Trial]) -> list[Outcome | Diverged]:
    """Fine-tune all arms of some seeds, each on the images that its seed draws."""
    return side_by_side(partial(fine_tune, data.load(trials[0].data_dir)), trials)


def train(trial: Trial) -> Outcome:
    """Fine-tune one arm with one seed."""
    return alone(train_pack([trial]))


def prepare(settings: Settings, data_dir: Path | None) -> Mapping[str, Any]:
    """Check the settings, make images and weights ready, and say what they are.

    Raises
    ------
    BadSetting, BadDataset, BadWeights : what cannot be trained with
    """
    check(settings, RULES, defaults={**SETTINGS, "epsilon": 0.1})
    images = data.load(data_dir)
    wanted = {name: settings[name] for name in ("train_per_class", "validation_per_class")}
    data.require_per_class(images, wanted)
    return {**images.facts(), **weights.fetch(settings["weights"], settings["model"])}


def ready(data_dir: Path | None) -> str | None:
    """Say within seconds why this experiment could not run here; None where it could."""
    return data.missing(data_dir) or weights.missing(SETTINGS["weights"], SETTINGS["model"])


EXPERIMENT = Experiment(
    name="cifar10",
    question="Does label smoothing raise the test accuracy of a fine-tuned ResNet-18 on CIFAR-10?",
    arms=ARMS,
    settings=SETTINGS,
    train=train,
    train_pack=train_pack,
    pack_seeds=pack_seeds,
    prepare=prepare,
    margin=0.001,  # 0.1 pp
    claim=0.003,  # 0.3 pp, what the article reports
)
