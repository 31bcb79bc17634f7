import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import Trial
from bench.analysis.data.metrics import correct
from bench.experiment import Diverged
from bench.experiments import digits
from bench.experiments.digits import EXPERIMENT
from bench.experiments.training import epochs, label_smoothing, small
from bench.experiments.training.setting_rules import BadSetting

LOGGED = {
    "train/loss", "train/accuracy", "val/loss", "val/nll", "val/accuracy", "val/ece", "lr",
    "time/epoch_s",
}  # fmt: skip


def run(seed=0, arm="baseline", **settings):
    epochs = []
    chosen = {**EXPERIMENT.arm_settings(arm), **settings}
    trial = Trial(seed, arm, chosen, on_epoch=lambda epoch, values: epochs.append((epoch, values)))
    return EXPERIMENT.train(trial), epochs


def bits(outcome):
    predictions = outcome.test, outcome.test_last, outcome.validation
    return [p.log_probabilities.tobytes() for p in predictions]


@pytest.fixture(scope="module")
def whole_training():
    torch.set_num_threads(1)
    return run()


def test_a_training_learns_the_digits(whole_training):
    outcome, epochs = whole_training
    assert correct(outcome.test).mean() > 0.85
    assert outcome.test.log_probabilities.shape == (899, 10)
    assert len(outcome.validation) == 300
    assert epochs[-1][1]["train/loss"] < epochs[0][1]["train/loss"] / 3


def test_every_epoch_logs_the_same_names_from_zero_on(whole_training):
    _, epochs = whole_training
    assert [epoch for epoch, _ in epochs] == list(range(20))
    assert all(values.keys() == LOGGED for _, values in epochs)


def test_the_selected_epoch_is_the_earliest_with_the_best_validation_accuracy(whole_training):
    outcome, epochs = whole_training
    accuracies = [values["val/accuracy"] for _, values in epochs]
    assert outcome.selected_epoch == int(np.argmax(accuracies))
    assert correct(outcome.validation).mean() == pytest.approx(max(accuracies))
    shorter, _ = run(epochs=outcome.selected_epoch + 1)
    assert bits(shorter)[1] == bits(outcome)[0]  # its last epoch is the selected one


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    torch.manual_seed(1)
    first, _ = run(3, epochs=2)
    torch.manual_seed(2)
    again, _ = run(3, epochs=2)
    other, _ = run(4, epochs=2)
    assert bits(first) == bits(again)
    assert all(a != b for a, b in zip(bits(first), bits(other), strict=True))


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1]
    run(epochs=1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def a_pack(*seeds, **settings):
    arms = EXPERIMENT.arms
    return [
        Trial(s, arm, {**EXPERIMENT.arm_settings(arm), **settings}) for s in seeds for arm in arms
    ]


def test_both_arms_see_the_same_batches_and_start_from_the_same_weights(monkeypatch):
    batches, first = [], []
    loss_of, stacked = epochs.smoothed_cross_entropies, small.Stacked

    class Recorded(stacked):
        def __init__(self, networks):
            super().__init__(networks)
            first.append([self.state(i) for i in range(2)])

        def __call__(self, x, of=None):
            batches.append(x)
            return super().__call__(x, of)

    def loss(logits, labels, smoothing):
        batches.append(labels)
        return loss_of(logits, labels, smoothing)

    monkeypatch.setattr(small, "Stacked", Recorded)
    monkeypatch.setattr(epochs, "smoothed_cross_entropies", loss)
    trials = a_pack(0, epochs=2)
    baseline, smoothed = digits.train_pack(trials)
    assert len(batches) == 2 * 2 * 10
    assert all(torch.equal(both[0], both[1]) for both in batches)
    [(mine, other)] = first
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    assert trials[0].streams() == trials[1].streams()
    assert bits(baseline) != bits(smoothed)


def test_a_training_gives_in_a_pack_what_it_gives_alone():
    trials = a_pack(0, 1, 2, epochs=3)
    for trial, outcome in zip(trials, digits.train_pack(trials), strict=True):
        alone, _ = run(trial.seed, trial.arm, epochs=3)
        assert alone.selected_epoch == outcome.selected_epoch
        for a, b in zip(
            (alone.test, alone.test_last, alone.validation),
            (outcome.test, outcome.test_last, outcome.validation),
            strict=True,
        ):
            assert np.abs(a.log_probabilities - b.log_probabilities).max() < 1e-4


def test_the_loss_of_the_smoothed_arm_stays_above_its_floor():
    floor = label_smoothing.entropy_floor(0.1, 10, "article")
    _, epochs = run(arm="smoothed")
    assert all(min(v["train/loss"], v["val/loss"]) > floor for _, v in epochs)
    assert epochs[-1][1]["val/nll"] < floor < epochs[-1][1]["val/loss"]


def test_a_training_that_diverges_is_over_at_once():
    with pytest.raises(Diverged, match="became nan at epoch 0"):
        run(lr=math.inf)


def test_prepare_says_which_data_this_is():
    facts = EXPERIMENT.prepare(EXPERIMENT.settings, None)
    assert facts["name"] == "digits (scikit-learn)"
    assert (facts["train_pool"], facts["test"], facts["classes"]) == (898, 899, 10)
    assert len(facts["digest"]) == 64


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("batch_size", 2.5), ("lr", "x"), ("lr", 0), ("convention", "szegedy")],
)
def test_prepare_refuses_a_setting_that_cannot_be_trained_with(name, value):
    with pytest.raises(BadSetting, match=f"setting {name} is {value!r}; it must be") as told:
        EXPERIMENT.prepare({**EXPERIMENT.settings, name: value}, None)
    assert told.value.settings == {name: EXPERIMENT.settings[name]}


def test_workers_can_be_sent_the_training():
    assert pickle.loads(pickle.dumps(EXPERIMENT.train)) is EXPERIMENT.train


def test_the_file_to_copy_stays_short():
    assert len(Path(digits.__file__).read_text().splitlines()) < 120
