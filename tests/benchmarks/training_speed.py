"""Speed: how much faster than a plain loop does bench train, and what does bench itself cost?

``python tests/benchmarks/training_speed.py --images ZIP --weights FILE`` measures every row on this
machine, the plain loop and bench in turn, and writes medians to `training_speed.md` beside this
file. ``--rows digits,help`` measures some rows and keeps the others as they stand there. ZIP holds
{train,test}/CLASS/*, FILE the weights of a ResNet-18; without them the CIFAR-10 rows are left as
they are, and so are a GPU's, which `training_speed_gpu.py` measures. Nothing is asserted: times
depend on the machine and on who else uses it.
"""

import argparse
import datetime
import functools
import json
import os
import platform
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

PAGE = HERE / "training_speed.md"
BENCH = str(Path(sys.executable).with_name("bench"))
REPEATS = 3
# As on a user's machine: Python keeps the bytecode of what it imported the first time.
USUAL = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
COMMAND = "python tests/benchmarks/training_speed.py --images ZIP --weights FILE --rows {}"
GPU_COMMAND = "python tests/benchmarks/training_speed_gpu.py --images ZIP --weights FILE"


@dataclass(frozen=True)
class Row:
    """What is measured, and the figure to reach."""

    name: str
    what: str
    wanted: str
    measure: Callable[["Given"], str] | None = None  # the figure and what it is made of


@dataclass(frozen=True)
class Given:
    """What the command line names."""

    images: Path | None = None  # {train,test}/CLASS/*
    weights: Path | None = None
    repeats: int = REPEATS


# -- running commands --------------------------------------------------------------------------


def timed(words: Sequence[str], cwd: Path | str) -> tuple[float, str]:
    """Run a command; return its wall time in seconds and what it printed."""
    started = time.perf_counter()
    done = subprocess.run(words, cwd=cwd, env=USUAL, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr}")
    return seconds, done.stdout


@dataclass(frozen=True)
class Timed:
    """One run of a plain script or of `bench run`: wall seconds, and test accuracies."""

    whole_s: float
    train_s: float
    accuracy: dict[str, dict[int, float]]  # by arm and seed
    heads_scored: int = 0  # how often a trained network saw the test images


def plain(script: str, *words: str) -> Timed:
    """Run a plain loop; its last line is JSON."""
    whole_s, out = timed([sys.executable, str(HERE / script), *words], ROOT)
    said = json.loads(out.splitlines()[-1])
    accuracy = {arm: dict(enumerate(values)) for arm, values in said["accuracy"].items()}
    return Timed(whole_s, said["train_s"], accuracy)


def bench(experiment: str, seeds: int, pack: int, *words: str) -> Timed:
    """Run `bench run` in a fresh folder with a fresh store.

    Parameters
    ----------
    pack : how many trainings make a pack
    """
    with tempfile.TemporaryDirectory() as folder:
        run = [BENCH, "run", experiment, "--seeds", str(seeds), "--quiet", *words]
        whole_s, _ = timed(run, folder)
        outcomes = [json.loads(p.read_text()) for p in Path(folder).rglob("outcome.json")]
        scored = sum(
            1 if o["selected_epoch"] == o["facts"]["epochs_trained"] - 1 else 2 for o in outcomes
        )
        with closing(sqlite3.connect(Path(folder) / "mlruns" / "mlflow.db")) as database:
            return _read(database, whole_s, pack, scored)


def _read(database: sqlite3.Connection, whole_s: float, pack: int, scored: int) -> Timed:
    """Read from the store when the first pack began and the last one ended."""
    rows = database.execute(
        "SELECT arm.value, seed.value, m.value, m.timestamp, d.value FROM metrics m "
        "JOIN tags arm ON arm.run_uuid = m.run_uuid AND arm.key = 'arm' "
        "JOIN tags seed ON seed.run_uuid = m.run_uuid AND seed.key = 'seed' "
        "JOIN tags d ON d.run_uuid = m.run_uuid AND d.key = 'bench.duration_s' "
        "WHERE m.key = 'test/accuracy'"
    ).fetchall()
    accuracy: dict[str, dict[int, float]] = {}
    begun, ended = [], []
    for arm, seed, value, milliseconds, share in rows:
        accuracy.setdefault(arm, {})[int(seed)] = value
        begun.append(milliseconds / 1000 - float(share))
        ended.append(begun[-1] + pack * float(share))
    return Timed(whole_s, max(ended) - min(begun), accuracy, scored)


