from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision

from bench import Outcome, Trial
from bench.experiment import Diverged
from bench.experiments.cifar10 import SETTINGS
from bench.experiments.data.datasets import load
from bench.experiments.training import frozen_features, transfer
from bench.experiments.training.frozen_features import Trunk
from bench.experiments.training.resnet import network, with_products
from bench.experiments.training.setting_rules import BadSetting
from bench.experiments.training.transfer import fine_tune, head_layout, pack_seeds, stacking_pays

TINY = {
    **SETTINGS, "weights": "none", "image_size": 32, "train_per_class": 5,
    "validation_per_class": 4, "epochs": 2, "batch_size": 6,
}  # fmt: skip
ARMS = {"baseline": {"epsilon": 0.0}, "smoothed": {"epsilon": 0.1}}


@pytest.fixture
def images(image_folder):
    return load(image_folder)


@pytest.fixture
def weights(tmp_path):
    """Return a weights file: all seeds share one trunk."""
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "net.pt")
    return str(tmp_path / "net.pt")


def a_trial(seed=0, arm="baseline", on_epoch=lambda epoch, values: None, **settings):
    return Trial(seed, arm, {**TINY, **ARMS[arm], **settings}, on_epoch=on_epoch)


def run(images, seed=0, arm="baseline", **how):
    [outcome] = fine_tune(images, [a_trial(seed, arm, **how)])
    return outcome


def bits(outcome):
    predictions = outcome.test, outcome.test_last, outcome.validation
    return [p.log_probabilities.tobytes() for p in predictions]


@pytest.fixture
def parts(monkeypatch):
    """Return the trunk and the head that trains, each with its weights from before."""
    kept = []

    def keep(net):
        kept.append((net, {k: v.clone() for k, v in net.state_dict().items()}))
        return net

    def recorded(*args):
        trunk, head = network(*args)
        return keep(trunk), head

    monkeypatch.setattr(transfer, "network", recorded)
    monkeypatch.setattr(transfer, "with_products", lambda *args: keep(with_products(*args)))
    return kept


@pytest.fixture
def passes(monkeypatch):
    """Return how many images went through a trunk, call by call."""
    counts = []
    through = Trunk.__call__

    def counted(self, pixels):
        counts.append(len(pixels))
        return through(self, pixels)

    monkeypatch.setattr(Trunk, "__call__", counted)
    return counts


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


def test_a_training_gives_the_same_bits_in_whatever_pack_it_is(images, weights):
    trials = [a_trial(seed, arm, weights=weights) for seed in (0, 1) for arm in ARMS]
    together = fine_tune(images, trials)
    for trial, outcome in zip(trials, together, strict=True):
        assert bits(run(images, trial.seed, trial.arm, weights=weights)) == bits(outcome)
    assert len({bits(outcome)[0] for outcome in together}) == 4


def test_both_arms_of_a_seed_pass_the_trunk_once_and_another_seed_by_itself(images, passes):
    fine_tune(images, [a_trial(0, arm, epochs=1) for arm in ARMS])
    both = [6, 6, 3, 12, 12]  # three batches, validation, test
    assert passes == both
    passes.clear()
    fine_tune(images, [a_trial(1, arm, epochs=1) for arm in ARMS] + [a_trial(2, epochs=1)])
    assert sorted(passes) == sorted(2 * both)


def test_arms_that_draw_other_images_share_nothing(images, weights, passes):
    # A/A: the second arm is the first one on another family of seeds.
    mine, other = (a_trial(seed, weights=weights, epochs=1) for seed in (0, 7))
    together = fine_tune(images, [mine, other])
    assert sorted(passes) == sorted([6, 6, 3] * 2 + [12, 12] + [12])  # but the test images
    assert bits(together[1]) == bits(run(images, 7, weights=weights, epochs=1))


def test_every_trial_draws_from_its_own_streams_alike(images):
    trials = [a_trial(0, arm) for arm in ARMS]
    fine_tune(images, trials)
    first, second = (trial.streams() for trial in trials)
    assert first == second and first.keys() == {"init", "subset", "augment", "order"}


def test_test_features_are_computed_once_in_a_process(images, weights, passes):
    for seed in (0, 1):
        fine_tune(images, [a_trial(seed, arm, weights=weights) for arm in ARMS])
    # 2 epochs of 3 batches; validation images are the seed's, test images everybody's
    assert [passes.count(6), passes.count(3), passes.count(12)] == [8, 4, 3]


