import numpy as np
import pytest
from scipy import stats

from bench.analysis.data.metrics import correct
from bench.analysis.study.per_class import MOST_CLASSES, class_rows, class_sums
from bench.analysis.study.summarise import paired


def rows_of(some, facts=None):
    pairs = {name: paired(some.tables, some.design, name) for name in some.design.treatments}
    sums = class_sums(some.tables, some.design, pairs, {"data": facts or {}})
    return class_rows(sums, {name: p.n for name, p in pairs.items()}, some.design)


def test_each_class_is_compared_on_its_own_examples(simulate):
    some = simulate(n_seeds=8, scope="seeds", n_classes=4)
    rows = rows_of(some)
    assert [row.label for row in rows] == ["0", "1", "2", "3"]
    for row in rows:
        arms = []
        for arm in ("baseline", "smoothed"):
            runs = [some.tables.predictions[arm, seed, "test"] for seed in range(8)]
            members = runs[0].labels == int(row.label)
            arms.append([correct(run)[members].mean() for run in runs])
        assert row.n_examples == members.sum()
        assert row.baseline == pytest.approx(np.mean(arms[0]))
        assert row.difference == pytest.approx(np.mean(arms[1]) - np.mean(arms[0]))
        assert row.p_value == pytest.approx(stats.ttest_rel(arms[1], arms[0]).pvalue)


def test_p_is_adjusted_over_all_classes(simulate):
    rows = rows_of(simulate(n_seeds=8, n_classes=6))
    expected = stats.false_discovery_control([row.p_value for row in rows])
    assert [row.p_adjusted for row in rows] == pytest.approx(list(expected))


def test_names_of_the_classes_are_used_where_they_are_known(simulate):
    some = simulate(n_seeds=6, n_classes=3)
    assert [r.label for r in rows_of(some, {"class_names": ["cat", "dog", "owl"]})] == [
        "cat", "dog", "owl",
    ]  # fmt: skip
    assert [r.label for r in rows_of(some, {"class_names": ["cat"]})] == ["0", "1", "2"]
    assert [r.label for r in rows_of(some, {"class_names": "abc"})] == ["0", "1", "2"]


def test_of_many_classes_those_with_the_smallest_p_are_listed(simulate):
    some = simulate(n_seeds=6, n_classes=50, n_test=1000)
    rows = rows_of(some)
    assert len(rows) == MOST_CLASSES
    assert [int(row.label) for row in rows] == sorted(int(row.label) for row in rows)


def test_without_predictions_or_pairs_there_is_no_table(simulate):
    assert rows_of(simulate(scores_only=True, n_seeds=6)) == ()
    assert rows_of(simulate(n_seeds=1)) == ()


def test_a_class_without_spread_has_no_p(simulate):
    rows = rows_of(simulate(n_seeds=6, effect=0.0, noise=0.0, jitter=0.0))
    assert all(row.p_value is None and row.p_adjusted is None for row in rows)
    assert all(row.difference == 0 for row in rows)
