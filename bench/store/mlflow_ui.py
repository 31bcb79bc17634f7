"""Serves MLflow's user interface on a store, on 127.0.0.1 unless told otherwise."""

import contextlib
import errno
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlparse

from bench.analysis.data.metrics import METRICS
from bench.analysis.errors import Refusal
from bench.store.runs import Benchmark
from bench.store.sqlite import mlflow_uri

HOST = "127.0.0.1"
EVERYWHERE = "0.0.0.0"
START_S = 120.0
COLUMN = 100  # pixels
MOST_TREATMENTS = 8  # with columns of their own; MLflow keeps 5,000 signs of a state


class UiTrouble(Refusal):
    """A server that does not start."""

    code = "ui"
    exit_status = 4


def views(b: Benchmark) -> dict[str, dict[str, Any]]:
    """Return the states of MLflow's runs table that our links open, by the key in the link.

    MLflow documents these states nowhere; of what it does not know it shows its plain table.
    """
    metric = b.plan.metric
    scores = [f"test/{metric}", "test/ece"] if metric in METRICS else [metric]
    treatments = ["", *(f"_{i}" for i in range(2, len(b.plan.arms)))][:MOST_TREATMENTS]
    judged = [
        f"{name}{end}" for end in treatments for name in ("diff_pp", "ci_low", "ci_high", "p")
    ]
    return {
        f"bench-arms-{b.run_id[:8]}": {
            "searchFilter": f"tags.`mlflow.parentRunId` = '{b.run_id}'",
            "orderByKey": "attributes.start_time",
            "orderByAsc": True,
            "groupBy": {
                "aggregateFunction": "average",
                "groupByKeys": [{"mode": "param", "groupByData": "arm"}],
            },
            **_columns("params.`seed`", *(f"metrics.`{name}`" for name in scores)),
        },
        "bench-verdicts": {
            "searchFilter": "tags.`bench.kind` = 'benchmark'",
            "orderByKey": "metrics.`diff_pp`",
            "orderByAsc": False,
            **_columns(
                "tags.`bench.verdict`",
                *(f"metrics.`{name}`" for name in [*judged, "n_pairs"]),
                "attributes.`Description`",
            ),
        },
    }


def _columns(*names: str) -> dict[str, Any]:
    """Show these columns, in this order and narrow enough to be seen together."""
    return {
        "selectedColumns": names,
        "columnOrder": names,
        "columnWidths": dict.fromkeys(names, COLUMN),
    }


def links(b: Benchmark, address: str) -> dict[str, str]:
    """Return what to open first, by name: the runs grouped by arm, the results, the report."""
    runs = f"{address}/#/experiments/{b.experiment_id}/runs"
    mode = "workflowType=machine_learning"  # the bare address opens MLflow's GenAI pages
    arms, verdicts = (f"{runs}?{mode}&viewStateShareKey={key}" for key in views(b))
    found = {"by arm": arms, "verdicts": verdicts}
    if b.verdict is not None:
        found["report"] = f"{runs}/{b.run_id}/artifacts/report.html?{mode}"
    return found


def server_of(uri: str) -> str | None:
    """Return where a store that is a server shows its own UI, without a password; else None."""
    parts = urlparse(uri)
    if parts.scheme not in ("http", "https"):
        return None
    plain = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
    return plain.geturl().rstrip("/")


def here_alone(host: str) -> bool:
    """Tell whether only this machine reaches what listens on an address."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def free_port(wanted: int, host: str = HOST) -> int:
    """Return the wanted port, or refuse: a busy one makes MLflow end with exit code 0.

    Raises
    ------
    UiTrouble : the port is in use, or the address is not this machine's
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted))
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                what = f"{host} is no IPv4 address of this machine."
                raise UiTrouble(what, options=[("host", HOST)]) from None
            raise UiTrouble(
                f"port {wanted} is in use by another program.",
                options=[("port", wanted + 1 if wanted < 65535 else 0)],
            ) from None
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def served(uri: str, port: int, host: str = HOST) -> Iterator[str]:
    """Serve a store until the block ends; gives the address.

    Parameters
    ----------
    uri : the store's tracking URI
    port : 0 takes any free one
    host : the IPv4 address to listen on, the loopback interface's alone by default

    Raises
    ------
    UiTrouble : the port is busy, or MLflow ends before it answers
    """
    port = free_port(port, host)
    names = _names(host)
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": mlflow_uri(uri),  # everybody here sees the words of a command
        # MLflow's own default takes 10.evil.test for an address of this network.
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join([*names, *(f"{name}:*" for name in names)]),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(f"http://{n}:{port}" for n in names),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # 2 processes instead of 10
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        # MLflow starts others, and uvicorn imports from where it runs: not from the current folder.
        "PYTHONSAFEPATH": "1",
        "MLFLOW_ARTIFACTS_DESTINATION": os.environ.get(
            "MLFLOW_ARTIFACTS_DESTINATION", str(Path("mlartifacts").absolute())
        ),
    }
    command = [sys.executable, "-P", "-m", "mlflow", "ui", "--workers", "1"]
    command += ["--host", host, "--port", str(port)]
    address = f"http://{HOST if host == EVERYWHERE else host}:{port}"
    with tempfile.TemporaryFile() as said, tempfile.TemporaryDirectory() as empty:
        server = subprocess.Popen(
            command,
            env=environment,
            cwd=empty,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=os.name == "posix",
        )
        try:
            _await(server, f"{address}/health", said)
            yield address
        finally:
            _end(server)


def _names(host: str) -> list[str]:
    """Return what a browser may call a machine that listens on an address: no other name."""
    names = [HOST, "localhost"]
    if host == EVERYWHERE:
        own = socket.gethostname()
        names += [own, socket.getfqdn()]
        with contextlib.suppress(OSError):
            names += socket.gethostbyname_ex(own)[2]
    return list(dict.fromkeys([*names, *([host] if host != EVERYWHERE else [])]))


def _await(server: "subprocess.Popen[bytes]", health: str, said: IO[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            said.seek(0)
            lines = said.read().decode("utf-8", "replace").strip().splitlines()
            raise UiTrouble("MLflow did not start.", facts=lines[-3:], options=[("port", 5001)])
        with contextlib.suppress(urllib.error.URLError, OSError):
            with urllib.request.urlopen(health, timeout=2) as answer:
                if answer.status == 200:
                    return
        time.sleep(0.2)
    raise UiTrouble(f"MLflow did not answer within {START_S:.0f} s.", options=[("port", 5001)])


def _end(server: "subprocess.Popen[bytes]") -> None:
    """End the server and the processes it started."""
    if server.poll() is None:
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
        else:
            server.terminate()
    try:
        server.wait(timeout=10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
