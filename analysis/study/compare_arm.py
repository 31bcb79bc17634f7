"""Treatment: everything that is said of one treatment against the baseline, from their pairs."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from bench.analysis.data.format import count
from bench.analysis.data.metrics import METRICS
from bench.analysis.data.tables import Design
from bench.analysis.data.units import Noun
from bench.analysis.errors import UnusableRuns
from bench.analysis.inference import posterior, tost
from bench.analysis.inference.comparison import Comparison
from bench.analysis.inference.distributions import t_isf
from bench.analysis.inference.effect_size import effect_size, win_rate
from bench.analysis.inference.power import detectable, seeds_needed
from bench.analysis.inference.sequential import anytime, planned_looks
from bench.analysis.inference.two_way import MeanSquares, TwoWay, two_way_from_mean_squares
from bench.analysis.inference.variance_components import components, to_halve
from bench.analysis.study import findings
from bench.analysis.study.analyses import applicable, whenever_looked
from bench.analysis.study.gates import Gate, gate
from bench.analysis.study.pairs import DataSet, Paired
from bench.analysis.study.verdict import NO_SPREAD, Verdict, decide, headline
from bench.analysis.study.verdict_interval import (
    fixed_analysis,
    levels,
    primary,
    variance_floor,
    verdict_interval,
)

MOST_STEPS = 100  # of the running estimate


def compare(
    pairs: Paired,
    design: Design,
    name: str,
    *,
    claim: Callable[[findings.Primary, Verdict], findings.ClaimFinding | None],
    secondary: tuple[findings.Secondary, ...],
    n_test: int | None = None,
    rng: np.random.Generator,
) -> findings.Treatment:
    """Return all that the pairs say, before any check could block the verdict.

    Parameters
    ----------
    pairs : both arms on the seeds that finished in both
    name : of the treatment
    claim : reads the claim against the primary analysis and its verdict
    secondary : the other outcomes
    n_test : test examples, where the columns of the pairs are groups of them
    rng : for the resampling analyses
    """
    main = primary(pairs, design)
    power = _power(pairs, design)
    asked = gate(pairs, design)
    verdict = _decide(main, asked, design, blocker=_flat(main, asked))
    return findings.Treatment(
        treatment=name,
        n_pairs=pairs.n,
        verdict=_worded(verdict, main, pairs, design, name, power),
        primary=main,
        analyses=_analyses(pairs, design, rng=rng),
        equivalence=_equivalence(main, design),
        effect=_effect(pairs, design),
        bayes=_bayes(main, design),
        power=power,
        variance=_variance(pairs, n_test),
        claim=claim(main, verdict),
        secondary=secondary,
        anytime=_anytime(pairs, design),
        datasets=tuple(_data_set(each, design) for each in pairs.sets),
        pairs=pairs,
    )


def blocked(c: findings.Treatment, blocker: str | None, design: Design) -> findings.Treatment:
    """Return the treatment with the verdict that a failed check leaves it."""
    if blocker is None:
        return c
    verdict = _decide(c.primary, gate(c.pairs, design), design, blocker=blocker)
    worded = _worded(verdict, c.primary, c.pairs, design, c.treatment, c.power)
    return replace(c, verdict=worded)


def metric_label(design: Design) -> str:
    """Return what the metric is called in a sentence."""
    known = METRICS.get(design.metric)
    if known is None or not design.benchmark_id:  # of scores from elsewhere only the name is known
        return design.metric
    return f"test {known.label}"


def _flat(main: findings.Primary, asked: Gate) -> str | None:
    return NO_SPREAD if asked.is_open and main.reason and main.standard_error is None else None


def _decide(
    main: findings.Primary, asked: Gate, design: Design, *, blocker: str | None = None
) -> Verdict:
    return decide(
        n=asked.have,
        low=main.low,
        high=main.high,
        low90=main.low90,
        high90=main.high90,
        margin=design.margin,
        higher_is_better=design.higher_is_better,
        blocker=blocker,
        fewest=asked.needed,
        full=asked.full,
        may_match=asked.may_match,
        goal=design.goal,
    )


def _worded(
    verdict: Verdict,
    main: findings.Primary,
    pairs: Paired,
    design: Design,
    name: str,
    power: findings.PowerFinding,
) -> findings.VerdictFinding:
    sentence = headline(
        verdict,
        many=f"These {sizes(pairs, design.units.pair)}",
        too_few=_too_few(pairs, design),
        difference=main.difference,
        treatment=name,
        baseline=design.baseline,
        measure=design.measure,
        label=metric_label(design),
        margin=design.margin,
        level90=main.level90,
    )
    needed = power.seeds_for_margin if verdict.word == "inconclusive" else None
    return findings.VerdictFinding(
        **vars(verdict),
        label=verdict.label,
        glyph=verdict.glyph,
        headline=sentence,
        seeds_needed=needed,
        seeds_needed_reason=power.reason,
    )


def sizes(pairs: Paired, noun: Noun) -> str:
    """Return "20 seeds", or "30 and 40 runs" where the arms share none."""
    if not pairs.independent:
        return noun.counted(pairs.n)
    return f"{pairs.sizes[0]:,} and {pairs.sizes[1]:,} {noun.many}"


def _too_few(pairs: Paired, design: Design) -> str:
    if design.units.are_seeds and pairs.strata is None:
        return f"{count(pairs.n, 'seed')} {'is' if pairs.n == 1 else 'are'}"
    asked = gate(pairs, design)
    return f"{asked.what} {'is' if asked.have == 1 else 'are'}"


def _analyses(
    pairs: Paired, design: Design, *, rng: np.random.Generator
) -> tuple[findings.Analysis, ...]:
    """Repeat the comparison in the ways a reader might have chosen."""
    level, _ = levels(design)
    return tuple(
        _attempt(name, partial(way.analyse, pairs, design, level, rng), pairs, level)
        for name, way in applicable(pairs, design).items()
    )


def _attempt(
    name: str, compare: Callable[[], Comparison], pairs: Paired, level: float
) -> findings.Analysis:
    try:
        return findings.Analysis.of(name, compare())
    except UnusableRuns as refusal:
        return findings.Analysis(name=name, difference=pairs.mean, level=level, reason=refusal.what)


def _equivalence(main: findings.Primary, design: Design) -> findings.EquivalenceFinding | None:
    """Test against the margin with the primary's own error; a sequential one has only limits."""
    if design.margin is None:
        return None
    fixed = main.method not in ("anytime", "group")  # else p would ignore the looks
    if not fixed or main.difference is None or main.standard_error is None or main.df is None:
        reason = main.reason or f"the {main.method} interval has no p for equivalence"
        return findings.EquivalenceFinding(margin=design.margin, reason=reason)
    found = tost(main.difference, main.standard_error, main.df, margin=design.margin)
    return findings.EquivalenceFinding(p_value=found.p_value, margin=design.margin)


