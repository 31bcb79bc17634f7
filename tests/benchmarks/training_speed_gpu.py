"""Speed on a GPU: plain loop, trainings side by side, floor, memory, bits and a profile.

``python tests/benchmarks/training_speed_gpu.py --images ZIP --weights FILE`` needs torch and
torchvision, no store, and about eight minutes of an H200. It writes `training_speed_gpu.md` into
``--out`` (default: beside this file) after every step, so that a run that is cut short leaves what
it has; a step that no longer fits into ``--minutes`` is named and left out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision

sys.path.insert(0, str(Path(__file__).parents[2]))

from training_speed import Given, flop, unpacked

from bench import Trial
from bench.experiments.cifar10 import EXPERIMENT
from bench.experiments.data import datasets
from bench.experiments.training import frozen_features, transfer
from bench.experiments.training.precision import computing_in
from bench.experiments.training.transfer import fine_tune, pack_seeds

HERE = Path(__file__).parent
SEEDS, ARMS, EPOCHS = 20, len(EXPERIMENT.arms), EXPERIMENT.settings["epochs"]


@dataclass(frozen=True)
class Machine:
    """Where and on what to train."""

    device: torch.device
    folder: Path
    weights: Path
    quick: bool = False

    @property
    def epochs(self) -> int:
        return 2 if self.quick else EPOCHS

    def settings(self, size: int, precision: str, **changes: Any) -> dict[str, Any]:
        own = {"weights": str(self.weights), "image_size": size, "precision": precision}
        if self.quick:
            own |= {"train_per_class": 12, "validation_per_class": 8}
        return {"epochs": self.epochs, "patience": self.epochs, **own, **changes}

    def trials(self, seeds: Sequence[int], settings: dict[str, Any]) -> list[Trial]:
        return [
            Trial(
                seed,
                arm,
                {**EXPERIMENT.arm_settings(arm), **settings},
                device=str(self.device),
                data_dir=self.folder,
            )
            for seed in seeds
            for arm in EXPERIMENT.arms
        ]

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True)
class Step:
    """One thing to measure."""

    name: str
    measure: Callable[[Machine], str]
    cuda_only: bool = False


def side_by_side(
    machine: Machine,
    seeds: int,
    settings: dict[str, Any],
    *,
    pack: int | None = None,
    train: Callable[..., Any] = fine_tune,
) -> float:
    """Return the seconds that trainings take, in the packs that `bench run` would make."""
    images = datasets.load(machine.folder)
    size = pack or pack_seeds({**EXPERIMENT.settings, **settings}, str(machine.device))
    frozen_features._kept.clear()
    machine.wait()
    started = time.perf_counter()
    for first in range(0, seeds, size):
        train(images, machine.trials(range(first, min(first + size, seeds)), settings))
    machine.wait()
    return time.perf_counter() - started


def plain(machine: Machine, seeds: int, settings: dict[str, Any], workers: int) -> list[float]:
    """Return the seconds of each training of the plain loop."""
    words = [sys.executable, str(HERE / "plain_cifar10.py"), str(machine.folder)]
    words += ["--device", str(machine.device), "--seeds", str(seeds), "--workers", str(workers)]
    for name, value in settings.items():
        words += ["--set", f"{name}={value}"]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    each: list[float] = json.loads(done.stdout.splitlines()[-1])["each_s"]
    return each


# -- the steps ---------------------------------------------------------------------------------


def ceilings(machine: Machine) -> str:
    """Measure what the card reaches in large products and large copies."""
    rates = {name: product_rate(machine, name) for name in precisions(machine)}
    machine_rates.update(rates)
    block = torch.empty(2**30 if machine.device.type == "cuda" else 2**27, device=machine.device)
    copied = block.clone()
    seconds = median_s(machine, lambda: copied.copy_(block))
    said = ", ".join(f"{name} {rate / 1e12:.3g} TFLOP/s" for name, rate in rates.items())
    return f"products of 8192 × 8192: {said}; copies: {2 * block.nbytes / seconds / 1e12:.3g} TB/s"


machine_rates: dict[str, float] = {}


def precisions(machine: Machine) -> list[str]:
    return ["fp32", "tf32", "bf16"] if machine.device.type == "cuda" else ["fp32", "bf16"]


def product_rate(machine: Machine, precision: str) -> float:
    side = 8192 if machine.device.type == "cuda" else 1024
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = torch.randn(2, side, side, device=machine.device).to(dtype)
    with computing_in(precision, machine.device):
        return 2 * side**3 / median_s(machine, lambda: a @ b)


def median_s(machine: Machine, work: Callable[[], object], times: int = 7) -> float:
    found = []
    for _ in range(times + 2):  # two to warm up
        machine.wait()
        started = time.perf_counter()
        work()
        machine.wait()
        found.append(time.perf_counter() - started)
    return statistics.median(found[2:])


def bits(machine: Machine) -> str:
    """Train a seed twice, and once as the plain loop does; compare."""
    from plain_cifar10 import train as loop

    said = []
    for size in (32, 224) if machine.device.type == "cuda" else (32,):
        settings = machine.settings(size, "fp32", epochs=1, batch_size=1000)
        runs = []
        for _ in range(2):
            frozen_features._kept.clear()
            runs.append(fine_tune(datasets.load(machine.folder), machine.trials([0], settings)))
        same = all(
            a.test.log_probabilities.tobytes() == b.test.log_probabilities.tobytes()
            for a, b in zip(*runs, strict=True)
        )
        torch.backends.fp32_precision = "ieee"
        slow = loop(machine.trials([0], settings)[0], workers=0)
        torch.backends.fp32_precision = "none"
        away = runs[0][0].validation.log_probabilities - slow.validation.log_probabilities
        said.append(
            f"{size} px: {'the same bits' if same else 'OTHER BITS'} twice, validation "
            f"log-probabilities within {abs(away).max():.1g} of the plain loop's after one step"
        )
    return "; ".join(said)


def speed(size: int, precision: str, seeds: int, repeats: int, plain_seeds: int) -> Step:
    def measure(machine: Machine) -> str:
        settings = machine.settings(size, precision)
        side_by_side(machine, 1, {**settings, "epochs": 1})  # warm
        workers = os.cpu_count() or 1
        slow, fast = [], []
        for _ in range(repeats):
            slow += plain(machine, plain_seeds, settings, workers)
            fast.append(side_by_side(machine, seeds, settings) / (seeds * ARMS))
        ratio = statistics.median(slow) / statistics.median(fast)
        return (
            f"**{ratio:.1f} ×**: a training takes the plain loop {spread(slow)} with {workers} "
            f"DataLoader workers ({len(slow)} trainings), side by side {spread(fast)} ({seeds} "
            f"seeds × {ARMS} arms, {repeats} times); {floor(machine, size, precision, fast)}"
        )

    return Step(f"{size} px, {precision}", measure)


def floor(machine: Machine, size: int, precision: str, fast: Sequence[float]) -> str:
    """Compare with the arithmetic of 20 seeds at the rate of large products."""
    per_image, images, tests = flop(str(machine.weights), size), 1000, 10_000
    trunk = per_image["trunk"] * (SEEDS * images * (machine.epochs + 1) + tests)
    passes = machine.epochs * images * (3 + 1) + 2 * tests  # forward, two gradients, validation
    head = per_image["head"] * SEEDS * ARMS * passes
    each = (trunk + head) / machine_rates.get(precision, float("nan")) / (SEEDS * ARMS)
    return f"floor {each:.3f} s a training, {statistics.median(fast) / each:.1f} × away"


def spread(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.3g} s ({min(seconds):.3g} to {max(seconds):.3g})"


def memory(machine: Machine) -> str:
    """Train a seed at 224 px with 8 GiB of the card."""
    whole = torch.cuda.get_device_properties(machine.device).total_memory
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(machine.device)
    torch.cuda.set_per_process_memory_fraction(8 * 2**30 / whole, machine.device)
    try:
        settings = machine.settings(224, "fp32", epochs=1)
        seconds = side_by_side(machine, 1, settings)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, machine.device)
    peak = torch.cuda.max_memory_reserved(machine.device) / 2**30
    return f"one seed, both arms, one epoch: {seconds:.1f} s, {peak:.1f} GiB reserved at most of 8"


def variants(machine: Machine) -> str:
    """Time what the code decides: stacking, layouts, deterministic algorithms."""
    free = fine_tune.__wrapped__  # as torch comes
    said = []
    cases = [(32, "fp32", 10), (64, "bf16", 10), (224, "bf16", 1)]
    for size, precision, seeds in cases if machine.device.type == "cuda" else [(32, "fp32", 1)]:
        settings = machine.settings(size, precision, epochs=min(5, machine.epochs))
        pack = pack_seeds({**EXPERIMENT.settings, **settings}, str(machine.device))
        timed = partial(side_by_side, machine, seeds, settings, pack=pack)
        stacked = transfer.stacking_pays(machine.device, size)
        found = {"as it is": timed()}
        with patched(transfer, "stacking_pays", lambda device, size, s=stacked: not s):
            found["one by one" if stacked else "stacked"] = timed()
        with patched(
            frozen_features, "fastest_layout", lambda shape, device, **_: torch.contiguous_format
        ):
            found["contiguous trunk"] = timed()
        other = transfer.head_layout(machine.device, precision) == torch.contiguous_format
        layout = torch.channels_last if other else torch.contiguous_format
        with patched(transfer, "head_layout", lambda device, precision, x=layout: x):
            found["head in the other layout"] = timed()
        found["not deterministic"] = timed(train=free)
        times = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in found.items())
        said.append(f"{size} px, {precision}, {seeds} seeds: {times}")
    return "; ".join(said)


@contextmanager
def patched(module: Any, name: str, value: Any) -> Any:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def profiled(size: int, precision: str, seeds: int) -> Step:
    def measure(machine: Machine) -> str:
        from torch.profiler import ProfilerActivity, profile

        settings = machine.settings(size, precision, epochs=2)
        side_by_side(machine, seeds, settings)
        kinds = [ProfilerActivity.CPU]
        on_gpu = machine.device.type == "cuda"
        kinds += [ProfilerActivity.CUDA] if on_gpu else []
        with profile(activities=kinds) as found:
            seconds = side_by_side(machine, seeds, settings)
        key = "self_device_time_total" if on_gpu else "self_cpu_time_total"
        events = sorted(found.key_averages(), key=lambda e: -getattr(e, key))[:10]
        busy = sum(getattr(e, key) for e in found.key_averages()) / 1e6
        top = ", ".join(f"{e.key[:60]} {getattr(e, key) / 1e6:.3f} s" for e in events)
        return f"{busy:.2f} s of kernels in {seconds:.2f} s: {top}"

    return Step(f"where the time goes: {size} px, {precision}, 2 epochs", measure)


def steps(quick: bool) -> list[Step]:
    if quick:  # to see that this file works, on a processor without a GPU
        return [
            Step("ceilings", ceilings),
            speed(32, "fp32", 1, 1, 1),
            Step("bits", bits),
            Step("variants", variants),
            profiled(32, "fp32", 1),
        ]
    return [
        Step("ceilings", ceilings),
        Step("bits", bits),
        speed(32, "fp32", SEEDS, 3, 1),
        speed(224, "bf16", 10, 1, 1),
        speed(224, "fp32", 4, 1, 1),
        speed(32, "bf16", SEEDS, 1, 1),
        Step("8 GiB", memory, cuda_only=True),
        Step("variants", variants),
        profiled(224, "bf16", 1),
        profiled(32, "fp32", 10),
        speed(224, "tf32", 2, 1, 1),
    ]


def main() -> None:
    """Run the steps and write the page after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, metavar="ZIP")
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE")
    parser.add_argument("--out", type=Path, default=HERE, metavar="FOLDER")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--quick", action="store_true", help="2 epochs of 120 images, any device")
    typed = parser.parse_args()
    device = torch.device(typed.device)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU"
    text = [
        "# Speed of training on a GPU",
        "",
        f"Written by `tests/benchmarks/training_speed_gpu.py` on {time.strftime('%Y-%m-%d')}: "
        f"{card}, {os.cpu_count()} processor cores, torch {torch.__version__}, torchvision "
        f"{torchvision.__version__}. The article's protocol: {EPOCHS} epochs, patience off.",
        "",
        "| step | measured | took |",
        "|---|---|---|",
    ]
    began = time.perf_counter()
    with unpacked(Given(typed.images.resolve(), typed.weights.resolve())) as given:
        assert given.images is not None and given.weights is not None
        machine = Machine(device, given.images, given.weights, typed.quick)
        datasets.load(machine.folder)  # decoded here, once
        for step in steps(typed.quick):
            started = time.perf_counter()
            if started - began > 60 * typed.minutes or (step.cuda_only and device.type != "cuda"):
                said = "left out"
            else:
                try:
                    said = step.measure(machine)
                except Exception as error:  # the next step may still tell something
                    traceback.print_exc()
                    said = f"failed: {type(error).__name__}: {str(error).splitlines()[0][:300]}"
            line = f"| {step.name} | {said} | {time.perf_counter() - started:.0f} s |"
            print(line, flush=True)
            text.append(line)
            typed.out.mkdir(parents=True, exist_ok=True)
            (typed.out / "training_speed_gpu.md").write_text("\n".join(text) + "\n", "utf-8")


if __name__ == "__main__":
    main()
