import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from bench import Trial
from experiments import transfer
from experiments.cifar10 import SETTINGS
from experiments.data import load
from experiments.transfer import (
    Features,
    RandomCrops,
    batches,
    fine_tune,
    network,
    trunk_digest,
    trunk_features,
)

TINY = {
    **SETTINGS, "weights": "none", "image_size": 32, "train_per_class": 5,
    "validation_per_class": 4, "epochs": 2, "batch_size": 6,
}  # fmt: skip
SMOOTHED = {"epsilon": 0.1}


@pytest.fixture
def images(image_folder):
    return load(image_folder)


def run(images, seed=0, arm="baseline", on_epoch=lambda epoch, values: None, **settings):
    arms = {"baseline": {"epsilon": 0.0}, "smoothed": SMOOTHED}
    return fine_tune(Trial(seed, arm, {**TINY, **arms[arm], **settings}, on_epoch=on_epoch), images)


def bits(outcome):
    predictions = outcome.test, outcome.test_last, outcome.validation
    return [p.log_probabilities.tobytes() for p in predictions]


@pytest.fixture
def networks(monkeypatch):
    """Return the (trunk, head) of every training, and copies of them from before it."""
    made = []

    def recorded(*args):
        parts = network(*args)
        made.append((*parts, *({k: v.clone() for k, v in p.state_dict().items()} for p in parts)))
        return parts

    monkeypatch.setattr(transfer, "network", recorded)
    return made


# The network


def test_the_default_head_is_layer4_and_a_fresh_classifier():
    trunk, head = network(TINY, 10, torch.Generator().manual_seed(0))
    assert len(trunk) == 7  # conv1, bn1, relu, maxpool, layer1, layer2, layer3
    assert [type(layer).__name__ for layer in head] == [
        "Sequential", "AdaptiveAvgPool2d", "Flatten", "Linear",
    ]  # fmt: skip
    assert head[-1].out_features == 10
    assert not any(p.requires_grad for p in trunk.parameters())
    assert all(p.requires_grad for p in head.parameters())


@pytest.mark.parametrize("layers", range(1, 8))
def test_wherever_it_is_cut_trunk_and_head_are_the_whole_network(layers):
    trunk, head = network({**TINY, "trainable_layers": layers}, 10, torch.Generator())
    whole = torchvision.models.resnet18(num_classes=10)
    assert sum(p.numel() for p in [*trunk.parameters(), *head.parameters()]) == sum(
        p.numel() for p in whole.parameters()
    )
    named = [n for n, child in whole.named_children() if any(True for _ in child.parameters())]
    trained = sum(p.numel() for n in named[-layers:] for p in getattr(whole, n).parameters())
    assert sum(p.numel() for p in head.parameters()) == trained


def test_a_weights_file_gives_every_tensor_but_the_classifier(tmp_path):
    state = torchvision.models.resnet18(num_classes=7).state_dict()
    torch.save(state, tmp_path / "net.pt")
    settings = {**TINY, "weights": str(tmp_path / "net.pt")}
    (trunk, head), (_, other) = (
        network(settings, 3, torch.Generator().manual_seed(seed)) for seed in (0, 1)
    )
    assert torch.equal(trunk[0].weight, state["conv1.weight"])
    assert torch.equal(head[0][1].bn2.running_mean, state["layer4.1.bn2.running_mean"])
    assert torch.equal(head[0][0].conv1.weight, state["layer4.0.conv1.weight"])
    assert not torch.equal(head[-1].weight, other[-1].weight)
    assert head[-1].weight.shape == (3, 512)


def test_without_a_file_every_weight_comes_from_the_init_stream():
    def weights(seed):
        parts = network(TINY, 3, torch.Generator().manual_seed(seed))
        return torch.cat([p.flatten() for part in parts for p in part.parameters()])

    torch.manual_seed(1)
    first = weights(0)
    torch.manual_seed(2)
    assert torch.equal(first, weights(0))
    assert (first != weights(1)).float().mean() > 0.99  # all but biases and batch-norm scales


# The images


def test_no_padding_and_no_flip_leave_the_images_as_they_are(images):
    crops = RandomCrops(images.train, {"crop_padding": 0.0, "flip": False})
    crops.draw(np.random.default_rng(0))
    batch = torch.tensor([3, 0, 35])
    assert torch.equal(crops[batch], images.train[batch])


def test_every_crop_is_a_piece_of_the_padded_image_half_of_them_flipped(images):
    crops = RandomCrops(images.train, {"crop_padding": 0.125, "flip": True})
    crops.draw(np.random.default_rng(0))
    cropped = crops[torch.arange(36)]
    assert cropped.shape == images.train.shape
    flips = 0
    for image, crop in zip(images.train, cropped, strict=True):
        padded = nn.functional.pad(image, (2, 2, 2, 2))
        pieces = padded.unfold(1, 16, 1).unfold(2, 16, 1)  # every place of a window
        same = (pieces == crop[:, None, None]).all(dim=(0, 3, 4))
        mirrored = (pieces == crop.flip(2)[:, None, None]).all(dim=(0, 3, 4))
        assert int(same.sum() + mirrored.sum()) == 1
        flips += int(mirrored.sum())
    assert 9 <= flips <= 27


def test_images_of_any_shape_are_cropped():
    pixels = torch.arange(2 * 3 * 8 * 12, dtype=torch.uint8).reshape(2, 3, 8, 12)
    crops = RandomCrops(pixels, {"crop_padding": 0.125, "flip": True})
    crops.draw(np.random.default_rng(0))
    assert crops[torch.tensor([1])].shape == (1, 3, 8, 12)


