"""Real fork servers with experiments whose trainings are a few lines of each test."""

import itertools
import os
import sys
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bench.design.plan import TrialKey
from bench.design.results import Failure, Job, Result, Success
from bench.execution import scheduling
from bench.execution.base import Closing, Message
from bench.execution.devices import Slot, cpu_slots
from bench.execution.processes import Processes
from bench.execution.server import Server

TAG = "BENCH_TEST_TAG"  # by which all that a server started is found in /proc

# Two arms, "off" with x = 0 and "on" with x = 1; `body` is a training.
SCORED = '''"""An experiment of a test."""
import contextlib, ctypes, itertools, multiprocessing, os, random, signal, subprocess, sys
import textwrap, threading, time
from pathlib import Path
import numpy as np
from bench import Experiment, Outcome, Predictions, Trial

HERE = Path({folder!r})
{top}

def score(value=1.0, **facts):
    return Outcome(scores={{"return": value}}, facts=facts)


def train(trial):
    {body}


EXPERIMENT = Experiment(name="scored", question="?", metric="return", train=train,
    arms={{"off": {{"x": 0}}, "on": {{"x": 1}}}}, {extra})
'''

# Trains whatever text stands in its settings, so that many tests share one server.
CODED = """code = "def body(trial):\\n" + textwrap.indent(trial.settings["code"], "    ")
exec(compile(code, "code", "exec"), globals())
return body(trial)"""


@dataclass
class Trained:
    """What a run brought: its results, what was said meanwhile, the failures tried again."""

    results: dict[TrialKey, Result] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)
    retries: list[Failure] = field(default_factory=list)

    def __getitem__(self, run: tuple[str, int]) -> Result:
        return self.results[TrialKey(*run)]

    def success(self, arm: str = "on", seed: int = 0) -> Success:
        result = self[arm, seed]
        assert isinstance(result, Success), (result.what, result.facts, result.traceback)
        return result

    def failure(self, arm: str = "on", seed: int = 0) -> Failure:
        result = self[arm, seed]
        assert isinstance(result, Failure), result
        return result

    def score(self, arm: str = "on", seed: int = 0) -> float:
        return self.success(arm, seed).outcome.scores["return"]

    def facts(self, arm: str = "on", seed: int = 0) -> Any:
        return self.success(arm, seed).outcome.facts

    @property
    def scores(self) -> dict[tuple[str, int], float]:
        """The scores of those that finished."""
        return {(k.arm, k.seed): self.score(k.arm, k.seed) for k in self.results if self.ok(k)}

    def ok(self, key: TrialKey) -> bool:
        return isinstance(self.results[key], Success)

    def epochs(self, arm: str, seed: int = 0) -> list[tuple[int, int]]:
        """Return (attempt, epoch) of what a training said while it ran, in order."""
        return [
            (m["attempt"], m["row"]["epoch"])
            for m in self.messages
            if m["type"] == "epoch" and (m["arm"], m["seed"]) == (arm, seed)
        ]

    @property
    def notices(self) -> list[str]:
        return [m["text"] for m in self.messages if m["type"] == "notice"]


class InProcess(Closing):
    """An executor that answers every job at once, in the order in which the jobs are given."""

    def __init__(
        self, answer: Callable[[TrialKey], Result], on_close: Callable[[], None] = lambda: None
    ) -> None:
        self.answer, self.on_close = answer, on_close
        self.jobs: list[Job] = []
        self.retried: list[Failure] = []  # what is told to have been tried again
        self.closed = 0
        self.deliver: Callable[[Message], None] = lambda message: None
        self.woken = 0

    def listen(self, deliver: Callable[[Message], None]) -> None:
        self.deliver = deliver

    def wake(self) -> None:
        self.woken += 1

    def run(
        self,
        jobs: Sequence[Job],
        *,
        stop: Callable[[], bool] = lambda: False,
        on_retry: Callable[[Failure], None] = lambda failure: None,
        check: Callable[[], None] = lambda: None,
    ) -> Generator[list[Result], None, None]:
        for job in jobs:
            check()
            if stop():
                return
            self.jobs.append(job)
            for failure in self.retried:
                if failure.key in job.keys:
                    on_retry(failure)
            for key in job.keys:
                row = {"epoch": 0, "time": 1.0}
                self.deliver({"type": "epoch", "arm": key.arm, "seed": key.seed, "row": row})
            yield [self.answer(key) for key in job.keys]
        check()

    def close(self) -> None:
        if self.jobs and not self.closed:
            self.on_close()
        self.closed += 1


