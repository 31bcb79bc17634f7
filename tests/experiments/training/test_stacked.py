import pytest
import torch
from torch import nn

from bench import Outcome, Trial
from bench.experiment import Diverged
from bench.experiments.training.stacked import OneByOne, Stacked, alone, side_by_side


def networks(count=3):
    torch.manual_seed(0)
    return [
        nn.Sequential(
            nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3)
        )
        for _ in range(count)
    ]


def examples(count=3):
    return torch.randn(count, 6, 2, 4, 4, generator=torch.Generator().manual_seed(1))


def trained(kind, *, steps=5, of=None):
    """Return the states of networks after a few steps of Adam."""
    group, x = kind(networks()), examples()
    optimizer = torch.optim.Adam(group.parameters(), lr=0.01)
    for _ in range(steps):
        logits = group(x if of is None else x[of], of)
        optimizer.zero_grad()
        (logits**2).mean(dim=(1, 2)).sum().backward()
        optimizer.step()
    return group, [group.state(i) for i in range(3)]


@pytest.mark.parametrize("kind", [OneByOne, Stacked])
def test_each_network_trains_as_it_would_alone(kind):
    _, states = trained(kind)
    for i, network in enumerate(networks()):
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        for _ in range(5):
            loss = (network(examples()[i]) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for name, wanted in network.state_dict().items():
            assert torch.allclose(states[i][name], wanted, atol=1e-5), name  # statistics too


@pytest.mark.parametrize("kind", [OneByOne, Stacked])
def test_a_network_that_is_left_out_keeps_its_statistics_and_has_no_gradient(kind):
    group, states = trained(kind, of=[0, 2])
    first = networks()[1].state_dict()
    assert all(torch.equal(states[1][name], wanted) for name, wanted in first.items())
    assert not torch.equal(states[2]["1.running_mean"], states[1]["1.running_mean"])


@pytest.mark.parametrize("kind", [OneByOne, Stacked])
def test_a_state_predicts_in_eval_mode_whatever_trains_on(kind):
    group, states = trained(kind)
    before = group.predict(states[1], examples()[1])
    group(examples())
    assert torch.equal(group.predict(states[1], examples()[1]), before)
    network = networks()[1].eval()
    network.load_state_dict(states[1])
    assert torch.allclose(before, network(examples()[1]).log_softmax(dim=1), atol=1e-6)


def trial(seed, arm, **settings):
    return Trial(seed, arm, {"epochs": 2, "convention": "article", **settings})


def test_trials_train_together_unless_more_than_seed_and_loss_differ():
    trials = [
        trial(0, "a", epsilon=0.0),
        trial(0, "b", epsilon=0.1, lr=0.5),
        trial(1, "a", epsilon=0.0),
        trial(0, "c", epsilon=0.2, convention="uniform"),
    ]
    groups = []

    def train(group):
        groups.append([(t.seed, t.arm) for t in group])
        return [Outcome(scores={"seed": t.seed, "arm": ord(t.arm)}) for t in group]

    outcomes = side_by_side(train, trials)
    assert groups == [[(0, "a"), (1, "a"), (0, "c")], [(0, "b")]]
    assert [o.scores for o in outcomes] == [{"seed": t.seed, "arm": ord(t.arm)} for t in trials]


def test_trials_whose_seeds_are_pinned_alike_are_told_apart():
    trials = [trial(0, "a"), trial(0, "a")]
    outcomes = side_by_side(
        lambda group: [Outcome(scores={"place": i}) for i, _ in enumerate(group)], trials
    )
    assert [o.scores["place"] for o in outcomes] == [0, 1]


def test_alone_a_training_that_diverged_raises():
    outcome = Outcome(scores={"x": 1.0})
    assert alone([outcome]) is outcome
    with pytest.raises(Diverged, match="train/loss became nan"):
        alone([Diverged("train/loss became nan at epoch 0.")])
