"""Frozen features: the output of a frozen trunk, computed once for images that stay."""

from collections import OrderedDict
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.experiments.training.resnet import folded, with_products

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
IMAGES_AT_ONCE = 250  # through the trunk; divides 10,000, and 1,000: batches of one shape
BYTES_AT_ONCE = 2**24  # of features: small ones fill a processor only by the thousand
CPU_BUDGET = 2**30  # bytes of features that one process keeps


class Trunk:
    """A frozen network from uint8 pixels to features, with its batch-norm layers folded.

    Parameters
    ----------
    net, digest : frozen, in eval mode, and the digest of its weights
    size : the side to which images are resized
    dtype : of weights and features
    tensor_cores : products are computed in tf32 or bf16 on a GPU
    """

    def __init__(
        self,
        net: nn.Sequential,
        digest: str,
        size: int,
        device: torch.device,
        dtype: torch.dtype,
        *,
        tensor_cores: bool = False,
    ) -> None:
        self.digest, self.size, self.device, self.dtype = digest, size, device, dtype
        self.layers: list[tuple[nn.Module, torch.memory_format]] = []
        x = torch.zeros(1, 3, size, size)
        for layer in folded(net):
            faster = with_products(layer, x).to(device, dtype)
            layout = fastest_layout(x.shape, device, tensor_cores=tensor_cores)
            self.layers.append((faster.to(memory_format=layout), layout))
            x = layer(x)
        self.example = x  # the features of one image: their shape, on the CPU, float32

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """Return the features of pixels, resized and normalised as ImageNet's."""
        x = normalised(pixels, self.size).to(self.dtype)
        for layer, layout in self.layers:
            x = layer(x.contiguous(memory_format=layout))
        return x.contiguous()


def fastest_layout(
    shape: torch.Size, device: torch.device, *, tensor_cores: bool
) -> torch.memory_format:
    """Return how a frozen layer reads its input fastest.

    On a CPU channels that lie side by side save time but where many meet a small map, as measured
    with ResNet-18. NVIDIA's tensor cores, which compute tf32 and bf16, read channels side by side;
    without them the usual order is kept, which no measurement has yet compared.
    """
    _, channels, side, _ = shape
    if device.type == "cuda" and not tensor_cores:
        return torch.contiguous_format
    if device.type == "cpu" and channels >= 128 and side <= 16:
        return torch.contiguous_format
    return torch.channels_last


def normalised(pixels: Tensor, size: int) -> Tensor:
    """Return uint8 pixels as float32, resized to a square and normalised as ImageNet's."""
    x = pixels.to(torch.float32)
    if x.shape[-2:] != (size, size):
        shrinks = size < min(x.shape[-2:])  # only then does antialiasing change anything
        x = functional.interpolate(x, (size, size), mode="bilinear", antialias=shrinks)
    mean, std = _imagenet(x.device)
    return (x / 255 - mean) / std


@lru_cache(maxsize=8)
def _imagenet(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and deviation on a device, copied there once."""
    each = (torch.tensor(values, device=device) for values in (IMAGENET_MEAN, IMAGENET_STD))
    mean, std = (values[:, None, None] for values in each)
    return mean, std


_kept: OrderedDict[tuple[Any, ...], Tensor] = OrderedDict()


class Features:
    """The trunk's features of fixed images.

    Test features depend on neither seed nor arm, validation features not on the arm: they are kept
    for later epochs and trials of this process where they fit in its budget, and computed again
    where not. Both give the same bits, because the batches have the same shapes.

    Parameters
    ----------
    content : names the images: equal only where they are
    """

    def __init__(self, trunk: Trunk, pixels: Tensor, content: str) -> None:
        self.trunk, self.pixels = trunk, pixels
        # The number of threads changes the last bits, and so does the precision.
        threads = torch.get_num_threads()
        precision = trunk.dtype, torch.backends.fp32_precision
        self.key = (trunk.digest, content, trunk.size, str(trunk.device), threads, *precision)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the features in batches for a head, in the order of the images."""
        each = self.trunk.example.numel() * self.trunk.dtype.itemsize
        budget = feature_budget(self.trunk.device)
        if self.key not in _kept and each * len(self.pixels) <= budget:
            _keep(self.key, torch.cat(list(self._computed(IMAGES_AT_ONCE))), budget)
        at_once = max(IMAGES_AT_ONCE, BYTES_AT_ONCE // each // IMAGES_AT_ONCE * IMAGES_AT_ONCE)
        if self.key in _kept:
            _kept.move_to_end(self.key)
            yield from _kept[self.key].split(at_once)
        else:
            yield from self._computed(at_once)

    def _computed(self, at_once: int) -> Iterator[Tensor]:
        for pixels in self.pixels.split(at_once):
            parts = pixels.split(IMAGES_AT_ONCE)
            yield torch.cat([self.trunk(part.to(self.trunk.device)) for part in parts])


def _keep(key: tuple[Any, ...], features: Tensor, budget: int) -> None:
    """Remember features; the ones unused for longest go first."""
    _kept[key] = features
    while sum(f.nbytes for f in _kept.values()) > budget and len(_kept) > 1:
        _kept.popitem(last=False)


def feature_budget(device: torch.device) -> int:
    """Return how many bytes of features one process keeps on a device."""
    if device.type != "cuda":
        return CPU_BUDGET
    return max(CPU_BUDGET, torch.cuda.get_device_properties(device).total_memory // 8)
