"""Comparison: the result of one test, frozen, in plain floats."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference.distributions import t_isf, t_sf

# Share of the largest value below which a difference is rounding: 64 units in its last place. More
# would swallow real differences of values with a large offset.
ROUNDING = 64 * float(np.finfo(np.float64).eps)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What one analysis says about treatment minus baseline, in metric units.

    A limit or p-value that is unbounded or cannot be had is None, and `reason` says why.
    """

    name: str
    n: int  # seed pairs
    difference: float  # positive: treatment is higher
    low: float | None = None
    high: float | None = None
    level: float  # coverage of (low, high)
    p_value: float | None = None  # two-sided
    standard_error: float | None = None
    df: float | None = None
    reason: str | None = None

    @classmethod
    def student(
        cls, *, difference: float, error: float, df: float, level: float, **more: Any
    ) -> Self:
        """Return a mean difference with this standard error by Student's t."""
        reach = t_isf(require_level(level) / 2, df) * error
        return cls(
            difference=difference,
            low=difference - reach,
            high=difference + reach,
            level=level,
            p_value=2 * t_sf(abs(difference) / error, df),
            standard_error=error,
            df=df,
            **more,
        )


def paired_values(baseline: ArrayLike, treatment: ArrayLike) -> NDArray[np.float64]:
    """Return both arms as one checked float array.

    Parameters
    ----------
    baseline, treatment : shape (n,), one metric value a seed, same seed order

    Returns
    -------
    shape (2, n): baseline, then treatment

    Raises
    ------
    UnusableRuns : different lengths, fewer than two pairs, or a value that is not finite
    """
    first = np.atleast_1d(np.asarray(baseline, dtype=np.float64))
    second = np.atleast_1d(np.asarray(treatment, dtype=np.float64))
    if first.ndim != 1 or first.shape != second.shape:
        raise UnusableRuns(
            f"baseline has shape {first.shape} and treatment {second.shape}; "
            "a paired analysis needs one value a seed in each, in the same seed order"
        )
    if first.size < 2:
        raise UnusableRuns(
            f"{first.size} seed pair is too few to see a spread; run at least 2, better 20"
        )
    both = np.stack([first, second])
    if not np.isfinite(both).all():
        where = np.flatnonzero(~np.isfinite(both).all(axis=0))
        raise UnusableRuns(
            f"{where.size} of {first.size} seed pairs hold a value that is not finite, the first "
            f"at position {where[0]}; a failed run has no value: leave its pair out and count it"
        )
    return both


def seed_differences(baseline: ArrayLike, treatment: ArrayLike) -> NDArray[np.float64]:
    """Return treatment minus baseline for each seed, refusing values without a spread.

    Parameters
    ----------
    baseline, treatment : shape (n,), one metric value a seed, same seed order

    Raises
    ------
    UnusableRuns : what `paired_values` refuses, or all differences equal up to rounding
    """
    both = paired_values(baseline, treatment)
    diff: NDArray[np.float64] = both[1] - both[0]
    if no_spread(diff, scale=float(np.abs(both).max())):
        raise UnusableRuns(
            f"all {diff.size} seed pairs differ by {diff[0]:g}, so there is no spread to test; "
            "check that the seed and the variant's settings reach train()"
        )
    return diff


def no_spread(diff: NDArray[np.float64], *, scale: float) -> bool:
    """Tell whether all differences are equal up to rounding of values as large as `scale`."""
    return bool(np.ptp(diff) <= ROUNDING * scale)


def require_level(level: float) -> float:
    """Return the two-sided error rate 1 - level, refusing a level that is no coverage.

    Raises
    ------
    ValueError : level not strictly between 0 and 1
    """
    if not 0 < level < 1:
        raise ValueError(
            f"level is {level:g}; it is the coverage of the interval, between 0 and 1: "
            "write 0.95 for 95 %"
        )
    return 1 - level
