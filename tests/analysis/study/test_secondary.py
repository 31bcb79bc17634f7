import json
from types import SimpleNamespace

import numpy as np
import pytest

from bench.analysis.calibration.temperature import fit_temperature
from bench.analysis.data.metrics import METRICS, brier, confidence, correct, nll
from bench.analysis.data.own_metrics import own_metrics
from bench.analysis.data.units import Units
from bench.analysis.errors import BadPredictions
from bench.analysis.inference import paired_t, two_way
from bench.analysis.report.sentences import verdict
from bench.analysis.study.secondary import secondary
from bench.analysis.study.summary import OutcomeSums


def by_metric(f):
    return {s.metric: s for s in f.comparisons[0].secondary}


def arm_means(s, arm, measure):
    return np.mean(
        [measure(s.tables.predictions[arm, k, "test"]).mean() for k in s.tables.finished(arm)]
    )


def test_secondary_outcomes_are_all_but_the_primary(known):
    scaled = {f"{name}{end}" for name in ("ce2", "ece_debiased") for end in ("", "_scaled")}
    assert set(by_metric(known("rule3_better"))) == {"nll", "brier", "aurc", "gap", *scaled}
    assert set(by_metric(known("nll"))) == {"accuracy", "brier", "aurc", "gap", *scaled}


def test_without_validation_no_temperature_is_fitted(known):
    f = known("no_validation")
    assert "ece_debiased_scaled" not in by_metric(f)
    assert not any(row.scaled for row in f.calibration)


def test_intervals_and_p_are_adjusted_for_the_same_number(simulate):
    s = simulate(n_seeds=10, n_test=120)
    f = s.findings()
    m = sum(not s.descriptive for s in f.comparisons[0].secondary)
    found = by_metric(f)["nll"]
    table = np.stack(
        [
            nll(s.tables.predictions["smoothed", k, "test"])
            - nll(s.tables.predictions["baseline", k, "test"])
            for k in range(10)
        ]
    )
    expected = two_way(table, level=1 - 0.05 / m)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.p_adjusted == pytest.approx(min(1, m * two_way(table).p_value))
    assert found.difference == pytest.approx(table.mean())


@pytest.mark.parametrize("name", ["rule3_better", "rule7_inconclusive", "three_treatments", "nll"])
def test_an_adjusted_interval_and_its_p_cannot_disagree(known, name):
    f = known(name)
    for c in f.comparisons:
        for s in c.secondary:
            if s.low is not None and s.high is not None and not s.descriptive:
                assert (s.low > 0 or s.high < 0) == (s.p_adjusted < f.design.alpha)
            if s.p_value is not None:
                assert s.p_value <= s.p_holm <= s.p_adjusted


def test_scope_seeds_compares_secondary_outcomes_over_seeds(simulate):
    s = simulate(n_seeds=8, scope="seeds")
    found = by_metric(s.findings())["brier"]
    base, other = (
        np.array([brier(s.tables.predictions[arm, k, "test"]).mean() for k in range(8)])
        for arm in ("baseline", "smoothed")
    )
    assert found.p_value == pytest.approx(paired_t(base, other).p_value)


def test_calibration_rows_are_means_over_seeds(simulate):
    s = simulate(n_seeds=5)
    rows = {(r.arm, r.scaled): r for r in s.findings().calibration}
    assert set(rows) == {(arm, scaled) for arm in ("baseline", "smoothed") for scaled in (0, 1)}
    raw = rows["smoothed", False]
    assert raw.nll == pytest.approx(arm_means(s, "smoothed", nll))
    assert raw.brier == pytest.approx(arm_means(s, "smoothed", brier))
    assert raw.gap == pytest.approx(
        arm_means(s, "smoothed", confidence) - arm_means(s, "smoothed", correct)
    )
    temperatures = [
        fit_temperature(p.log_probabilities, p.labels).temperature
        for p in (s.tables.predictions["smoothed", k, "validation"] for k in range(5))
    ]
    assert rows["smoothed", True].temperature == pytest.approx(np.mean(temperatures))


def test_the_reliability_diagram_holds_every_example(known):
    for diagram in known("rule3_better").reliability:
        assert sum(diagram.share) == pytest.approx(1)
        assert len(diagram.share) == 15
        for low, mean, high, share in zip(
            diagram.low, diagram.accuracy, diagram.high, diagram.share, strict=True
        ):
            assert (mean is None) == (share == 0)
            assert mean is None or 0 <= low <= mean + 1e-12 <= high + 2e-12 <= 1 + 4e-12


def test_further_scores_are_compared_without_a_direction(known):
    found = by_metric(known("further_scores"))
    assert found["f1"].higher_is_better is None
    assert found["recall"].unit == "score"


def test_a_score_that_a_run_lacks_is_not_compared(simulate):
    s = simulate(n_seeds=6, scores={"f1": 0.01})
    rows = s.tables.scores
    assert "f1" not in by_metric(s.changed(scores=rows[rows.seed != 2]).findings())


def test_one_test_example_has_no_interval_for_calibration(known):
    found = by_metric(known("one_test_example"))["ece_debiased"]
    assert (found.low, found.p_value) == (None, None)
    assert "one test example" in found.reason


def test_every_metric_has_a_direction():
    lower = {name for name, m in METRICS.items() if not m.higher_is_better}
    assert lower == {"nll", "brier", "aurc"}


