"""Stores: several commands at once, a store that is locked, and a server that comes and goes."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and looks at /proc")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# -- several commands at once ------------------------------------------------------------------


def test_the_second_run_of_one_plan_is_told_who_holds_the_lock(
    on: Callable[..., Any], undisturbed: Any, fault: Any
):
    bench, name = on(), "two runs of one plan"
    with fault(name):
        first = bench.start(NAP=0.3)
        first.until("run done")
        second = bench.run()
        assert second.status == 4, second.err
        assert "error[benchmark-locked]" in second.err and f"(pid {first.pid} on " in second.err
        assert "fix: wait for it: bench status tiny" in second.err
        assert first.wait() == 0, first.err
        assert bench.told([first, second]).total() == 12
        fault.right(name, bench.numbers(), undisturbed)


@pytest.mark.thorough
@pytest.mark.by_hand
def test_several_plans_a_report_a_status_and_the_ui_share_a_store(
    on: Callable[..., Any], undisturbed: Any, fault: Any, times: Callable[[int, int], int]
):
    from bench.store.mlflow_ui import served

    bench, name = on(), "several plans, report, status and UI"
    with fault(name), served(bench.uri, 0) as address:
        plans = [("--set", f"epochs={n}") for n in range(3, 4 + times(1, 7))]
        running = [bench.start("--no-report", *plan, NAP=0.4) for plan in plans]
        for command in running:
            command.until("pair done 2/6")
        report, status = bench.command("report", "tiny"), bench.command("status")
        seen = asked(f"{address}/api/2.0/mlflow/runs/search", {"experiment_ids": ["1"]})
        assert any(run["info"]["status"] == "RUNNING" for run in seen["runs"])
        assert (report.wait(), status.wait()) == (0, 0), report.err + status.err
        for command in running:
            assert command.wait() == 0 and bench.told([command]).total() == 12, command.err
        assert bench.run().status == 0
        fault.right(name, bench.numbers(), undisturbed)


def asked(url: str, body: Any) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "text/json"})
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read())


SHORT = {"BUSY_S": 0.5}  # so long MLflow waits for another writer; by itself 20 s
AWAY = "the store does not answer; finished runs are kept on this disk"


@pytest.mark.thorough
@pytest.mark.by_hand
def test_a_store_that_another_writer_locks_for_long_is_written_when_it_is_free(
    on: Callable[..., Any], undisturbed: Any, fault: Any, times: Callable[[int, int], int]
):
    """For longer than MLflow waits: that is 0.5 s here, and its own 20 s in the campaign."""
    bench, name = on(), "store locked by another writer"
    with fault(name):
        command = bench.start(NAP=times(1, 10) / 2, BUSY_S=times(1, 40) / 2)
        command.until("run done")
        with bench.locked():
            command.until(AWAY)
            command.until("pair done 6/6")  # nobody waited with the training
        assert command.wait() == 0, command.err
        assert bench.told([command]).total() == 12
        fault.lost(name, 12 - bench.finished().total())
        fault.right(name, bench.numbers(), undisturbed)


@pytest.mark.parametrize("against_readers", [False, True], ids=["writes", "all"])
def test_a_store_that_is_locked_at_the_start_is_an_error_before_any_training(
    against_readers: bool, on: Callable[..., Any], fault: Any
):
    bench = on()
    with fault("store locked at the start"):
        with bench.locked(against_readers=against_readers):
            command = bench.run(**SHORT)
        assert command.status == 4 and bench.trained() == 0, command.err
        assert f"error[store]: the store {bench.uri} does not answer." in command.err
        assert "fix: the same command once more, when it does" in command.err
        assert "Traceback" not in command.err


@pytest.mark.thorough
@pytest.mark.by_hand
def test_a_store_that_is_locked_for_a_moment_at_the_start_is_waited_for(
    on: Callable[..., Any], undisturbed: Any, fault: Any
):
    bench, name = on(), "store locked for a moment at the start"
    with fault(name):
        with bench.locked(against_readers=True):
            command = bench.start()
            command.until("2 workers")
            time.sleep(1.0)
        assert command.wait() == 0, command.err
        fault.right(name, bench.numbers(), undisturbed)


@pytest.mark.thorough
@pytest.mark.by_hand
def test_a_store_that_is_locked_while_the_report_is_published_keeps_all_else(
    on: Callable[..., Any], undisturbed: Any, fault: Any
):
    bench = on()
    assert bench.run("--no-report").status == 0
    name = "store locked during the report"
    with fault(name):
        with bench.locked():
            command = bench.command("report", "tiny", **SHORT)
            assert command.wait() == 4, command.err
        assert f"error[store]: the store {bench.uri} does not answer." in command.err
        assert "Traceback" not in command.err
        fault.right(name, bench.numbers(), undisturbed)  # the files were written before
        assert bench.command("report", "tiny").wait() == 0


# -- a server ----------------------------------------------------------------------------------


class Server:
    """A real MLflow server behind a door that can be slow, silent, or answer 500."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.behind = folder, free_port(), free_port()
        self.delay_s, self.broken, self.silent = 0.0, False, False
        self.process: subprocess.Popen[bytes] | None = None
        server = self

        class Door(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self) -> None:
                server.handle(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on

            def log_message(self, *_: object) -> None:
                pass

        self.door = ThreadingHTTPServer(("127.0.0.1", self.port), Door)
        self.door.daemon_threads = True
        threading.Thread(target=self.door.serve_forever, daemon=True).start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        time.sleep(self.delay_s)
        if self.silent:  # takes the question, and never answers
            while self.silent:
                time.sleep(0.02)
            request.close_connection = True
            return
        if self.broken:
            self.answer(request, 500, b"{}", "application/json")
            return
        with closing(http.client.HTTPConnection("127.0.0.1", self.behind, timeout=60)) as line:
            try:
                line.request(request.command, request.path, body, dict(request.headers))
                got = line.getresponse()
                kind = got.headers.get("Content-Type", "application/json")
                self.answer(request, got.status, got.read(), kind)
            except (OSError, http.client.HTTPException):  # dead behind the door: so is the door
                request.close_connection = True

    def answer(self, to: BaseHTTPRequestHandler, status: int, body: bytes, kind: str) -> None:
        with suppress(OSError):
            to.send_response(status)
            to.send_header("Content-Type", kind)
            to.send_header("Content-Length", str(len(body)))
            to.end_headers()
            to.wfile.write(body)

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts"), "--serve-artifacts"]
        command += ["--host", "127.0.0.1", "--port", str(self.behind)]
        environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "DO_NOT_TRACK": "true"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **environment, "MLFLOW_DISABLE_TELEMETRY": "true"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 120
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.behind), 1):
                return
            assert time.monotonic() < deadline and self.process.poll() is None
            time.sleep(0.1)

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def close(self) -> None:
        self.kill()
        self.door.shutdown()
        self.door.server_close()


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, copy_store: Callable[[Path], str]
) -> Iterator[Server]:
    """Return a running MLflow server."""
    folder = tmp_path_factory.mktemp("server")
    copy_store(folder)
    made = Server(folder)
    made.start()
    yield made
    made.close()


