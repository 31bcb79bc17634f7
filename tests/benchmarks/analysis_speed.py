"""Speed: how long do the analysis, `bench compare` and `bench report` take, and how much memory?

``python tests/benchmarks/analysis_speed.py`` measures four cases, each three times in a process
of its own, and writes medians to `analysis_speed.md` beside this file. Nothing is asserted: times
depend on the machine and on who else uses it.
"""

import argparse
import csv
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
REPEATS = 3
MB = 1e6
# As on a user's machine: Python keeps the bytecode of what it imported the first time.
USUAL = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True)
class Case:
    """What is measured, and the limits that issue 3 sets."""

    name: str
    what: str
    limit_s: float
    limit_mb: float | None = None


CASES = [
    Case("study-20", "`study()`: 20 seeds × 2 arms × 10,000 images × 10 classes", 3.0, 1000.0),
    Case("study-200", "`study()`: 200 seeds × 2 arms × 10,000 images × 10 classes", 30.0),
    Case("compare", "`bench compare`: 1,000 pairs × 10 metrics, from the shell", 3.0),
    Case(
        "report",
        "`bench report`: 20 seeds × 2 arms × 10,000 images × 10 classes, from the shell",
        8.0,
        1000.0,
    ),
]


@dataclass(frozen=True)
class Measured:
    """One repetition; memory is the largest resident set of the process, imports included."""

    seconds: float
    peak_mb: float
    data_mb: float | None = None  # resident before the analysis began


# -- a study, inside a process of its own -----------------------------------------------------


def synthetic_study(n_seeds: int):
    """Return tables and design as `bench run cifar10` leaves them: two arms, 10,000 test images.

    Imported lazily, so that the parent process stays small.
    """
    import numpy as np
    import pandas as pd

    from bench.analysis.data.metrics import Predictions
    from bench.analysis.data.tables import Design, Tables

    rng = np.random.default_rng(0)
    sizes = {"test": 10_000, "validation": 1_000}
    labels = {split: rng.integers(10, size=n) for split, n in sizes.items()}
    shared = {split: rng.normal(size=n) for split, n in sizes.items()}
    predictions, trials, epochs = {}, [], []
    for seed in range(n_seeds):
        for arm, edge in (("baseline", 3.0), ("smoothed", 2.6)):
            for split, n in sizes.items():
                logits = rng.normal(size=(n, 10), scale=1.2).astype(np.float32)
                logits[np.arange(n), labels[split]] += edge + shared[split]
                logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
                predictions[arm, seed, split] = Predictions(logits, labels[split])
            trials.append(
                {
                    "arm": arm,
                    "seed": seed,
                    "status": "finished",
                    "reason": "",
                    "device": "cpu",
                    "duration_s": 60.0,
                    "environment": json.dumps({"torch": "2.9"}),
                    "attempts": 1,
                    "selected_epoch": 19,
                    "logged_accuracy": None,
                }
            )
            epochs += [
                {
                    "arm": arm,
                    "seed": seed,
                    "epoch": epoch,
                    "val/accuracy": round(0.8 - 0.4 / (epoch + 1) + 0.01 * rng.normal(), 3),
                    "train/loss": 2.0 / (epoch + 1),
                }
                for epoch in range(20)
            ]
    tables = Tables(
        trials=pd.DataFrame(trials),
        epochs=pd.DataFrame(epochs),
        scores=pd.DataFrame(columns=["arm", "seed", "score", "value"]),
        predictions=predictions,
    )
    design = Design(
        experiment="cifar10",
        question="Does label smoothing raise test accuracy?",
        baseline="baseline",
        treatments=("smoothed",),
        metric="accuracy",
        higher_is_better=True,
        seeds=tuple(range(n_seeds)),
        margin=0.001,
        claim=0.003,
        arm_settings={"baseline": {"epsilon": 0.0}, "smoothed": {"epsilon": 0.1}},
    )
    return tables, design


def measure_study(n_seeds: int) -> Measured:

    from bench.analysis.study.study import study

    tables, design = synthetic_study(n_seeds)
    before = resident_mb()
    started = time.perf_counter()
    study(tables, design)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB
    return Measured(seconds, peak, before)


def resident_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MB


# -- bench compare, from the shell --------------------------------------------------------------


def write_scores(path: Path, *, pairs: int = 1000, metrics: int = 10) -> None:
    """Write scores in the long form: one row a run."""
    import random

    draw = random.Random(0)
    names = [f"metric_{i}" for i in range(metrics)]
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["seed", "arm", *names])
        for seed in range(pairs):
            shared = [draw.gauss(0.9, 0.01) for _ in names]
            for arm, gain in (("base", 0.0), ("new", 0.001)):
                row = [round(s + gain + draw.gauss(0, 0.005), 4) for s in shared]
                table.writerow([seed, arm, *row])


def measure_compare() -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        write_scores(Path(folder) / "scores.csv")
        words = ["compare", "scores.csv", "--arm", "arm", "--pair", "seed"]
        words += ["--baseline", "base", "--treatment", "new"]
        for i in range(10):
            words += ["--metric", f"metric_{i}"]
        return measure_command(words, Path(folder))


