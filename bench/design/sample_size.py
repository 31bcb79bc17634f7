"""Sample size: how many seeds a gain takes, before anything is trained."""

from dataclasses import asdict, dataclass
from itertools import zip_longest
from math import floor, log10
from typing import Any

from bench.analysis.data.format import Unit, count, duration, scale, share, suffix
from bench.analysis.data.metrics import METRICS
from bench.analysis.errors import Refusal
from bench.analysis.inference.power import detectable, seeds_for, seeds_needed, upper_sd
from bench.analysis.study.verdict import FEWEST_PAIRS

ASSUMED_SD = 0.008  # of a paired accuracy difference, where nothing is known yet
SEED_COUNTS = (6, 10, 20, 30, 50, 100)
GAINS = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02)  # for fractions; multiples of the sd else
GAINS_IN_SDS = (0.125, 0.25, 0.5, 0.75, 1.0, 1.5)


class BadPlan(Refusal):
    """Numbers that no plan can be made from."""

    code = "plan"
    exit_status = 2


@dataclass(frozen=True)
class Gain:
    """What some seeds can detect with 80% power, before anything is known of the spread.

    On one test set: how much the drawing of test examples adds is known from a pilot alone.
    """

    seeds: int
    sds: float | None  # SDs of the paired differences; None: one pair tells nothing
    value: float | None  # metric units, at an assumed SD; None where no SD can be assumed

    def text(self) -> str:
        """Return it as a clause."""
        if self.sds is None:
            return "one pair cannot tell luck from gain"
        if self.seeds < FEWEST_PAIRS:
            return f"{self.seeds} seeds give no verdict, whatever they show; {FEWEST_PAIRS} may"
        if self.value is None:
            sds = f"{self.sds:.2g} paired SDs"
            return f"{self.seeds} seeds can detect {sds} on this test set (80% power)"
        return (
            f"{self.seeds} seeds can detect {100 * self.value:.2f} pp on this test set "
            f"(80% power, SD {100 * ASSUMED_SD:g} pp)"
        )


def gain_of(seeds: int, unit: Unit) -> Gain:
    """Return what some seeds can detect in a metric of this unit."""
    if seeds < 2:
        return Gain(seeds, None, None)
    value = detectable(ASSUMED_SD, seeds) if unit == "fraction" else None
    return Gain(seeds, detectable(1.0, seeds), value)


def unit_of(metric: str) -> Unit:
    """Return a metric's unit."""
    return METRICS[metric].unit if metric in METRICS else "score"


@dataclass(frozen=True)
class Pilot:
    """What an earlier benchmark says about the spread of the paired differences."""

    name: str
    n: int
    sd: float
    variance_per_seed: float  # what more seeds average out
    variance_floor: float  # what the fixed test set leaves
    seconds_per_pair: float | None


