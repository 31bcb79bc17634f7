"""What was drawn: every design of people's files gives its own right interval and its own words."""

import html
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.analysis.errors import Refusal
from bench.analysis.inference import corrected_t, paired_t, two_way
from bench.analysis.report import markdown, terminal
from bench.analysis.report.html import render
from bench.analysis.report.sentences import cite, verdict
from bench.analysis.study.study import study
from bench.importers.layout import Layout
from bench.importers.tables import imported

FIELD = Path(__file__).parents[3] / "shared" / "cases" / "field"
LONG = Layout(baseline="base", arm="model", metrics=("acc",))
WIDE = Layout(baseline="base", treatments=("new",))

needs_cases = pytest.mark.skipif(not FIELD.exists(), reason="there are no cases beside this clone")


def answered(path: Path, layout: Layout, **how):
    found = imported(path, layout, **how)
    return study(found.tables, found.design, provenance={"notes": [found.said]})


def saved(rows, path: Path) -> Path:
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def limits(f, scale=1.0):
    p = f.comparisons[0].primary
    return p.difference * scale, p.low * scale, p.high * scale


def runs(rng, *, arms=("base", "new"), sets=("A",), seeds=8, effect=0.3, spread=0.1):
    """Return one row an arm, data set and seed."""
    levels = dict(zip(sets, rng.normal(size=len(sets)), strict=True))
    return [
        {"model": arm, "task": t, "seed": s, "acc": levels[t] + i * effect + spread * rng.normal()}
        for i, arm in enumerate(arms) for t in sets for s in range(seeds)
    ]  # fmt: skip


# -- the right answers of the cases ------------------------------------------------------------


@needs_cases
def test_folds_are_corrected_for_overlapping_training_sets():
    f = answered(FIELD / "folds.csv", Layout(baseline="bagging", treatments=("random_forest",)))
    p = f.comparisons[0].primary
    assert limits(f) == pytest.approx((-0.0279, -0.0613, 0.0054), abs=6e-5)
    assert p.p_value == pytest.approx(0.091, abs=6e-4) and p.method == "corrected_t"
    assert f.comparisons[0].verdict.word == "inconclusive"


@needs_cases
def test_one_run_of_each_over_questions_has_mcnemar_beside_it():
    layout = Layout(baseline="model_a", treatments=("model_b",), pair="doc_id")
    f = answered(FIELD / "examples_220.csv", layout)
    c = f.comparisons[0]
    assert limits(f) == pytest.approx((0.0545, 0.0112, 0.0979), abs=6e-5)
    assert c.analysis("mcnemar").p_value == pytest.approx(0.0227, abs=6e-5)
    assert "won on 18 of 24 test examples on which the arms differ, 196 ties" in " ".join(
        terminal.summary(f, report=None).split()
    )
    assert verdict.reached(f, c) == "New test examples, for these two models."


@needs_cases
@pytest.mark.parametrize(
    ("how", "right"),
    [
        ({}, (0.363, 0.21, 0.52)),
        ({"trained": "per-dataset"}, (0.363, 0.21, 0.52)),
        ({"trained": "per-dataset", "scope": "new-datasets"}, (0.363, -0.39, 1.12)),
    ],
)
def test_eight_data_sets_answer_both_questions(how, right, tmp_path: Path):
    frame = pd.read_csv(FIELD / "pooled_cells.csv")
    frame[["data", "seed"]] = frame.pop("cell").str.split("_s", expand=True)
    path = saved(frame, tmp_path / "r.csv")
    layout = Layout(baseline="base", arm="model", metrics=("Acc",), dataset="data")
    assert limits(answered(path, layout, **how), 100) == pytest.approx(right, abs=6e-3)


@needs_cases
def test_runs_without_a_seed_are_compared_unpaired():
    f = answered(FIELD / "no_seed_column.csv", WIDE)
    assert limits(f)[1:] == pytest.approx((-0.1284, 0.2364), abs=6e-5)
    assert f.comparisons[0].primary.p_value == pytest.approx(0.538, abs=6e-4)


