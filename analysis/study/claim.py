"""Claim: what is a gain worth that was seen in one run of each arm?"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference.comparison import ROUNDING, no_spread, paired_values, require_level
from bench.analysis.inference.distributions import chi2_isf, t_isf
from bench.analysis.inference.two_way import TwoWay, two_way

Floats = NDArray[np.float64]

Reading = Literal["compatible", "larger", "smaller", "contradicted"]


@dataclass(frozen=True, kw_only=True)
class Chance:
    """How often one run of each arm shows at least the claimed gain when there is no effect."""

    chance: float
    low: float  # from the chi-square limits of the spread
    high: float
    level: float
    sd: float  # of the difference of two runs, metric units
    df: float  # of that sd


@dataclass(frozen=True, kw_only=True)
class Optimism:
    """By how much the best validation epoch flatters: its accuracy less the test accuracy there."""

    n: int  # seeds
    per_run: tuple[float, ...]
    mean: float
    low: float | None
    high: float | None
    level: float
    standard_error: float | None
    df: float | None
    reason: str | None = None


def chance_in_one_pair(
    claim: float,
    baseline: ArrayLike,
    treatment: ArrayLike,
    *,
    grid_step: float = 0.0,
    level: float = 0.95,
) -> Chance:
    """Return the chance of the claimed gain without effect, for two runs that share a seed.

    The normal tail beyond the claim, with the spread of the observed paired differences.

    Parameters
    ----------
    claim : claimed gain, in metric units; its size counts, not its sign
    baseline, treatment : shape (n,), the claim's own measure (best validation accuracy over the
        epochs) of each seed
    grid_step : smallest step of that measure, 1 / N_val for an accuracy. A pair shows at least
        the claim from the first step on that reaches it, and the normal tail begins half a step
        before that one
    level : coverage of (low, high)

    Raises
    ------
    UnusableRuns : different lengths, fewer than two pairs, or a value that is not finite
    """
    both = paired_values(baseline, treatment)
    sd = float((both[1] - both[0]).std(ddof=1))
    return _chance(claim, sd, both.shape[1] - 1, grid_step, level)


def chance_in_two_runs(
    claim: float,
    baseline: ArrayLike,
    treatment: ArrayLike,
    *,
    grid_step: float = 0.0,
    level: float = 0.95,
) -> Chance:
    """Return the same for two runs that do not share a seed, as a published pair may not have.

    The variance is the sum of both arms'; its degrees of freedom are Welch's.

    Parameters
    ----------
    claim, baseline, treatment, grid_step, level : as in `chance_in_one_pair`

    Raises
    ------
    UnusableRuns : different lengths, fewer than two pairs, or a value that is not finite
    """
    both = paired_values(baseline, treatment)
    first, second = (float(v) for v in both.var(axis=1, ddof=1))
    df = float(both.shape[1] - 1)
    if first + second > 0:
        df *= (first + second) ** 2 / (first**2 + second**2)
    return _chance(claim, math.sqrt(first + second), df, grid_step, level)


def _chance(claim: float, sd: float, df: float, grid_step: float, level: float) -> Chance:
    alpha = require_level(level)
    beyond = _first_step(claim, grid_step) - grid_step / 2
    limits = (sd * math.sqrt(df / chi2_isf(a, df)) for a in (alpha / 2, 1 - alpha / 2))
    low, high = sorted(_tail(beyond, s) for s in limits)
    return Chance(chance=_tail(beyond, sd), low=low, high=high, level=level, sd=sd, df=df)


def _first_step(claim: float, grid_step: float) -> float:
    """Return the smallest difference on the grid that is at least the claim's size."""
    if grid_step == 0:
        return abs(claim)
    return math.ceil(abs(claim) / grid_step - 1e-9) * grid_step


def _tail(beyond: float, sd: float) -> float:
    if sd == 0:  # runs that never differ show no gain, unless any difference counts as one
        return 1.0 if beyond <= 0 else 0.0
    return float(special.ndtr(-beyond / sd))


def flipped_share(
    claim: float, baseline: ArrayLike, treatment: ArrayLike, *, grid_step: float = 0.0
) -> float:
    """Return the share of the observed pairs that show the claimed gain when arms are swapped too.

    Without effect a pair's difference is as likely as its negative, so each pair counts half with
    either sign; no normal distribution is assumed.

    Parameters
    ----------
    claim, baseline, treatment, grid_step : as in `chance_in_one_pair`
    """
    both = paired_values(baseline, treatment)
    diff = both[1] - both[0]
    beyond = _first_step(claim, grid_step) - grid_step / 2
    rounding = ROUNDING * float(np.abs(both).max())
    return float(((diff >= beyond - rounding).mean() + (-diff >= beyond - rounding).mean()) / 2)


