"""`bench run --dry-run`: what is left and what it costs; nothing is recorded."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.design.sample_size import gain_of
from bench.execution.dry_run import Cost

Bench = Callable[..., Any]


def cost(**changed: Any) -> Cost:
    facts: dict[str, Any] = {
        "packs": ((1,) * 40,), "planned": 40, "epoch_s": 30.0, "run_s": 600.0, "source": "here",
        "workers": 8, "devices": ("cuda:0",), "gain": gain_of(20, "fraction"),
    }  # fmt: skip
    return Cost(**{**facts, **changed})


def test_the_time_is_that_of_whole_rounds_of_all_workers():
    assert cost().device_s == 24_000 and cost().wall_s == 3000
    assert cost(packs=((1,) * 41,)).wall_s == 3600
    assert cost(packs=((),)).wall_s == 0
    assert cost(besides_s=0.5).wall_s == 3000 + 20 and cost(besides_s=0.5).device_s == 24_000


def test_a_worker_takes_a_whole_pack_and_one_plan_follows_the_other():
    assert cost(packs=((8,) * 5,), workers=4).wall_s == 2 * 8 * 600
    assert cost(packs=((8,) * 5,), workers=4).runs == 40
    assert cost(packs=((1,) * 4, (1,) * 4)).wall_s == 2 * 600


def test_hours_are_named_after_the_device():
    assert "6.7 GPU-hours: about 50m" in cost().text()
    assert cost().as_dict()["gpu_hours"] == pytest.approx(6.67, abs=0.01)
    assert "6h 40m of training" in cost(devices=("cpu",)).text()
    assert cost(devices=("cpu",)).as_dict()["gpu_hours"] is None


def test_the_gain_that_the_seeds_detect_is_named():
    said = "20 seeds can detect 0.53 pp on this test set (80% power, SD 0.8 pp)"
    assert said in cost().text()
    assert cost().as_dict()["detectable"] == pytest.approx(0.0053, abs=5e-5)
    score = cost(gain=gain_of(20, "score"))
    assert "20 seeds can detect 0.66 paired SDs on this test set" in score.text()
    assert score.as_dict()["detectable"] is None
    assert score.as_dict()["detectable_sds"] == pytest.approx(0.66, abs=0.005)
    assert "one pair cannot tell" in cost(gain=gain_of(1, "fraction")).text()
    assert max(map(len, cost().text().splitlines())) <= 80


def test_nothing_is_recorded(tmp_path: Path, write_tiny: Callable[..., Path], bench: Bench):
    store = f"sqlite:///{tmp_path}/new/mlflow.db"
    source = write_tiny(tmp_path)
    said = bench("run", source, "--seeds", 6, "--store", store, "--dry-run", "--workers", 1)
    assert said.status == 0
    assert "12 of 12 to train" in said.out and "it is not kept" in said.out
    about = re.search(r"about ([\d.]+) s on 1 worker\n", said.out)
    assert about is not None and float(about[1]) >= 12 * 0.04  # what a run takes besides
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

    def left(*words: object) -> int:
        return int(
            bench("run", source, "--seeds", 6, *options, "--dry-run", "--json", *words).json[
                "runs_left"
            ]
        )

    assert left("--redo", "1:weak", "--redo", "0:strong") == 10
    assert left("--fresh") == 12
    assert left("--vary", "init") == 8 + 12
    assert left("--fresh", "--vary", "init") == 24


def test_runs_that_diverged_are_not_left_and_runs_that_failed_took_no_typical_time(
    tmp_path: Path, write_tiny: Callable[..., Path], copy_store: Callable[[Path], str], bench: Bench
):
    body = """
if trial.arm == "strong" and trial.seed == 1:
    trial.log(0, {"train/loss": float("nan")})
if trial.arm == "strong": raise ValueError("no such layer")
"""
    source, store = write_tiny(tmp_path, body), copy_store(tmp_path / "store")
    options = ("--set", "nap=0.02", "--seeds", 4, "--store", store, "--workers", 2)
    assert bench("run", source, *options, "-q", "--no-report", "--keep-going").status == 3
    found = bench("run", source, *options, "--dry-run", "--json").json
    assert (found["runs_left"], found["runs_planned"]) == (3, 8)  # 3 failed, 1 diverged
    assert found["source"] == "the median of 4 recorded runs" and found["run_s"] >= 0.06
    again = bench("run", source, *options, "--dry-run", "--json", "--redo", "1:strong").json
    assert again["runs_left"] == 4


def test_nothing_else_holds_a_device_while_it_is_rehearsed(
    tmp_path: Path, write_tiny: Callable[..., Path], bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    """A second executor with the same GPU would wait for it forever."""
    from bench.execution.processes import Processes

    executors = []
    begin = Processes.__init__

    def counted(self: Processes, *args: Any, **how: Any) -> None:
        executors.append(self)
        begin(self, *args, **how)

    monkeypatch.setattr(Processes, "__init__", counted)
    words = ("--store", f"sqlite:///{tmp_path}/new/mlflow.db", "--workers", 1, "--dry-run")
    assert bench("run", write_tiny(tmp_path), "--seeds", 6, *words).status == 0
    assert len(executors) == 1


def test_a_cluster_is_not_rehearsed(tmp_path: Path, write_tiny: Callable[..., Path], bench: Bench):
    source = write_tiny(tmp_path)
    cluster = ("--backend", "dask", "--address", "tcp://10.0.0.1:8786")
    said = bench("run", source, "--seeds", 6, *cluster, "--dry-run")
    assert said.status == 2 and "not those of a cluster" in said.err
    assert f"fix: bench run {source} --seeds 6 --dry-run\n" in said.err


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
    assert "error[dry-run]: seed 00, weak, failed" in said.err and "no such layer" in said.err