def measure_command(words: list[str], folder: Path) -> Measured:
    """Time one `bench` command from the shell, start of Python included."""
    bench = Path(sys.executable).with_name("bench")
    started = time.perf_counter()
    child = subprocess.Popen(
        [str(bench), *words],
        cwd=folder,
        env=USUAL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output = child.stdout.read() if child.stdout else ""
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if child.returncode != 0:
        raise SystemExit(f"bench {words[0]} ended with {child.returncode}:\n{output}")
    return Measured(seconds, usage.ru_maxrss * 1024 / MB)


# -- bench report, from the shell ---------------------------------------------------------------

GUESSING = '''"""An experiment that trains nothing and predicts as a trained network would."""
import numpy as np
from bench import Experiment, Outcome, Predictions, Trial

LABELS = {split: np.arange(size) % 10 for split, size in (("test", 10_000), ("validation", 1000))}


def predictions(trial: Trial, split: str, draw: np.random.Generator) -> Predictions:
    labels = LABELS[split]
    hard = np.random.default_rng(1).normal(size=labels.size)
    logits = draw.normal(size=(labels.size, 10))
    logits[np.arange(labels.size), labels] += 3 + hard + trial.settings["gain"]
    log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return Predictions(log_p.astype(np.float32), labels)


def train(trial: Trial) -> Outcome:
    draw = trial.rng("init")
    for epoch in range(20):
        trial.log(epoch, {"train/loss": 1 / (epoch + 1), "val/accuracy": 0.8 + epoch / 1000})
    return Outcome(test=predictions(trial, "test", draw),
                   test_last=predictions(trial, "test", draw),
                   validation=predictions(trial, "validation", draw), selected_epoch=19)


EXPERIMENT = Experiment(
    name="guessing",
    question="Does the gain raise test accuracy?",
    arms={"base": {"gain": 0.0}, "new": {"gain": 0.05}},
    train=train,
    margin=0.003,
    claim=0.003,
)
'''


def measure_report() -> Measured:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "guessing.py").write_text(GUESSING)
        measure_command(["run", "guessing.py", "--seeds", "20", "--no-report", "-q"], folder)
        return measure_command(["report", "guessing"], folder)


# -- all of it -------------------------------------------------------------------------------------


def repetition(case: Case) -> Measured:
    if case.name == "compare":
        return measure_compare()
    if case.name == "report":
        return measure_report()
    n_seeds = case.name.removeprefix("study-")
    done = subprocess.run(
        [sys.executable, __file__, "--child", n_seeds],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def page(found: dict[str, list[Measured]], load: tuple[float, float]) -> str:
    lines = [
        "# Speed of the analysis",
        "",
        f"Written by `tests/benchmarks/analysis_speed.py` on "
        f"{datetime.datetime.now(datetime.UTC).date().isoformat()}: Python "
        f"{platform.python_version()}, {processor()}, {os.cpu_count()} cores, load "
        f"{load[0]:.1f} at the start and {load[1]:.1f} at the end. Medians of {REPEATS} "
        "repetitions, each in a process of its own.",
        "",
        "| | seconds (all) | wanted | largest memory | of it before the analysis | wanted |",
        "|---|---|---|---|---|---|",
    ]
    for case in CASES:
        times = [m.seconds for m in found[case.name]]
        peak = statistics.median(m.peak_mb for m in found[case.name])
        data = [m.data_mb for m in found[case.name] if m.data_mb is not None]
        lines.append(
            f"| {case.what} | **{statistics.median(times):.1f}** "
            f"({', '.join(f'{t:.1f}' for t in times)}) | {case.limit_s:g} | {peak:,.0f} MB | "
            f"{f'{statistics.median(data):,.0f} MB' if data else '–'} | "
            f"{f'{case.limit_mb:,.0f} MB' if case.limit_mb else '–'} |"
        )
    lines += [
        "",
        "Time of `study()` is without loading; its memory is the process's, with imports (numpy, "
        "scipy, pandas), the test predictions and 1,000 validation images a run. `bench compare` "
        "and `bench report` are timed from the shell, start of Python included.",
    ]
    return "\n".join(lines) + "\n"


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown processor"


def main() -> None:
    """Measure and write the page; with --child, one study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--child", type=int, metavar="SEEDS", help="one study, as JSON")
    n_seeds = parser.parse_args().child
    if n_seeds is not None:
        print(json.dumps(vars(measure_study(n_seeds))))
        return
    start = os.getloadavg()[0]
    found: dict[str, list[Measured]] = {}
    for case in CASES:
        found[case.name] = [repetition(case) for _ in range(REPEATS)]
        print(case.name, [f"{m.seconds:.2f} s, {m.peak_mb:,.0f} MB" for m in found[case.name]])
    path = Path(__file__).with_suffix(".md")
    path.write_text(page(found, (start, os.getloadavg()[0])), encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
