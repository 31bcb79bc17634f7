"""Executor on this machine: a process for each training, supervised by joblib threads.

One thread a slot takes a place, asks whether to start, starts, listens until nothing of the
training is left, and reads its answer. It returns values and never raises: whatever becomes of a
training costs that training alone.
"""

import contextlib
import errno
import os
import queue
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed

from bench.design.plan import TrialKey
from bench.design.results import Failure, Job, Result, Success
from bench.execution import answers
from bench.execution.base import Closing, Message
from bench.execution.devices import Slot
from bench.execution.failures import last_words
from bench.execution.scheduling import Place, Places
from bench.execution.server import Server, limited_to, tail
from bench.execution.slot_lines import SlotLine
from bench.store import run_folder

STOP_GRACE_S = 10.0  # between TERM and KILL of a training that is to end
CHECK_S = 0.5


@dataclass(frozen=True)
class _Over:
    """What a supervising thread hands over: results, and the place that comes back for them."""

    results: Sequence[Result]
    place: Place | None


_WAKE = _Over((), None)


class Processes(Closing):
    """An executor: processes of this machine.

    Parameters
    ----------
    server : has imported the experiment, and stays the caller's to close
    slots : one a training at once
    deliver : called by any thread with every start and epoch, and what is waited for
    retries : how often a pack is tried again after a crash, a lack of memory or a device's fault
    """

    def __init__(
        self,
        server: Server,
        slots: Sequence[Slot],
        deliver: Callable[[Message], None] = lambda message: None,
        *,
        retries: int = 1,
    ) -> None:
        server.require_usable(slots)
        self._server, self._retries = server, retries
        self.deliver = deliver
        self._scratch = Path(tempfile.mkdtemp(prefix="bench-", dir=server.scratch))
        self._places = Places(slots, lambda text: self._say({"type": "notice", "text": text}))
        self._handed: queue.SimpleQueue[_Over | Failure | None] = queue.SimpleQueue()
        self._telling, self._told = threading.Lock(), False  # that trainings are not forked
        self._ending = False
        self._trouble: Exception | None = None  # a bug of ours, in another thread

    def listen(self, deliver: Callable[[Message], None]) -> None:
        """Send what trainings say to somebody else from now on."""
        self.deliver = deliver

    def _say(self, message: Message) -> None:
        try:
            self.deliver(message)
        except Exception as error:  # a bug of ours: not the training's to die of
            self._trouble = self._trouble or error

    def wake(self) -> None:
        """Have `check` called at once; may be called by a signal handler."""
        self._handed.put(_WAKE)

    def close(self) -> None:
        """Kill what trains, and give the devices back; idempotent."""
        self._end(0)
        for place in self._places.every:
            self._hang_up(place)
            for lease in place.leases or ():
                with contextlib.suppress(OSError):
                    os.close(lease)
            place.leases = None
        shutil.rmtree(self._scratch, ignore_errors=True)

    @staticmethod
    def _hang_up(place: Place) -> None:
        if place.line is not None:
            place.line.close()
        place.line, place.reused = None, False

    def _end(self, grace_s: float) -> None:
        self._ending = True
        for place in self._places.every:
            if place.line is not None:
                place.line.end(grace_s, for_good=True)
        self._places.wake()

    # -- the thread that records -------------------------------------------------------------

    def run(
        self,
        jobs: Sequence[Job],
        *,
        stop: Callable[[], bool] = lambda: False,
        on_retry: Callable[[Failure], None] = lambda failure: None,
        check: Callable[[], None] = lambda: None,
    ) -> Generator[list[Result], None, None]:
        """Train the jobs and yield each one's results as it finishes; see `Executor.run`.

        Where `check` raises, or nobody takes the results any more, what trains is ended: by TERM,
        and by KILL ten seconds later or as soon as `wake` is called once more.
        """
        self._ending, self._handed = False, queue.SimpleQueue()
        driver = threading.Thread(target=self._drive, args=(jobs, stop), name="supervisor")
        driver.start()
        try:
            while True:
                check()
                if self._trouble is not None:
                    raise self._trouble
                with contextlib.suppress(queue.Empty):
                    handed = self._handed.get(timeout=CHECK_S)
                    if handed is None:
                        driver.join()
                        return
                    if isinstance(handed, Failure):
                        on_retry(handed)
                        continue
                    if handed.results:
                        yield [*handed.results]
                    if handed.place is not None:
                        self._places.give_back(handed.place)
        finally:
            self._drain(driver)

    def _drain(self, driver: threading.Thread) -> None:
        """End what still trains, and wait for its supervisors."""
        if not driver.is_alive():
            return
        self._end(STOP_GRACE_S)
        while driver.is_alive():
            driver.join(0.01)
            with contextlib.suppress(queue.Empty):
                while (handed := self._handed.get_nowait()) is not None:
                    if handed is _WAKE:  # asked again
                        self._end(0)
        for place in self._places.every:  # its line was told to start nothing more
            self._hang_up(place)
            self._places.give_back(place)

    def _drive(self, jobs: Sequence[Job], stop: Callable[[], bool]) -> None:
        """Hand the jobs to as many threads as there are slots."""

        def enough() -> bool:
            return self._ending or stop()

        try:
            each = Parallel(
                n_jobs=len(self._places.every),
                backend="threading",
                return_as="generator_unordered",
                pre_dispatch="n_jobs",
                batch_size=1,
            )(delayed(self._supervise)(job, enough) for job in jobs)
            for over in each:
                self._handed.put(over)
        except Exception as error:
            self._trouble = self._trouble or error
        finally:
            self._handed.put(None)

    # -- a supervising thread ----------------------------------------------------------------

    def _supervise(self, job: Job, stop: Callable[[], bool]) -> _Over:
        """Train a job, again where that may help; returns its results and the place it holds."""
        try:
            return self._attempts(job, stop)
        except Exception as error:  # a bug of ours: `run` raises it
            self._trouble = self._trouble or error
            return _Over((), None)

    def _attempts(self, job: Job, stop: Callable[[], bool]) -> _Over:
        avoid = list[str]()  # devices where it failed
        blamed = list[Place]()  # and those that may be sick
        alone, left = False, self._retries
        while True:
            place = self._places.take(stop, avoid=avoid, alone=alone)
            if place is None:
                return _Over(self._nowhere(job, stop), None)
            if stop():
                self._places.give_back(place)
                return _Over((), None)
            results = self._train(job, place)
            if results is None:  # it was ended
                return _Over((), place)
            self._judge(place, results, blamed, last=not left)
            again = [r for r in results if isinstance(r, Failure) and r.retryable]
            if not again or not left:
                return _Over(results, place)
            left -= 1
            for failure in again:
                self._handed.put(failure)
            halves = _halves(job, again, place.slot)
            if len(halves) > 1:  # one after the other, in this place
                parts = [self._train(half, place) for half in halves]
                return _Over([r for part in parts for r in part or ()], place)
            avoid.append(place.slot.device)
            if again[0].code == "device":
                blamed.append(place)
            alone |= again[0].code == "gpu-memory"
            self._places.give_back(place)
            job = replace(job, attempt=job.attempt + 1)

    def _nowhere(self, job: Job, stop: Callable[[], bool]) -> list[Result]:
        """Fail a job for which no device is left."""
        if stop() or not self._places.shut_out:
            return []
        facts = tuple(self._places.shut_out.values())
        what = "no device is left to train on."
        return [
            Failure(key=key, code="device", what=what, facts=facts, attempt=job.attempt)
            for key in job.keys
        ]

    def _judge(
        self, place: Place, results: Sequence[Result], blamed: Sequence[Place], *, last: bool
    ) -> None:
        """Tell a sick device from a training that fails on every one.

        A device gets a strike when what failed there trains on another one, or gets no other.
        """
        if not place.slot.devices:
            return
        device, failed = place.slot.device, [r for r in results if isinstance(r, Failure)]
        sick = any(failure.code == "device" for failure in failed)
        if not sick or blamed:
            self._places.clear([device, *(b.slot.device for b in blamed if sick)])
        struck: Sequence[Place] = ()
        if not failed:
            struck = [b for b in blamed if b.slot.device != device]
        elif sick and not blamed and (last or not self._places.has_other(device)):
            struck = [place]
        for each in struck:
            if why := self._places.strike(each):
                self._say({"type": "notice", "text": why})

    def _train(self, job: Job, place: Place) -> list[Result] | None:
        """Train a job in a place; None where it was ended from here."""
        if place.line is not None and place.reused and not job.reuse_process:
            self._end_reused(place, place.line)
        if place.line is None:
            place.line = self._server.line(place.leases or ())
            self._tell_if_fresh()
        line = place.line
        root = Path(job.folders) if job.folders else self._scratch
        root.mkdir(parents=True, exist_ok=True)  # somebody may have cleaned the temporary folder
        runs = Path(tempfile.mkdtemp(prefix="pack-", dir=root))
        folder = runs / run_folder.ANSWER
        folder.mkdir()
        try:
            request = self._request(job, place.slot, folder, runs)
            self._say(_begun(job, place))
            began = time.time()
            started = line.start(request)
            heard = self._hear(place, line, job, folder) if started else _Heard(None, False, {})
            if self._ending and heard.ended:
                shutil.rmtree(runs, ignore_errors=True)
                return None
            log = tail(Path(request["log"]))
            try:
                results = answers.read(folder, log=log)
            except Exception as error:  # somebody wrote into its files: as if there were none
                if getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE):
                    raise  # it has answered, and this process can open no more files
                results = None
            if results is None or heard.late:
                failed = _failures(job, place.slot, heard, log, began, time.time() - began)
                return [replace(f, folder=answers.run_folder(runs, f.key)) for f in failed]
            self._note_memory(results)
            return results
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _tell_if_fresh(self) -> None:
        """Say once that trainings are not forked, and what that costs."""
        why = self._server.why_fresh
        with self._telling:
            if why is None or self._told:
                return
            self._told = True
        each = f"each training imports the experiment anew, in about {self._server.import_s:.1f} s"
        self._say({"type": "notice", "text": f"{each}: {why}."})

    def _request(self, job: Job, slot: Slot, folder: Path, runs: Path) -> dict[str, Any]:
        environment = {
            **limited_to(slot.threads),
            "LOKY_MAX_CPU_COUNT": str(slot.threads),
            **slot.environment(),
        }
        if job.devices > 1:
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
        cards = {str(n): f"{d.name} {d.uuid}" for n, d in enumerate(slot.devices)}
        return {
            "job": job.as_dict(),
            "answer": str(folder),
            "folders": str(runs),
            "log": str(folder / "log.txt"),
            "cwd": str(Path.cwd()),
            "device": slot.device,
            "trial_device": slot.trial_device,
            "threads": slot.threads,
            "environment": environment,
            "hardware": cards,
            "drivers": {"driver": slot.devices[0].driver} if slot.devices else {},
        }

    def _hear(self, place: Place, line: SlotLine, job: Job, folder: Path) -> "_Heard":
        """Listen to a training until nothing of it is left."""
        seconds = _seconds(job)
        deadline = None if seconds is None else time.monotonic() + seconds
        late, rows = False, dict[TrialKey, list[dict[str, float]]]()
        while True:
            message = line.receive(deadline)
            if message is None:
                late, deadline = True, None
                line.end(STOP_GRACE_S, for_good=False)
            elif message.get("type") == "epoch":
                rows.setdefault(TrialKey.of(message), []).append(message["row"])
                self._say({**message, "attempt": job.attempt})
            elif message.get("type") == "done" and not late:
                place.reused = True
                return _Heard(0, late, rows)
            elif message.get("type") in ("exit", "lost"):
                if message.get("of", str(folder)) != str(folder):  # a process that waited has died
                    continue
                place.reused = False
                if message["type"] == "lost":  # the guard was killed, and all of it with it
                    self._hang_up(place)
                return _Heard(message.get("code"), late, rows)

    def _end_reused(self, place: Place, line: SlotLine) -> None:
        """End a process that waits for its next pack."""
        line.end(0, for_good=False)
        while (said := line.receive(None)) is None or said["type"] not in ("exit", "lost"):
            pass
        place.reused = False
        if said["type"] == "lost":
            self._hang_up(place)

    def _note_memory(self, results: Sequence[Result]) -> None:
        """Remember what a training took of its GPU: the next one needs as much."""
        for result in results:
            if isinstance(result, Success) and "memory_peak" in result.hardware:
                self._places.needed = int(result.hardware["memory_peak"])


