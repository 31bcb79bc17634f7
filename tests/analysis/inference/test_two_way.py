import numpy as np
import pytest
from scipy import stats

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference import (
    effective_df,
    paired_t,
    two_way,
    two_way_from_mean_squares,
)

TABLE = np.array(
    [[1, 0, 0, -1, 1, 0], [0, 0, 1, 0, 1, 0], [1, 1, 0, -1, 1, 0], [0, 0, 0, 0, 1, -1]], dtype=float
)


def test_reproduces_a_table_analysed_elsewhere():
    # statsmodels anova_lm mean squares, Satterthwaite by hand
    r = two_way(TABLE)
    assert r.ms_seeds == pytest.approx(0.15277777777777768)
    assert r.ms_examples == pytest.approx(1.1416666666666666)
    assert r.ms_residual == pytest.approx(0.25277777777777777)
    assert (r.standard_error, r.df) == pytest.approx((0.21810420547170667, 4.779259066448623))
    assert (r.low, r.high) == pytest.approx((-0.3602002921755768, 0.7768669588422435))
    assert (r.name, r.n, r.n_examples) == ("two_way", 4, 6)


def test_mean_squares_equal_the_textbook_sums_for_any_metric():
    d = np.random.default_rng(0).normal(0.7, 1e-3, size=(7, 30)) + np.linspace(0, 1e-3, 30)
    rows, columns, mean = d.mean(axis=1), d.mean(axis=0), d.mean()
    residual = d - rows[:, None] - columns + mean
    r = two_way(d)
    assert r.ms_seeds == pytest.approx(30 * rows.var(ddof=1), rel=1e-9)
    assert r.ms_examples == pytest.approx(7 * columns.var(ddof=1), rel=1e-9)
    assert r.ms_residual == pytest.approx((residual**2).sum() / (6 * 29), rel=1e-9)
    components = (r.variance_seeds, r.variance_examples, r.variance_residual)
    expected = (r.ms_seeds - r.ms_residual, r.ms_examples - r.ms_residual, r.ms_residual)
    assert components == pytest.approx(
        (max(expected[0], 0) / 30, max(expected[1], 0) / 7, expected[2])
    )


def test_whole_numbers_and_their_thousandths_agree():
    d = np.random.default_rng(1).integers(-1, 2, size=(9, 200)).astype(float)
    exact, rounded = two_way(d), two_way(d / 1000)
    assert (rounded.low * 1000, rounded.high * 1000) == pytest.approx((exact.low, exact.high))
    assert rounded.p_value == pytest.approx(exact.p_value)


def test_whole_numbers_do_not_depend_on_the_order_by_a_single_bit():
    rng = np.random.default_rng(2)
    d = rng.integers(-1, 2, size=(9, 200)).astype(float)
    assert two_way(d) == two_way(rng.permutation(rng.permutation(d), axis=1))


def test_the_mean_squares_alone_give_the_same_object():
    r = two_way(TABLE, level=0.9)
    parts = (r.difference, r.ms_seeds, r.ms_examples, r.ms_residual, r.n, r.n_examples)
    assert two_way_from_mean_squares(*parts, level=0.9) == r


def test_another_level_is_the_interval_of_that_level():
    wide = two_way(TABLE, level=0.99)
    assert two_way(TABLE).interval(0.99) == (wide.low, wide.high)


def test_shifts_that_all_examples_share_leave_the_paired_t():
    shifts = np.array([0.1, 0.3, -0.2, 0.5, 0.2])
    r, t = two_way(np.repeat(shifts[:, None], 8, axis=1)), paired_t(np.zeros(5), shifts)
    assert (r.low, r.high, r.p_value) == pytest.approx((t.low, t.high, t.p_value))
    assert r.df == pytest.approx(4)
    assert (r.variance_floor, r.variance_per_seed) == pytest.approx((0, shifts.var(ddof=1)))


def test_seeds_that_agree_leave_the_t_over_examples():
    examples = np.array([1.0, 0, 0, -1, 1, 0, 1])
    r, t = two_way(np.tile(examples, (5, 1))), stats.ttest_1samp(examples, 0)
    assert (r.df, r.p_value) == pytest.approx((6, t.pvalue))
    assert r.variance_per_seed == pytest.approx(0, abs=1e-15)


