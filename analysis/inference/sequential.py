"""Sequential: how may one look before all seeds are in, and still promise the error rate?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference.comparison import Comparison, no_spread, require_level
from bench.analysis.inference.distributions import normal_isf, normal_sf, standard_error, t_isf

Floats = NDArray[np.float64]

PRIOR_VARIANCE = 0.5  # g: of the standardized difference, in the anytime mixture
SMALLEST_P = 1e-9  # of a group-sequential analysis; below it the integration has no digits left


@dataclass(frozen=True, kw_only=True)
class Group(Comparison):
    """A comparison at one of a few planned looks."""

    looks: tuple[int, ...]  # seed pairs at the looks so far, this one last
    planned: int  # seed pairs when all are in
    z: float | None  # this look's boundary for a normal statistic; None: nothing to spend
    t: float | None  # the same boundary for the t statistic


@dataclass(frozen=True, kw_only=True)
class Anytime(Comparison):
    """A comparison that holds under a look after every pair."""

    log_e: float  # natural logarithm of the evidence against no difference
    log_e_path: tuple[float, ...]  # after 1, 2, ... n pairs, in the order given
    half_width: float | None  # metric units; None: unbounded or no spread

    @property
    def e_value(self) -> float:
        """The evidence itself, kept below the largest float."""
        return math.exp(min(self.log_e, 709.0))

    @property
    def running_p(self) -> float:
        """The smallest p on the path; for drawing it, `p_value` is the one that is quoted."""
        return math.exp(-max(self.log_e_path))


def planned_looks(planned: int) -> tuple[int, ...]:
    """Return the looks of the group design: half, three quarters and all of the seed pairs."""
    return tuple(sorted({-(-planned // 2), -(-3 * planned // 4), planned}))


def spending(time: float, *, alpha: float) -> float:
    """Return the error rate spent by an information time in (0, 1], O'Brien-Fleming type."""
    return float(4 * normal_sf(normal_isf(alpha / 4) / math.sqrt(time)))


def boundaries(
    looks: Sequence[int], *, planned: int | None = None, alpha: float = 0.05
) -> tuple[float, ...]:
    """Return the two-sided boundary of a normal statistic at each look.

    At each look the boundary spends what the error-spending function has grown by since the look
    before; the statistic's joint distribution is integrated look by look.

    Parameters
    ----------
    looks : seed pairs at each look, increasing
    planned : seed pairs when all are in, the last look by default; a look beyond it has nothing
        left to spend and an infinite boundary
    alpha : two-sided error rate over all looks

    Raises
    ------
    ValueError : looks that do not increase from 1 on, or an alpha outside 0 to 1

    References
    ----------
    Lan & DeMets (1983), Biometrika 70(3); Armitage, McPherson & Rowe (1969), JRSS A 132(2).
    """
    if not looks or looks[0] < 1 or any(b <= a for a, b in zip(looks, looks[1:], strict=False)):
        raise ValueError(f"looks are {list(looks)}; they must increase, each 1 pair or more")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha:g}; it is an error rate between 0 and 1, such as 0.05")
    total = planned if planned is not None else looks[-1]
    bounds: list[float] = []
    # Brownian motion at the last look's time: where it still is, and with which probability.
    place, mass, before, spent = np.zeros(1), np.ones(1), 0.0, 0.0
    for look in looks:
        time = min(1.0, look / total)
        if time == before:
            bounds.append(math.inf)
            continue
        step, spend = math.sqrt(time - before), spending(time, alpha=alpha)
        edge = _edge(place, mass, step, spend - spent, farthest=40 * math.sqrt(time))
        bounds.append(edge / math.sqrt(time))
        place, mass = _survivors(place, mass, step, min(edge, 9 * math.sqrt(time)))
        before, spent = time, spend
    return tuple(bounds)


def _edge(place: Floats, mass: Floats, step: float, spend: float, *, farthest: float) -> float:
    """Return the |position| beyond which a step from `place` ends with probability `spend`."""
    from scipy import optimize

    def excess(edge: float) -> float:
        return 2 * float(special.ndtr((place - edge) / step) @ mass) - spend

    if excess(0.0) <= 0:
        return 0.0
    if excess(farthest) >= 0:
        return math.inf
    return float(optimize.brentq(excess, 0.0, farthest, xtol=1e-12, maxiter=500))


