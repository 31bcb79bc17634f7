"""Formats numbers for print: the only place where they are rounded."""

import math
from collections.abc import Iterable
from typing import Literal, TypeGuard

Unit = Literal["fraction", "nats", "score"]

MINUS = "\u2212"
NONE = "\u2014"
MOST_DIGITS = 9


def scale(unit: Unit) -> float:
    """Return the factor from metric units to printed units: fractions print in points."""
    return 100.0 if unit == "fraction" else 1.0


def decimals(unit: Unit) -> int:
    """Return how many decimals a value of this unit gets."""
    return 2 if unit == "fraction" else 4


def suffix(unit: Unit) -> str:
    """Return what follows a difference, with its space."""
    return " pp" if unit == "fraction" else ""


def known(x: float | None) -> TypeGuard[float]:
    """Tell whether there is a number to print: neither missing nor NaN nor infinite."""
    return x is not None and math.isfinite(x)


def signed(x: float, digits: int) -> str:
    """Return a signed number with a real minus sign; a rounded zero has no sign."""
    text = f"{abs(x):.{digits}f}"
    if float(text) == 0:
        return text
    return f"+{text}" if x > 0 else f"{MINUS}{text}"


def value(x: float | None, unit: Unit) -> str:
    """Return a metric's value: 94.72%, 0.1926."""
    if not known(x):
        return NONE
    text = f"{abs(x) * scale(unit):.{decimals(unit)}f}" + ("%" if unit == "fraction" else "")
    return f"{MINUS}{text}" if x < 0 and float(text.rstrip("%")) != 0 else text


def number(x: float | None, unit: Unit, *, digits: int | None = None) -> str:
    """Return a signed difference without its unit: +0.31."""
    if not known(x):
        return NONE
    return signed(x * scale(unit), decimals(unit) if digits is None else digits)


def difference(x: float | None, unit: Unit, *, digits: int | None = None) -> str:
    """Return a signed difference with its unit: +0.31 pp."""
    return number(x, unit, digits=digits) + suffix(unit) if known(x) else NONE


def spread(x: float | None, unit: Unit) -> str:
    """Return an SD or a width, unsigned: 0.22 pp."""
    return f"{x * scale(unit):.{decimals(unit)}f}{suffix(unit)}" if known(x) else NONE


def magnitude(x: float, unit: Unit) -> str:
    """Return a margin or gain without sign, with the digits it needs: 0.10, 0.005."""
    printed = abs(x) * scale(unit)
    for digits in range(decimals(unit), MOST_DIGITS):
        if abs(round(printed, digits) - printed) <= 1e-9 * max(1.0, printed):
            return f"{printed:.{digits}f}"
    return f"{printed:g}"


def interval(
    low: float | None,
    high: float | None,
    unit: Unit,
    *,
    guards: Iterable[float] = (0.0,),
    digits: int | None = None,
) -> str:
    """Return [+0.12, +0.50], with one more digit where a limit would round onto a guard.

    Parameters
    ----------
    low, high : the limits in metric units; None is unbounded
    guards : values (zero, the margins) that a limit may only print as when it equals them
    digits : how many decimals, where no guard asks for more; the unit's by default
    """
    digits = digits_for(low, high, unit, guards=guards, digits=digits)
    left = number(low, unit, digits=digits) if known(low) else f"{MINUS}\u221e"
    right = number(high, unit, digits=digits) if known(high) else "+\u221e"
    return f"[{left}, {right}]"


def digits_for(
    low: float | None,
    high: float | None,
    unit: Unit,
    *,
    guards: Iterable[float] = (0.0,),
    digits: int | None = None,
) -> int:
    """Return the decimals that keep both limits apart from the guards, as in `interval`."""
    digits = decimals(unit) if digits is None else digits
    limits = [x * scale(unit) for x in (low, high) if known(x)]
    lines = [g * scale(unit) for g in guards]
    while digits < MOST_DIGITS and any(_hides(x, g, digits) for x in limits for g in lines):
        digits += 1
    return digits


def _hides(x: float, guard: float, digits: int) -> bool:
    """Tell whether x prints as the guard although it lies on one side of it."""
    return (
        abs(x - guard) > 10.0**-MOST_DIGITS  # closer is equal up to rounding
        and f"{x:.{digits}f}".lstrip("-") == f"{guard:.{digits}f}".lstrip("-")
        and (x * guard > 0 or guard == 0)
    )


def plain_interval(low: float | None, high: float | None, unit: Unit) -> str:
    """Return an arm's own interval, unsigned: [94.63, 94.81]."""
    if not known(low) or not known(high):
        return NONE
    texts = [value(x, unit).rstrip("%") for x in (low, high)]
    return f"[{texts[0]}, {texts[1]}]"


def p_value(p: float | None) -> str:
    """Return a p-value: three decimals, never 0.000."""
    if not known(p):
        return NONE
    if p < 0.001:
        return "< 0.001"
    return "> 0.999" if p > 0.999 else f"{p:.3f}"


def p_equation(p: float | None) -> str:
    """Return "p = 0.003" or "p < 0.001"; "no p" where there is none."""
    if not known(p):
        return "no p"
    text = p_value(p)
    return f"p {text}" if text[0] in "<>" else f"p = {text}"


def share(x: float) -> str:
    """Return a probability in per cent: 38%, > 99.9%."""
    if x > 0.999:
        return "> 99.9%"
    return (
        "< 0.1%" if x < 0.001 else f"{100 * x:.1f}%" if x < 0.01 or x > 0.99 else f"{100 * x:.0f}%"
    )


def level(coverage: float) -> str:
    """Return the level of an interval in per cent: 95%, 97.5%."""
    return f"{100 * coverage:.4g}%"


def count(n: int, thing: str) -> str:
    """Return a number of things: 1 pair, 20 pairs, 1,200 seeds."""
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a time span as people say it: 41 s, 2m 09s, 1h 18m."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    return f"{minutes // 60}h {minutes % 60:02d}m"
