"""Interquartile mean: the average run, without the best and the worst quarter of all runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference.comparison import require_level

Floats = NDArray[np.float64]

DRAWS = 2_000


@dataclass(frozen=True, kw_only=True)
class InterquartileMean:
    """An interquartile mean over runs and data sets, with its bootstrap interval.

    Examples
    --------
    >>> runs = [[1.0, 2.0, 3.0, 4.0], [2.0, 3.0, 4.0, 9.0]]
    >>> r = interquartile_mean(runs, rng=np.random.default_rng(0))
    >>> r.low <= r.value <= r.high
    True
    """

    value: float
    low: float
    high: float
    level: float


def interquartile_mean(
    runs: Sequence[ArrayLike],
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    draws: int = DRAWS,
) -> InterquartileMean:
    """Return the mean of the middle half of all runs of several data sets.

    Runs are drawn anew within each data set (a stratified bootstrap), so the interval is for new
    runs on these data sets; its limits are percentiles.

    Parameters
    ----------
    runs : a data set's runs each, shape (S_t,), two or more; on one scale
    rng : draws the runs
    level : coverage of the interval
    draws : bootstrap samples

    Raises
    ------
    UnusableRuns : no data set, one with fewer than two runs, or a value that is not finite

    References
    ----------
    Agarwal et al. (2021), Deep reinforcement learning at the edge of the statistical precipice,
    NeurIPS; equals rliable's aggregate_iqm. With fewer than about 5 runs percentile intervals are
    too narrow (the same paper, fig. 6).

    Examples
    --------
    >>> runs = [[1.0, 2.0, 3.0, 4.0], [2.0, 3.0, 4.0, 9.0]]
    >>> r = interquartile_mean(runs, rng=np.random.default_rng(0))
    >>> r.value
    3.0
    """
    tables = [np.asarray(values, dtype=np.float64) for values in runs]
    if not tables or min(table.size for table in tables) < 2:
        raise UnusableRuns("an interquartile mean takes two runs or more of every data set")
    if not all(np.isfinite(table).all() for table in tables):
        raise UnusableRuns("a run has a value that is not finite: leave failed runs out")
    drawn = np.concatenate([rng.choice(t, size=(draws, t.size)) for t in tables], axis=1)
    means = _middle_half(drawn)
    tail = require_level(level) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    value = float(_middle_half(np.concatenate(tables)[None])[0])
    return InterquartileMean(value=value, low=float(low), high=float(high), level=level)


def _middle_half(rows: Floats) -> Floats:
    """Return the mean of each row without its lowest and its highest quarter."""
    cut = rows.shape[1] // 4
    kept = np.sort(rows, axis=1)[:, cut : rows.shape[1] - cut]
    found: Floats = kept.mean(axis=1)
    return found
