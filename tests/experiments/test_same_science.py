"""Same science: do the fast trainings see what tests/benchmarks/plain_*.py see, and agree?"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import Trial
from bench.experiments import cifar10, digits
from bench.experiments.data import datasets
from bench.experiments.data.augment import Subset
from bench.experiments.training import small
from bench.experiments.training.frozen_features import normalised

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TINY = {
    **cifar10.SETTINGS, "weights": "none", "image_size": 32, "train_per_class": 5,
    "validation_per_class": 4, "batch_size": 6,
}  # fmt: skip


def plain(name):
    """Return the plain loop, a script beside the benchmarks."""
    spec = importlib.util.spec_from_file_location(f"plain_{name}", BENCHMARKS / f"plain_{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def farthest(a, b):
    """Return the largest difference between the log-probabilities of two trainings."""
    return max(
        np.abs(p.log_probabilities - q.log_probabilities).max()
        for p, q in ((a.test, b.test), (a.test_last, b.test_last), (a.validation, b.validation))
    )


def digits_trial(arm, **settings):
    return Trial(3, arm, {**digits.EXPERIMENT.arm_settings(arm), **settings})


def cifar_trial(folder, arm, **settings):
    arms = cifar10.EXPERIMENT.arms
    return Trial(3, arm, {**TINY, **arms[arm], **settings}, data_dir=folder)


def test_digits_has_the_batches_of_the_plain_loop(monkeypatch):
    seen = []
    stacked = small.Stacked

    class Recorded(stacked):
        def __call__(self, x, of=None):
            seen.append(x)
            return super().__call__(x, of)

    monkeypatch.setattr(small, "Stacked", Recorded)
    digits.train(digits_trial("smoothed", epochs=2))
    training, _, _ = plain("digits").loaders(digits_trial("smoothed"))
    expected = [pixels for _ in range(2) for pixels, _ in training]
    assert len(seen) == len(expected) == 20
    assert all(torch.equal(a[0], b) for a, b in zip(seen, expected, strict=True))


@pytest.mark.parametrize("arm", digits.EXPERIMENT.arms)
def test_digits_agrees_with_the_plain_loop_after_one_step_and_after_an_epoch(arm):
    loop = plain("digits").train
    for batch_size in (200, 20):  # one step; ten
        settings = {"epochs": 1, "batch_size": batch_size}
        fast, slow = (
            digits.train(digits_trial(arm, **settings)),
            loop(digits_trial(arm, **settings)),
        )
        assert (fast.test.labels == slow.test.labels).all()
        assert farthest(fast, slow) < 1e-4


@pytest.mark.parametrize("size", [16, 24, 8])
def test_cifar10_has_the_batches_of_the_plain_loop(image_folder, size):
    trial = cifar_trial(image_folder, "smoothed", image_size=size)
    subset = Subset(trial, datasets.load(image_folder))
    training, validation, test = plain("cifar10").loaders(
        cifar_trial(image_folder, "smoothed", image_size=size), workers=0
    )
    for _ in range(2):
        expected = list(training)
        assert subset.draw() == len(expected) == 3
        for step, (pixels, labels) in enumerate(expected):
            mine, classes = subset.batch(step)
            assert torch.equal(classes, labels)
            assert torch.allclose(normalised(mine, size), pixels, atol=2e-6)
    images = datasets.load(image_folder)
    for loader, wanted in ((validation, images.train[subset.held_out]), (test, images.test)):
        shown = torch.cat([pixels for pixels, _ in loader])
        assert torch.allclose(normalised(wanted, size), shown, atol=2e-6)


@pytest.mark.parametrize("arm", cifar10.EXPERIMENT.arms)
def test_cifar10_agrees_with_the_plain_loop_after_one_step(image_folder, arm):
    settings = {"epochs": 1, "batch_size": 15}
    fast = cifar10.train(cifar_trial(image_folder, arm, **settings))
    slow = plain("cifar10").train(cifar_trial(image_folder, arm, **settings))
    assert (fast.validation.labels == slow.validation.labels).all()
    assert farthest(fast, slow) < 1e-4


@pytest.mark.real_data
@pytest.mark.parametrize("size", [32, 64])
def test_on_real_images_the_loops_agree_after_one_step(real_images, real_weights, size):
    settings = {
        "weights": str(real_weights), "epochs": 1, "image_size": size, "train_per_class": 25,
        "validation_per_class": 20, "batch_size": 250,
    }  # fmt: skip
    fast = cifar10.train(cifar_trial(real_images, "smoothed", **settings))
    slow = plain("cifar10").train(cifar_trial(real_images, "smoothed", **settings))
    assert farthest(fast, slow) < 1e-4
