"""Robustness: would other analyses, other seeds or the failed runs have changed the word?"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.analysis.data.format import interval
from bench.analysis.data.metrics import METRICS
from bench.analysis.data.tables import Design, Tables, records
from bench.analysis.errors import UnusableRuns
from bench.analysis.inference import paired_t, sign_flip, welch
from bench.analysis.inference.comparison import Comparison
from bench.analysis.study.findings import Treatment
from bench.analysis.study.verdict import FEWEST_PAIRS, decide
from bench.analysis.study.verdict_interval import (
    Paired,
    at_level,
    fixed_analysis,
    fixed_without,
    levels,
    verdict_interval,
)


def chance_level(tables: Tables, design: Design) -> float | None:
    """Return the metric of a model that knows nothing, for metrics of predictions."""
    some = next(iter(tables.predictions.values()), None)
    if some is None or design.metric not in METRICS:
        return None
    k = some.log_probabilities.shape[1]
    known: dict[str, float] = {"accuracy": 1 / k, "nll": float(np.log(k)), "brier": 1 - 1 / k}
    return known[design.metric]


def other_words(c: Treatment, pairs: Paired, design: Design) -> dict[str, str]:
    """Return the word each companion analysis would have given, where it gives intervals."""
    level, level90 = levels(design)
    words = {}
    base, other = pairs.baseline, pairs.treatment
    companions: dict[str, Callable[[float], Comparison]] = {
        "paired_t": lambda at: paired_t(base, other, level=at),
        "sign_flip": lambda at: sign_flip(base, other, level=at, rng=np.random.default_rng(0)),
        "welch": lambda at: welch(base, other, level=at),
    }
    if pairs.n_examples is not None:
        companions["two_way"] = lambda at: pairs.two_way(level=at)
    for name, analyse in companions.items():
        if name == c.primary.method or pairs.n < FEWEST_PAIRS:
            continue
        try:
            wide, narrow = analyse(level), analyse(level90)
        except UnusableRuns:
            continue
        words[name] = _word(wide, narrow, pairs.n, design)
    return words


def _word(wide: Comparison, narrow: Comparison, n: int, design: Design) -> str:
    return decide(
        n=n,
        low=wide.low,
        high=wide.high,
        low90=narrow.low,
        high90=narrow.high,
        margin=design.margin,
        higher_is_better=design.higher_is_better,
    ).word


def decisive_seeds(c: Treatment, pairs: Paired, design: Design) -> list[int]:
    """Return the seeds without which the word would be another (not for lack of pairs)."""
    if pairs.n - 1 < FEWEST_PAIRS or c.verdict.word == "none":
        return []
    level, level90 = levels(design)
    word = _fixed_word(pairs, design)
    decisive = []
    for position, seed in enumerate(pairs.seeds):
        try:
            wide = fixed_without(pairs, design, position, level=level)
        except UnusableRuns:
            continue
        if _word(wide, at_level(wide, level90), pairs.n - 1, design) != word:
            decisive.append(seed)
    return decisive


def _fixed_word(pairs: Paired, design: Design) -> str:
    level, level90 = levels(design)
    wide = fixed_analysis(pairs, design, level=level)
    return _word(wide, at_level(wide, level90), pairs.n, design)


def worst_word(tables: Tables, c: Treatment, pairs: Paired, design: Design) -> str | None:
    """Return the word with every failed run at its worst value, or None without failures."""
    rows = tables.trials[tables.trials.status == "failed"]
    failed = {(row["arm"], row["seed"]) for row in records(rows)}
    known = {arm: set(tables.finished(arm)) for arm in (design.baseline, c.treatment)}
    seeds = [
        seed
        for seed in design.seeds
        if seed not in pairs.seeds
        and all((arm, seed) in failed or seed in known[arm] for arm in known)
    ]
    if not seeds:
        return None
    worst = _worst_value(tables, pairs, design)
    columns = [
        np.array([_value(tables, design, arm, seed, known[arm], worst) for seed in seeds])
        for arm in known
    ]
    examples = pairs.examples
    if examples is not None and not all(
        (arm, seed, "test") in tables.predictions
        for arm in known
        for seed in seeds
        if seed in known[arm]
    ):
        examples = None  # a run beside a failed one stored only its scores
    if examples is not None:
        extra = [_examples(tables, design, c.treatment, s, known, worst) for s in seeds]
        examples = np.vstack([examples, *extra])
    full = Paired(
        (*pairs.seeds, *seeds),
        np.concatenate([pairs.baseline, columns[0]]),
        np.concatenate([pairs.treatment, columns[1]]),
        examples,
    )
    level, level90 = levels(design)
    try:
        wide = verdict_interval(full, design, level=level)
        narrow = verdict_interval(full, design, level=level90)
    except (UnusableRuns, ValueError):
        return "none"
    return _word(wide, narrow, full.n, design)


def _worst_value(tables: Tables, pairs: Paired, design: Design) -> float:
    chance = chance_level(tables, design)
    if chance is not None:
        return chance
    seen = np.concatenate([pairs.baseline, pairs.treatment])
    return float(seen.min() if design.higher_is_better else seen.max())


def _value(
    tables: Tables, design: Design, arm: str, seed: int, known: set[int], worst: float
) -> float:
    return float(tables.values(design, arm, [seed])[0]) if seed in known else worst


def _examples(
    tables: Tables,
    design: Design,
    treatment: str,
    seed: int,
    known: Mapping[str, set[int]],
    worst: float,
) -> NDArray[np.float64]:
    """Return treatment minus baseline per example, a failed run counting its worst everywhere."""
    n = next(len(p) for (_, _, split), p in tables.predictions.items() if split == "test")
    sides = [
        tables.per_example(design.measure, arm, [seed])[0]
        if seed in known[arm]
        else np.full(n, worst)
        for arm in (design.baseline, treatment)
    ]
    difference: NDArray[np.float64] = sides[1] - sides[0]
    return difference


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
