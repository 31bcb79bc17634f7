"""Soak: up to 2,000 tiny trials, each in a process of its own, and the store. What do they cost?

``python tests/benchmarks/soak.py`` trains benchmarks of several sizes, each in a process of its
own, and writes `soak.md` beside this file: plan, training, store and report as seeds and arms grow,
and what memory, files and threads of the parent do during the largest. It fails if, after the first
quarter of that one, the parent's memory grows by more than a tenth, a file stays open, or a trial
costs more than 45 ms beyond its training on each of two cores. ``--shapes 100x2,20x10`` are seeds
x arms, ``100x2r`` with processes that are reused; nothing is written then.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.design.option_values import arms_with
from bench.design.plan import make_plan
from bench.display.progress import Progress
from bench.execution.base import Options
from bench.execution.devices import cpu_slots
from bench.execution.processes import Processes
from bench.execution.runner import run
from bench.execution.server import Server
from bench.execution.stopping import looker
from bench.reports.build import report
from bench.store.mlflow_store import Store

PAGE = Path(__file__).with_suffix(".md")
# Seeds x arms; the first of those with the most trials is looked into.
SHAPES = "50x2,250x2,1000x2,1000x2r,100x10,200x10"
MOST_GROWTH = 0.10  # of the memory at a quarter of the trials
MOST_S = 0.045  # a trial, all told
EXPERIMENT = '''"""A training of 1 ms."""
import time
import numpy as np
from bench import Experiment, Outcome, Predictions, Trial

ARMS, REUSE, LABELS = 2, False, np.arange(50) % 5


def train(trial: Trial) -> Outcome:
    time.sleep(0.001)
    noise = trial.rng("init").normal(size=(50, 5))
    noise[np.arange(50), LABELS] += trial.settings["strength"]
    for epoch in range(3):
        trial.log(epoch, {"train/loss": 1 / (epoch + 1), "val/accuracy": 0.5})
    log_p = noise - np.log(np.exp(noise).sum(axis=1, keepdims=True))
    return Outcome(test=Predictions(log_p, LABELS))


EXPERIMENT = Experiment(
    name="soak",
    question="Does more strength raise test accuracy?",
    arms={f"strength {x:.2f}": {"strength": x} for x in 1 + 0.02 * np.arange(ARMS)},
    train=train,
    margin=0.01,
    device="cpu",
    reuse_process=REUSE,
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


@dataclass(frozen=True)
class Cost:
    """What one benchmark cost."""

    seeds: int
    arms: int
    reuse: bool
    plan_s: float
    trial_s: float
    again_s: float
    memory_mib: float
    store_mib: float
    report_s: float
    report_mib: float
    page_mib: float
    samples: Sequence[Sample]


def soaked(folder: Path, seeds: int, arms: int, reuse: bool) -> Cost:
    """Train, record and report; and run the finished benchmark once more."""
    path = folder / "soak_experiment.py"
    path.write_text(
        EXPERIMENT.replace(
            "ARMS, REUSE, LABELS = 2, False", f"ARMS, REUSE, LABELS = {arms}, {reuse}"
        )
    )
    trials, slots, seconds = seeds * arms, cpu_slots(), list[float]()
    watch = Watch(trials, len(slots))
    with Server(str(path)) as server:
        server.get_ready(1)
        started = time.monotonic()
        found = server.found
        plan = make_plan(found, data={}, arms=arms_with(found), seeds=range(seeds))
        plan_s = time.monotonic() - started
        for watcher in (watch, Progress(workers=len(slots))):
            store = Store(f"sqlite:///{folder / 'mlflow.db'}")
            executor = Processes(server, slots)
            assert server.forks
            started = time.monotonic()
            ran = run(
                plan,
                found,
                store=store,
                options=Options(),
                provenance={},
                watcher=watcher,
                look=looker(plan),
                executor=executor,
            )
            seconds.append(time.monotonic() - started)
            assert ran.trained == (trials if watcher is watch else 0) and not ran.failures
    memory = peak_mib()
    started = time.monotonic()
    page = report(store, ran.benchmark).html
    report_s = time.monotonic() - started
    pairs = json.loads((page.parent / "results.json").read_text())["comparisons"][0]["n_pairs"]
    assert pairs == seeds
    return Cost(
        seeds=seeds,
        arms=arms,
        reuse=reuse,
        plan_s=plan_s,
        trial_s=seconds[0] / trials,
        again_s=seconds[1],
        memory_mib=memory,
        store_mib=sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 2**20,
        report_s=report_s,
        report_mib=peak_mib(),
        page_mib=page.stat().st_size / 2**20,
        samples=watch.samples,
    )


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_a_process(shape: str) -> Cost:
    """Measure a shape; a process of its own, so that its memory is its own."""
    words = [sys.executable, __file__, "--child", shape]
    usual = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    out = subprocess.run(words, stdout=subprocess.PIPE, text=True, env=usual, check=True).stdout
    plain = json.loads(out.splitlines()[-1])
    return Cost(**{**plain, "samples": [Sample(**each) for each in plain["samples"]]})


def troubles(cost: Cost) -> list[str]:
    """Return what did not stay within its limit."""
    first, last = cost.samples[1], cost.samples[-1]
    found = []
    if last.memory_mib > first.memory_mib * (1 + MOST_GROWTH):
        found.append(f"memory grew from {first.memory_mib:.0f} to {last.memory_mib:.0f} MiB")
    if last.files > first.files + 2:  # one or two are open just then
        found.append(f"open files grew from {first.files} to {last.files}")
    if cost.trial_s > MOST_S:
        found.append(f"a trial took {cost.trial_s:.3f} s")
    return found


def page_of(costs: Sequence[Cost], largest: Cost, load: float) -> str:
    trials = f"{largest.seeds * largest.arms:,}"
    return "\n".join(
        [
            "# Soak",
            "",
            f"Written by `tests/benchmarks/soak.py` on {datetime.date.today()}: Python "
            f"{platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}, load "
            f"{load:.1f} at the start. A training sleeps for 1 ms, logs 3 epochs and returns "
            "predictions for 50 images.",
            "",
            "| seeds × arms | import and plan | a trial, all told | the same command again "
            "| parent's memory | store and files | report | its memory | page |",
            "|---|---|---|---|---|---|---|---|---|",
            *(
                f"| {c.seeds:,} × {c.arms}{', reused' if c.reuse else ''} "
                f"| {1000 * c.plan_s:.0f} ms | {1000 * c.trial_s:.1f} ms "
                f"| {c.again_s:.1f} s | {c.memory_mib:.0f} MiB | {c.store_mib:.0f} MiB "
                f"| {c.report_s:.1f} s | {c.report_mib:.0f} MiB | {c.page_mib:.1f} MiB |"
                for c in costs
            ),
            "",
            f"The parent during {trials} trials of {largest.arms} arms:",
            "",
            "| trials | seconds | memory, MiB | open files | threads |",
            "|---:|---:|---:|---:|---:|",
            *(
                f"| {s.trials:,} | {s.seconds:.1f} | {s.memory_mib:.0f} | {s.files} | {s.threads} |"
                for s in largest.samples
            ),
            "",
        ]
    )


def main() -> int:
    """Measure and write the page; status 1 where a limit was passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", metavar="LIST")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    typed = parser.parse_args()
    if typed.child:
        seeds, arms = map(int, typed.child.rstrip("r").split("x"))
        with tempfile.TemporaryDirectory() as name:
            print(json.dumps(asdict(soaked(Path(name), seeds, arms, typed.child.endswith("r")))))
        return 0
    load = os.getloadavg()[0]
    costs = [in_a_process(shape) for shape in (typed.shapes or SHAPES).split(",")]
    largest = max(costs, key=lambda cost: (cost.seeds * cost.arms, not cost.reuse))
    text = page_of(costs, largest, load)
    print(text)
    if typed.shapes is None:
        PAGE.write_text(text, "utf-8")
    wrong = troubles(largest)
    for trouble in wrong:
        print(f"too much: {trouble}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
