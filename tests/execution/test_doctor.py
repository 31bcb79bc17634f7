"""`bench doctor`: what a paired design rests on, looked at before the days are spent."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.analysis.errors import Refusal
from bench.design.loading import load
from bench.execution.devices import Slot
from bench.execution.doctor import Finding
from bench.experiment import Experiment, Trial

Bench = Callable[..., Any]


def states(said: Any) -> dict[str, str]:
    return {found["name"]: found["state"] for found in said.json["findings"]}


def test_the_machine_alone(tmp_path: Path, bench: Bench):
    said = bench("doctor", "--store", f"sqlite:///{tmp_path}/new/mlflow.db")
    assert said.status == 0
    assert [line.split()[1] for line in said.out.splitlines() if line[2] != " "] == [
        "versions", "devices", "disk", "store",
    ]  # fmt: skip
    assert "the first run makes it" in said.out and not (tmp_path / "new").exists()


def test_a_store_that_could_not_be_made_is_found_out(
    tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    said = bench("doctor", "--store", f"sqlite:///{tmp_path}/new/mlflow.db")
    assert said.status == 4 and f"mlflow.db cannot be made: {tmp_path} is read-only." in said.err
    assert ".." not in said.err


def test_an_experiment_that_can_be_paired(
    tmp_path: Path, write_tiny: Callable[..., Path], copy_store: Callable[[Path], str], bench: Bench
):
    source, store = write_tiny(tmp_path), copy_store(tmp_path / "store")
    found = states(bench("doctor", source, "--store", store, "--json"))
    assert found == {
        "versions": "ok", "devices": "ok", "disk": "ok", "store": "ok",
        "repeats": "ok", "seeds": "ok", "seeding": "ok", "streams": "ok",
        "inputs": "ok", "leftovers": "ok", "pairing": "open",
    }  # fmt: skip
    words = ("--seeds", 6, "--store", store, "-q", "--no-report", "--workers", 2)
    assert bench("run", source, *words).status == 0
    said = bench("doctor", source, "--store", store)
    assert "the arms draw the same from init" in said.out
    r, saved = gain_of_pairing(load(str(source)), seeds=6)
    assert f"r = {r:.2f} between the arms over 6 pairs: pairing saves {saved:.0%} of" in said.out


def gain_of_pairing(experiment: Experiment, seeds: int) -> tuple[float, float]:
    """Return the correlation of the arms' accuracies, and the share of the variance it saves."""
    accuracies: dict[str, list[float]] = {"weak": [], "strong": []}
    for arm, values in accuracies.items():
        for seed in range(seeds):
            trial = Trial(seed=seed, arm=arm, settings=experiment.arm_settings(arm))
            test = experiment.train(trial).test
            assert test is not None
            values.append(float((test.log_probabilities.argmax(1) == test.labels).mean()))
    [[var_weak, cov], [_, var_strong]] = np.cov(*accuracies.values()).tolist()
    return cov / (var_weak * var_strong) ** 0.5, 2 * cov / (var_weak + var_strong)


@pytest.mark.parametrize(
    ("body", "name", "says"),
    [
        ("trial.settings['strength'] = float(time.time_ns() % 1000) / 1000",
         "repeats", "other bits when trained again"),
        ("if trial.arm == 'strong':\n"
         "    return Outcome(test=Predictions(np.log(np.full((40, 2), 0.5)), LABELS))",
         "seeds", "results in strong: the training ignores the seed"),
        ("raise ValueError('no such layer')", "training", "no such layer"),
    ],
)  # fmt: skip
def test_what_a_paired_design_cannot_rest_on_is_named(
    tmp_path: Path, write_tiny: Callable[..., Path], bench: Bench, body: str, name: str, says: str
):
    source = write_tiny(tmp_path, body)
    said = bench("doctor", source, "--store", f"sqlite:///{tmp_path}/new/mlflow.db")
    assert said.status == 4
    assert "error[doctor]" in said.err and f"{name}: " in said.err and says in said.err


