"""The cluster scripts as they stand in the README, with programs that stand in for Slurm, SSH, …"""

import io
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench import cli

pytest.importorskip("dask_jobqueue", reason="the extra `dev` is not installed")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="shells, and looks at /proc")

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
DOCUMENT = (ROOT / "docs" / "clusters.md").read_text("utf-8")
BIN = Path(sys.executable).parent
SEEDS = ("--seeds", "6")
# In a job, as Slurm marks it, one training ends its whole job, and later ones wait for another.
ENDS_ITS_JOB = """
jobs = os.environ.get("JOBS")
if "SLURM_JOB_ID" in os.environ and trial.seed == 1 and not os.path.exists(jobs + "/ended"):
    open(jobs + "/ended", "w").close()
    pid = os.getpid()
    for _ in ("guard", "fork server", "dask worker"):
        pid = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
    os.killpg(os.getsid(pid), 9)
late = time.monotonic() + 100
while "SLURM_JOB_ID" in os.environ and trial.seed >= 4 and time.monotonic() < late:
    if sum(name.startswith("job-") for name in os.listdir(jobs)) > 4:  # each has a log
        break
    time.sleep(0.1)
"""

SBATCH = """#!/bin/sh
job=$(mktemp "$JOBS/job-XXXX") && cat "$1" > "$job"
SLURM_JOB_ID=1 setsid sh "$job" > "$job.log" 2>&1 &
echo $! >> "$JOBS/ids"
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
for job in "$@"; do kill -TERM -- "-$job"; done
"""
# Called in place of bench by slurm.py: notes who may talk to the cluster, then is bench.
PROBE = """#!PYTHON
import asyncio, json, os, pathlib, subprocess, sys
from distributed import Client
from distributed.security import Security

tls, address = "DASK_DISTRIBUTED__COMM__TLS__", sys.argv[-1]
pem = pathlib.Path(os.environ[tls + "CLIENT__KEY"])
without = {name: text for name, text in os.environ.items() if not name.startswith("DASK_")}

async def who_answers(address, security):
    try:
        async with Client(address, security=security, timeout="10s", asynchronous=True) as client:
            return [*(await client.scheduler.identity())["workers"]]
    except OSError as error:
        return str(error)

def refused(address):
    words = ["BIN/bench", *sys.argv[1:-1], address]
    return subprocess.run(words, env=without, stdout=subprocess.PIPE, text=True).returncode

plain = address.replace("tls://", "tcp://")
pathlib.Path(os.environ["JOBS"], "probed.json").write_text(json.dumps({
    "pem": str(pem),
    "mode": pem.stat().st_mode & 0o777,
    "folder": pem.parent.stat().st_mode & 0o777,
    "with it": asyncio.run(who_answers(address, Security())),
    "with another": asyncio.run(who_answers(address, Security.temporary())),
    "tcp": asyncio.run(who_answers(plain, Security(require_encryption=False))),
    "bench without it": refused(address),
    "bench by tcp": refused(plain),
}))
os.execv("BIN/bench", ["bench", *sys.argv[1:]])
"""
# Each host has a home of its own, in the user's; HANGS is a host whose connection is dead.
SSH = """#!/bin/sh
while [ "$1" = -o ]; do
    options="$options $2"
    shift 2
done
echo "$1$options $(readlink /proc/$$/fd/0)" >> "$JOBS/hosts"
[ "$1" = "$HANGS" ] && exec sleep 1000
echo "a greeting of $1" >&2
mkdir "$HOME/$1" && cd "$HOME/$1" && shift && exec sh -c "$*"
"""


def block(title: str) -> str:
    """Return the one piece of code, in the README or the document, whose first line names it."""
    [found] = re.findall(rf"```\w+\n(# {re.escape(title)}: .*?)```", README + DOCUMENT, re.S)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def replaced(text: str, changes: Mapping[str, str]) -> str:
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@dataclass
class Home:
    """A user's home: an experiment, programs that stand in, and what runs there."""

    folder: Path
    experiment: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.folder / "bin").mkdir()
        (self.folder / "jobs").mkdir()
        path = f"{self.folder / 'bin'}:{BIN}:{os.environ['PATH']}"
        here = {"HOME": str(self.folder), "PATH": path, "JOBS": str(self.folder / "jobs")}
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("DASK_", "SLURM_"))}
        self.environment = {**keep, **here}

    @property
    def jobs(self) -> Path:
        return self.folder / "jobs"

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    @contextmanager
    def started(self, *words: object) -> Iterator["subprocess.Popen[str]"]:
        """Start a command in a session of its own, of which nothing stays."""
        with (self.folder / "log.txt").open("a") as log:
            process = subprocess.Popen(
                [str(word) for word in words],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=30)
            for pid in session(process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def run(self, *words: object) -> Any:
        """Run a command to its end; gives the JSON object on stdout."""
        with self.started(*words) as process:
            out, _ = process.communicate(timeout=300)
            assert process.returncode == 0, self.log()
            assert_ends(process.pid)
        return json.loads(out)

    def log(self) -> str:
        return (self.folder / "log.txt").read_text()


def wait_until(ready: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 300
    while not ready():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)


def session(leader: int) -> list[int]:
    """Return the processes of a session that are alive."""
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if fields[0] != "Z" and int(fields[3]) == leader:
                found.append(pid)
    return found


def assert_ends(leader: int, within_s: float = 60.0) -> None:
    """Wait until no process of a session is left."""
    deadline = time.monotonic() + within_s
    while left := session(leader):
        names = [Path(f"/proc/{pid}/cmdline").read_bytes()[:80] for pid in left]
        assert time.monotonic() < deadline, names
        time.sleep(0.1)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory, write_tiny: Callable[..., Path]) -> Path:
    return write_tiny(tmp_path_factory.mktemp("mine"), ENDS_ITS_JOB)


