"""Precision: in which arithmetic does a network compute, and can this device do it?

fp32   IEEE single precision everywhere, also where a GPU would round on its own
tf32   the inputs of products rounded to 10 bits after the point: NVIDIA, from Ampere on
bf16   products in bfloat16, 7 bits; weights, their updates and the loss stay in fp32
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from bench.experiments.training.setting_rules import BadSetting, one_of

PRECISIONS = ("fp32", "tf32", "bf16")
RULE = one_of(PRECISIONS)


def require(precision: str, device: torch.device) -> None:
    """Refuse arithmetic that a device does not have.

    Raises
    ------
    BadSetting : tf32 or bf16 where there is no such thing
    """
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)
    has = {
        "fp32": True,
        "tf32": capability >= (8, 0) and torch.version.hip is None,
        "bf16": device.type == "cpu" or capability >= (8, 0),
    }
    if not has[precision]:
        there = [name for name, able in has.items() if able]
        raise BadSetting(
            f"setting precision is {precision!r}, which {device} cannot compute in.",
            facts=[f"It can: {', '.join(there)}."],
            settings={"precision": there[-1]},
        )


def _flags() -> list[tuple[str, Any]]:
    """Return everything that decides how products of float32 are rounded, by name.

    torch.backends.fp32_precision alone does not reach all of them: on torch 2.9 to 2.11
    convolutions of CUDA stay in tf32 (pytorch issue 179445).
    """
    b = torch.backends
    return [
        ("cuda.matmul", b.cuda.matmul),
        ("cudnn.conv", b.cudnn.conv),
        ("cudnn.rnn", b.cudnn.rnn),
        ("mkldnn.matmul", b.mkldnn.matmul),
        ("mkldnn.conv", b.mkldnn.conv),
        ("mkldnn.rnn", b.mkldnn.rnn),
    ]


@contextmanager
def computing_in(precision: str, device: torch.device) -> Iterator[None]:
    """Compute what is float32 as `precision` says; what was set before comes back.

    Raises
    ------
    BadSetting : the device cannot
    RuntimeError : torch does not do as it was told
    """
    require(precision, device)
    general = torch.backends.fp32_precision
    before = [(name, flag, flag.fp32_precision) for name, flag in _flags()]
    try:
        torch.backends.fp32_precision = "ieee"
        for name, flag in _flags():  # the CPU's own tf32 is never meant
            tf32 = precision == "tf32" and name.startswith("cu")
            flag.fp32_precision = "tf32" if tf32 else "ieee"
            if flag.fp32_precision != ("tf32" if tf32 else "ieee"):
                raise RuntimeError(f"torch.backends.{name}.fp32_precision cannot be set")
        yield
    finally:
        torch.backends.fp32_precision = general
        for _, flag, was in before:
            flag.fp32_precision = was


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the context in which a network with float32 weights runs forward."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
