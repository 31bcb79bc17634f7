"""Precision: in which arithmetic does a network compute, and can this device do it?

fp32   IEEE single precision everywhere, also where a GPU would round on its own
tf32   the inputs of products rounded to 10 bits after the point: NVIDIA, from Ampere on
bf16   products in bfloat16, 7 bits; weights, their updates and the loss stay in fp32
"""

from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def computing_in(precision: str, device: torch.device) -> Iterator[None]:
    """Compute what is float32 as `precision` says; what was set before comes back.

    Raises
    ------
    BadSetting : the device cannot
    """
    require(precision, device)
    before = torch.backends.fp32_precision
    torch.backends.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    try:
        yield
    finally:
        torch.backends.fp32_precision = before


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the context in which a network with float32 weights runs forward."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
