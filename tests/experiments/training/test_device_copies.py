"""What a step copies from the host, and in which arithmetic it computes: told without a GPU."""

import pytest
import torch

from bench.experiment import Trial
from bench.experiments.training import precision
from bench.experiments.training.frozen_features import Trunk, _imagenet, fastest_layout, normalised
from bench.experiments.training.label_smoothing import (
    smoothed_cross_entropies,
    smoothed_cross_entropy,
    target_tensor,
)
from bench.experiments.training.stacked import Stacked
from bench.experiments.training.transfer import batch

CPU = torch.device("cpu")


def flags() -> dict[str, str]:
    return {name: flag.fp32_precision for name, flag in precision._flags()}


def test_fp32_reaches_every_kind_of_product_and_what_was_set_comes_back(monkeypatch):
    torch.backends.cudnn.conv.fp32_precision = "tf32"
    before = flags(), torch.backends.fp32_precision
    with precision.computing_in("fp32", CPU):
        assert set(flags().values()) == {"ieee"}
    assert (flags(), torch.backends.fp32_precision) == before
    monkeypatch.setattr(precision, "require", lambda *_: None)
    with pytest.raises(KeyError), precision.computing_in("tf32", CPU):
        assert {n: f for n, f in flags().items() if n.startswith("cu")} == {
            "cuda.matmul": "tf32", "cudnn.conv": "tf32", "cudnn.rnn": "tf32",
        }  # fmt: skip
        raise KeyError
    assert (flags(), torch.backends.fp32_precision) == before
    torch.backends.cudnn.conv.fp32_precision = "none"


def test_losses_of_several_networks_are_those_of_each_alone():
    logits, labels = torch.randn(3, 5, 4), torch.randint(4, (3, 5))
    smoothing = [(0.0, "article"), (0.1, "article"), (0.2, "uniform")]
    found = smoothed_cross_entropies(logits, labels, target_tensor(smoothing, 4, CPU))
    for i, (epsilon, convention) in enumerate(smoothing):
        alone = smoothed_cross_entropy(logits[i], labels[i], epsilon, convention)
        assert torch.allclose(found[i], alone, atol=1e-6)


def test_the_constants_of_a_device_are_made_once():
    _imagenet.cache_clear()
    for _ in range(3):
        normalised(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 8)
    assert _imagenet.cache_info().misses == 1


def test_which_networks_train_is_copied_once_for_all_steps_of_an_epoch(monkeypatch):
    stacked = Stacked([torch.nn.Linear(3, 2) for _ in range(3)])
    made, tensor = [], torch.tensor
    monkeypatch.setattr(torch, "tensor", lambda *a, **k: made.append(a) or tensor(*a, **k))
    for _ in range(4):
        stacked(torch.zeros(2, 5, 3), of=[0, 2])
    stacked(torch.zeros(1, 5, 3), of=[2])
    assert len(made) == 2


class Subset:
    def __init__(self, name: str, pixels: torch.Tensor) -> None:
        self.name, self.pixels = name, pixels

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.pixels, torch.full((len(self.pixels),), step)


class OnGpu(Trunk):
    """A trunk that says it is on a GPU, and counts its calls."""

    def __init__(self) -> None:
        self.device, self.calls = torch.device("cuda"), []

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        self.calls.append(len(pixels))
        return pixels.float() + 1


def test_on_a_gpu_a_pack_passes_the_trunk_in_one_call():
    trunk = OnGpu()
    pixels = [torch.randint(256, (8, 3, 4, 4), dtype=torch.uint8) for _ in range(3)]
    subsets = [Subset(str(i), x) for i, x in enumerate(pixels)]
    x, y = batch(7, [(trunk, s) for s in subsets for _ in range(2)])
    assert trunk.calls == [24]
    assert (x.shape[0], y.unique().tolist()) == (6, [7])
    for i, own in enumerate(pixels):
        assert torch.equal(x[2 * i], own.float() + 1)
        assert torch.equal(x[2 * i], x[2 * i + 1])


def test_a_trunk_in_full_precision_on_a_gpu_keeps_the_usual_layout():
    shape, gpu = torch.Size([1, 64, 56, 56]), torch.device("cuda")
    assert fastest_layout(shape, gpu, tensor_cores=False) == torch.contiguous_format
    assert fastest_layout(shape, gpu, tensor_cores=True) == torch.channels_last


def test_a_generator_may_draw_on_a_device_of_its_own():
    trial = Trial(seed=3, arm="a", settings={})
    one, same = trial.torch_rng("x"), Trial(seed=3, arm="a", settings={}).torch_rng("x", "cpu")
    assert torch.equal(torch.rand(4, generator=one), torch.rand(4, generator=same))
    assert one.device.type == "cpu"
    assert list(trial.streams()) == ["x"]
