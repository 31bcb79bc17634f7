"""Devices: what there is, one slot a training, and one holder a device; all without a GPU."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.execution import devices, leases as lease_module, nvml
from bench.execution.devices import (
    BadDevices,
    Device,
    Machine,
    Slot,
    User,
    cores,
    shortage,
    slots,
)
from bench.execution.leases import Leases, LeaseTrouble

GIB = 2**30
A, B = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-8932aaaa-0000-0000-0000-000000000000"
C, M1, M2 = "GPU-cccc", "MIG-1111-aa", "MIG-2222-bb"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="device nodes and signals of Linux")
VISIBILITY = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


@pytest.fixture(autouse=True)
def _nothing_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VISIBILITY:
        monkeypatch.delenv(name, raising=False)


@dataclass
class Fake:
    there: Sequence[Device] = ()
    asked: int = 0

    def devices(self) -> list[Device]:
        self.asked += 1
        return list(self.there)


def cuda(index: int, uuid: str = "", **more: Any) -> Device:
    return Device("cuda", index, uuid or (A, B, C)[index], "NVIDIA A100", **more)


MPS = Device("mps", 0, "mps-mac", "Apple arm64")


def with_devices(monkeypatch: pytest.MonkeyPatch, *there: Device, cpu: int = 8) -> Fake:
    fake = Fake(there)
    monkeypatch.setattr(devices, "source", fake)
    monkeypatch.setattr(devices, "cores", lambda: cpu)
    return fake


def refused(wanted: str = "auto", **options: Any) -> BadDevices:
    with pytest.raises(BadDevices) as caught:
        slots(wanted, **options)
    assert (caught.value.code, caught.value.exit_status) == ("devices", 2)
    return caught.value


# Slots


def test_cpu_slots_have_one_thread_each_because_last_bits_depend_on_it():
    assert slots("cpu", workers=3) == [Slot("cpu", lane, 1) for lane in range(3)]


def test_without_a_count_there_is_one_cpu_slot_a_core(monkeypatch: pytest.MonkeyPatch):
    with_devices(monkeypatch, cpu=5)
    assert slots("cpu") == slots("auto") == [Slot("cpu", lane, 1) for lane in range(5)]


def test_auto_takes_every_accelerator_and_shares_out_the_cores(monkeypatch: pytest.MonkeyPatch):
    with_devices(monkeypatch, cuda(0), cuda(1))
    assert slots() == [Slot("cuda:0", 0, 4, (cuda(0),)), Slot("cuda:1", 0, 4, (cuda(1),))]


def test_devices_are_looked_up_anew_at_each_call(monkeypatch: pytest.MonkeyPatch):
    fake = with_devices(monkeypatch, cuda(0))
    assert [s.device for s in slots()] == ["cuda:0"]
    fake.there = [cuda(1)]
    assert [s.device for s in slots()] == ["cuda:1"]


def test_an_experiment_of_the_cpu_asks_nobody_for_devices(monkeypatch: pytest.MonkeyPatch):
    fake = with_devices(monkeypatch, cuda(0))
    assert {s.device for s in slots(device="cpu")} == {"cpu"}
    assert {s.device for s in slots("cpu")} == {"cpu"}
    assert fake.asked == 0


def test_lanes_fill_all_devices_before_any_gets_a_second(monkeypatch: pytest.MonkeyPatch):
    with_devices(monkeypatch, cuda(0), cuda(1))
    found = slots("0,cuda:1", per_device=2)
    expected = [("cuda:0", 0), ("cuda:1", 0), ("cuda:0", 1), ("cuda:1", 1)]
    assert [(s.device, s.lane) for s in found] == expected
    assert {s.threads for s in found} == {2}


def test_more_lanes_than_cores_still_have_a_thread(monkeypatch: pytest.MonkeyPatch):
    with_devices(monkeypatch, cuda(0), cpu=2)
    assert {s.threads for s in slots("0", per_device=8)} == {1}


def test_apples_accelerator_has_one_lane(monkeypatch: pytest.MonkeyPatch):
    with_devices(monkeypatch, MPS)
    assert slots("auto", per_device=4) == slots("mps") == [Slot("mps", 0, 8, (MPS,))]


def test_devices_of_one_training_are_grouped_in_the_order_typed(monkeypatch: pytest.MonkeyPatch):
    with_devices(monkeypatch, cuda(0), cuda(1), cuda(2))
    (only,) = slots("2,0", devices=2)
    assert only == Slot("cuda:2+0", 0, 8, (cuda(2), cuda(0)))
    assert only.trial_device == "cuda:0"
    assert only.environment() == {"CUDA_VISIBLE_DEVICES": f"{C},{A}"}
    assert [s.device for s in slots(devices=2)] == ["cuda:0+1"]


@pytest.mark.parametrize("typed", ["0", "cuda:0", A, "GPU-8932f937", " 0 "])
def test_a_device_has_many_spellings(typed: str, monkeypatch: pytest.MonkeyPatch):
    with_devices(monkeypatch, cuda(0), cuda(1))
    assert [s.devices for s in slots(typed)] == [(cuda(0),)]


def test_a_mig_instance_is_named_by_its_own_uuid(monkeypatch: pytest.MonkeyPatch):
    with_devices(monkeypatch, cuda(0, M1), cuda(1, M2))
    (found,) = slots("MIG-22")
    assert found.environment() == {"CUDA_VISIBLE_DEVICES": M2}


@pytest.mark.parametrize("twice", ["0", "cuda:0", A, "GPU-8932f937"])
def test_one_device_in_two_spellings_is_named_twice(twice: str, monkeypatch: pytest.MonkeyPatch):
    with_devices(monkeypatch, cuda(0), cuda(1))
    refusal = refused(f"0,1,{twice}")
    assert refusal.what == f'--devices "0,1,{twice}": cuda:0 is named twice.'
    assert refusal.options == (("devices", "0,1"),)
    assert [s.device for s in slots("0,1")] == ["cuda:0", "cuda:1"]


@pytest.mark.parametrize(
    ("wanted", "missing"),
    [
        ("7", "cuda:7"),
        ("cuda:7", "cuda:7"),
        ("0,7", "cuda:7"),
        ("gpu", "gpu"),
        ("", ""),
        ("0,", ""),
        ("cpu,0", "cpu"),
        ("-1", "-1"),
        ("GPU-1", "GPU-1"),
        ("8932f937", "8932f937"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(
    wanted: str, missing: str, monkeypatch: pytest.MonkeyPatch
):
    with_devices(monkeypatch, cuda(0))
    refusal = refused(wanted)
    assert refusal.what == f'--devices "{wanted}": no device {missing}.'
    assert refusal.facts == ("There are: cpu, cuda:0.",)
    assert refusal.options == (("devices", "auto"),)


def test_without_accelerators_the_fix_is_the_cpu_where_the_experiment_allows_it(
    monkeypatch: pytest.MonkeyPatch,
):
    with_devices(monkeypatch)
    refusal = refused("97")
    assert refusal.what == '--devices "97": no device cuda:97.'
    assert (refusal.facts, refusal.remedy()) == (("There is: cpu.",), 'devices="cpu"')
    assert refused("97", device="gpu").remedy() is None


def test_a_beginning_of_two_uuids_is_refused(monkeypatch: pytest.MonkeyPatch):
    with_devices(monkeypatch, cuda(0), cuda(1))
    refusal = refused("GPU-8932")
    assert refusal.what == '--devices "GPU-8932": GPU-8932 is the beginning of 2 UUIDs.'


def test_an_experiment_of_the_cpu_refuses_gpus(monkeypatch: pytest.MonkeyPatch):
    with_devices(monkeypatch, cuda(0))
    refusal = refused("0", device="cpu")
    assert (
        refusal.what == 'the experiment trains on the CPU, and --devices "0" names something else.'
    )
    assert refusal.options == (("devices", "cpu"),)
    assert slots("cpu", device="cpu")


@pytest.mark.parametrize(
    ("there", "wanted", "options", "what", "fix"),
    [
        ([], "auto", {"device": "gpu"}, "a GPU and is given none", None),
        ([], "cpu", {"device": "gpu"}, "a GPU and is given none", None),
        ([cuda(0)], "cpu", {"device": "gpu"}, "a GPU and is given none", "auto"),
        ([], "auto", {"devices": 2}, "2 GPUs and is given none", None),
        ([cuda(0)], "auto", {"devices": 2}, "2 GPUs and is given 1", None),
        ([cuda(0), cuda(1)], "1", {"devices": 2}, "2 GPUs and is given 1", "auto"),
        ([cuda(0), cuda(1)], "cpu", {"devices": 2}, "2 GPUs and is given none", "auto"),
    ],
)
def test_too_few_devices_are_refused(
    there: list[Device],
    wanted: str,
    options: dict[str, Any],
    what: str,
    fix: str | None,
    monkeypatch: pytest.MonkeyPatch,
):
    with_devices(monkeypatch, *there)
    refusal = refused(wanted, **options)
    assert refusal.what == f"each training of this experiment needs {what}."
    assert refusal.options == (() if fix is None else (("devices", fix),))
    if fix is not None:
        assert slots(fix, **options)


def test_a_prohibited_card_is_left_out_and_refused_when_typed(monkeypatch: pytest.MonkeyPatch):
    closed = cuda(0, compute_mode="prohibited")
    with_devices(monkeypatch, closed, cuda(1))
    assert [s.device for s in slots()] == ["cuda:1"]
    refusal = refused("0")
    assert refusal.what == '--devices "0": no process may use cuda:0.'
    facts = ("There are: cpu, cuda:0, cuda:1.", "Compute mode prohibited: cuda:0.")
    assert (refusal.facts, refusal.remedy()) == (facts, 'devices="auto"')


def test_prohibited_cards_alone_are_no_silent_run_on_the_cpu(monkeypatch: pytest.MonkeyPatch):
    with_devices(monkeypatch, cuda(0, compute_mode="prohibited"))
    refusal = refused()
    assert refusal.what == "no process may use the devices that are here."
    assert refusal.options == (("devices", "cpu"),)
    assert refused(device="gpu").remedy() is None


def test_a_card_that_admits_one_process_has_one_lane(monkeypatch: pytest.MonkeyPatch):
    with_devices(monkeypatch, cuda(0), cuda(1, compute_mode="exclusive"))
    refusal = refused(per_device=2)
    assert refusal.what.startswith("--per-device 2: cuda:1 admits one process")
    assert refusal.options == (("per_device", 1),)
    assert len(slots()) == 2 and len(slots("0", per_device=2)) == 2


def test_a_training_on_several_devices_has_no_lanes(monkeypatch: pytest.MonkeyPatch):
    with_devices(monkeypatch, cuda(0), cuda(1))
    refusal = refused(devices=2, per_device=2)
    assert refusal.what.startswith("--per-device 2: a training has 2 devices")
    assert refusal.options == (("per_device", 1),)


def test_mig_instances_do_not_make_a_group(monkeypatch: pytest.MonkeyPatch):
    with_devices(monkeypatch, cuda(0, M1), cuda(1, M2))
    assert "needs whole GPUs: CUDA uses one MIG instance only" in refused(devices=2).what


@pytest.mark.parametrize("count", [0, -1])
def test_a_count_that_leaves_nobody_to_train_is_refused(count: int):
    refusal = refused("cpu", workers=count)
    assert refusal.what == f"--workers {count} leaves nobody to train; it must be 1 or more."
    assert refusal.options == (("workers", 1),)
    assert refused("cpu", per_device=count).options == (("per_device", 1),)


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


# What a training sees


def test_a_training_sees_its_own_device_only():
    slot = Slot("cuda:1", 0, 4, (cuda(1),))
    assert slot.environment() == {"CUDA_VISIBLE_DEVICES": B}
    assert slot.trial_device == "cuda:0"
    amd = Device("rocm", 0, "GPU-host-pci-0000-03-00", "MI300", visible="3")
    assert Slot("cuda:0", 0, 4, (amd,)).environment() == {"HIP_VISIBLE_DEVICES": "3"}
    assert (amd.label, MPS.label) == ("cuda:0", "mps")
    assert (Slot("mps", 0, 4, (MPS,)).environment(), Slot("mps", 0, 4).trial_device) == ({}, "mps")


def test_a_training_on_the_cpu_sees_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(devices, "NODES", (str(tmp_path / "nvidiactl"),))
    assert Slot("cpu", 0, 1).environment() == {}
    (tmp_path / "nvidiactl").touch()
    hidden = {"CUDA_VISIBLE_DEVICES": "-1", "HIP_VISIBLE_DEVICES": "-1"}
    assert Slot("cpu", 0, 1).environment() == hidden
    assert Slot("cpu", 0, 1).trial_device == "cpu"


def test_too_little_free_memory_is_told_with_who_uses_it():
    alice, somebody = User(4711, "alice", 31 * GIB), User(12, "", 0)
    card = cuda(1, memory=40 * GIB, free=2 * GIB, users=(somebody, alice))
    has = "cuda:1 (NVIDIA A100) has 2.0 of 40.0 GiB free and 9.0 GiB are needed: "
    by = "alice (pid 4711) uses 31.0 GiB, pid 12 uses an unknown amount"
    assert shortage(card, 9 * GIB) == has + by
    assert shortage(replace(card, users=()), 9 * GIB) == has + "who uses it is not known"
    assert shortage(card, 2 * GIB) is None


def test_memory_short_of_a_rounding_does_not_read_as_enough():
    card = cuda(0, memory=40 * GIB, free=int(8.96 * GIB))
    assert "8.9 of 40.0 GiB free and 9.0 GiB are needed" in (shortage(card, 9 * GIB) or "")


def test_unknown_memory_is_no_shortage():
    assert shortage(cuda(0), 9 * GIB) is None


# This machine, through the child process

FAKE_NVML = """
import json, os
from types import SimpleNamespace as S
CONFIG = json.loads(os.environ["FAKE_NVML"])
class NVMLError(Exception): pass
class NVMLError_NoPermission(NVMLError): pass
class NVMLError_NotSupported(NVMLError): pass
class NVMLLibraryMismatchError(Exception): pass
def known(card, key):
    if card.get("broken"): raise NVMLError("GPU is lost")
    if key not in card: raise NVMLError_NotSupported("Not Supported")
    return card[key]
