"""Reads CIFAR-10's own files: pickles, of which nothing is executed."""

import pickle
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray


class NotABatch(Exception):
    """Something that is not in CIFAR-10's files; the text says what."""


class _Pixels:
    """Stands in for numpy's array: bytes in a shape."""

    array: NDArray[np.uint8]

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, by_column, content = state
        if not isinstance(kind, _Byte):
            raise pickle.UnpicklingError("an array of something else than bytes")
        data = content.encode("latin1") if isinstance(content, str) else content  # Python 2's
        self.array = np.frombuffer(data, np.uint8).reshape(shape, order="F" if by_column else "C")


class _Byte:
    """Stands in for numpy's dtype, which is uint8 in all of CIFAR-10's files."""

    def __init__(self, kind: str, *_: object) -> None:
        if kind != "u1":
            raise pickle.UnpicklingError(f"an array of {kind}")

    def __setstate__(self, _: object) -> None:
        pass  # the order of the bytes in one byte


ALLOWED = {
    "numpy.ndarray": _Pixels,
    "numpy.core.multiarray._reconstruct": _Pixels,
    "numpy._core.multiarray._reconstruct": _Pixels,  # since numpy 2
    "numpy.dtype": _Byte,
}


class _Batch(pickle.Unpickler):
    """Knows dictionaries, lists, texts, numbers and arrays of bytes; imports nothing."""

    def find_class(self, module: str, name: str) -> type:
        found = ALLOWED.get(f"{module}.{name}")
        if found is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return found


def read(content: bytes) -> dict[str, Any]:
    """Return the dictionary in one of CIFAR-10's files: texts, lists, and arrays of uint8.

    Raises
    ------
    NotABatch : anything else is in it
    """
    try:
        found = _Batch(BytesIO(content), encoding="latin1").load()
        return {k: v.array if isinstance(v, _Pixels) else v for k, v in found.items()}
    except Exception as error:  # what is no batch can be wrong in any way
        raise NotABatch(str(error) or type(error).__name__) from error