def likelihood_ratio(claim: float, sd: float) -> float | None:
    """Return how much likelier the claimed single pair is under the claimed effect than under none.

    Parameters
    ----------
    claim : claimed gain, and the difference seen in the one pair; metric units
    sd : of the difference of two runs, as in `Chance.sd`

    Returns
    -------
    1 or more; None where sd is 0, since a pair that shows any gain then settles it
    """
    if sd == 0:
        return None
    return math.exp(min(0.5 * (claim / sd) ** 2, 709.0))


def best_epoch_optimism(validation: ArrayLike, test: ArrayLike, *, level: float = 0.95) -> Optimism:
    """Return the best epoch's validation accuracy minus the test accuracy at that epoch.

    The interval is the two-way one, for new seeds and new examples. Validation and test examples
    are two samples, so each adds its own variance to that of the seeds.

    Parameters
    ----------
    validation : shape (n, N_val), correctness of each seed on each validation example at its best
        epoch; or shape (n,), only its accuracy: then the validation examples count as fixed
    test : shape (n, N_test), correctness on the test examples at the same epoch. Where a seed has
        several arms, give their mean, since arms of a seed are no independent runs
    level : coverage of the interval, between 0 and 1

    Raises
    ------
    UnusableRuns : different numbers of seeds, fewer than two, or a value that is not finite
    """
    alpha = require_level(level)
    val, tested = np.asarray(validation, dtype=np.float64), np.asarray(test, dtype=np.float64)
    if val.ndim not in (1, 2) or tested.ndim != 2 or len(val) != len(tested):
        raise UnusableRuns(
            f"validation has shape {val.shape} and test {tested.shape}; give one row a seed in "
            "both: (n, N_val) or (n,), and (n, N_test)"
        )
    accuracy = val if val.ndim == 1 else val.mean(axis=1)
    runs = paired_values(tested.mean(axis=1), accuracy)
    gap = runs[1] - runs[0]
    mean, n = float(gap.mean()), gap.size
    tables = [tested] if val.ndim == 1 else [tested, val]
    variance, df = _crossed_variance(gap, tables)
    reach = t_isf(alpha / 2, df) * math.sqrt(variance) if variance > 0 else None
    return Optimism(
        n=n,
        per_run=tuple(float(g) for g in gap),
        mean=mean,
        low=None if reach is None else mean - reach,
        high=None if reach is None else mean + reach,
        level=level,
        standard_error=None if reach is None else math.sqrt(variance),
        df=None if reach is None else df,
        reason=f"no spread: all {n} runs differ by {mean:g}" if reach is None else None,
    )


def _crossed_variance(gap: Floats, tables: list[Floats]) -> tuple[float, float]:
    """Return variance and df of the mean gap, over seeds and each table's own examples.

    With one table this is V and df of `two_way`: (MS_S + MS_I - MS_E) / (S N), floored.
    """
    n = gap.size
    seeds = 0.0 if no_spread(gap, scale=1.0) else float(gap.var(ddof=1)) / n
    parts = [(seeds, 1.0, float(n - 1))]  # variance, sign, df
    for table in tables:
        answer = _two_way_or_none(table)
        if answer is not None:
            cells, examples = table.size, answer.n_examples - 1
            parts.append((answer.ms_examples / cells, 1.0, float(examples)))
            parts.append((answer.ms_residual / cells, -1.0, float(examples * (n - 1))))
    total = sum(sign * value for value, sign, _ in parts)
    variance = max(total, *(value for value, sign, _ in parts if sign > 0))
    if variance <= 0:
        return 0.0, 1.0
    return variance, max(1.0, 1 / sum((value / variance) ** 2 / df for value, _, df in parts))


def _two_way_or_none(table: Floats) -> TwoWay | None:
    if table.shape[1] < 2 or no_spread(table.ravel(), scale=1.0):
        return None
    return two_way(table)


def read_claim(
    claim: float, low: float | None, high: float | None, *, equivalent: bool = False
) -> Reading:
    """Return how a claimed gain reads against the verdict interval.

    Parameters
    ----------
    claim : claimed gain, in the units and with the sign of the interval
    low, high : the verdict interval; None is unbounded
    equivalent : the verdict is that the arms match (an outside claim is then contradicted)

    Returns
    -------
    compatible : inside; contradicted : outside, and the interval on the other side of zero or
    the arms equivalent; larger, smaller : than these seeds support
    """
    if claim < 0:
        return read_claim(
            -claim,
            None if high is None else -high,
            None if low is None else -low,
            equivalent=equivalent,
        )
    above = high is not None and claim > high
    if not above and not (low is not None and claim < low):
        return "compatible"
    if equivalent or (high is not None and high < 0):
        return "contradicted"
    return "larger" if above else "smaller"
