"""Option values: seeds, settings, arms and margins as they are typed, read once and checked."""

import difflib
import json
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from bench.analysis.data.examples import LARGEST
from bench.analysis.data.metrics import METRICS
from bench.analysis.errors import Refusal
from bench.design.description import Discovered
from bench.design.plan import digest
from bench.experiment import BadExperiment

MOST_SEEDS = 100_000


LARGEST_SEED = 2**32 - 1


class BadSeeds(Refusal):
    """A list of seeds that cannot be read."""

    code = "seeds"
    exit_status = 2


class BadSetting(Refusal):
    """A setting or arm that does not fit the experiment."""

    code = "setting"
    exit_status = 2


def arms_with(
    found: Discovered, overrides: Sequence[str] = (), extra_arms: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """Return every arm's full settings after `--set KEY=VALUE` and `--arm NAME:KEY=VALUE`.

    Raises
    ------
    BadSetting : malformed text, an unknown key (the nearest is named), a value of another type,
        a setting of every arm that the arms differ in, or two arms that end up equal
    """
    experiment = found.experiment
    shared = dict(experiment.settings)
    own = {name: dict(settings) for name, settings in experiment.arms.items()}
    for text in overrides:
        typed = _Typed("--set", text, shared)
        key = text.partition("=")[0].strip()
        if any(key in settings for settings in own.values()):
            raise BadSetting(
                f"{key} is what the arms differ in, so --set {text} would undo the comparison.",
                options=[("arm", f"another:{text}")],
                without=[("set", text)],
            )
        key, value = typed.pair(text)
        shared[key] = value
    extra: dict[str, _Typed] = {}
    for text in extra_arms:
        name, _, rest = text.partition(":")
        differing = {k: v for settings in own.values() for k, v in settings.items()}
        typed = _Typed("--arm", text, {**differing, **shared, **differing})
        if name in own:
            free = next(f"{name}-{i}" for i in count(2) if f"{name}-{i}" not in own)
            trouble = f'--arm "{text}": arm {name!r} exists already.'
            raise BadSetting(trouble, **typed.instead(f"{free}:{rest or typed.example()}"))
        if not name or not rest:
            trouble = f'--arm "{text}": it has no NAME:KEY=VALUE.'
            raise BadSetting(trouble, **typed.instead(f"{name or 'another'}:{typed.example()}"))
        own[name], extra[name] = dict(map(typed.pair, rest.split(","))), typed
    arms = {name: {**shared, **settings} for name, settings in own.items()}
    _require_different(arms, extra)
    return arms


def _require_different(
    arms: Mapping[str, Mapping[str, Any]], extra: "Mapping[str, _Typed]"
) -> None:
    seen: dict[str, str] = {}
    for name, settings in arms.items():
        twin = seen.setdefault(digest(dict(settings)), name)
        if twin != name:
            fix: dict[str, Any] = {"fix": "give the arms different settings"}
            if name in extra:
                fix = extra[name].instead(f"{name}:{extra[name].example()}")
            raise BadExperiment(
                f"arms {twin!r} and {name!r} have the same settings: nothing to compare.", **fix
            )


@dataclass(frozen=True)
class _Typed:
    """One `--set KEY=VALUE` or `--arm NAME:KEY=VALUE[,…]`, as it was typed."""

    option: str
    text: str
    known: Mapping[str, Any]  # every setting, with a value of its type

    def pair(self, part: str) -> tuple[str, Any]:
        """Return the key and the value of one KEY=VALUE."""
        key, equals, raw = part.partition("=")
        key = key.strip()
        if not equals or not key:
            what = f'{self.option} "{part}" is not KEY=VALUE.'
            raise BadSetting(what, **self._corrected(part))
        if key not in self.known:
            begun = [name for name in self.known if key and name.startswith(key)]
            close = begun[:1] or difflib.get_close_matches(key, list(self.known), n=1)
            facts = [f"Closest: {close[0]}."] if close else []
            raise BadSetting(
                f'there is no setting "{key}".',
                facts=[*facts, f"Known: {', '.join(self.known) or 'none'}."],
                **self._corrected(part, *close),
            )
        value = _value(raw)
        old = self.known[key]
        if not _fits(value, old):
            kind = "number" if _is_number(old) else type(old).__name__
            raise BadSetting(
                f"{key} is {value!r}, but it must be a {kind} like {old!r}.",
                **self._corrected(part, key),
            )
        return key, float(value) if isinstance(old, float) and isinstance(value, int) else value

    def example(self, key: str | None = None) -> str:
        """Return a KEY=VALUE that can be typed: of an arm, a value that no arm has yet."""
        numbers = [name for name, value in self.known.items() if _is_number(value)]
        key = key or next(iter([*numbers, *self.known]), None)
        if key is None:
            return "KEY=VALUE"
        value = self.known[key]
        if self.option == "--arm" and _is_number(value):
            value = value + 1 if isinstance(value, int) else float(f"{1.5 * value:g}") or 0.1
        return f"{key}={value if isinstance(value, str) else json.dumps(value)}"

    def instead(self, text: str) -> dict[str, Any]:
        """Return a refusal's remedy: another text in place of this one."""
        return {"replace": [(self.text, text)]}

    def _corrected(self, part: str, key: str | None = None) -> dict[str, Any]:
        """Return the fix for one KEY=VALUE, with the typed value where it fits."""
        if not self.known:
            return {"without": [self.option[2:]]}
        raw = part.partition("=")[2]
        keeps = key is not None and raw and _fits(_value(raw), self.known[key])
        good = f"{key}={raw}" if keeps else self.example(key)
        if self.option == "--set":
            return self.instead(good)
        name, _, rest = self.text.partition(":")
        pieces = rest.split(",")
        kept = {piece.partition("=")[0].strip() for piece in pieces if piece != part}
        if good.partition("=")[0] in kept:  # it is given already
            return self.instead(f"{name}:{','.join(piece for piece in pieces if piece != part)}")
        return self.instead(f"{name}:{','.join(good if p == part else p for p in pieces)}")


def _value(raw: str) -> Any:
    """Return what a typed value says: JSON, Python's True, False and None, or a text."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):  # a number may be too long even for Python
        return {"True": True, "False": False, "None": None}.get(raw, raw)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _fits(value: Any, old: Any) -> bool:
    """Say whether a typed value can take the place of another."""
    alike = old is None or (_is_number(old) and _is_number(value)) or type(value) is type(old)
    return alike and not (
        isinstance(value, (int, float)) and not abs(value) <= sys.float_info.max  # nor NaN
    )


def parse_seeds(text: str, option: str = "seeds") -> tuple[int, ...]:
    """Read "20" (that many, from 0), "0-19" or "0,3,7".

    Parameters
    ----------
    option : whose value it is

    Raises
    ------
    BadSeeds : anything else, a seed above 4294967295, or one given twice
    """
    text = text.strip()

    def refusal(what: str) -> BadSeeds:
        every = f"Seeds are whole numbers from 0 to {LARGEST_SEED}, each once."
        return BadSeeds(
            f'--{option.replace("_", "-")} "{text[:60]}" {what}.',
            facts=[f"Use 20, 0-19 or 0,3,7. {every}"],
            options=[(option, 20)],
        )

    if re.fullmatch(r"\d+", text, re.ASCII):
        n = int(text[:12])
        if 1 <= n <= MOST_SEEDS:
            return tuple(range(n))
        raise refusal(f"is not between 1 and {MOST_SEEDS:,} seeds")
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,12})(?:-(\d{1,12}))?\s*", part, re.ASCII)
        if match is None:
            raise refusal("is not a number, range or list")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last > LARGEST_SEED:
            raise refusal("is not a number, range or list")
        if len(found) + last - first + 1 > MOST_SEEDS:
            raise refusal(f"asks for more than {MOST_SEEDS:,} seeds")
        found += range(first, last + 1)
    twice = [seed for seed, times in Counter(found).items() if times > 1]
    if twice:
        raise refusal(f"names seed {twice[0]} twice")
    return tuple(found)


class Points(float):
    """A margin or a claim of so many percentage points, whatever the metric's unit."""


class MetricUnits(float):
    """A margin or a claim in the metric's own unit, as a number in Python is."""


def amount(option: str, value: float | str | None) -> float | None:
    """Read a margin or a claim given in Python: a number in metric units, or "0.5pp".

    Raises
    ------
    BadSetting : neither of them
    """
    if value is None:
        return None
    if not isinstance(value, str):
        return MetricUnits(value)
    number = re.fullmatch(
        r"\s*([+-]?[\d.]+(?:e[+-]?\d+)?)\s*pp\s*", value, re.ASCII | re.IGNORECASE
    )
    try:
        return Points(number[1] if number else "")
    except ValueError:
        raise BadSetting(
            f"{option}={value[:40]!r} is neither a number nor percentage points.",
            options=[(option, "0.5pp")],
        ) from None


def require_margin(margin: float | None, claim: float | None) -> None:
    """Refuse a typed margin or claim that is not one.

    Raises
    ------
    BadSetting : a margin of 0 or less, or a number that is none, or whose square is none
    """
    for option, value in (("margin", margin), ("claim", claim)):
        if value is None:
            continue
        good = [(option, 0.003 if isinstance(value, MetricUnits) else 0.3)]
        if option == "margin" and not 0 < value < float("inf"):
            raise BadSetting(f"margin {value:g} is not a number above 0.", options=good)
        if not abs(value) < float("inf"):
            raise BadSetting(f"claim {value:g} is not a number.", options=good)
        if value and not 1 / LARGEST < abs(value) < LARGEST:
            raise BadSetting(
                f"{option} {value:g} is beyond every metric.",
                facts=[f"It lies between {1 / LARGEST:g} and {LARGEST:g}, in size."],
                options=good,
            )


def in_metric_units(value: float | None, metric: str) -> float | None:
    """Turn what a user typed (pp for fractions) into metric units.

    Raises
    ------
    BadSetting : percentage points of a metric that is no fraction
    """
    if value is None or isinstance(value, MetricUnits):
        return value
    known = METRICS.get(metric)
    is_fraction = known is not None and known.unit == "fraction"
    if isinstance(value, Points) and not is_fraction:
        raise BadSetting(
            f"{value:g} percentage points: {metric} is not known to be a fraction.",
            fix="give the number in the metric's own unit",
        )
    return value / 100 if is_fraction else value


def as_typed(value: float, metric: str) -> str:
    """Return the number to type for a margin or a claim, which `in_metric_units` reads again."""
    points = isinstance(value, MetricUnits) and in_metric_units(1.0, metric) != 1
    return f"{100 * value if points else float(value):.12g}"
