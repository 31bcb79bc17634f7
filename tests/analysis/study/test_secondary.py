import numpy as np
import pytest

from bench.analysis.calibration.temperature import fit_temperature
from bench.analysis.data.metrics import METRICS, brier, confidence, correct, nll
from bench.analysis.inference import paired_t, two_way


def by_metric(f):
    return {s.metric: s for s in f.comparisons[0].secondary}


def arm_means(s, arm, measure):
    return np.mean(
        [measure(s.tables.predictions[arm, k, "test"]).mean() for k in s.tables.finished(arm)]
    )


def test_secondary_outcomes_are_all_but_the_primary(known):
    assert set(by_metric(known("rule3_better"))) == {
        "nll",
        "brier",
        "ece_debiased",
        "ece_debiased_scaled",
    }
    assert set(by_metric(known("nll"))) == {
        "accuracy",
        "brier",
        "ece_debiased",
        "ece_debiased_scaled",
    }


def test_without_validation_no_temperature_is_fitted(known):
    f = known("no_validation")
    assert "ece_debiased_scaled" not in by_metric(f)
    assert not any(row.scaled for row in f.calibration)


def test_intervals_and_p_are_adjusted_for_the_same_number(simulate):
    s = simulate(n_seeds=10, n_test=120)
    f = s.findings()
    m = len(f.comparisons[0].secondary)
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
            if s.low is not None and s.high is not None:
                assert (s.low > 0 or s.high < 0) == (s.p_adjusted < 1 - s.level)
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
    assert {m.name: m.higher_is_better for m in METRICS.values()} == {
        "accuracy": True,
        "nll": False,
        "brier": False,
    }
