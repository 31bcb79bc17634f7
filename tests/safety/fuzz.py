"""Fuzzing: thousands of mutated inputs, and whether a command behaves on every one of them.

python tests/safety/fuzz.py               20,000 in process, 200 through `bench`; writes fuzz.md
python tests/safety/fuzz.py --only 4711   one of them again; prints what was said

An input follows from its number and --seed alone. The 20,000 run in forks of this process, which
has imported bench once, 25 one after another; where one would train, serve or open a browser, it is
refused instead. The 200 are processes of their own, in odd environments too. An input that was not
answered well among others is tried again in a fork of its own, which counts. If it fails there too
it is kept in --keep, a folder each, with the command line and what it said.
"""

import argparse
import contextlib
import gc
import importlib
import io
import json
import multiprocessing
import os
import platform
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import fuzz_inputs
from fuzz_inputs import KINDS, odd_environment, without_nul

PROGRAM = Path(sys.executable).with_name("bench")
STATUSES = (0, 2, 3, 4, 5, 10)
TOGETHER = 25  # inputs of one fork
FIRST_REAL = 1_000_000  # numbers from here on are inputs of the real command
MOST_MIB = 1024  # of memory, imports and all
MOST_ADDRESSES = 12 * 2**30  # bytes: what asks for more gets a MemoryError, not the machine
MODULES = (
    "bench.cli", "bench.analysis.report.terminal", "bench.commands.drafting",
    "bench.display.progress", "bench.execution.dry_run", "bench.execution.fork_server",
    "bench.execution.processes", "bench.execution.provenance", "bench.execution.runner",
    "bench.reports.build", "bench.reports.compare", "bench.reports.verify",
    "bench.store.mlflow_store", "bench.store.mlflow_ui", "pyarrow.parquet",
    "mlflow.store.tracking.sqlalchemy_store",
)  # fmt: skip
PAGE = """# Fuzzing

Mutated inputs, and how commands answered them. Right is: an exit status of {statuses}, with
`error[…]` where it is not 0 or 10; no traceback, no escape sequence, an end within {limit:.0f} s
and {memory} MiB, imports included. Other: another status, a refusal without `error[…]`, an escape
sequence, or more memory. Memory is the highest peak of the process, which had up to {together}
inputs.

Written by `python tests/safety/fuzz.py {options}`
on {date}; the commands took {minutes:.0f} minutes.
Python {python}, {cores} cores, {system}.

{table}
"""


@dataclass(frozen=True)
class Answer:
    """What a command line left behind."""

    status: int | None  # None: it had to be killed; negative: a signal ended it
    out: str
    err: str
    peak_mib: float
    seconds: float

    def faults(self, words: Sequence[str]) -> list[str]:
        """Return what is wrong with it; nothing where it behaved."""
        found = []
        if self.status is None:
            found.append("hang")
        elif self.status not in STATUSES:
            found.append(f"status {self.status}")
        elif self.status not in (0, 10) and "error[" not in self.err and "Usage" not in self.out:
            found.append("no error[…]")
        if "Traceback (most recent call last)" in self.err + self.out:
            found.append("traceback")
        if re.search("[\x1b\x9b]", self.err + self.out):
            found.append("escape sequence")
        if self.peak_mib > MOST_MIB:
            found.append(f"{self.peak_mib:.0f} MiB")
        if self.status not in (0, 10, None) and "--json" in words and not _is_error(self.out):
            found.append("no JSON error")
        return found


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for suffix in (".out", ".err"):
        folder.with_suffix(suffix).unlink(missing_ok=True)


def _is_error(out: str) -> bool:
    try:
        return out.startswith("Usage") or set(json.loads(out)) == {"error"}
    except ValueError:
        return False


# -- a command line in a process ----------------------------------------------------------------


def answered(
    main: Callable[[Sequence[str]], object],
    words: Sequence[str],
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    limit_s: float = 60,
) -> Answer:
    """Return how a command line ends in a fork, which gets a working folder of its own."""
    files = [folder.with_suffix(suffix) for suffix in (".out", ".err")]
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _be_apart()
        os._exit(_ended(main, words, folder, files, environment or {}))
    handle = os.pidfd_open(pid)
    ended = select.select([handle], [], [], limit_s)[0]
    if not ended:
        os.kill(pid, signal.SIGKILL)
    os.close(handle)
    _, code, usage = os.wait4(pid, 0)
    out, err = (path.read_text("utf-8", errors="replace") for path in files)
    status = os.waitstatus_to_exitcode(code) if ended else None
    return Answer(status, out, err, usage.ru_maxrss / 1024, time.monotonic() - began)


