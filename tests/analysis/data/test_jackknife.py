import numpy as np
import pytest

from bench.analysis.data.jackknife import example_groups, group_columns, pseudo_values


def test_groups_are_equal_and_those_of_every_run():
    groups = example_groups(1003)
    assert np.ptp(np.bincount(groups)) == 1 and groups.max() == 39
    assert (groups == example_groups(1003)).all()
    assert np.bincount(example_groups(7)).tolist() == [1] * 7


@pytest.mark.parametrize(("n_clusters", "n_groups"), [(12, 12), (100, 100), (101, 40)])
def test_clusters_are_left_out_whole(n_clusters, n_groups):
    clusters = np.random.default_rng(0).integers(0, n_clusters, 3000)
    groups = example_groups(3000, clusters=clusters)
    assert len(set(groups)) == n_groups
    assert all(len(set(groups[clusters == c])) == 1 for c in range(n_clusters))


def test_of_a_mean_the_pseudo_values_are_the_means_of_the_groups():
    values = np.random.default_rng(1).normal(size=400)
    groups = example_groups(400)
    means = [values[groups == g].mean() for g in range(40)]
    assert group_columns(lambda rows: values[rows].mean(), groups) == pytest.approx(means)


def test_the_jackknife_of_miller():
    # The variance of 1, 2, 4: 7/3 in all; without one of them 2, 4.5, 0.5
    values = np.array([1.0, 2.0, 4.0])
    without = np.array([np.delete(values, i).var(ddof=1) for i in range(3)])
    assert pseudo_values(values.var(ddof=1), without) == pytest.approx([3, -2, 6])
