"""Multiplicity: what is left of several comparisons when all of them are counted?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference.comparison import Comparison, require_level
from bench.analysis.inference.distributions import t_isf

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Adjusted(Comparison):
    """One of m comparisons: (low, high) and `p_adjusted` count all m, `p_value` does not.

    The m intervals hold together with coverage `family_level`; p_adjusted < 1 - family_level
    exactly where the interval leaves out zero. Here `level` is that of the single interval.
    """

    m: int
    family_level: float
    p_adjusted: float | None  # Bonferroni
    p_holm: float | None  # a little more powerful; has no interval of its own


def bonferroni_level(level: float, m: int) -> float:
    """Return the level at which each of m intervals must stand for all to hold at `level`."""
    if m < 1:
        raise ValueError(f"m is {m}; it counts the comparisons, 1 or more")
    return 1 - require_level(level) / m


def bonferroni(comparisons: Sequence[Comparison], *, level: float = 0.95) -> tuple[Adjusted, ...]:
    """Adjust comparisons for their number, interval and p from the same error.

    Parameters
    ----------
    comparisons : all of the family, also those without an answer: they count. Those with a
        standard error and degrees of freedom get an interval; one that was made at
        `bonferroni_level` already, as a sequential one is, keeps its own; the others keep their p
    level : coverage of all intervals together

    References
    ----------
    Dunn (1961), JASA 56(293); Holm (1979), Scandinavian Journal of Statistics 6(2).
    """
    if not comparisons:
        return ()
    m = len(comparisons)
    each = bonferroni_level(level, m)
    stepped = holm([1.0 if c.p_value is None else c.p_value for c in comparisons])
    return tuple(
        _adjusted(c, m, level, each, float(p)) for c, p in zip(comparisons, stepped, strict=True)
    )


def _adjusted(c: Comparison, m: int, level: float, each: float, p_holm: float) -> Adjusted:
    low, high, reason = None, None, c.reason
    if math.isclose(c.level, each, rel_tol=1e-12):
        low, high = c.low, c.high
    elif c.standard_error is not None and c.df is not None:
        reach = t_isf((1 - each) / 2, c.df) * c.standard_error
        low, high = c.difference - reach, c.difference + reach
    elif reason is None:
        reason = f"the analysis {c.name} has no standard error and df to widen by"
    kept = ("name", "n", "difference", "p_value", "standard_error", "df")
    return Adjusted(
        **{key: getattr(c, key) for key in kept},
        low=low,
        high=high,
        level=each,
        reason=reason,
        m=m,
        family_level=level,
        p_adjusted=None if c.p_value is None else min(1.0, m * c.p_value),
        p_holm=None if c.p_value is None else p_holm,
    )


def holm(p_values: ArrayLike) -> Floats:
    """Return Holm's adjusted p-values, in the order given.

    Parameters
    ----------
    p_values : shape (m,), each 0 to 1

    Raises
    ------
    UnusableRuns : a value outside 0 to 1

    References
    ----------
    Holm (1979), Scandinavian Journal of Statistics 6(2). Equals statsmodels' multipletests.
    """
    p = _probabilities(p_values)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    return _back(np.minimum(stepped, 1.0), order)


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """Return p-values adjusted for the false discovery rate; for exploratory lists only.

    Parameters
    ----------
    p_values : shape (m,), each 0 to 1

    Raises
    ------
    UnusableRuns : a value outside 0 to 1

    References
    ----------
    Benjamini & Hochberg (1995), JRSS B 57(1). Equals scipy's false_discovery_control.
    """
    p = _probabilities(p_values)
    order = np.argsort(p, kind="stable")
    raised = p[order] * p.size / np.arange(1, p.size + 1)
    stepped = np.minimum.accumulate(raised[::-1])[::-1]
    return _back(np.minimum(stepped, 1.0), order)


def _back(values: Floats, order: NDArray[np.intp]) -> Floats:
    result = np.empty_like(values)
    result[order] = values
    return result


def _probabilities(p_values: ArrayLike) -> Floats:
    p = np.atleast_1d(np.asarray(p_values, dtype=np.float64))
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise UnusableRuns(
            f"p-values {p.tolist()} are not all between 0 and 1; "
            "leave out the analyses without an answer, but count them in m"
        )
    return p
