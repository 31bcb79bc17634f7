"""Which kind of failure is an exception: a lack of memory, a sick device, or the training's own?"""

import errno
import re
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

import bench
import bench.experiments as experiments
from bench.analysis.errors import Refusal, text_of
from bench.experiment import Diverged

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
        text = text_of(each)
        if type(each).__name__ == "OutOfMemoryError" or GPU_MEMORY.search(text):
            return "gpu-memory", True
        no_memory = isinstance(each, OSError) and each.errno == errno.ENOMEM
        if isinstance(each, MemoryError) or no_memory or MEMORY.search(text):
            return "memory", True
    if on_gpu and any(DEVICE.search(text_of(each)) for each in _chain(error)):
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
        if _is_own(path):
            return f"{path.name}, line {frame.lineno}", frame.line or ""
    return None


def last_words(log: str) -> list[str]:
    """Return what a process that died says in its log: its last line, and where it stood.

    Parameters
    ----------
    log : what it printed; where it crashed or was ended, faulthandler's traceback comes last
    """
    lines, dump = [line for line in log.splitlines() if line.strip()], list[str]()
    while lines and _OF_FAULTHANDLER.match(lines[-1]):
        dump.insert(0, lines.pop())
    crash = [line for line in dump if line.startswith("Fatal Python error: ")]
    here = next((n for n, line in enumerate(dump) if line.startswith("Current thread")), 0)
    frames = (_FRAME.match(line) for line in dump[here:])
    own = next((frame for frame in frames if frame and _is_own(Path(frame[1]))), None)
    said = [f"It printed last: {line.strip()[:200]}" for line in (*lines, *crash)[-1:]]
    return said + ([f"It stood in {Path(own[1]).name}, {own[2]}."] if own else [])


_OF_FAULTHANDLER = re.compile(
    r"Fatal Python error: |(Current thread|Thread|Stack) .*\(most recent call first\):"
    r"|  (File \"[^\"]+\", line \d+ in |Garbage-collecting|<|\.\.\.)|Extension modules: "
)
_FRAME = re.compile(r'  File "([^"]+)", (line \d+ in \S+)')


def _is_own(path: Path) -> bool:
    """Tell whether a file is a user's own: not bench's, the standard library's or a package's."""
    built_in = any(path.is_relative_to(folder) for folder in experiments.__path__)
    foreign = any(path.is_relative_to(folder) for folder in _FOREIGN) and not built_in
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    return path.is_absolute() and not foreign and not installed


_FOREIGN = (Path(sysconfig.get_path("stdlib")), Path(bench.__file__).parent)
