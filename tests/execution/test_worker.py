"""Worker: what a training finds in its process, what comes back, and what goes wrong in it."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.design.loading import load
from bench.design.results import Success
from bench.execution.server import LOG_TAIL_BYTES, Server
from bench.execution.worker import typed_settings

Run = Callable[..., Any]
WAYS = [pytest.param(True, id="forked"), pytest.param(False, id="fresh")]


# -- what comes back -------------------------------------------------------------------------


@pytest.mark.parametrize("fork", WAYS)
def test_a_trial_brings_its_outcome_epochs_and_circumstances(
    fork: bool, train: Run, tmp_path: Path, write_tiny: Callable[..., Path]
):
    trained = train(str(write_tiny(tmp_path)), 2, fork=fork)
    names = {"weak/seed-00", "weak/seed-01", "strong/seed-00", "strong/seed-01"}
    assert {key.run_name for key in trained.results} == names
    for key, result in trained.results.items():
        assert isinstance(result, Success)
        assert result.outcome.test is not None and len(result.outcome.test) == 40
        assert [row["epoch"] for row in result.epochs] == [0, 1, 2]
        assert [row["train/loss"] for row in result.epochs] == [1.0, 1 / 2, 1 / 3]
        assert (result.device, result.threads, result.attempt) == ("cpu", 1, 1)
        assert result.duration_s > 0 and abs(time.time() - result.started_at) < 60
        assert result.environment["numpy"] == np.__version__
        assert result.environment["python"] == sys.version.split()[0]
        assert result.outcome.facts["pid"] != os.getpid()
        assert trained.epochs(key.arm, key.seed) == [(1, 0), (1, 1), (1, 2)]  # live
        assert [row["train/loss"] for row in result.epochs] == [
            m["row"]["train/loss"]
            for m in trained.messages
            if m["type"] == "epoch" and (m["arm"], m["seed"]) == (key.arm, key.seed)
        ]


@pytest.mark.parametrize("fork", WAYS)
def test_a_process_gives_the_same_numbers_as_training_in_this_one(
    fork: bool, train: Run, tmp_path: Path, write_tiny: Callable[..., Path]
):
    from bench.experiment import Trial

    path = write_tiny(tmp_path)
    experiment = load(str(path))
    for key, result in train(str(path), fork=fork).results.items():
        settings = experiment.arm_settings(key.arm)
        here = experiment.train(Trial(seed=key.seed, arm=key.arm, settings=settings))
        assert isinstance(result, Success) and result.outcome.test and here.test
        a, b = result.outcome.test, here.test
        assert a.log_probabilities.tobytes() == b.log_probabilities.tobytes()
        assert a.labels.tobytes() == b.labels.tobytes()


def test_the_streams_that_a_training_drew_from_are_kept_with_it(run: Run):
    trained = run('trial.rng("init").normal(size=1 + trial.settings["x"])\nreturn score()')
    off, on = trained.facts("off")["streams"], trained.facts("on")["streams"]
    assert [*off] == [*on] == ["init"] and off != on


def test_global_generators_are_seeded_by_the_trial_whatever_ran_before(run: Run):
    code = """
drawn = random.random() + np.random.random()
for _ in range(17 * trial.settings["x"]):
    random.random(), np.random.random()
return score(drawn)
"""
    first, again = run(code, 3).scores, run(code, 3, slots=1).scores
    assert first == again and len(first) == 6
    assert all(first["off", seed] == first["on", seed] for seed in range(3))
    assert len(set(first.values())) == 3


def test_torchs_global_generator_is_seeded_too(train: Run, torch_server: Server):
    code = "return score(float(torch.rand(())))"
    first, again = (train(torch_server, 2, code=code).scores for _ in range(2))
    assert first == again and first["off", 0] == first["on", 0] != first["on", 1]


def test_a_million_printed_lines_stay_out_of_the_terminal_and_of_json(
    run: Run, capfd: pytest.CaptureFixture[str]
):
    trained = run(
        """
if trial.arm == "on":
    sys.stdout.write("a line of many\\n" * 999_999)
    print("the last line")
    os.system("echo from a child process")
    print("and an error", file=sys.stderr)
