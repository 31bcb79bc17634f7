"""Runs that did not finish have no scores, whatever they logged."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.importers.asked import Asked
from bench.importers.states import without_unfinished

ASKED = Asked(keys=("arm", "seed"), seed="seed", values=("acc",))


def table(*states: str, name: str = "State", seeds: list[object] | None = None) -> pd.DataFrame:
    n = len(states)
    return pd.DataFrame({"arm": "a", "seed": seeds or range(n), "acc": 0.5, name: states})


@pytest.mark.parametrize("state", ["crashed", "FAILED", "Killed", " running ", "error"])
def test_a_run_that_did_not_finish_has_no_score(state: str):
    said = list[str]()
    asked = Asked(keys=ASKED.keys, seed="seed", values=("acc",), say=said.append)
    found = without_unfinished(table("finished", state), ["arm", "seed"], asked)
    assert found["acc"].isna().tolist() == [False, True] and len(found) == 2
    assert said == [f"1 row has no score (State {state.strip().lower()})."]


@pytest.mark.parametrize("name", ["status of it", "params.status", "statement"])
def test_a_status_is_known_by_its_whole_name_alone(name: str):
    found = without_unfinished(table("ok", "failed", name=name), ["arm", "seed"], ASKED)
    assert found["acc"].notna().all()


def test_every_run_unfinished_has_no_score_either():
    found = without_unfinished(table("failed", "failed"), ["arm", "seed"], ASKED)
    assert found["acc"].isna().all() and len(found) == 2


def test_a_run_that_was_run_again_counts_once_and_a_nameless_one_not_at_all():
    frame = table("failed", "finished", "running", "failed", seeds=[1.0, 1.0, None, 2.0])
    found = without_unfinished(frame, ["arm", "seed"], ASKED)
    assert found["seed"].tolist() == [1, 2] and found["acc"].isna().tolist() == [False, True]


def test_without_a_seed_no_row_is_left_out():
    frame = table("failed", "finished")
    asked = Asked(keys=("arm",), values=("acc",))
    assert len(without_unfinished(frame, ["arm"], asked)) == 2


def test_a_crashed_run_is_refused_and_with_leave_a_failed_one(tmp_path: Path, bench: Any):
    rows = [f"{a},{s},{0.8 + s / 100 + 0.01 * (a == 'b') * (1 + s / 9)},finished"
            for s in range(9) for a in "ab"]  # fmt: skip
    rows[-1] = rows[-1].replace("finished", "crashed")
    (tmp_path / "r.csv").write_text("\n".join(["arm,seed,acc,state", *rows]))
    words = ["compare", str(tmp_path / "r.csv"), "--arm", "arm", "--metric", "acc"]
    said = bench(*words, "--baseline", "a")
    assert said.status == 5 and "9 a and 8 b values" in said.err
    assert "1 row has no score (state crashed)." in said.err
    said = bench(*words, "--baseline", "a", "--allow-missing", "--json")
    assert said.status == 0 and "1 row has no score (state crashed)." in said.out
    assert said.json["comparisons"][0]["n_pairs"] == 8
