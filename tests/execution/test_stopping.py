"""The stopping rules between the runs: what is shown, and when it is enough."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bench.design.description import Discovered
from bench.design.plan import Plan
from bench.design.results import Scored
from bench.execution.runner import Look, Pair
from bench.execution.stopping import looker


def pair(base: float, treatment: float) -> Pair:
    return {"weak": Scored(base), "strong": Scored(treatment)}


@pytest.fixture
def plan(tiny: Discovered, plan_of: Callable[..., Plan]) -> Callable[..., Plan]:
    """Return what plans the small experiment with a stopping rule, on scores alone."""

    def make(stop: str, seeds: int = 20, **changes: Any) -> Plan:
        found = replace(plan_of(tiny, range(seeds)), stop=stop, scope="seeds", margin=None)
        return replace(found, **changes)

    return make


def test_a_fixed_plan_shows_an_interval_from_three_pairs_on_and_never_stops(
    plan: Callable[..., Plan],
):
    look = looker(plan("fixed"))
    pairs = [pair(0.9, 0.95 + 0.001 * i) for i in range(12)]
    assert look(pairs[:2]) is None
    seen = look(pairs)
    assert isinstance(seen, Look) and not seen.stop
    assert seen.mean == pytest.approx(0.0555)
    assert seen.low is not None and seen.high is not None and 0 < seen.low < seen.mean < seen.high


def test_pairs_without_spread_give_no_limits_instead_of_an_error(plan: Callable[..., Plan]):
    seen = looker(plan("anytime"))([pair(0.5, 0.5)] * 8)
    assert seen is None or (seen.low, seen.high, seen.stop) == (None, None, False)


@pytest.mark.parametrize("unit", [1e307, 1e150, 1e-61, 5e-320])
def test_values_that_cannot_be_squared_show_nothing_instead_of_ending_the_training(
    unit: float, plan: Callable[..., Plan]
):
    values = [0.1, 1.5, -0.7, 0.9, 1.2, 0.3, -1.0]
    assert looker(plan("anytime"))([pair(unit * v, 1.1 * unit * v) for v in values]) is None


def test_a_look_counts_each_cluster_with_its_examples(plan: Callable[..., Plan]):
    look = looker(plan("anytime", scope="seeds_and_examples", cluster="passage"))
    sizes, rng = np.array([9.0] * 3 + [1.0] * 9), np.random.default_rng(0)
    gaps = 0.5 + np.arange(12) / 10 + 0.01 * rng.normal(size=(20, 12))

    def seen(gaps: Any, weights: Any) -> Look:
        means = np.average(gaps, axis=1, weights=weights)
        pairs = [
            {"weak": Scored(0.0, 0 * gap, weights), "strong": Scored(mean, gap, weights)}
            for gap, mean in zip(gaps, means, strict=True)
        ]
        found = look(pairs)
        assert found is not None and found.low is not None and found.high is not None
        return found

    few, many = seen(gaps, sizes), seen(np.repeat(gaps, sizes.astype(int), axis=1), None)
    assert few.mean == pytest.approx(many.mean)
    assert few.high - few.low > 1.5 * (many.high - many.low)  # 36 examples, not drawn alone


def test_anytime_stops_at_the_first_pair_that_settles_the_word(plan: Callable[..., Plan]):
    look = looker(plan("anytime"))
    gaps = 0.02 + 0.004 * np.random.default_rng(0).normal(size=20)
    pairs = [pair(0.9, 0.9 + gap) for gap in gaps]
    stops = [n for n in range(1, 21) if (seen := look(pairs[:n])) is not None and seen.stop]
    assert stops and stops[0] >= 6 and stops == list(range(stops[0], 21))


def test_group_stops_at_its_planned_looks_only(plan: Callable[..., Plan]):
    look = looker(plan("group"))
    gaps = 0.03 + 0.004 * np.random.default_rng(0).normal(size=20)
    pairs = [pair(0.9, 0.9 + gap) for gap in gaps]
    assert [n for n in range(3, 21) if (s := look(pairs[:n])) is not None and s.stop] == [
        10,
        15,
        20,
    ]


def test_every_treatment_must_be_settled(plan: Callable[..., Plan]):
    arms = {"weak": {}, "strong": {"strength": 1.0}, "equal": {"strength": 0.5}}
    look = looker(plan("anytime", arms=arms))
    draw = np.random.default_rng(1)
    pairs = [
        {**pair(0.9, 0.93 + 0.002 * draw.normal()), "equal": Scored(0.9 + 0.01 * draw.normal())}
        for _ in range(15)
    ]
    seen = look(pairs)
    assert seen is not None and seen.low is not None and seen.low > 0 and not seen.stop


def test_new_test_examples_count_where_they_are_known(plan: Callable[..., Plan]):
    """The same differences of the runs: settled for new seeds, not for new test images."""
    draw = np.random.default_rng(2)
    images = draw.choice([-1.0, 0.0, 1.0], p=[0.19, 0.6, 0.21], size=400)  # one draw for all seeds
    both = [np.where(draw.random(400) < 0.02, 0.0, images) for _ in range(15)]
    pairs = [
        {"weak": Scored(0.0, np.zeros(400)), "strong": Scored(float(d.mean()), d)} for d in both
    ]
    sure = [{arm: Scored(run.value) for arm, run in p.items()} for p in pairs]
    rule = plan("anytime", scope="seeds_and_examples")
    alone, together = looker(rule)(sure), looker(rule)(pairs)
    assert alone is not None and alone.stop
    assert together is not None and not together.stop
    assert together.low is not None and together.low < 0 < alone.low


@pytest.mark.parametrize("stop", ["group", "anytime"])
def test_without_an_effect_a_word_is_stopped_at_no_more_often_than_promised(
    plan: Callable[..., Plan], stop: str
):
    look = looker(plan(stop))
    draw, wrong = np.random.default_rng(3), 0
    replications = 400
    for gaps in 0.008 * draw.normal(size=(replications, 20)):
        pairs = [pair(0.9, 0.9 + gap) for gap in gaps]
        steps = (10, 15, 20) if stop == "group" else range(6, 21)
        wrong += any((s := look(pairs[:n])) is not None and s.stop for n in steps)
    # A t test at the same looks is wrong 10 % (group) and 20 % (every pair) of the time.
    assert stats.binomtest(wrong, replications, 0.05, alternative="greater").pvalue > 0.001


# -- end to end ------------------------------------------------------------------------------

# Seed 5's first run outlasts the next seeds, and is in training when they are enough.
LONG = "time.sleep(2.0 * (trial.seed == 5 and trial.arm == 'weak'))"


@pytest.mark.parametrize(("rule", "most"), [("anytime", 40), ("group", 12)])
def test_a_rule_stops_a_training_and_what_was_in_training_counts(
    rule: str, most: int, tmp_path: Path, write_tiny: Callable[..., Path],
    copy_store: Callable[[Path], str], bench: Callable[..., Any],
):  # fmt: skip
    source = write_tiny(tmp_path, LONG)
    source.write_text(source.read_text().replace('"strength": 1.0', '"strength": 4.0'))
    words = ("run", source, "--stop", rule, "--max-seeds", most, "--workers", 2)
    words = (*words, "--store", copy_store(tmp_path / "store"))
    said = bench(*words)
    assert said.status == 0, said.err
    assert f"the rule --stop {rule} stops after 6 pairs; runs in training are" in said.err
    said_once = " ".join(said.out.split())
    assert f"enough after 6 pairs of at most {most}" in said_once
    assert said.err.count("run done") < 2 * 10
    again = bench(*words)
    assert again.status == 0 and "run done" not in again.err
    results = bench("report", "tiny", *words[-2:], "--json").json
    plan, [found] = results["plan"], results["comparisons"]
    assert (plan["stop"], plan["stopped_at"], plan["pending"]) == (rule, 6, 0)
    assert found["n_pairs"] > plan["stopped_at"] and found["verdict"]["word"] == "better"
    assert bench(*words, "--dry-run", "--json").json["runs_left"] == 0
    repeat = (*words, "--redo", "1:strong", "--redo", "0:weak")
    assert bench(*repeat, "--dry-run", "--json").json["runs_left"] == 2
    repeated = bench(*repeat)  # what a rule has stopped can still be mended
    assert (repeated.status, repeated.err.count("run done")) == (0, 2), repeated.err
    assert f"enough after 6 pairs of at most {most}" in " ".join(repeated.out.split())
    mended = bench("report", "tiny", *words[-2:], "--json").json
    assert mended["comparisons"][0]["primary"] == found["primary"]  # bit for bit
    longer = bench(*words, "--max-seeds", 2 * most, "--dry-run", "--json").json
    assert longer["runs_left"] == 4 * most - said.err.count("run done")


def test_once_results_could_decide_the_number_of_pairs_the_fixed_interval_never_comes_back(
    tmp_path: Path, write_tiny: Callable[..., Path], copy_store: Callable[[Path], str],
    bench: Callable[..., Any],
):  # fmt: skip
    source, store = write_tiny(tmp_path), ("--store", copy_store(tmp_path / "store"))
    source.write_text(source.read_text().replace('"strength": 1.0', '"strength": 4.0'))
    run = ("run", source, "--workers", 1, *store)

    def results() -> Any:
        return bench("report", "tiny", "--json", *store).json

    assert bench(*run, "--stop", "anytime", "--max-seeds", 8).status == 0
    first = results()
    assert (first["plan"]["stopped_at"], first["comparisons"][0]["n_pairs"]) == (6, 6)
    longer = bench(*run, "--stop", "anytime", "--max-seeds", 9)  # enough already: it ends at once
    assert "the rule --stop anytime stops after 6 pairs" in longer.err
    assert longer.status == 0 and "run done" not in longer.err
    second = results()
    assert (second["plan"]["stopped_at"], second["plan"]["pending"]) == (6, 0)
    for words in (("--seeds", 8), ("--stop", "group", "--max-seeds", 12)):
        said = bench(*run, *words)  # the rule is dropped, then another one is chosen
        assert said.status == 0 and "This changes the plan of tiny that was frozen" in said.err
        found = results()
        [comparison], plan = found["comparisons"], found["plan"]
        assert comparison["n_pairs"] >= 9 and comparison["primary"]["method"] == "anytime"
        assert plan["stop_changed_after_results"] and plan["analysis_changed_after_results"]
        [check] = [check for check in found["checks"] if check["id"] == "C2"]
        assert check["state"] == "failed" and "was changed too" in check["why"]


def test_a_plan_that_replaces_a_frozen_one_says_so(
    tmp_path: Path, write_tiny: Callable[..., Path], copy_store: Callable[[Path], str],
    bench: Callable[..., Any],
):  # fmt: skip
    source, store = write_tiny(tmp_path), ("--store", copy_store(tmp_path / "store"))
    frozen = bench("plan", source, "--seeds", 6, "--margin", 7, "--claim", 9, "--freeze", *store)
    assert frozen.status == 0
    said = bench("run", source, "--seeds", 6, *store)
    line = " ".join(said.err.split())
    assert "that was frozen 20" in line and "margin 0.07 → " in line and "claim 0.09 → none" in line
    found = bench("report", "tiny", "--json", *store).json
    [check] = [check for check in found["checks"] if check["id"] == "C2"]
    assert check["state"] == "passed" and "It replaced one that was frozen 20" in check["text"]
    assert any("claim 0.09 → none" in note for note in found["provenance"]["notes"])
    assert not found["plan"]["stop_changed_after_results"]