def in_turn(repeats: int, *runs: Callable[[], Timed]) -> list[list[Timed]]:
    """Run each in turn, `repeats` times: drift of the machine hits all alike."""
    found: list[list[Timed]] = [[] for _ in runs]
    for _ in range(repeats):
        for run, kept in zip(runs, found, strict=True):
            kept.append(run())
    return found


def against(slow: Sequence[float], fast: Sequence[float], note: str = "") -> str:
    """Say how much faster, in medians, and what was measured."""
    ratio = statistics.median(slow) / statistics.median(fast)
    return f"**{ratio:.1f} ×**: plain {listed(slow)}, bench {listed(fast)}{note}"


def listed(seconds: Sequence[float], digits: int = 1) -> str:
    each = ", ".join(f"{s:.{digits}f}" for s in seconds)
    return f"{statistics.median(seconds):.{digits}f} s ({each})"


# -- digits ------------------------------------------------------------------------------------


@functools.cache
def digits_runs(repeats: int) -> list[list[Timed]]:
    from bench.experiments.digits import EXPERIMENT

    pack = EXPERIMENT.pack_seeds * len(EXPERIMENT.arms)
    return in_turn(
        repeats,
        lambda: plain("plain_digits.py", "--seeds", "20"),
        lambda: bench("digits", 20, pack),
    )


def digits_training(given: Given) -> str:
    slow, fast = digits_runs(given.repeats)
    return against([t.train_s for t in slow], [t.train_s for t in fast])


def digits_whole(given: Given) -> str:
    slow, fast = digits_runs(given.repeats)
    return against([t.whole_s for t in slow], [t.whole_s for t in fast])


def digits_equal(given: Given) -> str:
    [slow], [fast] = (runs[:1] for runs in digits_runs(given.repeats))
    return equivalence(slow, fast)


# -- CIFAR-10 ----------------------------------------------------------------------------------


def cifar10_words(given: Given, size: int) -> list[str]:
    return [
        *("--set", f"weights={given.weights}"),
        *("--set", f"image_size={size}"),
        *("--set", "epochs=3"),
    ]


def cifar10_plain(given: Given, size: int, seeds: int, workers: int, threads: int) -> Timed:
    words = [str(given.images), "--seeds", str(seeds), *cifar10_words(given, size)]
    words += ["--workers", str(workers), "--threads", str(threads)]
    return plain("plain_cifar10.py", *words)


def cifar10_bench(given: Given, size: int, seeds: int) -> Timed:
    words = ["--data", str(given.images), "--no-report", *cifar10_words(given, size)]
    return bench("cifar10", seeds, 2, *words)


@functools.cache
def best_plain(given: Given, size: int) -> tuple[int, int, str]:
    """Return the DataLoader workers and torch threads with which the plain loop is fastest."""
    cores = os.cpu_count() or 1
    times = {}
    for threads in sorted({1, cores}):
        for workers in sorted({0, 1, cores}):
            times[workers, threads] = cifar10_plain(given, size, 1, workers, threads).train_s
            print(f"  plain, {workers} workers, {threads} threads: {times[workers, threads]:.0f} s")
    workers, threads = min(times, key=times.__getitem__)
    tried = ", ".join(f"{w}/{t} {s:.0f} s" for (w, t), s in times.items())
    return workers, threads, f"one seed with workers/threads: {tried}"


@functools.cache
def cifar10_runs(given: Given, size: int) -> list[list[Timed]]:
    workers, threads, _ = best_plain(given, size)
    return in_turn(
        given.repeats,
        lambda: cifar10_plain(given, size, 4, workers, threads),
        lambda: cifar10_bench(given, size, 4),
    )


