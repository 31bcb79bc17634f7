"""Provenance: which code, versions and machine made the results, as plain values."""

import getpass
import hashlib
import platform
import shlex
import socket
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from bench import __version__
from bench.execution.devices import Slot, cores
from bench.programs import git
from bench.store.address import redacted

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pandas", "scikit-learn", "mlflow", "joblib")


def collect(command: Sequence[str], source: Path | None, slots: Sequence[Slot]) -> dict[str, Any]:
    """Return what a reader needs to repeat or to doubt a benchmark.

    Parameters
    ----------
    command : the command line as typed; passwords in it are not recorded
    source : the experiment's file; its repository's state is recorded
    slots : where the trials of this session train
    """
    return {
        "command": shlex.join(map(redacted, command)),
        "bench": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": cores(),
        "devices": device_names(slots),
        "threads": slots[0].threads if slots else 0,
        "packages": _versions(),
        "host": socket.gethostname(),
        "user": _user(),
        **git_state(source.parent if source else Path.cwd()),
    }


def git_state(folder: Path) -> dict[str, Any]:
    """Return the commit of a folder's repository, and whether it was changed since."""
    commit = git.ask(folder, "rev-parse", "HEAD")
    if commit is None:
        return {"commit": None, "dirty": None, "diff_sha256": None}
    changes = git.ask(folder, "status", "--porcelain", "--untracked-files=no") or ""
    diff = (
        git.ask(folder, "diff", "--no-ext-diff", "--no-textconv", "HEAD") or "" if changes else ""
    )
    return {
        "commit": commit,
        "dirty": bool(changes),
        "diff_sha256": hashlib.sha256(diff.encode(errors="surrogateescape")).hexdigest()
        if diff
        else None,
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def device_names(slots: Sequence[Slot]) -> list[str]:
    """Return the devices of slots, with their models."""
    names = [" ".join([slot.device, *(d.name for d in slot.devices)]) for slot in slots]
    return list(dict.fromkeys(names))


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _user() -> str:
    with suppress(OSError, KeyError):
        return getpass.getuser()
    return "unknown"
