"""What all tests share: a small experiment, a command line, stores, and a browser."""

import contextlib
import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from bench.design.description import Discovered
from bench.design.loading import discover
from bench.design.option_values import arms_with
from bench.design.plan import Plan, make_plan
from bench.execution.server import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

SAMPLE = 2  # cases of one test that `make test` runs
LARGE_SAMPLE = 3  # and `make test-all`

settings.register_profile("thorough", derandomize=True, deadline=None)
settings.register_profile("quick", settings.get_profile("thorough"), max_examples=25)


@pytest.fixture(autouse=True)
def _alone(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test away from the user's store, cache and network."""
    for name in ("MLFLOW_TRACKING_URI", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(
        "BENCH_CACHE", os.environ.get("BENCH_TEST_CACHE", str(_cache(tmp_path_factory)))
    )


def _cache(factory: pytest.TempPathFactory) -> str:
    base = factory.getbasetemp() / "cache"
    base.mkdir(exist_ok=True)
    return str(base)


Table = dict[str, dict[str, int]]  # what was done, to how often it went how
FIRST_COLUMNS = ("injected", "survived", "finished runs lost", "wrong")  # in this order
COUNTS = pytest.StashKey[dict[str, Table]]()


def pytest_configure(config: pytest.Config) -> None:
    """Say how many examples Hypothesis draws, and what is not ours to mend.

    MLflow's own models use what SQLAlchemy deprecates.
    """
    quick = bool(config.getoption("markexpr"))  # plain pytest draws four times as many examples
    settings.load_profile("quick" if quick else "thorough")
    ignored = "ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"
    config.addinivalue_line("filterwarnings", ignored)
    config.stash[COUNTS] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `thorough` all but a sample of each test's cases: the first and the last, or more.

    `make test` leaves the thorough ones out. `make test-all` runs them, but of a test with more
    than 3 cases a sample of 3: the others are marked `by_hand`, as are the longest tests, and
    only plain pytest runs them.
    A test whose cases are behaviours of their own says how many `make test` needs:
    `@pytest.mark.sample(8)`.
    """
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("by_hand"):
            item.add_marker("thorough")
        cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for of_one_test in cases.values():
        mark = of_one_test[0].get_closest_marker("sample")
        n = mark.args[0] if mark else SAMPLE
        quick = [case for case in of_one_test if not case.get_closest_marker("thorough")]
        rest = left_out(quick, n)
        for item in rest:
            item.add_marker("thorough")
        for item in left_out(rest, max(0, LARGE_SAMPLE - n)):
            item.add_marker("by_hand")


def left_out(cases: list[pytest.Item], n: int) -> list[pytest.Item]:
    """Return all but `n` of a test's cases, which are spread evenly."""
    last = len(cases) - 1
    kept = {round(i * last / max(1, n - 1)) for i in range(n)}
    return [case for i, case in enumerate(cases) if last >= n and i not in kept]


@pytest.fixture(scope="session")
def counts(pytestconfig: pytest.Config) -> dict[str, Table]:
    """Return the tables that are printed after the tests, by their title."""
    return pytestconfig.stash[COUNTS]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the tables of one of several processes to the one that prints."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["counts"] = session.config.stash[COUNTS]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add up what the processes counted."""
    tables = node.config.stash[COUNTS]
    for title, table in getattr(node, "workeroutput", {}).get("counts", {}).items():
        for name, row in table.items():
            total = tables.setdefault(title, {}).setdefault(name, {})
            for column, number in row.items():
                total[column] = total.get(column, 0) + number


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the tables, and how long the fault tests took together."""
    for title, table in config.stash[COUNTS].items():
        if table:
            terminalreporter.section(title)
            for line in lines_of(table):
                terminalreporter.line(line)
    if config.stash[COUNTS].get("faults"):
        reports = [report for group in terminalreporter.stats.values() for report in group]
        inside = (r for r in reports if getattr(r, "nodeid", "").startswith("tests/faults/"))
        seconds = sum(getattr(report, "duration", 0.0) for report in inside)
        terminalreporter.line(f"{seconds:.0f} s in tests/faults")


def lines_of(table: Table) -> list[str]:
    """Return a table as text, with its sums; a dash stands for what was not looked at."""
    found = dict.fromkeys(column for row in table.values() for column in row)
    columns = [column for column in FIRST_COLUMNS if column in found]
    columns += [column for column in found if column not in FIRST_COLUMNS]
    total = {column: sum(row.get(column, 0) for row in table.values()) for column in columns}
    width = max(map(len, table))
    lines = ["  ".join([" " * width, *columns])]
    for name, row in [*table.items(), ("all", total)]:
        cells = [f"{row[column]:,}" if column in row else "–" for column in columns]
        aligned = [cell.rjust(len(column)) for cell, column in zip(cells, columns, strict=True)]
        lines.append("  ".join([name.ljust(width), *aligned]))
    return lines


# Two arms, 40 test images, a few epochs; `body` runs at the start of every training.
TINY = '''"""A fast experiment."""
import os, random, sys, time
import numpy as np
from bench import Experiment, Outcome, Predictions, Trial

LABELS = np.arange(40) % 2


def train(trial: Trial) -> Outcome:
    {body}
    noise = trial.rng("init").normal(size=40)
    for epoch in range(trial.settings["epochs"]):
        time.sleep(trial.settings["nap"])
        trial.log(epoch, {{"train/loss": 1.0 / (epoch + 1), "val/accuracy": 0.5 + 0.01 * epoch}})
    z = (2 * LABELS - 1) * trial.settings["strength"] + noise
    log_p = np.stack([-np.logaddexp(0, z), -np.logaddexp(0, -z)], axis=1)
    return Outcome(test=Predictions(log_p, LABELS), facts={{"pid": os.getpid()}})


EXPERIMENT = Experiment(
    name={name!r},
    question="Does more strength raise test accuracy?",
    arms={{"weak": {{"strength": 0.5}}, "strong": {{"strength": 1.0}}}},
    settings={{"epochs": 3, "nap": 0.0}},
    train=train,
    margin=0.02,
    {extra}
)
'''


@pytest.fixture(scope="session")
def tiny_text() -> Callable[..., str]:
    """Return what makes the source of a small experiment."""

    def text(body: str = "pass", *, name: str = "tiny", extra: str = "") -> str:
        return TINY.format(body=body.replace("\n", "\n    "), name=name, extra=extra)

    return text


@pytest.fixture(scope="session")
def write_tiny(tiny_text: Callable[..., str]) -> Callable[..., Path]:
    """Return what writes a small experiment into a folder; file names are used once a session."""
    count = iter(range(10**6))

    def write(folder: Path, body: str = "pass", *, name: str = "tiny", extra: str = "") -> Path:
        path = folder / f"tiny_{next(count)}.py"
        path.write_text(tiny_text(body, name=name, extra=extra))
        return path

    return write


@pytest.fixture(autouse=True)
def _modules_stay_apart() -> Any:
    """Forget what `discover` put into sys.path and sys.modules."""
    paths, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = paths
    for name in set(sys.modules) - modules:
        if name.startswith(("tiny_", "mine_")):
            del sys.modules[name]


@dataclass(frozen=True)
class Said:
    """What a command left behind: its exit status, stdout and stderr."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on stdout."""
        return json.loads(self.out)


@pytest.fixture
def bench(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """Return what runs a command line in this process, imports and all being paid already."""
    from bench.cli import _run

    def run(*words: object) -> Said:
        typed = [str(word) for word in words]
        monkeypatch.setattr(sys, "argv", ["bench", *typed])
        capfd.readouterr()
        status = _run(typed)
        return Said(status, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty MLflow database: making one takes seconds, copying it nothing."""
    from bench.store.mlflow_store import Store

    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    Store(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def copy_store(empty_database: Path) -> Callable[[Path], str]:
    """Return what puts an empty store into a folder and gives its address."""

    def copy(folder: Path) -> str:
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / "mlflow.db"
        with (
            closing(sqlite3.connect(empty_database)) as old,
            closing(sqlite3.connect(target)) as new,
        ):
            old.backup(new)
        return f"sqlite:///{target}"

    return copy


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Return a headless Chromium: the one that CHROMIUM names, or the one on PATH.

    Once a module, not once a session: while it runs, its event loop is this process's.
    """
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium on PATH and none in CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=QUIET)
        yield chromium
        chromium.close()


# -- a small experiment, plans of it, and processes that have imported one ----------------------


@pytest.fixture
def tiny(tmp_path: Path, write_tiny: Callable[..., Path]) -> Discovered:
    """Return a small experiment, discovered."""
    return discover(str(write_tiny(tmp_path)))


@pytest.fixture
def serve() -> Iterator[Callable[[object], Server]]:
    """Return what starts a process that imports an experiment; it ends with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda name: stack.enter_context(Server(str(name)))


@pytest.fixture
def plan_of() -> Callable[..., Plan]:
    """Return what plans an experiment over seeds."""

    def plan(found: Discovered, seeds: Any = range(3), **how: Any) -> Plan:
        data = how.pop("data", {"name": "forty numbers", "digest": "d1"})
        arms = arms_with(found, how.pop("overrides", ()), how.pop("extra_arms", ()))
        return make_plan(found, data=data, arms=arms, seeds=tuple(seeds), **how)

    return plan