def cifar10_training(given: Given, *, size: int) -> str:
    slow, fast = cifar10_runs(given, size)
    note = f"; plain, {best_plain(given, size)[2]}"
    return against([t.train_s for t in slow], [t.train_s for t in fast], note)


def cifar10_equal(given: Given) -> str:
    slow = cifar10_plain(given, 32, 20, workers=1, threads=1)
    return equivalence(slow, cifar10_bench(given, 32, 20))


def cifar10_floor(given: Given, *, size: int) -> str:
    """Say how far the trainings are from the time that their products alone would take."""
    _, fast = cifar10_runs(given, size)
    per_image = json.loads(child("flop", str(given.weights), str(size)))
    seeds, arms, epochs, images, tests = 4, 2, 3, 1000, 10_000
    trunk = per_image["trunk"] * (seeds * images * (epochs + 1) + tests)
    # a step computes three products for each one forward: itself and two gradients
    head = per_image["head"] * (seeds * arms * epochs * images * (3 + 1))
    head += per_image["head"] * tests * fast[0].heads_scored
    rate = sum(gemm_rates())
    floor = (trunk + head) / rate
    measured = statistics.median(t.train_s for t in fast)
    return (
        f"**{measured / floor:.1f} ×** the floor of {floor:.1f} s: {(trunk + head) / 1e12:.2f} "
        f"TFLOP ({trunk / 1e12:.2f} of them in the trunk) at {rate / 1e9:.0f} GFLOP/s, the rate of "
        f"2048 × 2048 float32 products on {os.cpu_count()} cores"
    )


def gemm_rates() -> list[float]:
    """Return what each core reaches in float32 matrix products, all at once, in FLOP/s."""
    words = [sys.executable, __file__, "--child", "gemm"]
    running = [
        subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=USUAL)
        for _ in range(os.cpu_count() or 1)
    ]
    return [float(process.communicate()[0]) for process in running]


def equivalence(slow: Timed, fast: Timed) -> str:
    """Compare accuracies seed by seed, with bench's own test of equivalence."""
    import numpy as np

    from bench.analysis.inference.paired_t import paired_t
    from bench.analysis.inference.tost import tost

    said = []
    for arm, values in slow.accuracy.items():
        seeds = sorted(values)
        a, b = (np.array([t.accuracy[arm][s] for s in seeds]) for t in (slow, fast))
        if (a == b).all():
            said.append(f"{arm}: all {len(seeds)} accuracies equal")
            continue
        t = paired_t(a, b, level=0.90)
        error = float(np.std(b - a, ddof=1) / np.sqrt(len(seeds)))
        p = tost(t.difference, error, len(seeds) - 1, margin=0.005).p_value
        said.append(
            f"{arm}: {100 * t.difference:+.3f} pp, **[{100 * t.low:+.3f}, {100 * t.high:+.3f}]**, "
            f"p = {p:.1g} against ±0.5 pp"
        )
    return "; ".join(said)


# -- the harness -------------------------------------------------------------------------------

LOGGING = '''"""Nothing is trained: 20 epochs of 9 metrics are logged, ten predictions returned."""
import numpy as np
from bench import Experiment, Outcome, Predictions

NAMES = [f"train/metric_{i}" for i in range(9)]

def train(trial):
    for epoch in range(20):
        trial.log(epoch, {name: 0.5 + trial.rng("init").random() for name in NAMES})
    p = trial.rng("init").dirichlet(np.ones(10), size=10)
    return Outcome(test=Predictions(np.log(p), np.arange(10)))

EXPERIMENT = Experiment(name="logging", question="What does a run cost?", train=train,
    arms={"a": {"x": 0}, "b": {"x": 1}})
'''

SLEEPING = '''"""Nothing is trained: a second passes."""
import time
from bench import Experiment, Outcome

def train(trial):
    time.sleep(1.0)
    return Outcome(scores={"return": 1.0})

EXPERIMENT = Experiment(name="sleeping", question="Do workers wait for each other?", train=train,
    metric="return", arms={"a": {"x": 0}, "b": {"x": 1}})
'''


