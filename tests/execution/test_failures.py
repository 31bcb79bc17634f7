"""Failures: the kind of an exception decides whether, and where, a training is tried again."""

import errno
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.analysis.errors import text_of
from bench.design.loading import load
from bench.execution.failures import kind, last_words, own_line
from bench.experiment import BadOutcome, Diverged


def raised(error: BaseException, *, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:
        return caught


class OutOfMemoryError(RuntimeError):
    """As torch.cuda's: known by its name."""


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be …"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.10 GiB"),
        OutOfMemoryError("whatever it says"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("HIP out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.0 GB)"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 123 bytes."),
        RuntimeError("RESOURCE_EXHAUSTED: Failed to\nallocate request for 2.0GiB"),
        RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
        RuntimeError("CUDA driver error: CUDA_ERROR_OUT_OF_MEMORY"),
    ],
    ids=lambda error: str(error)[:40],
)
def test_a_gpus_lack_of_memory_is_known_by_every_librarys_text(error: Exception):
    for on_gpu in (True, False):
        assert kind(error, on_gpu=on_gpu) == ("gpu-memory", True)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("std::bad_alloc"),
        np.exceptions.AxisError(1).with_traceback(None).__class__("std::bad_alloc"),
    ],
    ids=lambda error: f"{type(error).__name__} {error}"[:40],
)
def test_the_cpus_lack_of_memory_is_another_kind(error: Exception):
    assert kind(error, on_gpu=False) == ("memory", True)


def test_an_array_that_is_too_large_is_a_lack_of_memory():
    with pytest.raises(MemoryError) as caught:
        np.empty(2**55)
    assert kind(caught.value, on_gpu=True) == ("memory", True)


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: device-side assert triggered",
        "CUDA error: an illegal memory access was encountered",
        "CUDA driver error: unknown error",
        "HIP error: invalid device function",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "No CUDA GPUs are available",
        "uncorrectable ECC error encountered",
    ],
)
def test_a_devices_error_is_one_on_a_gpu_alone(text: str):
    assert kind(RuntimeError(text), on_gpu=True) == ("device", True)
    assert kind(RuntimeError(text), on_gpu=False) == ("training", False)


def test_what_hides_behind_another_exception_is_found():
    memory = RuntimeError("CUDA out of memory. Tried to allocate 2.10 GiB")
    wrapped = raised(ValueError("the trainer failed"), cause=memory)
    assert kind(wrapped, on_gpu=True) == ("gpu-memory", True)
    try:
        try:
            raise memory
        except RuntimeError:
            raise KeyError("while it was handled")  # noqa: B904
    except KeyError as error:
        assert kind(error, on_gpu=True) == ("gpu-memory", True)
    hidden = raised(ValueError("answered"), cause=None)
    hidden.__context__ = memory
    assert hidden.__suppress_context__ and kind(hidden, on_gpu=True) == ("training", False)


def test_a_chain_in_a_circle_is_followed_once():
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert kind(one, on_gpu=True) == ("training", False)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("memory of a goldfish"), "training"),
        (SystemExit(3), "training"),
        (KeyboardInterrupt(), "training"),
        (Diverged("train/loss became nan at epoch 1."), "nan"),
        (BadOutcome("neither predictions nor scores"), "outcome"),
        (RuntimeError("RESOURCE_EXHAUSTED: too many requests"), "training"),
    ],
)
def test_everything_else_is_the_trainings_own_and_not_tried_again(error: Any, code: str):
    assert kind(error, on_gpu=True) == (code, False)


def test_the_last_line_of_the_users_own_code_is_named(tmp_path: Path):
    path = tmp_path / "mine_failing.py"
    path.write_text(
        "import json\n"
        "from bench import Experiment\n"
        "def train(trial):\n"
        "    return helper()\n"
        "def helper():\n"
        "    return json.loads('{')\n"
        "EXPERIMENT = Experiment(name='m', question='?', arms={'a': {}, 'b': {'x': 1}},\n"
        "    train=train)\n"
    )
    experiment: Any = load(str(path))
    with pytest.raises(ValueError) as caught:
        experiment.train(None)
    assert own_line(caught.value) == ("mine_failing.py, line 6", "return json.loads('{')")


def test_an_exception_without_a_line_of_the_users_has_none():
    assert own_line(ValueError("never raised")) is None
    foreign: Any = compile("raise ValueError", "<string>", "exec")
    with pytest.raises(ValueError) as caught:
        exec(foreign)
    caught.value.__traceback__ = caught.value.__traceback__.tb_next  # type: ignore[union-attr]
    assert own_line(caught.value) is None


class Mute(Exception):
    """An exception that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no")


def test_an_exception_that_cannot_be_printed_is_named_by_its_type():
    assert text_of(Mute()).startswith("Mute, whose text cannot be shown")
    assert kind(raised(Mute()), on_gpu=True) == ("training", False)
    assert kind(raised(ValueError("x"), cause=Mute()), on_gpu=False) == ("training", False)


CRASH = """epoch 3
{fatal}Thread 0x00007f55cdbc06c0 (most recent call first):
  File "/home/me/loader.py", line 7 in feed
  File "{stdlib}/threading.py", line 982 in run

Current thread 0x00007f55cea32b80 (most recent call first):
  File "{stdlib}/ctypes/__init__.py", line 519 in string_at
  File "/home/me/.venv/lib/python3.12/site-packages/fast/ops.py", line 3 in op
  File "/home/me/mine.py", line 10 in train
  File "/home/me/mine.py", line 90 in main
  ...

Extension modules: numpy._core._multiarray_umath, numpy.linalg._umath_linalg (total: 2)
"""


@pytest.mark.parametrize(
    ("fatal", "last"),
    [
        ("Fatal Python error: Segmentation fault\n\n", "Fatal Python error: Segmentation fault"),
        ("", "epoch 3"),  # ended by SIGTERM
    ],
)
def test_a_crash_names_its_signal_and_the_users_line_not_faulthandlers_list(fatal: str, last: str):
    log = CRASH.format(fatal=fatal, stdlib=sysconfig.get_path("stdlib"))
    assert last_words(log) == [
        f"It printed last: {last}",
        "It stood in mine.py, line 10 in train.",
    ]


def test_the_last_line_of_a_training_that_was_killed_is_shown_as_it_is():
    assert last_words("one\n  two \n\n") == ["It printed last: two"]
    assert last_words("\n") == []
    error = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\nValueError: x\n'
    assert last_words(error) == ["It printed last: ValueError: x"]