@needs_cases
@pytest.mark.parametrize(
    ("data", "right"), [("A", (2.41, 1.22, 3.59)), ("B", (-0.53, -0.95, -0.12))]
)
def test_each_condition_by_itself(data, right):
    f = answered(FIELD / "two_datasets.csv", LONG, where=[f"dataset={data}"])
    assert limits(f, 100) == pytest.approx(right, abs=6e-3)


# -- other designs, beside the plain computation -----------------------------------------------


def test_seeds_and_examples_from_a_file_are_the_crossed_analysis(tmp_path: Path):
    rng = np.random.default_rng(0)
    both = rng.normal(size=(2, 7, 12)) + rng.normal(size=(7, 1))
    rows = [
        {"model": arm, "seed": s, "doc_id": i, "acc": both[a, s, i]}
        for a, arm in enumerate(("base", "new")) for s in range(7) for i in range(12)
    ]  # fmt: skip
    order = rng.permutation(len(rows))
    path = saved([rows[i] for i in order], tmp_path / "r.csv")
    f = answered(path, Layout(**{**vars(LONG), "seed": "seed", "example": "doc_id"}))
    right = two_way(both[1] - both[0])
    assert limits(f) == pytest.approx((right.difference, right.low, right.high))
    assert verdict.reached(f, f.comparisons[0]).startswith("New seeds and new test examples.")


def test_questions_of_a_passage_count_as_their_passage(tmp_path: Path):
    rng = np.random.default_rng(1)
    sizes = rng.integers(2, 9, size=25)
    rows = [
        {"passage": p, "question": f"{p}-{q}", "base": 0.5 + shift, "new": 0.6 + 2 * shift}
        for p, size in enumerate(sizes) for shift in [rng.normal()] for q in range(size)
    ]  # fmt: skip
    path = saved(rows, tmp_path / "r.csv")
    layout = Layout(**{**vars(WIDE), "example": "question", "cluster": "passage"})
    f, by_question = (
        answered(path, layout),
        answered(path, Layout(**{**vars(WIDE), "example": "question"})),
    )
    assert f.comparisons[0].n_pairs == 25
    assert limits(f)[0] == pytest.approx(limits(by_question)[0])
    assert limits(f)[2] - limits(f)[0] > 1.5 * (limits(by_question)[2] - limits(by_question)[0])
    assert verdict.reached(f, f.comparisons[0]) == "New passages, for these two models."


def test_repeats_inside_a_unit_are_averaged_and_never_rows(tmp_path: Path):
    rng = np.random.default_rng(2)
    rows = [
        {"model": a, "doc_id": i, "sample": k, "acc": float(rng.random() < p)}
        for a, p in (("base", 0.5), ("new", 0.6)) for i in range(40) for k in range(5)
    ]  # fmt: skip
    path = saved(rows, tmp_path / "r.csv")
    with pytest.raises(Refusal, match="occurs twice") as refusal:
        answered(path, LONG)
    assert any("say so by repeat (sample)" in fact for fact in refusal.value.facts)
    f = answered(path, Layout(**{**vars(LONG), "repeat": "sample"}))
    table = pd.DataFrame(rows).groupby(["model", "doc_id"]).acc.mean().unstack(0)
    right = paired_t(table["base"], table["new"])
    assert limits(f) == pytest.approx((right.difference, right.low, right.high))


def test_repeated_cross_validation_takes_k_from_within_a_repeat(tmp_path: Path):
    rng = np.random.default_rng(3)
    rows = [
        {"fold": k, "repeat": r, "base": rng.normal(0.8, 0.01), "new": rng.normal(0.81, 0.01)}
        for r in range(3) for k in range(5)
    ]  # fmt: skip
    path = saved(rows, tmp_path / "r.csv")
    f = answered(path, Layout(**{**vars(WIDE), "fold": "fold", "repeat": "repeat"}))
    frame = pd.DataFrame(rows)
    right = corrected_t(frame.base, frame.new, test_share=1 / 4)
    assert limits(f) == pytest.approx((right.difference, right.low, right.high))


