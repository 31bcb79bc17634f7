"""Executor on Slurm: jobs that take trainings from a shared folder, and put their answers there.

Each slot is one job, which supervises trainings as this machine would (`slurm_job`). A training is
a file that a job claims by renaming it; an answer is a folder that appears by a rename. This
process alone writes the store. If it dies nothing is lost: the jobs go on with what they have
claimed, and the same command collects their answers. Submitted through submitit.

    requests/NAME.json          to be trained; claimed/NAME.JOB.json: being trained
    answers/NAME/               what became of it
    messages/NAME.jsonl         its epochs, while it trains
    folders/                    the runs' own folders, until they are recorded
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.analysis.data.format import count
from bench.analysis.errors import Refusal, text_of
from bench.design.plan import digest
from bench.design.results import Failure, Job, Result
from bench.execution import answers
from bench.execution.base import Closing, Message
from bench.execution.dask_cluster import versions
from bench.execution.devices import Slot
from bench.execution.server import tail

REQUESTS, CLAIMED, ANSWERS, MESSAGES, LOGS, FOLDERS = (
    "requests", "claimed", "answers", "messages", "logs", "folders"
)  # fmt: skip
SETTINGS, TROUBLE, STOP, RETRIED = "settings.json", "trouble.txt", "stop", "retried.json"
JOBS = "jobs.json"
LOOK_S = 0.5  # between two looks at the folder
ASK_S = 2.0  # between two questions to Slurm
MOST_LOST = 3  # jobs that may end while they train one and the same request
LIVE = ("PENDING", "RUNNING", "CONFIGURING", "SUSPENDED", "REQUEUED", "RESIZING", "STAGE_OUT")


class SlurmTrouble(Refusal):
    """No Slurm here, or jobs that it does not take."""

    code = "slurm"
    exit_status = 4


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What is asked of Slurm for each job."""

    jobs: int = 4
    partition: str | None = None
    account: str | None = None
    minutes: float | None = None
    gres: str | None = None

    def parameters(self) -> dict[str, Any]:
        """Return them as submitit calls them."""
        named = {"partition": self.partition, "account": self.account, "gres": self.gres}
        given: dict[str, Any] = {name: value for name, value in named.items() if value}
        minutes = max(1, round(self.minutes)) if self.minutes else 24 * 60
        return {**given, "time": minutes, "job_name": "bench", "use_srun": False}


