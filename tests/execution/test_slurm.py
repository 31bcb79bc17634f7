"""Slurm, the real one: a controller and a node of this machine, on 127.0.0.1 alone."""

import contextlib
import getpass
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.errors import Refusal
from bench.execution import slurm
from bench.store.mlflow_store import Store

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scancel")
EXPERIMENT = """
import os, time
from bench import Experiment, Outcome

def train(trial):
    trial.log(0, {"loss": 1.0})
    time.sleep(trial.settings["nap"])
    if trial.settings["fails"] and trial.arm == "on" and trial.seed == 1:
        raise ValueError("no such layer")
    with open(os.environ["RUNS"], "a") as log:
        log.write(f"{trial.arm} {trial.seed}\\n")
    value = float(trial.rng("x").normal() + (trial.arm == "on"))
    return Outcome(scores={"return": value}, facts={"job": os.environ["SLURM_JOB_ID"]})

EXPERIMENT = Experiment(
    name="slurmed", question="Is on better?", arms={"off": {"on": 0}, "on": {"on": 1}},
    settings={"nap": 0.1, "fails": False}, train=train, metric="return",
)
"""
CONFIGURATION = """
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0
MpiDefault=none
ReturnToService=2
KillWait=2
MinJobAge=10
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Start a Slurm of this machine, and return its configuration."""
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    if lacking or os.getuid() != 0 or importlib.util.find_spec("submitit") is None:
        pytest.skip(f"needs root, submitit and {', '.join(lacking) or 'nothing else'}")
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    for above in (folder, *folder.parents):
        with contextlib.suppress(OSError):
            above.chmod(above.stat().st_mode | 0o755)
    host = socket.gethostname().partition(".")[0]
    ports = {"controller": free_port(), "node": free_port()}
    cores = len(os.sched_getaffinity(0))
    text = CONFIGURATION.format(
        host=host, folder=folder, user=getpass.getuser(), cores=cores, **ports
    )
    (folder / "slurm.conf").write_text(text)
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    words = {
        "munged": ["--foreground", "--force", f"--key-file={folder}/munge.key",
                   f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid",
                   f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed"],
        "slurmctld": ["-D", "-f", str(folder / "slurm.conf")],
        "slurmd": ["-D", "-N", host, "-f", str(folder / "slurm.conf")],
    }  # fmt: skip
    running: list[subprocess.Popen[bytes]] = []
    try:
        for name, arguments in words.items():
            program = shutil.which(name)
            with (folder / f"{name}.out").open("wb") as out:
                running.append(
                    subprocess.Popen([str(program), *arguments], env=environment, stdout=out,
                                     stderr=out, start_new_session=True)
                )  # fmt: skip
            time.sleep(0.5)
        if not _is_up(environment):
            said = [(folder / f"{n}.out").read_text()[-300:] for n in words]
            pytest.skip(f"Slurm does not start here: {' | '.join(said)}")
        yield folder / "slurm.conf"
        subprocess.run(["scancel", f"--user={getpass.getuser()}"], env=environment, check=False)
        time.sleep(1)
    finally:
        for process in reversed(running):
            process.terminate()
        for process in reversed(running):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _is_up(environment: dict[str, str]) -> bool:
    for _ in range(60):
        words = ["sinfo", "--noheader", "--format=%T"]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        if done.stdout.strip() in ("idle", "mixed", "allocated"):
            return True
        time.sleep(0.5)
    return False


class Home:
    """A folder with an experiment, and what runs it on the cluster."""

    def __init__(self, folder: Path, configuration: Path, uri: str) -> None:
        self.folder, self.uri = folder, uri
        (folder / "slurmed.py").write_text(EXPERIMENT)
        self.runs = folder / "runs"
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(configuration),
            "RUNS": str(self.runs),
            "BENCH_CACHE": str(folder / "cache"),
        }

    def start(self, *words: object) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "bench", "run", "slurmed.py", "--backend", "slurm"]
        return subprocess.Popen(
            [*command, "--slurm-jobs", "2", *map(str, words)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: object) -> tuple[int, str, str]:
        with self.start(*words) as process:
            out, err = process.communicate(timeout=240)
        return process.returncode, out, err

    def jobs(self, states: str = "R") -> list[str]:
        words = ["squeue", "--noheader", "--format=%i", f"--states={states}"]
        said = subprocess.run(words, env=self.environment, capture_output=True, text=True)
        return said.stdout.split()

    def trained(self) -> list[str]:
        return self.runs.read_text().splitlines() if self.runs.exists() else []

    def finished(self) -> int:
        store = Store(self.uri)
        return len(store.settled(store.benchmark())[0])

    def until(self, holds: Callable[[], Any], seconds: float = 120) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := holds():
                return found
            time.sleep(0.2)
        raise AssertionError("it never came")


@pytest.fixture
def home(tmp_path: Path, cluster: Path, copy_store: Callable[[Path], str]) -> Iterator[Home]:
    made = Home(tmp_path, cluster, copy_store(tmp_path / "mlruns"))
    yield made
    subprocess.run(["scancel", *made.jobs("R,PD")], env=made.environment, capture_output=True)


def test_every_training_is_recorded_once_and_no_job_is_left(home: Home):
    status, out, err = home.run("--seeds", 10, "--json")
    assert status == 0, err
    assert home.finished() == 20
    assert sorted(home.trained()) == sorted(f"{a} {s}" for a in ("off", "on") for s in range(10))
    assert json.loads(out)["comparisons"][0]["n_pairs"] == 10
    home.until(lambda: not home.jobs("R,PD"), 30)


@pytest.mark.thorough
def test_a_job_that_is_cancelled_in_mid_run_is_replaced(home: Home):
    process = home.start("--seeds", 3, "--set", "nap=5")  # longer than Slurm waits before KILL
    first = home.until(lambda: len(home.trained()) >= 2 and home.jobs())[0]
    time.sleep(2)
    subprocess.run(["scancel", first], env=home.environment, check=True)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "a Slurm job has ended: another one trains on" in err
    assert home.finished() == 6


@pytest.mark.thorough
def test_a_parent_that_is_killed_loses_nothing(home: Home):
    process = home.start("--seeds", 5, "--set", "nap=1")
    home.until(lambda: len(home.trained()) >= 3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    status, _, err = home.run("--seeds", 5, "--set", "nap=1")
    assert status == 0, err
    assert home.finished() == 10
    assert len(home.trained()) == len({*home.trained()}) == 10


@pytest.mark.thorough
def test_ctrl_c_twice_leaves_no_job(home: Home):
    process = home.start("--seeds", 40, "--set", "nap=2")
    home.until(lambda: len(home.trained()) >= 2)
    time.sleep(1)  # the next two train
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    home.until(lambda: not home.jobs("R,PD"), 30)


@pytest.mark.thorough
def test_a_training_that_fails_is_a_failed_run_with_its_words(home: Home):
    status, _, err = home.run("--seeds", 3, "--set", "fails=true", "--keep-going")
    assert status == 3
    assert "seed 01, on: ValueError: no such layer" in err
    assert home.finished() == 5


@pytest.mark.thorough
def test_what_slurm_refuses_is_told_in_its_words(home: Home):
    status, _, err = home.run("--seeds", 2, "--slurm-partition", "nowhere")
    assert status == 4
    assert "Slurm does not take a job." in err
    assert "nowhere" in err or "partition" in err


@pytest.mark.thorough
def test_a_queue_that_does_not_start_is_named(home: Home):
    host = socket.gethostname().partition(".")[0]
    scontrol = ["scontrol", "update", f"NodeName={host}"]
    words = [*scontrol, "State=DRAIN", "Reason=test"]
    subprocess.run(words, env=home.environment, check=True)
    process = home.start("--seeds", 2)
    try:
        home.until(lambda: home.jobs("PD"))
        time.sleep(6)
    finally:
        subprocess.run([*scontrol, "State=RESUME"], env=home.environment, check=True)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "Slurm job" in err and "(PENDING: " in err


# -- without a cluster -----------------------------------------------------------------------------


def test_without_slurm_or_submitit_it_says_so(monkeypatch: Any, tmp_path: Path):
    monkeypatch.setenv("PATH", "/nowhere")
    if importlib.util.find_spec("submitit") is not None:
        with pytest.raises(Refusal, match="sbatch is not on PATH"):
            slurm.Slurm(tmp_path, "x", slurm.Ask())
    monkeypatch.setitem(sys.modules, "submitit.slurm.slurm", None)
    with pytest.raises(Refusal, match="needs the package submitit") as refused:
        slurm.Slurm(tmp_path, "x", slurm.Ask())
    assert refused.value.fix == "pip install 'bench-paired[slurm]'"


def test_what_is_asked_for_reaches_submitit():
    asked = slurm.Ask(partition="gpu", account="me", minutes=90, gres="gpu:2").parameters()
    assert asked["partition"] == "gpu" and asked["account"] == "me"
    assert (asked["time"], asked["gres"]) == (90, "gpu:2")
    assert "partition" not in slurm.Ask().parameters()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--slurm-partition", "x"), "--slurm-partition is for --backend slurm"),
        (("--backend", "slurm", "--dry-run"), "not those of a cluster"),
        (("--backend", "slurm", "--slurm-jobs", "0"), "--slurm-jobs 0 trains nothing"),
    ],
)
@pytest.mark.sample(3)
def test_options_that_mean_nothing_are_refused(words: Any, told: str, bench: Any):
    said = bench("run", "digits", *words)
    assert said.status == 2
    assert told in said.err
