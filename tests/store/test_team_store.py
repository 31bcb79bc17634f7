"""A store for a team, started as docs/clusters.md says: PostgreSQL, and MLflow in front of it."""

import contextlib
import glob
import io
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bench import cli

psycopg2 = pytest.importorskip("psycopg2", reason="the extra `dev` is not installed")

DOCUMENT = (Path(__file__).parents[2] / "docs" / "clusters.md").read_text("utf-8")
BIN = Path(sys.executable).parent
NAMES, SEEDS = ("tiny one", "tiny two"), 6
# Nobody trains before both benchmarks do: they are in the store at the same time.
MEET = """
meet = os.environ.get("MEET")
if meet:
    open(os.path.join(meet, __name__), "w").close()
    late = time.monotonic() + 200
    while len(os.listdir(meet)) < 2 and time.monotonic() < late:
        time.sleep(0.05)
time.sleep(float(os.environ.get("NAP", "0")))
"""


def missing() -> str:
    """Return why PostgreSQL cannot run here, or nothing."""
    if not (shutil.which("initdb") or glob.glob("/usr/lib/postgresql/*/bin/initdb")):
        return "no PostgreSQL"
    if os.name == "posix" and os.getuid() == 0:
        import pwd

        if not shutil.which("setpriv") or "postgres" not in {
            user.pw_name for user in pwd.getpwall()
        }:
            return "PostgreSQL refuses root, and there is no other user to run it as"
    return ""


pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "PostgreSQL is here")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(what: str, ready: Callable[[], object], process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 180
    while True:
        with contextlib.suppress(OSError):
            if ready():
                return
        assert process.poll() is None and time.monotonic() < deadline, what
        time.sleep(0.1)


class Team:
    """The document's two scripts, in a folder and on ports of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ports = folder, {"5432": str(free_port()), "5000": str(free_port())}
        self.uri = f"http://127.0.0.1:{self.ports['5000']}"
        self.database = self.server = None

    def script(self, name: str) -> Path:
        found = re.search(rf"```bash\n(# {re.escape(name)}: .*?)```", DOCUMENT, re.S)
        assert found
        text = re.sub("|".join(self.ports), lambda port: self.ports[port[0]], found[1])
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def start(self, name: str, *before: str) -> "subprocess.Popen[bytes]":
        path = f"{BIN}:{os.environ['PATH']}"
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [*before, "bash", str(self.script(name))],
                cwd=self.folder,
                env={**os.environ, "PATH": path, "HOME": str(self.folder)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start_database(self) -> None:
        drop = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")
        self.database = self.start("database.sh", *(drop if os.getuid() == 0 else ()))
        wait_until("PostgreSQL", self.asked, self.database)

    def start_server(self) -> None:
        self.server = self.start("server.sh")
        wait_until("MLflow", lambda: urllib.request.urlopen(f"{self.uri}/health"), self.server)

    def stop_database(self) -> None:
        self.end(self.database, signal.SIGINT)  # PostgreSQL's fast shutdown

    def asked(self, query: str = "select 1", database: str = "postgres") -> list[tuple[Any, ...]]:
        password = (self.folder / "password").read_text().strip()
        place = f"host=127.0.0.1 port={self.ports['5432']} user=bench dbname={database}"
        try:
            line = psycopg2.connect(place, password=password)
        except psycopg2.OperationalError as error:
            raise ConnectionError from error
        with closing(line), line.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())

    def end(self, process: "subprocess.Popen[bytes] | None", number: int) -> None:
        if process is not None and process.poll() is None:
            os.killpg(process.pid, number)
            process.wait(timeout=60)

    def close(self) -> None:
        self.end(self.server, signal.SIGTERM)
        self.stop_database()


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    """Return a running store; its folder is one that another user may enter, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="team-"))
    if os.getuid() == 0:
        shutil.chown(folder, "postgres")
    made = Team(folder)
    try:
        made.start_database()
        made.start_server()
        yield made
    finally:
        made.close()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def experiments(
    tmp_path_factory: pytest.TempPathFactory, write_tiny: Callable[..., Path]
) -> dict[str, Path]:
    """Return two experiments, by their names."""
    folder = tmp_path_factory.mktemp("mine")
    strong = {name: f"* {1 + i}" for i, name in enumerate(NAMES)}
    found = {name: write_tiny(folder, MEET, name=name) for name in NAMES}
    for name, path in found.items():
        text = path.read_text()
        path.write_text(text.replace("normal(size=40)", f"normal(size=40) {strong[name]}"))
    return found