def test_features_kept_or_computed_again_give_the_same_bits(images, monkeypatch):
    computed_first, kept = run(images), run(images)
    assert len(frozen_features._kept) == 2
    frozen_features._kept.clear()
    monkeypatch.setattr(frozen_features, "feature_budget", lambda device: 0)
    never_kept = run(images)
    assert len(frozen_features._kept) == 0
    assert bits(computed_first) == bits(kept) == bits(never_kept)


def test_the_trunk_is_frozen_with_its_statistics_and_the_head_trains_with_its_own(images, parts):
    run(images)
    (trunk, trunk_before), (head, head_before) = parts
    assert not trunk.training
    assert any("running_mean" in name for name in trunk_before)
    assert all(torch.equal(v, trunk_before[k]) for k, v in trunk.state_dict().items())
    assert all(p.grad is None for p in trunk.parameters())
    changed = {k for k, v in head.state_dict().items() if not torch.equal(v, head_before[k])}
    assert changed == {k for k in head_before if "leads" not in k}  # layer4's statistics too


def test_stacked_heads_train_as_they_do_one_by_one(images, weights, monkeypatch):
    # Patience runs out at different epochs, and then fewer heads are stacked.
    how = {"weights": weights, "epochs": 6, "patience": 1, "image_size": 64, "lr": 3e-5}
    trials = [a_trial(seed, arm, **how) for seed in (0, 1, 2) for arm in ARMS]
    one_by_one = fine_tune(images, trials)
    monkeypatch.setattr(transfer, "stacking_pays", lambda device, size: True)
    trials = [a_trial(seed, arm, **how) for seed in (0, 1, 2) for arm in ARMS]
    stacked = fine_tune(images, trials)
    assert len({o.facts["epochs_trained"] for o in one_by_one}) > 1
    for a, b in zip(one_by_one, stacked, strict=True):
        assert a.facts == b.facts and a.selected_epoch == b.selected_epoch
        for p, q in zip(
            (a.test, a.test_last, a.validation), (b.test, b.test_last, b.validation), strict=True
        ):
            assert np.abs(p.log_probabilities - q.log_probabilities).max() < 1e-4


def test_only_small_images_on_an_accelerator_are_worth_stacking():
    cuda, cpu = torch.device("cuda", 0), torch.device("cpu")
    assert [stacking_pays(d, size) for d in (cuda, cpu) for size in (32, 64, 224)] == [
        True, True, False, False, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("size", "gibibytes", "seeds"), [(32, 139, 10), (64, 8, 4), (32, 1, 1), (224, 139, 1)]
)
def test_a_pack_is_as_large_as_the_memory_of_the_device_allows(size, gibibytes, seeds, monkeypatch):
    memory = SimpleNamespace(total_memory=gibibytes * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: memory)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert pack_seeds({**TINY, "image_size": size}, "cuda:0") == seeds
    assert pack_seeds({**TINY, "image_size": size}, "cpu") == 1


def test_a_precision_that_a_device_lacks_is_refused_before_anything_trains():
    with pytest.raises(BadSetting, match="precision is 'tf32', which cpu cannot compute in"):
        pack_seeds({**TINY, "precision": "tf32"}, "cpu")


def test_bfloat16_is_close_to_float32_and_repeats_bit_for_bit(images, weights, forget):
    exact = run(images, weights=weights, epochs=1)
    rounded = run(images, weights=weights, epochs=1, precision="bf16")
    forget()
    again = run(images, weights=weights, epochs=1, precision="bf16")
    assert bits(rounded) == bits(again) != bits(exact)
    away = np.abs(rounded.validation.log_probabilities - exact.validation.log_probabilities)
    assert 1e-4 < away.max() < 0.5


def test_a_loss_that_diverges_ends_its_own_training_alone(images, weights):
    def diverges(epoch, values):
        raise Diverged("train/loss became nan at epoch 0.")

    well, ill = a_trial(0, weights=weights), a_trial(0, "smoothed", diverges, weights=weights)
    outcome, diverged = fine_tune(images, [well, ill])
    assert isinstance(diverged, Diverged)
    assert isinstance(outcome, Outcome) and bits(outcome) == bits(run(images, weights=weights))
    [alone] = fine_tune(images, [ill])
    assert isinstance(alone, Diverged)


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


def test_a_network_that_is_trained_whole_has_no_trunk(images):
    assert run(images, trainable_layers=7, epochs=1).facts["epochs_trained"] == 1


def test_only_tensor_cores_want_a_heads_channels_side_by_side():
    cuda, cpu = torch.device("cuda", 0), torch.device("cpu")
    wanted = [head_layout(d, p) for d in (cuda, cpu) for p in ("fp32", "bf16")]
    plain = torch.contiguous_format
    assert wanted == [plain, torch.channels_last, plain, plain]