def _effect(pairs: Paired, design: Design) -> findings.EffectFinding | None:
    if pairs.n < 2 or pairs.test_share is not None or pairs.independent:
        return None
    wins = win_rate(pairs.baseline, pairs.treatment, higher_is_better=design.higher_is_better)
    found = findings.EffectFinding(
        win_rate=wins.rate,
        win_low=wins.low,
        win_high=wins.high,
        wins=wins.wins,
        ties=wins.ties,
    )
    if not design.units.are_seeds:
        return found
    try:
        size = effect_size(pairs.baseline, pairs.treatment)
    except UnusableRuns as refusal:
        return replace(found, reason=refusal.what)
    diff, n = pairs.differences, pairs.n
    mean = float(diff.mean())
    reach = float(t_isf(0.025, n - 1) * diff.std(ddof=1) * np.sqrt(1 + 1 / n))
    return replace(
        found,
        d_z=size.d_z,
        hedges_g=size.hedges_g,
        low=size.low,
        high=size.high,
        new_pair_low=mean - reach,
        new_pair_high=mean + reach,
    )


def _bayes(main: findings.Primary, design: Design) -> findings.BayesFinding | None:
    """Cut the posterior at the margin; without one there is nothing to cut at."""
    if design.margin is None or main.difference is None:
        return None
    if main.standard_error is None or main.df is None:
        return None
    found = posterior(main.difference, main.standard_error, main.df, margin=design.margin)
    worse, better = found.below, found.above
    if not design.higher_is_better:
        worse, better = better, worse
    return findings.BayesFinding(worse=worse, equivalent=found.inside, better=better)


def _power(pairs: Paired, design: Design) -> findings.PowerFinding:
    level, _ = levels(design)
    try:
        fixed = fixed_analysis(pairs, design, level=level)
    except UnusableRuns as refusal:
        return findings.PowerFinding(reason=refusal.what)
    sd = None if pairs.independent else float(pairs.differences.std(ddof=1))
    error, df = fixed.standard_error or 0.0, fixed.df or pairs.n - 1
    # A two-way error has its own degrees of freedom: as if from df + 1 seeds.
    n_equivalent = max(2, round(df) + 1)
    gain = detectable(float(error) * np.sqrt(n_equivalent), n_equivalent, alpha=1 - level)
    if design.margin is None:
        return findings.PowerFinding(detectable_at_80=gain, sd=sd, reason="no margin was declared")
    if sd is None or not pairs.alike:
        why = "the units do not count alike, so their number alone says nothing"
        return findings.PowerFinding(detectable_at_80=gain, sd=sd, reason=why)
    per_seed = fixed.variance_per_seed if isinstance(fixed, TwoWay) else sd**2
    needed = seeds_needed(
        design.margin,
        variance_per_seed=per_seed,
        variance_floor=variance_floor(fixed),
        n=pairs.n,
        alpha=1 - level,
    )
    return findings.PowerFinding(
        detectable_at_80=gain, seeds_for_margin=needed.n, sd=sd, reason=needed.reason
    )


