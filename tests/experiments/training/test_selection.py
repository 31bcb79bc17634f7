import math

import pytest
import torch

from bench import Trial
from bench.experiment import Diverged, Outcome
from bench.experiments.training.selection import Selection

LABELS = torch.tensor([0, 1, 0, 1])
SETTINGS = {"epsilon": 0.1, "convention": "article"}


def log_p(correct):
    """Return predictions of which the first `correct` are right."""
    right = torch.arange(4) < correct
    classes = torch.where(right, LABELS, 1 - LABELS)
    return torch.where(torch.nn.functional.one_hot(classes) == 1, 0.8, 0.2).log()


def logged(*correct, epochs=9, patience=None, **values):
    """Return the selection after epochs with so many right predictions, and what was logged."""
    seen = []
    trial = Trial(0, "a", SETTINGS, on_epoch=lambda epoch, v: seen.append((epoch, v)))
    selection = Selection(trial, LABELS, epochs=epochs, patience=patience)
    for epoch, count in enumerate(correct):
        weights = {"epoch": torch.tensor(epoch)}
        selection.log(epoch, {"train/loss": 0.5, **values}, log_p(count), lambda w=weights: w)
    return selection, seen


def test_the_earliest_of_the_best_epochs_is_selected_and_the_last_kept_beside_it():
    selection, seen = logged(1, 3, 2, 3, epochs=4)
    assert selection.over
    assert {epoch: int(w["epoch"]) for epoch, w in selection.weights.items()} == {1: 1, 3: 3}
    assert [v["val/accuracy"] for _, v in seen] == [0.25, 0.75, 0.5, 0.75]
    assert {"train/loss", "val/loss", "val/nll", "val/ece"} < seen[0][1].keys()
    outcome = selection.outcome({1: log_p(3), 3: log_p(4)}, LABELS, note="x")
    assert isinstance(outcome, Outcome)
    assert (outcome.selected_epoch, outcome.facts) == (1, {"epochs_trained": 4, "note": "x"})
    rights = [
        int((p.log_probabilities.argmax(1) == p.labels).sum())
        for p in (outcome.test, outcome.test_last, outcome.validation)
    ]
    assert rights == [3, 4, 3]


def test_where_the_last_epoch_is_the_best_the_test_set_is_scored_once():
    selection, _ = logged(1, 2, 3, epochs=3)
    assert list(selection.weights) == [2]
    outcome = selection.outcome({2: log_p(4)}, LABELS)
    assert isinstance(outcome, Outcome) and outcome.test is not None and outcome.test_last
    assert (outcome.test.log_probabilities == outcome.test_last.log_probabilities).all()


@pytest.mark.parametrize(("patience", "over"), [(None, False), (3, False), (2, True)])
def test_it_is_over_when_nothing_was_better_for_as_long_as_patience_lasts(patience, over):
    assert logged(3, 2, 3, patience=patience)[0].over is over


def test_a_loss_that_diverges_ends_it_and_leaves_nothing_to_score():
    selection, seen = logged(3, **{"train/loss": math.nan})
    assert selection.over and selection.weights == {}
    outcome = selection.outcome({}, LABELS)
    assert isinstance(outcome, Diverged) and outcome.what == "train/loss became nan at epoch 0."
    selection.log(1, {"train/loss": math.nan}, log_p(3), dict)
    assert len(seen) == 1  # the bad epoch is recorded, and nothing after it
