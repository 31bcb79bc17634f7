"""A process that has imported everything and forks one command line a request.

Starting `bench` takes seconds of imports. Here they are paid once: each line of JSON on stdin is
a command that runs in a fork, in a session of its own as from a terminal; each line on stdout says
that one has started or ended.
"""

import contextlib
import importlib
import json
import os
import resource
import select
import signal
import sys
import tempfile
import threading
import time
from typing import Any

MODULES = (
    "bench.cli",
    "bench.execution.processes",
    "bench.display.progress",
    "bench.execution.provenance",
    "bench.reports.build",
    "bench.execution.runner",
    "bench.store.mlflow_store",
    "bench.analysis.report.html",
    "bench.analysis.report.terminal",
    "bench.analysis.study.study",
    "mlflow.store.tracking.sqlalchemy_store",
)


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def impatient(seconds: float) -> None:
    """Let MLflow and bench wait so long for another writer; by themselves they wait 20 s."""
    from sqlalchemy import Engine, event

    from bench.store import sqlite

    sqlite.BUSY_S = seconds

    def shortened(*about: Any) -> tuple[str, Any]:
        statement, parameters = about[2:4]
        asked = f"busy_timeout = {seconds * 1000:.0f};"
        return statement.replace("busy_timeout = 20000;", asked), parameters

    event.listen(Engine, "before_cursor_execute", shortened, retval=True)


def surround(environment: dict[str, str]) -> None:
    """Set what is read from a process's surroundings at its start, or cannot be set for it."""
    tempfile.tempdir = None  # TMPDIR may be another one
    if "NOFILE" in environment:
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(environment["NOFILE"]),) * 2)
    if "CLOCK_S" in environment:
        now, change = time.time, float(environment["CLOCK_S"])
        time.time = lambda: now() + change


def run(request: dict[str, Any]) -> None:
    """Be the command line, from its working folder to its exit status."""
    from bench import cli

    if "BUSY_S" in request["environment"]:
        impatient(float(request["environment"]["BUSY_S"]))
    if "STOP_GRACE_S" in request["environment"]:
        from bench.execution import processes

        processes.STOP_GRACE_S = float(request["environment"]["STOP_GRACE_S"])
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, name in ((0, os.devnull), (1, request["out"]), (2, request["err"])):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(name, flags, 0o600), number)
    for number, stream in enumerate(("stdin", "stdout", "stderr")):
        if stream in request["closed"]:  # as Python itself finds them at its start
            os.close(number)
            setattr(sys, stream, None)
    os.chdir(request["folder"])
    os.environ.update(request["environment"])
    surround(request["environment"])
    sys.argv = ["bench", *request["words"]]
    cli.main()


def main() -> None:
    for name in MODULES:
        importlib.import_module(name)
    assert threading.active_count() == 1, "a fork would lose the other threads"
    say(ready=os.getpid())
    waiting = b""
    while True:
        if select.select([0], [], [], 0.01)[0]:
            some = os.read(0, 65536)
            if not some:
                return
            waiting += some
        while b"\n" in waiting:
            line, _, waiting = waiting.partition(b"\n")
            pid = os.fork()
            if pid == 0:
                run(json.loads(line))
            say(started=pid)
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                say(ended=ended[0], status=os.waitstatus_to_exitcode(ended[1]))


if __name__ == "__main__":
    main()