def _variance(pairs: Paired, n_test: int | None) -> findings.VarianceFinding | None:
    try:  # of columns that count differently the kurtosis is not known
        found = two_way_from_mean_squares(*_by_example(pairs.mean_squares, n_test))
    except UnusableRuns:
        return None
    if pairs.effective_df is None:
        return None
    halve = to_halve(found)
    spread = np.std(pairs.baseline) > 0 and np.std(pairs.treatment) > 0
    together = float(np.corrcoef(pairs.baseline, pairs.treatment)[0, 1]) if spread else None
    return findings.VarianceFinding(
        seeds=found.variance_seeds,
        examples=found.variance_examples,
        residual=found.variance_residual,
        correlation_between_arms=together,
        n_examples=round(found.n_examples),
        ms_seeds=found.ms_seeds,
        ms_examples=found.ms_examples,
        ms_residual=found.ms_residual,
        width_with_twice_seeds=_narrowed(found, seeds=2),
        width_with_twice_examples=_narrowed(found, examples=2),
        seeds_to_halve=halve[0],
        examples_to_halve=halve[1],
        components=components(found, pairs.effective_df),
    )


def _data_set(of: DataSet, design: Design) -> findings.DataSetRow:
    """Compare the arms within one data set."""
    pairs, (level, _) = of.pairs, levels(design)
    base, other = (float(np.mean(values)) for values in (pairs.baseline, pairs.treatment))
    row = findings.DataSetRow(
        name=of.name,
        n=pairs.n,
        baseline=base,
        treatment=other,
        difference=pairs.mean or 0.0,
        level=level,
    )
    try:
        found = fixed_analysis(pairs, design, level=level)
    except UnusableRuns as refusal:
        return replace(row, reason=refusal.what)
    return replace(row, low=found.low, high=found.high, p_value=found.p_value)


def _by_example(of: MeanSquares, n_test: int | None) -> MeanSquares:
    """Return the mean squares of single examples, as those of groups of them show."""
    wider = (n_test or of.n_examples) / of.n_examples
    seeds, examples, residual = (wider * square for square in (of.seeds, of.examples, of.residual))
    return MeanSquares(
        of.difference, seeds, examples, residual, of.n_seeds, n_test or of.n_examples
    )


def _narrowed(found: TwoWay, *, seeds: int = 1, examples: int = 1) -> float:
    """Return the standard error with more seeds or examples, as a share of what it is now."""
    n, width = found.n, found.n_examples
    now, then = (
        found.variance_seeds / (n * more)
        + found.variance_examples / (width * wider)
        + found.variance_residual / (n * more * width * wider)
        for more, wider in ((1, 1), (seeds, examples))
    )
    return math.sqrt(then / now) if now > 0 else 1.0


def _anytime(pairs: Paired, design: Design) -> findings.AnytimeFinding:
    level, _ = levels(design)
    looks = design.looks
    if not design.units.are_seeds or not pairs.alike:
        return findings.AnytimeFinding(looks=looks)
    try:
        now = whenever_looked(pairs, design, level)
    except UnusableRuns:
        return findings.AnytimeFinding(looks=looks)
    path = []
    step_size = max(1, pairs.n // MOST_STEPS)  # a thousand seeds need no thousand points
    for n in sorted(range(pairs.n, 1, -step_size)):
        try:
            step = whenever_looked(pairs.first(n), design, level)
        except UnusableRuns:
            continue
        path.append((n, step.difference, step.low, step.high))
    # The test examples are drawn once: no number of pairs averages them out, and e ignores them.
    floor = variance_floor(fixed_analysis(pairs, design, level=level))
    evidence = None if floor > 0 else anytime(pairs.differences, level=level).e_value
    return findings.AnytimeFinding(
        low=now.low,
        high=now.high,
        e_value=evidence,
        e_reason="it would count new seeds alone" if evidence is None else None,
        p_value=now.p_value,
        looks=looks,
        planned=_planned(pairs, design),
        path=tuple(path),
    )


def _planned(pairs: Paired, design: Design) -> tuple[findings.PlannedLook, ...]:
    """Return the intervals of the planned looks reached so far; none but of a group plan."""
    if design.stop != "group" or design.free_to_look:
        return ()
    level, _ = levels(design)
    found = []
    for n in sorted({look for look in planned_looks(len(design.seeds)) if look <= pairs.n}):
        try:
            at = verdict_interval(pairs.first(n), design, level=level)
        except UnusableRuns:
            continue
        found.append(findings.PlannedLook(n=n, mean=at.difference, low=at.low, high=at.high))
    return tuple(found)
