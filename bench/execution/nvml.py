"""Print this machine's accelerators as a JSON list, the last line on stdout: NVML's, else torch's.

A script that runs in a process of its own: its CUDA context ends with it. It imports nothing of
bench.
"""

import importlib
import json
import os
import platform
import socket
import sys
from pathlib import Path
from typing import Any

Row = dict[str, Any]  # the fields of devices.Device
COMPUTE_MODES = {1: "exclusive", 2: "prohibited", 3: "exclusive"}
VISIBILITY = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


def main() -> None:
    """Ask and print."""
    nvml = loaded_nvml()
    print(json.dumps(torch_rows() if nvml is None else nvml_rows(nvml)))


def loaded_nvml() -> Any | None:
    """Return NVML, or None where the module, the library or the driver is missing."""
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    return nvml


def nvml_rows(nvml: Any) -> list[Row]:
    """Return the devices that CUDA_VISIBLE_DEVICES of this process leaves visible."""
    cards: list[list[Row]] = []  # in nvidia-smi's order; one row, or one a MIG instance
    names: dict[str, list[Row]] = {}  # UUID to what it stands for
    lost: list[str] = []
    for number in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(number)
            cards.append(card(nvml, handle, names))
            if not cards[-1]:
                lost.append(f"GPU {number} has MIG enabled and no MIG instance")
        except nvml.NVMLError as error:
            if type(error).__name__ != "NVMLError_NoPermission":  # else a cgroup hides it from CUDA
                cards.append([])  # a broken card keeps its number
                lost.append(f"GPU {number}: {error}")
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    rows = numbered(cards) if value is None else visible(cards, names, value)
    if not rows and lost and not hidden():
        sys.exit("; ".join(lost))
    return rows


def card(nvml: Any, handle: Any, names: dict[str, list[Row]]) -> list[Row]:
    """Return a card's row, or those of its MIG instances; add their names to `names`."""
    mode = asked(nvml, "DeviceGetComputeMode", handle, default=0)
    driver = text(asked(nvml, "SystemGetDriverVersion", default=""))
    shared = {"compute_mode": COMPUTE_MODES.get(mode, "default"), "driver": driver}
    uuid = text(nvml.nvmlDeviceGetUUID(handle))
    if not asked(nvml, "DeviceGetMigMode", handle, default=[0, 0])[0]:
        names[uuid] = [{**row(nvml, handle), **shared}]
        return names[uuid]
    names[uuid] = []
    for number in range(asked(nvml, "DeviceGetMaxMigDeviceCount", handle, default=0)):
        instance = asked(nvml, "DeviceGetMigDeviceHandleByIndex", handle, number, default=None)
        if instance is None:
            continue  # the numbers have gaps
        found = {**row(nvml, instance), **shared}
        gpu = asked(nvml, "DeviceGetGpuInstanceId", instance, default="?")
        compute = asked(nvml, "DeviceGetComputeInstanceId", instance, default="?")
        names[found["uuid"]] = names[f"MIG-{uuid}/{gpu}/{compute}"] = [found]
        names[uuid].append(found)
    return names[uuid]


def row(nvml: Any, handle: Any) -> Row:
    """Return what NVML says of a card or a MIG instance."""
    memory = asked(nvml, "DeviceGetMemoryInfo", handle, default=None)
    processes = asked(nvml, "DeviceGetComputeRunningProcesses", handle, default=[])
    return {
        "kind": "cuda",
        "uuid": text(nvml.nvmlDeviceGetUUID(handle)),
        "name": text(asked(nvml, "DeviceGetName", handle, default="NVIDIA GPU")),
        "memory": memory.total if memory else 0,
        "free": memory.free if memory else 0,
        "users": [
            {"pid": one.pid, "name": login_name(one.pid), "memory": one.usedGpuMemory or 0}
            for one in processes
        ],
    }


def asked(nvml: Any, what: str, *arguments: Any, default: Any) -> Any:
    """Return NVML's answer, or `default`: not supported, no permission, a driver that is older."""
    try:
        return getattr(nvml, f"nvml{what}")(*arguments)
    except Exception:  # NVMLError, and NVMLLibraryMismatchError, which is none
        return default


def text(value: str | bytes) -> str:
    """Return a text that old versions of the module give as bytes."""
    return value.decode() if isinstance(value, bytes) else value