def test_arms_that_draw_differently_with_any_seed_are_told(
    tmp_path: Path, write_tiny: Callable[..., Path], bench: Bench
):
    body = "trial.rng('order').normal(size=2 + trial.seed * (trial.arm == 'strong'))\n"
    body += "if trial.arm == 'strong':\n    trial.rng('mixup').normal()"
    source = write_tiny(tmp_path, body)
    said = bench("doctor", source, "--store", f"sqlite:///{tmp_path}/new/mlflow.db")
    assert said.status == 0
    text = " ".join(said.out.split())  # which is wrapped at 80 columns
    assert "streams weak draws nothing from mixup; the arms draw differently from order" in text
    assert all(len(line) <= 80 for line in said.out.splitlines() if str(tmp_path) not in line)


GLOBALS = """
sys.modules['__main__'].__dict__.setdefault('strengths', []).append(trial.settings['strength'])
trial.settings['strength'] = sum(sys.modules['__main__'].strengths)
"""


@pytest.mark.parametrize(
    ("extra", "state", "says"),
    [
        ("", "open", "it leaves something behind, which bench keeps from the next one"),
        ("reuse_process=True,", "bad", "reuse_process=True does not hold"),
    ],
)
def test_what_a_training_leaves_behind_is_found(
    tmp_path: Path,
    write_tiny: Callable[..., Path],
    bench: Bench,
    extra: str,
    state: str,
    says: str,
):
    source = write_tiny(tmp_path, GLOBALS.strip(), extra=extra)
    store = f"sqlite:///{tmp_path}/new/mlflow.db"
    said = bench("doctor", source, "--store", store)
    assert said.status == (4 if state == "bad" else 0)
    assert says in " ".join(said.out.split())
    mark = {"open": "·", "bad": "✗"}[state]
    assert f"{mark} leftovers" in said.out


OWN = """
from bench import Experiment, Outcome
import numpy as np

def train(trial):
    generator = np.random.default_rng({seed})
    return Outcome(scores={{"accuracy": 0.9 + 0.01 * generator.random() * trial.settings["gain"]}})

EXPERIMENT = Experiment(
    name="own", question="?", arms={{"a": {{"gain": 1}}, "b": {{"gain": 2}}}}, train=train
)
"""


@pytest.mark.parametrize(
    ("seed", "others"),
    [
        ("", {"repeats": "bad", "seeds": "ok", "leftovers": "open"}),  # unseeded
        ("42", {"repeats": "ok", "seeds": "bad", "leftovers": "ok"}),  # the seed is ignored
    ],
)
def test_a_generator_of_the_trainings_own_is_named(
    tmp_path: Path, bench: Bench, seed: str, others: dict[str, str]
):
    source = tmp_path / "mine_own.py"
    source.write_text(OWN.format(seed=seed))
    said = bench("doctor", source, "--store", f"sqlite:///{tmp_path}/new/mlflow.db")
    assert said.status == 4
    assert "seeding: a draws from no stream of the trial and does not read its seed" in said.err
    for name, state in others.items():
        assert f"{ {'ok': '✓', 'open': '·', 'bad': '✗'}[state] } {name}" in said.out


@pytest.mark.parametrize("draws", ["np.random.random()", "random.random()", "trial.seed"])
def test_whatever_the_seed_reaches_counts_as_seeded(
    tmp_path: Path, write_tiny: Callable[..., Path], bench: Bench, draws: str
):
    source = write_tiny(tmp_path, f"return Outcome(scores={{'accuracy': {draws}}})")
    store = f"sqlite:///{tmp_path}/new/mlflow.db"
    assert states(bench("doctor", source, "--store", store, "--json"))["seeding"] == "ok"


def test_the_plan_is_made_for_the_devices_that_are_checked(
    tmp_path: Path,
    bench: Bench,
    write_tiny: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
):
    seen, place = [], [Slot("cuda:1", 0, 1)]

    def draft(*given: Any) -> None:
        seen.append(given[-1])
        raise Refusal("enough")

    monkeypatch.setattr("bench.execution.devices.slots", lambda *_, **__: place)
    monkeypatch.setattr("bench.commands.drafting.draft", draft)
    bench("doctor", write_tiny(tmp_path), "--store", f"sqlite:///{tmp_path}/new/mlflow.db")
    assert seen == [place]


def test_a_terminal_without_these_signs_gets_plain_ones():
    assert Finding("disk", "bad", "full").line(unicode=False).isascii()
