"""A folder with a script, an empty store, and what runs the script as two arms."""

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from bench.store.mlflow_store import Store

PYTHON = shlex.quote(sys.executable)
# What most scripts of these tests begin with: --seed, --x and --out, and a value that both give.
HEAD = """
import argparse, json, os, random, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--x", type=float, default=0.0)
parser.add_argument("--out", default=".")
args = parser.parse_args()
draw = random.Random(args.seed)
accuracy = round(0.8 + draw.gauss(0, 0.01) + args.x * draw.uniform(0.5, 1.5), 6)
"""


@dataclass
class Folder:
    """A user's folder, with what runs commands in it."""

    path: Path
    bench: Callable[..., Any]
    uri: str
    head: str = HEAD

    def write(self, body: str, name: str = "train.py", head: str = HEAD) -> Path:
        """Write a script."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(head + dedent(body))
        return path

    def study(self, text: str = "", *, command: str = "train.py", name: str = "study.toml") -> Path:
        """Write a study.toml of two arms that differ in x."""
        path = self.path / name
        words = f"{PYTHON} {command} --seed {{seed}} --x {{x}} --out {{out}}"
        arms = "[arms.base]\nx = 0.0\n[arms.more]\nx = 0.01\n"
        first = f"name = 'tried'\ncommand = {words!r}\n"
        path.write_text(f"{first}{dedent(text)}\n{arms}")
        return path

    def run(self, *words: object, seeds: object = 3) -> Any:
        """Run a benchmark of this folder."""
        return self.bench("run", *words, "--seeds", seeds, "--workers", 2)

    def typed(self, *words: object, command: str = "train.py", seeds: object = 3) -> Any:
        """Run the script as two arms that are typed."""
        base, more = (
            f"{name}={PYTHON} {command} --x {x}" for name, x in (("base", 0), ("more", 0.01))
        )
        append = ("--append", "--seed {seed} --out {out}")
        return self.run("--arm", base, "--arm", more, *append, *words, seeds=seeds)

    @property
    def store(self) -> Store:
        """The store."""
        return Store(self.uri)

    def values(self, arm: str = "more", metric: str = "accuracy") -> list[float]:
        """Return what is recorded of an arm, by seed."""
        benchmark = self.store.benchmark()
        found = self.store.settled(benchmark)[0]
        mine = sorted((key.seed, child) for key, child in found.items() if key.arm == arm)
        return [child.run.metrics[metric] for _, child in mine]

    def epochs(self, arm: str = "more", seed: int = 0) -> list[dict[str, float]]:
        """Return the epochs of a run."""
        table = self.store.tables(self.store.benchmark()).epochs
        mine = table[(table.arm == arm) & (table.seed == seed)].sort_values("epoch")
        return [
            {k: v for k, v in row.items() if k not in ("arm", "seed", "time") and v == v}
            for row in mine.to_dict("records")
        ]


@pytest.fixture
def folder(
    tmp_path: Path,
    bench: Callable[..., Any],
    copy_store: Callable[[Path], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Folder:
    """Return an empty folder of a user's own, as the current one."""
    path = tmp_path / "own"
    path.mkdir()
    monkeypatch.chdir(path)
    return Folder(path, bench, copy_store(path / "mlruns"))