@contextmanager
def experiment(text: str) -> Iterator[Path]:
    """Give the folder of an experiment called mine.py."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "mine.py").write_text(text)
        yield Path(name)


def harness(given: Given) -> str:
    each, longer, shorter = [], [], []
    for _ in range(given.repeats):
        for seeds, kept in ((10, shorter), (60, longer)):
            with experiment(LOGGING) as folder:
                run = [BENCH, "run", "mine.py", "--seeds", str(seeds), "--workers", "1"]
                kept.append(timed([*run, "--quiet", "--no-report"], folder)[0])
        each.append((longer[-1] - shorter[-1]) / 100)
    times = f"120 runs {listed(longer)}, 20 runs {listed(shorter)}, one worker, store included"
    return f"**{statistics.median(each):.3f} s** a run: {times}"


def eight(given: Given) -> str:
    found = {n: [] for n in (1, 8)}
    for _ in range(given.repeats):
        for workers, kept in found.items():
            with experiment(SLEEPING) as folder:
                kept.append(float(child("sleep", str(folder / "mine.py"), str(workers))))
    ratio = statistics.median(found[1]) / statistics.median(found[8])
    return f"**{ratio:.2f} ×**: 32 trainings of 1 s, 1 worker {listed(found[1], 2)}, 8 workers " + (
        listed(found[8], 2)
    )


def help_text(given: Given) -> str:
    times = [timed([BENCH, "--help"], ROOT)[0] for _ in range(given.repeats + 1)][1:]
    return f"**{statistics.median(times):.2f} s** ({', '.join(f'{t:.2f}' for t in times)})"


def status(given: Given) -> str:
    with experiment(LOGGING) as folder:
        run = [BENCH, "run", "mine.py", "--seeds", "500", "--quiet", "--no-report"]
        timed(run, folder)
        times = [timed([BENCH, "status"], folder)[0] for _ in range(given.repeats + 1)][1:]
        _, said = timed([BENCH, "status"], folder)
    if "500/500" not in said:
        raise SystemExit(f"bench status does not list 500 pairs:\n{said}")
    return f"**{statistics.median(times):.2f} s** ({', '.join(f'{t:.2f}' for t in times)})"


def profile(given: Given, *, name: str, size: int = 0) -> str:
    return child("profile", name, str(given.images), str(given.weights), str(size)).strip()


def bits(given: Given) -> str:
    return child("bits", str(given.images), str(given.weights), str(given.repeats)).strip()


def drift(given: Given) -> str:
    return child("drift", str(given.images), str(given.weights)).strip()


# -- in a process of its own -------------------------------------------------------------------


def child(*words: str) -> str:
    return timed([sys.executable, __file__, "--child", *words], ROOT)[1]


def flop(weights: str, size: int) -> dict[str, int]:
    """Return the floating-point operations of trunk and head for one image, as they are done."""
    import torch
    from torch import nn

    from bench.experiments.cifar10 import SETTINGS
    from bench.experiments.training.frozen_features import Trunk
    from bench.experiments.training.resnet import SmallMap, network, with_products

    def counted(net: nn.Module, run: Callable[[], object]) -> int:
        total = 0

        def add(module: nn.Module, inputs: tuple[torch.Tensor], out: torch.Tensor) -> None:
            nonlocal total
            if isinstance(module, SmallMap):
                total += 2 * inputs[0].numel() * out.numel()
            elif isinstance(module, nn.Conv2d | nn.Linear):
                total += 2 * out.numel() * module.weight[0].numel()

        for module in net.modules():
            module.register_forward_hook(add)
        run()
        return total

    net, head = network({**SETTINGS, "weights": weights}, 10, 0)
    trunk = Trunk(net, "", size, torch.device("cpu"), torch.float32)
    layers = nn.Sequential(*(layer for layer, _ in trunk.layers))
    head = with_products(head, trunk.example)
    pixels = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    return {
        "trunk": counted(layers, lambda: trunk(pixels)),
        "head": counted(head, lambda: head(trunk.example)),
    }


def child_gemm() -> None:
    """Print the rate of float32 matrix products on one core, in FLOP/s."""
    import torch

    torch.set_num_threads(1)
    a, b = torch.randn(2, 2048, 2048)
    times = []
    while sum(times) < 5:
        started = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - started)
    print(2 * 2048**3 / statistics.median(times))


def child_sleep(path: str, workers: str) -> None:
    """Print how long 32 trainings take in slots that are warm."""
    from bench.design.option_values import arms_with
    from bench.design.plan import make_plan
    from bench.execution.base import Options
    from bench.execution.devices import cpu_slots
    from bench.execution.processes import Processes
    from bench.execution.resume import jobs
    from bench.execution.server import Server

    with Server(path) as server:
        found, slots = server.found, cpu_slots(int(workers))
        plan = make_plan(found, data={}, arms=arms_with(found), seeds=range(16))
        work = jobs(plan, found, Options(), ())
        with Processes(server, slots) as executor:
            list(executor.run(work[: len(slots)]))  # warm: each slot has trained
            started = time.perf_counter()
            list(executor.run(work))
            print(time.perf_counter() - started)


def child_drift(images: str, weights: str) -> None:
    """Print how far the log-probabilities are from the plain loops'."""
    import importlib

    import numpy as np
    import torch

    from bench import Trial
    from bench.experiments import cifar10, digits

    torch.set_num_threads(1)
    sys.path.insert(0, str(HERE))
    own = {"cifar10": {"weights": weights, "image_size": 32}, "digits": {}}
    said = []
    one_step = {"digits": {"batch_size": 200}, "cifar10": {"train_per_class": 25}}
    for module in (digits, cifar10):
        name = module.EXPERIMENT.name
        loop = importlib.import_module(f"plain_{name}").train
        away = []
        for changed in (one_step[name], {}, {"batch_size": 1000}):
            settings = {**module.EXPERIMENT.arm_settings("smoothed"), **own[name], "epochs": 1}
            fast, slow = (
                train(Trial(0, "smoothed", {**settings, **changed}, data_dir=Path(images)))
                for train in (module.train, loop)
            )
            difference = fast.validation.log_probabilities - slow.validation.log_probabilities
            away.append(np.abs(difference))
        said.append(f"{name} **{away[0].max():.1g}** and {away[1].max():.1g}")
    # Adam's first step divides by each gradient's size, also where that is rounding alone
    said.append(
        f"cifar10 after one step on all 1,000 images at once {away[2].max():.1g}, "
        f"median {np.median(away[2]):.1g}"
    )
    print("; ".join(said))