def _survivors(place: Floats, mass: Floats, step: float, edge: float) -> tuple[Floats, Floats]:
    """Return places within the edge after a step, and their probabilities (Simpson's rule)."""
    if edge == 0:
        return np.zeros(1), np.zeros(1)
    half = max(32, math.ceil(10 * edge / step))
    here = np.linspace(-edge, edge, 2 * half + 1)
    simpson = np.full(here.size, 2.0)
    simpson[1::2], simpson[[0, -1]] = 4.0, 1.0
    density = np.exp(-0.5 * ((here[:, None] - place) / step) ** 2) @ mass
    return here, density * simpson * (edge / half / 3) / (step * math.sqrt(2 * math.pi))


def group(
    fixed: Comparison, looks: Sequence[int], *, planned: int, level: float | None = None
) -> Group:
    """Widen a comparison to what its look allows.

    The boundary z of the normal statistic is used as the t with the same tail, at the degrees of
    freedom of the comparison itself (n - 1 for paired t). p is the smallest error rate whose
    boundary at this look the statistic reaches, so p < 1 - level exactly where the interval
    leaves out zero; it is not quoted below 1e-9.

    Parameters
    ----------
    fixed : the paired t or two-way comparison of the pairs so far
    looks : seed pairs at every look so far; the last one is the comparison's n
    planned : seed pairs when all are in
    level : coverage over all looks together; the comparison's own by default

    Raises
    ------
    UnusableRuns : a comparison without standard error or degrees of freedom
    ValueError : looks that do not end at the comparison's n

    References
    ----------
    Jennison & Turnbull (1989), JRSS B 51(3), repeated confidence intervals and p-values.
    """
    level = fixed.level if level is None else level
    alpha = require_level(level)
    if looks[-1] != fixed.n:
        raise ValueError(f"the last look is at {looks[-1]} pairs, the comparison has {fixed.n}")
    if fixed.standard_error is None or fixed.df is None:
        raise UnusableRuns(
            f"the analysis {fixed.name} has no standard error, so no group-sequential interval; "
            "pass a paired t or two-way comparison"
        )
    z = boundaries(looks, planned=planned, alpha=alpha)[-1]
    t = _t_of(z, fixed.df)
    bounded = math.isfinite(t)
    reach = t * fixed.standard_error
    observed = abs(fixed.difference) / fixed.standard_error
    return Group(
        name="group",
        n=fixed.n,
        difference=fixed.difference,
        low=fixed.difference - reach if bounded else None,
        high=fixed.difference + reach if bounded else None,
        level=level,
        p_value=_repeated_p(observed, looks, planned, fixed.df),
        standard_error=fixed.standard_error,
        df=fixed.df,
        reason=None if bounded else f"unbounded: nothing left to spend at {fixed.n} pairs",
        looks=tuple(looks),
        planned=planned,
        z=z if bounded else None,
        t=t if bounded else None,
    )


def _t_of(z: float, df: float) -> float:
    return t_isf(normal_sf(z), df) if math.isfinite(z) else math.inf


def _repeated_p(observed: float, looks: Sequence[int], planned: int, df: float) -> float:
    from scipy import optimize

    def short(log_alpha: float) -> float:  # by how much the statistic misses the boundary
        bound = boundaries(looks, planned=planned, alpha=math.exp(log_alpha))[-1]
        return min(_t_of(bound, df), 1e9) - min(observed, 1e8)

    least, most = math.log(SMALLEST_P), math.log1p(-1e-9)
    if short(most) >= 0:
        return 1.0
    if short(least) <= 0:
        return SMALLEST_P
    return math.exp(float(optimize.brentq(short, least, most, xtol=1e-10)))