def test_the_signed_gap_is_a_mean_over_examples(simulate):
    s = simulate(n_seeds=10, n_test=120)
    found = by_metric(s.findings())["gap"]
    runs = [s.tables.predictions[arm, k, "test"] for arm in s.design.arms for k in range(10)]
    rows = [confidence(run) - correct(run) for run in runs]
    expected = two_way(np.stack(rows[10:]) - np.stack(rows[:10]), level=1 - 0.05 / 6)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.higher_is_better is None


def test_the_ece_is_described_and_nothing_is_claimed_from_it(known):
    f = known("rule3_better")
    found = by_metric(f)["ece_debiased"]
    assert found.descriptive and found.low <= found.difference <= found.high
    assert (found.p_value, found.p_adjusted, found.p_holm) == (None, None, None)
    assert verdict.reading(found) == "described only"
    assert by_metric(f)["ce2"].p_adjusted is not None


def test_a_metric_of_ones_own_is_compared_by_what_each_run_recorded(simulate):
    s = simulate(n_seeds=8, n_test=200, scores={"cost": 0.1})
    rng, rows = np.random.default_rng(0), s.tables.trials
    columns = {(a, k): rng.normal(size=40) for a, k in zip(rows.arm, rows.seed, strict=True)}
    own = [
        {"own_metrics": {"cost": {
            "label": "cost in EUR", "higher_is_better": False, "columns": of.tolist(),
        }}} for of in columns.values()
    ]  # fmt: skip
    scores = s.tables.scores.assign(value=[of.mean() for of in columns.values()])
    changed = s.changed(trials=rows.assign(facts=list(map(json.dumps, own))), scores=scores)
    found = by_metric(changed.findings())["cost"]
    table = np.stack([columns["smoothed", k] - columns["baseline", k] for k in range(8)])
    assert (found.label, found.higher_is_better) == ("cost in EUR", False)
    assert found.p_value == pytest.approx(two_way(table).p_value)
    primary = changed.changed(
        design={"metric": "cost", "higher_is_better": False, "margin": None, "claim": None}
    ).findings()
    assert primary.comparisons[0].primary.p_value == pytest.approx(two_way(table).p_value)
    assert "cost" not in by_metric(primary) and primary.n_test == 200


@pytest.mark.parametrize(
    "plain", [3, {"cost": 1}, {"cost": {"label": "c", "higher_is_better": True, "columns": "x"}}]
)
def test_own_metrics_that_cannot_be_read_are_refused(plain):
    with pytest.raises(BadPredictions, match="the recorded metrics of a run cannot be read"):
        own_metrics({"own_metrics": plain})
    row = {"label": "c", "higher_is_better": True, "columns": [1.0, float("inf")]}
    with pytest.raises(BadPredictions, match="metric 'cost' of a run is no row of numbers"):
        own_metrics({"own_metrics": {"cost": row}})


def test_nothing_else_is_judged_while_runs_are_still_to_be_trained(simulate):
    s = simulate(
        n_seeds=8, n_test=120, seeds=tuple(range(20)), benchmark_id="b", treatments=("smoothed",)
    )
    f = s.findings()
    assert f.design.pending == 24 and f.comparisons[0].anytime.low is not None
    for outcome in f.comparisons[0].secondary:
        assert (outcome.low, outcome.p_value, outcome.p_adjusted) == (None, None, None)
        assert outcome.reason == "not judged yet: planned runs are still to be trained"
    assert {row.p_value for row in f.classes} <= {None}
    assert verdict.cost_fact(f, f.comparisons[0])[0] == "Calibration: not judged yet"


def test_where_looks_could_decide_the_number_outcomes_hold_at_every_look(simulate):
    f = simulate(n_seeds=12, n_test=120, looks=(6,), scope="seeds").findings()
    c = f.comparisons[0]
    found = by_metric(f)["nll"]
    fixed = by_metric(simulate(n_seeds=12, n_test=120, scope="seeds").findings())["nll"]
    assert c.primary.method == "anytime"
    assert found.high - found.low > fixed.high - fixed.low
    assert (found.p_adjusted < 0.05) == (found.low > 0 or found.high < 0)


def test_a_null_outcome_is_seldom_claimed_in_a_series_of_reports():
    """After every pair from the 6th to the 40th: 27 % by fixed intervals."""
    rng = np.random.default_rng(5)
    design = SimpleNamespace(
        treatments=("b",),
        alpha=0.05,
        pending=0,
        free_to_look=True,
        stop="fixed",
        seeds=range(40),
        conditions=1,
        units=Units(),
    )
    claimed = {True: 0, False: 0}
    for _ in range(200):
        d = rng.normal(size=40)
        for early in claimed:
            design.free_to_look = early
            claimed[early] += any(
                not found.low <= 0 <= found.high
                for n in range(6, 41)
                for found in secondary((null_outcome(d[:n]),), design)
            )
    assert claimed[True] / 200 <= 0.06 and claimed[False] / 200 > 0.15


def null_outcome(differences):
    return OutcomeSums(
        metric="m", label="M", unit="score", higher_is_better=True,
        baseline=tuple(np.zeros_like(differences)), treatment=tuple(differences), method="paired_t",
    )  # fmt: skip


def test_a_temperature_from_few_errors_gives_no_reading(simulate):
    s = simulate(n_seeds=8, n_test=120, n_val=60, base=0.97, effect=0.0)
    found = by_metric(s.findings())["ece_debiased_scaled"]
    assert (found.low, found.p_adjusted) == (None, None)
    assert "is not identified by" in found.reason and "it takes 10" in found.reason