def child_profile(name: str, images: str, weights: str, size: str) -> None:
    """Print where one core's time goes in a pack, after a first one that filled what is kept."""
    import importlib

    import torch
    from torch.profiler import ProfilerActivity

    from bench import Trial

    torch.set_num_threads(1)
    experiment = importlib.import_module(f"experiments.{name}").EXPERIMENT
    own = {"weights": weights, "image_size": int(size), "epochs": 3} if name == "cifar10" else {}
    seeds = experiment.pack_seeds if isinstance(experiment.pack_seeds, int) else 1

    def train(first: int) -> float:
        trials = [
            Trial(seed, arm, {**experiment.arm_settings(arm), **own}, data_dir=Path(images))
            for seed in range(first, first + seeds)
            for arm in experiment.arms
        ]
        started = time.perf_counter()
        experiment.train_pack(trials)
        return time.perf_counter() - started

    train(0)
    with torch.profiler.profile(activities=[ProfilerActivity.CPU]) as found:
        seconds = train(seeds)
    events = sorted(found.key_averages(), key=lambda e: -e.self_cpu_time_total)
    parts = {e.key.removeprefix("aten::"): e.self_cpu_time_total / 1e6 / seconds for e in events}
    top = ", ".join(f"{key} {100 * share:.0f} %" for key, share in list(parts.items())[:8])
    rest = 1 - sum(parts.values())
    print(f"{seconds:.2f} s of a pack of {2 * seeds}: {top}; outside torch {100 * rest:.0f} %")