def trained(server: Server, slots: Sequence[Slot], jobs: Sequence[Job]) -> list[Result]:
    """Train some jobs once, without retries, and return what became of all."""
    with Processes(server, slots, retries=0) as executor:
        return [result for results in executor.run(jobs) for result in results]


@dataclass(frozen=True)
class _Heard:
    """How a training ended."""

    code: int | None  # its exit status, minus a signal's number; None where it was ended from here
    late: bool
    rows: Mapping[TrialKey, list[dict[str, float]]]

    @property
    def ended(self) -> bool:
        return self.code is None or self.code < 0


def _seconds(job: Job) -> float | None:
    """Return the time that a pack has: that of all its trainings."""
    return None if job.timeout_s is None else job.timeout_s * len(job.keys)


def _begun(job: Job, place: Place) -> Message:
    return {
        "type": "start",
        "slot": place.number,
        "pack": job.pack,
        "keys": [[*key.parts.values()] for key in job.keys],
        "device": place.slot.device,
        "attempt": job.attempt,
    }


def _halves(job: Job, failures: Sequence[Failure], slot: Slot) -> list[Job]:
    """Split a pack that ran out of the CPU's memory by its seeds: there its bits stay equal."""
    seeds = list(dict.fromkeys(key.seed for key in job.keys))
    memory = failures[0].code == "memory" or failures[0].error == "SIGKILL"
    if slot.devices or not memory or len(seeds) < 2:
        return [job]
    first = set(seeds[: len(seeds) // 2])
    parts = [[k for k in job.keys if (k.seed in first) is one] for one in (True, False)]
    return [replace(job.only(part), attempt=job.attempt + 1) for part in parts]


def _failures(
    job: Job, slot: Slot, heard: _Heard, log: str, began: float, took_s: float
) -> list[Failure]:
    """Return the failures of a pack whose process ended without an answer."""
    code, error, facts = "crash", "", last_words(log)
    if heard.late:
        code, what = "timeout", too_slow(job)
    elif heard.code is None or heard.code < 0:
        error = signal.Signals(-heard.code).name if heard.code else "SIGKILL"
        what = f"its process was ended by {error}."
        if error == "SIGKILL":
            facts.append("Killed from outside: out of memory, a time limit, or somebody's kill.")
    else:
        what = f"its process ended with status {heard.code} before it returned anything."
    return [
        Failure(
            key=key,
            code=code,
            what=what,
            facts=tuple(facts),
            traceback=log,  # with where it stood, which the process wrote as it ended
            error=error,
            epochs=heard.rows.get(key, []),
            duration_s=took_s / len(job.keys),
            started_at=began,
            device=slot.device,
            threads=slot.threads,
            log=log,
            attempt=job.attempt,
            retryable=code == "crash",
        )
        for key in job.keys
    ]


def too_slow(job: Job) -> str:
    """Say that a training used up its time."""
    return f"the training took longer than --timeout {(job.timeout_s or 0) / 60:g} min."


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
