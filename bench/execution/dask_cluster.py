"""Executor on dask: the workers of a scheduler, on other machines.

Each dask worker supervises trainings as this machine would, one a thread, so that a training's
time limit, its crash and its output are handled as everywhere else. Epochs are shown while it
trains, and recorded when it has finished: one that begins again on another machine must not leave
its first epochs behind.
"""

import contextlib
import logging
import platform
import threading
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

from bench import __version__
from bench.analysis.errors import Refusal, text_of
from bench.design.description import Discovered
from bench.design.results import Failure, Job, Result
from bench.execution.base import Closing, Message
from bench.execution.devices import Slot, slots
from bench.execution.processes import Processes
from bench.execution.provenance import device_names
from bench.execution.server import Server
from bench.store.run_folder import packed_up

GPU = "GPU"  # dask's resource: `dask worker --resources GPU=1`
CONNECT_S = "20s"
FIRST_WORKER_S = 60.0  # machines that are starting
MOST_UNLIKE = 3  # workers that may refuse one pack; with more, something makes such workers
MUST_AGREE = ("bench", "torch", "python")  # else results would depend on who trained them
_here = threading.local()  # this thread's executor and what it trains, in a dask worker


class ClusterTrouble(Refusal):
    """A scheduler that cannot be reached, or machines that are not alike."""

    code = "cluster"
    exit_status = 4


@dataclass(frozen=True)
class Answer:
    """What became of a pack on a dask worker."""

    results: Sequence[Result]  # none where it is to be tried again
    retried: Sequence[Failure] = ()  # what failed there before
    unlike: str | None = None  # this worker's address, where it must not train

    @property
    def why(self) -> str:
        """Why the worker must not train."""
        return next((f.what for f in (*self.retried, *self.results) if isinstance(f, Failure)), "")


