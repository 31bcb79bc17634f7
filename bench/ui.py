"""UI: the MLflow user interface on a store, for this machine only, ended with this process."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from analysis.errors import Refusal
from analysis.metrics import METRICS

if TYPE_CHECKING:
    from bench.records import Benchmark

HOST = "127.0.0.1"
START_S = 120.0
COLUMN = 100  # pixels
MOST_TREATMENTS = 8  # with columns of their own; MLflow keeps 5,000 signs of a state


class UiTrouble(Refusal):
    """A server that does not start."""

    code = "ui"
    exit_status = 4


def views(b: "Benchmark") -> dict[str, dict[str, Any]]:
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


def links(b: "Benchmark", address: str) -> dict[str, str]:
    """Return what to open first, by name: the runs grouped by arm, the results, the report."""
    runs = f"{address}/#/experiments/{b.experiment_id}/runs"
    mode = "workflowType=machine_learning"  # the bare address opens MLflow's GenAI pages
    arms, verdicts = (f"{runs}?{mode}&viewStateShareKey={key}" for key in views(b))
    found = {"by arm": arms, "verdicts": verdicts}
    if b.verdict is not None:
        found["report"] = f"{runs}/{b.run_id}/artifacts/report.html?{mode}"
    return found


def free_port(wanted: int) -> int:
    """Return the wanted port, or refuse: a busy one makes MLflow end with exit code 0.

    Raises
    ------
    UiTrouble : the port is in use
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError:
            raise UiTrouble(
                f"port {wanted} is in use by another program.",
                fix=f"bench ui --port {wanted + 1 if wanted < 65535 else 0}",
            ) from None
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def served(uri: str, port: int) -> Iterator[str]:
    """Serve a store until the block ends; gives the address.

    Parameters
    ----------
    uri : the store's tracking URI
    port : on the loopback interface; 0 takes any free one

    Raises
    ------
    UiTrouble : the port is busy, or MLflow ends before it answers
    """
    port = free_port(port)
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # 2 processes instead of 10
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }
    command = [sys.executable, "-m", "mlflow", "ui", "--workers", "1"]
    command += ["--backend-store-uri", uri, "--host", HOST, "--port", str(port)]
    server = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=os.name == "posix",
    )
    try:
        _await(server, f"http://{HOST}:{port}/health")
        yield f"http://{HOST}:{port}"
    finally:
        _end(server)


def _await(server: "subprocess.Popen[bytes]", health: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            text = (server.stderr.read() if server.stderr else b"").decode("utf-8", "replace")
            lines = text.strip().splitlines()
            raise UiTrouble("MLflow did not start.", facts=lines[-3:], fix="bench ui --port 5001")
        with contextlib.suppress(urllib.error.URLError, OSError):
            with urllib.request.urlopen(health, timeout=2) as answer:  # loopback only
                if answer.status == 200:
                    return
        time.sleep(0.2)
    raise UiTrouble(f"MLflow did not answer within {START_S:.0f} s.", fix="bench ui --port 5001")


def _end(server: "subprocess.Popen[bytes]") -> None:
    """End the server and the processes it started."""
    import signal

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
    if server.stderr is not None:
        server.stderr.close()
