"""Devices: what hardware there is, and which worker trains where with how many threads."""

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from analysis.errors import Refusal


class BadDevices(Refusal):
    """Devices that were named but are not there."""

    code = "devices"
    exit_status = 2


@dataclass(frozen=True)
class Slot:
    """One worker's place: a device, its lane on that device, its CPU threads."""

    device: str  # "cpu", "cuda:0", "mps"
    lane: int
    threads: int


def cores() -> int:
    """Return the CPU cores this process may use: affinity (Slurm) and cgroup quota (Kubernetes)."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    return max(1, min(allowed, _cgroup_cores() or allowed))


def _cgroup_cores() -> int | None:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if quota == "max" else max(1, int(quota) // int(period))
    except (OSError, ValueError):
        return None


def accelerators() -> list[str]:
    """Return the accelerators torch can use; torch is imported only where there may be one."""
    linux_without = sys.platform == "linux" and not any(
        Path(node).exists() for node in ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")
    )
    mac_without = sys.platform == "darwin" and platform.machine() != "arm64"
    if linux_without or mac_without:
        return []
    import torch

    if torch.cuda.is_available():
        return [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return ["mps"] if torch.backends.mps.is_available() else []


def slots(wanted: str = "auto", *, per_device: int = 1, workers: int | None = None) -> list[Slot]:
    """Return one slot a worker.

    Parameters
    ----------
    wanted : "auto", "cpu", or a list such as "0,1" or "cuda:0,cuda:1"
    per_device : runs at once on each accelerator
    workers : CPU workers, one thread each; None is one a core

    Raises
    ------
    BadDevices : a device that is not there, or a count below 1
    """
    for option, count in (("--per-device", per_device), ("--workers", workers)):
        if count is not None and count < 1:
            raise BadDevices(
                f"{option} {count} leaves nobody to train; it must be 1 or more.",
                fix=f"{option} 1",
            )
    if wanted == "cpu":
        return cpu_slots(workers)
    there = accelerators()
    if wanted == "auto":
        return _accelerator_slots(there, per_device) if there else cpu_slots(workers)
    names = [_full_name(part.strip()) for part in wanted.split(",")]
    missing = [name for name in names if name not in there]
    if missing or len(set(names)) < len(names):
        trouble = f"no device {missing[0]}" if missing else "a device named twice"
        raise BadDevices(
            f'--devices "{wanted}": {trouble}.',
            facts=[f"There {'are' if there else 'is'}: {', '.join(['cpu', *there])}."],
            fix="--devices cpu",
        )
    return _accelerator_slots(names, per_device)


def cpu_slots(workers: int | None = None) -> list[Slot]:
    """One thread a worker: the weights' last bits depend on the number of threads."""
    return [Slot("cpu", lane, 1) for lane in range(workers or cores())]


def _accelerator_slots(names: list[str], per_device: int) -> list[Slot]:
    lanes = 1 if names == ["mps"] else per_device
    threads = max(1, cores() // (len(names) * lanes))
    return [Slot(name, lane, threads) for lane in range(lanes) for name in names]


def _full_name(part: str) -> str:
    return f"cuda:{part}" if part.isdigit() else part
