"""Soak: 2,000 tiny trials through the real pool and store. What do memory, files and time do?

    python tests/benchmarks/soak.py [--trials 2000] [--markdown FILE]

It fails if, after the first quarter, the parent's memory grows by more than a tenth, a file stays
open, or a trial takes more than 0.1 s; and if the report over all pairs is not written.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.devices import cpu_slots
from bench.discover import discover
from bench.plan import arms_with, make_plan
from bench.progress import Progress
from bench.reporting import report
from bench.runner import Options, run
from bench.stopping import looker
from bench.tracking import Store

MOST_GROWTH = 0.10  # of the memory at a quarter of the trials
MOST_S = 0.1  # a trial, all told
EXPERIMENT = '''"""A training of 5 ms."""
import time
import numpy as np
from bench import Experiment, Outcome, Predictions, Trial

LABELS = np.arange(50) % 5


def train(trial: Trial) -> Outcome:
    time.sleep(0.005)
    noise = trial.rng("init").normal(size=(50, 5))
    noise[np.arange(50), LABELS] += trial.settings["strength"]
    for epoch in range(3):
        trial.log(epoch, {"train/loss": 1 / (epoch + 1), "val/accuracy": 0.5})
    log_p = noise - np.log(np.exp(noise).sum(axis=1, keepdims=True))
    return Outcome(test=Predictions(log_p, LABELS))


EXPERIMENT = Experiment(
    name="soak",
    question="Does more strength raise test accuracy?",
    arms={"weak": {"strength": 1.0}, "strong": {"strength": 1.1}},
    train=train,
    margin=0.01,
)
'''


@dataclass(frozen=True)
class Sample:
    """The parent process after so many trials."""

    trials: int
    seconds: float
    memory_mib: float
    files: int
    threads: int


def sample(trials: int, since: float) -> Sample:
    status = Path("/proc/self/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return Sample(
        trials=trials,
        seconds=time.monotonic() - since,
        memory_mib=int(fields["VmRSS"].split()[0]) / 1024,
        files=len(os.listdir("/proc/self/fd")),
        threads=int(fields["Threads"]),
    )


class Watch(Progress):
    """The quiet display, which samples this process a few times while it waits for results."""

    def __init__(self, total: int, workers: int) -> None:
        super().__init__(workers=workers)
        self.every = total // 8
        self.samples: list[Sample] = []

    def result(self, result: Any, value: float | None) -> None:
        super().result(result, value)
        if len(self.done) % self.every == 0:
            self.samples.append(sample(len(self.done), self.started))


def soaked(folder: Path, trials: int) -> tuple[Watch, float, Any, Any]:
    """Train and record; gives the samples, the seconds, the store and the benchmark."""
    path = folder / "soak_experiment.py"
    path.write_text(EXPERIMENT)
    found = discover(str(path))
    plan = make_plan(found, data={}, arms=arms_with(found), seeds=range(trials // 2))
    places = cpu_slots()
    store, watch = Store(f"sqlite:///{folder / 'mlflow.db'}"), Watch(trials, len(places))
    started = time.monotonic()
    ran = run(
        plan,
        found,
        store=store,
        options=Options(slots=places),
        provenance={},
        watcher=watch,
        look=looker(plan),
    )
    seconds = time.monotonic() - started
    assert ran.trained == trials and not ran.failures
    return watch, seconds, store, ran.benchmark


def reported(store: Any, benchmark: Any) -> tuple[float, Path]:
    """Write the report and return the seconds it took and where it is."""
    started = time.monotonic()
    page = report(store, benchmark).html
    return time.monotonic() - started, page


def troubles(samples: Sequence[Sample], per_trial: float) -> list[str]:
    """Return what did not stay within its limit."""
    first, last = samples[1], samples[-1]
    found = []
    if last.memory_mib > first.memory_mib * (1 + MOST_GROWTH):
        found.append(f"memory grew from {first.memory_mib:.0f} to {last.memory_mib:.0f} MiB")
    if last.files > first.files + 2:  # one or two are open just then
        found.append(f"open files grew from {first.files} to {last.files}")
    if per_trial > MOST_S:
        found.append(f"a trial took {per_trial:.3f} s")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--markdown", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        watch, seconds, store, benchmark = soaked(folder, asked.trials)
        report_s, page = reported(store, benchmark)
        found = json.loads((page.parent / "results.json").read_text())
        pairs = found["comparisons"][0]["n_pairs"]
        assert pairs == asked.trials // 2
        per_trial = seconds / asked.trials
        lines = [
            f"{asked.trials:,} trials of 5 ms, {os.cpu_count()} cores, {platform.machine()}, "
            f"Python {platform.python_version()}",
            "",
            "| trials | seconds | memory of the parent, MiB | open files | threads |",
            "|---:|---:|---:|---:|---:|",
            *(
                f"| {s.trials:,} | {s.seconds:.1f} | {s.memory_mib:.0f} | {s.files} | {s.threads} |"
                for s in watch.samples
            ),
            "",
            f"{per_trial * 1000:.1f} ms a trial, start and end included. Report over {pairs:,} "
            f"pairs: {report_s:.1f} s, page of {page.stat().st_size / 2**20:.1f} MiB. "
            f"Store: {(folder / 'mlflow.db').stat().st_size / 2**20:.0f} MiB.",
        ]
    text = "\n".join(lines)
    print(text)
    if asked.markdown is not None:
        asked.markdown.write_text(f"# Soak\n\n`python tests/benchmarks/soak.py`\n\n{text}\n")
    wrong = troubles(watch.samples, per_trial)
    for trouble in wrong:
        print(f"too much: {trouble}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
