import pytest
import torch
from torch import nn

from bench.experiments.cifar10 import SETTINGS
from bench.experiments.data.datasets import load
from bench.experiments.training import frozen_features
from bench.experiments.training.frozen_features import Features, Trunk, normalised
from bench.experiments.training.resnet import network

CPU = torch.device("cpu")


@pytest.fixture
def images(image_folder):
    return load(image_folder)


def bare(size=16):
    """A trunk that hands on the normalised pixels."""
    return Trunk(nn.Sequential(), "bare", size, CPU, torch.float32)


def test_pixels_are_resized_and_normalised_as_for_imagenet():
    grey = torch.full((1, 3, 8, 8), 127, dtype=torch.uint8)
    for size in (4, 8, 20):
        out = normalised(grey, size)
        assert out.shape == (1, 3, size, size)
        expected = [(127 / 255 - m) / s for m, s in zip(
            (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True
        )]  # fmt: skip
        assert out.mean(dim=(0, 2, 3)).tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("size", [32, 64])
def test_a_rearranged_trunk_computes_the_same_features(images, size):
    net, _ = network({**SETTINGS, "weights": "none", "model": "resnet18"}, 10, 5)
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.normal_(generator=torch.Generator().manual_seed(1))
        norm.running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(2))
    trunk = Trunk(net, "net", size, CPU, torch.float32)
    with torch.no_grad():
        expected = net(normalised(images.test, size))
    found = trunk(images.test)
    assert found.shape == expected.shape and trunk.example.shape == expected[:1].shape
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    assert not found.requires_grad


def test_a_trunk_in_bfloat16_gives_features_in_bfloat16(images):
    net, _ = network({**SETTINGS, "weights": "none"}, 10, 5)
    exact = Trunk(net, "net", 32, CPU, torch.float32)(images.test)
    rounded = Trunk(net, "net", 32, CPU, torch.bfloat16)(images.test)
    assert rounded.dtype == torch.bfloat16
    assert 1e-4 < (rounded.float() - exact).norm() / exact.norm() < 0.05


def test_features_come_in_the_order_of_the_images_and_are_kept(images, monkeypatch):
    monkeypatch.setattr(frozen_features, "IMAGES_AT_ONCE", 4)
    monkeypatch.setattr(frozen_features, "BYTES_AT_ONCE", 8 * 3 * 16 * 16 * 4)
    wanted = Features(bare(), images.train, "train")
    first = list(wanted)
    assert [len(part) for part in first] == [8, 8, 8, 8, 4]
    assert torch.equal(torch.cat(first), normalised(images.train, 16))
    monkeypatch.setattr(Trunk, "__call__", None)  # not needed again
    assert all(torch.equal(a, b) for a, b in zip(first, wanted, strict=True))


def test_what_does_not_fit_is_computed_each_time_in_the_same_batches(images, monkeypatch):
    monkeypatch.setattr(frozen_features, "IMAGES_AT_ONCE", 5)
    kept = list(Features(bare(), images.train, "train"))
    frozen_features._kept.clear()
    monkeypatch.setattr(frozen_features, "feature_budget", lambda device: 0)
    computed = list(Features(bare(), images.train, "train"))
    assert len(frozen_features._kept) == 0
    assert all(torch.equal(a, b) for a, b in zip(kept, computed, strict=True))


def test_features_unused_for_longest_make_room(images):
    def use(content):  # 12 images: 36,864 bytes as float32 at 16 x 16
        return list(Features(bare(), images.test, content))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frozen_features, "feature_budget", lambda device: 80_000)
        use("a"), use("b"), use("a"), use("c")
        assert [key[1] for key in frozen_features._kept] == ["a", "c"]


def test_features_of_another_trunk_size_or_number_of_threads_are_others(images):
    keys = {Features(bare(size), images.test, "test").key for size in (16, 20)}
    keys |= {Features(bare(), images.train, "train").key}
    torch.set_num_threads(2)
    keys |= {Features(bare(), images.test, "test").key}
    assert len(keys) == 4
