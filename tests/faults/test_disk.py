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


@pytest.mark.parametrize("part", ["pending", "mlflow.db", "reports"])
def test_a_full_disk_harms_nothing_finished_and_is_gone_on_from(
    part: str,
    small_disk: Path,
    on: Callable[..., Any],
    undisturbed: Any,
    fault: Any,
):
    """Only the part that is meant lies on the small disk; the rest of the store has space."""
    bench = on()
    if part == "mlflow.db":
        shutil.move(bench.folder / part, small_disk / part)
        bench.folder = small_disk
        bench.uri = f"sqlite:///{small_disk / part}"
        for name in ("pending", "artifacts", "reports"):
            elsewhere = small_disk.parent / name
            elsewhere.mkdir()
            (small_disk / name).symlink_to(elsewhere)
    else:
        (bench.folder / part).symlink_to(small_disk)
    what = {"pending": "predictions", "mlflow.db": "database", "reports": "report"}[part]
    with fault(f"disk full: {what}"):
        command = bench.start(NAP=0.3)
        command.until("run done")
        with filled(small_disk):
            assert command.wait() == 4, command.err
            again = bench.run()
            assert again.status == 4, again.err
        for failed in (command, again):
            assert failed.err.count("error[disk]: no space left") == 1, failed.err
            assert "Traceback" not in failed.err and "fix: free some space" in failed.err
        last = bench.run()
        assert last.status == 0, last.err
        told, finished = bench.told([command, again, last]), bench.finished()
        fault.lost(f"disk full: {what}", len(told - finished) + len(finished - told))
        assert finished.total() == 12 and bench.numbers() == undisturbed
