import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.analysis.data.tables import TRIAL_COLUMNS, Design, Tables
from bench.analysis.study.curves import best_epochs, curves, gaps

DESIGN = Design(
    experiment="x",
    question="?",
    baseline="a",
    treatments=("b",),
    metric="accuracy",
    higher_is_better=True,
    seeds=(0, 1, 2, 3),
)


def tables(by_run):
    """Return tables that hold only these validation accuracies by epoch."""
    rows = [
        {"arm": arm, "seed": seed, "epoch": epoch, "val/accuracy": value}
        for (arm, seed), values in by_run.items()
        for epoch, value in enumerate(values)
    ]
    trials = [
        {**dict.fromkeys(TRIAL_COLUMNS, ""), "arm": arm, "seed": seed} for arm, seed in by_run
    ]
    return Tables(
        pd.DataFrame(trials, columns=list(TRIAL_COLUMNS)),
        pd.DataFrame(rows, columns=["arm", "seed", "epoch", "val/accuracy"]),
        pd.DataFrame(columns=["arm", "seed", "score", "value"]),
        {},
    )


def test_a_curve_is_the_median_and_the_middle_90_per_cent():
    values = np.random.default_rng(0).random((4, 3))
    (curve,) = curves(tables({("a", s): values[s] for s in range(4)}).epochs, DESIGN)
    assert curve.epochs == (0, 1, 2)
    assert curve.median == pytest.approx(np.median(values, axis=0))
    assert curve.low == pytest.approx(np.quantile(values, 0.05, axis=0))
    assert curve.high == pytest.approx(np.quantile(values, 0.95, axis=0))


def test_an_epoch_that_less_than_half_of_the_runs_reached_is_left_out():
    lengths = (5, 3, 2, 2)
    (curve,) = curves(tables({("a", s): [0.5] * n for s, n in enumerate(lengths)}).epochs, DESIGN)
    assert curve.epochs == (0, 1, 2)  # epoch 2 was reached by two of four


def test_the_gap_by_epoch_is_the_paired_t_of_those_that_reached_it():
    rng = np.random.default_rng(1)
    by_run = {(arm, s): rng.random(4 if s else 2) for arm in "ab" for s in range(4)}
    (gap,) = gaps(tables(by_run).epochs, DESIGN)
    assert gap.epochs == (0, 1, 2, 3)
    for epoch in (0, 3):
        reached = [s for s in range(4) if len(by_run["a", s]) > epoch]
        values = [[by_run[arm, s][epoch] for s in reached] for arm in "ba"]
        expected = stats.ttest_rel(*values)
        interval = expected.confidence_interval()
        assert gap.mean[epoch] == pytest.approx(np.subtract(*values).mean())
        assert (gap.low[epoch], gap.high[epoch]) == pytest.approx(tuple(interval))


def test_fewer_than_three_pairs_have_no_gap():
    assert (
        gaps(tables({(arm, s): [0.5, 0.6] for arm in "ab" for s in range(2)}).epochs, DESIGN) == ()
    )


def test_the_best_epoch_is_the_earliest_of_ties():
    found = best_epochs(tables({("a", 0): [0.1, 0.8, 0.8, 0.2], ("a", 1): [0.3, 0.4]}).epochs, "a")
    assert found.best_epoch.tolist() == [1, 1]
    assert found.best.tolist() == [0.8, 0.4]
    assert found.last_epoch.tolist() == [3, 1]


def test_early_stopped_runs_keep_their_best_epoch_even_when_few_reached_it():
    runs = {("a", s): [0.5, 0.6] for s in range(5)} | {("a", 9): [0.1, 0.2, 0.9]}
    assert best_epochs(tables(runs).epochs, "a").loc[9, "best"] == 0.9


def test_without_validation_accuracies_there_are_no_curves():
    empty = tables({})
    assert curves(empty.epochs, DESIGN) == gaps(empty.epochs, DESIGN) == ()
    assert best_epochs(empty.epochs, "a").empty
    nothing = Tables(empty.trials, pd.DataFrame({"arm": [], "seed": []}), empty.scores, {})
    assert curves(nothing.epochs, DESIGN) == gaps(nothing.epochs, DESIGN) == ()
    assert best_epochs(nothing.epochs, "a").empty


def test_arms_without_a_common_seed_have_curves_but_no_gap(known):
    f = known("no_pair_in_common")
    assert len(f.curves) == 2
    assert f.gaps == ()