@pytest.fixture
def home(tmp_path: Path, experiment: Path) -> Home:
    return Home(tmp_path, experiment)


def numbers(results: Any) -> Any:
    """Return what a reader would quote: everything but times and places."""
    keys = ("comparisons", "arms", "run_calibration", "curves", "classes")
    assert results["comparisons"][0]["n_pairs"] == 6
    assert all(run["status"] == "finished" for run in results["pairs"])
    return {key: results[key] for key in keys}


@pytest.fixture(scope="module")
def undisturbed(
    experiment: Path, tmp_path_factory: pytest.TempPathFactory, copy_store: Callable[[Path], str]
) -> Any:
    """Return the results of the same benchmark on this machine alone."""
    store, out = copy_store(tmp_path_factory.mktemp("here")), io.StringIO()
    words = ["run", str(experiment), *SEEDS, "--store", store, "--json"]
    with redirect_stdout(out):
        assert cli._run(words) == 0
    return numbers(json.loads(out.getvalue()))


# -- Slurm -----------------------------------------------------------------------------------


@pytest.fixture
def slurm(home: Home) -> Path:
    """Return slurm.py, with a Slurm of this machine."""
    home.write("bin/sbatch", SBATCH)
    home.write("bin/scancel", SCANCEL)
    changes = {'# interface="ib0",': 'interface="lo",', "jobs=4": "jobs=2"}
    return home.write("slurm.py", replaced(block("slurm.py"), changes))


@pytest.mark.by_hand
def test_the_slurm_script_trains_in_jobs_and_replaces_one_that_ends(
    home: Home, slurm: Path, undisturbed: Any
):
    home.write("bin/bench", replaced(PROBE, {"PYTHON": sys.executable, "BIN": str(BIN)}))
    found = home.run(sys.executable, slurm, home.experiment, *SEEDS, "--json", "-q")
    assert numbers(found) == undisturbed
    jobs = [path.read_text() for path in home.jobs.glob("job-????")]
    assert (home.jobs / "ended").exists() and len(jobs) >= 3
    for job in (home.jobs / "ids").read_text().split():
        assert_ends(int(job))

    probed = json.loads((home.jobs / "probed.json").read_text())
    assert (probed["mode"], probed["folder"]) == (0o600, 0o700)
    assert all(worker.startswith("tls://") for worker in probed["with it"]) and probed["with it"]
    assert "certificate" in probed["with another"] and "tcp://" in probed["tcp"]
    assert probed["bench without it"] == probed["bench by tcp"] == 4
    assert not Path(probed["pem"]).parent.exists()
    assert not list(home.folder.rglob("*.pem")) and not list(home.folder.glob(".tls-*"))

    shown = re.search(r"```bash\n(#!/usr/bin/env bash\n.*?)```", DOCUMENT, re.S)
    assert shown
    for job in jobs:
        here = {sys.executable: "PYTHON", " --interface lo": "", probed["pem"]: "PEM"}
        plain = replaced(job, here)
        plain = re.sub(r"tls://127\.0\.0\.1:\d+", "ADDRESS", plain)
        assert re.sub(r"--name \S+", "--name NAME", plain).strip() == shown[1].strip()


@pytest.mark.by_hand
def test_after_ctrl_c_the_slurm_script_waits_for_bench_and_cancels_its_jobs(
    home: Home, slurm: Path
):
    words = (slurm, home.experiment, "--seeds", "40", "--set", "nap=0.2")
    with home.started(sys.executable, *words) as process:
        wait_until(lambda: "pair done" in home.log(), process)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert process.wait(timeout=120) == 130, home.log()
        assert_ends(process.pid)
    assert "interrupted: everything that had finished is recorded." in home.log()
    assert not list(home.folder.glob(".tls-*"))
    for job in (home.jobs / "ids").read_text().split():
        assert_ends(int(job))


