"""What every executor owes to the runner; a new one joins in `executor`."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.design.plan import TrialKey
from bench.design.results import Failure, Job, Result, Success
from bench.execution.base import Executor, Message
from bench.execution.devices import cpu_slots
from bench.execution.processes import Processes
from bench.execution.server import Server
from bench.experiment import Outcome

# dask's own processes and sockets outlive a test by moments; they are not what is tested.
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="guards"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]
KINDS = ["in process", "processes", pytest.param("dask", marks=pytest.mark.thorough)]
WRONG = TrialKey("on", 1)
# What each of them trains: one run of these fails.
CODE = f"""
trial.log(0, {{"loss": 1.0}})
if (trial.arm, trial.seed) == ({WRONG.arm!r}, {WRONG.seed}):
    raise ValueError("no such layer")
return score()
"""


def answer(key: TrialKey) -> Result:
    """Answer as CODE does, without training."""
    if key == WRONG:
        return Failure(key=key, code="training", what="ValueError: no such layer")
    values: dict[str, Any] = {"epochs": [], "duration_s": 1.0, "started_at": 0.0, "log": ""}
    outcome = Outcome(scores={"return": 1.0})
    return Success(key=key, outcome=outcome, device="cpu", threads=1, **values)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    distributed = pytest.importorskip("distributed", reason="the extra `cluster` is missing")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", host="127.0.0.1"
    ) as running:
        yield str(running.scheduler_address)


@pytest.fixture(params=KINDS)
def executor(
    request: pytest.FixtureRequest, server: Server, in_process: Callable[..., Any]
) -> Iterator[Executor]:
    """Return each kind of executor, closed twice at the end: closing is idempotent."""
    if request.param == "in process":
        running = in_process(answer)
    elif request.param == "processes":
        running = Processes(server, cpu_slots(2))
    else:
        from bench.execution.dask_cluster import Cluster

        running = Cluster(request.getfixturevalue("address"))
    yield running
    running.close()
    running.close()


@pytest.fixture
def jobs(server: Server, jobs_of: Callable[..., list[Job]]) -> list[Job]:
    """Return eight jobs of one run each."""
    return jobs_of(server, 4, code=CODE)


def test_every_job_is_answered_once_with_the_runs_that_it_holds(
    executor: Executor, server: Server, jobs_of: Callable[..., list[Job]]
):
    jobs = jobs_of(server, 4, code=CODE, pack_seeds=2)
    found = list(executor.run(jobs))
    assert sorted(len(results) for results in found) == [4, 4]
    keys = {frozenset(result.key for result in results) for results in found}
    assert keys == {frozenset(job.keys) for job in jobs}


def test_a_run_that_fails_is_told_and_the_others_go_on(executor: Executor, jobs: list[Job]):
    results = {result.key: result for some in executor.run(jobs) for result in some}
    failed = results.pop(WRONG)
    assert isinstance(failed, Failure) and "no such layer" in failed.what
    assert len(results) == 7 and all(isinstance(r, Success) for r in results.values())


def test_what_trainings_say_is_heard(executor: Executor, jobs: list[Job], until: Any):
    heard: list[Message] = []
    executor.listen(heard.append)
    for _ in executor.run(jobs):
        pass
    keys = {key for job in jobs for key in job.keys}
    assert until(lambda: {TrialKey(m["arm"], m["seed"]) for m in epochs(heard)} == keys)
    assert len(epochs(heard)) == len(keys)
    assert {message["row"]["epoch"] for message in epochs(heard)} == {0}


def epochs(heard: list[Message]) -> list[Message]:
    return [message for message in heard if message["type"] == "epoch"]


def test_nothing_is_started_once_it_is_to_stop(executor: Executor, jobs: list[Job]):
    assert list(executor.run(jobs, stop=lambda: True)) == []


def test_after_a_stop_nothing_more_is_started_and_what_trains_is_answered(
    executor: Executor, jobs: list[Job]
):
    found: list[Result] = []
    for results in executor.run(jobs, stop=lambda: len(found) > 0):
        found.extend(results)
    assert 1 <= len(found) < len(jobs)
    assert len({result.key for result in found}) == len(found)


def test_a_check_that_raises_ends_the_run_and_another_may_follow(
    executor: Executor, jobs: list[Job]
):
    def check() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(executor.run(jobs, check=check))
    assert len([result for some in executor.run(jobs) for result in some]) == 8


def test_a_wake_between_runs_is_in_nobodys_way(executor: Executor, jobs: list[Job]):
    executor.wake()
    checked: list[bool] = []
    found = list(executor.run(jobs[:2], check=lambda: checked.append(True)))
    assert len(found) == 2 and checked