def test_random_splits_must_say_how_large_their_test_sets_are(tmp_path: Path):
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"split": range(8), "base": rng.normal(size=8), "new": rng.normal(size=8)})
    path = saved(frame, tmp_path / "r.csv")
    with pytest.raises(Refusal, match="folds of one cross-validation, or random splits"):
        answered(path, WIDE)
    f = answered(path, WIDE, test_share=0.25)
    right = corrected_t(frame.base, frame.new, test_share=0.25)
    assert limits(f) == pytest.approx((right.difference, right.low, right.high))


def test_one_arm_against_a_number_is_a_one_sample_test(tmp_path: Path):
    values = np.random.default_rng(5).normal(0.95, 0.004, size=9)
    path = saved({"new": values}, tmp_path / "r.csv")
    f = answered(path, Layout(baseline="", treatments=("new",)), against=0.94)
    theirs = stats.ttest_1samp(values, 0.94)
    interval = theirs.confidence_interval()
    assert f.comparisons[0].primary.p_value == pytest.approx(theirs.pvalue)
    assert limits(f)[1:] == pytest.approx((interval.low - 0.94, interval.high - 0.94))
    assert "0.94 is taken as exact" in " ".join(terminal.summary(f, report=None).split())
    [c7] = [check for check in f.checks if check.id == "C7"]
    assert c7.state == "passed"


def test_gaps_inside_runs_are_filled_with_leave_and_cost_degrees_of_freedom(tmp_path: Path):
    rng = np.random.default_rng(6)
    rows = [
        {"model": a, "seed": s, "doc_id": i, "acc": rng.normal() + 0.5 * (a == "new")}
        for a in ("base", "new") for s in range(8) for i in range(30)
    ]  # fmt: skip
    path = saved([row for row in rows if rng.random() > 0.1], tmp_path / "r.csv")
    layout = Layout(**{**vars(LONG), "seed": "seed", "example": "doc_id"})
    with pytest.raises(Refusal, match="has no") as refusal:
        answered(path, layout)
    assert any("missing at random" in fact for fact in refusal.value.facts)
    whole = answered(saved(rows, tmp_path / "whole.csv"), layout)
    gaps = answered(path, layout, allow_missing=True)
    assert limits(gaps) == pytest.approx(limits(whole), abs=0.15)
    missing = len(rows) - len(pd.read_csv(path))
    assert gaps.comparisons[0].pairs.mean_squares.df == (7.0, 29.0, 7 * 29 - missing)


# -- data sets ---------------------------------------------------------------------------------


def test_of_new_data_sets_it_must_be_said_what_a_seed_is(tmp_path: Path):
    path = saved(runs(np.random.default_rng(7), sets=tuple("ABCDEFGH")), tmp_path / "r.csv")
    layout = Layout(**{**vars(LONG), "dataset": "task"})
    with pytest.raises(Refusal, match="depends on what a seed is") as refusal:
        answered(path, layout, scope="new-datasets")
    assert list(refusal.value.options) == [("trained", "per-dataset")]
    frame = pd.read_csv(path)
    d = frame.pivot_table(index=["task", "seed"], columns="model", values="acc")
    d = (d["new"] - d["base"]).unstack("task")
    nested = answered(path, layout, scope="new-datasets", trained="per-dataset")
    means = paired_t(np.zeros(8), d.mean())
    assert limits(nested)[1:] == pytest.approx((means.low, means.high))
    crossed = answered(path, layout, scope="new-datasets", trained="once")
    both = two_way(d.to_numpy())
    assert limits(crossed)[1:] == pytest.approx((both.low, both.high))


def test_unequal_runs_of_data_sets_ask_whose_they_are(tmp_path: Path):
    rng = np.random.default_rng(8)
    rows = [*runs(rng, sets=("A",), seeds=3), *runs(rng, sets=("B",), seeds=10)]
    path, layout = saved(rows, tmp_path / "r.csv"), Layout(**{**vars(LONG), "dataset": "task"})
    with pytest.raises(Refusal, match=r"have not the same seeds \(3 to 10\)"):
        answered(path, layout)
    f = answered(path, layout, trained="per-dataset")
    assert f.comparisons[0].primary.method == "weighted_t" and f.comparisons[0].n_pairs == 13