def text(value): return value.encode() if CONFIG.get("bytes") else value
def nvmlInit():
    if "init" in CONFIG: raise NVMLError(CONFIG["init"])
def nvmlDeviceGetCount(): return len(CONFIG["cards"])
def nvmlDeviceGetHandleByIndex(index):
    card = CONFIG["cards"][index]
    if str(index) not in os.environ.get("ALLOWED", "0123456789"):
        raise NVMLError_NoPermission("Insufficient Permissions")
    return card
def nvmlSystemGetDriverVersion(): return text(known(CONFIG, "driver"))
def nvmlDeviceGetUUID(card): return text(known(card, "uuid"))
def nvmlDeviceGetName(card): return text(known(card, "name"))
def nvmlDeviceGetMemoryInfo(card): return S(total=known(card, "memory"), free=known(card, "free"))
def nvmlDeviceGetComputeMode(card): return known(card, "mode")
def nvmlDeviceGetMigMode(card): return [int("mig" in card) if known(card, "uuid") else 0, 0]
def nvmlDeviceGetMaxMigDeviceCount(card): return 7
def nvmlDeviceGetMigDeviceHandleByIndex(card, index):
    if str(index) not in card["mig"]: raise NVMLError("Not Found")
    return card["mig"][str(index)]
def nvmlDeviceGetGpuInstanceId(card): return known(card, "gi")
def nvmlDeviceGetComputeInstanceId(card): return known(card, "ci")
def nvmlDeviceGetComputeRunningProcesses(card):
    if "users" not in card: raise NVMLLibraryMismatchError("Unversioned function called")
    return [S(pid=pid, usedGpuMemory=used) for pid, used in card["users"]]