def test_pixels_are_resized_and_normalised_as_for_imagenet():
    grey = torch.full((1, 3, 8, 8), 127, dtype=torch.uint8)
    for size in (4, 8, 20):
        out = trunk_features(nn.Sequential(), grey, size)
        assert out.shape == (1, 3, size, size)
        expected = [(127 / 255 - m) / s for m, s in zip(
            (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True
        )]  # fmt: skip
        assert out.mean(dim=(0, 2, 3)).tolist() == pytest.approx(expected, abs=1e-5)


def test_a_single_left_over_image_joins_the_batch_before_it():
    assert [len(b) for b in batches(torch.arange(1000), 256)] == [256, 256, 256, 232]
    assert [len(b) for b in batches(torch.arange(13), 6)] == [6, 7]
    assert torch.cat(batches(torch.arange(13), 6)).tolist() == list(range(13))
    assert [len(b) for b in batches(torch.arange(5), 8)] == [5]


# The training


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(images, forget):
    torch.manual_seed(1)
    first = run(images, 3)
    forget()
    torch.manual_seed(2)
    again, other = run(images, 3), run(images, 4)
    assert bits(first) == bits(again)
    assert all(a != b for a, b in zip(bits(first), bits(other), strict=True))


def test_the_global_random_state_is_left_alone(images):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    run(images, epochs=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_both_arms_see_the_same_crops_and_start_from_the_same_weights(
    images, networks, monkeypatch
):
    seen = []
    take = RandomCrops.__getitem__

    def recorded(self, batch):
        seen.append(take(self, batch))
        return seen[-1]

    monkeypatch.setattr(RandomCrops, "__getitem__", recorded)
    outcomes = [run(images, arm=arm) for arm in ("baseline", "smoothed")]
    assert len(seen) == 2 * 2 * 3
    assert all(torch.equal(a, b) for a, b in zip(seen[:6], seen[6:], strict=True))
    (*_, trunk, head), (*_, other_trunk, other_head) = networks
    assert all(torch.equal(trunk[k], other_trunk[k]) for k in trunk)
    assert all(torch.equal(head[k], other_head[k]) for k in head)
    assert bits(outcomes[0]) != bits(outcomes[1])


def test_the_trunk_is_frozen_with_its_statistics_and_the_head_trains_with_its_own(images, networks):
    run(images)
    trunk, head, trunk_before, head_before = networks[0]
    assert not trunk.training
    assert any("running_mean" in name for name in trunk_before)
    assert all(torch.equal(v, trunk_before[k]) for k, v in trunk.state_dict().items())
    assert all(p.grad is None for p in trunk.parameters())
    changed = {k for k, v in head.state_dict().items() if not torch.equal(v, head_before[k])}
    assert changed == set(head_before)  # layer4's statistics too


def test_features_kept_or_computed_again_give_the_same_bits(images, monkeypatch):
    computed_first, kept = run(images), run(images)
    assert len(transfer._kept) == 2
    transfer._kept.clear()
    monkeypatch.setattr(transfer, "feature_budget", lambda device: 0)
    never_kept = run(images)
    assert len(transfer._kept) == 0
    assert bits(computed_first) == bits(kept) == bits(never_kept)


def test_the_trunk_sees_the_test_images_once_in_a_process(images, tmp_path, monkeypatch):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "net.pt")
    calls = []
    monkeypatch.setattr(
        transfer, "trunk_features", lambda *args: calls.append(1) or trunk_features(*args)
    )
    counts = []
    for seed, arm in ((0, "baseline"), (0, "smoothed"), (1, "baseline")):
        calls.clear()
        run(images, seed, arm, weights=str(tmp_path / "net.pt"), epochs=1)
        counts.append(len(calls))
    # 3 training batches each; validation images are the seed's, test images everybody's
    assert counts == [3 + 1 + 1, 3, 3 + 1]


def test_features_unused_for_longest_make_room(images):
    trunk = nn.Sequential()
    pixels = images.test  # 12 images: 36,864 bytes as float32 at 16 x 16

    def use(content):
        return list(Features(trunk, pixels, 16, torch.device("cpu"), content))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "feature_budget", lambda device: 80_000)
        use("a"), use("b"), use("a"), use("c")
        assert [key[0] for key in transfer._kept] == ["a", "c"]


def test_training_stops_when_validation_no_longer_improves(images):
    # Only the classifier trains, by steps too small to change a prediction.
    settings = {"trainable_layers": 1, "lr": 1e-12, "epochs": 9, "patience": 3}
    outcome = run(images, **settings)
    assert outcome.facts["epochs_trained"] == 4
    assert outcome.selected_epoch == 0  # of equal epochs the earliest


def test_the_test_set_is_scored_at_the_selected_epoch_and_at_the_last(images):
    logged = []
    outcome = run(images, on_epoch=lambda epoch, values: logged.append((epoch, values)), epochs=6)
    accuracies = [values["val/accuracy"] for _, values in logged]
    assert [epoch for epoch, _ in logged] == list(range(6))
    assert outcome.selected_epoch == int(np.argmax(accuracies))
    shorter = run(images, epochs=outcome.selected_epoch + 1)
    assert bits(shorter)[1:] == [bits(outcome)[0], bits(outcome)[2]]
    assert outcome.test.labels.tolist() == images.test_labels.tolist()
    assert len(outcome.validation) == 12


def test_equal_trunks_have_equal_digests():
    def digest(seed, **settings):
        return trunk_digest(
            network({**TINY, **settings}, 3, torch.Generator().manual_seed(seed))[0]
        )

    assert digest(0) == digest(0) != digest(1)
    assert digest(0) != digest(0, trainable_layers=3)


def test_a_network_that_is_trained_whole_has_no_trunk(images):
    assert run(images, trainable_layers=7, epochs=1).facts["epochs_trained"] == 1
