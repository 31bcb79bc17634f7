"""Devices: one slot a worker, on what is there; what is not there is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import devices
from bench.devices import BadDevices, Slot, cores, slots

NO_GPU = not any(Path(p).exists() for p in ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd"))


def with_accelerators(monkeypatch: pytest.MonkeyPatch, *names: str, cpu: int = 8) -> None:
    monkeypatch.setattr(devices, "accelerators", lambda: list(names))
    monkeypatch.setattr(devices, "cores", lambda: cpu)


def test_cpu_workers_have_one_thread_each_because_last_bits_depend_on_it():
    assert slots("cpu", workers=3) == [Slot("cpu", lane, 1) for lane in range(3)]


def test_without_a_count_there_is_one_cpu_worker_a_core(monkeypatch: pytest.MonkeyPatch):
    with_accelerators(monkeypatch, cpu=5)
    assert slots("cpu") == slots("auto") == [Slot("cpu", lane, 1) for lane in range(5)]


def test_auto_takes_every_accelerator_and_shares_out_the_cores(monkeypatch: pytest.MonkeyPatch):
    with_accelerators(monkeypatch, "cuda:0", "cuda:1", cpu=8)
    assert slots() == [Slot("cuda:0", 0, 4), Slot("cuda:1", 0, 4)]


def test_lanes_fill_all_devices_before_any_gets_a_second(monkeypatch: pytest.MonkeyPatch):
    with_accelerators(monkeypatch, "cuda:0", "cuda:1", cpu=8)
    found = slots("0,cuda:1", per_device=2)
    assert [(s.device, s.lane) for s in found] == [
        ("cuda:0", 0),
        ("cuda:1", 0),
        ("cuda:0", 1),
        ("cuda:1", 1),
    ]
    assert {s.threads for s in found} == {2}


def test_more_lanes_than_cores_still_have_a_thread(monkeypatch: pytest.MonkeyPatch):
    with_accelerators(monkeypatch, "cuda:0", cpu=2)
    assert {s.threads for s in slots("0", per_device=8)} == {1}


def test_apples_accelerator_has_one_lane(monkeypatch: pytest.MonkeyPatch):
    with_accelerators(monkeypatch, "mps", cpu=8)
    assert slots("auto", per_device=4) == [Slot("mps", 0, 8)]


@pytest.mark.parametrize("wanted", ["7", "cuda:7", "0,7", "gpu", "", "0,", "cpu,0", "-1"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(
    wanted: str, monkeypatch: pytest.MonkeyPatch
):
    with_accelerators(monkeypatch, "cuda:0")
    with pytest.raises(BadDevices, match=f'--devices "{wanted}": no device') as caught:
        slots(wanted)
    assert caught.value.facts == ("There are: cpu, cuda:0.",)
    assert caught.value.fix == "--devices cpu"
    assert (caught.value.code, caught.value.exit_status) == ("devices", 2)


def test_a_device_named_twice_is_refused(monkeypatch: pytest.MonkeyPatch):
    with_accelerators(monkeypatch, "cuda:0", "cuda:1")
    with pytest.raises(BadDevices, match="a device named twice"):
        slots("0,cuda:0")


@pytest.mark.parametrize("count", [0, -1])
def test_a_count_that_leaves_nobody_to_train_is_refused(count: int):
    what = rf"--workers {count} leaves nobody to train; it must be 1 or more"
    with pytest.raises(BadDevices, match=what) as caught:
        slots("cpu", workers=count)
    assert caught.value.fix == "--workers 1"
    with pytest.raises(BadDevices, match=rf"--per-device {count} leaves nobody"):
        slots("cpu", per_device=count)


def test_cores_are_those_this_process_may_use(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(devices, "_cgroup_cores", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert cores() == 3
    monkeypatch.setattr(devices, "_cgroup_cores", lambda: 2)
    assert cores() == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [("max 100000", None), ("250000 100000", 2), ("50000 100000", 1), ("nonsense", None)],
)
def test_a_containers_quota_counts_as_whole_cores(
    text: str, expected: int | None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Path, "read_text", lambda self: text)
    assert devices._cgroup_cores() == expected


@pytest.mark.skipif(not NO_GPU or sys.platform != "linux", reason="this machine may have a GPU")
def test_torch_is_not_imported_to_learn_that_there_is_no_accelerator():
    code = (
        "import json, sys; from bench.devices import slots; found = slots('auto');"
        "print(json.dumps([[s.device for s in found], 'torch' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, imported = json.loads(done.stdout)
    assert set(names) == {"cpu"} and not imported
