"""Faults: what injects them, what they are injected into, and the table of what survived."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

LONG = os.environ.get("BENCH_CAMPAIGN") == "long"
# places, times, a repetition, and the digest of a file that holds these
VOLATILE = {"costs", "provenance", "frozen_at", "duration_s", "attempts", "digest"}
OF_THIS_STORE = {"N1", "N3"}  # checks that note a repetition, and the other plans of the store
LOST, WRONG = "finished runs lost", "wrong"
TRAINED = """
time.sleep(float(os.environ.get("NAP", "0")))
exec(os.environ.get("DO", ""))
with open(os.environ["TRAINED"], "a") as log:
    print(trial.arm, trial.seed, file=log)
"""


# -- the table -------------------------------------------------------------------------------


class Tally:
    """Counts what is injected, what of it survived and, where looked at, what was lost or wrong."""

    def __init__(self, table: dict[str, dict[str, int]]) -> None:
        self.table = table

    def row(self, fault: str) -> dict[str, int]:
        return self.table.setdefault(fault, {"injected": 0, "survived": 0})

    @contextmanager
    def __call__(self, fault: str) -> Iterator[None]:
        """Count one fault; it has survived when the block ends without an error."""
        self.row(fault)["injected"] += 1
        yield
        self.row(fault)["survived"] += 1

    def lost(self, fault: str, runs: int) -> None:
        """Count finished runs that were lost, or recorded twice."""
        row = self.row(fault)
        row[LOST] = row.get(LOST, 0) + runs
        assert runs == 0, f"{runs} finished runs lost or doubled by: {fault}"

    def right(self, fault: str, numbers: Any, undisturbed: Any) -> None:
        """Count a command that ended as if well with other numbers than the undisturbed ones."""
        row = self.row(fault)
        row[WRONG] = row.get(WRONG, 0) + (numbers != undisturbed)
        assert numbers == undisturbed


@pytest.fixture(scope="session")
def fault(counts: dict[str, Any]) -> Tally:
    """Return what counts a fault around the block in which it happens."""
    return Tally(counts.setdefault("faults", {}))


@pytest.fixture(scope="session")
def times() -> Callable[[int, int], int]:
    """Return what chooses between the short version, in `make test`, and the campaign's."""
    return lambda short, long: long if LONG else short


# -- commands in processes of their own --------------------------------------------------------


