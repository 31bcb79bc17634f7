"""Pool: packs of trials go out to workers, results come back as they finish."""

import contextlib
import gc
import json
import os
import secrets
import shutil
import stat
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from multiprocessing.connection import Connection, Listener, answer_challenge, deliver_challenge
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from joblib.externals.loky import BrokenProcessPool, ProcessPoolExecutor

from analysis.errors import Refusal
from bench.devices import Slot
from bench.plan import TrialKey
from bench.work import Failure, Job, Result, read_tail, run_pack, start, too_slow, waits_for, warm

Message = dict[str, Any]


class LeaseTrouble(Refusal):
    """A folder of leases that is not this user's alone."""

    code = "leases"
    exit_status = 4


def say_waiting(message: Message) -> None:
    """Say on stderr that a worker waits for a device; where nobody else listens."""
    if message["type"] == "waiting":
        print(waits_for(message["devices"]), file=sys.stderr, flush=True)


class Mailbox:
    """The parent's end of the workers' lines: authenticated, local, JSON and never pickles."""

    def __init__(self, deliver: Callable[[Message], None]) -> None:
        self.authkey = secrets.token_bytes(32)
        # The default family is a Unix socket in a folder only this user can enter (a named pipe
        # on Windows). It takes whoever comes: `_meet` asks for the key.
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        try:
            self._listener = Listener()
        except OSError:  # a socket's path is 100 letters at most, which a job's TMPDIR may exceed
            self._folder = tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp")
            self._listener = Listener(f"{self._folder.name}/socket", family="AF_UNIX")
        self._ended = False
        self.deliver = deliver
        self._pack_of: dict[int, int] = {}  # worker pid to the pack it is training
        self._closed: list[int] = []  # worker pids in the order in which their lines broke
        self.trouble: Exception | None = None  # what `deliver` raised
        self.stuck: set[int] = set()  # workers that ended themselves: --timeout, and no way to stop
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """Where workers connect."""
        return str(self._listener.address)

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except OSError:
                if self._ended:
                    return
                time.sleep(0.01)
                continue
            threading.Thread(target=self._meet, args=(connection,), daemon=True).start()

    def _meet(self, connection: Connection) -> None:
        """Let a worker introduce itself; who says nothing keeps nobody but this thread waiting."""
        with connection:
            try:
                deliver_challenge(connection, self.authkey)
                answer_challenge(connection, self.authkey)
            except Exception:  # a stranger's garbage fails in many ways; or a worker that died
                return
            self._read(connection)

    def _read(self, connection: Connection) -> None:
        pid = 0
        while True:
            try:
                message = _checked(json.loads(connection.recv_bytes()))
            except (EOFError, OSError, ValueError):
                self._closed.append(pid)
                return
            if message["type"] == "start":
                pid = int(message["pid"])
                self._pack_of[pid] = int(message["pack"])
            elif message["type"] == "stuck":
                self.stuck.add(pid)
            try:
                self.deliver(message)
            except Exception as error:  # a bug of ours: not the worker's to die of
                self.trouble = self.trouble or error

    def first_to_die(self) -> tuple[int, int] | None:
        """Return (pid, pack) of the worker whose line broke first, if it was training."""
        deadline = time.monotonic() + 1.0  # the news of a death may overtake that of its line
        while True:
            for pid in list(self._closed):
                if pid in self._pack_of:
                    return pid, self._pack_of[pid]
            if time.monotonic() > deadline:
                return None
            time.sleep(0.01)

    def forget(self) -> None:
        """Start afresh with new workers."""
        self._pack_of.clear()
        self._closed.clear()
        self.stuck.clear()

    def close(self) -> None:
        """Stop listening."""
        self._ended = True
        with contextlib.suppress(OSError):
            self._listener.close()
        if self._folder is not None:
            self._folder.cleanup()


def _checked(message: Any) -> Message:
    """Return a message that a worker sends, or raise ValueError: its line is then closed."""
    kinds: dict[str, dict[str, type]] = {
        "start": {"pid": int, "pack": int},
        "epoch": {"arm": str, "seed": int, "attempt": int, "row": dict},
        "stuck": {"pid": int},
        "waiting": {"pid": int, "devices": str},
    }
    fields = kinds.get(str(message.get("type"))) if isinstance(message, dict) else None
    if fields is None or any(type(message.get(k)) is not kind for k, kind in fields.items()):
        raise ValueError("not a message of a worker")
    return dict(message)


