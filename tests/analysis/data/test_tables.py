from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bench.analysis.data.metrics import METRICS, Predictions
from bench.analysis.data.tables import BadTables, Design, Tables, records


def test_pairs_are_the_seeds_that_finished_in_both_arms_in_plan_order(simulate):
    s = simulate(
        n_seeds=6,
        seeds=(4, 0, 1, 2, 3),
        failed={("smoothed", 1)},
        missing={("baseline", 2)},
    )
    assert s.tables.paired_seeds(s.design, "smoothed") == [4, 0, 3, 5]  # 5 was not planned


def test_a_run_that_is_still_going_is_no_pair(simulate):
    s = simulate(n_seeds=3)
    s.tables.trials.loc[s.tables.trials.seed == 1, "status"] = "running"
    assert s.tables.paired_seeds(s.design, "smoothed") == [0, 2]


def test_values_from_predictions_equal_values_from_scores(simulate):
    s = simulate(n_seeds=5)
    seeds = s.tables.paired_seeds(s.design, "smoothed")
    by_predictions = s.tables.values(s.design, "smoothed", seeds)
    rows = [
        {"arm": "smoothed", "seed": seed, "score": "accuracy", "value": value}
        for seed, value in zip(seeds, by_predictions, strict=True)
    ]
    scored = Tables(s.tables.trials, s.tables.epochs, pd.DataFrame(rows), {})
    assert scored.values(s.design, "smoothed", seeds) == pytest.approx(by_predictions, abs=0)


@pytest.mark.parametrize("metric", list(METRICS))
def test_values_are_those_of_each_runs_predictions(simulate, metric):
    s = simulate(n_seeds=3, metric=metric)
    values = s.tables.values(s.design, "baseline", [0, 1, 2])
    of = METRICS[metric].value
    by_hand = [of(s.tables.predictions["baseline", k, "test"]) for k in range(3)]
    assert values == pytest.approx(by_hand)


def test_a_trial_listed_twice_is_refused_by_name(simulate):
    s = simulate(n_seeds=3)
    twice = pd.concat([s.tables.trials, s.tables.trials.iloc[[2]]])
    with pytest.raises(BadTables, match="seed 1, baseline, occurs twice"):
        Tables(twice, s.tables.epochs, s.tables.scores, s.tables.predictions)


def test_a_table_without_a_column_is_refused_by_name(simulate):
    s = simulate(n_seeds=3)
    with pytest.raises(BadTables, match="no column 'device'"):
        Tables(s.tables.trials.drop(columns="device"), s.tables.epochs, s.tables.scores, {})


def test_a_missing_score_is_refused_with_the_known_ones(simulate):
    s = simulate(n_seeds=3, scores_only=True)
    rows = s.tables.scores[s.tables.scores.seed != 2]
    tables = Tables(s.tables.trials, s.tables.epochs, rows, {})
    with pytest.raises(BadTables, match="seed 2, baseline, has no score 'accuracy'") as refusal:
        tables.values(s.design, "baseline", [0, 1, 2])
    assert "Known scores: accuracy" in refusal.value.render()


def test_runs_scored_on_other_test_examples_are_refused(simulate):
    s = simulate(n_seeds=3)
    changed = dict(s.tables.predictions)
    old = changed["smoothed", 1, "test"]
    changed["smoothed", 1, "test"] = Predictions(old.log_probabilities, old.labels[::-1].copy())
    tables = Tables(s.tables.trials, s.tables.epochs, s.tables.scores, changed)
    with pytest.raises(BadTables, match="seed 1, smoothed, was scored on other test") as refusal:
        tables.require_one_test_set()
    assert "fix: draw the test set without the trial's seed" in refusal.value.render()


def test_other_validation_examples_are_fine(simulate):
    s = simulate(n_seeds=3)
    changed = dict(s.tables.predictions)
    old = changed["smoothed", 1, "validation"]
    flipped = Predictions(old.log_probabilities, old.labels[::-1].copy())
    changed["smoothed", 1, "validation"] = flipped
    Tables(s.tables.trials, s.tables.epochs, s.tables.scores, changed).require_one_test_set()


def test_a_score_of_the_users_own_is_a_plain_number():
    design = Design(
        experiment="x",
        question="?",
        baseline="a",
        treatments=("b",),
        metric="perplexity",
        higher_is_better=False,
        seeds=(0,),
    )
    assert (design.measure.unit, design.measure.label) == ("score", "perplexity")
    assert not design.measure.higher_is_better
    assert design.guards == (0.0,)


def test_a_missing_value_is_none_in_records():
    frame = pd.DataFrame({"a": [1.0, np.nan], "b": ["x", None]})
    assert records(frame) == [{"a": 1.0, "b": "x"}, {"a": None, "b": None}]


def test_a_metric_of_scores_from_elsewhere_keeps_the_unit_that_it_is_read_in(simulate):
    design = replace(simulate(n_seeds=2).design, metric="auroc", unit="score")
    assert design.measure.unit == "fraction"
    assert replace(design, benchmark_id="").measure.unit == "score"
    assert replace(design, benchmark_id="", metric="accuracy").measure.unit == "fraction"
