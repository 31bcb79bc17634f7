"""Work: what happens inside a worker, from one pack of trials to outcomes or described failures."""

import contextlib
import ctypes
import importlib
import json
import os
import random
import re
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from multiprocessing.connection import Client, Connection
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from analysis.errors import Refusal
from bench.contract import BadOutcome, Diverged, Experiment, Outcome, Trial
from bench.devices import Slot
from bench.discover import Discovered, discover
from bench.plan import TrialKey

Epochs = list[dict[str, float]]
LOG_TAIL_BYTES = 64 * 1024
GRACE_S = 10.0  # between asking a training that is too slow to stop and ending its process
QUIET_WAIT_S = 5.0  # so long a device may be in use before it is said
WAIT_TOLD_S = 60.0  # and then again, for whoever began to listen later


@dataclass(frozen=True)
class Job:
    """One pack as it travels to a worker: plain values only."""

    pack: int
    keys: tuple[TrialKey, ...]
    settings: Mapping[str, Mapping[str, Any]]  # arm to full settings
    reference: str
    source_digest: str
    data_dir: str | None
    timeout_s: float | None
    draws: Mapping[TrialKey, Mapping[str, Any]] = field(default_factory=dict)  # seeds, by the plan
    attempt: int = 1


@dataclass(frozen=True, eq=False)
class Scored:
    """One run's metric; `examples` has that of each test example, shape (N,), or is None."""

    value: float
    examples: NDArray[np.float64] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Success:
    """A finished trial."""

    key: TrialKey
    outcome: Outcome
    epochs: Epochs
    duration_s: float
    started_at: float
    device: str
    threads: int
    log: str
    attempt: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Failure:
    """A trial that has no value, and why."""

    key: TrialKey
    code: str
    what: str
    facts: tuple[str, ...] = ()
    traceback: str = ""
    epochs: Epochs = field(default_factory=list)
    duration_s: float = 0.0
    started_at: float = 0.0
    device: str = ""
    threads: int = 0
    log: str = ""
    attempt: int = 1
    retryable: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


Result = Success | Failure


class TooSlow(Exception):
    """Raised inside a training that has used up its --timeout."""


@dataclass
class _Worker:
    """The place of this process; set once by `start`."""

    slot: Slot
    connection: Connection
    log_path: Path
    lease: FileLock | None
    deadline: float | None = None


_worker: _Worker | None = None


def start(
    slots: Sequence[Slot],
    lease_dir: str | None,
    address: str,
    authkey: bytes,
    scratch: str,
    parent: int,
) -> None:
    """Take a free device, open the line to the parent, and live no longer than it does."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    if os.name == "posix":
        signal.signal(signal.SIGUSR2, _stop_if_late)
    connection = _line_to(parent, address, authkey)
    log_path = Path(scratch) / f"worker-{os.getpid()}.log"
    _redirect_output(log_path)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    slot, lease = _take_slot(slots, lease_dir, connection)
    _worker = _Worker(slot, connection, log_path, lease)


def _line_to(parent: int, address: str, authkey: bytes) -> Connection:
    """Connect to the parent, or end without a word where it has just been killed."""
    try:
        return Client(address, authkey=authkey)
    except (OSError, EOFError):
        time.sleep(0.2)  # a process that dies closes its files before it is gone
        if os.name == "posix" and os.getppid() != parent:
            os._exit(1)
        raise


def _take_slot(
    slots: Sequence[Slot], lease_dir: str | None, connection: Connection
) -> tuple[Slot, FileLock | None]:
    """Hold a file lock for the worker's life: it frees itself when the worker is killed."""
    if lease_dir is None:  # every CPU slot is like the other
        return slots[0], None
    tell_at = time.monotonic() + QUIET_WAIT_S
    while True:
        for slot in slots:
            lock = FileLock(Path(lease_dir) / lease_name(slot))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            return slot, lock
        if time.monotonic() >= tell_at:
            devices = ", ".join(dict.fromkeys(slot.device for slot in slots))
            message = {"type": "waiting", "pid": os.getpid(), "devices": devices}
            connection.send_bytes(json.dumps(message).encode())
            tell_at = time.monotonic() + WAIT_TOLD_S
        time.sleep(0.2)


def lease_name(slot: Slot) -> str:
    """Return the file that stands for a device of this machine and one lane on it.

    "cuda:0" is the first of the devices that this process may see, so another one's may be another
    device. Slurm gives a device to one job at a time, and may let each job count from 0.
    """
    kind, _, index = slot.device.partition(":")
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    if kind == "cuda" and index.isdigit() and int(index) < len(visible):
        index = visible[int(index)] or index
    job = os.environ.get("SLURM_JOB_ID")
    parts = [kind, index, *([f"job-{job}"] if job else []), str(slot.lane)]
    return re.sub(r"[^\w-]", "-", "-".join(part for part in parts if part)) + ".lock"


def waits_for(devices: str) -> str:
    """Say that all devices are in use."""
    return f"a worker waits for {devices}: another benchmark of yours trains there."