# -- SSH -------------------------------------------------------------------------------------


@pytest.fixture
def ssh_cluster(home: Home) -> Path:
    """Return ssh-cluster.sh, with an `ssh` to this machine."""
    home.write("bin/ssh", SSH)
    (home.folder / "bench-env").symlink_to(sys.prefix)
    changes = {"192.168.1.10": "127.0.0.1", "GPUS=2": "GPUS=1", "8786": str(free_port())}
    return home.write("ssh-cluster.sh", replaced(block("ssh-cluster.sh"), changes))


@pytest.mark.by_hand
def test_the_ssh_script_trains_on_every_host_and_leaves_nothing_behind(
    home: Home, ssh_cluster: Path, undisturbed: Any
):
    found = home.run("bash", ssh_cluster, home.experiment, *SEEDS, "--json", "-q")
    assert numbers(found) == undisturbed
    called = "BatchMode=yes ServerAliveInterval=15 /dev/null"
    hosts = sorted((home.jobs / "hosts").read_text().splitlines())
    assert hosts == [f"gpu-a {called}", f"gpu-b {called}"]
    for host in ("gpu-a", "gpu-b"):
        assert "Start worker at" in (home.folder / host / f"dask-{host}.log").read_text()
        assert (home.folder / f"ssh-{host}.log").read_text() == f"a greeting of {host}\n"
    assert "Scheduler at" in (home.folder / "dask-scheduler.log").read_text()
    assert "distributed" not in home.log() and "greeting" not in home.log()


@pytest.mark.by_hand
def test_an_ssh_that_hangs_keeps_the_script_from_nothing(
    home: Home, ssh_cluster: Path, undisturbed: Any
):
    home.environment["HANGS"] = "gpu-b"
    with home.started("bash", ssh_cluster, home.experiment, *SEEDS, "--json", "-q") as process:
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0, home.log()
        names = [Path(f"/proc/{pid}/comm").read_text() for pid in session(process.pid)]
        assert "sleep\n" in names  # it hangs still
    assert numbers(json.loads(out)) == undisturbed


@pytest.mark.by_hand
def test_ctrl_c_reaches_bench_alone_and_the_script_ends_in_order(home: Home, ssh_cluster: Path):
    """Typed at a terminal, of which `script` makes one."""
    typed = f"bash {ssh_cluster} {home.experiment} --seeds 40 --set nap=0.2 2> err.txt"
    err = home.write("err.txt", "")
    with home.started("script", "--quiet", "--return", "--command", typed, "log.txt") as process:
        wait_until(lambda: "pair done" in err.read_text(), process)
        process.stdin.write("\x03")
        process.stdin.flush()
        assert process.wait(timeout=120) == 130
    assert "interrupted: everything that had finished is recorded." in err.read_text()
    assert "resume: bench run" in err.read_text() and "error" not in err.read_text()


# -- Kubernetes ------------------------------------------------------------------------------


def manifests() -> dict[tuple[str, str], Any]:
    """Return what bench.yaml declares, by kind and name."""
    every = yaml.safe_load_all((ROOT / "docs" / "bench.yaml").read_text("utf-8"))
    return {(one["kind"], one["metadata"]["name"]): one["spec"] for one in every}


def pods() -> dict[str, Any]:
    """Return the pod of each Deployment and Job, by its container's name."""
    templates = [spec["template"] for spec in manifests().values() if "template" in spec]
    return {pod["spec"]["containers"][0]["name"]: pod for pod in templates}


def test_the_commands_of_the_pods_train_as_processes(home: Home, undisturbed: Any, bench: Any):
    port = str(free_port())
    here = {
        "bench-scheduler:8786": f"127.0.0.1:{port}",
        "0.0.0.0": "127.0.0.1",
        "8786": port,
        "20": SEEDS[1],
        "/experiment/my_experiment.py": str(home.experiment),
        "/results": str(home.folder),
    }
    commands = {}
    for name, pod in pods().items():
        text = json.dumps(pod["spec"]["containers"][0]["command"])
        for old, new in here.items():
            text = text.replace(old, new)
        commands[name] = json.loads(text)
    with ExitStack() as running:
        for name in ("scheduler", "worker"):
            running.enter_context(home.started(*commands[name]))
        process = running.enter_context(home.started(*commands["bench"]))
        assert process.wait(timeout=300) == 0, home.log()
    store = f"sqlite:///{home.folder}/mlflow.db"
    assert numbers(bench("report", "--json", "--store", store).json) == undisturbed