return score()
"""
    )
    assert capfd.readouterr() == ("", "")
    log = trained["on", 0].log
    assert len(log) <= LOG_TAIL_BYTES
    for line in ("the last line", "from a child process", "and an error"):
        assert line in log
    assert trained["off", 0].log == ""  # each trial's own output alone


def test_what_is_printed_while_importing_is_in_no_trainings_log(
    train: Run, scored: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    top = 'print("imported"); sys.stdout.write("half a line")'
    with Server(scored('print("trained")\nreturn score()', top=top)) as server:
        trained = train(server)
        assert [r.log for r in trained.results.values()] == ["trained\n"] * 2
        assert "imported\nhalf a line" in server.printed()


def test_settings_come_as_the_experiment_has_them_and_not_as_json_does(train: Run, scored: Run):
    path = scored(
        'sizes = trial.settings["sizes"]\nreturn score(sum(sizes), kind=type(sizes).__name__)',
        extra='settings={"sizes": (3, 4)}',
    )
    trained = train(path)
    assert trained.facts()["kind"] == "tuple" and trained.score() == 7
    experiment = load(path)
    assert typed_settings(experiment, "on", {"sizes": [3, 5], "x": 1}) == {"sizes": [3, 5], "x": 1}


def test_an_epoch_too_long_to_be_shown_is_recorded_all_the_same(run: Run):
    code = 'trial.log(0, {f"m{i:05}": 0.5 for i in range(9999)})\nreturn score()'
    trained = run(code)
    assert trained.epochs("on") == [] and len(trained.success().epochs[0]) == 9999 + 2


def test_a_training_may_close_every_descriptor_it_did_not_open(run: Run):
    trained = run('os.closerange(3, 256)\ntrial.log(0, {"a": 1})\nreturn score()')
    assert [row["a"] for row in trained.success().epochs] == [1.0] and trained.retries == []


# -- packs -----------------------------------------------------------------------------------

PACKED = "train_pack=lambda trials: [train(t) for t in trials], pack_seeds=2"


def test_packs_train_together_and_are_told_apart(train: Run, scored: Run):
    body = 'return score(10 * trial.seed + trial.settings["x"], pid=os.getpid())'
    trained = train(scored(body, extra=PACKED), 3, pack_seeds=2)
    both = (("off", 0), ("on", 1))
    assert trained.scores == {(arm, k): 10 * k + x for k in range(3) for arm, x in both}
    together = ["off/seed-00", "on/seed-00", "off/seed-01", "on/seed-01"]
    for arm, seed in (("off", 0), ("on", 0), ("off", 1), ("on", 1)):
        assert trained.facts(arm, seed)["pack"] == together
    assert trained.facts("on", 2)["pack"] == ["off/seed-02", "on/seed-02"]
    pids = [trained.facts(arm, seed)["pid"] for arm, seed in trained.scores]
    assert len(set(pids)) == 2


def test_a_pack_has_the_time_of_all_its_trainings(train: Run, scored: Run):
    path = scored("time.sleep(0.6)\nreturn score()", extra=PACKED)
    trained = train(path, 2, pack_seeds=2, timeout_s=1.0)  # four in one pack: 2.4 s of 4
    assert len(trained.scores) == 4


def test_a_training_that_diverges_leaves_the_others_of_its_pack_alone(train: Run, scored: Run):
    path = scored(
        """
from bench.experiment import Diverged
trial.log(0, {"train/loss": 0.9})
try:
    trial.log(1, {"train/loss": float("nan") if (trial.arm, trial.seed) == ("on", 0) else 0.5})
except Diverged as diverged:
    return diverged
return score()
""",
        extra=PACKED,
    )
    trained = train(path, 2, pack_seeds=2)
    failure = trained.failure("on", 0)
    assert failure.code == "nan" and not failure.retryable
    assert failure.what == "train/loss became nan at epoch 1."
    assert failure.facts == ("Last finite loss 0.900 at epoch 0.",)
    assert len(trained.scores) == 3 and trained.retries == []


def test_a_pack_that_returns_too_few_fails_as_a_whole(train: Run, scored: Run):
    extra = "train_pack=lambda trials: [train(trials[0])], pack_seeds=1"
    trained = train(scored("return score()", extra=extra), 1, pack_seeds=1)
    assert {r.code for r in trained.results.values()} == {"outcome"}


# -- what goes wrong in a training -----------------------------------------------------------


def test_an_exception_is_a_failure_with_its_line_and_harms_nobody(train: Run, scored: Run):
    path = scored(
        """
trial.log(0, {"train/loss": 1.0})
if trial.arm == "on":
    raise ValueError("shapes (3,) and (4,) not aligned")
return score()
"""
    )
    trained = train(path)
    failure = trained.failure()
    number = 1 + Path(path).read_text().splitlines().index(
        '        raise ValueError("shapes (3,) and (4,) not aligned")'
    )
    assert failure.code == "training" and not failure.retryable
    assert failure.what == "ValueError: shapes (3,) and (4,) not aligned"
    assert (failure.error, failure.place) == ("ValueError", f"{Path(path).name}, line {number}")
    said = 'raise ValueError("shapes (3,) and (4,) not aligned")'
    assert failure.facts == (f"In {Path(path).name}, line {number}: {said}",)
    assert said in failure.traceback
    assert [row["epoch"] for row in failure.epochs] == [0]
    assert trained.retries == [] and trained.score("off") == 1.0


def test_a_loss_that_is_no_number_says_where_it_last_was_one(run: Run):
    trained = run(
        """
for epoch, loss in enumerate([0.9, 0.902, float("nan") if trial.arm == "on" else 0.5]):
    trial.log(epoch, {"train/loss": loss, "lr": 0.1})