def test_error_splits_into_what_seeds_average_out_and_what_they_do_not():
    r = two_way(TABLE)
    assert r.variance_per_seed / r.n + r.variance_floor == pytest.approx(r.standard_error**2)


def test_refuses_a_table_without_spread():
    with pytest.raises(UnusableRuns, match="all 3 seed pairs differ by 0.1 .* check that the seed"):
        two_way(np.full((3, 4), 0.1))
    with pytest.raises(UnusableRuns, match="all 3 seed pairs differ by 0 .* reach train"):
        two_way_from_mean_squares(0.0, 0.0, 0.0, 0.0, 3, 4)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.zeros(4), r"shape \(4,\); .* one row a seed, one column a test example"),
        (np.zeros((1, 4)), "1 seed pair is too few .* run at least 2"),
        (np.zeros((4, 1)), '1 test example is too few .* ask for the scope "seeds"'),
        (np.where(np.eye(4, 6) > 0, np.nan, 0), "4 of 4 seed pairs .* leave its pair out"),
    ],
)
def test_refuses_what_is_no_table(table, message):
    with pytest.raises(UnusableRuns, match=message):
        two_way(table)


@pytest.mark.parametrize(
    ("seed_sd", "example_sd"), [(0.0, 0.0), (0.05, 0.0), (0.0, 0.3), (0.05, 0.3)]
)
def test_covers_a_new_draw_of_seeds_and_examples(seed_sd, example_sd):
    rng = np.random.default_rng(3)
    results, seeds_only = [], []
    for _ in range(1500):
        d = seed_sd * rng.normal(size=(10, 1)) + example_sd * rng.normal(size=(1, 80))
        d = d + 0.3 * rng.normal(size=(10, 80))
        results.append(two_way(d))
        seeds_only.append(paired_t(np.zeros(10), d.mean(axis=1)))
    covered = np.mean([r.low <= 0 <= r.high for r in results])
    assert 0.928 <= covered <= 0.985
    if example_sd:  # the t over seeds takes the test set for the world
        assert np.mean([r.low <= 0 <= r.high for r in seeds_only]) < 0.85


def test_refuses_a_table_whose_rows_and_columns_all_cancel_out():
    with pytest.raises(UnusableRuns, match="no spread to test; check that the seed"):
        two_way([[1, -1], [-1, 1]])


# -- degrees of freedom by kurtosis ------------------------------------------------------------


def test_normal_effects_keep_about_their_degrees_of_freedom():
    rng = np.random.default_rng(5)
    d = rng.normal(size=(8, 1)) + rng.normal(size=(1, 4000)) + rng.normal(size=(8, 4000))
    examples, residual = effective_df(d)
    assert 0.9 * 3999 < examples <= 3999
    assert 0.9 * 7 * 3999 < residual <= 7 * 3999


def test_a_few_examples_that_make_all_the_spread_count_as_few():
    d = np.zeros((5, 1000))
    d[:, :10] = 1.0
    d[0, 500] = 1.0  # and one cell that all the rest comes from
    effects = d.mean(axis=0) - d.mean()
    kurtosis = stats.kurtosis(effects, fisher=False)
    examples, residual = effective_df(d)
    assert examples == pytest.approx(2 * 1000 / (kurtosis - 1))
    assert 2 < residual < 2.1


def test_what_does_not_vary_keeps_its_degrees_of_freedom():
    assert effective_df(np.zeros((3, 4))) == (3.0, 6.0)
    assert effective_df([[1, -1], [-1, 1]]) == (1.0, 1.0)


def test_degrees_of_freedom_do_not_depend_on_the_unit():
    d = np.random.default_rng(6).standard_t(3, size=(4, 30))
    assert effective_df(d * 1e-100) == pytest.approx(effective_df(d))
    assert effective_df(d * 1e100) == pytest.approx(effective_df(d))


def test_degrees_of_freedom_need_a_table():
    with pytest.raises(UnusableRuns, match="1 seed pair is too few"):
        effective_df(np.zeros((1, 4)))
