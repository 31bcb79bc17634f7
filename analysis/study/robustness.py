"""Robustness: would other analyses, other seeds or the failed runs have changed the word?"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.analysis.data.format import interval
from bench.analysis.data.tables import Design
from bench.analysis.errors import UnusableRuns
from bench.analysis.inference.comparison import Comparison
from bench.analysis.study.analyses import applicable
from bench.analysis.study.findings import Treatment
from bench.analysis.study.gates import gate
from bench.analysis.study.pairs import Paired
from bench.analysis.study.verdict import decide
from bench.analysis.study.verdict_interval import at_level, fixed_analysis, levels, verdict_interval


def chance_level(n_classes: int | None, design: Design) -> float | None:
    """Return the metric of a model that knows nothing, for metrics of predictions."""
    chance = design.measure.chance
    return None if n_classes is None or chance is None else chance(n_classes)


def other_words(c: Treatment, pairs: Paired, design: Design) -> dict[str, str]:
    """Return the word each companion analysis would have given, where it gives intervals."""
    level, level90 = levels(design)
    words = {}
    for name, way in applicable(pairs, design).items():
        if not way.word:
            continue
        if name == c.primary.method or not gate(pairs, design).is_open:
            continue
        try:
            wide, narrow = (
                way.analyse(pairs, design, at, np.random.default_rng(0)) for at in (level, level90)
            )
        except UnusableRuns:
            continue
        words[name] = _word(wide, narrow, pairs, design)
    return words


def _word(wide: Comparison, narrow: Comparison, pairs: Paired, design: Design) -> str:
    asked = gate(pairs, design)
    return decide(
        n=asked.have,
        low=wide.low,
        high=wide.high,
        low90=narrow.low,
        high90=narrow.high,
        margin=design.margin,
        higher_is_better=design.higher_is_better,
        fewest=asked.needed,
        may_match=asked.may_match,
        goal=design.goal,
    ).word


def decisive_seeds(c: Treatment, pairs: Paired, design: Design) -> list[int]:
    """Return the seeds without which the word would be another (not for lack of pairs)."""
    asked = gate(pairs, design)
    if asked.have - 1 < asked.needed or c.verdict.word == "none":
        return []
    if design.units.rows == "none" or pairs.independent:
        return []
    word = _fixed_word(pairs, design)
    decisive = []
    for position, seed in enumerate(pairs.seeds):
        try:
            changed = _fixed_word(pairs.without(position), design) != word
        except UnusableRuns:
            continue
        decisive += [seed] if changed else []
    return decisive


def _fixed_word(pairs: Paired, design: Design) -> str:
    level, level90 = levels(design)
    wide = fixed_analysis(pairs, design, level=level)
    return _word(wide, at_level(wide, level90), pairs, design)


def worst_word(worst: Paired | None, design: Design) -> str | None:
    """Return the word with every failed run at its worst value, or None without failures."""
    if worst is None:
        return None
    level, level90 = levels(design)
    try:
        wide = verdict_interval(worst, design, level=level)
        narrow = verdict_interval(worst, design, level=level90)
    except (UnusableRuns, ValueError):
        return "none"
    return _word(wide, narrow, worst, design)


def adjusted_for_looks(
    facts: Mapping[str, Any], pairs: Mapping[str, Paired], design: Design
) -> dict[str, str]:
    """Return each treatment's interval at the level that k + 1 looks at one test set ask for."""
    count = facts.get("earlier_looks") or 0
    found = {}
    for name, paired in pairs.items():
        level = 1 - (1 - levels(design)[0]) / (count + 1)
        try:
            wide = verdict_interval(paired, design, level=level)
        except UnusableRuns:
            continue
        found[name] = interval(wide.low, wide.high, design.measure.unit, guards=design.guards)
    return found
