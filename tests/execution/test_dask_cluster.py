"""A real dask cluster of two worker processes on this machine, one of which is killed."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

from bench.design import loading  # noqa: E402
from bench.design.plan import Plan  # noqa: E402
from bench.design.results import Success  # noqa: E402
from bench.execution import dask_cluster as machines  # noqa: E402
from bench.execution.base import Options  # noqa: E402
from bench.execution.dask_cluster import Cluster, ClusterTrouble  # noqa: E402
from bench.execution.resume import jobs  # noqa: E402
from bench.store.mlflow_store import Store  # noqa: E402

Bench = Callable[..., Any]
# dask's own processes and sockets outlive a test by moments; they are not what is tested.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def dask_cluster() -> Iterator[Any]:
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0",
        host="127.0.0.1",
    ) as running:  # fmt: skip
        yield running


@pytest.fixture
def address(dask_cluster: Any) -> str:
    return str(dask_cluster.scheduler_address)


def pids(address: str) -> set[int]:
    with distributed.Client(address, set_as_default=False) as client:
        return set(client.run(os.getpid).values())


def test_a_benchmark_over_two_machines_gives_the_bits_of_one(
    tmp_path: Path, address: str, write_tiny: Callable[..., Path],
    copy_store: Callable[[Path], str], bench: Bench,
):  # fmt: skip
    source = write_tiny(tmp_path)
    words = ("run", source, "--seeds", 6, "--json", "-q")
    here = bench(*words, "--workers", 2, "--store", copy_store(tmp_path / "here"))
    there = bench(
        *words, "--backend", "dask", "--address", address, "--store", copy_store(tmp_path / "there")
    )
    assert here.status == there.status == 0
    keys = ("comparisons", "arms", "run_calibration", "curves", "classes")
    assert {k: here.json[k] for k in keys} == {k: there.json[k] for k in keys}


def test_a_machine_that_dies_in_mid_run_loses_nothing(
    tmp_path: Path, address: str, write_tiny: Callable[..., Path],
    copy_store: Callable[[Path], str], bench: Bench,
):  # fmt: skip
    marks = tmp_path / "marks"
    marks.mkdir()
    body = f"open(os.path.join({str(marks)!r}, str(os.getpid())), 'w').close()"
    source = write_tiny(tmp_path, body)
    killed: list[int] = []  # a dask worker, with what trains below it

    def kill_one_that_trains() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and len(list(marks.iterdir())) < 2:
            time.sleep(0.05)
        victim = min(pids(address))
        killed.append(victim)
        os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill_one_that_trains)
    killer.start()
    said = bench(
        "run", source, "--seeds", 10, "--set", "nap=0.1", "--backend", "dask", "--address", address,
        "--store", copy_store(tmp_path / "store"), "--json", "-q",
    )  # fmt: skip
    killer.join()
    assert killed and said.status == 0
    assert said.json["comparisons"][0]["n_pairs"] == 10
    assert all(run["status"] == "finished" for run in said.json["pairs"])


def test_every_plan_of_a_command_trains_on_the_cluster(
    tmp_path: Path, address: str, write_tiny: Callable[..., Path],
    copy_store: Callable[[Path], str], bench: Bench,
):  # fmt: skip
    said = bench(
        "run", write_tiny(tmp_path), "--seeds", 2, "--vary", "init", "--backend", "dask",
        "--address", address, "--store", copy_store(tmp_path / "store"), "--no-report", "--json",
    )  # fmt: skip
    assert said.status == 0 and said.json["trained"] == 8, said.err


def test_a_training_that_fails_there_is_a_failure_here(
    tmp_path: Path, address: str, write_tiny: Callable[..., Path],
    copy_store: Callable[[Path], str], bench: Bench,
):  # fmt: skip
    source = write_tiny(tmp_path, "if trial.seed == 2: raise ValueError('no such layer')")
    said = bench(
        "run", source, "--seeds", 6, "--backend", "dask", "--address", address,
        "--store", copy_store(tmp_path / "store"), "-q",
    )  # fmt: skip
    assert said.status == 3 and "seed 02" in said.err and "no such layer" in said.err


def test_a_scheduler_that_goes_in_mid_run_loses_only_what_was_in_training(
    tmp_path: Path, address: str, write_tiny: Callable[..., Path],
    copy_store: Callable[[Path], str], bench: Bench,
):  # fmt: skip
    marks = tmp_path / "marks"
    marks.mkdir()
    mark = f"os.path.join({str(marks)!r}, f'{{trial.arm}} {{trial.seed}} {{time.time()}}')"
    source = write_tiny(tmp_path, f"open({mark}, 'w').close()")
    words = ("run", source, "--seeds", 6, "--set", "nap=0.1", "--no-report", "--backend", "dask")
    words = (*words, "--store", copy_store(tmp_path / "store"), "--address")

    def close_when_some_have_finished() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and len(list(marks.iterdir())) < 4:
            time.sleep(0.05)
        own.close()

    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0",
        host="127.0.0.1",
    ) as own:  # fmt: skip
        closer = threading.Thread(target=close_when_some_have_finished)
        closer.start()
        said = bench(*words, own.scheduler_address)
        closer.join()
    assert said.status == 4 and "Traceback" not in said.err
    assert f"the dask scheduler at {own.scheduler_address} has gone." in said.err
    finished = said.err.count("run done")
    assert 3 <= finished < 12
    last = bench(*words, address)
    assert last.status == 0 and last.err.count("run done") == 12 - finished


def test_an_experiment_that_was_edited_meanwhile_is_imported_anew(
    tmp_path: Path, address: str, write_tiny: Callable[..., Path],
    copy_store: Callable[[Path], str], bench: Bench,
):  # fmt: skip
    source = write_tiny(tmp_path)
    words = ("run", source, "--seeds", 2, "--backend", "dask", "--address", address)
    words = (*words, "--no-report", "-q", "--store", copy_store(tmp_path / "store"))
    assert bench(*words).status == 0
    source.write_text(source.read_text().replace("* trial.settings", "* 2 * trial.settings"))
    said = bench(*words)
    assert said.status == 0, said.err


def test_a_failure_that_was_tried_again_there_is_recorded_here(
    tmp_path: Path, address: str, write_tiny: Callable[..., Path],
    copy_store: Callable[[Path], str], bench: Bench,
):  # fmt: skip
    mark = f"os.path.join({str(tmp_path)!r}, 'tried')"
    body = f"if (trial.arm, trial.seed) == ('weak', 1) and not os.path.exists({mark}):\n"
    body += f"    open({mark}, 'w').close()\n    raise MemoryError('only once')"
    uri = copy_store(tmp_path / "store")
    said = bench(
        "run", write_tiny(tmp_path, body), "--seeds", 2, "--backend", "dask", "--address", address,
        "--store", uri, "--no-report",
    )  # fmt: skip
    assert said.status == 0, said.err
    assert said.err.count("run retried seed=1") == 1 and "MemoryError: only once" in said.err
    store = Store(uri)
    [benchmark] = store.benchmarks()
    tried = [[c.status for c in runs] for runs in store.children(benchmark).values()]
    assert sorted(map(sorted, tried)) == [["FAILED", "FINISHED"], *3 * [["FINISHED"]]]


def test_epochs_are_heard_while_they_are_trained(
    tmp_path: Path, address: str, write_tiny: Callable[..., Path], plan_of: Callable[..., Plan]
):
    found = loading.discover(str(write_tiny(tmp_path)))
    heard: list[dict[str, Any]] = []
    with Cluster(address) as cluster:
        cluster.listen(heard.append)
        todo = jobs(plan_of(found, range(2)), found, Options(), ())
        results = [r for some in cluster.run(todo) for r in some]
        deadline = time.monotonic() + 10
        while len(heard) < 16 and time.monotonic() < deadline:
            time.sleep(0.02)
    assert [type(r) for r in results] == 4 * [Success]
    assert Counter(m["type"] for m in heard) == {"start": 4, "epoch": 12}
    assert all(m["passing"] for m in heard)
    starts = [m for m in heard if m["type"] == "start"]
    assert len({m["slot"] for m in starts}) <= 2 and {m["device"] for m in starts} == {"cpu"}


# -- what only the workers know --------------------------------------------------------------

PACKED = (
    "train_pack=lambda trials: [train(t) for t in trials], "
    "pack_seeds=lambda settings, device: {size}, "
)


def test_packs_counts_and_devices_are_the_workers(
    tmp_path: Path, address: str, write_tiny: Callable[..., Path],
    copy_store: Callable[[Path], str], bench: Bench, monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.setenv("BENCH_TEST_LOGIN_NODE", "1")  # the workers started without it
    size = "1 if 'BENCH_TEST_LOGIN_NODE' in os.environ else 3"
    source = write_tiny(tmp_path, extra=PACKED.format(size=size))
    monkeypatch.setattr("bench.execution.provenance.device_names", lambda slots: ["a login node's"])
    uri = copy_store(tmp_path / "store")
    words = ("run", source, "--seeds", 4, "--workers", 1, "--backend", "dask", "--address", address)
    said = bench(*words, "--store", uri, "--no-report")
    assert said.status == 0, said.err
    assert "2 workers" in said.err
    [benchmark] = Store(uri).benchmarks()
    assert benchmark.plan.pack_seeds == 3
    assert Store(uri).provenance(benchmark)[0]["devices"] == ["cpu"]
    assert bench(*words, "--store", uri, "--dry-run").status == 2  # this machine cannot time them


def test_settings_that_no_worker_can_train_with_are_refused_by_them(
    tmp_path: Path, address: str, write_tiny: Callable[..., Path], bench: Bench
):
    refusal = "exec('from bench.experiment import BadOutcome; raise BadOutcome(\"no tf32 here.\")')"
    source = write_tiny(tmp_path, extra=PACKED.format(size=refusal))
    words = ("--backend", "dask", "--address", address, "--store", f"sqlite:///{tmp_path}/new.db")
    said = bench("run", source, *words)
    assert said.status == 3 and "error[outcome]: no tf32 here." in said.err


# -- before anything is trained --------------------------------------------------------------


def test_machines_that_differ_are_named(address: str, monkeypatch: pytest.MonkeyPatch):
    theirs = machines.__version__
    monkeypatch.setattr(machines, "__version__", "9.9")  # in this process; workers have their own
    with pytest.raises(ClusterTrouble) as caught:
        Cluster(address)
    assert any(f"has bench {theirs}, this machine 9.9." in fact for fact in caught.value.facts)
    assert caught.value.exit_status == 4


@contextlib.contextmanager
def dask_worker(address: str, name: str, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a real worker process that finds modules in `path` before all others."""
    known = [str(path), str(Path(machines.__file__).parents[1])]
    words = ["-m", "distributed.cli.dask_worker", address, "--name", name, "--nthreads", "1"]
    with subprocess.Popen(
        [sys.executable, *words, "--no-nanny", "--no-dashboard"],
        cwd=path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(known)},
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def test_workers_unlike_us_are_named_and_train_nothing_even_if_they_come_late(
    tmp_path: Path, write_tiny: Callable[..., Path], plan_of: Callable[..., Plan]
):
    other, lacking = tmp_path / "other", tmp_path / "lacking"
    (other / "torch-9.9.dist-info").mkdir(parents=True)
    (other / "torch-9.9.dist-info" / "METADATA").write_text("Name: torch\nVersion: 9.9\n")
    lacking.mkdir()
    (lacking / "bench.py").write_text("raise ImportError('bench is not installed here')\n")
    found = loading.discover(str(write_tiny(tmp_path, "time.sleep(0.2)")))
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0",
            host="127.0.0.1",
        ) as own,
        Cluster(own.scheduler_address) as early,
        dask_worker(own.scheduler_address, "other", other),
        dask_worker(own.scheduler_address, "lacking", lacking),
    ):  # fmt: skip
        early._client.wait_for_workers(3, timeout=60)
        who = {w["name"]: name for name, w in early._workers().items()}
        with pytest.raises(ClusterTrouble) as caught:
            Cluster(own.scheduler_address)
        theirs = machines.versions()["torch"]
        [version, broken] = sorted(caught.value.facts, key=lambda fact: "import" in fact)
        assert version == f"{who['other']} has torch 9.9, this machine {theirs}."
        assert broken.startswith(f"{who['lacking']} cannot import bench: ")
        assert "ImportError('bench is not installed here')" in broken
        todo, retried = jobs(plan_of(found, range(4)), found, Options(), ()), []
        results = [r for some in early.run(todo, on_retry=retried.append) for r in some]
        assert len(results) == 8 and all(isinstance(r, Success) for r in results)
        assert {failure.what for failure in retried} == {
            f"the worker {who['other']} has torch 9.9, this machine {theirs}. It trains nothing."
        }
        again = {failure.key for failure in retried}  # the worker that cannot import never answers
        assert {r.key for r in results if r.attempt == 2} == again
        while who["other"] in early._workers():
            time.sleep(0.05)