def anytime(
    differences: ArrayLike,
    *,
    level: float = 0.95,
    g: float = PRIOR_VARIANCE,
    variance_floor: float = 0.0,
    floor_df: float = math.inf,
) -> Anytime:
    """Compare two variants so that one may look after every pair, and stop when one likes.

    The evidence is the likelihood ratio of a standardized difference spread N(0, g) against none;
    the spread itself is unknown. Its p is 1 / e of all n pairs, from the same mixture as the
    interval. Under strong skew the error rate is no longer kept (up to .11; the fixed t .078).

    Parameters
    ----------
    differences : shape (n,), treatment minus baseline of each seed, in plan order; one is enough
        for an answer, though an unbounded one
    level : coverage at all looks together
    g : variance of the standardized difference in the mixture
    variance_floor : `TwoWay.variance_floor`, to cover new test examples too. They are drawn once
        and no number of seeds averages them out; p is then found from the wider interval
    floor_df : degrees of freedom behind it: few test examples know their own spread badly

    Raises
    ------
    UnusableRuns : no difference, or one that is not finite

    References
    ----------
    Lindon, Ham, Tingley & Bojinov (2022), Anytime-valid linear models; Wang & Ramdas (2024),
    Anytime-valid t-tests and confidence sequences. Equals R's avlm with its g = 1 / g.
    """
    alpha = require_level(level)
    d = _finite_differences(differences)
    n, mean, path = d.size, float(d.mean()), _log_e_path(d, g)
    flat = n > 1 and no_spread(d, scale=float(np.abs(d).max()))
    error = 0.0 if n < 2 else standard_error(d)
    floor = _Floor(variance_floor, floor_df)
    reach = _reach(alpha, error, n, g, floor)
    width = None if flat or math.isinf(reach) else reach
    return Anytime(
        name="anytime",
        n=n,
        difference=mean,
        low=None if width is None else mean - width,
        high=None if width is None else mean + width,
        level=level,
        p_value=None if flat else _anytime_p(abs(mean), path[-1], error, n, g, floor),
        standard_error=None if n < 2 or flat else error,
        reason=_no_interval(n, mean, level, flat=flat) if width is None else None,
        log_e=path[-1],
        log_e_path=path,
        half_width=width,
    )


def _finite_differences(differences: ArrayLike) -> Floats:
    d = np.atleast_1d(np.asarray(differences, dtype=np.float64))
    if d.ndim != 1 or d.size == 0 or not np.isfinite(d).all():
        raise UnusableRuns(
            f"differences of shape {d.shape} are not one finite number a seed pair; "
            "a failed run has no value: leave its pair out and count it"
        )
    return d


def _log_e_path(d: Floats, g: float) -> tuple[float, ...]:
    n = np.arange(1.0, d.size + 1)
    d = d / (float(np.abs(d).max()) or 1.0)  # evidence has no unit, and squares must not vanish
    total, square = np.cumsum(d), np.cumsum(d * d)
    shrunk = 1 + n * g
    within = np.maximum(square - total**2 / n, 0.0) + total**2 / (n * shrunk)
    ratio = np.divide(square, within, out=shrunk.copy(), where=within > 0)
    evidence = np.where(square > 0, (n * np.log(ratio) - np.log(shrunk)) / 2, 0.0)
    evidence[0] = 0.0  # one difference says nothing about a standardized one
    return tuple(float(value) for value in evidence)


class _Floor(NamedTuple):
    variance: float
    df: float

    def reach(self, alpha: float) -> float:
        """Return what the floor adds at one error rate."""
        if self.variance == 0:
            return 0.0
        tail = alpha / 4
        far = normal_isf(tail) if math.isinf(self.df) else t_isf(tail, self.df)
        return far * math.sqrt(self.variance)


def _reach(alpha: float, error: float, n: int, g: float, floor: _Floor) -> float:
    """Return the half-width; infinite while there are too few pairs for the level."""
    shrunk = 1 + n * g
    log_r = (0.5 * math.log(shrunk) - math.log(alpha)) * 2 / n
    if n < 2 or log_r >= math.log(shrunk):
        return math.inf
    seeds = error * math.sqrt((n - 1) * math.expm1(log_r) / (1 - math.exp(log_r) / shrunk))
    return math.hypot(seeds, floor.reach(alpha))


def _anytime_p(size: float, log_e: float, error: float, n: int, g: float, floor: _Floor) -> float:
    seeds_only = min(0.0, -log_e)
    if floor.variance == 0 or n < 2:
        return math.exp(seeds_only)
    if size <= _reach(1.0, error, n, g, floor):
        return 1.0
    low, high = seeds_only, 0.0  # logarithms; the interval leaves out zero at `high`
    for _ in range(60):
        middle = (low + high) / 2
        missed = size <= _reach(math.exp(middle), error, n, g, floor)
        low, high = (middle, high) if missed else (low, middle)
    return math.exp(high)


def _no_interval(n: int, mean: float, level: float, *, flat: bool) -> str:
    if flat:
        return f"no spread: all {n} seed pairs differ by {mean:g}"
    return f"unbounded: too few pairs ({n}) for an anytime interval of level {level:g}"
