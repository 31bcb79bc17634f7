"""Pairs of several data sets: their means, and their order for a look at any time."""

import numpy as np
import pytest

from bench.analysis.inference.sequential import anytime
from bench.analysis.study.pairs import Paired

BASE, OTHER = np.zeros(7), np.array([1.0, 10, 2, 11, 3, 12, 4])
STRATA = [0, 1, 0, 1, 0, 1, 0]  # the last pair of the second data set is still missing


def test_a_series_over_data_sets_takes_a_pair_of_each_at_a_time():
    pairs = Paired.in_strata(range(7), BASE, OTHER, STRATA, means=False)
    assert pairs.series.tolist() == [5.5, 6.5, 7.5]
    assert pairs.mean == pytest.approx((2.5 + 11) / 2) and not pairs.alike
    alone = Paired.of(range(7), BASE, OTHER)
    assert alone.series.tolist() == OTHER.tolist()


def test_new_data_sets_are_pairs_of_means():
    pairs = Paired.in_strata(range(7), BASE, OTHER, STRATA, means=True)
    assert pairs.treatment == (2.5, 11.0) and pairs.seeds == (0, 1) and pairs.alike


def test_looks_at_a_series_over_data_sets_keep_their_error_rate():
    """Data sets that differ by much leave the rate alone: they are not drawn."""
    rng, missed = np.random.default_rng(0), 0
    for _ in range(200):
        shifts = np.tile([-3.0, 3.0], 20)
        values = shifts + rng.normal(size=40)
        series = Paired.in_strata(range(40), 0 * values, values, [0, 1] * 20, means=False).series
        looks = (anytime(series[:n], level=0.95) for n in range(3, 21))
        missed += any(not (look.low or -9) <= 0 <= (look.high or 9) for look in looks)
    assert missed / 200 <= 0.05
