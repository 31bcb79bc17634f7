import pickle

import pytest
import torch

from bench import Trial
from bench.analysis.data.metrics import correct
from bench.experiment import Diverged
from bench.experiments import cifar10
from bench.experiments.cifar10 import EXPERIMENT
from bench.experiments.data.datasets import BadDataset
from bench.experiments.training import pretrained_weights
from bench.experiments.training.pretrained_weights import BadWeights
from bench.experiments.training.setting_rules import BadSetting

TINY = {
    **EXPERIMENT.settings, "weights": "none", "image_size": 32, "train_per_class": 8,
    "validation_per_class": 4, "epochs": 2,
}  # fmt: skip
LOGGED = {
    "train/loss", "train/accuracy", "val/loss", "val/nll", "val/accuracy", "val/ece", "lr",
    "time/epoch_s",
}  # fmt: skip


def test_the_protocol_is_the_articles():
    assert EXPERIMENT.arms == {"baseline": {"epsilon": 0.0}, "smoothed": {"epsilon": 0.1}}
    assert (EXPERIMENT.margin, EXPERIMENT.claim) == (0.001, 0.003)
    assert dict(EXPERIMENT.settings) == {
        "model": "resnet18", "weights": "imagenet", "trainable_layers": 2, "image_size": 224,
        "train_per_class": 100, "validation_per_class": 100, "epochs": 20, "patience": 10,
        "batch_size": 256, "lr": 1e-3, "crop_padding": 0.125, "flip": True,
        "convention": "article", "precision": "fp32",
    }  # fmt: skip


def test_a_training_on_an_image_folder_scores_every_test_image(image_folder):
    facts = EXPERIMENT.prepare(TINY, image_folder)
    assert facts["name"] == "image folder animals"
    assert (facts["train_pool"], facts["test"], facts["classes"]) == (36, 12, 3)
    assert facts["weights"] == "none" and "trunk is random" in facts["weights_note"]
    epochs = []
    trial = Trial(
        0, "smoothed", {**TINY, "epsilon": 0.1}, data_dir=image_folder,
        on_epoch=lambda epoch, values: epochs.append((epoch, values)),
    )  # fmt: skip
    outcome = EXPERIMENT.train(trial)
    assert [epoch for epoch, _ in epochs] == [0, 1]
    assert all(values.keys() == LOGGED for _, values in epochs)
    assert outcome.test.log_probabilities.shape == (12, 3)
    assert len(outcome.validation) == 12


def test_a_training_that_diverges_is_over_at_once(image_folder):
    settings = {**TINY, "epsilon": 0.0, "lr": 1e38, "batch_size": 4}
    with pytest.raises(Diverged, match="at epoch 0"):
        EXPERIMENT.train(Trial(0, "baseline", settings, data_dir=image_folder))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0), ("image_size", -3), ("image_size", 224.0), ("lr", "x"), ("lr", -1),
        ("trainable_layers", 8), ("trainable_layers", 0), ("batch_size", 1), ("patience", True),
        ("model", "resnet19"), ("weights", 3), ("convention", "pytorch"), ("flip", 1),
        ("crop_padding", 1.0), ("precision", "fp16"),
        ("train_per_class", "100"), ("validation_per_class", 0),
    ],
)  # fmt: skip
def test_prepare_refuses_a_setting_before_anything_is_loaded(name, value, tmp_path):
    with pytest.raises(BadSetting, match=f"setting {name} is {value!r}; it must be") as told:
        EXPERIMENT.prepare({**EXPERIMENT.settings, name: value}, tmp_path / "nowhere")
    assert told.value.settings == {name: EXPERIMENT.settings[name]}
    assert (told.value.code, told.value.exit_status) == ("setting", 2)


def test_prepare_refuses_too_few_images_a_class(image_folder):
    with pytest.raises(BadDataset, match="class cat .* has 12 training images; 200 are needed"):
        EXPERIMENT.prepare({**TINY, "train_per_class": 100, "validation_per_class": 100},
                           image_folder)  # fmt: skip


def test_prepare_refuses_weights_that_are_not_there(image_folder):
    with pytest.raises(BadWeights, match="weights file mine.pt not found"):
        EXPERIMENT.prepare({**TINY, "weights": "mine.pt"}, image_folder)


def test_ready_says_what_is_missing_first_the_data_then_the_weights(image_folder, monkeypatch):
    assert "CIFAR-10 is not in" in cifar10.ready(None)
    assert "resnet18-f37072fd.pth are not in" in cifar10.ready(image_folder)
    path = pretrained_weights._path("imagenet", "resnet18")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    assert cifar10.ready(image_folder) is None


def test_workers_can_be_sent_the_training():
    assert pickle.loads(pickle.dumps(EXPERIMENT.train)) is EXPERIMENT.train


@pytest.mark.real_data
def test_real_images_are_recognised_after_one_epoch(real_images, real_weights):
    settings = {
        **EXPERIMENT.arm_settings("smoothed"), "weights": str(real_weights), "image_size": 32,
        "train_per_class": 50, "validation_per_class": 20, "epochs": 1, "batch_size": 64,
    }  # fmt: skip
    facts = EXPERIMENT.prepare(settings, real_images)
    assert facts["weights_note"] == "weights from resnet18-standin.pt, not ImageNet"
    outcome = EXPERIMENT.train(Trial(0, "smoothed", settings, data_dir=real_images))
    assert correct(outcome.test).mean() > 0.65
    assert not torch.are_deterministic_algorithms_enabled()
