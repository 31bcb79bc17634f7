"""The supervisor's side of a fork server: an experiment in plain values, and slots to train."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from bench.analysis.errors import Refusal
from bench.design.description import Description, Discovered
from bench.design.plan import digest
from bench.execution import devices
from bench.execution.base import Closing
from bench.execution.devices import BadDevices, Slot
from bench.execution.lines import Lines, encode
from bench.execution.refusals import answered
from bench.execution.slot_lines import Fresh, Guarded, SlotLine

THREADS = ("OMP", "MKL", "OPENBLAS", "NUMEXPR")
LEAVE_S = 5.0  # that the server has to end what its guards run
PROBE_S = 10.0  # that a fork has for one product and one gradient
LOG_TAIL_BYTES = 64 * 1024


class ServerTrouble(Refusal):
    """The process that imports the experiment died."""

    code = "experiment"
    exit_status = 3


def limited_to(threads: int) -> dict[str, str]:
    """Return the environment of a process that computes with so many threads."""
    return {f"{name}_NUM_THREADS": str(threads) for name in THREADS}


def environment() -> dict[str, str]:
    """Return the environment of a process that imports the experiment; trainings inherit it."""
    return {
        **os.environ,
        **limited_to(1),  # with more, a fork of it would hang
        "PYTHONHASHSEED": "0",
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # torch.cuda.is_available() starts no CUDA
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # deterministic matrix products on CUDA
    }


class Server(Closing):
    """A process that has imported one experiment.

    Parameters
    ----------
    name : a built-in experiment, a Python file, or a module
    fork : fork the trainings from it, where this system can; else each is a fresh interpreter
    """

    def __init__(self, name: str, *, fork: bool = sys.platform == "linux") -> None:
        self.name = name
        self.scratch = Path(tempfile.mkdtemp(prefix="bench-"))
        self.log = self.scratch / "import.txt"
        self.why_fresh: str | None = None  # why trainings are not forked, once that is known
        self.import_s = 0.0  # that each of them then takes to import the experiment
        self._fork = fork
        self._lock, self._lines = threading.RLock(), Lines()
        self._said: list[dict[str, Any]] = []
        self._asked = 0  # questions whose answer has not been read
        self._found: Discovered | None = None
        self._ready: int | None = None  # the place of the answer to "fork"
        self._slots: socket.socket | None = None
        self._process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        words, theirs = [self.name.replace("\0", "?")], None  # no name of a file has it
        if self._fork:
            self._slots, theirs = socket.socketpair()
            words.append(str(theirs.fileno()))
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "bench.execution.fork_server", *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(),
                pass_fds=[theirs.fileno()] if theirs else [],
                start_new_session=True,
            )
        if theirs is not None:
            theirs.close()
        return process

    # -- what is asked ---------------------------------------------------------------------

    @property
    def found(self) -> Discovered:
        """The experiment, its reference and its source.

        Raises
        ------
        Refusal : it does not import, or is none
        """
        with self._lock:
            if self._found is None:
                said = self._ask("describe")
                self.import_s = float(said.pop("import_s"))
                self._found = Discovered(Description(**said.pop("experiment")), **said)
            return self._found

    def slots(self, wanted: str = "auto", **how: Any) -> list[Slot]:
        """Return the slots of this machine that suit the experiment; see `devices.slots`."""
        wish = self.found.experiment
        return devices.slots(wanted, device=wish.device, devices=wish.devices, **how)

    def data(self, arms: Mapping[str, Mapping[str, Any]], data_dir: Path | None) -> dict[str, Any]:
        """Let the experiment make its data ready for every arm, and return what it says of them.

        Returns
        -------
        facts by name; one in which the arms differ once an arm, as "weights (baseline)"
        """
        plain = {arm: dict(settings) for arm, settings in arms.items()}
        facts: dict[str, dict[str, Any]] = self._ask(
            "prepare", arms=plain, data_dir=data_dir and str(data_dir)
        )
        merged: dict[str, Any] = {}
        for name in dict.fromkeys(name for said in facts.values() for name in said):
            said = {arm: facts[arm][name] for arm in arms if name in facts.get(arm, {})}
            first = next(iter(said.values()))
            if len(said) == len(arms) and all(digest(v) == digest(first) for v in said.values()):
                merged[name] = first
            else:
                merged |= {f"{name} ({arm})": value for arm, value in said.items()}
        return merged

    def pack_seeds(self, arms: Mapping[str, Mapping[str, Any]], slots: Sequence[Slot]) -> int:
        """Return how many seeds train together on each of the slots; 0 where there are no packs."""
        size = self.found.experiment.pack_seeds
        if size is not None:
            return size
        plain = {arm: dict(settings) for arm, settings in arms.items()}
        each = {slot.device: [slot.trial_device, slot.environment()] for slot in slots}
        return int(self._ask("packs", arms=plain, places=[*each.values()]))

    def require_usable(self, slots: Sequence[Slot]) -> None:
        """Refuse GPUs that are there and that torch cannot use, before anything trains on the CPU.

        Raises
        ------
        BadDevices : with torch's own reason; one that works is enough, the others are shut out
        """
        reasons: list[str | None] = []
        for slot in {slot.device: slot for slot in slots if slot.devices}.values():
            reasons += self._ask("usable", places=[[slot.trial_device, slot.environment()]])
            if reasons[-1] is None:
                return
        if reasons:
            raise BadDevices(
                f"{slots[0].device} is there, but torch cannot use it.",
                facts=[" ".join((reasons[0] or "").split())[:400]],
                options=[("devices", "cpu")],
            )

    def missing(self, data_dir: Path | None) -> str | None:
        """Return why a built-in experiment could not run here now, or None where it could."""
        said = self._ask("ready", data_dir=data_dir and str(data_dir))
        return None if said is None else str(said)

    def digests(self, names: Sequence[str]) -> dict[str, str]:
        """Return the SHA-256 of modules, by their path, as an import would find them now."""
        return dict(self._ask("digests", names=list(names)))

    def get_ready(self, threads: int) -> None:
        """Let it become a process to fork from, while somebody does other things."""
        with self._lock:
            if self._ready is None:
                self._ready = self._send("fork", threads=threads, grace_s=PROBE_S)

    @property
    def forks(self) -> bool:
        """Whether trainings are forked from it; waits until that is known."""
        with self._lock:
            if self._ready is None:
                self.get_ready(1)
            if self._ready is not None and self._ready >= 0:
                self.why_fresh = self._answer(self._ready)
                self._ready = -1
            return self.why_fresh is None

    def _ask(self, what: str, **details: Any) -> Any:
        with self._lock:
            return self._answer(self._send(what, **details))

    def _send(self, what: str, **details: Any) -> int:
        """Ask, and return which answer it will be."""
        pipe: IO[bytes] | None = self._process.stdin
        if pipe is not None:
            with contextlib.suppress(OSError):  # it has died: reading the answer says so
                pipe.write(encode({"do": what, **details}))
                pipe.flush()
        self._asked += 1
        return self._asked - 1

    def _answer(self, number: int) -> Any:
        pipe: IO[bytes] | None = self._process.stdout
        while pipe is not None and len(self._said) <= number:
            data = os.read(pipe.fileno(), 2**16)
            if not data:
                raise self._died()
            self._said += self._lines.feed(data)
        return answered(self._said[number])

    def _died(self) -> Refusal:
        code = self._process.wait()
        last = self.printed().strip().splitlines()[-3:]
        how = signal.Signals(-code).name if code < 0 else f"status {code}"
        return ServerTrouble(
            f"the process that imports {self.name} ended with {how}.",
            facts=last,
            fix=f"python {self.name}" if self.name.endswith(".py") else None,
        )

    def printed(self) -> str:
        """Return the end of what the experiment printed while it was imported."""
        return tail(self.log)

    # -- slots -----------------------------------------------------------------------------

    def line(self, leases: Sequence[int] = ()) -> SlotLine:
        """Return what trains one slot: by a guard where this system has such a thing.

        Parameters
        ----------
        leases : descriptors of the devices' locks, which the guard holds from now on
        """
        fork = self.forks
        if self._slots is None:
            return Fresh(environment())
        mine, theirs = socket.socketpair()
        with theirs, self._lock:
            try:
                socket.send_fds(self._slots, [b"s"], [theirs.fileno(), *leases])
            except OSError as error:
                mine.close()
                raise self._died() from error
        return Guarded(mine, fork=fork)

    def close(self) -> None:
        """End it; its guards end what they train. Idempotent."""
        for stream in (self._process.stdin, self._process.stdout, self._slots):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        if not self._listens():
            self._process.terminate()
        try:
            self._process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _listens(self) -> bool:
        """Tell whether it has answered all that it was asked; else it may be in the user's code."""
        return self._asked > 0 and len(self._said) == self._asked


def tail(path: Path) -> str:
    """Return the end of a log, at most 64 KiB."""
    try:
        with path.open("rb") as handle:
            handle.seek(max(0, handle.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            return handle.read().decode("utf-8", "replace")
    except OSError:
        return ""