class Slurm(Closing):
    """An executor: jobs of a Slurm cluster that shares this folder.

    Parameters
    ----------
    folder : the benchmark's own, which all machines see under the same path
    reference : by which a job finds the experiment
    ask : of Slurm
    retries : how often a job tries a pack again after a crash or a lack of memory

    Raises
    ------
    SlurmTrouble : no sbatch here, or submitit is not installed
    """

    def __init__(self, folder: Path, reference: str, ask: Ask, *, retries: int = 1) -> None:
        try:
            from submitit.slurm.slurm import SlurmExecutor
        except ImportError:
            raise SlurmTrouble(
                "--backend slurm needs the package submitit.",
                fix="pip install 'bench-paired[slurm]'",
            ) from None
        if shutil.which("sbatch") is None:
            raise SlurmTrouble(
                "there is no Slurm on this machine: sbatch is not on PATH.",
                fix="log in to a node from which jobs are submitted, or leave out",
                without=["backend"],
            )
        self._folder, self._ask = folder.absolute(), ask
        for name in (REQUESTS, CLAIMED, ANSWERS, MESSAGES, LOGS, FOLDERS):
            (self._folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        (self._folder / STOP).unlink(missing_ok=True)
        (self._folder / TROUBLE).unlink(missing_ok=True)
        settings = {"reference": reference, "retries": retries, "versions": versions()}
        _write(self._folder / SETTINGS, settings)
        self._submit: Callable[[Any], Any] = self._submitter(SlurmExecutor)
        self._jobs: list[str] = _read(self._folder / JOBS) or []
        self._states: Mapping[str, tuple[str, str]] = {}  # of the live ones, and why they wait
        self._asked_at = 0.0
        self._deliver: Callable[[Message], None] = lambda message: None
        self._heard: dict[str, int] = {}  # bytes read of each file of messages
        self._told = ""
        self._lost = 0  # jobs that ended, since the last answer

    @property
    def devices(self) -> list[str]:
        """What to record of where it trained; each run knows its own device."""
        return [f"{count(self._ask.jobs, 'Slurm job')}"]

    def _submitter(self, executor: Any) -> Callable[[Any], Any]:
        made = executor(folder=self._folder / LOGS, python=f"{sys.executable} -P")
        made.update_parameters(**self._ask.parameters())
        submit: Callable[[Any], Any] = made.submit
        return submit

    def listen(self, deliver: Callable[[Message], None]) -> None:
        """Send what trainings say to somebody, who is told not to record it."""
        self._deliver = deliver

    def wake(self) -> None:
        """Have `check` called soon: it is called twice a second anyway."""

    def close(self) -> None:
        """Cancel the jobs; idempotent. What they have answered stays in the folder."""
        (self._folder / STOP).touch()
        self._states, self._asked_at = self._ask_slurm(), time.monotonic()
        if mine := [job for job in self._jobs if job in self._states]:
            subprocess.run(["scancel", *mine], check=False, capture_output=True)
        for path in (self._folder / REQUESTS).glob("*.json"):
            path.unlink(missing_ok=True)
        self._jobs = []
        _write(self._folder / JOBS, self._jobs)

    # -- training ------------------------------------------------------------------------------

    def run(
        self,
        jobs: Sequence[Job],
        *,
        stop: Callable[[], bool] = lambda: False,
        on_retry: Callable[[Failure], None] = lambda failure: None,
        check: Callable[[], None] = lambda: None,
    ) -> Generator[list[Result], None, None]:
        """Train the jobs and yield each one's results as it finishes; see `Executor.run`."""
        waiting = {name_of(job): job for job in jobs}
        running: dict[str, Job] = {}
        for path in (self._folder / REQUESTS).glob("*.json"):  # of an earlier session
            path.unlink(missing_ok=True)
        for name in [name for name in waiting if self._is_known(name)]:
            running[name] = waiting.pop(name)
        while True:
            check()
            for name in [name for name in running if (self._folder / ANSWERS / name).is_dir()]:
                job = running.pop(name)
                results, retried = self._answer(name, job)
                for failure in retried:
                    on_retry(failure)
                self._lost = 0
                yield results
            while waiting and len(running) < self._ask.jobs and not stop():
                name, job = next(iter(waiting.items()))
                running[name] = waiting.pop(name)
                asked = replace(job, folders=str(self._folder / FOLDERS))
                _write(self._folder / REQUESTS / f"{name}.json", asked.as_dict())
            if not running:
                return
            self._look_after(running)
            for name in [name for name in running if self._lost_of(name) > MOST_LOST]:
                yield self._given_up(name, running.pop(name))
            self._pass_on(running)
            time.sleep(LOOK_S)

    def _is_known(self, name: str) -> bool:
        """Tell whether an earlier session's job has answered a request, or trains it."""
        return (self._folder / ANSWERS / name).is_dir() or any(self._claims(name))

    def _claims(self, name: str) -> list[Path]:
        return [*(self._folder / CLAIMED).glob(f"{name}.*.json")]

    def _answer(self, name: str, job: Job) -> tuple[list[Result], list[Failure]]:
        """Return what became of a request, and forget it."""
        folder = self._folder / ANSWERS / name
        results = answers.read(folder) or []
        retried = [
            Failure(key=key, **said)
            for key, said in zip(job.keys, _read(folder / RETRIED) or (), strict=False)
        ]
        shutil.rmtree(folder, ignore_errors=True)
        self._forget(name)
        return [*results], retried

    def _forget(self, name: str) -> None:
        for path in self._claims(name):
            path.unlink(missing_ok=True)
        (self._folder / MESSAGES / f"{name}.jsonl").unlink(missing_ok=True)
        (self._folder / CLAIMED / f"{name}.lost").unlink(missing_ok=True)

    def _look_after(self, running: Mapping[str, Job]) -> None:
        """Give back what jobs that ended had claimed, and submit as many as are needed."""
        if time.monotonic() - self._asked_at < ASK_S:
            return
        trouble = self._folder / TROUBLE
        if trouble.exists():
            raise SlurmTrouble(
                "a Slurm job cannot train.", facts=trouble.read_text("utf-8").splitlines()[:6]
            )
        claimed = {name: self._claims(name) for name in running}  # before Slurm is asked
        self._states, self._asked_at = self._ask_slurm(), time.monotonic()
        for name, paths in claimed.items():
            for path in paths:
                job = path.name.removesuffix(".json").rpartition(".")[2]
                answered = (self._folder / ANSWERS / name).is_dir()
                if job not in self._states and not answered and path.exists():
                    self._give_back(name, path)
        live = [job for job in self._jobs if job in self._states]
        if len(live) < len(self._jobs):
            self._lost += len(self._jobs) - len(live)
            self._jobs = live
        if self._lost > MOST_LOST * self._ask.jobs:
            raise SlurmTrouble(
                f"{self._lost} Slurm jobs have ended, and none had answered.",
                facts=self._last_words(),
                fix="mend the cause, then the same command",
            )
        for _ in range(min(self._ask.jobs, len(running)) - len(live)):
            self._submit_one()
        self._tell_what_is_waited_for()

    def _give_back(self, name: str, claim: Path) -> None:
        """Put back the request of a job that is gone."""
        lost = self._folder / CLAIMED / f"{name}.lost"
        lost.write_text("x" * (self._lost_of(name) + 1), "utf-8")
        with contextlib.suppress(OSError):
            os.replace(claim, self._folder / REQUESTS / f"{name}.json")
        self._deliver({"type": "notice", "text": "a Slurm job has ended: another one trains on."})

    def _lost_of(self, name: str) -> int:
        with contextlib.suppress(OSError):
            return (self._folder / CLAIMED / f"{name}.lost").stat().st_size
        return 0

    def _given_up(self, name: str, job: Job) -> list[Result]:
        (self._folder / REQUESTS / f"{name}.json").unlink(missing_ok=True)
        self._forget(name)
        what = f"{MOST_LOST + 1} Slurm jobs have ended while they trained it."
        facts = tuple(self._last_words())
        return [Failure(key=k, code="worker", what=what, facts=facts) for k in job.keys]

    def _submit_one(self) -> None:
        from submitit.helpers import CommandFunction

        words = [sys.executable, "-P", "-m", "bench.execution.slurm_job", str(self._folder)]
        try:
            job = self._submit(CommandFunction(words, verbose=False, cwd=Path.cwd()))
        except Exception as error:  # submitit raises whatever sbatch says
            said = [line.strip() for line in text_of(error).splitlines() if line.strip()]
            raise SlurmTrouble(
                "Slurm does not take a job.",
                facts=said[-4:],
                fix="mend the --slurm options, then the same command",
            ) from None
        self._jobs.append(str(job.job_id))
        _write(self._folder / JOBS, self._jobs)

    def _ask_slurm(self) -> dict[str, tuple[str, str]]:
        """Return the state of this user's live jobs, and why they wait; the last known if unsure.

        A job that Slurm does not list has ended.
        """
        if not self._jobs and not any((self._folder / CLAIMED).iterdir()):
            return {}
        words = ["squeue", "--noheader", "--me", "--format=%i|%T|%r"]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError):
            return dict(self._states) or {job: ("UNKNOWN", "") for job in self._jobs}
        rows = (line.split("|", 2) for line in done.stdout.splitlines() if line.count("|") >= 2)
        return {job: (state, why) for job, state, why in rows if state in LIVE}

    def _last_words(self) -> list[str]:
        """Return the end of what the last job wrote."""
        logs = sorted((self._folder / LOGS).glob("*_log.*"), key=lambda path: path.stat().st_mtime)
        lines = [line for path in logs[-2:] for line in tail(path).splitlines() if line.strip()]
        return [f"A job wrote: {line.strip()[:200]}" for line in lines[-4:]]

    def _tell_what_is_waited_for(self) -> None:
        mine = [self._states[job] for job in self._jobs if job in self._states]
        pending = [why for state, why in mine if state == "PENDING"]
        text = ""
        if pending and len(pending) == len(mine):
            text = f"waiting for {count(len(pending), 'Slurm job')} (PENDING: {pending[0]})."
        if text and text != self._told:
            self._deliver({"type": "notice", "text": text})
        self._told = text or self._told

    def _pass_on(self, names: Iterable[str]) -> None:
        """Tell what trainings have said since the last look."""
        for name in names:
            path = self._folder / MESSAGES / f"{name}.jsonl"
            with contextlib.suppress(OSError), path.open("rb") as handle:
                handle.seek(self._heard.get(name, 0))
                whole = handle.read().rpartition(b"\n")[0]
                self._heard[name] = self._heard.get(name, 0) + len(whole) + bool(whole)
                for line in whole.splitlines():
                    with contextlib.suppress(ValueError):
                        self._deliver({**json.loads(line), "passing": True})


def shared_folder(benchmark_id: str) -> Path:
    """Return a benchmark's folder of requests and answers, below the current one.

    That is where the experiment lies, so that the nodes see it; a store may be on a local disk.
    """
    return Path.cwd() / "mlruns" / "slurm" / benchmark_id[:32]


def places(ask: Ask) -> list[Slot]:
    """Return a place for each job; what it trains on is known where it runs."""
    return [Slot("slurm", number, 1) for number in range(ask.jobs)]


def name_of(job: Job) -> str:
    """Return what a request is called: the same for the same training in every session."""
    said = replace(job, attempt=1, folders=None).as_dict()
    return f"{job.pack:06d}-{digest(said)[:16]}"


def _write(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(value), "utf-8")
    os.replace(part, path)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
