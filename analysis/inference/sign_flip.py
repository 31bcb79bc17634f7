"""Sign flip: how often would chance alone, flipping signs, give so large a difference?"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.analysis.inference.comparison import Comparison, paired_values, require_level

Floats = NDArray[np.float64]

EXACT_UP_TO = 20  # seed pairs: 2^20 patterns take about 0.1 s
RANDOM_SUBSETS = 99_999
_BLOCK = 12  # differences whose subset sums are looked up in one table that fits the cache


@dataclass(frozen=True, kw_only=True)
class SignFlip(Comparison):
    """A sign-flip comparison; p and interval come from the same subset means.

    Examples
    --------
    >>> found = sign_flip([0] * 6, [1, 2, 3, 4, 5, 6])  # one pattern of 64 on either side
    >>> found.exact, found.patterns, found.p_value == 2 / 64
    (True, 64, True)
    """

    exact: bool  # every pattern was counted
    patterns: int  # 2^n, or random subsets + 1: p is a multiple of 2 / patterns
    k: int  # the limits are the k-th smallest and k-th largest subset mean; 0: unbounded


def sign_flip(
    baseline: ArrayLike,
    treatment: ArrayLike,
    *,
    level: float = 0.95,
    rng: np.random.Generator | None = None,
) -> SignFlip:
    """Compare two variants, assuming only that without effect a difference is as likely as -it.

    Flipping the signs outside a subset of seeds gives a total as extreme as the observed one
    exactly when the subset's mean lies on the other side of zero. So the means of the non-empty
    subsets hold both the test and the interval, and p <= 1 - level whenever the interval leaves
    out zero. Equal differences have a p, and an interval of no width.

    Parameters
    ----------
    baseline, treatment : shape (n,), one metric value a seed, same seed order
    level : coverage of the interval, between 0 and 1
    rng : draws 99,999 subsets where there are more than 20 pairs; the default is the same stream
        every time, so that a report can be recomputed to the digit

    Raises
    ------
    UnusableRuns : different lengths, fewer than two pairs, or a value that is not finite

    References
    ----------
    Fisher (1935), The Design of Experiments, sec. 21; Hartigan (1969), JASA 64(328), typical
    values; Phipson & Smyth (2010), SAGMB 9(1), for the + 1.

    Examples
    --------
    Darwin's plants, differences in eighths of an inch: Fisher counts 863 of 32,768 patterns on
    either side.

    >>> taller = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    >>> found = sign_flip([0] * 15, taller)
    >>> found.p_value == 2 * 863 / 32768, found.patterns
    (True, 32768)
    """
    alpha = require_level(level)
    both = paired_values(baseline, treatment)
    diff = both[1] - both[0]
    mean = float(diff.mean())
    # One orientation and order, so that neither seed order nor the name of an arm changes a draw.
    # A mean of zero but for rounding has no sign.
    sign = -1.0 if mean < -1e-12 * float(np.abs(diff).max()) else 1.0
    ordered = np.sort(sign * diff)
    exact = diff.size <= EXACT_UP_TO
    if exact:
        sums, sizes = subset_sums(ordered)[1:], subset_sums(np.ones(diff.size))[1:]
    else:
        sums, sizes = random_subsets(ordered, rng if rng is not None else np.random.default_rng(0))
    # Sums that are zero but for rounding are zero: ties of a grid metric count as ties.
    sums[np.abs(sums) <= 0.5e-9 * float(np.abs(diff).sum())] = 0.0
    patterns = sums.size + 1
    beyond = min(int((sums <= 0).sum()), int((sums >= 0).sum()))
    k = math.floor(alpha / 2 * patterns + 1e-9)
    low, high = _order_statistics(sums / sizes, k)
    limits = (low, high) if sign > 0 or low is None or high is None else (-high, -low)
    return SignFlip(
        name="sign_flip",
        n=diff.size,
        difference=mean,
        low=limits[0],
        high=limits[1],
        level=level,
        p_value=min(1.0, 2 * (beyond + 1) / patterns),
        reason=None if k else _unbounded(diff.size, level, exact=exact),
        exact=exact,
        patterns=patterns,
        k=k,
    )


def subset_sums(values: Floats) -> Floats:
    """Return the sums of all 2^n subsets; bit i of a sum's position says that value i is in it."""
    sums = np.zeros(2**values.size)
    for i, value in enumerate(values):
        np.add(sums[: 2**i], value, out=sums[2**i : 2 ** (i + 1)])
    return sums


def random_subsets(values: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return sums and sizes of 99,999 random non-empty subsets, each equally likely."""
    sums, sizes = _draw(values, RANDOM_SUBSETS, rng)
    while (empty := np.flatnonzero(sizes == 0)).size:
        sums[empty], sizes[empty] = _draw(values, empty.size, rng)
    return sums, sizes


def _draw(values: Floats, count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    sums, sizes = np.zeros(count), np.zeros(count)
    for start in range(0, values.size, _BLOCK):
        block = values[start : start + _BLOCK]
        chosen = rng.integers(2**block.size, size=count)
        sums += subset_sums(block)[chosen]
        sizes += subset_sums(np.ones(block.size))[chosen]
    return sums, sizes


def _order_statistics(means: Floats, k: int) -> tuple[float | None, float | None]:
    if k == 0:
        return None, None
    means.partition((k - 1, means.size - k))
    return float(means[k - 1]), float(means[means.size - k])


def _unbounded(n: int, level: float, *, exact: bool) -> str:
    if not exact:
        return f"unbounded: {RANDOM_SUBSETS} random subsets cannot reach a level of {level:g}"
    return (
        f"unbounded: with {n} pairs the exact p cannot fall below {2.0 ** (1 - n):g}, "
        f"so no finite interval has level {level:g}"
    )
