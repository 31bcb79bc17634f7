"""Verdict: the one rule that chooses the word, and the headline that says it."""

import math
from dataclasses import dataclass
from typing import Literal

from bench.analysis.data.format import level, magnitude, suffix
from bench.analysis.data.metrics import Metric
from bench.analysis.data.tables import Goal

Word = Literal["better", "worse", "equivalent", "not_worse", "inconclusive", "none"]

FEWEST_PAIRS = 6  # of one treatment: below, the smallest possible sign-flip p is above 0.03
FULL_PAIRS = 10
NO_SPREAD = "no spread, since every pair differs by the same amount"

LABELS: dict[Word, str] = {
    "better": "BETTER",
    "worse": "WORSE",
    "equivalent": "PRACTICALLY EQUIVALENT",
    "not_worse": "NOT WORSE",
    "inconclusive": "INCONCLUSIVE",
    "none": "NO VERDICT",
}
GLYPHS: dict[Word, str] = {
    "better": "▲",
    "worse": "▼",
    "equivalent": "≈",
    "not_worse": "≥",
    "inconclusive": "?",
    "none": "–",
}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The answer in one word, and the rule of REPORT.md §1 that gave it."""

    word: Word
    rule: int  # 0 to 8
    size_open: bool  # better or worse, but perhaps by less than the margin
    provisional: bool  # 6 to 9 pairs
    blocker: str | None = None

    @property
    def label(self) -> str:
        """The word as the chip shows it."""
        return LABELS[self.word] + (", SIZE OPEN" if self.size_open else "")

    @property
    def glyph(self) -> str:
        """The sign that repeats the word without colour."""
        return GLYPHS[self.word]


def fewest_pairs(level: float) -> int:
    """Return the pairs with which an exact test can reach p below 1 - level: 6 at 95 %."""
    return max(FEWEST_PAIRS, math.floor(1 - math.log2(1 - level)) + 1)


def decide(
    *,
    n: int,
    low: float | None,
    high: float | None,
    low90: float | None,
    high90: float | None,
    margin: float | None,
    higher_is_better: bool,
    blocker: str | None = None,
    fewest: int = FEWEST_PAIRS,
    full: int = FULL_PAIRS,
    may_match: bool = True,
    goal: Goal = "better",
) -> Verdict:
    """Apply the rule; the first condition that holds wins.

    Parameters
    ----------
    n : complete pairs, or what there is of the scarcest unit
    low, high : verdict interval of treatment minus baseline, metric units; None is unbounded
    low90, high90 : the same at twice the error rate, for equivalence
    margin : smallest difference that matters, or None: equivalence is then not tested
    higher_is_better : the metric's direction; signs are flipped here and nowhere else
    blocker : what forbids a verdict, in a few words
    fewest, full : pairs that a verdict needs, as `fewest_pairs` says; from `full` on it is not
        provisional
    may_match : False where too little differs to tell that the arms match
    goal : "not_worse" adds a word: not worse by the margin, whether or not better

    References
    ----------
    STATISTICS.md §4. Equivalence before difference: Schuirmann (1987), J. Pharmacokinet. 15(6).
    """
    if blocker is not None or n < fewest:
        return Verdict(word="none", rule=0, size_open=False, provisional=False, blocker=blocker)
    provisional = n < full
    lo, hi = _oriented(low, high, higher_is_better)
    lo90, hi90 = _oriented(low90, high90, higher_is_better)

    def verdict(word: Word, rule: int, *, size_open: bool = False) -> Verdict:
        return Verdict(word=word, rule=rule, size_open=size_open, provisional=provisional)

    if may_match and margin is not None and lo90 > -margin and hi90 < margin:
        return verdict("equivalent", 1 if lo <= 0 <= hi else 2)
    if margin is not None and lo > margin:
        return verdict("better", 3)
    if lo > 0:
        return verdict("better", 4, size_open=margin is not None)
    if margin is not None and hi < -margin:
        return verdict("worse", 5)
    if hi < 0:
        return verdict("worse", 6, size_open=margin is not None)
    if goal == "not_worse" and margin is not None and lo90 > -margin:
        return verdict("not_worse", 8)
    return verdict("inconclusive", 7)


def _oriented(low: float | None, high: float | None, higher_is_better: bool) -> tuple[float, float]:
    """Return the limits with the sign that makes positive better; unbounded is infinite."""
    lo = -math.inf if low is None else low
    hi = math.inf if high is None else high
    return (lo, hi) if higher_is_better else (-hi, -lo)


def headline(
    verdict: Verdict,
    *,
    many: str,
    too_few: str,
    difference: float | None,
    treatment: str,
    baseline: str,
    measure: Metric,
    label: str,
    margin: float | None,
    level90: float = 0.9,
) -> str:
    """Return the verdict as one sentence.

    Parameters
    ----------
    verdict : what `decide` returned
    many : what was compared, in words: "These 20 seeds"
    too_few : what there is where it is too little for a verdict: "4 seeds are"
    difference : mean of treatment minus baseline, metric units
    treatment, baseline : the arms' names
    measure, label : the metric and what it is called, for example "test accuracy"
    margin : in metric units
    level90 : coverage of the interval that lies within the margin where the arms match
    """
    name = treatment[:1].upper() + treatment[1:]
    verb = "raises" if (difference or 0.0) > 0 else "lowers"  # the raw metric, whatever is better
    limit = "" if margin is None else f"{magnitude(margin, measure.unit)}{suffix(measure.unit)}"
    match verdict.rule:
        case 0:
            if verdict.blocker is None:
                return f"{too_few} too few for a verdict."
            return f"No verdict: {verdict.blocker}."
        case 1:
            within = f"the {level(level90)} interval of the difference lies within ±{limit}"
            return f"{name} and {baseline} match in {label}: {within}."
        case 2:
            return f"{name} {verb} {label}, but by less than {limit}."
        case 3 | 5:
            return f"{name} {verb} {label}, by more than the margin you set."
        case 4 | 6:
            if not verdict.size_open:
                return f"{name} {verb} {label}."
            return f"{name} {verb} {label}; whether by enough to matter is unsettled."
        case 8:
            return f"{name} is not worse than {baseline} in {label} by {limit} or more."
        case _:
            return f"{many} cannot tell {treatment} from {baseline}."
