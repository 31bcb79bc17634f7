"""Trainings: one that diverges, runs out of memory, raises, hangs or floods stdout fails alone."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and looks at /proc")

TROUBLE = """
if trial.arm == "strong":
    if trial.seed == 1:
        trial.log(0, {"train/loss": 0.902})
        trial.log(1, {"train/loss": float("nan")})
    if trial.seed == 2:
        np.empty(2**55)
    if trial.seed == 3:
        class OutOfMemoryError(RuntimeError): pass
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.10 GiB")
    if trial.seed == 4:
        raise ValueError("shapes (3,) and (4,) not aligned \\udc80 \\x00 \\x1b[2J")
    if trial.seed == 5:
        time.sleep(600)
    if trial.seed == 6:
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(600)
    if trial.seed == 7:
        print("\\n".join(f"line {i}" for i in range(1_000_000)))
    if trial.seed == 8:
        os._exit(3)
"""
REASONS = {  # seed to the failure's code, its reason, and what its traceback or log shows
    1: ("nan", "train/loss became nan at epoch 1.", "trial.log(1, "),
    2: ("memory", "Unable to allocate 256. PiB for an array", "np.empty(2**55)"),
    3: ("gpu-memory", "CUDA out of memory. Tried to allocate 2.10 GiB", "raise OutOfMemoryError"),
    4: ("training", "ValueError: shapes (3,) and (4,) not aligned", "raise ValueError"),
    5: ("timeout", "the training took longer than --timeout 0.05 min.", ", line {5} in train"),
    6: ("timeout", "the training took longer than --timeout 0.05 min.", "--timeout 0.05 min."),
    8: ("crash", "its process ended with status 3 before it", "ended with status 3 before it"),
}


@pytest.mark.thorough
def test_a_training_that_goes_wrong_fails_with_its_reason_and_the_others_go_on(
    tmp_path: Path,
    write_tiny: Callable[..., Path],
    on: Callable[..., Any],
    fault: Any,
):
    from bench.store.mlflow_store import Store

    source = write_tiny(tmp_path, TROUBLE)
    bench, lines = on(other=source), source.read_text().splitlines()
    hangs = lines.index("            time.sleep(600)") + 1
    command = bench.run("--timeout", 0.05, "--retries", 0, seeds=10, STOP_GRACE_S=0.5)
    assert command.status == 3 and "Traceback" not in command.err, command.err
    assert "\x1b" not in command.err and f"{len(REASONS) - 1} more runs failed." in command.err
    command.leaves_nobody_behind()
    store = Store(bench.uri)
    benchmark = store.benchmark("tiny")
    children = {key: runs[-1] for key, runs in store.children(benchmark).items()}
    failed = {key.seed: child for key, child in children.items() if child.status == "FAILED"}
    assert sorted(failed) == sorted(REASONS) and len(children) == 20
    assert bench.finished().total() == 20 - len(REASONS)
    for seed, (code, reason, shown) in REASONS.items():
        with fault(f"training: {code}, seed {seed}"):
            run = failed[seed].run
            assert run.tags["bench.failure"] == code
            assert reason in run.tags["bench.reason"]
            root = Path(run.artifact_uri.removeprefix("file://"))
            left = (root / name for name in ("traceback.txt", "log.txt"))
            text = "".join(path.read_text("utf-8") for path in left if path.exists())
            assert shown.replace("{5}", str(hangs)) in text
    with fault("training: a million lines on stdout"):
        flood = next(c for k, c in children.items() if (k.arm, k.seed) == ("strong", 7))
        log = Path(flood.run.artifact_uri.removeprefix("file://")) / "log.txt"
        assert log.stat().st_size <= 64 * 1024 and log.read_text().endswith("line 999999\n")
    results = bench.results()
    counts = {arm["name"]: (arm["n_finished"], arm["n_failed"]) for arm in results["arms"]}
    assert counts == {"weak": (10, 0), "strong": (3, 7)}
    notes = [check["text"] for check in results["checks"] if check["id"] == "N2"]
    assert len(notes) == 5 and "Seed 1, strong, failed: train/loss became nan" in notes[0]
    assert "\\u001b" not in json.dumps(results)