def test_the_pods_find_each_other_and_nobody_else_finds_them():
    declared, found = manifests(), pods()
    service = declared["Service", "bench-scheduler"]
    port = service["ports"][0]["port"]
    assert found["scheduler"]["metadata"]["labels"].items() >= service["selector"].items()
    assert str(port) in found["scheduler"]["spec"]["containers"][0]["command"]
    for name in ("worker", "bench"):
        assert f"tcp://bench-scheduler:{port}" in found[name]["spec"]["containers"][0]["command"]
    for (kind, _), spec in declared.items():
        if kind == "Deployment":
            labels = spec["template"]["metadata"]["labels"]
            assert labels.items() >= spec["selector"]["matchLabels"].items()
    rules = declared["NetworkPolicy", "bench-only"]
    ours = rules["podSelector"]["matchLabels"]
    assert rules["ingress"] == [{"from": [{"podSelector": {"matchLabels": ours}}]}]
    assert all(pod["metadata"]["labels"].items() >= ours.items() for pod in found.values())


def test_a_pod_has_as_many_workers_as_gpus_and_the_images_and_volumes_are_one():
    found = {name: pod["spec"] for name, pod in pods().items()}
    every = {name: spec["containers"][0] for name, spec in found.items()}
    words, gpus = every["worker"]["command"], every["worker"]["resources"]["limits"]
    assert words[words.index("--nworkers") + 1] == str(gpus["nvidia.com/gpu"])
    assert words[words.index("--nthreads") + 1] == "1"
    assert len({container["image"] for container in every.values()}) == 1
    (volume,), (mount,) = found["bench"]["volumes"], every["bench"]["volumeMounts"]
    assert mount["name"] == volume["name"]
    assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in manifests()
    assert f"sqlite:///{mount['mountPath']}/mlflow.db" in every["bench"]["command"]


def test_the_kubernetes_script_applies_the_manifest_with_the_image_that_it_builds(home: Home):
    home.write("bin/docker", '#!/bin/sh\necho "$@" >> docker-got\n')
    kubectl = 'echo "$@" >> kubectl-got\n[ "$1" = delete ] || cat > applied.yaml\n'
    home.write("bin/kubectl", f"#!/bin/sh\n{kubectl}")
    (home.folder / "docs").symlink_to(ROOT / "docs")
    script = home.write("kubernetes.sh", block("kubernetes.sh"))
    with home.started("bash", script, "here:5000/mine:2") as process:
        assert process.wait(timeout=60) == 0, home.log()
    built, pushed = (home.folder / "docker-got").read_text().splitlines()
    assert built == "build --tag here:5000/mine:2 --file docs/Dockerfile ."
    assert pushed == "push here:5000/mine:2"
    deleted, given = (home.folder / "kubectl-got").read_text().splitlines()
    assert deleted == "delete job bench-run --ignore-not-found" and given == "apply -f -"
    applied = list(yaml.safe_load_all((home.folder / "applied.yaml").read_text()))
    images = re.findall(r"image: (.*)", (home.folder / "applied.yaml").read_text())
    assert len(applied) == len(manifests()) and set(images) == {"here:5000/mine:2"}


def test_the_image_copies_what_is_there_and_installs_what_it_copies(tmp_path: Path):
    text = (ROOT / "docs" / "Dockerfile").read_text("utf-8")
    for line in re.findall(r"^COPY (.*)$", text, re.M)[:-1]:  # the last is the user's experiment
        *sources, target = line.split()
        assert target.startswith("/opt/bench/")
        for source in sources:
            to = tmp_path / target.removeprefix("/opt/bench/")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, to, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, to)
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "bench/cli.py" in zipfile.ZipFile(next(tmp_path.glob("dist/*.whl"))).namelist()


# -- encryption ------------------------------------------------------------------------------


def test_with_a_certificate_a_cluster_trains_and_without_one_it_refuses(
    home: Home, undisturbed: Any, bench: Any, copy_store: Callable[[Path], str]
):
    subprocess.run(
        ["bash", home.write("tls.sh", block("tls.sh"))], env=home.environment, check=True,
        capture_output=True,
    )  # fmt: skip
    assert (home.folder / ".config/dask/key.pem").stat().st_mode & 0o077 == 0
    port = free_port()
    address = f"tls://127.0.0.1:{port}"
    words = ("run", home.experiment, *SEEDS, "--backend", "dask", "--address", address)
    words = (*words, "--json", "-q", "--store", copy_store(home.folder))
    scheduler = shlex.split(f"dask scheduler --host 127.0.0.1 --port {port} --no-dashboard")
    worker = shlex.split(f"dask worker {address} --no-dashboard --nworkers 1 --nthreads 1")
    with home.started(*scheduler, "--protocol", "tls"), home.started(*worker):
        assert numbers(home.run("bench", *words)) == undisturbed
        said = bench(*words)  # in this process, which has no certificate
    assert said.status == 4 and "asks for a certificate" in said.json["error"]["message"]