def child_bits(images: str, weights: str, repeats: str) -> None:
    """Print what deterministic algorithms cost one core: both arms of a seed, in turn without."""
    import torch

    from bench import Trial
    from bench.experiments.cifar10 import EXPERIMENT
    from bench.experiments.data import datasets
    from bench.experiments.training.transfer import fine_tune

    torch.set_num_threads(1)
    loaded = datasets.load(Path(images))
    own = {"weights": weights, "image_size": 32, "epochs": 3}
    settings = {arm: {**EXPERIMENT.arm_settings(arm), **own} for arm in EXPERIMENT.arms}
    trials = [Trial(0, arm, settings[arm], data_dir=Path(images)) for arm in settings]
    fine_tune(loaded, trials)  # fills what is kept
    found: dict[Callable[..., object], list[float]] = {fine_tune: [], fine_tune.__wrapped__: []}
    for _ in range(int(repeats)):
        for train, kept in found.items():
            started = time.perf_counter()
            train(loaded, trials)
            kept.append(time.perf_counter() - started)
    on, off = found.values()
    cost = statistics.median(on) / statistics.median(off) - 1
    print(f"**{100 * cost:+.1f} %**: with {listed(on, 2)}, without {listed(off, 2)}")


def child_flop(weights: str, size: str) -> None:
    print(json.dumps(flop(weights, int(size))))


CHILDREN = {
    "bits": child_bits,
    "drift": child_drift,
    "flop": child_flop,
    "gemm": child_gemm,
    "profile": child_profile,
    "sleep": child_sleep,
}


# -- the page ----------------------------------------------------------------------------------

ROWS = [
    Row(
        "digits",
        "`digits`, 20 seeds: training part of `bench run` against the plain loop with torch's "
        "default threads",
        "2 ×",
        digits_training,
    ),
    Row(
        "digits-whole",
        "`bench run digits --seeds 20`, imports, store and report included, against the plain "
        "script as a whole process",
        "1 ×",
        digits_whole,
    ),
    Row(
        "cifar10-32",
        "`cifar10`, real images, stand-in weights, 32 px, 4 seeds, 3 epochs: training part against "
        "the plain loop with its best workers and threads",
        "2.7 ×",
        functools.partial(cifar10_training, size=32),
    ),
    Row("cifar10-64", "the same at 64 px", "2.7 ×", functools.partial(cifar10_training, size=64)),
    Row(
        "floor-32",
        "the same trainings at 32 px against their arithmetic alone",
        "",
        functools.partial(cifar10_floor, size=32),
    ),
    Row("floor-64", "the same at 64 px", "", functools.partial(cifar10_floor, size=64)),
    *(
        Row(
            f"profile-{name}",
            f"where one core's time goes: {what}, under torch's profiler, self time",
            "",
            functools.partial(profile, name=experiment_name, size=size),
        )
        for name, experiment_name, size, what in (
            ("digits", "digits", 0, "`digits`"),
            ("32", "cifar10", 32, "`cifar10`, 32 px, 3 epochs"),
            ("64", "cifar10", 64, "the same at 64 px"),
        )
    ),
    Row(
        "bits",
        "what deterministic algorithms cost: both arms of a seed of `cifar10`, 32 px, 3 epochs, "
        "one core",
        "",
        bits,
    ),
    Row(
        "drift",
        "largest difference of a validation log-probability from the plain loop's, after one step "
        "(200 images of `digits`, 250 of `cifar10`), and after one epoch of the recipe",
        "1e-4, one step",
        drift,
    ),
    Row(
        "equal-digits",
        "`digits`, 20 seeds: test accuracy minus the plain loop's, with its 90 % interval",
        "inside ±0.5 pp",
        digits_equal,
    ),
    Row(
        "equal-cifar10",
        "`cifar10`, 32 px, 3 epochs, 20 seeds: the same",
        "inside ±0.5 pp",
        cifar10_equal,
    ),
    Row("harness", "what bench adds to a run: 20 epochs, 9 metrics each", "0.1 s", harness),
    Row("eight", "8 simulated devices, a training that sleeps: 8 warm workers", "7.5 ×", eight),
    Row("help", "`bench --help`, wall", "0.3 s", help_text),
    Row("status", "`bench status` with 1,000 stored runs, wall", "2 s", status),
    Row("h200-224", "one H200, 224 px, 20 seeds × 2 arms × 20 epochs, fp32 and bf16", "15.1 ×"),
    Row("h200-32", "one H200, 32 px, the same", "25 ×"),
]
NEED_IMAGES = (
    *("cifar10-32", "cifar10-64", "floor-32", "floor-64"),
    *("profile-32", "profile-64", "bits", "drift", "equal-cifar10"),
)


