import numpy as np
import pytest
from scipy import special, stats

from bench.analysis.data.metrics import ALWAYS, METRICS, Metric, Predictions
from bench.analysis.data.set_metrics import (
    aurc,
    auroc,
    average_precision,
    balanced_accuracy,
    macro_f1,
    risk_coverage,
)
from bench.analysis.errors import BadPredictions

OF_SETS = [name for name, metric in METRICS.items() if metric.per_example is None]


def predicted(rng, labels, n_classes, *, ties=True):
    z = rng.normal(size=(len(labels), n_classes))
    z[np.arange(len(labels)), labels] += 1.5
    log_p = special.log_softmax(np.round(z, 1) if ties else z, axis=1)
    return Predictions(log_p.astype(np.float32), labels)


def test_reproduces_hanley_and_mcneil_1982():
    # Table II: 109 CT images rated 1 to 5; area 0.893 by Wilcoxon
    normal, abnormal = [33, 6, 6, 11, 2], [3, 2, 2, 11, 33]
    ratings = np.repeat([1, 2, 3, 4, 5] * 2, normal + abnormal)
    ill = np.repeat([False, True], [58, 51])
    assert auroc(ill, ratings) == pytest.approx(0.893, abs=0.0005)
    u = stats.mannwhitneyu(ratings[ill], ratings[~ill]).statistic
    assert auroc(ill, ratings) == pytest.approx(u / (58 * 51))


def test_reproduces_the_examples_of_scikit_learns_documentation():
    # https://scikit-learn.org/stable/modules/generated: roc_auc_score, average_precision_score,
    # f1_score(average="macro"), balanced_accuracy_score
    y, scores = np.array([0, 0, 1, 1]), [0.1, 0.4, 0.35, 0.8]
    assert auroc(y, scores) == pytest.approx(0.75)
    assert average_precision(y, scores) == pytest.approx(0.8333333333)
    y_true, y_pred = np.array([0, 1, 2, 0, 1, 2]), np.array([0, 2, 1, 0, 0, 1])
    assert macro_f1(y_true, y_pred, 3) == pytest.approx(0.2666666667)
    y_true, y_pred = np.array([0, 1, 0, 0, 1, 0]), np.array([0, 1, 0, 0, 0, 1])
    assert balanced_accuracy(y_true, y_pred, 2) == pytest.approx(0.625)


@pytest.mark.parametrize(("n_classes", "size"), [(2, 300), (4, 400)])
def test_equals_scikit_learn(n_classes, size):
    sk = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(n_classes)
    labels = rng.integers(0, n_classes, size)
    run = predicted(rng, labels, n_classes)
    answers, scores = run.log_probabilities.argmax(axis=1), run.log_probabilities
    hot = np.eye(n_classes, dtype=int)[labels]
    if n_classes == 2:
        hot, scores = labels, scores[:, 1]
    expected = {
        "macro_f1": sk.f1_score(labels, answers, average="macro"),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, answers),
        "auroc": sk.roc_auc_score(hot, scores, average="macro"),
        "average_precision": sk.average_precision_score(hot, scores, average="macro"),
    }
    assert {name: METRICS[name].value(run) for name in expected} == pytest.approx(expected)


def test_the_risk_coverage_curve_by_hand():
    # surest first: right, wrong, right, wrong; risks 0, 1/2, 1/3, 1/2
    assert aurc([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0]) == pytest.approx(
        (0 + 1 / 2 + 1 / 3 + 1 / 2) / 4
    )
    assert aurc([0.9, 0.9, 0.9], [1, 1, 0]) == pytest.approx(1 / 3)


def test_examples_of_equal_confidence_count_in_every_order_alike():
    rng = np.random.default_rng(1)
    sure, right = rng.integers(5, 9, size=60) / 10, rng.integers(0, 2, size=60)
    orders = [rng.permutation(60) for _ in range(2000)]
    shuffled = [aurc(sure[o] - 1e-9 * np.arange(60), right[o]) for o in orders]
    assert aurc(sure, right) == pytest.approx(np.mean(shuffled), abs=4e-3)
    assert [aurc(sure[o], right[o]) for o in orders[:20]] == pytest.approx([aurc(sure, right)] * 20)