def _redirect_output(path: Path) -> None:
    """Send what a training prints to a file: the terminal and --json belong to the parent."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor in (1, 2):
        os.dup2(handle, descriptor)
    os.close(handle)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _watch(parent: int) -> None:
    """End this process when its parent is gone, and a training when its time is up."""
    main = threading.main_thread().ident
    while True:
        time.sleep(0.5)
        worker = _worker
        if os.name == "posix" and os.getppid() != parent:
            if worker is not None:
                shutil.rmtree(worker.log_path.parent, ignore_errors=True)
            os._exit(1)
        if worker is None or worker.deadline is None or main is None:
            continue
        if time.monotonic() > worker.deadline + GRACE_S:
            _send(worker, {"type": "stuck", "pid": os.getpid()})
            os._exit(1)  # stuck in compiled code: only the end of the process stops it
        if time.monotonic() > worker.deadline:
            _interrupt(main)
            time.sleep(1.0)


def _interrupt(main: int) -> None:
    """Raise TooSlow in the main thread; a signal reaches it in a sleep or a read too."""
    if os.name == "posix":
        signal.pthread_kill(main, signal.SIGUSR2)
    else:
        late = ctypes.py_object(TooSlow)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(main), late)


def _stop_if_late(number: int, frame: FrameType | None) -> None:
    deadline = _worker.deadline if _worker else None
    if deadline is not None and time.monotonic() > deadline:
        raise TooSlow


@lru_cache(maxsize=8)
def _discovered(reference: str) -> Discovered:
    """Import the experiment once: who edits its file meanwhile does not change this run."""
    return discover(reference)


def warm(reference: str) -> int:
    """Import the experiment and with it its framework, before the first trial needs them."""
    _discovered(reference)
    if "torch" in sys.modules:
        importlib.import_module("torch._dynamo")  # a second that the first optimizer would wait for
    return os.getpid()


def run_pack(job: Job) -> list[Result]:
    """Train one pack; a failure is a value, so that it cannot harm the other workers."""
    if _worker is None:
        raise RuntimeError("run_pack was called outside a worker that `start` has prepared")
    worker = _worker
    begun = {"pack": job.pack, "keys": [[key.arm, key.seed] for key in job.keys]}
    where = {"pid": os.getpid(), "device": worker.slot.device, "attempt": job.attempt}
    _send(worker, {"type": "start", **begun, **where})
    run = _Run(worker, job)
    try:
        with _deadline(worker, job):
            outcomes = run.train()
    except Exception as error:
        return [run.failure(key, error) for key in job.keys]
    return [run.result(key, o) for key, o in zip(job.keys, outcomes, strict=True)]


@contextlib.contextmanager
def _deadline(worker: _Worker, job: Job) -> Iterator[None]:
    """Give a pack the time of all its trainings."""
    if job.timeout_s is not None:
        worker.deadline = time.monotonic() + job.timeout_s * len(job.keys)
    try:
        yield
    finally:
        worker.deadline = None


class _Run:
    """One pack in training: its histories, clock and log."""

    def __init__(self, worker: _Worker, job: Job) -> None:
        self.worker, self.job = worker, job
        self.epochs: dict[TrialKey, Epochs] = {key: [] for key in job.keys}
        self.started_at, self.clock = time.time(), time.perf_counter()
        self.log_start = worker.log_path.stat().st_size

    def train(self) -> list[Outcome | Diverged]:
        experiment = self._load()
        _use_threads(self.worker.slot.threads)
        self.started_at, self.clock = time.time(), time.perf_counter()  # imports do not count
        trials = [self._trial(key) for key in self.job.keys]
        _seed_globals(trials[0])
        outcomes: list[Outcome | Diverged]
        if experiment.train_pack is None:
            outcomes = [experiment.train(trial) for trial in trials]
        else:
            outcomes = list(experiment.train_pack(trials))
        known = all(isinstance(o, Outcome | Diverged) for o in outcomes)
        if len(outcomes) != len(trials) or not known:
            kinds = ", ".join(sorted({type(o).__name__ for o in outcomes}))
            raise BadOutcome(
                f"the training returned {kinds or 'nothing'}, not one Outcome a trial.",
                fix="return Outcome(test=Predictions(log_probabilities, labels))",
            )
        return [
            _with_origin(o, trial, self.job.keys) if isinstance(o, Outcome) else o
            for o, trial in zip(outcomes, trials, strict=True)
        ]

    def _load(self) -> Experiment:
        found = _discovered(self.job.reference)
        if found.source_digest != self.job.source_digest:
            raise Refusal(
                "the experiment's source changed while it was running.",
                facts=["Trials trained with another source would not belong to this benchmark."],
            )
        return found.experiment

    def _trial(self, key: TrialKey) -> Trial:
        def on_epoch(epoch: int, values: dict[str, float]) -> None:
            row = {"epoch": epoch, "time": time.time(), **values}
            self.epochs[key].append(row)
            message = {"type": "epoch", "arm": key.arm, "seed": key.seed, "row": row}
            _send(self.worker, {**message, "attempt": self.job.attempt})

        return Trial(
            **(self.job.draws.get(key) or {"seed": key.seed}),
            arm=key.arm,
            settings=dict(self.job.settings[key.arm]),
            device=self.worker.slot.device,
            data_dir=Path(self.job.data_dir) if self.job.data_dir else None,
            on_epoch=on_epoch,
        )

    def result(self, key: TrialKey, outcome: Outcome | Diverged) -> Result:
        if isinstance(outcome, Diverged):
            return self.failure(key, outcome)
        return Success(key=key, outcome=outcome, environment=_environment(), **self._common(key))

    def failure(self, key: TrialKey, error: Exception) -> Failure:
        code, retryable = _kind(error)
        what = error.what if isinstance(error, Refusal) else f"{type(error).__name__}: {error}"
        facts = error.facts if isinstance(error, Refusal) else ()
        if isinstance(error, TooSlow):
            what = too_slow(self.job)
        return Failure(
            key=key,
            code=code,
            what=what,
            facts=(*facts, *self._place(error, code), *self._last_finite(key, code)),
            traceback="".join(traceback.format_exception(error)),
            retryable=retryable,
            environment=_environment(),
            **self._common(key),
        )

    def _place(self, error: Exception, code: str) -> tuple[str, ...]:
        """Say which line of the experiment, or of a module beside it, an error came from."""
        folder = Path(self.job.reference).parent
        if code != "training" or not self.job.reference.endswith(".py"):
            return ()
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if Path(frame.filename).parent == folder:
                return (f"In {Path(frame.filename).name}, line {frame.lineno}: {frame.line}",)
        return ()

    def _last_finite(self, key: TrialKey, code: str) -> tuple[str, ...]:
        """Say where a diverged training stood: an epoch's losses before they were lost."""
        if code != "nan":
            return ()
        for row in reversed(self.epochs[key]):
            loss = row.get("train/loss", row.get("loss"))
            if loss is not None and np.isfinite(loss):
                rate = f", learning rate {row['lr']:g}" if "lr" in row else ""
                return (f"Last finite loss {loss:.3f} at epoch {row['epoch']}{rate}.",)
        return ("No epoch had a finite loss.",)

    def _common(self, key: TrialKey) -> dict[str, Any]:
        return {
            "epochs": self.epochs[key],
            "duration_s": (time.perf_counter() - self.clock) / len(self.job.keys),
            "started_at": self.started_at,
            "device": self.worker.slot.device,
            "threads": self.worker.slot.threads,
            "attempt": self.job.attempt,
            "log": read_tail(self.worker.log_path, self.log_start),
        }


