"""On a GPU: which arithmetic, which bits, and whether a step waits for the host.

`python -m pytest tests/gpu -m gpu -p no:cacheprovider` needs torch and numpy, no store and no data.
Nothing here has run on a GPU yet.
"""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.experiment import Trial
from bench.experiments.data.datasets import Images
from bench.experiments.training.label_smoothing import smoothed_cross_entropies, target_tensor
from bench.experiments.training.precision import computing_in
from bench.experiments.training.small import train_small
from bench.experiments.training.stacked import Stacked

HAS_GPU = torch.cuda.is_available()
pytestmark = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(not HAS_GPU, reason="torch sees no CUDA device here")
GPU = torch.device("cuda:0" if HAS_GPU else "cpu")
ERRORS = {"fp32": (0.0, 1e-6), "tf32": (1e-4, 1e-2)}  # relative, of sums over some hundred products


def products() -> dict[str, Callable[[Tensor, torch.dtype], Tensor]]:
    """Return each kind of product as a function of its input and the precision of its weights."""
    torch.manual_seed(0)
    linear, convolution = nn.Linear(512, 64, bias=False), nn.Conv2d(64, 64, 3, bias=False)
    recurrent = nn.GRU(64, 64, batch_first=True)

    def on(layer: nn.Module, x: Tensor, dtype: torch.dtype) -> Any:
        return layer.to(GPU, dtype)(x.to(GPU, dtype))

    return {
        "matmul": lambda x, t: on(linear, x.reshape(-1, 512), t),
        "conv": lambda x, t: on(convolution, x.reshape(-1, 64, 16, 16), t),
        "rnn": lambda x, t: on(recurrent, x.reshape(-1, 32, 64), t)[0],
    }


def error(kind: str, precision: str) -> float:
    """Return the relative error of a kind of product against float64."""
    product = products()[kind]
    x = torch.randn(4, 64, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        exact = product(x, torch.float64)
        with computing_in(precision, GPU):
            found = product(x, torch.float32).double()
    return float((found - exact).norm() / exact.norm())


@needs_gpu
@pytest.mark.parametrize("precision", ERRORS)
@pytest.mark.parametrize("kind", ["matmul", "conv", "rnn"])
@pytest.mark.sample(6)
def test_a_precision_reaches_every_kind_of_product(kind: str, precision: str):
    low, high = ERRORS[precision]
    assert low <= error(kind, precision) < high


def test_full_precision_is_full_on_the_cpu_too():
    if HAS_GPU:
        pytest.skip("asked of the CPU alone")
    assert all(error(kind, "fp32") < 1e-6 for kind in ("matmul", "conv", "rnn"))


def images() -> Images:
    """Return forty small images a class, which a line can tell apart."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(160) % 4
    pixels = torch.randint(0, 60, (160, 1, 8, 8), generator=draw)
    pixels[torch.arange(160), 0, labels, :] += 150
    whole = pixels.to(torch.uint8)
    return Images(
        name="lines",
        digest="lines",
        classes=("0", "1", "2", "3"),
        train=whole[:120],
        train_labels=labels[:120],
        test=whole[120:],
        test_labels=labels[120:],
    )


def trained(seeds: range) -> list[Any]:
    settings = {"epochs": 3, "batch_size": 8, "lr": 0.01, "epsilon": 0.1, "convention": "article"}
    trials = [Trial(seed=s, arm="a", settings=settings, device=str(GPU)) for s in seeds]

    def network() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4))

    found = train_small(trials, network, images(), per_class=(8, 8))
    return [outcome.test.log_probabilities for outcome in found]


def test_a_training_gives_the_same_bits_twice_and_stacked_nearly_those_of_one_alone():
    one, again = trained(range(3)), trained(range(3))
    assert all((a == b).all() for a, b in zip(one, again, strict=True))
    alone = trained(range(1))[0]
    assert abs(alone - one[0]).max() < 1e-3


@needs_gpu
def test_no_step_waits_for_the_host():
    networks = Stacked([nn.Linear(64, 4).to(GPU) for _ in range(3)])
    optimizer = torch.optim.Adam(networks.parameters(), lr=0.01, fused=True)
    x, y = torch.randn(3, 8, 64, device=GPU), torch.randint(4, (3, 8), device=GPU)
    targets = target_tensor([(0.1, "article")] * 3, 4, GPU)

    def step() -> None:
        loss = smoothed_cross_entropies(networks(x), y, targets)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()

    step()  # the first allocates
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_what_a_card_is_measured_with_needs_neither_store_nor_command_line():
    blocked = "import sys\nfor name in ('mlflow', 'seaborn', 'typer'): sys.modules[name] = None\n"
    code = f"{blocked}import bench.experiments.cifar10, bench.experiments.training.small"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
