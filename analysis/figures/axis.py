"""Axis: a linear axis with round ticks, and names that fit under it; no drawing library."""

import math

from analysis.format import signed


class Axis:
    """A linear axis whose ticks are round numbers."""

    def __init__(self, marks: list[float], left: float, right: float, *, ticks: int = 9) -> None:
        low, high = min(marks), max(marks)
        room = 0.12 * ((high - low) or 1.0)
        step = _round_step((high - low + 2 * room) / ticks)
        self.step = step
        self.low = math.floor((low - room) / step) * step
        self.high = math.ceil((high + room) / step) * step
        self.left, self.right = left, right
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
        """Return a tick's text; zero has no sign."""
        text = signed(x, self.digits)
        return "0" if float(text.replace("\u2212", "-")) == 0 else text


def _round_step(raw: float) -> float:
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)


def short(name: str, most: int = 22) -> str:
    """Return a name that fits under an axis."""
    return name if len(name) <= most else name[: most - 1] + "…"
