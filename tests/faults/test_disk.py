"""Disk: a disk that is full while predictions, the database or the report are written."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and mounts a tmpfs")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a disk of a few MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting a tmpfs needs a privilege that this process does not have")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Leave no byte of a disk, and make space again afterwards."""
    filler = disk / "filler"
    for size in (2**16, 2**12, 1):
        with suppress(OSError), filler.open("ab", buffering=0) as handle:
            while True:
                handle.write(b"x" * size)
    yield
    filler.unlink()


WRITES = {
    "pending": "predictions",
    "artifacts": "MLflow's artifacts",
    "mlflow.db": "database",
    "reports": "report",
    "all": "the whole store",
}


def on_small_disk(bench: Any, part: str, disk: Path) -> None:
    """Let one part of a store, or all of it, lie on a small disk."""
    if part not in ("mlflow.db", "all"):
        (bench.folder / part).symlink_to(disk)
        return
    shutil.move(bench.folder / "mlflow.db", disk)
    bench.folder, bench.uri = disk, f"sqlite:///{disk / 'mlflow.db'}"
    for name in ("pending", "artifacts", "reports") if part == "mlflow.db" else ():
        elsewhere = disk.parent / name
        elsewhere.mkdir()
        (disk / name).symlink_to(elsewhere)


@pytest.mark.sample(1)
@pytest.mark.parametrize("part", WRITES)
def test_a_full_disk_harms_nothing_finished_and_is_gone_on_from(
    part: str,
    small_disk: Path,
    on: Callable[..., Any],
    undisturbed: Any,
    fault: Any,
    tmp_path: Path,
):
    bench, name = on(), f"disk full: {WRITES[part]}"
    on_small_disk(bench, part, small_disk)
    note = {"TRAINED": tmp_path / "trained.txt"}  # the trainings' own file has space
    with fault(name):
        command = bench.start(NAP=0.2, **note)
        command.until("run done")
        with filled(small_disk):
            assert command.wait() == 4, command.err
            again = bench.run(**note)
            assert again.status == 4, again.err
        for failed in (command, again):
            assert failed.err.count("error[disk]: no space left") == 1, failed.err
            assert "Traceback" not in failed.err and "fix: free some space" in failed.err
        last = bench.run(**note)
        assert last.status == 0, last.err
        told, finished = bench.told([command, again, last]), bench.finished()
        fault.lost(name, len(told - finished) + len(finished - told))
        assert finished.total() == 12
        fault.right(name, bench.numbers(), undisturbed)