@pytest.fixture(scope="session")
def in_process() -> type[InProcess]:
    """Return the executor of the unit tests."""
    return InProcess


@pytest.fixture(autouse=True)
def _leases_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take leases in a folder of the test's own."""
    leases = scheduling.Leases(tmp_path / "leases")
    monkeypatch.setattr(scheduling, "Leases", lambda: leases)


@pytest.fixture
def scored(tmp_path: Path) -> Callable[..., str]:
    """Return what writes an experiment with the body of its `train`, and gives its path."""
    numbers = itertools.count()

    def write(body: str, *, top: str = "", extra: str = "", name: str = "") -> str:
        path = tmp_path / (name or f"scored_{tmp_path.name[-12:]}_{next(numbers)}.py")
        text = body.strip("\n").replace("\n", "\n    ")
        path.write_text(SCORED.format(folder=str(tmp_path), body=text, extra=extra, top=top))
        return str(path)

    return write


def _coded(folder: Path, top: str = "") -> str:
    path = folder / f"coded_{uuid.uuid4().hex[:8]}.py"
    body = CODED.replace("\n", "\n    ")
    path.write_text(SCORED.format(folder=str(folder), body=body, extra="", top=top))
    return str(path)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server whose trainings are given as text."""
    with Server(_coded(tmp_path_factory.mktemp("coded"))) as running:
        yield running


@pytest.fixture(scope="session")
def torch_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return the same, with torch imported."""
    with Server(_coded(tmp_path_factory.mktemp("coded"), top="import torch")) as running:
        yield running


@pytest.fixture
def jobs_of() -> Callable[..., list[Job]]:
    """Return what makes a server's jobs, one a trial or one a pack of seeds."""
    return _jobs


def _jobs(
    server: Server,
    seeds: int = 1,
    *,
    code: str = "",
    pack_seeds: int = 0,
    timeout_s: float | None = None,
    **more: Any,
) -> list[Job]:
    found = server.found
    said = found.experiment
    arms = {arm: {**said.settings, **own} for arm, own in said.arms.items()}
    if code:
        arms = {arm: {**settings, "code": code.strip("\n")} for arm, settings in arms.items()}
    keys = [TrialKey(arm, seed) for seed in range(seeds) for arm in arms]
    size = pack_seeds * len(arms) or 1
    packs = [tuple(keys[i : i + size]) for i in range(0, len(keys), size)]
    digest = more.pop("digest", found.source_digest)
    more = {"source_files": found.files, **more}
    return [
        Job(n, pack, arms, found.reference, digest, None, timeout_s, **more)
        for n, pack in enumerate(packs)
    ]


@pytest.fixture
def train() -> Callable[..., Trained]:
    """Return what trains an experiment to its end."""
    return _train


def _train(
    on: Server | str,
    seeds: int = 1,
    *,
    code: str = "",
    slots: int | list[Slot] = 2,
    retries: int = 1,
    fork: bool = sys.platform == "linux",
    **how: Any,
) -> Trained:
    trained = Trained()
    with ExitStack() as stack:
        server = on if isinstance(on, Server) else stack.enter_context(Server(on, fork=fork))
        jobs = _jobs(server, seeds, code=code, **how)
        chosen = cpu_slots(slots) if isinstance(slots, int) else slots
        running = Processes(server, chosen, trained.messages.append, retries=retries)
        with running:
            for results in running.run(jobs, on_retry=trained.retries.append):
                for result in results:
                    assert result.key not in trained.results
                    trained.results[result.key] = result
        assert len(trained.results) == sum(len(job.keys) for job in jobs)
    return trained


@pytest.fixture
def run(server: Server) -> Callable[..., Trained]:
    """Return what trains a few lines of Python, once an arm and seed, on the shared server."""
    return lambda code, seeds=1, **how: _train(server, seeds, code=code, **how)


# -- processes -----------------------------------------------------------------------------------


@pytest.fixture
def tag(monkeypatch: pytest.MonkeyPatch) -> str:
    """Mark all that the test starts from now on."""
    found = uuid.uuid4().hex
    monkeypatch.setenv(TAG, found)
    return found


@pytest.fixture
def living() -> Callable[[str], list[int]]:
    """Return what finds the processes that have a text in their environment or command line."""
    return _living


def _living(text: str) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                said = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if text.encode() in said.replace(b"\0", b" "):  # a zombie has neither
                found.append(int(folder.name))
    return found


@pytest.fixture
def until() -> Callable[..., bool]:
    """Return what waits for a condition, and says whether it came."""
    return _until


def _until(condition: Callable[[], Any], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False
