"""Axis: a linear axis with round ticks, and text that fits along it; no drawing library."""

import math
import unicodedata
from collections.abc import Iterator

from bench.analysis.data.format import signed

MOST = 1e300


class Axis:
    """A linear axis whose ticks are round numbers.

    Parameters
    ----------
    marks : what it has to hold; of values beyond 1e300 and of infinity only the direction
    left, right : the places of its ends
    ticks : about the most of them
    unit : what follows the zero

    Raises
    ------
    ValueError : no marks, or one that is no number
    """

    def __init__(
        self, marks: list[float], left: float, right: float, *, ticks: int = 9, unit: str = ""
    ) -> None:
        if not marks or any(math.isnan(mark) for mark in marks):
            raise ValueError("an axis needs marks that are numbers")
        low, high = max(min(marks), -MOST), min(max(marks), MOST)
        apart = 16 * math.ulp(max(abs(low), abs(high)))  # less than that no two ticks differ by
        room = max(0.12 * ((high - low) or 1.0), apart)
        step = _round_step((high - low + 2 * room) / ticks)
        self.step = step
        self.low = math.floor((low - room) / step) * step
        self.high = math.ceil((high + room) / step) * step
        self.left, self.right, self.unit = left, right, unit
        self.digits = max(0, -math.floor(math.log10(step) + 1e-9))

    def __call__(self, x: float) -> float:
        """Return the place of a value; beyond the axis, its end."""
        share = (min(max(x, self.low), self.high) - self.low) / (self.high - self.low)
        return self.left + share * (self.right - self.left)

    def ticks(self) -> list[float]:
        """Return the tick values."""
        count = round((self.high - self.low) / self.step)
        return [self.low + i * self.step for i in range(count + 1)]

    def label(self, x: float) -> str:
        """Return a tick's text; zero has no sign, but the unit."""
        text = signed(x, self.digits)
        return f"0{self.unit}" if float(text.replace("\u2212", "-")) == 0 else text

    def crowded(self, size: float) -> bool:
        """Tell whether the ticks' texts would be less than half a letter apart at this size."""
        widest = max(text_width(self.label(x), size) for x in self.ticks())
        return widest + size / 2 > self(self.low + self.step) - self.left

    def labels(self, largest: float) -> Iterator[tuple[float, str, bool]]:
        """Yield each tick's place and text, and whether it goes at the largest size."""
        crowded, zero = self.crowded(largest), round(-self.low / self.step)
        for i, x in enumerate(self.ticks()):
            yield self(x), self.label(x), crowded and (i - zero) % 2 == 1


def labelled(
    marks: list[float],
    width: float,
    edge: float,
    *,
    ticks: int,
    sizes: tuple[float, float],
    unit: str = "",
) -> Axis:
    """Return an axis whose ticks' texts, centred under them, neither touch nor leave the picture.

    Parameters
    ----------
    edge : the least room at either end
    ticks : the most of them
    sizes : of the texts, all of them and the largest, at which every other one may go
    """
    while True:
        axis = Axis(marks, edge, width - edge, ticks=ticks, unit=unit)
        room = max(text_width(axis.label(x), sizes[1]) for x in (axis.low, axis.high)) / 2
        axis.left, axis.right = max(edge, room), width - max(edge, room)
        if ticks == 1 or not axis.crowded(sizes[0]):
            return axis
        ticks -= 1


def text_width(text: str, size: float) -> float:
    """Return how wide a text may be: the widest of the usual fonts, DejaVu Sans, in bold.

    Which font a page is read in is not known where it is written.
    """
    wide = sum(unicodedata.east_asian_width(s) in "WF" or s in "MWmw@%+\u2212" for s in text)
    return size * (0.65 * len(text) + 0.35 * wide)


def _round_step(raw: float) -> float:
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)


def short(name: str, most: int = 22) -> str:
    """Return a name that fits under an axis: as wide as so many usual signs at most."""
    room = text_width("n" * most, 1)
    if text_width(name, 1) <= room:
        return name
    kept = name[: most - 1]
    while text_width(f"{kept}…", 1) > room:
        kept = kept[:-1]
    return f"{kept}…"
