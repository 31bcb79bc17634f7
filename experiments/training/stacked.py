"""Stacked networks: several of one shape train side by side as one batched network.

A small network leaves a processor waiting for its next instruction most of the time. Ten of them
whose weights share tensors with one more axis, the network, cost little more than one.

References
----------
Wang et al. (2021), Horizontally fused training array (HFTA), MLSys.
"""

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from bench.experiment import Diverged, Outcome, Trial

Weights = Mapping[str, Tensor]
OF_THE_LOSS = ("epsilon", "convention")  # what trials that train side by side may differ in


class OneByOne:
    """Networks of one shape, each with tensors of its own: one fills the processor by itself."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self.networks = list(networks)

    def parameters(self) -> Iterator[Tensor]:
        """Yield what trains."""
        return chain.from_iterable(network.parameters() for network in self.networks)

    def __call__(self, x: Tensor, of: Sequence[int] | None = None) -> Tensor:
        """Return the logits of networks for their own examples, shape (networks, N, K).

        Parameters
        ----------
        x : shape (networks, N, …)
        of : which networks; all of them where it is not given
        """
        chosen = self.networks if of is None else [self.networks[i] for i in of]
        return torch.stack([network.train()(own) for network, own in zip(chosen, x, strict=True)])

    def state(self, i: int) -> dict[str, Tensor]:
        """Return a copy of one network's weights and buffers."""
        return {k: v.clone() for k, v in self.networks[i].state_dict().items()}

    @torch.inference_mode()
    def predict(self, state: Weights, x: Tensor) -> Tensor:
        """Return the log-probabilities of the network with this state, shape (N, K)."""
        return _predict(self.networks[0], state, x)


class Stacked:
    """Networks of one shape whose weights are stacked: the first axis has one entry a network.

    Each computes what it would compute alone (on a CPU to the last bit, on a GPU up to rounding),
    and an optimizer that works weight by weight, as Adam does, trains each as it would alone. The
    interface is that of `OneByOne`.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self.weights, self.buffers = stack_module_state(list(networks))
        self.count = len(networks)
        self._shape = copy.deepcopy(networks[0]).to("meta")
        self._chosen: tuple[tuple[int, ...], Tensor] | None = None

    def parameters(self) -> Iterator[Tensor]:
        """Yield what trains."""
        yield from self.weights.values()

    def __call__(self, x: Tensor, of: Sequence[int] | None = None) -> Tensor:
        """Return the logits of networks for their own examples, shape (networks, N, K).

        Those left out must have been copied by `state`: an optimizer's momentum still moves them.
        """
        weights, buffers, n = self.weights, self.buffers, len(x)
        copied = n < self.count or n == 1
        if copied:
            rows = self._rows(tuple(range(n) if of is None else of), x.device)
            if n == 1:  # two of it: a grouped convolution of one group sums in another order
                rows, x = rows.repeat(2), x.repeat(2, *[1] * (x.ndim - 1))
            weights, buffers = ({k: v[rows] for k, v in d.items()} for d in (weights, buffers))
        self._shape.train()
        logits: Tensor = vmap(partial(functional_call, self._shape))((weights, buffers), (x,))
        if copied:
            for name, values in buffers.items():  # the statistics of what was left in
                self.buffers[name][rows[:n]] = values[:n]
        return logits[:n]

    def _rows(self, of: tuple[int, ...], device: torch.device) -> Tensor:
        """Return which networks, on the device: copied there once an epoch, not at every step."""
        if self._chosen is None or self._chosen[0] != of:
            self._chosen = of, torch.tensor(of, device=device)
        return self._chosen[1]

    def state(self, i: int) -> dict[str, Tensor]:
        """Return a copy of one network's weights and buffers."""
        return {k: v[i].detach().clone() for k, v in {**self.weights, **self.buffers}.items()}

    @torch.inference_mode()
    def predict(self, state: Weights, x: Tensor) -> Tensor:
        """Return the log-probabilities of the network with this state, shape (N, K)."""
        return _predict(self._shape, state, x)


def _predict(network: nn.Module, state: Weights, x: Tensor) -> Tensor:
    logits: Tensor = functional_call(network.eval(), dict(state), (x,))
    return logits.float().log_softmax(dim=1)


def side_by_side(
    train: Callable[[list[Trial]], list[Outcome | Diverged]], trials: Sequence[Trial]
) -> list[Outcome | Diverged]:
    """Train, a group at a time, the trials that differ in seed or loss alone.

    Parameters
    ----------
    train : trains one group; returns what comes of each, in its order
    """
    groups: dict[str, list[int]] = {}
    for i, trial in enumerate(trials):
        shared = {k: v for k, v in trial.settings.items() if k not in OF_THE_LOSS}
        groups.setdefault(json.dumps(shared, sort_keys=True), []).append(i)
    found: dict[int, Outcome | Diverged] = {}
    for group in groups.values():
        found |= zip(group, train([trials[i] for i in group]), strict=True)
    return [found[i] for i in range(len(trials))]


def alone(outcomes: Sequence[Outcome | Diverged]) -> Outcome:
    """Return the outcome of a pack of one trial.

    Raises
    ------
    Diverged : its loss is no longer a number
    """
    [outcome] = outcomes
    if isinstance(outcome, Diverged):
        raise outcome
    return outcome
