"""Reproducible: how a training repeats bit for bit, whatever ran before it in the process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def deterministic() -> Iterator[None]:
    """Allow only operations that repeat bit for bit; also works as a decorator, `@deterministic()`.

    What torch was set to before is restored. Precision is left as torch has it: float32, though
    on CUDA cuDNN may round the inputs of convolutions to TF32, the same way every time.
    """
    # cuBLAS reads this when its first handle is made, so it stays set for the whole process.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cudnn = torch.backends.cudnn
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        cudnn.benchmark,
    )
    torch.use_deterministic_algorithms(True, warn_only=False)
    cudnn.benchmark = False  # timing would choose the algorithm, and timings differ between runs
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.benchmark = before[2]


@contextmanager
def initialised_by(generator: torch.Generator) -> Iterator[None]:
    """Let the modules built inside draw their first weights from `generator`.

    torch's layers draw from the global generator. Here it is seeded by one number of `generator`
    and put back as it was afterwards, so every layer keeps its own usual initialisation while the
    seed's "init" stream alone decides the values.
    """
    with torch.random.fork_rng(devices=[]):
        word = torch.randint(2**63 - 1, (), generator=generator)
        torch.default_generator.manual_seed(int(word))  # not torch.manual_seed: GPUs keep theirs
        yield