"""
CARD_A: dict[str, Any] = {"uuid": A, "name": "NVIDIA A100", "memory": 40 * GIB, "free": 39 * GIB}
CARD_B: dict[str, Any] = {"uuid": B, "name": "NVIDIA A100"}
CARD_C: dict[str, Any] = {"uuid": C, "name": "NVIDIA H200"}
MIG_CARD: dict[str, Any] = {
    "uuid": C,
    "name": "NVIDIA H200",
    "mode": 0,
    "mig": {
        "0": {"uuid": M1, "name": "NVIDIA H200 MIG 1g.18gb", "gi": 9, "ci": 0, "users": []},
        "3": {"uuid": M2, "name": "NVIDIA H200 MIG 2g.35gb", "gi": 3, "ci": 0},
    },
}


class Child:
    """A machine with a driver, whose child process imports fake modules."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.env = folder, monkeypatch
        monkeypatch.setenv("PYTHONPATH", str(folder))
        monkeypatch.setattr(devices, "NODES", (str(folder),))

    def module(self, name: str, text: str) -> None:
        (self.folder / f"{name}.py").write_text(text)

    def nvml(self, *cards: dict[str, Any], **config: Any) -> None:
        self.module("pynvml", FAKE_NVML)
        self.env.setenv("FAKE_NVML", json.dumps({"cards": cards, "driver": "570.1", **config}))

    def uuids(self, visible: str | None = None, name: str = "CUDA_VISIBLE_DEVICES") -> list[str]:
        if visible is not None:
            self.env.setenv(name, visible)
        found = Machine().devices()
        self.env.delenv(name, raising=False)
        return [device.uuid for device in found]


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Child:
    return Child(tmp_path, monkeypatch)


