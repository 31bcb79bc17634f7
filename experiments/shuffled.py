"""Shuffled: does the order of its columns change how well a random forest does? It cannot.

A forest draws the columns that each split may use: whatever their order, what it learns has the
same distribution. The arms are equivalent by construction, so that any other word is an error, or
a lack of seeds.
"""

from pathlib import Path

from bench import Experiment, Outcome, Trial
from bench.experiment import Settings
from bench.experiments import trees
from bench.experiments.training.setting_rules import check, one_of

SETTINGS = {**trees.SETTINGS, "kind": "random"}
RULES = {**trees.RULES, "order": one_of(["as given", "shuffled"])}


def train(trial: Trial) -> Outcome:
    """Fit a forest to the columns as they are given, or in an order that the seed draws."""
    drawn = trial.rng("columns").permutation(trees.ALL)  # in both arms, so that they draw alike
    return trees.train(trial, drawn if trial.settings["order"] == "shuffled" else trees.ALL)


def prepare(settings: Settings, data_dir: Path | None) -> dict[str, object]:
    """Check the settings and say which data this is; called once an arm, before any training."""
    check(settings, RULES, defaults={**SETTINGS, "order": "shuffled"})
    return trees.prepare(settings, data_dir)


EXPERIMENT = Experiment(
    name="shuffled",
    question="Does another order of the pixels change a random forest's test accuracy?",
    arms={"as given": {"order": "as given"}, "shuffled": {"order": "shuffled"}},
    settings=SETTINGS,
    train=train,
    prepare=prepare,
    device="cpu",
    margin=0.005,  # 0.5 pp, as in trees and digits
)