def test_a_pack_that_meets_such_workers_again_and_again_fails(
    tmp_path: Path, write_tiny: Callable[..., Path], plan_of: Callable[..., Plan],
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.setattr(distributed, "get_worker", lambda: SimpleNamespace(address="tcp://odd:1"))
    found = loading.discover(str(write_tiny(tmp_path)))
    [job, *_] = jobs(plan_of(found), found, Options(), ())
    expected = {**machines.versions(), "torch": "9.9"}
    for attempt in range(1, machines.MOST_UNLIKE + 2):
        answer = machines.train_here(replace(job, attempt=attempt), 0, expected, "topic")
        fails = attempt > machines.MOST_UNLIKE
        assert answer.unlike == "tcp://odd:1" and bool(answer.results) == fails
        [failure] = answer.results if fails else answer.retried
        assert failure.attempt == attempt and "It trains nothing." in failure.what


def test_a_scheduler_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machines, "CONNECT_S", "0.5s")
    with pytest.raises(ClusterTrouble, match="no dask scheduler answers at tcp://127.0.0.1:1"):
        Cluster("tcp://127.0.0.1:1")


def test_a_scheduler_without_workers_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machines, "FIRST_WORKER_S", 0.5)
    with (
        distributed.LocalCluster(
            n_workers=0, processes=True, dashboard_address=":0", host="127.0.0.1"
        ) as empty,
        pytest.raises(ClusterTrouble, match="has no workers"),
    ):
        Cluster(empty.scheduler_address)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--backend", "ray"), "is not processes or dask"),
        (("--backend", "dask"), "--address is missing"),
        (("--address", "tcp://127.0.0.1:1"), "--backend dask is missing"),
        (("--backend", "dask", "--address", "127.0.0.1:1"), "is not that of a dask scheduler"),
        (("--backend", "dask", "--address", "tcp://127.0.0.1"), "is not that of a dask scheduler"),
    ],
)
def test_half_a_backend_is_refused(words: tuple[str, ...], says: str, bench: Bench):
    said = bench("run", "digits", *words)
    assert said.status == 2 and says in said.err