def failure(script: str, folder: Path, limit_s: float = 60.0) -> BadDevices:
    path = folder / "script.py"
    path.write_text(script)
    with pytest.raises(BadDevices) as caught:
        Machine(path, limit_s).devices()
    assert caught.value.what == "this machine has a GPU driver, and its devices cannot be listed."
    assert caught.value.options == (("devices", "cpu"),)
    return caught.value


@LINUX
def test_nothing_is_started_where_no_driver_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(devices, "NODES", (str(tmp_path / "none"),))
    assert Machine(tmp_path / "no script: would fail").devices() == []


@pytest.mark.parametrize("as_bytes", [False, True])
def test_nvml_tells_all_of_a_card(child: Child, as_bytes: bool):
    me = os.getpid()
    users = [[me, GIB], [2**22 + 1, None]]
    child.nvml({**CARD_A, "mode": 3, "users": users}, CARD_B, bytes=as_bytes)
    login = lease_module._user_name(os.getuid())
    first, second = Machine().devices()
    assert first == Device(
        kind="cuda",
        index=0,
        uuid=A,
        name="NVIDIA A100",
        memory=40 * GIB,
        free=39 * GIB,
        users=(User(me, login, GIB), User(2**22 + 1, "", 0)),
        compute_mode="exclusive",
        driver="570.1",
    )
    # NVMLError in every optional question, and the mismatch error, which is no NVMLError
    assert second == Device("cuda", 1, B, "NVIDIA A100", driver="570.1")


@pytest.mark.parametrize("mode", [(0, "default"), (1, "exclusive"), (2, "prohibited")])
def test_compute_modes(child: Child, mode: tuple[int, str]):
    child.nvml({**CARD_A, "mode": mode[0]})
    assert Machine().devices()[0].compute_mode == mode[1]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [A, B, C]),
        ("1", [B]),
        ("2, 0", [C, A]),
        (A, [A]),
        ("GPU-8932f937", [A]),
        ("GPU-c,0", [C, A]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0,-1,1", [A]),
        ("0,7,1", [A]),
        ("0,GPU-8932,2", [A]),
        ("0,,1", [A]),
        ("0,0", []),
        ("0,GPU-8932f937", []),
    ],
)
def test_visible_devices_follow_cudas_rules(child: Child, visible: str | None, expected: list[str]):
    child.nvml(CARD_A, CARD_B, CARD_C)
    assert child.uuids(visible) == expected


@pytest.mark.parametrize("visible", ["", " ", "-1", "G", "GPU", "1", "gpu-8932f937"])
def test_what_names_nothing_hides_an_only_card_too(child: Child, visible: str):
    child.nvml(CARD_A)
    assert child.uuids(visible) == []
    assert child.uuids("GPU-8") == [A]


def test_the_index_counts_what_is_visible(child: Child):
    child.nvml(CARD_A, CARD_B, CARD_C)
    child.env.setenv("CUDA_VISIBLE_DEVICES", "2,1")
    assert [(d.label, d.uuid) for d in Machine().devices()] == [("cuda:0", C), ("cuda:1", B)]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [A, M1, M2]),
        ("1", [M1, M2]),
        (M2, [M2]),
        ("MIG-11", [M1]),
        (f"MIG-{C}/3/0", [M2]),
        (f"MIG-{C}/4/0", []),
        (f"MIG-{C}/9/0,0", [M1, A]),
        (C, [M1, M2]),
    ],
)
def test_a_mig_card_appears_as_its_instances(
    child: Child, visible: str | None, expected: list[str]
):
    child.nvml(CARD_A, MIG_CARD)
    assert child.uuids(visible) == expected


def test_a_mig_instance_has_its_own_name_and_its_cards_mode(child: Child):
    child.nvml({**MIG_CARD, "mode": 2})
    first, second = Machine().devices()
    assert (first.index, second.index) == (0, 1)
    assert second.name == "NVIDIA H200 MIG 2g.35gb"
    assert {first.compute_mode, second.compute_mode} == {"prohibited"}


