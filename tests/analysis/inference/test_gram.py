import numpy as np
import pytest

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference.gram import gram
from bench.analysis.inference.two_way import mean_squares, two_way, two_way_from_mean_squares


def table(kind, shape=(12, 50)):
    rng = np.random.default_rng(4)
    if kind == "whole":
        return rng.integers(-1, 2, size=shape).astype(float)
    effects = rng.normal(size=(1, shape[1])) + 0.3 * rng.normal(size=(shape[0], 1))
    return 0.1 + effects + 0.5 * rng.normal(size=shape)


def subsets(n):
    yield range(n)
    yield from (range(k) for k in range(2, n))  # looks
    yield from ([i for i in range(n) if i != left] for left in range(n))  # one left out
    yield [n - 1, 0, 3]


@pytest.mark.parametrize("kind", ["whole", "any"])
def test_mean_squares_of_every_subset_of_seeds_follow(kind):
    d = table(kind)
    whole = gram(d)
    for keep in subsets(len(d)):
        found, expected = whole.mean_squares(keep)[:6], mean_squares(d[list(keep)])[:6]
        assert found == expected if kind == "whole" else found == pytest.approx(expected, rel=1e-12)


def test_the_error_of_all_pairs_is_of_the_last_bits():
    d = np.random.default_rng(5).normal(1e3, 1, size=(20, 2000))  # a large common difference
    assert gram(d).mean_squares()[:6] == pytest.approx(mean_squares(d)[:6], rel=1e-12)
    e = table("any", (20, 10_000))
    assert gram(e).mean_squares()[:6] == pytest.approx(mean_squares(e)[:6], rel=5e-15)


@pytest.mark.parametrize("d", [np.full((4, 9), 0.1), np.zeros((4, 9)), np.full((3, 5), 1e-8 / 3)])
def test_equal_differences_have_no_spread(d):
    assert gram(d).mean_squares()[1:4] == (0.0, 0.0, 0.0)
    for analyse in (lambda: two_way(d), lambda: two_way_from_mean_squares(*gram(d).mean_squares())):
        with pytest.raises(UnusableRuns, match="no spread"):
            analyse()


@pytest.mark.parametrize("d", [[1.0, 2.0], [[1.0, np.nan], [0.0, 1.0]]])
def test_what_is_no_table_is_refused(d):
    with pytest.raises(UnusableRuns):
        gram(d)


def test_one_row_or_one_example_has_no_mean_squares():
    for d in ([[1.0, 0.0, 2.0]], [[1.0], [2.0]]):
        with pytest.raises(UnusableRuns, match="too few"):
            gram(d).mean_squares()
