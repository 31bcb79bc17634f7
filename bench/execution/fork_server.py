"""Fork server: imports an experiment once, describes it, and forks the guards of its trainings.

`python -P -m bench.execution.fork_server NAME [SOCKET]`; JSON lines on stdin and stdout:

    describe                    the experiment in plain values, its reference and its source
    prepare  arms, data_dir     what `prepare` says about the data of each arm
    packs    arms, places       how many seeds train together on each kind of place
    usable   places             why torch cannot use each of some devices, or null
    ready    data_dir           what the module's own `ready` says, or null
    fork     threads, grace     whether trainings can be forked from here, or why not

Guards are forked on what arrives at SOCKET: one byte, with the slot's socket and its leases. A
process that is forked from here finds the experiment and its framework imported, its data ready,
and nothing that another training has left.
"""

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.analysis.errors import Refusal, text_of
from bench.design import source_digest
from bench.design.description import Discovered
from bench.design.loading import discover, load
from bench.execution.failures import own_line
from bench.execution.guard import (
    SET_PDEATHSIG,
    SET_SUBREAPER,
    Guard,
    children,
    end_all,
    prctl,
    reap,
    woken_by_children,
)
from bench.execution.lines import Lines, encode
from bench.execution.refusals import answered, refusal_of
from bench.execution.worker import flush, forked, typed_settings, use_threads
from bench.experiment import BadExperiment, Experiment

GUARDS_LEAVE_S = 2.0  # after the supervisor has gone
MOST_LEASES = 64


class Server:
    """The loop of the fork server."""

    def __init__(self, name: str, slots: socket.socket | None) -> None:
        self.name, self.slots = name, slots
        self.guards: set[int] = set()
        self.kept: set[int] = set()  # what the experiment started while it was imported
        self.lost_guard = False  # one has died, and not all that was below it
        self.commands = _private_pipes()
        self.found: Discovered | None = None
        self.refusal: dict[str, Any] | None = None
        self.import_s = 0.0

    def import_experiment(self) -> None:
        """Import it; a refusal is kept for whoever asks."""
        began = time.perf_counter()
        try:
            self.found = discover(self.name)
        except BaseException as error:
            self.refusal = refusal_of(error)
        flush()  # what it printed is read before this process ends
        self.import_s = time.perf_counter() - began

    def serve(self) -> None:
        """Answer until the supervisor has gone; never returns."""
        lines, woken = Lines(), woken_by_children() if self.slots else None
        source, answers = self.commands[0], os.fdopen(self.commands[1], "wb")
        watched: list[Any] = [source, *([self.slots, woken] if self.slots else [])]
        while True:
            ready = select.select(watched, [], [])[0] if self.slots else [source]
            if woken in ready and woken is not None:
                self._children_ended(woken)
            if self.slots is not None and self.slots in ready:
                self._new_guard(self.slots)
            if source in ready:
                data = os.read(source, 2**16)
                if not data:
                    self._leave()
                for message in lines.feed(data):
                    answers.write(encode(self._answer(message)))
                    answers.flush()

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        if self.found is None:
            return {"refusal": self.refusal}
        ask: Callable[..., Any] = getattr(self, f"_{message.pop('do')}")
        try:
            return {"answer": ask(self.found, **message)}
        except BaseException as error:
            return {"refusal": refusal_of(error)}

    # -- what can be asked -----------------------------------------------------------------

    def _describe(self, found: Discovered) -> dict[str, Any]:
        said = found.experiment
        arms = {name: dict(settings) for name, settings in said.arms.items()}
        experiment = {**vars(said), "arms": arms, "settings": dict(said.settings)}
        return {**vars(found), "experiment": experiment, "import_s": self.import_s}

    def _prepare(
        self, found: Discovered, arms: dict[str, Any], data_dir: str | None
    ) -> dict[str, Any]:
        prepare, folder = load(found.reference).prepare, Path(data_dir) if data_dir else None
        if prepare is None:
            return {}
        with _told("prepare", found):
            experiment = load(found.reference)
            typed = {arm: typed_settings(experiment, arm, arms[arm]) for arm in arms}
            return {arm: dict(prepare(settings, folder)) for arm, settings in typed.items()}

    def _packs(
        self, found: Discovered, arms: dict[str, Any], places: list[tuple[str, dict[str, str]]]
    ) -> int:
        """Ask in a process of its own for each place: who asks about a GPU starts CUDA."""
        experiment = load(found.reference)
        arms = {arm: typed_settings(experiment, arm, arms[arm]) for arm in arms}
        each = [_in_a_fork(_packs_on, found, experiment, arms, *place) for place in places]
        return max(1, min(each, default=1))

    def _usable(
        self, found: Discovered, places: list[tuple[str, dict[str, str]]]
    ) -> list[str | None]:
        return [_in_a_fork(_why_unusable, *place) for place in places]

    def _ready(self, found: Discovered, data_dir: str | None) -> str | None:
        ready = getattr(sys.modules.get(found.reference), "ready", None)
        said = None if ready is None else ready(data_dir and Path(data_dir))
        return None if said is None else str(said)

    def _digests(self, found: Discovered, names: list[str]) -> dict[str, str]:
        return source_digest.digests(source_digest.on_import_path(names))

    def _fork(self, found: Discovered, threads: int, grace_s: float) -> str | None:
        """Make this process one to fork from; return why it is none, or None."""
        if "torch" in sys.modules:  # else the first optimizer of every training imports it
            importlib.import_module("torch._dynamo")
        if self.slots is None:
            return "this system cannot"
        why = _unfit() or _probe(threads, grace_s)
        gc.collect()
        gc.freeze()  # a collection in a child would copy every page that it looks at
        gc.disable()
        prctl(SET_PDEATHSIG, 0)  # from now on this process ends in order
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.kept = set(children())
        return why

    # -- guards ----------------------------------------------------------------------------

    def _new_guard(self, slots: socket.socket) -> None:
        data, fds, _, _ = socket.recv_fds(slots, 1, 1 + MOST_LEASES)
        if not data:
            return
        control = socket.socket(fileno=fds[0])
        flush()  # else every training would print it once more
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                prctl(SET_PDEATHSIG, 0)
                signal.set_wakeup_fd(-1)
                slots.close()
                for fd in self.commands:
                    os.close(fd)
                Guard(control, forked).run()
            os._exit(1)
        self.guards.add(pid)
        control.close()
        for fd in fds[1:]:
            os.close(fd)

    def _children_ended(self, woken: int) -> None:
        """Where a guard was killed, end what was below it: its children, then theirs."""
        with contextlib.suppress(BlockingIOError):
            os.read(woken, 4096)
        reap()
        left = set(children())
        self.lost_guard |= not self.guards <= left
        self.guards &= left
        strangers = left - self.guards - self.kept if self.lost_guard else set()
        for pid in strangers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.lost_guard = bool(strangers)

    def _leave(self) -> None:
        """End: guards do so by themselves, for their sockets are closed too."""
        until = time.monotonic() + GUARDS_LEAVE_S
        if self.slots is not None:
            while reap() and self.guards & set(children()) and time.monotonic() < until:
                time.sleep(0.005)
            end_all(0)
        os._exit(0)


