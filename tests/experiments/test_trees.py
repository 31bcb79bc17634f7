"""Trees and shuffled: one without torch or epochs, one whose treatment changes nothing."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import Trial
from bench.analysis.data.metrics import correct
from bench.experiments import cifar10, digits, shuffled, trees
from bench.experiments.data import datasets
from bench.experiments.training.setting_rules import BadSetting


def run(module, seed=0, arm=None, **settings):
    experiment = module.EXPERIMENT
    arm = arm or experiment.baseline
    trial = Trial(seed, arm, {**experiment.arm_settings(arm), **settings})
    return experiment.train(trial), trial


def bits(outcome):
    return outcome.test.log_probabilities.tobytes()


@pytest.mark.parametrize("module", [trees, shuffled])
def test_each_arm_learns_the_digits_and_repeats(module):
    for arm in module.EXPERIMENT.arms:
        first, _ = run(module, 3, arm)
        assert correct(first.test).mean() > 0.9
        assert bits(first) == bits(run(module, 3, arm)[0])
        assert bits(first) != bits(run(module, 4, arm)[0])


@pytest.mark.parametrize("module", [trees, shuffled])
def test_both_arms_draw_alike_and_predict_differently(module):
    (first, one), (second, other) = (run(module, 0, arm) for arm in module.EXPERIMENT.arms)
    assert one.streams() == other.streams()
    assert {"subset", "init"} <= set(one.streams())
    assert bits(first) != bits(second)


def test_the_halves_are_those_of_digits():
    images, half = datasets.digits(), trees.halves()
    for split in ("train", "test"):
        assert np.array_equal(half[split], images.__dict__[split].flatten(1).numpy())
        assert np.array_equal(half[f"{split}_labels"], images.__dict__[f"{split}_labels"].numpy())


def test_a_forest_sees_as_many_images_of_each_class_as_the_setting_says(monkeypatch):
    seen = []
    fit = trees.RandomForestClassifier.fit
    monkeypatch.setattr(
        trees.RandomForestClassifier,
        "fit",
        lambda self, x, y: seen.append((x, y)) or fit(self, x, y),
    )
    run(trees, per_class=7)
    run(trees, 1, per_class=7)
    (x, y), (x_other, _) = seen
    assert np.bincount(y).tolist() == [7] * 10
    assert len(np.unique(x, axis=0)) == 70
    assert not np.array_equal(x, x_other)


def test_no_class_has_probability_zero_where_no_tree_votes_for_it():
    outcome, _ = run(trees, trees=10)
    p = np.exp(outcome.test.log_probabilities.astype(float))
    assert np.allclose(p.sum(axis=1), 1, atol=1e-6)
    assert 0.05 / 1.5 < p.min() < 0.06  # half of one in ten, of a sum of at most 1.5


def test_unshuffled_it_is_the_random_forest_of_trees():
    assert bits(run(shuffled)[0]) == bits(run(trees)[0])


def test_twenty_seeds_say_that_the_order_of_the_columns_makes_no_difference(
    bench, copy_store, tmp_path
):
    store = copy_store(tmp_path / "store")
    found = bench("run", "shuffled", "--seeds", "20", "--store", store, "--json", "-q").json
    [treatment] = found["comparisons"]
    assert (treatment["verdict"]["word"], treatment["n_pairs"]) == ("equivalent", 20)
    assert -0.005 < treatment["primary"]["low"] < 0 < treatment["primary"]["high"] < 0.005


def test_shuffled_columns_are_those_of_training_and_testing_alike(monkeypatch):
    seen = []
    train = trees.train
    monkeypatch.setattr(trees, "train", lambda trial, c: seen.append(c) or train(trial, c))
    run(shuffled, 0, "shuffled")
    run(shuffled, 1, "shuffled")
    run(shuffled, 0, "as given")
    assert [sorted(columns) for columns in seen] == [list(range(64))] * 3
    assert not np.array_equal(seen[0], seen[1]) and np.array_equal(seen[2], np.arange(64))


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [(trees, "trees", 0), (trees, "per_class", 88), (trees, "kind", "oak"), (shuffled, "order", 1)],
)
def test_prepare_refuses_a_setting_that_cannot_be_trained_with(module, name, value):
    settings = {**module.EXPERIMENT.arm_settings(module.EXPERIMENT.baseline), name: value}
    with pytest.raises(BadSetting, match=f"setting {name} is {value!r}; it must be") as told:
        module.EXPERIMENT.prepare(settings, None)
    assert list(told.value.settings) == [name]


def test_prepare_says_which_data_this_is():
    facts = [m.EXPERIMENT.prepare(m.EXPERIMENT.settings, None) for m in (trees, shuffled)]
    assert facts[0] == facts[1]
    assert facts[0]["name"] == datasets.digits().name and len(facts[0]["digest"]) == 64


def test_neither_imports_torch():
    code = "import sys, experiments.shuffled; print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"


@pytest.mark.parametrize("module", [cifar10, digits, trees, shuffled])
def test_an_experiment_is_short(module):
    assert len(Path(module.__file__).read_text().splitlines()) <= 60