def _be_apart() -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESSES, MOST_ADDRESSES))


def _ended(
    main: Callable[[Sequence[str]], object],
    words: Sequence[str],
    folder: Path,
    files: Sequence[Path],
    environment: Mapping[str, str],
) -> int:
    """Return the exit status of a command line in this process, what it says in two files."""
    status = 1
    try:
        for number, path in enumerate((os.devnull, *files)):
            opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(opened, number)
            os.close(opened)
        sys.stdout, sys.stderr = (open(n, "w", encoding="utf-8", closefd=False) for n in (1, 2))
        sys.stderr.reconfigure(errors="backslashreplace")
        os.chdir(folder)
        os.environ.update(environment)
        sys.argv = ["bench", *words]
        main(words)
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    return status


@contextlib.contextmanager
def put_back() -> Iterator[None]:
    """Put back afterwards what a command may change in its process."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    handlers = [(one, signal.getsignal(one)) for one in signals]
    environment, path, modules = dict(os.environ), list(sys.path), set(sys.modules)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            if "site-packages" not in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]
        for one, handler in handlers:
            signal.signal(one, handler)
        os.chdir("/")


def forked_main(words: Sequence[str]) -> None:
    """Be `bench` in a fork that has it imported: without trainings, servers and browsers."""
    import webbrowser

    import bench.execution.processes
    import bench.execution.server
    import bench.store.mlflow_ui
    from bench import cli

    bench.execution.server.Server = _imported_here()  # type: ignore[misc]
    bench.execution.processes.Processes.__init__ = _refuse  # type: ignore[method-assign,assignment]
    bench.store.mlflow_ui.served = _refuse  # type: ignore[assignment]
    webbrowser.open = _refuse  # type: ignore[assignment]
    cli.main()


def _refuse(*_: object, **__: object) -> NoReturn:
    from bench.analysis.errors import DiskFull

    raise DiskFull("here it would train, serve or open a browser.")


def _imported_here() -> Any:
    """Return a stand-in for what imports experiments: it does so in this process."""
    from bench.execution import fork_server, refusals, server

    class Here(server.Server):
        def _start(self) -> Any:
            self.here = fork_server.Server.__new__(fork_server.Server)
            self.here.name, self.here.found = self.name.replace("\0", "?"), None
            self.here.import_experiment()

        def _ask(self, what: str, **details: Any) -> Any:
            message = json.loads(json.dumps({"do": what, **details}))
            return refusals.answered(json.loads(json.dumps(self.here._answer(message))))

        def get_ready(self, threads: int) -> None:
            _refuse()

        def close(self) -> None:
            shutil.rmtree(self.scratch, ignore_errors=True)

    return Here


def real_main(words: Sequence[str]) -> None:
    """Be the real command, which may only plan where a fork is kept from training."""
    words = [word for word in words if word != "--dry-run"]
    instead = {"run": "plan", "doctor": "status", "ui": "status"}
    words[:1] = [instead.get(word, word) for word in words[:1]]
    os.execv(PROGRAM, [os.fsencode(word) for word in (str(PROGRAM), *words)])


# -- inputs by number ---------------------------------------------------------------------------


class Tried(NamedTuple):
    """One input."""

    row: str  # of the table
    answer: Answer
    faults: Sequence[str]


class Fuzzer:
    """Makes, tries and counts inputs."""

    def __init__(self, seed: int, valid: Path, keep: Path, limit_s: float) -> None:
        self.seed, self.valid, self.keep, self.limit_s = seed, valid, keep, limit_s
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.peaks: dict[str, float] = defaultdict(float)
        self.seconds: dict[str, float] = defaultdict(float)
        self.state = keep / f"state-{seed}.json"
        keep.mkdir(parents=True, exist_ok=True)

    def kind(self, number: int) -> str:
        rng = np.random.default_rng([self.seed, number, 0])
        return str(rng.choice([*KINDS], p=[share for _, share in KINDS.values()]))

    def attempt(self, number: int) -> Tried:
        """Try one input in a process of its own; keep it where it was not answered well."""
        folder, words, environment = self.made(number)
        main = real_main if number >= FIRST_REAL else forked_main
        answer = answered(main, words, folder, environment=environment, limit_s=self.limit_s)
        faults = answer.faults(words)
        if faults:
            shown = " ".join(map(ascii, ["bench", *words]))
            print(f"{number} {self.kind(number)}: {', '.join(faults)}\n  {environment} {shown}")
            sys.stdout.flush()
            folder.with_suffix(".words").write_text(f"{environment} {shown}\n")
        else:
            _remove(folder)
        return Tried(self.row(number), answer, faults)

    def made(self, number: int) -> tuple[Path, list[str], dict[str, str]]:
        """Make an input: its folder, the words of its command and its environment."""
        rng, kind = np.random.default_rng([self.seed, number]), self.kind(number)
        folder = self.keep / str(number)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        words = without_nul(KINDS[kind][0](rng, self.valid, folder))
        odd = number >= FIRST_REAL or kind == "environments"
        return folder, words, odd_environment(rng) if odd else {}

    def row(self, number: int) -> str:
        kind = self.kind(number)
        return f"{kind}, real command" if number >= FIRST_REAL else kind

    def each(self, numbers: Sequence[int]) -> list[Tried]:
        """Try inputs, each in a process of its own."""
        return [self.attempt(number) for number in numbers]

    def together(self, numbers: Sequence[int]) -> list[Tried]:
        """Try inputs in one process; in one of its own whatever is not answered well there."""
        tried: list[Tried] = []
        while len(tried) < len(numbers):
            for answer in self._in_turn(numbers[len(tried) :]):
                number = numbers[len(tried)]
                good = Tried(self.row(number), answer, ())
                tried.append(good if answer.status is not None else self.attempt(number))
            if len(tried) < len(numbers):  # it died or hung
                tried.append(self.attempt(numbers[len(tried)]))
        return tried

    def _in_turn(self, numbers: Sequence[int]) -> Iterator[Answer]:
        """Yield what each input of one fork left behind, until one hangs or ends the process.

        The text is not kept, and status None says that something was wrong.
        """
        heard, said = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._one_after_another(numbers, said)
        os.close(said)
        text = b""
        while select.select([heard], [], [], self.limit_s)[0] and (more := os.read(heard, 65536)):
            *lines, text = (text + more).split(b"\n")
            for line in lines:
                status, peak_mib, seconds = json.loads(line)
                yield Answer(status, "", "", peak_mib, seconds)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(heard)

    def _one_after_another(self, numbers: Sequence[int], say: int) -> NoReturn:
        _be_apart()
        for number in numbers:
            folder, words, environment = self.made(number)
            files = [folder.with_suffix(suffix) for suffix in (".out", ".err")]
            began = time.monotonic()
            with put_back():
                status: int | None = _ended(forked_main, words, folder, files, environment)
            seconds, used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF)
            texts = [path.read_text("utf-8", errors="replace") for path in files]
            answer = Answer(status, *texts, used.ru_maxrss / 1024, seconds)
            if answer.faults(words):
                status = None
            _remove(folder)
            os.write(say, json.dumps([status, answer.peak_mib, seconds]).encode() + b"\n")
        os._exit(0)

    def count(self, row: str, answer: Answer, faults: Sequence[str]) -> None:
        """Count what was tried."""
        self.seconds[row] += answer.seconds
        self.counts[row]["tried"] += 1
        for name in ("traceback", "hang"):
            self.counts[row][name] += name in faults
        self.counts[row]["other"] += bool(set(faults) - {"traceback", "hang", "status 1"})
        self.peaks[row] = max(self.peaks[row], answer.peak_mib)

    def tried(self, numbers: range) -> int:
        """Return how many of these inputs, the first ones, are counted already."""
        real = numbers.start >= FIRST_REAL
        rows = (row for row in self.counts if row.endswith(", real command") is real)
        return sum(self.counts[row]["tried"] for row in rows)

    def save(self) -> None:
        """Keep what is counted: a run that was killed goes on there."""
        self.state.write_text(json.dumps([self.counts, self.peaks, self.seconds]))

    def load(self) -> None:
        """Go on with what was counted, where a run was killed."""
        if self.state.exists():
            counts, peaks, seconds = json.loads(self.state.read_text())
            self.counts.update({row: Counter(count) for row, count in counts.items()})
            self.peaks.update(peaks)
            self.seconds.update(seconds)

    @property
    def bad(self) -> int:
        """How many inputs were not answered well, each for its worst fault."""
        return sum(c["traceback"] + c["hang"] + c["other"] for c in self.counts.values())

    def table(self) -> str:
        """Return the table of the page."""
        lines = ["| kind of input | tried | tracebacks | hangs | other | most memory |",
                 "|---|---:|---:|---:|---:|---:|"]  # fmt: skip
        total: Counter[str] = sum(self.counts.values(), Counter())
        rows = [*sorted(self.counts.items()), ("all", total)]
        for name, row in rows:
            peak = self.peaks.get(name) or max(self.peaks.values(), default=0)
            cells = [f"{row[c]:,}" for c in ("tried", "traceback", "hang", "other")]
            lines.append(" | ".join([f"| {name}", *cells, f"{peak:,.0f} MiB |"]))
        return "\n".join(lines)


def run(fuzzer: Fuzzer, forks: int, real: int, jobs: int) -> None:
    """Try the real command first: what is forked from a large process counts its memory."""
    for numbers in (range(FIRST_REAL, FIRST_REAL + real), range(forks)):
        numbers = numbers[fuzzer.tried(numbers) :]
        if not numbers:
            continue
        in_process = numbers[0] < FIRST_REAL
        if in_process:
            warm_up(fuzzer.valid)
        size, attempt = (TOGETHER, fuzzer.together) if in_process else (1, fuzzer.each)
        parts = [numbers[i : i + size] for i in range(0, len(numbers), size)]
        with multiprocessing.get_context("fork").Pool(jobs) as pool:
            for part, tried in zip(parts, pool.imap(attempt, parts), strict=True):
                for one in tried:
                    fuzzer.count(*one)
                fuzzer.save()
                if (part[-1] + 1) % 1000 == 0:
                    print(f"{part[-1] + 1:,}, {fuzzer.bad} bad", flush=True)


def warm_up(valid: Path) -> None:
    """Import bench and let it build what it keeps, so that forks find it there."""
    from bench import cli

    for name in MODULES:
        importlib.import_module(name)
    compare = ["compare", "r.csv", "--baseline", "a", "--treatment", "b"]
    store = ["--store", "sqlite:///store/mlflow.db"]
    verify = ["verify", "store/reports/tiny/report.html"]
    with contextlib.chdir(valid), contextlib.redirect_stdout(io.StringIO()):
        for words in (compare, verify, ["report", *store], ["plan", *store], ["status", *store]):
            assert cli._run(words) == 0
    assert threading.active_count() == 1, "a fork would lose the other threads"
    gc.collect()
    gc.freeze()


def page(fuzzer: Fuzzer, options: str) -> str:
    """Return the page: the table, when it was made, and on what."""
    return PAGE.format(
        statuses=", ".join(map(str, STATUSES)), together=TOGETHER,
        limit=fuzzer.limit_s, memory=f"{MOST_MIB:,}",
        options=options, date=datetime.now(UTC).date(), minutes=sum(fuzzer.seconds.values()) / 60,
        python=platform.python_version(), cores=os.cpu_count(), system=platform.system(),
        table=fuzzer.table(),
    )  # fmt: skip


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--forks", type=int, default=20_000)
    options.add_argument("--real", type=int, default=200)
    options.add_argument("--jobs", type=int, default=1, help="processes at a time")
    options.add_argument("--only", type=int, help="try one number again, and print all of it")
    options.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "bench-fuzz")
    options.add_argument("--page", type=Path, default=Path(__file__).with_name("fuzz.md"))
    options.add_argument("--limit-s", type=float, default=60)
    asked = options.parse_args()
    typed = f"--seed {asked.seed} --forks {asked.forks} --real {asked.real}"
    with tempfile.TemporaryDirectory() as valid:
        made = [sys.executable, str(Path(fuzz_inputs.__file__)), valid, str(PROGRAM)]
        subprocess.run(made, check=True)  # whose memory is not counted
        fuzzer = Fuzzer(asked.seed, Path(valid), asked.keep.absolute(), asked.limit_s)
        if asked.only is not None:
            _, answer, faults = fuzzer.attempt(asked.only)
            print(answer.out, answer.err, f"{answer.status}, {answer.peak_mib:.0f} MiB", sep="\n")
            return bool(faults)
        fuzzer.load()
        run(fuzzer, asked.forks, asked.real, asked.jobs)
        fuzzer.state.unlink(missing_ok=True)
    asked.page.write_text(page(fuzzer, typed), "utf-8")
    print(fuzzer.table(), *(f"{fuzzer.seconds[k]:7.0f} s {k}" for k in fuzzer.seconds), sep="\n")
    return bool(fuzzer.bad)


if __name__ == "__main__":
    sys.exit(main())