@pytest.fixture
def remote(server: Server, on: Callable[..., Any], experiment: Path, tmp_path: Path) -> Any:
    """Return a bench on the server, with an experiment that no other test has recorded there."""
    server.delay_s, server.broken, server.silent = 0.0, False, False
    name = f"tiny {tmp_path.name}"
    mine = tmp_path / "mine.py"
    mine.write_text(experiment.read_text().replace("name='tiny'", f"name={name!r}"))
    bench = on(other=mine)
    bench.uri, bench.name = server.uri, name
    return bench


def each_once(bench: Any, *commands: Any) -> bool:
    """Tell whether every run was trained, told and recorded once."""
    told, finished = bench.told(list(commands)), bench.finished()
    return bool(bench.trained() == 12 and told == finished and set(told.values()) == {1})


@contextmanager
def shut(server: Server) -> Iterator[None]:
    """Kill the server, and start it again afterwards."""
    server.kill()
    yield
    server.start()


QUICK = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": 0}  # the client's own patience is not what is tested


BRIEF = {**QUICK, "MLFLOW_HTTP_REQUEST_TIMEOUT": 1}  # in place of 20 s


@pytest.mark.thorough
@pytest.mark.by_hand
def test_a_server_that_cannot_be_used_is_an_error_before_any_training(
    on: Callable[..., Any], remote: Any, server: Server, fault: Any
):
    nowhere = f"http://127.0.0.1:{free_port()}"
    for name, uri in (("unreachable", nowhere), ("500", server.uri), ("silent", server.uri)):
        bench = on(name)
        bench.uri, server.broken, server.silent = uri, name == "500", name == "silent"
        with fault(f"server {name} at the start"):
            command = bench.run(**BRIEF)
            assert command.status == 4 and bench.trained() == 0, command.err
            assert "error[store]: the store http://127.0.0.1:" in command.err
            assert "does not answer" in command.err and "Traceback" not in command.err
    server.broken = server.silent = False


@pytest.mark.thorough
@pytest.mark.by_hand
def test_a_slow_server_only_takes_longer(
    remote: Any, server: Server, fault: Any, times: Callable[[int, int], int]
):
    with fault("server slow"):
        server.delay_s = times(3, 100) / 100
        command = remote.start("--no-report")
        assert command.wait(times(120, 900)) == 0, command.err  # some ten requests a run
        server.delay_s = 0.0
        assert each_once(remote, command)


@pytest.mark.thorough
@pytest.mark.by_hand
def test_what_a_server_does_not_take_is_written_when_it_is_back(
    remote: Any, server: Server, fault: Any
):
    with fault("server killed and started again"):
        command = remote.start("--no-report", NAP=0.3, **QUICK)
        command.until("run done")
        with shut(server):
            command.until(AWAY)
            command.until("seed=5 arm=strong")
        assert command.wait() == 0, command.err
        assert each_once(remote, command)


@pytest.mark.thorough
@pytest.mark.by_hand
@pytest.mark.parametrize("trouble", ["broken", "silent"])
def test_a_server_that_answers_500_or_nothing_for_a_while_is_waited_for(
    trouble: str, remote: Any, server: Server, fault: Any
):
    name = {"broken": "server answers 500 meanwhile", "silent": "server answers nothing meanwhile"}
    with fault(name[trouble]):
        command = remote.start("--no-report", NAP=0.3, **BRIEF)
        command.until("run done")
        setattr(server, trouble, True)
        command.until(AWAY)
        setattr(server, trouble, False)
        assert command.wait() == 0, command.err
        assert "Traceback" not in command.err and each_once(remote, command)


@pytest.mark.thorough
@pytest.mark.by_hand
def test_a_server_that_answers_500_meanwhile_and_a_ctrl_c_lose_nothing(
    remote: Any, server: Server, fault: Any
):
    with fault("server answers 500 meanwhile, then Ctrl-C"):
        command = remote.start("--no-report", NAP=0.3, **QUICK)
        command.until("run done")
        server.broken = True
        command.until("pair done 4/6")
        command.kill(signal.SIGINT)
        assert command.wait() == 130, command.err
        server.broken = False
        again = remote.run("--no-report")
        assert again.status == 0 and "Traceback" not in command.err + again.err
        assert remote.told([command, again]) == remote.finished()
        assert set(remote.finished().values()) == {1}