def too_slow(job: Job) -> str:
    """Say that a training used up its time."""
    return f"the training took longer than --timeout {(job.timeout_s or 0) / 60:g} min."


def read_tail(path: Path, start: int = 0) -> str:
    """Return the end of a worker's output, from byte `start` on, at most 64 KiB."""
    sys.stdout.flush()
    try:
        with path.open("rb") as handle:
            size = handle.seek(0, os.SEEK_END)
            handle.seek(max(start, size - LOG_TAIL_BYTES))
            return handle.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _kind(error: Exception) -> tuple[str, bool]:
    """Return the failure's code and whether trying again can help."""
    if isinstance(error, Diverged):
        return "nan", False
    if isinstance(error, TooSlow):
        return "timeout", False
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return ("memory" if isinstance(error, MemoryError) else "gpu-memory"), True
    return (error.code if isinstance(error, Refusal) else "training"), False


def _use_threads(threads: int) -> None:
    """Pin the thread count: the last bits of the weights depend on it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def _with_origin(outcome: Outcome, trial: Trial, pack: Sequence[TrialKey]) -> Outcome:
    """Keep with the run what it drew from each stream, and what it was trained together with.

    Arms that drew alike saw the same batches.

    Raises
    ------
    BadOutcome : the one stream that should vary was never used
    """
    streams = trial.streams()
    streams.pop("global", None)  # ours: what trainings draw without a stream is not counted
    if trial.varied and trial.varied not in streams:
        raise BadOutcome(
            f'--vary {trial.varied}: the training never asks for trial.rng("{trial.varied}").',
            facts=[f"It uses {', '.join(sorted(streams)) or 'no stream'}."],
        )
    facts = {**outcome.facts, "streams": streams}
    if len(pack) > 1:
        facts["pack"] = [key.run_name for key in pack]
    return replace(outcome, facts=facts)


def _seed_globals(trial: Trial) -> None:
    """Seed the global generators too: a training that forgets its streams still repeats."""
    word = int(trial.rng("global").integers(2**32))
    random.seed(word)
    np.random.seed(word)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(word)


def _environment() -> dict[str, str]:
    """Return what may change a result's last bits: interpreter, framework, device model."""
    found = {"python": sys.version.split()[0], "numpy": np.__version__}
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch"] = str(torch.__version__)
    if torch is not None and _worker is not None and _worker.slot.device.startswith("cuda"):
        found["gpu"] = str(torch.cuda.get_device_name(_worker.slot.device))
    return found


def _send(worker: _Worker, message: dict[str, Any]) -> None:
    try:
        worker.connection.send_bytes(json.dumps(message).encode())
    except OSError:
        os._exit(1)  # the parent is gone: nobody will ever record this training
