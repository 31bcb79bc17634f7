"""Label smoothing: the softened targets in both conventions, the loss they give, and the arms.

With K classes and smoothing epsilon, the true class and each other class get

    article    1 - epsilon                  epsilon / (K - 1)
    uniform    1 - epsilon + epsilon / K    epsilon / K

so that article(epsilon) = uniform(epsilon * K / (K - 1)).

References
----------
Szegedy et al. (2016), Rethinking the Inception architecture, CVPR, section 7: "uniform", as
torch.nn.CrossEntropyLoss(label_smoothing=epsilon).
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bench.analysis.data.metrics import ece
from bench.experiments.training.setting_rules import BadSetting, nearest, number, one_of

ARMS: dict[str, dict[str, Any]] = {"baseline": {"epsilon": 0.0}, "smoothed": {"epsilon": 0.1}}
CONVENTIONS = ("article", "uniform")
EPSILON = number(0, 1)
RULES = {"epsilon": EPSILON, "convention": one_of(CONVENTIONS)}


def target_values(epsilon: float, classes: int, convention: str) -> tuple[float, float]:
    """Return the target of the true class and of each other class.

    Raises
    ------
    BadSetting : an unknown convention, or an epsilon outside [0, 1)
    """
    if convention not in CONVENTIONS:
        raise BadSetting(
            f"no label smoothing convention called {convention!r}.",
            facts=["Known: article (1-epsilon), uniform (1-epsilon+epsilon/K, as PyTorch)."],
            settings={"convention": nearest(convention, CONVENTIONS)},
        )
    if not EPSILON.holds(epsilon):
        raise BadSetting(
            f"epsilon is {epsilon!r}; it must be {EPSILON.words}.",
            facts=["It is the share of the target that the true class gives away."],
            fix='arms={"baseline": {"epsilon": 0.0}, "smoothed": {"epsilon": 0.1}}',
        )
    if convention == "article":
        return 1 - epsilon, epsilon / (classes - 1)
    return 1 - epsilon + epsilon / classes, epsilon / classes


def smoothed_targets(labels: Tensor, classes: int, epsilon: float, convention: str) -> Tensor:
    """Return the target distributions of `labels`, shape (N, classes), float32."""
    true, other = target_values(epsilon, classes, convention)
    targets = torch.full((len(labels), classes), other, device=labels.device)
    return targets.scatter_(1, labels[:, None], true)


def smoothed_cross_entropy(
    logits: Tensor, labels: Tensor, epsilon: float, convention: str
) -> Tensor:
    """Return the mean cross-entropy, in nats, between smoothed targets and softmax(logits).

    Parameters
    ----------
    logits : shape (N, K)
    labels : shape (N,), 0 to K - 1

    Raises
    ------
    BadSetting : an unknown convention, or an epsilon outside [0, 1)
    """
    true, other = target_values(epsilon, logits.shape[1], convention)
    log_p = logits.log_softmax(dim=1)
    chosen = log_p.gather(1, labels[:, None]).mean()
    if other == 0:  # nothing to add, and a class ruled out by a logit of -inf costs nothing
        return -true * chosen
    # sum_k t_k log p_k = (true - other) log p_y + other sum_k log p_k: no target matrix needed
    return -(true - other) * chosen - other * log_p.sum(dim=1).mean()


def target_tensor(
    smoothing: Sequence[tuple[float, str]], classes: int, device: torch.device
) -> Tensor:
    """Return the targets of the true class and of each other one, shape (2, networks).

    Made once and not at every step: each copy from the host makes a GPU wait.

    Parameters
    ----------
    smoothing : epsilon and convention of each network
    """
    return torch.tensor([target_values(e, classes, c) for e, c in smoothing], device=device).T


def smoothed_cross_entropies(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return the same of several networks, each with its own smoothing, shape (networks,).

    Parameters
    ----------
    logits : shape (networks, N, K)
    labels : shape (networks, N)
    targets : as `target_tensor` returns them
    """
    true, other = targets
    log_p = logits.log_softmax(dim=-1)
    chosen = log_p.gather(-1, labels[..., None]).mean(dim=(-2, -1))
    return -(true - other) * chosen - other * log_p.sum(dim=-1).mean(dim=-1)


def entropy_floor(epsilon: float, classes: int, convention: str) -> float:
    """Return the entropy of the targets in nats: no training loss can be lower."""
    true, other = target_values(epsilon, classes, convention)
    if other == 0:
        return 0.0
    return -true * math.log(true) - (classes - 1) * other * math.log(other)


def validation_scores(
    log_p: Tensor, labels: Tensor, epsilon: float, convention: str
) -> dict[str, float]:
    """Return what an epoch logs about its validation images.

    Parameters
    ----------
    log_p : shape (N, K), log-probabilities
    labels : shape (N,)

    Returns
    -------
    "val/loss", the arm's own smoothed loss, and what compares between arms: "val/nll" in nats,
    "val/accuracy" and "val/ece" as fractions
    """
    confidence, predicted = log_p.exp().max(dim=1)
    correct = predicted == labels
    return {
        "val/loss": float(smoothed_cross_entropy(log_p, labels, epsilon, convention)),
        "val/nll": float(smoothed_cross_entropy(log_p, labels, 0.0, convention)),
        "val/accuracy": float(correct.float().mean()),
        "val/ece": ece(confidence.cpu().numpy(), correct.cpu().numpy()),
    }
