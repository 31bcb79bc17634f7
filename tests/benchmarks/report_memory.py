"""Memory: how much does `bench report` need over large test sets, and does it grow with the runs?

``python tests/benchmarks/report_memory.py --runs 8 --examples 50000 --classes 1000`` makes a store
of 8 runs (2 arms × 4 seeds) that nobody trained, in a temporary folder that is removed afterwards,
reports it, and prints the largest resident memory of the report and its time. A file holds
4 × EXAMPLES × CLASSES bytes a run, and a tenth of that in validation examples.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
USUAL = {**os.environ, "PYTHONPATH": str(ROOT)}


def make_store(folder: Path, runs: int, examples: int, classes: int) -> None:
    """Record runs whose predictions are drawn, as `bench run` would have.

    Imported lazily: the memory of whom starts a process counts as that of the process.
    """
    import numpy as np

    from bench.design.plan import Plan, TrialKey
    from bench.design.results import Success
    from bench.experiment import Outcome, Predictions
    from bench.store.mlflow_store import Store
    from bench.store.writer import recording

    sizes = {"test": examples, "validation": max(1, examples // 10)}
    gains = {"baseline": 6.0, "treatment": 6.1}
    plan = Plan(
        experiment="drawn",
        question="Does it fit into the memory?",
        arms={arm: {"gain": gain} for arm, gain in gains.items()},
        source_digest="drawn",
        data={"name": "drawn", "digest": "drawn", "test_examples": examples},
        batches=(tuple(range(runs // 2)),),
        margin=0.01,
    )

    def predictions(key: TrialKey, split: str) -> Predictions:
        labels = np.arange(sizes[split]) % classes
        rng = np.random.default_rng([key.seed, len(key.arm), len(split)])
        log_p = rng.standard_normal((len(labels), classes), dtype=np.float32)
        log_p[np.arange(len(labels)), labels] += gains[key.arm]
        for row in log_p:
            row -= np.log(np.exp(row).sum())
        return Predictions(log_p, labels)

    store = Store(f"sqlite:///{folder / 'mlflow.db'}")
    with store.lock(plan), recording(store, plan, provenance={}, source={}) as recorder:
        for key in plan.trials():
            recorder.record(
                Success(
                    key=key,
                    outcome=Outcome(**{split: predictions(key, split) for split in sizes}),
                    epochs=[{"epoch": 0, "time": 1.0, "train/loss": 1.0}],
                    duration_s=1.0,
                    started_at=1.0,
                    device="cpu",
                    threads=1,
                    log="",
                )
            )


def measure_report(folder: Path) -> tuple[float, float]:
    """Return the largest resident memory of `bench report`, in MB, and its seconds."""
    words = [sys.executable, "-m", "bench", "report", "--store", f"sqlite:///{folder}/mlflow.db"]
    started = time.perf_counter()
    child = subprocess.Popen(words, cwd=folder, env=USUAL, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"bench report ended with {child.returncode}")
    return usage.ru_maxrss * 1024 / 1e6, time.perf_counter() - started


def main() -> None:
    """Measure and print; with --make, only write the store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("runs", 8), ("examples", 2000), ("classes", 100)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default: {default}")
    parser.add_argument("--make", type=Path, metavar="DIR", help="write the store there, no more")
    asked = parser.parse_args()
    if asked.make:
        make_store(asked.make, asked.runs, asked.examples, asked.classes)
        return
    with tempfile.TemporaryDirectory() as name:
        words = [sys.executable, __file__, *sys.argv[1:], "--make", name]
        subprocess.run(words, env=USUAL, check=True)
        peak, seconds = measure_report(Path(name))
    print(f"{asked.runs} runs: {peak:,.0f} MB, {seconds:.1f} s")


if __name__ == "__main__":
    main()