def words(experiment: Path, store: str) -> list[str]:
    some = ["run", str(experiment), "--seeds", str(SEEDS), "--workers", "1", "--store", store]
    return [*some, "--json"]


@pytest.fixture(scope="module")
def local(
    experiments: Mapping[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
    copy_store: Callable[[Path], str],
) -> dict[str, dict[str, Any]]:
    """Return the numbers of each benchmark in a store of its own, and what that store holds."""
    found = {}
    for name, path in experiments.items():
        uri, out = copy_store(tmp_path_factory.mktemp("local")), io.StringIO()
        with contextlib.redirect_stdout(out):
            assert cli._run(words(path, uri)) == 0
        with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as line:
            rows = line.execute(HELD.format(name=name)).fetchall()
        found[name] = {"numbers": numbers(json.loads(out.getvalue())), "holds": rows}
    return found


def numbers(results: Any) -> Any:
    """Return what a reader would quote: everything but times, places and settings."""
    keys = ("comparisons", "run_calibration", "curves", "classes")
    assert results["comparisons"][0]["n_pairs"] == SEEDS
    runs = [(run["arm"], run["seed"], run["status"], run["value"]) for run in results["pairs"]]
    return {**{key: results[key] for key in keys}, "runs": runs}


# What a store holds of one benchmark; the report's numbers are metrics of the parent run.
HELD = """
    select (select count(*) from runs r2 join experiments e2 using (experiment_id)
             where e2.name = '{name}' and r2.status = 'FINISHED'),
           count(*), count(distinct m.run_uuid), sum(m.step)
      from metrics m join runs using (run_uuid) join experiments e using (experiment_id)
     where e.name = '{name}'
"""


@contextlib.contextmanager
def started(folder: Path, *command: str, **environment: object) -> Iterator[Any]:
    """Start `bench` as a process with a cache of its own: a machine of its own."""
    extra = {name: str(value) for name, value in environment.items()}
    with (folder / "err.txt").open("w") as err:
        process = subprocess.Popen(
            [str(BIN / "bench"), *command],
            cwd=folder,
            env={**os.environ, "BENCH_CACHE": str(folder / "cache"), **extra},
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def told(process: Any, folder: Path) -> Any:
    """Return what a command prints in the end."""
    out, _ = process.communicate(timeout=400)
    assert process.returncode == 0, (folder / "err.txt").read_text()
    return json.loads(out)


@pytest.mark.by_hand
def test_two_benchmarks_run_into_it_at_once_and_nothing_is_lost(
    team: Team,
    experiments: Mapping[str, Path],
    local: Mapping[str, Any],
    tmp_path: Path,
    bench: Any,
):
    (tmp_path / "meet").mkdir()
    with contextlib.ExitStack() as running:
        processes = {}
        for i, (name, path) in enumerate(experiments.items()):
            (folder := tmp_path / str(i)).mkdir()
            command = started(folder, *words(path, team.uri), MEET=tmp_path / "meet")
            processes[name] = running.enter_context(command), folder
        found = {name: told(*process) for name, process in processes.items()}
    assert len(list((tmp_path / "meet").iterdir())) == 2
    for name in NAMES:
        assert numbers(found[name]) == local[name]["numbers"]
        assert team.asked(HELD.format(name=name), "mlflow") == local[name]["holds"]
        again = bench("report", name, "--json", "--store", team.uri, "--out", tmp_path / "again")
        assert again.status == 0 and numbers(again.json) == local[name]["numbers"]
    assert found[NAMES[0]]["comparisons"] != found[NAMES[1]]["comparisons"]
    ui = bench("ui", "--store", team.uri)  # its own: no other server is started
    assert (ui.status, ui.err) == (0, "") and f"by arm    {team.uri}/#/experiments/" in ui.out


def test_what_finishes_while_the_database_is_away_is_written_when_it_is_back(
    team: Team, experiments: Mapping[str, Path], local: Mapping[str, Any], tmp_path: Path
):
    name, err = NAMES[0], tmp_path / "err.txt"
    command = [word for word in words(experiments[name], team.uri) if word != "--json"]
    # A setting that is not its usual one makes another benchmark, of the same numbers.
    with started(tmp_path, *command, "--set", "nap=0.1") as process:
        wait_until("a pair", lambda: "pair done 1/6" in err.read_text(), process)
        team.stop_database()
        wait_until("the rest", lambda: "pair done 6/6" in err.read_text(), process)
        team.start_database()
        process.communicate(timeout=400)
    assert process.returncode == 0, err.read_text()
    (written,) = (tmp_path / "mlruns" / "reports").glob("*/results.json")
    assert numbers(json.loads(written.read_text())) == local[name]["numbers"]
