"""Plans: what changes between two commands begins a new benchmark, or is named in the checks."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and looks at /proc")

# Stands in for torch: the last bits of a result depend on its version, so it is recorded.
TORCH = """
import types
torch = types.ModuleType("torch")
torch.__version__ = os.environ.get("TORCH", "2.9.0")
torch.get_num_threads = lambda: 1
torch.set_num_threads = torch.manual_seed = lambda n: None
torch.get_rng_state, torch.cuda = lambda: np.zeros(1), types.ModuleType("torch.cuda")
torch.cuda.is_initialized = lambda: False
sys.modules["torch"] = torch
"""
PREPARE = 'prepare=lambda settings, folder: {"name": "forty", "digest": os.environ.get("DATA")},'


def one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def mine(tmp_path: Path, write_tiny: Callable[..., Path]) -> Path:
    """Return an experiment whose data and torch are what the environment says."""
    return write_tiny(tmp_path, TORCH, extra=PREPARE)


@pytest.mark.thorough
@pytest.mark.by_hand
def test_another_setting_other_data_or_another_source_is_a_new_benchmark_and_said_so(
    mine: Path, on: Callable[..., Any], fault: Any
):
    bench, how = on(other=mine), ("--no-report", "--workers", 1)
    first = bench.run(*how, seeds=1, DATA="d1")
    assert first.status == 0 and "new benchmark" not in first.err, first.err
    source = mine.read_text()
    for name, words, data, changed, said in (
        ("setting", ("--set", "epochs=2"), "d1", source, "Different: epochs (3, now 2)."),
        ("data", ("--set", "epochs=2"), "d2", source, "Different: the data."),
        (
            "source",
            (),
            "d2",
            f"{source}\nONE = 1\n",
            f"the experiment's source ({mine.name}); epochs (2, now 3).",
        ),
    ):
        with fault(f"plan: another {name}"):
            mine.write_text(changed)
            command = bench.run(*how, *words, seeds=1, DATA=data)
            assert command.status == 0, command.err
            assert bench.told([command]).total() == 2
            text = one_line(command.err)
            assert "tiny was benchmarked before with another plan, so this is a new" in text
            assert said in text, text
    again = bench.run(*how, seeds=1, DATA="d2")
    assert "new benchmark" not in again.err and not bench.told([again])


@pytest.mark.thorough
@pytest.mark.by_hand
def test_another_commit_torch_or_device_within_one_benchmark_is_named_in_the_checks(
    mine: Path, on: Callable[..., Any], fault: Any
):
    def commit(text: str) -> None:
        (mine.parent / "notes.txt").write_text(text)
        for words in (("add", "."), ("commit", "-qm", text)):
            subprocess.run([*git, *words], check=True, capture_output=True)

    git = ["git", "-C", str(mine.parent), "-c", "user.name=me", "-c", "user.email=me@x.invalid"]
    subprocess.run([*git, "init", "-q"], check=True)
    (mine.parent / ".gitignore").write_text("store\n")
    commit("one")
    bench = on(other=mine)
    assert bench.run("--no-report", seeds=3).status == 0
    commit("two")
    with fault("another commit in one benchmark"), fault("another torch in one benchmark"):
        command = bench.run(seeds=6, TORCH="2.10.0")
        assert command.status == 0, command.err
        (check,) = (c for c in bench.results()["checks"] if c["id"] == "C10")
        assert check["state"] == "failed"
        assert "commit: " in check["text"] and "torch: 2.10.0, 2.9.0" in check["text"]


@pytest.mark.thorough
@pytest.mark.by_hand
def test_another_device_within_one_benchmark_is_named_in_the_checks(
    on: Callable[..., Any], fault: Any
):
    """A device cannot be plugged in here, so its name is recorded as a worker would send it."""
    from bench.design.results import Success
    from bench.experiment import Outcome
    from bench.reports.build import report
    from bench.store.mlflow_store import Store
    from bench.store.writer import recording

    bench = on()
    assert bench.run("--no-report").status == 0
    with fault("another device in one benchmark"):
        store = Store(bench.uri)
        benchmark = store.benchmark("tiny")
        tables = store.tables(benchmark)
        key = next(k for k in benchmark.plan.trials() if k.arm == "strong")
        outcome = Outcome(test=tables.predictions[key.arm, key.seed, "test"])
        result = Success(
            key=key,
            outcome=outcome,
            epochs=[],
            duration_s=1.0,
            started_at=1.0,
            device="cuda:0",
            threads=1,
            log="",
        )
        with store.lock(benchmark.plan):
            with recording(store, benchmark.plan, provenance={}, source={}) as recorder:
                recorder.record(result)
        findings = report(store, store.benchmark("tiny")).findings
        (check,) = (c for c in findings.checks if c.id == "C10")
        assert check.state == "failed" and "device: cpu, cuda" in check.text


@pytest.mark.thorough
@pytest.mark.by_hand
def test_seeds_added_after_a_look_are_recorded_and_give_the_anytime_valid_interval(
    on: Callable[..., Any], fault: Any
):
    bench = on()
    first = bench.run()
    assert first.status == 0, first.err
    before = bench.results()
    assert before["comparisons"][0]["primary"]["method"] == "two_way"
    with fault("seeds added after a look"):
        more = bench.run(seeds=8)
        assert more.status == 0 and bench.told([more]).total() == 4, more.err
        after = bench.results()
        (main,) = (c["primary"] for c in after["comparisons"])
        (check,) = (c for c in after["checks"] if c["id"] == "C3")
        assert after["plan"]["batches"] == [[0, 1, 2, 3, 4, 5], [6, 7]]
        assert after["plan"]["looks"] == [6] and main["method"] == "anytime"
        assert check["state"] == "failed" and "Seeds were added after 6 pairs" in check["text"]
        assert main["low"] < before["comparisons"][0]["primary"]["low"]  # the price of looking
