"""Setting rules: refuses values that no training can use, and says which fit."""

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.analysis.errors import Refusal


class BadSetting(Refusal):
    """A setting whose value no training can use."""

    code = "setting"
    exit_status = 2


@dataclass(frozen=True)
class Rule:
    """What a setting must be: in words, and as a test."""

    words: str
    holds: Callable[[Any], bool]


def whole(low: int, high: int | None = None) -> Rule:
    """Return the rule for whole numbers from `low` to `high`; True and False are not numbers."""
    words = f"a whole number from {low} to {high}" if high else f"a whole number, {low} or more"
    return Rule(words, lambda v: type(v) is int and v >= low and (high is None or v <= high))


def number(low: float, high: float = math.inf, *, open_low: bool = False) -> Rule:
    """Return the rule for numbers in [low, high), or in (low, high) with `open_low`."""
    above = f"above {low:g}" if open_low else f"{low:g} or more"
    words = f"a number {above}" + ("" if math.isinf(high) else f" and below {high:g}")

    def holds(v: Any) -> bool:
        return type(v) in (int, float) and (low < v if open_low else low <= v) and v < high

    return Rule(words, holds)


def one_of(names: Iterable[str]) -> Rule:
    """Return the rule for one of some names."""
    known = tuple(names)
    return Rule("one of " + ", ".join(known), lambda v: isinstance(v, str) and v in known)


POSITIVE = number(0, open_low=True)
SWITCH = Rule("true or false", lambda v: isinstance(v, bool))
TEXT = Rule("a name or a file", lambda v: isinstance(v, str) and bool(v.strip()))


def check(
    settings: Mapping[str, Any], rules: Mapping[str, Rule], *, defaults: Mapping[str, Any]
) -> None:
    """Refuse the first setting that breaks its rule.

    Parameters
    ----------
    settings : the settings in force; those without a rule are not looked at
    defaults : a good value of each setting, for the fix

    Raises
    ------
    BadSetting : a value of the wrong type or outside its range
    """
    for name in [name for name in rules if name in settings]:
        value = settings[name]
        if not rules[name].holds(value):
            raise BadSetting(
                f"setting {name} is {value!r}; it must be {rules[name].words}.",
                settings={name: defaults[name]},
            )


def nearest(name: object, known: Iterable[str]) -> str:
    """Return the known name that is spelled most alike, or the first where none is."""
    names = list(known)
    return (difflib.get_close_matches(str(name), names, n=1, cutoff=0.3) or names)[0]