@dataclass
class Command:
    """A command line that runs, or has run."""

    pid: int
    mark: str  # in the environment of every process below it
    out_path: Path
    err_path: Path
    done: threading.Event = field(default_factory=threading.Event)
    status: int | None = None

    @property
    def out(self) -> str:
        return self.out_path.read_text("utf-8")

    @property
    def err(self) -> str:
        return self.err_path.read_text("utf-8")

    def wait(self, timeout: float = 120.0) -> int:
        assert self.done.wait(timeout), f"still running after {timeout} s:\n{self.err}"
        assert self.status is not None
        return self.status

    def until(self, text: str, timeout: float = 60.0) -> str:
        """Wait for a text on stderr."""
        deadline = time.monotonic() + timeout
        while text not in self.err:
            over = self.done.is_set() or time.monotonic() > deadline
            assert not over or text in self.err, f"{text!r} never came:\n{self.err}"
            time.sleep(0.01)
        return self.err

    def kill(self, number: int = signal.SIGKILL) -> bool:
        """Send a signal to it alone; tell whether it lived to take it."""
        with suppress(ProcessLookupError):
            if _session(self.pid) == self.pid:  # alive, and in a session of its own already
                os.kill(self.pid, number)
                return True
        return False

    def kill_group(self) -> bool:
        """Kill it and everything below it; tell whether it lived."""
        lived = self.kill()
        for pid in self.family():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return lived

    def runs_done(self) -> int:
        """Count the runs that it has said to be done."""
        return self.err.count(" run done ")

    def family(self) -> list[int]:
        """Return what is alive of it: itself, its session, and who has its environment."""
        return [pid for pid in _pids() if _session(pid) == self.pid or _marked(pid, self.mark)]

    def leaves_nobody_behind(self, timeout: float = 10.0) -> None:
        """Wait until no process of it is left: an orphan would train on."""
        deadline = time.monotonic() + timeout
        while left := self.family():
            assert time.monotonic() < deadline, f"orphans: {[_named(pid) for pid in left]}"
            time.sleep(0.02)


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _session(pid: int) -> int | None:
    """Return a living process's session."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[3])


def _marked(pid: int, mark: str) -> bool:
    """Tell whether a process has a mark in its environment, whatever session it is in."""
    try:
        return f"COMMAND={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _named(pid: int) -> str:
    try:
        return f"{pid} {Path(f'/proc/{pid}/cmdline').read_text()[:80]}"
    except OSError:
        return str(pid)


class Zygote:
    """Forks commands from a process that has imported everything."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.commands = folder, dict[int, Command]()
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("zygote.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._started: list[int] = []
        self._news = threading.Condition()
        self._count = 0
        assert "ready" in json.loads(self._line())
        threading.Thread(target=self._read, daemon=True).start()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def _read(self) -> None:
        while line := self._line():
            news = json.loads(line)
            with self._news:
                if "started" in news:
                    self._started.append(news["started"])
                else:
                    self._news.wait_for(lambda: news["ended"] in self.commands, timeout=10)  # noqa: B023
                    command = self.commands[news["ended"]]
                    command.status = news["status"]
                    command.done.set()
                self._news.notify_all()

    def start(
        self,
        *words: object,
        folder: Path | None = None,
        terminal: str | None = None,
        closed: tuple[str, ...] = (),
        stdout: str | None = None,
        **environment: object,
    ) -> Command:
        """Start a command line; its stderr is a file, or this terminal.

        Parameters
        ----------
        closed : which of stdin, stdout and stderr are closed
        stdout : where it goes instead of a file
        environment : variables, and what `zygote.surround` makes of them
        """
        assert self.process.stdin is not None
        self._count += 1
        mark = f"{self.process.pid}-{self._count}"
        out, err = (self.folder / f"{self._count}.{name}" for name in ("out", "err"))
        request = {
            "words": [str(word) for word in words],
            "folder": str(folder or self.folder),
            "environment": {
                name: os.environ[name] for name in ("BENCH_CACHE",) if name in os.environ
            }
            | {name: str(value) for name, value in environment.items()}
            | {"COMMAND": mark},
            "out": stdout or str(out),
            "closed": closed,
            "err": terminal or str(err),
        }
        err.touch()
        with self._news:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            assert self._news.wait_for(lambda: bool(self._started), timeout=20)
            command = Command(self._started.pop(), mark, out, err)
            self.commands[command.pid] = command
            self._news.notify_all()
        return command

    def close(self) -> None:
        for command in self.commands.values():
            for pid in command.family():
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """Return what starts command lines fast, each in a process of its own."""
    if sys.platform != "linux":
        pytest.skip("forks, and looks at /proc")
    made = Zygote(tmp_path_factory.mktemp("commands"))
    yield made
    made.close()


# -- what they train, and what must be equal afterwards ----------------------------------------


@pytest.fixture(scope="session")
def experiment(tmp_path_factory: pytest.TempPathFactory, write_tiny: Callable[..., Path]) -> Path:
    """Return an experiment that notes every training in $TRAINED when it has ended."""
    return write_tiny(tmp_path_factory.mktemp("experiment"), TRAINED)


def quoted(value: Any) -> Any:
    """Return results.json without times and places; of a check, which names both, id and state."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in VOLATILE}
        if "checks" in kept:
            checks = [(check["id"], check["state"]) for check in kept["checks"]]
            kept["checks"] = [check for check in checks if check[0] not in OF_THIS_STORE]
        return {k: quoted(v) for k, v in kept.items()}
    return [quoted(item) for item in value] if isinstance(value, list) else value


@dataclass
class Bench:
    """One store in a folder of its own, and the command that is run on it again and again."""

    zygote: Zygote
    folder: Path
    experiment: Path
    uri: str
    name: str = "tiny"

    def start(self, *words: object, seeds: int = 6, **how: Any) -> Command:
        words = ("run", self.experiment, "--seeds", seeds, "--workers", 2, *words)
        return self.command(*words, **how)

    def command(self, *words: object, **how: Any) -> Command:
        how = {"TRAINED": self.folder / "trained.txt", "NAP": 0, **how}
        words = (*words, "--store", self.uri)
        return self.zygote.start(*words, folder=self.folder, **how)

    def run(self, *words: object, **how: Any) -> Command:
        command = self.start(*words, **how)
        command.wait()
        return command

    @contextmanager
    def locked(self, *, against_readers: bool = False) -> Iterator[None]:
        """Hold the database as another program would that writes, or that copies it."""
        with closing(sqlite3.connect(self.folder / "mlflow.db", timeout=30)) as other:
            if against_readers:
                other.execute("PRAGMA locking_mode=EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
            yield
            other.rollback()

    def told(self, commands: list[Command]) -> Counter[str]:
        """Count how often each run was said to be done."""
        lines = [line for command in commands for line in command.err.splitlines()]
        return Counter(
            " ".join(line.split()[3:5]) for line in lines if line.split()[1:3] == ["run", "done"]
        )

    def trained(self) -> int:
        path = self.folder / "trained.txt"
        return len(path.read_text().splitlines()) if path.exists() else 0

    @property
    def report(self) -> Path:
        return self.folder / "reports" / "tiny"

    def results(self) -> Any:
        return json.loads((self.report / "results.json").read_text("utf-8"))

    def numbers(self) -> Any:
        return quoted(self.results())

    def finished(self) -> Counter[str]:
        """Count the finished runs of every trial that count."""
        from bench.store.mlflow_store import Store

        store = Store(self.uri)
        found = store.children(store.benchmark(self.name))
        return Counter(
            {
                f"seed={key.seed} arm={key.arm}": n
                for key, runs in found.items()
                if (n := sum(child.status == "FINISHED" for child in runs))
            }
        )


@pytest.fixture
def on(
    zygote: Zygote,
    experiment: Path,
    copy_store: Callable[[Path], str],
    tmp_path: Path,
) -> Callable[..., Bench]:
    """Return what makes an empty store to run the experiment, or another, on."""

    def make(name: str = "store", other: Path | None = None) -> Bench:
        folder = tmp_path / name
        return Bench(zygote, folder, other or experiment, copy_store(folder))

    return make


@pytest.fixture(scope="session")
def undisturbed(
    zygote: Zygote,
    experiment: Path,
    copy_store: Callable[[Path], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """Return the numbers of twelve runs that nothing happened to, and that one worker trained."""
    folder = tmp_path_factory.mktemp("undisturbed")
    bench = Bench(zygote, folder, experiment, copy_store(folder))
    command = bench.run("--workers", 1)
    assert command.status == 0, command.err
    return bench.numbers()


@pytest.fixture
def chance() -> random.Random:
    """Return the random moments: the same ones in every run of the tests."""
    return random.Random(6)
