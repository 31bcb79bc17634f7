"""Which kind of failure is an exception: a lack of memory, a sick device, or the training's own?"""

import errno
import re
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

import bench
from analysis.errors import Refusal
from bench.contract import Diverged

GPU_MEMORY = re.compile(
    r"""CUDA\ error:\ out\ of\ memory | CUDA\ out\ of\ memory | HIP\ out\ of\ memory
    | HIP\ error:\ out\ of\ memory | MPS\ backend\ out\ of\ memory
    | CUDA_ERROR_OUT_OF_MEMORY | cudaErrorMemoryAllocation | hipErrorOutOfMemory
    | (CUBLAS|CUDNN|CUSOLVER|CUSPARSE|HIPBLAS|HIPSOLVER|MIOPEN|HIPFFT)_STATUS_ALLOC_FAILED
    | CUFFT_ALLOC_FAILED | rocblas_status_memory_error | miopenStatusAllocFailed
    | CUSPARSE_STATUS_INSUFFICIENT_RESOURCES
    | RESOURCE_EXHAUSTED.*(memory|allocat)""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
MEMORY = re.compile(r"can't allocate memory|Cannot allocate memory|std::bad_alloc", re.IGNORECASE)
DEVICE = re.compile(
    r"""(CUDA|HIP|cuDNN|MIOpen)\ (driver\ )?error | CUDA_ERROR_\w+ | hipError\w+
    | (CUBLAS|CUDNN|CUSOLVER|CUSPARSE|HIPBLAS)_STATUS_\w+ | device-side\ assert
    | No\ (CUDA|HIP)\ GPUs\ are\ available | uncorrectable\ ECC | illegal\ memory\ access""",
    re.VERBOSE | re.IGNORECASE,
)


def kind(error: BaseException, *, on_gpu: bool) -> tuple[str, bool]:
    """Return the failure's code and whether trying again can help.

    A lack of memory is known by the text of every library there is, for most raise a RuntimeError.
    """
    if isinstance(error, Diverged):
        return "nan", False
    for each in _chain(error):
        text = f"{type(each).__name__}: {each}"
        if type(each).__name__ == "OutOfMemoryError" or GPU_MEMORY.search(text):
            return "gpu-memory", True
        no_memory = isinstance(each, OSError) and each.errno == errno.ENOMEM
        if isinstance(each, MemoryError) or no_memory or MEMORY.search(text):
            return "memory", True
    if on_gpu and any(DEVICE.search(str(each)) for each in _chain(error)):
        return "device", True
    return (error.code if isinstance(error, Refusal) else "training"), False


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and those that it was raised from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        hidden = error.__suppress_context__
        error = error.__cause__ or (None if hidden else error.__context__)


def own_line(error: BaseException) -> tuple[str, str] | None:
    """Return the last line of a user's own code in a traceback: its file and number, its text."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_absolute() and not any(path.is_relative_to(folder) for folder in _FOREIGN):
            if not {"site-packages", "dist-packages"} & set(path.parts):
                return f"{path.name}, line {frame.lineno}", frame.line or ""
    return None


_FOREIGN = (Path(sysconfig.get_path("stdlib")), Path(bench.__file__).parent)