def login_name(pid: int) -> str:
    """Return the login name of a process's owner, or ""."""
    try:
        return str(importlib.import_module("pwd").getpwuid(os.stat(f"/proc/{pid}").st_uid).pw_name)
    except (ImportError, OSError, KeyError):
        return ""


def numbered(cards: list[list[Row]]) -> list[Row]:
    """Return all rows with their index; a card that has no row keeps its number."""
    rows: list[Row] = []
    index = 0
    for found in cards:
        rows += [{**one, "index": index + place} for place, one in enumerate(found)]
        index += max(1, len(found))
    return rows


def visible(cards: list[list[Row]], names: dict[str, list[Row]], value: str) -> list[Row]:
    """Apply CUDA's rule: an unknown entry hides itself and the rest, a repeated one everything."""
    rows: list[Row] = []
    for entry in value.split(","):
        found = named(cards, names, entry.strip())
        if not found:
            break
        rows += found
    if len({one["uuid"] for one in rows}) < len(rows):
        return []
    return [{**one, "index": index} for index, one in enumerate(rows)]


def named(cards: list[list[Row]], names: dict[str, list[Row]], entry: str) -> list[Row]:
    """Return what an index, a UUID or the unique beginning of one stands for."""
    if entry.isascii() and entry.isdigit():
        return cards[int(entry)] if int(entry) < len(cards) else []
    matches = [name for name in names if name.startswith(entry)]
    return names[matches[0]] if len(matches) == 1 and entry[:4] in ("GPU-", "MIG-") else []


def hidden() -> bool:
    """Tell whether the user hides all devices on purpose."""
    return any(os.environ.get(name, "0").strip()[:1] in ("", "-") for name in VISIBILITY)


def torch_rows() -> list[Row]:
    """Return torch's devices; raise torch's own reason where it cannot use those that are there."""
    torch: Any = importlib.import_module("torch")
    if torch.cuda.is_available():
        return [torch_row(torch, index) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        uuid = f"mps-{socket.gethostname()}"
        return [{"kind": "mps", "index": 0, "uuid": uuid, "name": f"Apple {platform.machine()}"}]
    # An AMD node alone says little (integrated graphics), /dev/dxg nothing: all of WSL has it.
    nodes = ["/dev/nvidiactl", "/dev/nvidia0", *(["/dev/kfd"] if torch.version.hip else [])]
    if any(Path(node).exists() for node in nodes) and not hidden():
        torch.cuda.init()
    return []


def torch_row(torch: Any, index: int) -> Row:
    """Return what torch says of one device."""
    kind = "rocm" if torch.version.hip else "cuda"
    about = torch.cuda.get_device_properties(index)
    try:
        free, memory = torch.cuda.mem_get_info(index)
    except RuntimeError:  # in use by the one process that it lets in
        free, memory = 0, 0
    ordinal = entry_of(("CUDA_VISIBLE_DEVICES",), str(index))
    if kind == "rocm":  # HIP counts among what ROCR_VISIBLE_DEVICES leaves
        ordinal = entry_of(("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"), str(index))
    return {
        "kind": kind,
        "index": index,
        "uuid": torch_identity(about, kind, ordinal),
        "name": about.name,
        "memory": memory,
        "free": free,
        "visible": ordinal,
    }


def torch_identity(about: Any, kind: str, ordinal: str) -> str:
    """Return a name that no other device of this machine has, whatever is visible."""
    uuid = str(getattr(about, "uuid", ""))
    if kind == "cuda" and uuid:
        return f"GPU-{uuid}"  # as NVML has it
    # AMD cards without a serial number share one UUID, so the place on the bus is part of it.
    if hasattr(about, "pci_bus_id"):
        bus = (about.pci_domain_id, about.pci_bus_id, about.pci_device_id)
        place = "pci-{:04x}-{:02x}-{:02x}".format(*bus)
    else:
        place = f"index-{entry_of(('ROCR_VISIBLE_DEVICES',), ordinal)}"
    return f"GPU-{uuid or socket.gethostname()}-{place}"


def entry_of(variables: tuple[str, ...], index: str) -> str:
    """Return the entry at an index of the first variable that is set, else the index itself."""
    value = next((os.environ[name] for name in variables if os.environ.get(name)), "")
    entries = [entry.strip() for entry in value.split(",")]
    known = index.isdigit() and int(index) < len(entries)
    return entries[int(index)] or index if known else index


if __name__ == "__main__":
    main()
