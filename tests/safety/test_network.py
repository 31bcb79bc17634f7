"""Network: the whole demo runs without any, and nobody tries to reach it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(sys.executable).with_name("bench")
Demo = tuple["subprocess.CompletedProcess[str]", str]  # and the calls that were tried
DEMO = [str(BENCH), "run", "digits", "--seeds", "6"]

# Every Python that starts writes down where it connects to, and what names it looks up.
WATCH = """
import os, sys

def note(event, args):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        where = args[1] if event in ("socket.connect", "socket.sendto") else args[0]
        if isinstance(where, (str, bytes)) and event.startswith("socket.c"):
            return  # a file of this machine: the workers' line
        with open(os.environ["CALLS"], "a") as log:
            print(event, where, file=log)

sys.addaudithook(note)
"""


@pytest.fixture(scope="module")
def demo(
    tmp_path_factory: pytest.TempPathFactory,
) -> Demo:
    """Run the demo where there is no route but loopback, if this process may make such a place."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "watch").mkdir()
    (folder / "watch" / "sitecustomize.py").write_text(WATCH)
    calls = folder / "calls.txt"
    calls.touch()
    unset = ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "CI", "PYTEST_CURRENT_TEST")
    environment = {k: v for k, v in os.environ.items() if k not in unset}
    environment |= {
        "PYTHONPATH": str(folder / "watch"),
        "CALLS": str(calls),
        "HOME": str(folder / "home"),
    }
    alone = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    command = [*(alone if cut_off() else []), *DEMO]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return done, calls.read_text()


def cut_off() -> bool:
    """Tell whether this process may make a network of its own."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    return subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(
    not cut_off(), reason="a network of one's own takes unshare, ip and a privilege"
)
def test_the_whole_demo_runs_with_no_route_but_loopback(
    demo: Demo,
):
    done, _ = demo
    assert done.returncode == 0, done.stderr
    assert "digits   digits (scikit-learn), test accuracy   6 of 6 pairs" in done.stdout
    assert "report   mlruns/reports/digits/report.html" in done.stdout


def test_neither_bench_nor_mlflow_tries_to_call_home(
    demo: Demo,
):
    done, calls = demo
    assert done.returncode == 0, done.stderr
    assert calls == ""


def test_the_watch_would_have_seen_a_call(tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    code = (
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.1', 9))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "CALLS": str(tmp_path / "calls")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert "('127.0.0.1', 9)" in (tmp_path / "calls").read_text()
