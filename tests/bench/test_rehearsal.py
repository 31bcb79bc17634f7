"""`bench run --dry-run`: what is left and what it costs; nothing is recorded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.rehearsal import Cost

Bench = Callable[..., Any]


def cost(**changed: Any) -> Cost:
    facts: dict[str, Any] = {
        "runs": 40, "planned": 40, "epoch_s": 30.0, "run_s": 600.0, "source": "here",
        "workers": 8, "devices": ("cuda:0",),
    }  # fmt: skip
    return Cost(**{**facts, **changed})


def test_the_time_is_that_of_whole_rounds_of_all_workers():
    assert cost().device_s == 24_000 and cost().wall_s == 3000
    assert cost(runs=41).wall_s == 3600
    assert cost(runs=0).wall_s == 0


def test_hours_are_named_after_the_device():
    assert "6.7 GPU-hours: about 50m" in cost().text()
    assert "6h 40m of training" in cost(devices=("cpu",)).text()


def test_nothing_is_recorded(tmp_path: Path, write_tiny: Callable[..., Path], bench: Bench):
    store = f"sqlite:///{tmp_path}/new/mlflow.db"
    source = write_tiny(tmp_path)
    said = bench("run", source, "--seeds", 6, "--store", store, "--dry-run", "--workers", 1)
    assert said.status == 0
    assert "12 of 12 to train" in said.out and "it is not kept" in said.out
    assert not (tmp_path / "new").exists()


def test_what_is_finished_is_not_counted_and_gives_the_times(
    tmp_path: Path, write_tiny: Callable[..., Path], copy_store: Callable[[Path], str], bench: Bench
):
    source, store = write_tiny(tmp_path), copy_store(tmp_path / "store")
    options = ("--store", store, "--workers", 1)
    assert bench("run", source, "--seeds", 2, *options, "-q", "--no-report").status == 0
    found = bench("run", source, "--seeds", 6, *options, "--dry-run", "--json").json
    assert (found["runs_left"], found["runs_planned"]) == (8, 12)
    assert found["source"] == "the median of 4 recorded runs"
    assert found["device_s"] == pytest.approx(8 * found["run_s"])


def test_epochs_are_timed_without_training_to_the_end(
    tmp_path: Path, write_tiny: Callable[..., Path], bench: Bench
):
    source = write_tiny(tmp_path)
    words = ("--set", "epochs=100000", "--set", "nap=0.01", "--workers", 1, "--dry-run", "--json")
    store = f"sqlite:///{tmp_path}/new/mlflow.db"
    found = bench("run", source, "--seeds", 6, "--store", store, *words).json
    assert found["run_s"] == pytest.approx(100_000 * found["epoch_s"])
    assert found["epoch_s"] >= 0.01


def test_a_first_trial_that_fails_says_so(
    tmp_path: Path, write_tiny: Callable[..., Path], bench: Bench
):
    source = write_tiny(tmp_path, "raise ValueError('no such layer')")
    store = f"sqlite:///{tmp_path}/new/mlflow.db"
    said = bench("run", source, "--seeds", 6, "--store", store, "--dry-run", "--workers", 1)
    assert said.status == 3
    assert "error[dry-run]: seed 0, weak, failed" in said.err and "no such layer" in said.err