@dataclass(frozen=True)
class Advice:
    """Seeds for gains and gains for seeds, in metric units."""

    unit: Unit
    sd: float
    sd_source: str
    power: float
    alpha: float
    detect: float | None
    seeds: int | None  # for `detect`, on one test set
    seeds_with_new_examples: int | None  # for `detect`, allowing for new test examples too
    reason: str | None  # why there is no number
    by_seeds: tuple[tuple[int, float], ...]
    by_gain: tuple[tuple[float, int | None], ...]
    seconds_per_pair: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values, in metric units."""
        plain = asdict(self)
        del plain["unit"]
        by_seeds = [{"seeds": n, "gain": gain} for n, gain in self.by_seeds]
        by_gain = [{"gain": gain, "seeds": n} for gain, n in self.by_gain]
        return {**plain, "by_seeds": by_seeds, "by_gain": by_gain}

    def text(self) -> str:
        """Return the small table for a terminal."""
        shown = self._amount(self.sd)
        lines = [
            f"paired SD {shown} ({self.sd_source})",
            f"power {share(self.power)}, two-sided alpha {self.alpha:g}",
            "",
        ]
        left = [f"{n:>5} seeds detect {self._amount(gain)}" for n, gain in self.by_seeds]
        right = [f"{self._amount(g):>9} takes {_count(n)}" for g, n in self.by_gain]
        width = max(map(len, left)) + 6
        rows = zip_longest(left, right, fillvalue="")
        lines += [f"  {a:<{width}}{b}".rstrip() for a, b in rows]
        if self.detect is not None:
            lines += [
                "",
                f"  {self._amount(self.detect)} takes {_count(self.seeds)} on one test set",
            ]
            if self.seeds_with_new_examples is not None:
                lines[-1] += f", {self.seeds_with_new_examples:,} allowing for new test examples"
            elif self.reason:
                lines.append("  allowing for new test examples: more of these, not more seeds")
        if self.seconds_per_pair is not None:
            lines += ["", f"  a seed takes {duration(self.seconds_per_pair)}, all its arms"]
            if self.seeds is not None and self.detect is not None:
                total = duration(self.seconds_per_pair * self.seeds)
                lines[-1] += f", {count(self.seeds, 'pair')} {total} of device time"
        return "\n".join(lines)

    def _amount(self, x: float) -> str:
        digits = max(2, -_exponent(abs(x) * scale(self.unit)) + 1)
        return f"{x * scale(self.unit):.{digits}f}{suffix(self.unit)}"


def _exponent(x: float) -> int:
    return floor(log10(x)) if x > 0 else 0


def _count(n: int | None) -> str:
    return "more seeds than can be trained" if n is None else count(n, "seed")


def advise(
    *,
    unit: Unit,
    sd: float | None = None,
    pilot: Pilot | None = None,
    detect: float | None = None,
    seeds: int | None = None,
    power: float = 0.8,
    alpha: float = 0.05,
) -> Advice:
    """Return what a plan can promise.

    Parameters
    ----------
    unit : of the metric
    sd : standard deviation of the paired differences, metric units
    pilot : an earlier benchmark; its SD is replaced by its upper 80 % limit
    detect : the gain to look for
    seeds : one more row for the table
    power : wanted chance to see it

    Raises
    ------
    BadPlan : a number outside its range
    """
    if not alpha < power < 1:
        raise BadPlan(
            f"--power {power:g} is not between {alpha:g} and 1.", options=[("power", 0.8)]
        )
    if detect is not None and not (0 < abs(detect) < float("inf")):
        raise BadPlan("--detect is not a gain other than 0.", options=[("detect", 0.3)])
    if seeds is not None and not 2 <= seeds <= 10**6:
        raise BadPlan(f"--seeds {seeds} is not between 2 and 1,000,000.", options=[("seeds", 20)])
    spread, source = _spread(unit, sd, pilot)
    counts = sorted({*SEED_COUNTS, *([seeds] if seeds else [])})
    gains = GAINS if unit == "fraction" else tuple(k * spread for k in GAINS_IN_SDS)

    def fewest(gain: float) -> int | None:
        found = seeds_for(gain, spread, power=power, alpha=alpha)
        return None if found is None else max(FEWEST_PAIRS, found)

    two_way, reason = None, None
    if detect is not None and pilot is not None and pilot.variance_floor > 0:
        needed = seeds_needed(
            abs(detect),
            variance_per_seed=pilot.variance_per_seed,
            variance_floor=pilot.variance_floor,
            n=pilot.n,
            alpha=alpha,
            power=power,
        )
        two_way, reason = needed.for_difference, needed.reason
        two_way = None if two_way is None else max(FEWEST_PAIRS, two_way)
    return Advice(
        unit=unit,
        sd=spread,
        sd_source=source,
        power=power,
        alpha=alpha,
        detect=detect,
        seeds=None if detect is None else fewest(abs(detect)),
        seeds_with_new_examples=two_way,
        reason=reason,
        by_seeds=tuple((n, detectable(spread, n, power=power, alpha=alpha)) for n in counts),
        by_gain=tuple((g, fewest(g)) for g in gains),
        seconds_per_pair=None if pilot is None else pilot.seconds_per_pair,
    )


def _spread(unit: Unit, sd: float | None, pilot: Pilot | None) -> tuple[float, str]:
    if sd is not None:
        if not 0 < sd < float("inf"):
            raise BadPlan(
                f"--sd {sd * scale(unit):g} is not a spread above 0.", options=[("sd", 0.8)]
            )
        return sd, "as given"
    if pilot is not None:
        if pilot.n < 2 or pilot.sd <= 0:
            raise BadPlan(
                f"pilot {pilot.name} has {count(pilot.n, 'complete pair')} and no spread to plan "
                "from.",
                options=[("sd", 0.8)],
                without=["pilot"],
            )
        return upper_sd(
            pilot.sd, pilot.n
        ), f"upper 80% limit from the {count(pilot.n, 'pair')} of {pilot.name}"
    if unit == "fraction":
        return ASSUMED_SD, "assumed; --sd or --pilot gives yours"
    return 1.0, "in units of itself; --sd gives yours"
