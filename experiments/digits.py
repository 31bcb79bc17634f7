"""Digits: does label smoothing help a small network on few images? The experiment to copy.

All randomness comes from the trial's streams: both arms of a seed share first weights and batches.
"""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from bench import Experiment, Outcome, Trial
from bench.experiment import Diverged, Settings
from bench.experiments.data import datasets
from bench.experiments.training import label_smoothing
from bench.experiments.training.setting_rules import check
from bench.experiments.training.small import RULES, train_small
from bench.experiments.training.stacked import alone


def network() -> nn.Module:
    """Return a small convolutional network for 8 x 8 images."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


def train_pack(trials: Sequence[Trial]) -> list[Outcome | Diverged]:
    """Train both arms of some seeds; of each class a seed draws 20 images, and 30 to validate."""
    return train_small(trials, network, datasets.digits(), per_class=(20, 30), brightest=16)


def train(trial: Trial) -> Outcome:
    """Train one arm with one seed."""
    return alone(train_pack([trial]))


def prepare(settings: Settings, data_dir: Path | None) -> dict[str, object]:
    """Check the settings and say which data this is; called once an arm, before any training."""
    check(settings, RULES, defaults={**EXPERIMENT.settings, "epsilon": 0.1})
    return datasets.digits().facts()


EXPERIMENT = Experiment(
    name="digits",
    question="Does label smoothing raise test accuracy on scikit-learn's digits?",
    arms=label_smoothing.ARMS,
    settings={"epochs": 20, "batch_size": 20, "lr": 1e-3, "convention": "article"},
    train=train,
    train_pack=train_pack,
    pack_seeds=5,
    prepare=prepare,
    device="cpu",
    margin=0.005,  # 0.5 pp
    claim=0.01,  # 1.0 pp
)
