"""Download cache: files fetched or decoded once, atomically, for all processes."""

import hashlib
import json
import os
import shutil
import socket
import threading
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import wrap_file

from bench.cache import cache_dir

TIMEOUT_S = 20.0
PROBE_S = 3.0


class DownloadFailed(Exception):
    """A file that did not arrive whole; the text says why."""


class NotKept(Exception):
    """A cache folder that does not take what is written to it; the text says why."""


def offline() -> bool:
    """Say whether `--offline` forbids downloads."""
    return os.environ.get("BENCH_OFFLINE", "0") not in ("", "0")


def shown(path: Path) -> str:
    """Return a path as a person would write it, with ~ for the home folder."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def download(url: str, to: Path, *, sha256: str) -> None:
    """Fetch a file, with progress on stderr; it appears under its name only when it is right.

    Parameters
    ----------
    sha256 : the digest, or its beginning, that the bytes must have

    Raises
    ------
    DownloadFailed : no network, no space, or bytes with another digest
    """
    if offline():
        raise DownloadFailed("downloads are switched off (--offline)")
    part = to.with_name(f"{to.name}.{os.getpid()}.part")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        _receive(url, part)
        if not (found := sha256_of(part)).startswith(sha256):
            raise DownloadFailed(f"the file has sha256 {found}, not {sha256}")
        os.replace(part, to)
    except (OSError, HTTPException) as error:
        raise DownloadFailed(_reason(error)) from error
    finally:
        part.unlink(missing_ok=True)


def _receive(url: str, to: Path) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, to.open("wb") as out:
        size = int(response.headers.get("Content-Length") or 0)
        label = f"download {url.rsplit('/', 1)[-1]}"
        with wrap_file(response, size, description=label, console=Console(stderr=True)) as stream:
            shutil.copyfileobj(stream, out, 1 << 20)


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", error)
    if isinstance(cause, socket.gaierror | ConnectionError | TimeoutError):
        return f"no network ({cause})"
    return str(cause)


def reachable(url: str) -> bool:
    """Say within a few seconds whether a file could be downloaded; False when offline."""
    if offline():
        return False
    answers: list[bool] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=PROBE_S) as response:
                answers.append(response.status == 200)
        except (OSError, HTTPException):
            answers.append(False)

    # A name server that does not answer ignores urlopen's timeout, so a thread is left behind.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_S)
    return answers == [True]


@dataclass(frozen=True, eq=False)
class Decoded:
    """Images as arrays, with what they are called and the digest of their content."""

    arrays: Mapping[str, NDArray[np.generic]]
    classes: tuple[str, ...]
    digest: str


def content_digest(arrays: Mapping[str, NDArray[np.generic]], classes: tuple[str, ...]) -> str:
    """Return the sha256 over names, shapes and bytes, in the order of the names."""
    sha = hashlib.sha256(json.dumps(classes).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        sha.update(f"{name} {array.dtype.str} {array.shape}".encode())
        sha.update(array.data)
    return sha.hexdigest()


def decoded(
    key: str, decode: Callable[[], tuple[dict[str, NDArray[np.generic]], tuple[str, ...]]]
) -> Decoded:
    """Return what `decode` gives, from the cache where it is there, else decoded and stored.

    The arrays are mapped from their files, so workers share one copy in memory. A damaged copy
    is noticed by its digest and made again. Only one process decodes; the others wait for it.

    Parameters
    ----------
    key : names the source; another key for every change of it
    decode : gives arrays by name, and the class names

    Raises
    ------
    NotKept : the cache folder cannot be written
    """
    folder = cache_dir() / "decoded" / key
    if found := _read(folder):
        return found
    with _locked(folder):
        if found := _read(folder):  # by another process, while this one waited
            return found
        arrays, classes = decode()
        return _kept(folder, arrays, classes)


def _locked(folder: Path) -> AbstractContextManager[object]:
    """Return the lock of one key, held until the end of the `with` block."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(f"{folder}.lock").acquire()
    except OSError as error:
        raise NotKept(str(error)) from error


def _kept(
    folder: Path, arrays: Mapping[str, NDArray[np.generic]], classes: tuple[str, ...]
) -> Decoded:
    try:
        _write(folder, arrays, classes)
    except OSError as error:
        raise NotKept(str(error)) from error
    if not (found := _read(folder)):
        raise NotKept(f"{folder} does not give back what was written to it")
    return found


def _read(folder: Path) -> Decoded | None:
    try:
        facts = json.loads((folder / "facts.json").read_text())
        # "c": pages are shared until written, and torch warns about arrays it may not write
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False)
            for name in facts["arrays"]
        }
        classes = tuple(facts["classes"])
        whole = content_digest(arrays, classes) == facts["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Decoded(arrays, classes, facts["digest"]) if whole else None


def _write(
    folder: Path, arrays: Mapping[str, NDArray[np.generic]], classes: tuple[str, ...]
) -> None:
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)  # left by a process that was killed
    part.mkdir()
    for name, array in arrays.items():
        np.save(part / f"{name}.npy", array, allow_pickle=False)
    facts = {
        "arrays": sorted(arrays),
        "classes": classes,
        "digest": content_digest(arrays, classes),
    }
    (part / "facts.json").write_text(json.dumps(facts))
    if folder.exists():  # damaged
        shutil.rmtree(folder)
    os.replace(part, folder)
