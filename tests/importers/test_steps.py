"""Tables of steps: one row a run, never a run that has diverged in the place of a finished one."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.importers.asked import At, BadRequest, at_of
from bench.importers.steps import at_step, counted

STEPS = pd.DataFrame(
    {
        "arm": ["a"] * 3 + ["b"] * 3,
        "seed": [0] * 6,
        "epoch": [0, 1, 2, 2, 0, 1],
        "loss": [3.0, 2.0, 1.0, 0.5, 2.5, 1.5],
        "acc": [0.1, 0.9, 0.8, 0.7, 0.2, 0.7],
    }
)
KEYS = ["arm", "seed"]


def at(frame: pd.DataFrame, typed: str, keys: list[str] = KEYS) -> pd.DataFrame:
    found = at_of(typed)
    assert found is not None
    return at_step(frame, found, keys, step="epoch", where="t.csv")


def test_the_last_step_is_that_of_the_largest_number_whatever_the_order_of_rows():
    assert at(STEPS, "last")["acc"].tolist() == [0.8, 0.7]
    shuffled = at(STEPS.sample(frac=1, random_state=1), "last").sort_values("arm")
    assert shuffled["acc"].tolist() == [0.8, 0.7]


def test_a_column_chooses_the_step_and_the_first_of_equals_counts():
    best = at(STEPS, "max:acc")
    assert (best["epoch"].tolist(), best["loss"].tolist()) == ([1, 1], [2.0, 1.5])
    assert at(STEPS, "min:loss")["epoch"].tolist() == [2, 2]
    said = counted(best, At("max", "acc"), "epoch", ["acc"])
    assert "where acc is highest (epoch 1)" in said and "Chosen by its own value" in said


def test_a_run_that_has_diverged_has_no_last_value_and_a_sparse_column_has_one():
    frame = STEPS.assign(acc=[0.1, np.nan, 0.8, np.nan, 0.2, np.nan])  # measured at 0 and 2
    found = at(frame, "last")
    assert found["acc"].isna().tolist() == [False, True] and found["loss"].tolist() == [1.0, 0.5]
    sparse = STEPS.assign(acc=[0.1, 0.9, np.nan, np.nan, 0.2, 0.7])  # at 0 and 1 alone
    assert at(sparse, "last")["acc"].tolist() == [0.9, 0.7]


def test_a_run_without_the_column_that_chooses_has_no_scores():
    frame = STEPS.assign(acc=[0.1, 0.9, 0.8, np.nan, np.nan, np.nan])
    found = at(frame, "max:acc")
    assert found["arm"].tolist() == ["a", "b"]
    assert found["loss"].isna().tolist() == [False, True]


def test_runs_that_end_at_different_steps_are_said():
    said = counted(at(STEPS[STEPS.epoch < 2 + (STEPS.arm == "a")], "last"), At(), "epoch", [])
    assert "(epoch 1 to 2)" in said and "diverged or was stopped" in said


@pytest.mark.parametrize("typed", ["first", "max", "max:", "min:", "last:acc", ""])
def test_what_names_no_step_is_refused(typed: str):
    with pytest.raises(BadRequest, match="names no step of a run") as refusal:
        at_of(typed)
    assert list(refusal.value.options) == [("at", "last")]


@pytest.mark.parametrize(
    ("change", "typed", "said"),
    [
        ({}, "max:top5", 'no column "top5"'),
        ({}, "max:arm", "arm chooses no step|arm is no score"),
        ({}, "max:epoch", "epoch is no score"),
        ({"epoch": ["x"] * 6}, "last", "'x' is no number"),
        ({"epoch": [0, 1, np.nan, 2, 0, 1]}, "last", "1 rows have no epoch"),
        ({"acc": [np.nan] * 6}, "max:acc", "it is empty"),
    ],
)
def test_steps_that_cannot_be_chosen_among_are_refused(change: dict, typed: str, said: str):
    with pytest.raises(BadRequest, match=said):
        at(STEPS.assign(**change), typed)


def test_a_step_twice_in_a_run_names_the_column_that_tells_its_rows_apart():
    twice = pd.concat([STEPS.assign(phase="train"), STEPS.assign(phase="val")])
    with pytest.raises(BadRequest, match="two rows with arm a, seed 0, epoch 0") as refusal:
        at(twice, "last")
    assert list(refusal.value.options) == [("where", "phase=train")]
    with pytest.raises(BadRequest, match="two rows with epoch 2"):
        at(STEPS, "last", [])


def long_table(path: Path) -> tuple[list[float], list[float]]:
    """Write 8 seeds of two arms, 5 steps each; return the arms' values at the last step."""
    rng, rows = np.random.default_rng(2), []
    ends: dict[str, list[float]] = {"base": [], "new": []}
    for seed in range(8):
        for arm in ends:
            values = np.linspace(0.3, 0.8 + 0.02 * (arm == "new"), 5) + rng.normal(0, 0.005, 5)
            ends[arm].append(float(values[-1]))
            rows += [
                {"arm": arm, "seed": seed, "_step": s, "acc": v, "phase": phase}
                for s, v in enumerate(values)
                for phase in ("val", "train")
            ]
    pd.DataFrame(rows).sample(frac=1, random_state=0).to_csv(path, index=False)
    return ends["base"], ends["new"]


def test_a_long_table_of_steps_gives_scipys_numbers_of_its_last_steps(tmp_path: Path, bench: Any):
    base, new = long_table(tmp_path / "r.csv")
    words = ["compare", str(tmp_path / "r.csv"), "--arm", "arm", "--metric", "acc"]
    words += ["--baseline", "base", "--at", "last"]
    said = bench(*words)
    assert said.status == 2 and "two rows with arm" in said.err and "--where phase=" in said.err
    said = bench(*words, "--where", "phase=val", "--json")
    (found,) = said.json["comparisons"]
    expected = stats.ttest_rel(new, base)
    assert found["n_pairs"] == 8
    assert found["primary"]["p_value"] == pytest.approx(expected.pvalue, rel=1e-9)
    assert "Of each run counts its last step (_step 4)." in said.out


def test_a_table_without_steps_is_refused_with_a_command_that_works(tmp_path: Path, bench: Any):
    rows = [f"{s},{a},0.{s + 2}{s * (a == 'b')}" for s in range(7) for a in "ab"]
    (tmp_path / "r.csv").write_text("\n".join(["seed,arm,acc", *rows]))
    words = ["compare", str(tmp_path / "r.csv"), "--arm", "arm", "--metric", "acc"]
    said = bench(*words, "--baseline", "a", "--at", "last")
    assert said.status == 2 and "r.csv has no column of steps" in said.err
    assert bench(*words, "--baseline", "a").status == 0
