"""Units that count differently: the formulas as they are written, outside numbers, coverage."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from sklearn.datasets import make_moons
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.svm import SVC

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference import corrected_t, paired_t, two_way, weighted_t, welch
from bench.analysis.inference.additive import additive_fit
from bench.analysis.inference.gram import gram
from bench.analysis.inference.two_way import two_way_from_mean_squares
from bench.analysis.inference.unpaired import Runs

RNG = np.random.default_rng


def table(rng, s=7, n=30):
    return rng.normal(size=(s, n)) + rng.normal(size=(s, 1)) + rng.normal(size=n)


def by_formula(d, w):
    """The weighted two-way interval, as UNITS.md writes it."""
    s = len(d)
    q, g = w**2 / (1 - w), 1 / (w @ w)
    r, c = d @ w, d.mean(axis=0)
    mean = r.mean()
    v_s, v_g = r.var(ddof=1) / s, q @ (c - mean) ** 2
    v_e = (q * (d - r[:, None] - c + mean) ** 2).sum() / (s * (s - 1))
    v = max(v_s + v_g - v_e, v_s, v_g)
    df = v**2 / (v_s**2 / (s - 1) + v_g**2 / (g - 1) + v_e**2 / ((s - 1) * (g - 1)))
    return mean, np.sqrt(v), max(1.0, df)


@pytest.mark.parametrize("spread", [0.0, 1.0, 10.0])
def test_the_weighted_two_way_is_the_formula(spread):
    rng = RNG(0)
    d, w = table(rng), 1 + spread * rng.uniform(size=30)
    r = two_way_from_mean_squares(*gram(d, w).mean_squares())
    assert (r.difference, r.standard_error, r.df) == pytest.approx(by_formula(d, w / w.sum()))


def test_equal_weights_are_the_crossed_analysis():
    d = table(RNG(1))
    r, plain = two_way_from_mean_squares(*gram(d, np.full(30, 3.0)).mean_squares()), two_way(d)
    assert (r.low, r.high, r.df) == pytest.approx((plain.low, plain.high, plain.df))


def test_data_sets_are_strata_centred_on_their_own_means():
    rng = RNG(2)
    d, of = table(rng), np.repeat([0, 1, 2], [5, 10, 15])
    d += np.array([0.0, 5.0, -5.0])[of]  # how data sets differ is no spread of these ones
    r = two_way_from_mean_squares(*gram(d, None, of).mean_squares())
    each = [two_way(d[:, of == t]) for t in range(3)]
    means = np.mean([d[:, of == t].mean(axis=1) for t in range(3)], axis=0)
    v_s = means.var(ddof=1) / 7
    v_g = sum(e.ms_examples / (7 * e.n_examples) for e in each) / 9
    v_e = sum(e.ms_residual / (7 * e.n_examples) for e in each) / 9
    assert r.difference == pytest.approx(means.mean())
    assert r.standard_error**2 == pytest.approx(max(v_s + v_g - v_e, v_s, v_g))


def test_some_rows_of_weighted_columns_are_the_table_of_these_rows():
    rng = RNG(3)
    d, w = table(rng), rng.uniform(1, 9, size=30)
    keep = [0, 2, 5]
    some, alone = gram(d, w).mean_squares(keep), gram(d[keep], w).mean_squares()
    assert some[:6] == pytest.approx(alone[:6])


def test_one_stratum_of_equal_units_is_the_paired_t():
    d = RNG(4).normal(size=12)
    r, t = weighted_t(d), paired_t(np.zeros(12), d)
    assert (r.low, r.high, r.p_value) == pytest.approx((t.low, t.high, t.p_value))


def test_two_strata_of_both_arms_are_welchs():
    # R: t.test(extra ~ group, data = sleep): df = 17.776; here the arms as strata of one mean
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    r = weighted_t(np.r_[np.negative(first), second], strata=[0] * 10 + [1] * 10)
    assert (2 * r.low, 2 * r.high) == pytest.approx((-0.2054832, 3.3654832), abs=1e-6)
    assert r.df == pytest.approx(17.776, abs=5e-4)


def test_welch_takes_arms_of_unequal_size():
    rng = RNG(5)
    a, b = rng.normal(size=6), rng.normal(1, 2, size=11)
    r, theirs = welch(a, b), stats.ttest_ind(b, a, equal_var=False)
    assert (r.p_value, r.df) == pytest.approx((theirs.pvalue, theirs.df))
    limits = theirs.confidence_interval()
    assert (r.low, r.high) == pytest.approx((limits.low, limits.high))


def test_weights_give_the_error_of_weighted_least_squares_that_allows_for_leverage():
    # statsmodels: WLS of cluster means on a constant, HC2; for a mean this is Bell & McCaffrey's
    # CR2, whose leverage of a cluster is its share of the examples
    rng, sizes = RNG(13), np.array([2, 3, 5, 8, 40])
    means = rng.normal(size=5)
    theirs = sm.WLS(means, np.ones(5), weights=sizes).fit(cov_type="HC2")
    r = weighted_t(means, sizes)
    assert r.difference == pytest.approx(theirs.params[0])
    assert r.standard_error == pytest.approx(theirs.bse[0])


def test_strata_are_dummies_of_weighted_least_squares():
    rng, strata = RNG(14), np.repeat([0, 1, 2], [4, 7, 12])
    d, weights = rng.normal(size=23) * (1 + strata), rng.uniform(1, 5, size=23)
    dummies = (strata[:, None] == np.arange(3)).astype(float)
    theirs = sm.WLS(d, dummies, weights=weights).fit(cov_type="HC2").t_test(np.full(3, 1 / 3))
    r = weighted_t(d, weights, strata)
    assert r.difference == pytest.approx(float(theirs.effect[0]))
    assert r.standard_error == pytest.approx(float(theirs.sd[0, 0]))


def test_seeds_and_clusters_are_two_ways_of_clustering():
    # statsmodels: two-way cluster-robust (Cameron, Gelbach & Miller 2011), without corrections for
    # few clusters, so it agrees up to a share of 1 / S and 1 / G
    rng, sizes = RNG(15), np.arange(1, 101)
    d = rng.normal(size=(80, 1)) + 10 * rng.normal(size=100) + rng.normal(size=(80, 100))
    groups = np.stack([index.ravel() for index in np.indices(d.shape)], axis=1)
    fit = sm.WLS(d.ravel(), np.ones(d.size), weights=np.tile(sizes, 80)).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}
    )
    r = two_way_from_mean_squares(*gram(d, sizes).mean_squares())
    assert r.difference == pytest.approx(fit.params[0])
    assert r.standard_error == pytest.approx(fit.bse[0], rel=0.02)


def test_folds_give_what_scikit_learn_publishes():
    # scikit-learn.org, "Statistical comparison of models using grid search", 10 × 10 folds:
    # corrected t-value 0.750, corrected p-value 0.227 (one-sided)
    x, y = make_moons(noise=0.352, random_state=1, n_samples=100)
    folds = RepeatedStratifiedKFold(n_splits=10, n_repeats=10, random_state=0)
    linear, rbf = (
        cross_val_score(SVC(kernel=kernel, random_state=0), x, y, cv=folds, scoring="roc_auc")
        for kernel in ("linear", "rbf")
    )
    r = corrected_t(linear, rbf, test_share=1 / 9)
    assert r.difference / r.standard_error == pytest.approx(0.750, abs=5e-4)
    assert r.p_value / 2 == pytest.approx(0.227, abs=5e-4)


def test_folds_get_nadeau_and_bengios_variance():
    rng = RNG(6)
    a, b = rng.normal(0.8, 0.01, size=(2, 10))
    r, t = corrected_t(a, b, test_share=1 / 9), paired_t(a, b)
    assert r.standard_error / t.standard_error == pytest.approx(np.sqrt((1 / 10 + 1 / 9) * 10))
    assert r.df == t.df


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (lambda: weighted_t([1.0, 2.0, 3.0], strata=[0, 0, 1]), "two units or more in every"),
        (lambda: weighted_t([1.0, np.nan]), "not one finite number a unit"),
        (lambda: weighted_t([0.5] * 4), "no spread to test"),
        (lambda: welch([1.0], [1.0, 2.0]), "1 run of the baseline is too few"),
        (lambda: additive_fit(np.array([[1.0, np.nan], [2.0, np.nan]])), "no value at all"),
        (
            lambda: additive_fit(np.array([[1.0, np.nan], [np.nan, 2.0]])),
            "share no columns with the others",
        ),
        (
            lambda: Runs(scores=gram(np.ones((3, 4))), n_baseline=1).mean_squares(),
            "1 runs of an arm on 4 columns are too few",
        ),
    ],
)
def test_what_cannot_be_known_is_refused(refused, said):
    with pytest.raises(UnusableRuns, match=said):
        refused()


def test_a_test_share_that_is_none_is_refused():
    with pytest.raises(ValueError, match="it is n_test / n_train"):
        corrected_t([1.0, 2.0], [2.0, 4.0], test_share=0.0)


def test_gaps_follow_from_rows_and_columns_that_add_up():
    rng = RNG(7)
    full = rng.normal(size=(6, 1)) + rng.normal(size=9)
    holes = np.where(rng.random(full.shape) < 0.15, np.nan, full)
    assert additive_fit(holes) == pytest.approx(full)


def test_gaps_are_what_least_squares_on_the_observed_cells_predicts():
    rng = RNG(16)
    table = rng.normal(size=(5, 8))
    table[rng.random(table.shape) < 0.2] = np.nan
    row, column = np.indices(table.shape).reshape(2, -1)
    dummies = np.c_[row[:, None] == np.arange(5), column[:, None] == np.arange(1, 8)].astype(float)
    seen = ~np.isnan(table.ravel())
    fit = sm.OLS(table.ravel()[seen], dummies[seen]).fit()
    assert additive_fit(table).ravel()[~seen] == pytest.approx(fit.predict(dummies[~seen]))


def test_filled_cells_leave_the_residual_no_degrees_of_freedom():
    d = table(RNG(8))
    plain, less = gram(d).mean_squares(), gram(d, filled=20).mean_squares()
    assert less.df == (6.0, 29.0, 6 * 29 - 20)
    assert less.residual * (6 * 29 - 20) == pytest.approx(plain.residual * 6 * 29)


# -- coverage ----------------------------------------------------------------------------------


def held(intervals, promised=0.95):
    """Tell whether so many intervals about zero are no evidence against the promised share."""
    inside = sum(low <= 0 <= high for low, high in intervals)
    return stats.binomtest(inside, len(intervals), promised, alternative="less").pvalue > 1e-3


def test_clusters_are_covered_where_their_examples_alone_are_not():
    rng, sizes = RNG(9), np.array([2, 3, 4, 5, 6, 8, 10, 14, 20, 28, 36, 40])
    by_cluster, by_example = [], []
    for _ in range(400):
        means = rng.normal(size=12)
        d = rng.normal(0, 0.3, size=(10, 1)) + means + rng.normal(size=(10, 12)) / np.sqrt(sizes)
        r = two_way_from_mean_squares(*gram(d, sizes).mean_squares())
        by_cluster.append((r.low, r.high))
        wide = np.repeat(means, sizes) + rng.normal(0, 0.3, size=(10, 1))
        wide = wide + rng.normal(size=(10, sizes.sum()))
        r = two_way(wide)
        by_example.append((r.low, r.high))
    assert held(by_cluster, 0.94)
    assert not held(by_example)


@pytest.mark.parametrize(("n", "m"), [(5, 20), (10, 10), (8, 4)])
def test_unpaired_runs_on_shared_examples_are_covered(n, m):
    rng, found = RNG(10), []
    for _ in range(400):
        shared = rng.normal(size=40)
        scores = np.concatenate(
            [
                shared + rng.normal(0, 0.5, size=(k, 1)) + own + rng.normal(size=(k, 40))
                for k, own in ((n, rng.normal(0, 0.5, size=40)), (m, rng.normal(0, 0.5, size=40)))
            ]
        )
        r = two_way_from_mean_squares(*Runs(scores=gram(scores), n_baseline=n).mean_squares())
        found.append((r.low, r.high))
    assert held(found)


def test_runs_nested_in_data_sets_are_covered_and_narrower_than_common_seeds():
    rng, nested, common = RNG(11), [], []
    for _ in range(400):
        each = [rng.normal(size=k) * s for k, s in ((3, 1.0), (10, 0.5), (20, 2.0))]
        strata = np.repeat([0, 1, 2], [3, 10, 20])
        r = weighted_t(np.concatenate(each), strata=strata)
        t = weighted_t(np.mean([own[:3] for own in each], axis=0))
        nested.append((r.low, r.high))
        common.append(t.high - t.low)
    assert held(nested)
    assert np.median([high - low for low, high in nested]) < 0.6 * np.median(common)


def test_overlapping_training_sets_are_allowed_for():
    """Ten folds of pure noise: a nearest-mean learner whose flaw depends on the training set."""
    rng, corrected, plain = RNG(12), 0, 0
    for _ in range(200):
        x, y = rng.normal(size=(100, 12)), rng.integers(0, 2, size=100)
        folds = np.array_split(rng.permutation(100), 10)
        scores = np.array([[_nearest(x[:, own], y, test) for own in (slice(0, 6), slice(6, 12))]
                           for test in folds])  # fmt: skip
        if np.ptp(scores[:, 1] - scores[:, 0]) == 0:
            continue
        corrected += corrected_t(*scores.T, test_share=1 / 9).p_value < 0.05
        plain += paired_t(*scores.T).p_value < 0.05
    assert stats.binomtest(corrected, 200, 0.05, alternative="greater").pvalue > 1e-3
    assert plain > 2 * corrected


def _nearest(x, y, test):
    train = np.setdiff1d(np.arange(len(y)), test)
    means = [x[train][y[train] == k].mean(axis=0) for k in (0, 1)]
    near = [((x[test] - mean) ** 2).sum(axis=1) for mean in means]
    return float(((near[1] < near[0]) == y[test]).mean())