def test_every_data_set_and_every_two_arms_have_a_row(tmp_path: Path):
    rng = np.random.default_rng(9)
    rows = runs(rng, arms=("base", "new", "third"), sets=tuple("ABCDE"), effect=0.5)
    f = answered(saved(rows, tmp_path / "r.csv"), Layout(**{**vars(LONG), "dataset": "task"}))
    assert [row.name for row in f.comparisons[0].datasets] == list("ABCDE")
    assert [(c.first, c.second) for c in f.among.contrasts] == [
        ("base", "new"), ("base", "third"), ("new", "third"),
    ]  # fmt: skip
    assert f.among.tied == () and f.among.ranks.average == (3.0, 2.0, 1.0)
    text = markdown.results(f, trail=())
    assert "Every two arms are told apart." in text and "Each data set by itself" in text


# -- what a stranger brought -------------------------------------------------------------------


def test_unpaired_runs_may_be_scored_on_the_same_examples(tmp_path: Path):
    rng = np.random.default_rng(20)
    rows = [
        {"model": m, "run": f"{m}{r}", "question": q, "acc": rng.normal() + 0.5 * (m == "new")}
        for m, k in (("base", 8), ("new", 6)) for r in range(k) for q in range(30)
    ]  # fmt: skip
    path = saved(rows, tmp_path / "r.csv")
    f = answered(
        path, Layout(**{**vars(LONG), "pair": "none", "seed": "run", "example": "question"})
    )
    assert [arm.n_finished for arm in f.arms] == [8, 6]
    assert f.comparisons[0].primary.method == "two_way"
    assert verdict.reached(f, f.comparisons[0]).startswith("New runs and new test examples.")
    with pytest.raises(Refusal, match="rows are test examples of one run, not runs"):
        answered(path, Layout(**{**vars(LONG), "pair": "none"}))


def test_one_run_over_items_of_data_sets_answers_of_new_ones_too(tmp_path: Path):
    rng = np.random.default_rng(21)
    rows = [
        {"model": m, "dataset": t, "question": q, "acc": float(rng.random() < 0.6)}
        for m in ("base", "new") for t in range(8) for q in range(20)
    ]  # fmt: skip
    path, layout = (
        saved(rows, tmp_path / "r.csv"),
        Layout(**{**vars(LONG), "dataset": "dataset", "example": "question"}),
    )
    means = pd.DataFrame(rows).groupby(["dataset", "model"]).acc.mean().unstack()
    f = answered(path, layout, scope="new-datasets")
    right = paired_t(means["base"], means["new"])
    assert limits(f) == pytest.approx((right.difference, right.low, right.high))
    assert verdict.reached(f, f.comparisons[0]) == "New data sets, for these two models."


@pytest.mark.parametrize(
    ("columns", "how", "said"),
    [
        ({"id": range(9)}, {}, "what a row of 'id' is, is not known"),
        ({}, {"answers": True}, "every value is 0 or 1"),
        ({"fold": [*range(3)] * 3, "dataset": [*"AAABBBCCC"]}, {}, "one data set at a time"),
        ({"fold": range(9)}, {"test_share": 0.0}, "not the ratio of two numbers of examples"),
    ],
)
def test_what_a_row_is_is_asked_where_it_is_not_known(columns, how, said, tmp_path: Path):
    rng, how = np.random.default_rng(22), dict(how)
    values = rng.integers(0, 2, size=(2, 9)) if how.pop("answers", 0) else rng.normal(size=(2, 9))
    path = saved({**columns, "base": values[0], "new": values[1]}, tmp_path / "r.csv")
    layout = Layout(**{**vars(WIDE), "dataset": "dataset" if "dataset" in columns else None})
    with pytest.raises(Refusal, match=said):
        answered(path, layout, **how)