@contextlib.contextmanager
def _told(what: str, found: Discovered) -> Any:
    """Turn an exception of the experiment's own functions into a refusal with its line."""
    try:
        yield
    except Refusal:
        raise
    except (Exception, SystemExit) as error:
        place = own_line(error)
        raise BadExperiment(
            f"{what} of experiment {found.experiment.name!r} failed: {text_of(error)}",
            facts=[f"In {place[0]}: {place[1]}"] if place else [],
            fix="mend it, then the same command",
        ) from error


def _packs_on(
    found: Discovered,
    experiment: Experiment,
    arms: dict[str, Any],
    device: str,
    environment: dict[str, str],
) -> int:
    os.environ.update(environment)
    size = experiment.pack_seeds
    if isinstance(size, int):
        return size
    with _told("pack_seeds", found):
        return min(size(settings, device) for settings in arms.values())


def _why_unusable(device: str, environment: dict[str, str]) -> str | None:
    """Say why torch cannot use a device, in torch's words; None where it can, or is not used."""
    os.environ.update(environment)
    torch = sys.modules.get("torch")
    try:
        if torch is not None:
            torch.ones(8, device=device).sum().item()
    except Exception as error:
        return text_of(error)
    return None


def _in_a_fork(ask: Callable[..., Any], *arguments: Any, seconds: float | None = None) -> Any:
    """Return what a function says in a process of its own.

    Raises
    ------
    TimeoutError : it has said nothing after so many seconds, and is killed
    """
    if not hasattr(os, "fork"):
        return ask(*arguments)
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(w, encode({"answer": ask(*arguments)}))
        except BaseException as error:
            os.write(w, encode({"refusal": refusal_of(error)}))
        finally:
            os._exit(0)
    os.close(w)
    with os.fdopen(r, "rb") as pipe:
        late = not select.select([pipe], [], [], seconds)[0]
        if late:
            os.kill(pid, signal.SIGKILL)
        answers = Lines().feed(pipe.read())
    os.waitpid(pid, 0)
    if late:
        raise TimeoutError
    if not answers:
        raise RuntimeError("its process died")
    return answered(answers[0])


def _unfit() -> str | None:
    """Say why a fork of this process could not train, as far as that can be seen."""
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = os.readlink(path)
            if target.startswith(("/dev/nvidia", "/dev/kfd", "/dev/dri/render")):
                return f"the experiment has opened {target} while it was imported"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return "the experiment has started CUDA while it was imported"
    return None


def _probe(threads: int, grace_s: float) -> str | None:
    """Compute a product and a gradient in a fork; threads that it inherited could make it hang."""
    try:
        _in_a_fork(_compute, threads, seconds=grace_s)
    except TimeoutError:
        return "a fork of it hangs in its first product"
    except Exception:
        return "a fork of it could not compute"
    return None


def _compute(threads: int) -> None:
    import numpy as np

    use_threads(threads)
    np.ones((64, 64)) @ np.ones((64, 64))
    torch = sys.modules.get("torch")
    if torch is not None:
        weights = torch.ones(64, 64, requires_grad=True)
        (weights @ torch.ones(64, 64)).sum().backward()


def _private_pipes() -> tuple[int, int]:
    """Take stdin and stdout for the supervisor alone: what the experiment prints goes to the log.

    Whoever reads stdin finds its end.
    """
    mine = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return mine


def _ended(number: int, frame: object) -> None:
    """End in the middle of an import or of `prepare`, with all that it has started."""
    end_all(0)
    os._exit(1)


def main() -> None:
    """Import the experiment, then serve."""
    name, *rest = sys.argv[1:]
    parent, slots = os.getppid(), socket.socket(fileno=int(rest[0])) if rest else None
    sys.argv = [name]  # as the experiment would see it, were it a script
    server = Server(name, slots)
    if slots is not None:
        prctl(SET_SUBREAPER, 1)
        signal.signal(signal.SIGTERM, _ended)
        prctl(SET_PDEATHSIG, signal.SIGTERM)  # while the import keeps it from listening
        if os.getppid() != parent:
            os._exit(1)
    server.import_experiment()
    server.serve()


if __name__ == "__main__":
    main()