def kept() -> dict[str, str]:
    """Return the rows of the page as it stands, by name."""
    if not PAGE.is_file():
        return {}
    return {m[1]: m[0] for m in re.finditer(r"^\| (\S+) \|.*$", PAGE.read_text("utf-8"), re.M)}


def line(row: Row, measured: str, when: str) -> str:
    return f"| {row.name} | {row.what} | {row.wanted} | {measured} | {when} |"


def unmeasured(row: Row) -> str:
    command = COMMAND.format(row.name) if row.measure else GPU_COMMAND
    return line(row, f"not measured; `{command}`", "")


def write(lines: dict[str, str]) -> None:
    """Write the page; what was not measured now stays as it was."""
    import torch
    import torchvision

    text = [
        "# Speed of training",
        "",
        "Written by `tests/benchmarks/training_speed.py`. Last on Python "
        f"{platform.python_version()}, torch {torch.__version__}, torchvision "
        f"{torchvision.__version__}, {processor()}, {os.cpu_count()} cores. Medians, with all "
        "repetitions in brackets; the plain loop and bench took turns. The date is that of the "
        "row, with the machine's load when its measurement began.",
        "",
        "| row | what | wanted | measured | when |",
        "|---|---|---|---|---|",
        *(lines.get(row.name, unmeasured(row)) for row in ROWS),
        "",
        "Plain loops: `plain_digits.py` and `plain_cifar10.py`, one training after the other. The "
        "training part is from the beginning of the first training to the end of the last, without "
        "imports; `bench` has one worker a core, with one thread each. The floor counts what "
        "trunk and head multiply, the test images' trunk features once for the machine, at the "
        "rate of large products.",
    ]
    PAGE.write_text("\n".join(text) + "\n", encoding="utf-8")


def processor() -> str:
    for text in Path("/proc/cpuinfo").read_text().splitlines():
        if text.startswith("model name"):
            return text.split(":", 1)[1].strip()
    return platform.processor() or "unknown processor"


@contextmanager
def unpacked(given: Given) -> Iterator[Given]:
    """Give the images as a folder."""
    if given.images is None or given.images.is_dir():
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(given.images) as archive:
            archive.extractall(folder)
        [root] = {path.parent for path in Path(folder).rglob("train")}
        yield replace(given, images=root)


def main() -> None:
    """Measure and write the page; with --child, one thing in this process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, metavar="ZIP", help="or the folder that it holds")
    parser.add_argument("--weights", type=Path, metavar="FILE")
    parser.add_argument("--rows", default=",".join(row.name for row in ROWS), metavar="NAMES")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    typed = parser.parse_args()
    if typed.child:
        CHILDREN[typed.child[0]](*typed.child[1:])
        return
    wanted = typed.rows.split(",")
    if unknown := set(wanted) - {row.name for row in ROWS}:
        parser.error(f"no row called {', '.join(sorted(unknown))}")
    paths = [path and path.resolve() for path in (typed.images, typed.weights)]
    lines = kept()
    with unpacked(Given(*paths, typed.repeats)) as given:
        for row in (row for row in ROWS if row.name in wanted and row.measure):
            if row.name in NEED_IMAGES and not (given.images and given.weights):
                print(f"{row.name}: needs --images and --weights")
                continue
            load = os.getloadavg()[0]
            measured = row.measure(given)
            print(f"{row.name}: {measured}", flush=True)
            today = datetime.datetime.now(datetime.UTC).date().isoformat()
            lines[row.name] = line(row, measured, f"{today}, load {load:.1f}")
            write(lines)
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