def test_a_number_and_a_baseline_contradict_each_other(tmp_path: Path):
    path = saved({"seed": range(8), "base": range(8), "new": range(1, 9)}, tmp_path / "r.csv")
    with pytest.raises(Refusal, match="a baseline and a number in its place"):
        answered(path, WIDE, against=0.5)
    with pytest.raises(Refusal, match="nan cannot be compared against"):
        answered(path, Layout(baseline="", treatments=("new",)), against=float("nan"))


# -- gates -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "layout", "said"),
    [
        ({"fold": range(4), "base": [1.0, 2, 3, 5], "new": [2.0, 3, 5, 9]}, WIDE, "4 folds are"),
        ({"base": [1.0, 2, 3], "new": [2.0, 3, 9]}, WIDE, "3 runs of base are"),
        (
            {"doc_id": range(50), "base": [0.0] * 50, "new": [1.0] * 4 + [0.0] * 46},
            WIDE,
            "4 test examples on which the arms differ are",
        ),
    ],
)
def test_too_little_of_a_unit_gives_no_verdict(rows, layout, said, tmp_path: Path):
    f = answered(saved(rows, tmp_path / "r.csv"), layout)
    assert f.comparisons[0].verdict.headline == f"{said} too few for a verdict."


def test_few_answers_that_differ_cannot_show_that_arms_match(tmp_path: Path):
    base = np.r_[np.ones(30), np.zeros(970)]
    few = saved(
        {"doc_id": range(1000), "base": base, "new": np.roll(base, 5)}, tmp_path / "few.csv"
    )
    many = saved(
        {"doc_id": range(1000), "base": base, "new": np.roll(base, 40)}, tmp_path / "many.csv"
    )
    words = [answered(p, WIDE, margin=0.3).comparisons[0].verdict.word for p in (few, many)]
    assert words == ["inconclusive", "equivalent"]


@pytest.mark.parametrize(("goal", "word"), [("better", "inconclusive"), ("not_worse", "not_worse")])
def test_not_worse_is_a_word_only_where_it_was_the_goal(goal, word, tmp_path: Path):
    d = np.array([-0.2, 1.4, 0.3, 1.2, -0.3, 1.3, 0.2, 1.1, -0.1, 1.0, -0.4, 0.9]) * 1.5
    path = saved({"seed": range(12), "base": np.zeros(12), "new": d - 0.35}, tmp_path / "r.csv")
    f = answered(path, WIDE, margin=0.5, goal=goal)
    assert f.comparisons[0].verdict.word == word
    if goal == "not_worse":
        assert (
            f.comparisons[0].verdict.headline
            == "New is not worse than base in score by 0.5000 or more."
        )
        assert "NOT WORSE" in terminal.summary(f, report=None)


# -- words -------------------------------------------------------------------------------------

DESIGNS = {
    "folds": (dict(fold=range(10)), WIDE, {}),
    "questions": (dict(doc_id=range(10)), WIDE, {}),
    "unpaired": ({}, WIDE, {}),
    "data sets": (dict(task=[f"t{i}" for i in range(10)]), WIDE, {}),
    "target": ({}, Layout(baseline="", treatments=("new",)), {"against": 0.5}),
}


@pytest.mark.parametrize("name", DESIGNS)
def test_the_word_seed_appears_only_where_the_rows_are_seeds(name, tmp_path: Path):
    units, layout, how = DESIGNS[name]
    rng = np.random.default_rng(10)
    rows = {**units, "base": rng.normal(size=10), "new": rng.normal(0.5, 1, size=10)}
    f = answered(saved(rows, tmp_path / "r.csv"), layout, **how)
    page = re.sub(r"<(script|style).*?</\1>|<[^>]+>", " ", render(f, version="1"), flags=re.DOTALL)
    texts = (
        terminal.summary(f, report=None),
        markdown.results(f, trail=()),
        cite.neurips(f),
        html.unescape(page),
    )
    for text in texts:
        found = re.search(r"(?i).{0,60}\b(?:seeds?|images?)\b.{0,40}", " ".join(text.split()))
        assert found is None, found[0]