def test_cards_that_a_cgroup_hides_do_not_count(child: Child):
    child.nvml(CARD_A, CARD_B)
    child.env.setenv("ALLOWED", "1")
    (only,) = Machine().devices()
    assert (only.label, only.uuid) == ("cuda:0", B)
    child.env.setenv("ALLOWED", "none")
    assert Machine().devices() == []


def test_a_broken_card_keeps_its_number(child: Child):
    child.nvml({"broken": True}, CARD_B)
    (only,) = Machine().devices()
    assert (only.label, only.uuid) == ("cuda:1", B)


def test_broken_cards_alone_are_no_silent_run_on_the_cpu(child: Child):
    child.nvml({"broken": True}, {**MIG_CARD, "mig": {}})
    with pytest.raises(BadDevices) as caught:
        Machine().devices()
    lost = "GPU 0: GPU is lost; GPU 1 has MIG enabled and no MIG instance"
    assert caught.value.facts == (lost,)
    assert child.uuids("-1") == []


@pytest.mark.parametrize(
    ("script", "fact"),
    [
        ("import sys; print('[]'); sys.exit('no luck')", "no luck"),
        ("raise ValueError('at line 3')", "ValueError: at line 3"),
        ("import os; os._exit(3)", "Exit status 3."),
        ("", "The answer was ''."),
        ("print('[]'); print('hello')", "The answer was 'hello'."),
        ("print('null')", "The answer was 'null'."),
        ("print('{}')", "The answer was '{}'."),
        ("print('[1]')", "The answer was '[1]'."),
        ("print('[[]]')", "The answer was '[[]]'."),
        ('print(\'[{"kind": "cuda"}]\')', 'The answer was \'[{"kind": "cuda"}]\'.'),
    ],
)
def test_a_child_that_fails_is_no_silent_run_on_the_cpu(child: Child, script: str, fact: str):
    assert failure(script, child.folder).facts == (fact,)


@LINUX
def test_a_child_that_is_killed_is_an_error(child: Child):
    kill = f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})"
    assert failure(kill, child.folder).facts == ("Exit status -9.",)


def test_a_child_that_hangs_is_ended(child: Child):
    script = "import threading; threading.Event().wait()"
    assert failure(script, child.folder, limit_s=0.2).facts == ("No answer within 0.2 s.",)


def test_what_libraries_print_before_the_answer_is_passed_over(child: Child):
    path = child.folder / "script.py"
    path.write_text("print('hello'); print('[]'); print()")
    assert Machine(path).devices() == []


def test_the_real_module_knows_every_question():
    real = pytest.importorskip("pynvml")
    script = Path(nvml.__file__).read_text()
    asked = {f"nvml{name}" for name in re.findall(r'asked\(nvml, "(\w+)"', script)}
    asked |= set(re.findall(r"nvml\.(nvml\w+)\(", script))
    assert len(asked) == 14
    assert [name for name in asked if not callable(getattr(real, name, None))] == []
    assert issubclass(real.NVMLError_NoPermission, real.NVMLError)


# Without NVML: torch

FAKE_TORCH = """
import os
from types import SimpleNamespace as S
version = S(hip=os.environ.get("HIP"))
backends = S(mps=S(is_available=lambda: False))
name = "HIP_VISIBLE_DEVICES" if version.hip else "CUDA_VISIBLE_DEVICES"
rocr = os.environ.get("ROCR_VISIBLE_DEVICES", "0,1").split(",")
seen = [rocr[int(i)] for i in os.environ.get(name, "0,1").split(",") if int(i) < len(rocr)]
def properties(index):
    about = {"name": "MI300", "uuid": os.environ.get("UUID", "")}
    if "NO_PCI" not in os.environ:
        about |= {"pci_domain_id": 0, "pci_bus_id": 3 + int(seen[index]), "pci_device_id": 0}
    return S(**about)
def memory(index):
    if "BUSY" in os.environ: raise RuntimeError("all CUDA-capable devices are busy")
    return 10, 20
cuda = S(is_available=lambda: True, device_count=lambda: len(seen), mem_get_info=memory,
         get_device_properties=properties)
"""


@pytest.fixture
def amd(child: Child) -> Child:
    child.module("pynvml", "raise ImportError")
    child.module("torch", FAKE_TORCH)
    child.env.setenv("HIP", "6.4")
    return child


@pytest.mark.parametrize("variable", ["HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"])
@pytest.mark.parametrize("uuid", ["", "58580000-0000"])
@pytest.mark.parametrize("pci", [True, False])
def test_an_amd_card_has_one_identity_whatever_is_visible(
    amd: Child, variable: str, uuid: str, pci: bool
):
    amd.env.setenv("UUID", uuid)
    if not pci:
        amd.env.setenv("NO_PCI", "1")
    (first,), (second,) = amd.uuids("0", variable), amd.uuids("1", variable)
    assert first != second
    assert amd.uuids() == [first, second] == amd.uuids("0,1", variable)
    assert all((uuid or socket.gethostname()) in name for name in (first, second))


def test_an_amd_card_is_named_to_hip_as_this_process_would_name_it(amd: Child):
    amd.env.setenv("ROCR_VISIBLE_DEVICES", "1,0")
    amd.env.setenv("HIP_VISIBLE_DEVICES", "1")
    (only,) = Machine().devices()
    assert (only.kind, only.label, only.visible) == ("rocm", "cuda:0", "1")
    assert only.uuid.endswith("pci-0000-03-00")
    assert Slot("cuda:0", 0, 1, (only,)).environment() == {"HIP_VISIBLE_DEVICES": "1"}