@pytest.mark.parametrize("name", OF_SETS)
def test_the_columns_are_pseudo_values_whose_mean_is_the_value(name):
    rng = np.random.default_rng(2)
    run = predicted(rng, rng.integers(0, 3, 200), 3)
    metric, columns = METRICS[name], METRICS[name].columns(run)
    groups = np.random.default_rng(0).permutation(200) % 40
    without = [metric.value(run.take(groups != g)) for g in range(40)]
    pseudo = 40 * metric.value(run) - 39 * np.array(without)
    assert columns - columns.mean() == pytest.approx(pseudo - pseudo.mean())
    assert columns.mean() == pytest.approx(metric.value(run))


def test_a_function_of_ones_own_is_the_built_in_metric():
    rng = np.random.default_rng(3)
    run = predicted(rng, rng.integers(0, 3, 150), 3)
    own = Metric("mine", of=METRICS["macro_f1"].value)
    assert own.columns(run) == pytest.approx(METRICS["macro_f1"].columns(run))


def influence(run):
    """Return AUROC plus each example's influence, by DeLong, DeLong & Clarke-Pearson (1988)."""
    scores, there = run.log_probabilities[:, 1], run.labels == 1
    wins = (scores[there][:, None] > scores[~there][None, :]) * 1.0
    columns = np.full(len(run), wins.mean())
    columns[there] += (wins.mean(axis=1) - wins.mean()) * len(run) / there.sum()
    columns[~there] += (wins.mean(axis=0) - wins.mean()) * len(run) / (~there).sum()
    return columns


def test_the_jackknife_of_auroc_agrees_with_delong():
    rng, ratios = np.random.default_rng(4), []
    for _ in range(60):
        run = predicted(rng, rng.integers(0, 2, 400), 2, ties=False)
        ratios.append(stats.sem(METRICS["auroc"].columns(run)) / stats.sem(influence(run)))
    assert np.mean(ratios) == pytest.approx(1, abs=0.05)
    assert np.std(ratios) < 0.2  # 40 groups know a standard error to 11 %


@pytest.mark.parametrize("name", ["macro_f1", "balanced_accuracy", "auroc", "average_precision"])
def test_a_class_without_test_examples_is_refused(name):
    rng = np.random.default_rng(5)
    run = predicted(rng, np.repeat([0, 1], 50), 3)
    with pytest.raises(BadPredictions, match="no test example is of class 2, so there is no") as e:
        METRICS[name].value(run)
    assert "score more examples of every class" in e.value.fix
    lonely = predicted(rng, np.repeat([0, 1, 2], [50, 50, 1]), 3)
    assert 0 <= METRICS[name].value(lonely) <= 1
    with pytest.raises(BadPredictions, match="only 1 test example of 101 is of class 2, too few"):
        METRICS[name].columns(lonely)


@pytest.mark.parametrize("value", [np.nan, "much", None, [1.0, 2.0]])
def test_what_gives_no_number_is_refused(value):
    run = predicted(np.random.default_rng(6), np.repeat([0, 1], 50), 2)
    with pytest.raises(BadPredictions, match="metric 'mine' gave .*, not a finite number"):
        Metric("mine", of=lambda predictions: value).columns(run)


def test_one_example_has_a_value_and_no_spread():
    run = predicted(np.random.default_rng(7), np.array([1]), 2)
    assert METRICS["aurc"].columns(run).shape == (1,)


def test_what_every_report_compares_needs_no_class():
    assert set(ALWAYS) == {"accuracy", "nll", "brier", "aurc"}


def test_the_kept_points_of_the_risk_coverage_curve_by_hand():
    right = np.array([1] * 30 + [0] * 10)
    found = risk_coverage(np.linspace(1, 0, 40), right)  # two examples a point, surest first
    assert found[:15] == pytest.approx(0) and found[-1] == pytest.approx(0.25)
    assert found[17] == pytest.approx(6 / 36)
    assert risk_coverage([0.9, 0.8], [1, 0]) == pytest.approx([0] * 10 + [0.5] * 10)
