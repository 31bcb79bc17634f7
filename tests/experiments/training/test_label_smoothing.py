import math

import pytest
import torch
from hypothesis import given, strategies as st
from torch.nn.functional import cross_entropy

from bench.experiments.training.label_smoothing import (
    ARMS,
    entropy_floor,
    smoothed_cross_entropy,
    smoothed_targets,
    validation_scores,
)
from bench.experiments.training.setting_rules import BadSetting


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(64, 10, generator=generator)
    return logits, torch.randint(10, (64,), generator=generator)


def test_the_articles_vectors_give_its_loss():
    # y = [0.9, 0.05, 0.05], p = [0.7, 0.2, 0.1]; the article prints 0.513
    label = torch.tensor([0])
    targets = smoothed_targets(label, 3, 0.1, "article")
    assert targets.tolist() == [pytest.approx([0.9, 0.05, 0.05])]
    logits = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64).log()
    loss = smoothed_cross_entropy(logits, label, 0.1, "article")
    assert float(loss) == pytest.approx(0.5166085998, abs=1e-10)


def test_the_entropy_floors_are_the_published_ones():
    assert entropy_floor(0.1, 10, "article") == pytest.approx(0.5448054311, abs=1e-10)
    assert entropy_floor(0.1, 10, "uniform") == pytest.approx(0.5002880350, abs=1e-10)
    assert entropy_floor(0.0, 10, "article") == 0.0


@pytest.mark.parametrize("convention", ["article", "uniform"])
def test_no_loss_is_below_the_floor_and_perfect_predictions_reach_it(convention, batch):
    logits, labels = batch
    floor = entropy_floor(0.1, 10, convention)
    assert float(smoothed_cross_entropy(logits, labels, 0.1, convention)) > floor
    perfect = smoothed_targets(labels, 10, 0.1, convention).double().log()
    reached = float(smoothed_cross_entropy(perfect, labels, 0.1, convention))
    assert reached == pytest.approx(floor, abs=1e-7)


@pytest.mark.parametrize("epsilon", [0.0, 0.05, 0.1, 0.5])
def test_uniform_is_pytorchs_own_loss(epsilon, batch):
    ours = smoothed_cross_entropy(*batch, epsilon, "uniform")
    assert float(ours) == pytest.approx(
        float(cross_entropy(*batch, label_smoothing=epsilon)), abs=1e-6
    )


@pytest.mark.parametrize("epsilon", [0.0, 0.05, 0.1, 0.5])
def test_the_conventions_meet_where_the_article_smooths_less(epsilon, batch):
    # article(e) = uniform(e K / (K - 1)), which PyTorch computes
    ours = smoothed_cross_entropy(*batch, epsilon, "article")
    theirs = cross_entropy(*batch, label_smoothing=epsilon * 10 / 9)
    assert float(ours) == pytest.approx(float(theirs), abs=1e-6)


@given(st.floats(0, 0.99), st.integers(2, 20), st.sampled_from(["article", "uniform"]))
def test_the_loss_is_the_cross_entropy_with_the_targets(epsilon, classes, convention):
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(8, classes, generator=generator)
    labels = torch.randint(classes, (8,), generator=generator)
    targets = smoothed_targets(labels, classes, epsilon, convention)
    assert targets.sum(dim=1).tolist() == pytest.approx([1.0] * 8, abs=1e-5)
    expected = -(targets * logits.log_softmax(dim=1)).sum(dim=1).mean()
    loss = smoothed_cross_entropy(logits, labels, epsilon, convention)
    assert float(loss) == pytest.approx(float(expected), abs=1e-4)


def test_gradients_are_pytorchs(batch):
    logits, labels = batch
    ours = logits.clone().requires_grad_()
    theirs = logits.clone().requires_grad_()
    smoothed_cross_entropy(ours, labels, 0.1, "uniform").backward()
    cross_entropy(theirs, labels, label_smoothing=0.1).backward()
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-7)


def test_a_class_ruled_out_costs_the_baseline_nothing():
    logits = torch.tensor([[2.0, 1.0, -math.inf]])
    loss = smoothed_cross_entropy(logits, torch.tensor([0]), 0.0, "article")
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-1)))


def test_validation_scores_compare_between_arms_except_the_loss(batch):
    logits, labels = batch
    log_p = logits.log_softmax(dim=1)
    smoothed, plain = (validation_scores(log_p, labels, e, "article") for e in (0.1, 0.0))
    assert smoothed.pop("val/loss") > plain.pop("val/loss") == plain["val/nll"]
    assert smoothed == plain
    assert plain["val/accuracy"] == float((log_p.argmax(1) == labels).float().mean())


def test_the_arms_differ_in_epsilon_alone():
    assert ARMS == {"baseline": {"epsilon": 0.0}, "smoothed": {"epsilon": 0.1}}


def test_refuses_an_unknown_convention_and_names_the_nearest(batch):
    with pytest.raises(BadSetting, match="no label smoothing convention called 'articel'") as told:
        smoothed_cross_entropy(*batch, 0.1, "articel")
    assert told.value.settings == {"convention": "article"}
    assert (told.value.code, told.value.exit_status) == ("setting", 2)


@pytest.mark.parametrize("epsilon", [-0.1, 1.0, math.nan, math.inf, True, "0.1"])
def test_refuses_an_epsilon_that_is_no_share(epsilon, batch):
    with pytest.raises(BadSetting, match="epsilon is .*; it must be a number 0 or more and below"):
        smoothed_cross_entropy(*batch, epsilon, "article")