class Cluster(Closing):
    """The workers of a dask scheduler; takes the place of `bench.execution.processes`.

    Parameters
    ----------
    address : of the scheduler, tcp://…
    retries : how often a pack is tried again after a crash or a lack of memory

    Raises
    ------
    ClusterTrouble : no scheduler or no workers there, or machines without our package or with
        another version of it, of torch or of Python
    """

    def __init__(self, address: str, *, retries: int = 1) -> None:
        try:
            from distributed import Client
        except ImportError:
            raise ClusterTrouble(
                "--backend dask needs the package distributed.",
                fix='pip install "bench-paired[cluster]"',
            ) from None
        self._address, self._retries = address, retries
        self.places: list[Slot] = []  # one a training at once, of the workers that are there first
        self.devices: list[str] = []  # their names, for the record
        self._trouble: Exception | None = None  # what a listener raised
        self._deliver: Callable[[Message], None] = lambda message: None
        _require_certificate(address)
        for name in ("distributed", "distributed.client"):  # what goes wrong is raised, told once
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            self._client = Client(address, timeout=CONNECT_S, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise ClusterTrouble(
                f"no dask scheduler answers at {address}.",
                facts=[f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"],
                fix="start one with `dask scheduler`, then",
                options=[("address", "tcp://HOST:8786")],
            ) from None
        try:
            self._require_alike()
        except BaseException:
            self._client.close()
            raise

    @property
    def workers(self) -> int:
        """How many trainings run at once."""
        return sum(_capacity(worker) for worker in self._workers().values())

    def listen(self, deliver: Callable[[Message], None]) -> None:
        """Send the workers' messages to somebody, who is told not to record them."""

        def handle(event: tuple[float, Message]) -> None:
            try:
                deliver({**event[1], "passing": True})
            except Exception as error:  # a bug of ours: not dask's to die of
                self._trouble = self._trouble or error

        self._deliver = deliver
        self._client.subscribe_topic(self._topic, handle)

    @property
    def _topic(self) -> str:
        return f"bench-{self._client.id}"

    def pack_seeds(self, found: Discovered, arms: Mapping[str, Mapping[str, Any]]) -> int:
        """Return how many seeds train together on every device that is there.

        Raises
        ------
        Refusal : the workers' own, of settings that a device cannot train with
        """
        reference = found.reference
        answers = self._client.run(pack_seeds_here, reference, arms, on_error="return")
        for who, found in answers.items():
            if isinstance(found, Refusal):
                found.facts = (*found.facts, f"So says the worker {who}.")
                raise found
            if isinstance(found, Exception):
                raise ClusterTrouble(
                    f"{who} cannot plan {reference}: {text_of(found)}",
                    fix=f"copy it there, to the same path: {reference}",
                )
        return min(answers.values(), default=1)

    def wake(self) -> None:
        """Have `check` called soon: it is called twice a second anyway."""

    def close(self) -> None:
        """Let go of the scheduler; what is in training there ends unheard, dask cannot stop it."""
        self._client.close()

    def run(
        self,
        jobs: Sequence[Job],
        *,
        stop: Callable[[], bool] = lambda: False,
        on_retry: Callable[[Failure], None] = lambda failure: None,
        check: Callable[[], None] = lambda: None,
    ) -> Generator[list[Result], None, None]:
        """Train the jobs and yield each one's results as it finishes; see `Executor.run`.

        A pack whose machine is lost trains again on another one.
        """
        waiting, running = deque(jobs), dict[Any, Job]()
        try:
            while True:
                check()
                if self._trouble is not None:
                    raise self._trouble
                while waiting and len(running) < max(1, self.workers) and not stop():
                    job = waiting.popleft()
                    running[self._submit(job)] = job
                if not running:
                    return
                for future in self._done(running, seconds=0.5):
                    job = running.pop(future)
                    answer = _answer(future, job)
                    for failure in answer.retried:
                        on_retry(failure)
                    if answer.unlike is not None:  # else it would take one pack after another
                        self._deliver({"type": "notice", "text": answer.why})
                        with self._in_touch():
                            self._client.run_on_scheduler(send_away, address=answer.unlike)
                    if answer.results:
                        yield [*answer.results]
                    else:
                        waiting.appendleft(replace(job, attempt=job.attempt + 1))
        finally:
            self._client.cancel(list(running), force=True)

    def _submit(self, job: Job) -> Any:
        gpus = any(GPU in worker["resources"] for worker in self._workers().values())
        with self._in_touch():
            return self._client.submit(
                train_here,
                job,
                self._retries,
                versions(),
                self._topic,
                resources={GPU: 1} if gpus else None,
                pure=False,
                key=f"bench-pack-{job.pack}-{id(job):x}",
            )

    def _done(self, running: Mapping[Any, Job], *, seconds: float) -> list[Any]:
        """Return the futures that are over, after at most so many seconds."""
        from distributed import wait

        with self._in_touch(), self._client.as_current(), contextlib.suppress(TimeoutError):
            wait(list(running), timeout=seconds, return_when="FIRST_COMPLETED")
        return [future for future in running if future.done()]

    def _workers(self) -> Mapping[str, Any]:
        with self._in_touch():
            found: Mapping[str, Any] = self._client.scheduler_info(n_workers=-1)["workers"]
        return found

    @contextlib.contextmanager
    def _in_touch(self) -> Iterator[None]:
        """Say so where the scheduler has gone: what was in training is lost with it."""
        from distributed.client import FuturesCancelledError

        try:
            yield
        except (OSError, FuturesCancelledError) as error:
            raise ClusterTrouble(
                f"the dask scheduler at {self._address} has gone.",
                facts=["Everything that had finished is recorded."],
                fix="start scheduler and workers anew, then the same command",
            ) from error

    def _require_alike(self) -> None:
        with contextlib.suppress(TimeoutError):
            self._client.wait_for_workers(1, timeout=FIRST_WORKER_S)
        if not self._workers():
            raise ClusterTrouble(
                f"the dask scheduler at {self._address} has no workers.",
                fix=f"dask worker {self._address}",
            )
        mine, facts = versions(), []
        workers = self._client.run(introduction, on_error="return")
        for who, theirs in {"the scheduler": self._scheduler(), **workers}.items():
            if isinstance(theirs, dict):
                facts += [f"{who} {text}" for text in differences(theirs, mine)]
            else:
                facts.append(f"{who} cannot import bench: {type(theirs).__name__}: {theirs}")
        if facts:
            raise ClusterTrouble(
                f"{len(facts)} differences between this machine and the cluster.",
                facts=facts[:8],
                fix="install one environment everywhere, then start scheduler and workers anew",
            )
        self._look_around(workers)

    def _scheduler(self) -> Any:
        try:
            return self._client.run_on_scheduler(versions)
        except Exception as error:  # whatever the import there raised
            return error

    def _look_around(self, answers: Mapping[str, Mapping[str, Any]]) -> None:
        """Note the devices of the workers that have introduced themselves."""
        for who, worker in self._workers().items():
            if who in answers:
                there = answers[who]["places"]
                for i in range(_capacity(worker)):
                    device, threads = there[i % len(there)]
                    self.places.append(Slot(device, i // len(there), threads))
        names = [name for answer in answers.values() for name in answer["devices"]]
        self.devices = list(dict.fromkeys(names))


def _require_certificate(address: str) -> None:
    """Refuse early: dask itself would try for a long time, and then trip."""
    from distributed.security import Security

    mine = Security().get_connection_args("client")["ssl_context"]
    if address.startswith("tls://") and mine is None:
        raise ClusterTrouble(
            f"the scheduler at {address} asks for a certificate, and there is none here.",
            facts=["dask's configuration names it: distributed.comm.tls.client."],
            fix="copy ~/.config/dask from a machine that has one, then the same command",
        )


def versions() -> dict[str, str]:
    """Return what must be the same on every machine."""
    return {
        "bench": __version__,
        "torch": metadata.version("torch"),
        "python": ".".join(platform.python_version_tuple()[:2]),
    }


def differences(theirs: Mapping[str, Any], mine: Mapping[str, str]) -> list[str]:
    """Say what another machine has that must be the same everywhere and is not."""
    return [
        f"has {name} {theirs[name]}, this machine {mine[name]}."
        for name in MUST_AGREE
        if theirs[name] != mine[name]
    ]


def introduction() -> dict[str, Any]:
    """Return what a dask worker says of itself before anything is planned."""
    found = slots()
    places = [(slot.device, slot.threads) for slot in found]
    return {**versions(), "places": places, "devices": device_names(found)}


def pack_seeds_here(reference: str, arms: Mapping[str, Mapping[str, Any]]) -> int:
    """Return how many seeds train together on the devices of this dask worker."""
    with Server(reference) as server:
        return server.pack_seeds(arms, server.slots())


def _capacity(worker: Mapping[str, Any]) -> int:
    return int(worker["resources"].get(GPU, worker["nthreads"]))


def _answer(future: Any, job: Job) -> Answer:
    if future.status == "finished":
        answer: Answer = future.result()
        return answer
    error = future.exception() if future.status == "error" else None
    what = text_of(error) if error else "the cluster gave the training up."
    failed = _failed(job, what)
    killed = type(error).__name__ == "KilledWorker"  # by this training, again and again
    return Answer([], failed) if not killed and job.attempt <= MOST_UNLIKE else Answer(failed)


def send_away(dask_scheduler: Any, address: str) -> None:
    """End a worker; runs on the scheduler.

    `Client.retire_workers` would first hand its results to others, and wait for ever where one of
    them cannot read what bench has written.
    """
    dask_scheduler.close_worker(address)


def _failed(job: Job, what: str) -> list[Failure]:
    return [Failure(key=key, code="worker", what=what, attempt=job.attempt) for key in job.keys]


def train_here(job: Job, retries: int, expected: Mapping[str, str], topic: str) -> Answer:
    """Train one pack on this dask worker, in a process of its own that stays for the next one."""
    from distributed import get_worker

    worker, mine = get_worker(), versions()
    if odd := differences(mine, expected):  # it came later than the others were asked
        return _sent_elsewhere(job, worker.address, " ".join(odd))

    def tell(message: Message) -> None:
        if "slot" in message:  # of which every worker has a first
            slot = zlib.crc32(f"{worker.address} {threading.get_ident()}".encode())
            message = {**message, "slot": slot}
        worker.log_event(topic, message)

    try:
        executor, retried = _executor_here(job, retries), list[Failure]()
        executor.listen(tell)
        here = replace(job, folders=None)  # the paths of another machine
        results = [r for each in executor.run([here], on_retry=retried.append) for r in each]
        return Answer([*map(packed_up, results)], [*map(packed_up, retried)])
    except Exception as error:  # a full disk, a package that is missing: the training never began
        what = error.what if isinstance(error, Refusal) else text_of(error)
        return _sent_elsewhere(job, worker.address, f"cannot train: {what}")


def _sent_elsewhere(job: Job, address: str, why: str) -> Answer:
    """Return the answer of a worker that cannot train: another one shall, and it has to go."""
    failed = _failed(job, f"the worker {address} {why} It trains nothing.")
    if job.attempt <= MOST_UNLIKE:
        return Answer([], failed, unlike=address)
    return Answer(failed, unlike=address)


def _executor_here(job: Job, retries: int) -> Processes:
    """Return this thread's executor; another one where the experiment's source has changed."""
    wanted = job.source_digest, retries
    if getattr(_here, "trains", None) != wanted:  # a process imports a file only once
        if hasattr(_here, "executor"):
            _here.executor.close()
            _here.server.close()
        _here.server = Server(job.reference)
        places = _here.server.slots()
        if all(place.device == "cpu" for place in places):
            places = places[:1]  # dask says how many train at once
        _here.executor, _here.trains = Processes(_here.server, places, retries=retries), wanted
    executor: Processes = _here.executor
    return executor
