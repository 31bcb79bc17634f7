"""Devices: which CPUs and accelerators there are, and the slots that trainings get."""

import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.analysis.errors import Refusal

NODES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")  # what GPU drivers make on Linux
GIB = 2**30


class BadDevices(Refusal):
    """Devices that are not there, or cannot be used as asked."""

    code = "devices"
    exit_status = 2


@dataclass(frozen=True)
class User:
    """A process that uses a device."""

    pid: int
    name: str  # login name of its owner, "" where unknown
    memory: int  # bytes, 0 where unknown

    def __str__(self) -> str:
        who = f"{self.name} (pid {self.pid})" if self.name else f"pid {self.pid}"
        amount = f"{self.memory / GIB:.1f} GiB" if self.memory else "an unknown amount"
        return f"{who} uses {amount}"


@dataclass(frozen=True)
class Device:
    """An accelerator: a GPU or a MIG instance of one."""

    kind: str  # "cuda", "rocm", "mps"
    index: int  # among the devices this process may see
    uuid: str  # names its lease and stands in the record
    name: str  # the model
    memory: int = 0  # bytes, 0 where unknown
    free: int = 0
    users: tuple[User, ...] = ()
    compute_mode: str = "default"  # or "prohibited", "exclusive"
    driver: str = ""
    visible: str = ""  # its name in CUDA_VISIBLE_DEVICES or HIP_VISIBLE_DEVICES, if not the UUID

    @property
    def label(self) -> str:
        """What people read and type: "cuda:1" (ROCm too, as in torch) or "mps"."""
        return "mps" if self.kind == "mps" else f"cuda:{self.index}"


@dataclass(frozen=True)
class Slot:
    """A place for one training at a time."""

    device: str  # "cpu", "cuda:1", "cuda:0+1" for two devices
    lane: int
    threads: int
    devices: tuple[Device, ...] = ()

    @property
    def trial_device(self) -> str:
        """The device that the training is told: of those it sees, the first."""
        return self.device if self.device in ("cpu", "mps") else "cuda:0"

    def environment(self) -> dict[str, str]:
        """Return the variables that leave the training its own devices to see.

        A training on the CPU sees no GPU, so that a `.cuda()` in it fails and says so. That takes
        "-1": HIP reads an empty value as unset.
        """
        if not self.devices:
            names = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES") if _has_driver() else ()
            return dict.fromkeys(names, "-1")
        if self.device == "mps":
            return {}
        name = "HIP" if self.devices[0].kind == "rocm" else "CUDA"
        entries = [device.visible or device.uuid for device in self.devices]
        return {f"{name}_VISIBLE_DEVICES": ",".join(entries)}


class Source(Protocol):
    """Where devices are looked up; tests and simulations bring their own."""

    def devices(self) -> list[Device]:
        """Return the devices as they are now."""


@dataclass(frozen=True)
class Machine:
    """The real source: a child process asks, so that this one never holds a CUDA context."""

    script: Path = Path(__file__).with_name("nvml.py")
    limit_s: float = 60.0

    def devices(self) -> list[Device]:
        """Return the devices this process may see; starts nothing where no driver is loaded.

        Raises
        ------
        BadDevices : the child failed, or torch cannot use a device that is there
        """
        mac = sys.platform == "darwin" and platform.machine() == "arm64"
        return _parsed(self._ask()) if mac or _has_driver() else []

    def _ask(self) -> str:
        try:
            done = subprocess.run(
                [sys.executable, "-P", str(self.script)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=self.limit_s,
            )
        except subprocess.TimeoutExpired:
            raise _unknown(f"No answer within {self.limit_s:g} s.") from None
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"Exit status {done.returncode}."]
            raise _unknown(said[-1])
        return done.stdout


def _has_driver() -> bool:
    """Tell whether a driver of GPUs is loaded; on Windows only asking would tell."""
    return sys.platform == "win32" or any(Path(node).exists() for node in NODES)


def _parsed(output: str) -> list[Device]:
    last = (output.strip().splitlines() or [""])[-1]
    try:
        rows: list[dict[str, Any]] = json.loads(last)
        if not isinstance(rows, list):
            raise TypeError
        users = [tuple(User(**user) for user in row.pop("users", ())) for row in rows]
        return [Device(**row, users=who) for row, who in zip(rows, users, strict=True)]
    except (ValueError, TypeError, AttributeError):
        raise _unknown(f"The answer was {last[:200]!r}.") from None


def _unknown(fact: str) -> BadDevices:
    what = "this machine has a GPU driver, and its devices cannot be listed."
    return BadDevices(what, facts=[fact], options=[("devices", "cpu")])


source: Source = Machine()


def accelerators() -> list[Device]:
    """Return the accelerators this process may see, as they are now."""
    return source.devices()


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


def cpu_slots(workers: int | None = None) -> list[Slot]:
    """One thread a slot: the weights' last bits depend on the number of threads."""
    return [Slot("cpu", lane, 1) for lane in range(workers or cores())]


