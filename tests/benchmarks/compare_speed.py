"""Speed of `bench compare`: a table of 100 rows, and a Parquet file of 2 × 10^8.

``python tests/benchmarks/compare_speed.py`` measures both from the shell and writes
`compare_speed.md` beside this file. ``--seeds 200`` makes the large file smaller; it is drawn into
a temporary folder (0.5 GB at 1,000 seeds) that is removed afterwards.
"""

import argparse
import datetime
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
SMALL_S, LARGE_S, LARGE_MB = 1.2, 15.0, 2000.0  # wanted
EXAMPLES = 100_000
GROUP = 10  # runs in a row group: a million rows, as pandas writes them
LONG = "--arm arm --metric correct --seed seed --example example --baseline base --unit fraction"


@dataclass(frozen=True)
class Measured:
    """What one command took."""

    wall_s: float
    cpu_s: float
    memory_mb: float


def draw_table(path: Path) -> None:
    """Write 100 rows: a value of both arms for each seed."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    seed = np.arange(100)
    frame = pd.DataFrame({"seed": seed, "base": rng.normal(0.9, 0.01, 100)})
    frame.assign(new=frame.base + rng.normal(0.002, 0.008, 100)).to_csv(path, index=False)


def draw_runs(path: Path, seeds: int) -> None:
    """Write one row a seed, arm and example, right or wrong, sorted by arm and seed."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import parquet

    rng = np.random.default_rng(0)
    hard = rng.normal(size=EXAMPLES)
    columns = {"arm": pa.string(), "seed": pa.int32(), "example": pa.int32(), "correct": pa.int8()}
    with parquet.ParquetWriter(path, pa.schema(list(columns.items()))) as file:
        for gain, arm in enumerate(("base", "new")):
            for start in range(0, seeds, GROUP):
                own = range(start, min(seeds, start + GROUP))
                ease = 1.2 + hard + 0.03 * gain + 0.05 * rng.normal(size=(len(own), 1))
                right = ease + rng.normal(size=(len(own), EXAMPLES)) > 0
                part = {
                    "arm": np.full(right.size, arm),
                    "seed": np.repeat(own, EXAMPLES),
                    "example": np.tile(np.arange(EXAMPLES), len(own)),
                    "correct": right.ravel(),
                }
                arrays = [pa.array(part[name]).cast(kind) for name, kind in columns.items()]
                file.write_table(pa.table(arrays, names=list(columns)))


def measure(words: Sequence[str], folder: Path) -> Measured:
    """Run `bench compare` from the shell; its imports and the start of Python count."""
    command = [str(Path(sys.executable).with_name("bench")), "compare", *words]
    started = time.perf_counter()
    child = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"bench compare ended with {child.returncode}")
    return Measured(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def row(what: str, found: Sequence[Measured], wanted_s: float, wanted_mb: str) -> str:
    """Return the line of the fastest of several repetitions."""
    best = min(found, key=lambda m: m.wall_s)
    cpu = min(m.cpu_s for m in found)
    return (
        f"| {what} | **{best.wall_s:.1f}** (of {len(found)}) | {cpu:.1f} | {wanted_s:g} | "
        f"{max(m.memory_mb for m in found):,.0f} MB | {wanted_mb} |"
    )


def processor() -> str:
    """Return the processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "")


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1000, help="of the large file")
    seeds = parser.parse_args().seeds
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_table(folder / "small.csv")
        words = "small.csv --baseline base --treatment new --margin 0.01".split()
        small = [measure(words, folder) for _ in range(5)]
        subprocess.run(  # in a process of its own: a child's memory counts its parent's too
            [sys.executable, "-c", f"import compare_speed as c; c.draw_runs(c.Path({name!r}, "
             f"'runs.parquet'), {seeds})"],
            cwd=Path(__file__).parent, check=True,
        )  # fmt: skip
        size = (folder / "runs.parquet").stat().st_size / 1e6
        large = [measure(["runs.parquet", *LONG.split(), "--margin", "0.5"], folder)
                 for _ in range(2)]  # fmt: skip
    load.append(os.getloadavg()[0])
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "pandas", "pyarrow"))
    rows = 2 * seeds * EXAMPLES
    text = [
        "# Speed of `bench compare`",
        "",
        "Written by `tests/benchmarks/compare_speed.py` on "
        f"{datetime.datetime.now(datetime.UTC).date()}: Python {platform.python_version()}, "
        f"{versions}, {processor()}, {os.cpu_count()} cores, load {load[0]:.1f} at the start and "
        f"{load[1]:.1f} at the end. From the shell, start of Python included; the fastest of the "
        "repetitions, seconds of the processor beside it, since a loaded machine makes the wall "
        "clock slow.",
        "",
        "| | seconds | of the processor | wanted | largest memory | wanted |",
        "|---|---|---|---|---|---|",
        row("100 rows of CSV", small, SMALL_S, "–"),
        row(
            f"{seeds:,} seeds × 2 arms × {EXAMPLES:,} examples: {rows:,} rows of Parquet, "
            f"{size:,.0f} MB",
            large, LARGE_S, f"{LARGE_MB:,.0f} MB",
        ),
        "",
    ]  # fmt: skip
    page = Path(__file__).with_suffix(".md")
    page.write_text("\n".join(text), encoding="utf-8")
    print(f"wrote {page}")


if __name__ == "__main__":
    main()