def test_nvidia_without_nvml_has_the_uuid_that_nvml_gives(amd: Child):
    amd.env.delenv("HIP")
    amd.env.setenv("UUID", A.removeprefix("GPU-"))
    amd.env.setenv("CUDA_VISIBLE_DEVICES", "1")
    (only,) = Machine().devices()
    assert (only.kind, only.uuid, only.visible) == ("cuda", A, "1")
    assert (only.memory, only.free) == (20, 10)
    amd.env.setenv("BUSY", "1")
    assert Machine().devices()[0].memory == 0


@pytest.mark.parametrize("problem", ["module", "driver"])
def test_torch_is_asked_where_nvml_cannot_answer(amd: Child, problem: str):
    if problem == "driver":
        amd.nvml(init="Driver Not Loaded")
    assert {device.kind for device in Machine().devices()} == {"rocm"}


def fake_torch(*, mps: bool = False, hip: str | None = None) -> SimpleNamespace:
    def init() -> None:
        raise RuntimeError("Torch not compiled with CUDA enabled")

    return SimpleNamespace(
        version=SimpleNamespace(hip=hip),
        cuda=SimpleNamespace(is_available=lambda: False, init=init),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: mps)),
    )


def test_apples_accelerator_is_named_after_the_machine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch", fake_torch(mps=True))  # type: ignore[arg-type]
    (row,) = nvml.torch_rows()
    device = Device(**row)
    assert (device.label, device.uuid) == ("mps", f"mps-{socket.gethostname()}")


@pytest.mark.parametrize(
    ("node", "hip", "refuses"),
    [
        ("/dev/nvidiactl", None, True),
        ("/dev/kfd", "6.4", True),
        ("/dev/kfd", None, False),  # integrated graphics beside a torch for the CPU
        ("/dev/dxg", None, False),  # WSL without a GPU
    ],
)
def test_a_gpu_that_torch_cannot_use_is_torchs_own_error(
    node: str, hip: str | None, refuses: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "torch", fake_torch(hip=hip))  # type: ignore[arg-type]
    monkeypatch.setattr(Path, "exists", lambda self: str(self) == node)
    if refuses:
        with pytest.raises(RuntimeError, match="Torch not compiled with CUDA enabled"):
            nvml.torch_rows()
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert nvml.torch_rows() == []