return score()
"""
    )
    failure = trained.failure()
    assert failure.code == "nan" and failure.what == "train/loss became nan at epoch 2."
    assert failure.facts == ("Last finite loss 0.902 at epoch 1, learning rate 0.1.",)
    assert trained.epochs("on")[-1] == (1, 2)  # the bad epoch is recorded too
    assert trained.retries == []


@pytest.mark.parametrize(
    ("code", "kind", "what"),
    [
        ("return 0.93", "outcome", "the training returned float, not one Outcome a trial."),
        ("pass", "outcome", "the training returned NoneType, not one Outcome a trial."),
        ("return Outcome()", "outcome", "neither test predictions nor scores"),
        ("return score(float('inf'))", "outcome", "not a finite number"),
        ("sys.exit(3)", "training", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "training", "KeyboardInterrupt"),
        ("trial.log(0, {'top@5': 1.0})", "outcome", "nothing can be logged under the name"),
        ("return score(**{'bad': {(1, 2): 3}})", "outcome", "the facts have the key (1, 2)"),
    ],
)
def test_a_training_that_breaks_the_contract_fails_alone(code: str, kind: str, what: str, run: Run):
    trained = run(f'if trial.arm == "on":\n    {code}\nelse:\n    return score()')
    assert trained.failure().code == kind and what in trained.failure().what
    assert trained.failure().attempt == 1 and trained.retries == []
    assert trained.score("off") == 1.0


def test_predictions_of_a_model_that_diverged_are_a_loss_that_diverged(run: Run):
    code = """
from bench import Predictions
return Outcome(scores={"return": 1.0}, test=Predictions(np.full((4, 2), np.nan), [0, 1, 0, 1]))
"""
    trained = run(code)
    assert trained.failure().code == "nan" and trained.retries == []
    assert "the model diverged" in trained.failure().what


def test_facts_that_refer_to_themselves_are_the_trainings_failure(run: Run):
    trained = run("loop = []\nloop.append(loop)\nreturn score(loop=loop)")
    assert trained.failure().what.startswith("RecursionError") and trained.retries == []


def test_an_exception_without_a_text_is_a_failure_of_the_training_not_a_crash(run: Run):
    trained = run("class Mute(Exception):\n    def __str__(self): return 1 / 0\nraise Mute")
    failure = trained.failure()
    assert (failure.code, failure.error, trained.retries) == ("training", "Mute", [])
    assert failure.what.startswith("Mute, ") and "ZeroDivisionError" in failure.what


def test_a_stream_that_varies_and_is_never_drawn_from_fails(train: Run, server: Server):
    from bench.design.plan import TrialKey

    draw = {"seed": 0, "varied": "order", "drawn": 7}
    draws = {TrialKey(arm, 0): draw for arm in ("off", "on")}
    code = 'if trial.arm == "on":\n    trial.rng("order")\ntrial.rng("init")\nreturn score()'
    trained = train(server, code=code, draws=draws)
    assert trained.score("on") == 1.0
    assert 'never asks for trial.rng("order")' in trained.failure("off").what


@pytest.mark.parametrize("fork", WAYS)
def test_a_source_that_changed_after_the_plan_is_not_trained(fork: bool, scored: Run, train: Run):
    path = scored("return score()")
    with Server(path, fork=fork) as server:
        assert server.found
        Path(path).write_text(Path(path).read_text() + "# one more line\n")
        for failure in train(server).results.values():
            assert failure.what == f"{Path(path).name} changed while the benchmark trained."
            assert (
                failure.code == "edited" and "Nothing that had finished is lost" in failure.facts[0]
            )


# -- what a training finds -------------------------------------------------------------------


def test_a_training_computes_with_its_slots_threads(run: Run, train: Run, server: Server):
    from bench.execution.devices import Slot

    code = """
import threadpoolctl
np.ones((50, 50)) @ np.ones((50, 50))
most = max([pool["num_threads"] for pool in threadpoolctl.threadpool_info()], default=1)
names = ("OMP", "MKL", "OPENBLAS", "NUMEXPR")
return score(most, said=[os.environ.get(n + "_NUM_THREADS") for n in names],
    loky=os.environ["LOKY_MAX_CPU_COUNT"])
"""
    for threads in (1, 2):
        trained = train(server, code=code, slots=[Slot("cpu", 0, threads)])
        assert trained.score() == threads
        assert trained.facts()["said"] == [str(threads)] * 4
        assert trained.facts()["loky"] == str(threads)
        assert trained.success().threads == threads


def test_torch_computes_with_the_slots_threads_too(train: Run, torch_server: Server):
    from bench.execution.devices import Slot

    slots = [Slot("cpu", 0, 2)]
    code = """
product = torch.ones(300, 300) @ torch.ones(300, 300)
return score(torch.get_num_threads(), product=product.sum().item())
"""
    trained = train(torch_server, code=code, slots=slots)
    assert trained.score() == 2 and trained.facts()["product"] == 300.0**3
