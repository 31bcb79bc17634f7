"""Determinism: a training repeats bit for bit, whatever ran before it in the process."""

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
    cudnn, guard = torch.backends.cudnn, torch.utils.deterministic
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        cudnn.benchmark,
        guard.fill_uninitialized_memory,
    )
    torch.use_deterministic_algorithms(True, warn_only=False)
    cudnn.benchmark = False  # timing would choose the algorithm, and timings differ between runs
    # Writing NaN into every new tensor takes a tenth of a training, and repeats no bit better: it
    # would show who reads memory that nobody wrote, and none of these operations does.
    guard.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.benchmark, guard.fill_uninitialized_memory = before[2:]


def word(generator: torch.Generator) -> int:
    """Draw the number that decides a network's first weights."""
    return int(torch.randint(2**63 - 1, (), generator=generator))


@contextmanager
def initialised_by(word: int) -> Iterator[None]:
    """Let the modules built inside draw their first weights as `word` decides.

    torch's layers draw from the global generator. Here it is seeded by `word` and put back as it
    was afterwards, so that every layer keeps its own usual initialisation while the seed's "init"
    stream alone decides the values.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(word)  # not torch.manual_seed: GPUs keep theirs
        yield
