"""Leave one seed out: does a single seed decide the answer?"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference.comparison import Comparison


@dataclass(frozen=True, kw_only=True)
class LeaveOneOut(Comparison):
    """The hull of the n intervals that each leave one seed out.

    `p_value` is the largest of the n, so that it is small only where no seed is needed for it.

    Examples
    --------
    >>> from bench.analysis.inference import paired_t
    >>> base, new = np.zeros(4), np.array([1.0, 2.0, 3.0, 4.0])
    >>> found = leave_one_out(lambda keep: paired_t(base[keep], new[keep]), 4)
    >>> len(found.without), found.without[0].difference  # of 2, 3 and 4
    (4, 3.0)
    """

    without: tuple[Comparison | None, ...]  # without[s] leaves out seed s; None: no answer


def leave_one_out(analyse: Callable[[NDArray[np.intp]], Comparison], n: int) -> LeaveOneOut:
    """Repeat an analysis n times, each time without one seed.

    Parameters
    ----------
    analyse : given the positions of the seeds to keep, returns the analysis of these, for example
        ``lambda keep: two_way(differences[keep])`` or
        ``lambda keep: paired_t(baseline[keep], treatment[keep])``
    n : seed pairs

    Raises
    ------
    UnusableRuns : what `analyse` refuses with all seeds. What it refuses with one left out (two
        pairs; all the others equal) leaves the hull open, with the reason

    References
    ----------
    Quenouille (1956), Biometrika 43(3/4), for leaving out one at a time.

    Examples
    --------
    Student's sleep data; the largest p-value of scipy's ttest_rel without one pair is 0.0078259.

    >>> from bench.analysis.inference import paired_t
    >>> first = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
    >>> second = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
    >>> found = leave_one_out(lambda keep: paired_t(first[keep], second[keep]), 10)
    >>> round(found.p_value, 7)
    0.0078259
    """
    everything = np.arange(n)
    full = analyse(everything)
    answers = [_attempt(analyse, np.delete(everything, seed)) for seed in range(n)]
    kept = [answer for answer in answers if isinstance(answer, Comparison)]
    reasons = [answer for answer in answers if isinstance(answer, str)]
    reasons += [answer.reason for answer in kept if answer.reason]
    lows = [answer.low for answer in kept if answer.low is not None]
    highs = [answer.high for answer in kept if answer.high is not None]
    p_values = [answer.p_value for answer in kept if answer.p_value is not None]
    return LeaveOneOut(
        name="leave_one_out",
        n=n,
        difference=full.difference,
        low=min(lows) if len(lows) == n else None,
        high=max(highs) if len(highs) == n else None,
        level=full.level,
        p_value=max(p_values) if len(p_values) == n else None,
        reason=f"one seed left out: {reasons[0]}" if reasons else None,
        without=tuple(answer if isinstance(answer, Comparison) else None for answer in answers),
    )


def _attempt(
    analyse: Callable[[NDArray[np.intp]], Comparison], keep: NDArray[np.intp]
) -> Comparison | str:
    try:
        return analyse(keep)
    except UnusableRuns as refusal:
        return refusal.what
