"""Which metrics a report shows: AURC in every format, and one kind of ECE."""

import csv
import io

import numpy as np
import pytest

from bench.analysis.data import format as form
from bench.analysis.data.metrics import METRICS
from bench.analysis.report import latex, markdown
from bench.analysis.report.csv_files import sheets
from bench.analysis.report.sentences import verdict


def test_aurc_is_a_secondary_outcome_in_every_format(known, report):
    f = known("rule3_better")
    rows = {r.arm: r for r in f.calibration if not r.scaled}
    shown = form.value(rows["smoothed"].aurc, "fraction")
    name = "AURC (area under the risk-coverage curve)"
    assert shown in report("rule3_better") and name in report("rule3_better")
    text = markdown.results(f, trail=[])
    assert f"| {name}: lower is better |" in text and shown in text
    assert any("AURC" in table for table in latex.tables(f))
    plain = f.as_dict()
    assert plain["calibration"][0]["aurc"] == rows["baseline"].aurc
    assert "aurc" in {s["metric"] for s in plain["comparisons"][0]["secondary"]}


def test_aurc_of_every_run_is_in_the_csv(simulate):
    s = simulate(n_seeds=4, n_test=100)
    text = sheets(s.findings(), s.tables)["runs.csv"].decode()
    for row in csv.DictReader(io.StringIO(text)):
        run = s.tables.predictions[row["arm"], int(row["seed"]), "test"]
        assert float(row["aurc"]) == pytest.approx(METRICS["aurc"].value(run))
        assert float(row["aurc_scaled"]) >= 0


def test_a_report_shows_one_kind_of_ece(known, report):
    f, page = known("rule3_better"), report("rule3_better")
    rows = {r.arm: r for r in f.calibration if not r.scaled}
    before, after = (form.value(rows[arm].ece_debiased, "fraction") for arm in f.design.arms)
    assert f"ECE {before} → {after}." in verdict.cost_fact(f, f.comparisons[0])[1]
    for row in rows.values():
        assert f"ECE {form.value(row.ece_debiased, 'fraction')}" in page
        assert form.value(row.ece, "fraction") != form.value(row.ece_debiased, "fraction")
        assert f"ECE {form.value(row.ece, 'fraction')}" not in page


def test_the_spread_is_that_of_single_examples_although_groups_are_left_out(known):
    f = known("auroc")
    c = f.comparisons[0]
    assert f.n_test == c.variance.n_examples == 500
    assert [part.n for part in c.variance.components] == [12, 500, 6000]
    v = c.variance
    total = v.seeds / 12 + v.examples / 500 + v.residual / 6000
    assert np.sqrt(total) == pytest.approx(c.primary.standard_error, rel=0.2)
    assert c.primary.method == "two_way" and f.metric_label == "test AUROC"
