"""Cautions about what was planned, looked at and analysed."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bench.analysis.data.format import count, magnitude, suffix
from bench.analysis.inference.comparison import no_spread
from bench.analysis.study.analyses import WAYS
from bench.analysis.study.checks.registry import (
    Answer,
    Evidence,
    check,
    not_checked,
    passed,
    passed_if,
)
from bench.analysis.study.gates import gate
from bench.analysis.study.verdict_interval import seeds_only

MOST_SDS = 20  # of the pairs' differences, in a margin
SKEW_MATTERS = 0.1  # times sqrt(n): below, the false words stay near what is promised
# Pairs to how often exponential differences are called worse without an effect, and equivalent at
# exactly the margin (2.5 and 5 % promised); 100,000 draws each.
SKEW_COST = {6: (0.110, 0.153), 10: (0.095, 0.133), 20: (0.074, 0.108), 50: (0.055, 0.086)}
LEAST_SHARE = 0.25  # of the training pool that a seed draws
Floats = NDArray[np.float64]


@check("C1", "caution")
def _full_number(e: Evidence) -> Answer:
    asked = min((gate(c.pairs, e.design) for c in e.comparisons), key=lambda a: a.have)
    if not asked.is_open:
        return not_checked("Too few pairs for any verdict (B1).")
    one = e.design.units.pair.one
    many = "pairs" if e.design.units.are_seeds else e.design.units.pair.many
    return passed_if(
        not asked.provisional,
        f"{asked.what[:1].upper()}{asked.what[1:]}: the word is not provisional.",
        f"Few {many}: {asked.what}, so the word is provisional.",
        f"With so few one unusual {one} moves the interval a lot; {asked.full} or more are better.",
    )


@check("C2", "caution")
def _frozen(e: Evidence) -> Answer:
    d = e.design
    if d.frozen_at is None:
        return not_checked("When the analysis was decided is not recorded.")
    return passed_if(
        d.frozen_before_first_run and not d.analysis_changed_after_results,
        f"Plan {d.hash[:7]} frozen before the first run ({_when(d.frozen_at)})."
        + (f" It replaced one that was frozen {_when(d.replaced)}." if d.replaced else ""),
        f"The analysis was changed after results could be seen ({_when(d.frozen_at)}).",
        "A metric, margin or claim chosen after the results makes a false alarm likelier."
        + (
            " The rule that ends the training was changed too: the verdict follows the "
            "anytime-valid interval, which allows for that."
            if d.stop_changed_after_results
            else ""
        ),
    )


@check("C3", "caution")
def _seeds_added(e: Evidence) -> Answer:
    if not e.design.benchmark_id:
        many = e.design.units.pair.many
        return not_checked(f"When the number of {many} was decided is not recorded.")
    looks = ", ".join(str(n) for n in e.design.looks if n > 0)
    return passed_if(
        not e.design.seeds_added_after_look,
        "The number of seeds was not changed after results could be seen.",
        f"Seeds were added after {looks} {'pair' if looks == '1' else 'pairs'} had finished.",
        "The verdict therefore follows the anytime-valid interval, which allows for that.",
    )


@check("C4", "caution")
def _earlier_looks(e: Evidence) -> Answer:
    looks = e.provenance.get("earlier_looks")
    if looks is None:
        text = "Whether this test set was scored before is not recorded."
        return not_checked(text)
    text = ""
    if looks:
        adjusted = e.provenance.get("earlier_looks_interval") or {}
        text = " ".join(
            f"Adjusted for {looks + 1} looks (Bonferroni), the interval of {name} is {limits}."
            for name, limits in adjusted.items()
        )
    return passed_if(
        not looks,
        "No other benchmark of this store has scored this test set.",
        f"The test set has been scored before: {count(looks, 'other benchmark')} in this store "
        "used the same data.",
        f"Picking the best of several on one test set inflates gains. {text}".strip(),
    )


@check("C5", "caution")
def _best_of_several(e: Evidence) -> Answer:
    m = len(e.design.treatments)
    if m == 1:
        return passed("One treatment was planned and one is reported.")
    text = f"All {m} treatments are reported, their intervals adjusted for {m} (Bonferroni)."
    return passed(text)


@check("C8", "caution")
def _analyses_agree(e: Evidence) -> Answer:
    several = len(e.comparisons) > 1
    odd = [
        f"{f'{c.treatment}, ' if several else ''}{WAYS[name].word}: {word}"
        for c in e.comparisons
        if c.verdict.word != "none"
        for name, word in e.words.get(c.treatment, {}).items()
        if word != c.verdict.word
    ]
    if all(c.verdict.word == "none" for c in e.comparisons):
        return not_checked("Without a verdict there is none to compare.")
    return passed_if(
        not odd,
        "Every analysis of these pairs gives the same word.",
        f"Not every analysis gives the same word ({'; '.join(odd)}).",
        "Only the first row was planned; the others cannot change the verdict.",
    )


@check("C9", "caution")
def _one_seed(e: Evidence) -> Answer:
    if all(c.verdict.word == "none" for c in e.comparisons):
        return not_checked("Without a verdict there is none to change.")
    one, many = e.design.units.pair.one, e.design.units.pair.many
    if e.design.units.rows == "none" or any(c.pairs.independent for c in e.comparisons):
        return not_checked(f"Which {many} decide is not asked: they are drawn one by one.")
    decisive = {t: seeds for t, seeds in e.without_seed.items() if seeds}
    listed = "; ".join(
        f"{f'{name}: ' if len(e.comparisons) > 1 else ''}"
        f"{one} {', '.join(e.design.labels.get(s, str(s)) for s in list(seeds)[:5])}"
        f"{' …' if len(seeds) > 5 else ''}"
        for name, seeds in decisive.items()
    )
    return passed_if(
        not decisive,
        f"No single {one} decides: leaving out any one gives the same word.",
        f"Leaving out one {one} changes the word ({listed}).",
        f"The answer hangs on few runs; more {many} would settle it.",
    )


@check("C11", "caution")
def _images_too(e: Evidence) -> Answer:
    units = e.design.units
    columns = units.column.many
    if units.rows == "none":
        return passed(f"The verdict interval counts {units.column.new}.")
    if e.design.scope == "seeds_and_examples" and any(
        not seeds_only(c.pairs, e.design) and c.primary.standard_error for c in e.comparisons
    ):
        return passed(f"The verdict interval counts {units.pair.new} and {units.column.new}.")
    both = [(c, a) for c in e.comparisons if (a := c.analysis("two_way")) is not None]
    if not both:
        text = "Without predictions per example, the sampling of test examples cannot be counted."
        if not units.are_seeds:
            text = "Scores of single test examples are not known, so their sampling is not counted."
        return not_checked(text)
    zero = [
        c.treatment
        for c, a in both
        if a.low is not None and a.high is not None and a.low <= 0 <= a.high
    ]
    return passed_if(
        not zero,
        f"Counting new {columns} too, the interval still leaves out zero.",
        f"Counting new {columns} too, the interval contains zero ({', '.join(zero)}).",
        f"The result holds for these {columns}; another sample of them might not show it.",
    )


@check("C16", "caution")
def _pairs_left_out(e: Evidence) -> Answer:
    dropped = list(e.provenance.get("dropped_pairs") or ())
    listed = f"{', '.join(dropped[:5])}{' …' if len(dropped) > 5 else ''}"
    return passed_if(
        not dropped,
        "No pair is incomplete.",
        f"{count(len(dropped), 'incomplete pair')} ({listed}): a value that is missing counts as a "
        "failed run.",
        "Values that are missing for a reason, such as a crash, bias the mean of the others.",
    )


@check("C21", "caution")
def _small_pool(e: Evidence) -> Answer:
    """Compare what a seed trains on with the pool that all seeds draw from."""
    data = e.provenance.get("data")
    pool = data.get("train_pool") if isinstance(data, Mapping) else None
    drawn = [run.trained_on for run in e.summary.runs if run.trained_on is not None]
    if type(pool) is not int or pool < 1 or not drawn:
        return not_checked("How much of the training pool a training draws is not recorded.")
    least = min(drawn)
    return passed_if(
        least >= LEAST_SHARE * pool,
        f"A seed trains on {least:,} of the {pool:,} examples of the training pool.",
        f"A seed trains on {least:,} of the {pool:,} examples of the training pool "
        f"({least / pool:.1%}).",
        "All seeds draw from this one pool, so the result is for it: with another pool the method "
        "may compare differently. Drawing 30 of 284, a method without effect was called better or "
        "worse in 12% of simulated studies (5% promised), drawing 150 in 6%.",
    )


def _when(iso: str | None) -> str:
    return "" if iso is None else iso.replace("T", " ").replace("+00:00", " UTC")


@check("C18", "caution")
def _skewed(e: Evidence) -> Answer:
    """Look for skew that chance does not explain, and that still matters at this many pairs."""
    if all(c.n_pairs < 3 for c in e.comparisons):
        return not_checked("It takes three pairs to see a skew.")
    found = {c.treatment: _strong_skew(c.pairs.differences) for c in e.comparisons}
    odd = {name: skewness for name, skewness in found.items() if skewness}
    return passed_if(
        not odd,
        "The differences are not strongly skewed.",
        f"The differences are strongly skewed ({', '.join(map(_side, odd.items()))}).",
        " ".join(dict.fromkeys(_skew_cost(e, name, skew) for name, skew in odd.items())),
    )


def _strong_skew(differences: Floats) -> float:
    """Return the skewness, or 0 where 1 in 20 normal samples has as much or it hardly matters.

    The standard error of a normal sample's skewness is Fisher's (1930): simulated, 4 to 5 % of
    normal samples lie beyond 1.96 of it from 5 pairs on.
    """
    n = differences.size
    if n < 3 or no_spread(differences, scale=float(np.abs(differences).max())):
        return 0.0
    apart = differences - differences.mean()
    skewness = float((apart**3).mean() / (apart**2).mean() ** 1.5)
    chance = 1.96 * math.sqrt(6 * (n - 2) / ((n + 1) * (n + 3)))
    return skewness if abs(skewness) > max(chance, SKEW_MATTERS * math.sqrt(n)) else 0.0


def _side(of: tuple[str, float]) -> str:
    name, skewness = of
    return f"{name}: to the {'right' if skewness > 0 else 'left'}, skewness {skewness:+.1f}"


def _skew_cost(e: Evidence, name: str, skewness: float) -> str:
    n = next(c.n_pairs for c in e.comparisons if c.treatment == name)
    measured = min(SKEW_COST, key=lambda pairs: abs(math.log(pairs / n)))
    false_word, false_match = SKEW_COST[measured]
    # A tail of high differences is missed by most samples, so the mean is put too low.
    word = "worse" if (skewness > 0) == e.design.higher_is_better else "better"
    return (
        f"A few {e.design.units.pair.many} make most of the difference. In simulation with "
        f"{measured} pairs of "
        f"exponential differences a true zero was called {word} in {false_word:.1%} of studies "
        f"(2.5% promised)"
        + (f", and equivalent at the margin in {false_match:.1%} (5%)." if e.design.margin else ".")
    )


@check("C23", "caution")
def _against_its_name(e: Evidence) -> Answer | None:
    """Answer only for scores from elsewhere, whose direction was typed."""
    against = e.provenance.get("against_name")
    if against is None:
        return None
    return passed_if(
        not against,
        f"The direction of {e.design.metric} is not at odds with its name.",
        f"{e.design.metric} was said to be better when lower, against its name.",
        "With the other direction better and worse change places.",
    )


@check("C19", "caution")
def _plausible_margin(e: Evidence) -> Answer:
    """Look for a margin in another unit: then everything would be too small to matter."""
    margin, unit = e.design.margin, e.design.measure.unit
    arms = [arm for arm in e.arms if arm.min is not None and arm.max is not None]
    if margin is None or not arms:
        return not_checked("There is no margin to hold against the values.")
    low, high = min(arm.min or 0.0 for arm in arms), max(arm.max or 0.0 for arm in arms)
    spreads = [c.power.sd for c in e.comparisons if c.power.sd]
    wide = bool(spreads) and margin > MOST_SDS * max(spreads)
    typed = f"{magnitude(margin, unit)}{suffix(unit)}"
    size = f"{MOST_SDS} SD of the differences" if wide else "the range of all values"
    return passed_if(
        not wide and (margin <= high - low or high == low),
        f"The margin, {typed}, is of the size of what was measured.",
        f"The margin, {typed}, is larger than {size}.",
        "If it was typed in another unit, whatever happens is called too small to matter.",
    )


@check("C6", "caution")
def _tuned_alike(e: Evidence) -> Answer:
    return not_checked("How much each arm was tuned is not recorded.")