class Pool:
    """Workers that train packs, one at a time each, and are replaced when they die.

    Parameters
    ----------
    slots : one a worker
    deliver : called from another thread with every message a worker sends while it trains
    retries : how often a pack is tried again after a crash or a lack of memory
    workers : fewer than slots where other processes of this machine take the rest
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        deliver: Callable[[Message], None] = say_waiting,
        *,
        retries: int = 1,
        workers: int | None = None,
    ) -> None:
        self._slots = tuple(slots)
        on_cpu = all(slot.device == "cpu" for slot in self._slots)
        self._lease_dir = None if on_cpu else _lease_dir()
        self._workers = len(self._slots) if workers is None else workers
        self._retries = retries
        self._scratch = Path(tempfile.mkdtemp(prefix="bench-"))
        self._mailbox = Mailbox(deliver)
        self._executor = self._start()
        self._closed = False
        self._sent: list[Future[Any]] = []  # what the executor may not have picked up yet

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def listen(self, deliver: Callable[[Message], None]) -> None:
        """Send the workers' messages to somebody else from now on."""
        self._mailbox.deliver = deliver

    def close(self) -> None:
        """End the workers, whatever they are doing; again is harmless."""
        if self._closed:
            return
        # loky trips over calls that it was given but has not picked up when it is shut down.
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline and any(
            not (future.running() or future.done()) for future in self._sent
        ):
            time.sleep(0.005)
        self._end_workers()
        self._closed = True
        self._sent.clear()
        del self._executor
        gc.collect()  # its queues go now: Ctrl-C in the middle of a finaliser would be swallowed
        self._mailbox.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _end_workers(self) -> None:
        """Kill the workers; loky's own thread may trip over calls we had just handed to it.

        Ctrl-C can fall between its taking a call and telling us, so that waiting is not enough:
        the thread's last words are not for the user, and what it left running is ended here.
        """
        workers = list((getattr(self._executor, "_processes", None) or {}).values())
        said, threading.excepthook = threading.excepthook, _unless_from_loky
        for worker in workers:
            if worker.is_alive():
                worker.terminate()
        try:
            self._executor.shutdown(wait=True, kill_workers=True)
        finally:
            threading.excepthook = said

    def warm(self, reference: str) -> None:
        """Let every worker import the experiment; returns at once."""
        self._sent += [self._executor.submit(warm, reference) for _ in range(self._workers)]

    def run(
        self,
        jobs: Sequence[Job],
        *,
        stop: Callable[[], bool] = lambda: False,
        on_retry: Callable[[Failure], None] = lambda failure: None,
        check: Callable[[], None] = lambda: None,
    ) -> Iterator[list[Result]]:
        """Train the jobs and yield each one's results as it finishes.

        Parameters
        ----------
        jobs : in the order in which they start
        stop : asked before each start; True starts nothing more
        on_retry : told of a failure that is tried again
        check : called about twice a second, where raising leaves everything in order
        """
        waiting, running = deque(jobs), dict[Future[list[Result]], Job]()
        # A start is an attempt with a run of its own; only a failure of one's own uses one up.
        starts = Counter({job.pack: job.attempt - 1 for job in jobs})
        attempts: Counter[int] = Counter()
        while True:
            check()
            if self._mailbox.trouble is not None:
                raise self._mailbox.trouble
            while waiting and len(running) < self._workers and not stop():
                job = waiting.popleft()
                starts[job.pack] += 1
                job = replace(job, attempt=starts[job.pack])
                running[self._submit(job)] = job
            if not running:
                return
            done, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
            lost: list[Job] = []
            for future in done:
                job = running.pop(future)
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    lost.append(job)
                    continue
                results = self._answer(future, error, job)
                again = [r for r in results if isinstance(r, Failure) and r.retryable]
                attempts[job.pack] += 1
                if again and attempts[job.pack] <= self._retries:
                    for failure in again:
                        on_retry(failure)
                    waiting.appendleft(job)
                else:
                    yield results
            if lost:
                lost += running.values()  # one dead worker ends all: the pool stops them itself
                running.clear()
                yield from self._after_crash(lost, waiting, attempts, on_retry)

    def _submit(self, job: Job) -> "Future[list[Result]]":
        try:
            future: Future[list[Result]] = self._executor.submit(run_pack, job)
            self._sent = [*(sent for sent in self._sent if not sent.done()), future]
            return future
        except BrokenProcessPool as error:  # died while idle; the caller sees it as any other
            broken: Future[list[Result]] = Future()
            broken.set_exception(error)
            return broken

    def _answer(
        self, future: "Future[list[Result]]", error: BaseException | None, job: Job
    ) -> list[Result]:
        """Return a job's results; what did not even reach `run_pack` fails all its trials."""
        if error is None:
            return future.result()
        what = f"{type(error).__name__}: {error}"
        return [Failure(key=key, code="worker", what=what, attempt=job.attempt) for key in job.keys]

    def _after_crash(
        self,
        lost: list[Job],
        waiting: deque[Job],
        attempts: Counter[int],
        on_retry: Callable[[Failure], None],
    ) -> Iterator[list[Result]]:
        """Replace the workers; the pack whose worker died first used up one of its attempts."""
        suspect = self._mailbox.first_to_die()
        guilty = [job for job in lost if suspect is None or job.pack == suspect[1]]
        log = read_tail(self._scratch / f"worker-{suspect[0]}.log") if suspect else ""
        was_stuck = suspect is not None and suspect[0] in self._mailbox.stuck
        self._end_workers()
        self._mailbox.forget()
        self._executor = self._start()
        waiting.extendleft(sorted(lost, key=lambda job: -job.pack))
        for job in guilty:
            attempts[job.pack] += 1
            failures = [_crashed(job, key, log, was_stuck=was_stuck) for key in job.keys]
            if attempts[job.pack] <= self._retries and not was_stuck:
                for failure in failures:
                    on_retry(failure)
            else:
                waiting.remove(job)
                yield list(failures)

    def _start(self) -> ProcessPoolExecutor:
        threads = str(self._slots[0].threads)
        names = (
            "OMP_NUM_THREADS",
            "MKL_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "NUMEXPR_NUM_THREADS",
        )
        env = {name: threads for name in names}
        env["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # deterministic matrix products on CUDA
        box = self._mailbox
        return ProcessPoolExecutor(
            max_workers=self._workers,
            initializer=start,
            initargs=(
                self._slots,
                self._lease_dir,
                box.address,
                box.authkey,
                str(self._scratch),
                os.getpid(),
            ),
            env=env,
        )


def _crashed(job: Job, key: TrialKey, log: str, *, was_stuck: bool) -> Failure:
    if was_stuck:
        what, code = too_slow(job), "timeout"
        fact = "It did not stop when it was asked to, so its process was ended."
    else:
        what, code = "the worker process died.", "crash"
        fact = "Killed from outside (out of memory, a time limit) or crashed in compiled code."
    return Failure(
        key=key,
        code=code,
        what=what,
        facts=(fact,),
        log=log,
        attempt=job.attempt,
        retryable=not was_stuck,
    )


def _unless_from_loky(args: threading.ExceptHookArgs) -> None:
    if args.thread is None or args.thread.name != "ExecutorManagerThread":
        threading.__excepthook__(args)


def _lease_dir() -> str:
    """Return one folder for all of this user's benchmarks on this machine.

    Raises
    ------
    LeaseTrouble : its name, which everybody can predict, is taken by another user or is a link
    """
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    folder = Path(tempfile.gettempdir()) / f"bench-leases-{user}"
    with contextlib.suppress(FileExistsError):  # whatever is there, `lstat` sees it
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if os.name != "posix" or (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == user
        and stat.S_IMODE(found.st_mode) == 0o700
    ):
        return str(folder)
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == user
    raise LeaseTrouble(
        f"{folder}, which says who trains on which device, is not a folder of yours alone.",
        facts=[f"It is {stat.filemode(found.st_mode)} and belongs to user {found.st_uid}."],
        fix=f"chmod 700 {folder}" if ours else 'export TMPDIR="$HOME", then the same command',
    )