def slots(
    wanted: str = "auto",
    *,
    per_device: int = 1,
    workers: int | None = None,
    device: str = "any",
    devices: int = 1,
) -> list[Slot]:
    """Return the places for trainings.

    Parameters
    ----------
    wanted : "auto", "cpu", or a list of indices, "cuda:1", UUIDs, unique beginnings of UUIDs
    per_device : trainings at once on each accelerator
    workers : trainings at once on the CPU, one thread each; None is one a core
    device : what the experiment asks for: "cpu", "gpu" or "any"
    devices : how many accelerators one training gets; more than one have no lanes

    Raises
    ------
    BadDevices : a device that is not there or cannot be used so, or a count below 1
    """
    for option, count in (("per_device", per_device), ("workers", workers)):
        if count is not None and count < 1:
            spoken = option.replace("_", "-")
            what = f"--{spoken} {count} leaves nobody to train; it must be 1 or more."
            raise BadDevices(what, options=[(option, 1)])
    if device == "cpu" and wanted not in ("auto", "cpu"):
        what = f'the experiment trains on the CPU, and --devices "{wanted}" names something else.'
        raise BadDevices(what, options=[("devices", "cpu")])
    needed = devices if device == "gpu" or (device == "any" and devices > 1) else 0
    there = [] if device == "cpu" or (wanted == "cpu" and not needed) else accelerators()
    if not needed and not there and wanted in ("auto", "cpu"):
        return cpu_slots(workers)
    named = [] if wanted == "cpu" else _usable(there)
    chosen = named if wanted in ("auto", "cpu") else _typed(wanted, there, needed)
    if len(chosen) < max(1, needed):
        raise _too_few(len(chosen), there, needed)
    _check_sharing(chosen, per_device, devices)
    return _accelerator_slots(chosen, per_device, devices)


def _usable(there: Sequence[Device]) -> list[Device]:
    return [device for device in there if device.compute_mode != "prohibited"]


def _typed(wanted: str, there: Sequence[Device], needed: int) -> list[Device]:
    """Return the devices that were named, in that order."""
    parts = [part.strip() for part in wanted.split(",")]
    found: list[Device] = []
    for place, part in enumerate(parts):
        match, fix = _matches(part, there), _fix(there, needed)
        if not match:
            trouble = f"no device {_full_name(part)}"
        elif len(match) > 1:
            trouble = f"{part} is the beginning of {len(match)} UUIDs"
        elif not _usable(match):
            trouble = f"no process may use {match[0].label}"
        elif match[0] in found:
            trouble = f"{match[0].label} is named twice"
            fix = [("devices", ",".join(parts[:place] + parts[place + 1 :]))]
        else:
            found += match
            continue
        raise BadDevices(f'--devices "{wanted}": {trouble}.', facts=_facts(there), options=fix)
    return found


def _matches(part: str, there: Sequence[Device]) -> list[Device]:
    exact = [device for device in there if _full_name(part) in (device.uuid, device.label)]
    if exact or part[:4] not in ("GPU-", "MIG-"):
        return exact
    return [device for device in there if device.uuid.startswith(part)]


def _full_name(part: str) -> str:
    return f"cuda:{part}" if part.isdigit() else part


def _facts(there: Sequence[Device]) -> list[str]:
    labels = ["cpu", *(device.label for device in there)]
    closed = [device.label for device in there if device.compute_mode == "prohibited"]
    are = f"There {'are' if there else 'is'}: {', '.join(labels)}."
    return [are, *([f"Compute mode prohibited: {', '.join(closed)}."] if closed else [])]


def _fix(there: Sequence[Device], needed: int) -> list[tuple[str, str]]:
    """Return the option that works here, if any does."""
    if len(_usable(there)) >= max(1, needed):
        return [("devices", "auto")]
    return [] if needed else [("devices", "cpu")]


def _too_few(found: int, there: Sequence[Device], needed: int) -> BadDevices:
    what = "no process may use the devices that are here."
    if needed:
        count = "a GPU" if needed == 1 else f"{needed} GPUs"
        what = f"each training of this experiment needs {count} and is given {found or 'none'}."
    return BadDevices(what, facts=_facts(there), options=_fix(there, needed))


def _check_sharing(chosen: Sequence[Device], per_device: int, devices: int) -> None:
    alone = next((device for device in chosen if device.compute_mode == "exclusive"), None)
    if per_device > 1 and (alone or devices > 1):
        why = f"{alone.label} admits one process" if alone else f"a training has {devices} devices"
        what = f"--per-device {per_device}: {why}, so they carry one training at a time."
        raise BadDevices(what, options=[("per_device", 1)])
    if devices > 1 and any(device.uuid.startswith("MIG-") for device in chosen):
        what = f"a training on {devices} devices needs whole GPUs: CUDA uses one MIG instance only."
        raise BadDevices(what, facts=_facts(chosen))


def _accelerator_slots(chosen: Sequence[Device], per_device: int, devices: int) -> list[Slot]:
    starts = range(0, len(chosen) - devices + 1, devices)
    groups = [tuple(chosen[start : start + devices]) for start in starts]
    lanes = 1 if chosen[0].kind == "mps" else per_device
    threads = max(1, cores() // (len(groups) * lanes))
    names = ["+".join([g[0].label, *(str(device.index) for device in g[1:])]) for g in groups]
    named = list(zip(names, groups, strict=True))
    return [Slot(name, lane, threads, group) for lane in range(lanes) for name, group in named]


def shortage(device: Device, needed: int) -> str | None:
    """Return a sentence where fewer than `needed` bytes are free, None where they are or may be."""
    if not device.memory or device.free >= needed:
        return None
    free, lack = math.floor(device.free / GIB * 10) / 10, math.ceil(needed / GIB * 10) / 10
    users = sorted(device.users, key=lambda user: -user.memory)
    return (
        f"{device.label} ({device.name}) has {free:.1f} of {device.memory / GIB:.1f} GiB free and "
        f"{lack:.1f} GiB are needed: {', '.join(map(str, users)) or 'who uses it is not known'}"
    )
