"""Jackknife: what a metric that is no mean over examples says of each group of them."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.analysis.data.predictions import Rows

Floats = NDArray[np.float64]
Statistic = Callable[[Rows], float]  # of some of the test examples

GROUPS = 40  # of test examples, left out in turn
MOST_CLUSTERS = 100  # that are groups themselves


def example_groups(
    n_examples: int,
    *,
    rng: np.random.Generator | None = None,
    clusters: ArrayLike | None = None,
) -> NDArray[np.intp]:
    """Return a random group, 0 to 39, for each test example, equally large up to one.

    Parameters
    ----------
    n_examples : of the test set, in the order that all runs share
    rng : shuffles; the default is the same stream for every run, so that all have the same groups
    clusters : shape (n_examples,), the cluster of each example: examples of one cluster are left
        out together. Up to 100 clusters are the groups
    """
    if clusters is not None:
        names, cluster_of = np.unique(np.asarray(clusters), return_inverse=True)
        if names.size <= MOST_CLUSTERS:
            return cluster_of
        return example_groups(names.size, rng=rng)[cluster_of]
    draw = np.random.default_rng(0) if rng is None else rng
    return draw.permutation(n_examples) % min(GROUPS, n_examples)


def pseudo_values(full: float, without: Floats) -> Floats:
    """Return G * full - (G - 1) * without, one number a group.

    Parameters
    ----------
    full : the statistic of all examples
    without : shape (G,), the statistic without each group

    References
    ----------
    Miller (1974), The jackknife, Biometrika 61(1).
    """
    found: Floats = without.size * full - (without.size - 1) * without
    return found


def group_columns(statistic: Statistic, groups: NDArray[np.intp]) -> Floats:
    """Return a statistic's pseudo-value for each group, moved so that their mean is its value.

    They are the columns of a crossed analysis, as the values of single examples are where a metric
    is a mean over them: their mean is the value of the full sample, and how they vary says how the
    value would vary over other examples.

    Parameters
    ----------
    statistic : of the rows that it is given
    groups : shape (N,), the same for every run

    Returns
    -------
    shape (G,); of a single group the statistic alone, which shows no spread
    """
    full, n_groups = statistic(slice(None)), int(groups.max()) + 1
    if n_groups < 2:
        return np.array([full])
    pseudo = pseudo_values(full, np.array([statistic(groups != g) for g in range(n_groups)]))
    centred: Floats = pseudo + (full - pseudo.mean())
    return centred
