"""Interquartile mean: the average run, without the best and the worst quarter of all runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference.comparison import (
    Comparison,
    no_spread,
    require_level,
    seed_differences,
)

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


def iqm_difference(
    baseline: ArrayLike,
    treatment: ArrayLike,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    strata: ArrayLike | None = None,
    paired: bool = True,
    draws: int = DRAWS,
) -> Comparison:
    """Compare the interquartile means of two variants: is the average run of one better?

    A companion only, without a p-value. Pairs are drawn anew whole, within each stratum; runs that
    share nothing are drawn an arm at a time. Limits are percentiles, as rliable's are, and so a
    little narrow at few runs: where 95 % is asked for, 8 pairs of normal values covered 93.7 %, 20
    pairs 94.3 %, 8 pairs of exponential ones 93.1 % of 3,000 simulations.

    Parameters
    ----------
    baseline, treatment : shape (n,), one metric value a run, in the same order where paired
    rng : draws the runs
    level : coverage of the interval, between 0 and 1
    strata : shape (n,), the data set of each pair; None: one
    paired : whether the runs of a seed belong together; else the arms may differ in number
    draws : bootstrap samples

    Raises
    ------
    UnusableRuns : fewer than two runs, a value that is not finite, or no spread

    References
    ----------
    Agarwal et al. (2021), Deep reinforcement learning at the edge of the statistical precipice,
    NeurIPS.

    Examples
    --------
    >>> base, other = [1.0, 2.0, 3.0, 4.0], [2.0, 3.5, 4.0, 9.0]
    >>> iqm_difference(base, other, rng=np.random.default_rng(0)).difference
    1.25
    """
    tail = require_level(level) / 2
    arms = [np.asarray(values, dtype=np.float64) for values in (baseline, treatment)]
    if paired:
        seed_differences(*arms)
        low, high = np.sort(arms, axis=0)
        order = np.lexsort((arms[0], low, high))  # neither seed order nor an arm's name matters
        of = np.zeros(low.size) if strata is None else np.asarray(strata)
        rows = [order[of[order] == t] for t in np.unique(of)]
        drawn = np.concatenate([rng.choice(own, size=(draws, own.size)) for own in rows], axis=1)
        bases, others = (_middle_half(values[drawn]) for values in arms)
    else:
        apart = np.concatenate([values - values.mean() for values in arms])
        if no_spread(apart, scale=float(np.abs(np.concatenate(arms)).max())):
            raise UnusableRuns("the runs of each arm are all equal, so there is no spread to test")
        bases, others = (
            _middle_half(rng.choice(np.sort(values), size=(draws, values.size))) for values in arms
        )
    limits = np.quantile(others - bases, (tail, 1 - tail))
    base, other = (float(_middle_half(values[None])[0]) for values in arms)
    return Comparison(
        name="iqm",
        n=min(values.size for values in arms),
        difference=other - base,
        low=float(limits[0]),
        high=float(limits[1]),
        level=level,
        reason="an interval of percentiles has no p-value",
    )


def _middle_half(rows: Floats) -> Floats:
    """Return the mean of each row without its lowest and its highest quarter."""
    cut = rows.shape[1] // 4
    kept = np.sort(rows, axis=1)[:, cut : rows.shape[1] - cut]
    found: Floats = kept.mean(axis=1)
    return found