@LINUX
def test_torch_is_not_imported_to_learn_that_there_is_no_accelerator(tmp_path: Path):
    code = (
        "import sys; from bench.execution import devices; devices.NODES = ();"
        "found = devices.slots('auto'); assert {s.device for s in found} == {'cpu'};"
        "assert 'torch' not in sys.modules and 'pynvml' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Leases


def place(*uuids: str, lane: int = 0) -> Slot:
    return Slot("cuda:0", lane, 1, tuple(cuda(i, uuid) for i, uuid in enumerate(uuids)))


@pytest.fixture
def leases(tmp_path: Path) -> Iterator["Taken"]:
    taken = Taken(tmp_path / "leases")
    yield taken
    taken.free()


class Taken(Leases):
    """Leases that a test gives back."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.descriptors: list[int] = []

    def take(self, slot: Slot) -> tuple[int, ...] | None:
        found = super().take(slot)
        self.descriptors += found or ()
        return found

    def free(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors.clear()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_one_holder_a_device_and_lane(leases: Taken):
    assert len(leases.take(place(A)) or ()) == 1
    assert leases.take(place(A)) is None
    assert leases.take(place(A, lane=1)) and leases.take(place(B))
    leases.free()
    assert leases.take(place(A))


def test_cpu_slots_need_no_lease(leases: Taken):
    assert leases.take(Slot("cpu", 0, 1)) == ()
    assert not leases.folder.exists()


def test_several_devices_are_leased_together_or_not_at_all(leases: Taken):
    assert leases.take(place(B))
    before = set(os.listdir("/dev/fd"))
    assert leases.take(place(C, B, A)) is None  # A is free and comes first; it is given back
    assert set(os.listdir("/dev/fd")) == before
    assert leases.take(place(A))


@LINUX
def test_descriptors_come_in_the_order_of_the_files(leases: Taken):
    names = [f"GPU-{letter}" for letter in "hgfedcba"]
    slot = Slot("cuda:0", 0, 1, tuple(cuda(0, name) for name in names))
    files = [os.readlink(f"/proc/self/fd/{taken}") for taken in leases.take(slot) or ()]
    assert [Path(file).name for file in files] == [f"{name}.0" for name in sorted(names)]


def test_a_uuid_is_made_file_safe(leases: Taken):
    assert leases.take(place("MIG-GPU-aa/1/2", "../../etc/pässwd\n"))
    names = {path.name for path in leases.folder.iterdir()}
    assert names == {"MIG-GPU-aa-1-2.0", "------etc-p-sswd-.0"}


def test_everybody_may_lock_whatever_the_umask(leases: Taken):
    before = os.umask(0o077)
    try:
        assert leases.take(place(A))
    finally:
        os.umask(before)
    assert (mode(leases.folder), mode(leases.folder / f"{A}.0")) == (0o1777, 0o666)
    assert [path.name for path in leases.folder.parent.iterdir()] == ["leases"]


def test_an_existing_file_is_opened_without_creating(
    leases: Taken, monkeypatch: pytest.MonkeyPatch
):
    assert leases.take(place(A))
    leases.free()
    flags: list[int] = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda p, f, *m, **k: flags.append(f) or real(p, f, *m, **k))
    assert leases.take(place(A))
    assert len(flags) == 1 and not flags[0] & os.O_CREAT
    assert flags[0] & os.O_NOFOLLOW and flags[0] & os.O_NONBLOCK


def test_a_file_that_somebody_makes_first_is_theirs_to_make(
    leases: Taken, monkeypatch: pytest.MonkeyPatch
):
    path, real, flags = leases.folder / f"{A}.0", os.open, list[int]()

    def slower(file: Path, how: int, *mode: int) -> int:
        flags.append(how)
        if len(flags) == 1:
            os.close(real(path, os.O_CREAT | os.O_RDWR))
            raise FileNotFoundError
        return real(file, how, *mode)

    leases.folder.mkdir()
    monkeypatch.setattr(os, "open", slower)
    assert leases.take(place(A))
    assert [bool(how & os.O_CREAT) for how in flags] == [False, True, False]
    assert flags[1] & os.O_EXCL


def test_the_folder_is_never_seen_half_open(leases: Taken, monkeypatch: pytest.MonkeyPatch):
    modes, real = list[int](), os.rename

    def watched(source: str, target: Path) -> None:
        modes.append(mode(Path(source)))
        real(source, target)

    monkeypatch.setattr(os, "rename", watched)
    assert leases.take(place(A))
    assert modes == [0o1777]


def test_the_folder_is_one_for_all_whatever_tmpdir_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert Leases().folder == Path("/tmp/bench-leases")


def test_a_folder_of_ours_that_others_cannot_use_is_opened(leases: Taken):
    leases.folder.mkdir(mode=0o700)
    assert leases.take(place(A))
    assert mode(leases.folder) == 0o1777


def test_somebody_who_makes_the_folder_at_the_same_time_does_no_harm(
    leases: Taken, monkeypatch: pytest.MonkeyPatch
):
    def slower(source: str, target: Path) -> None:
        target.mkdir()
        (target / "other.0").touch()
        raise FileExistsError

    monkeypatch.setattr(os, "rename", slower)
    assert leases.take(place(A))
    assert [path.name for path in leases.folder.parent.iterdir()] == ["leases"]


def trouble(leases: Taken, path: Path) -> LeaseTrouble:
    with pytest.raises(LeaseTrouble) as caught:
        leases.take(place(A))
    assert caught.value.what == f"{path} cannot be used to say who trains on which device."
    assert (caught.value.code, caught.value.exit_status) == ("leases", 4)
    return caught.value


def fixed(leases: Taken, refusal: LeaseTrouble) -> bool:
    subprocess.run(refusal.fix or "false", shell=True, check=True)
    return bool(leases.take(place(A)))


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "folder", "socket", "hard link"])
def test_what_is_no_plain_file_is_never_locked(leases: Taken, tmp_path: Path, kind: str):
    path, precious = leases.folder / f"{A}.0", tmp_path / "precious"
    leases.folder.mkdir()
    precious.write_text("thesis")
    if kind == "link":
        path.symlink_to(precious)
    elif kind == "dangling":
        path.symlink_to(tmp_path / "none")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "hard link":
        os.link(precious, path)
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            here = os.open(leases.folder, os.O_RDONLY)
            listener.bind(f"/proc/self/fd/{here}/{path.name}")
            os.close(here)
    before = set(os.listdir("/dev/fd"))
    refusal = trouble(leases, path)
    assert set(os.listdir("/dev/fd")) == before
    assert refusal.facts[0].endswith(f"and belongs to {lease_module._user_name(os.getuid())}.")
    assert fixed(leases, refusal)
    assert precious.read_text() == "thesis"
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_folder_that_is_none_is_refused(leases: Taken, tmp_path: Path, kind: str):
    if kind == "link":
        leases.folder.symlink_to(tmp_path)
    else:
        leases.folder.touch()
    assert fixed(leases, trouble(leases, leases.folder))


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path):
    refusal = trouble(Taken(tmp_path / "none" / "leases"), tmp_path / "none" / "leases")
    assert "No such file or directory" in refusal.facts[0]
    assert refusal.fix == f"mkdir -p -m 1777 {tmp_path / 'none' / 'leases'}"


def test_a_file_that_is_deleted_while_it_is_opened_is_no_lease(
    leases: Taken, monkeypatch: pytest.MonkeyPatch
):
    real = lease_module._opened

    def deleted(path: Path) -> int:
        descriptor = real(path)
        path.unlink()
        return descriptor

    monkeypatch.setattr(lease_module, "_opened", deleted)
    assert leases.take(place(A)) is None


def test_the_holder_is_named(leases: Taken):
    slot = place(A, B)
    assert leases.holder(slot) == "another process"
    assert leases.take(slot)
    me = f"user {lease_module._user_name(os.getuid())}, pid {os.getpid()}"
    assert leases.holder(slot) == me
    leases.free()
    assert leases.holder(slot) == "another process"  # what they wrote is still there
    assert leases.take(place(B)) and leases.holder(slot) == me


@pytest.mark.parametrize("text", ["", "alice", "alice x", "\x1b[2J"])
def test_what_a_holder_did_not_write_well_names_nobody(leases: Taken, text: str):
    assert leases.take(place(A))
    (leases.folder / f"{A}.0").write_text(text)
    assert leases.holder(place(A)) == "another process"


def test_a_holders_name_cannot_command_the_terminal(leases: Taken):
    assert leases.take(place(A))
    (leases.folder / f"{A}.0").write_text("al\x1b[2Jice 4711")
    assert leases.holder(place(A)) == "user al[2Jice, pid 4711"


def test_a_lease_is_not_inherited_by_exec(leases: Taken):
    (descriptor,) = leases.take(place(A)) or ()
    assert not os.get_inheritable(descriptor)
    code = f"import os, sys\ntry: os.fstat({descriptor})\nexcept OSError: sys.exit(7)"
    assert subprocess.run([sys.executable, "-c", code], close_fds=False).returncode == 7


KEEPER = """
import socket, sys
with socket.socket(fileno=int(sys.argv[1])) as line:
    _, descriptors, _, _ = socket.recv_fds(line, 1, 8)
    line.send(b"%d" % len(descriptors))
    line.recv(1)
"""


def test_a_lease_goes_to_another_process_and_ends_with_it(leases: Taken):
    slot = place(A, B)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-c", KEEPER, str(theirs.fileno())]
        with subprocess.Popen(command, pass_fds=[theirs.fileno()]) as keeper:
            socket.send_fds(ours, [b"x"], list(leases.take(slot) or ()))
            assert ours.recv(8) == b"2"
            leases.free()
            assert leases.take(slot) is None  # the other process holds both
            assert leases.take(place(B)) is None
            assert leases.holder(slot).endswith(f"pid {os.getpid()}")
            keeper.kill()
    assert leases.take(slot)


OTHER_USER = """
import os, pathlib, sys
from bench.execution.devices import Device, Slot
from bench.execution.leases import Leases
os.setgid(65534); os.setuid(65534)
slot = Slot("cuda:0", 0, 1, (Device("cuda", 0, "GPU-cccc", "x"),))
leases = Leases(pathlib.Path(sys.argv[1]))
try:
    print("held" if leases.take(slot) is None else "taken", leases.holder(slot))
except Exception as refusal:
    print(refusal.render())
"""


@pytest.fixture
def shared() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder, "leases")


def as_other_user(folder: Path) -> str:
    command = [sys.executable, "-c", OTHER_USER, str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs two users")
def test_users_of_one_machine_share_its_leases(shared: Path):
    leases = Taken(shared)
    before = os.umask(0o077)
    try:
        assert leases.take(place(C))
    finally:
        os.umask(before)
    assert as_other_user(shared) == f"held user root, pid {os.getpid()}\n"
    leases.free()
    assert as_other_user(shared).startswith("taken ")
    (shared / f"{C}.0").chmod(0o600)
    refusal = as_other_user(shared)
    assert f"fix: sudo chmod 666 {shared}/{C}.0" in refusal
    shared.chmod(0o755)
    assert f"fix: sudo chmod 1777 {shared}" in as_other_user(shared)


def test_without_flock_this_process_holds_the_lease(leases: Taken, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lease_module, "fcntl", None)
    other = Taken(leases.folder)
    assert other.take(place(B)) == ()
    assert leases.take(place(A, B)) is None
    assert leases.take(place(A)) == ()
    assert other.take(place(A)) is None
    assert leases.holder(place(A)) == "another process"
    assert leases.take(Slot("cpu", 0, 1)) == ()


# The rows of shared/cases/defects/leases.py: one name a card


def lease_files(folder: Path, found: Sequence[Device]) -> list[str]:
    leases = Taken(folder)
    for device in found:
        assert leases.take(Slot(device.label, 0, 1, (device,)))
    leases.free()
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("variable", ["HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"])
def test_two_amd_cards_have_two_leases(amd: Child, tmp_path: Path, variable: str):
    found = []
    for visible in ("0", "1"):
        amd.env.setenv(variable, visible)
        found += Machine().devices()
    assert len(lease_files(tmp_path / "leases", found)) == 2


def test_two_tasks_of_one_slurm_job_have_two_leases(child: Child, tmp_path: Path):
    child.nvml(CARD_A, CARD_B)
    child.env.setenv("CUDA_VISIBLE_DEVICES", "0")  # each counts from 0 what its cgroup admits
    found = []
    for task in ("0", "1"):
        child.env.setenv("ALLOWED", task)
        found += Machine().devices()
    assert lease_files(tmp_path / "leases", found) == [f"{B}.0", f"{A}.0"]


def test_one_card_by_index_uuid_and_short_uuid_has_one_lease(child: Child, tmp_path: Path):
    child.nvml(CARD_B, CARD_A)
    found = []
    for visible in ("1", A, "GPU-8932f937"):
        child.env.setenv("CUDA_VISIBLE_DEVICES", visible)
        found += Machine().devices()
    assert len(found) == 3
    (first, *others), folder = found, tmp_path / "leases"
    leases = Taken(folder)
    assert leases.take(Slot("cuda:0", 0, 1, (first,)))
    assert all(leases.take(Slot("cuda:0", 0, 1, (other,))) is None for other in others)
    leases.free()
    assert [path.name for path in folder.iterdir()] == [f"{A}.0"]


def test_two_containers_with_a_card_each_have_two_leases(child: Child, tmp_path: Path):
    found = []
    for card in (CARD_A, CARD_B):  # inside, NVML knows one card, of index 0
        child.nvml(card)
        found += Machine().devices()
    assert [device.index for device in found] == [0, 0]
    assert lease_files(tmp_path / "leases", found) == [f"{B}.0", f"{A}.0"]
