"""Study: tables and plan in, one frozen Findings out; every printed number comes from here."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.checks import Evidence, blocking, run_checks
from analysis.comparisons import (
    bootstrap_t,
    leave_one_out,
    paired_t,
    posterior,
    sign_flip,
    tost,
    two_way,
    welch,
    wilcoxon,
)
from analysis.comparisons.two_way import TwoWay
from analysis.curves import curves, gaps
from analysis.distributions import t_isf
from analysis.effect import clopper_pearson, effect_size, win_rate
from analysis.errors import UnusableRuns
from analysis.findings import (
    Analysis,
    AnytimeFinding,
    Arm,
    BayesFinding,
    EffectFinding,
    EquivalenceFinding,
    Findings,
    PowerFinding,
    Primary,
    RunRow,
    Sufficient,
    Treatment,
    VarianceFinding,
    VerdictFinding,
)
from analysis.metrics import METRICS
from analysis.outcomes import (
    ScoredRun,
    calibration_rows,
    reliability_diagrams,
    score_runs,
    secondary,
)
from analysis.power import detectable, seeds_needed
from analysis.primary import (
    Paired,
    fixed_analysis,
    fixed_without,
    levels,
    mean_interval,
    primary,
    two_way_over,
    variance_floor,
)
from analysis.protocol import claimed
from analysis.result import Comparison
from analysis.robustness import (
    adjusted_for_looks,
    chance_level,
    decisive_seeds,
    other_words,
    worst_word,
)
from analysis.sequential import anytime
from analysis.table import BadTables, Design, Tables, records
from analysis.verdict import FEWEST_PAIRS, NO_SPREAD, Verdict, decide, headline

COLLAPSE_MADS = 6.0
MOST_STEPS = 100  # of the running estimate


def study(
    tables: Tables,
    design: Design,
    *,
    provenance: Mapping[str, Any] | None = None,
    rng: np.random.Generator,
) -> Findings:
    """Analyse one benchmark.

    Parameters
    ----------
    tables : everything recorded
    design : what was decided before the results, with its history
    provenance : what is known about code, data and machine; printed, and read by some checks
    rng : for the noise floor, the resampling analyses and the calibration intervals

    Raises
    ------
    BadTables : runs that cannot be compared, such as different test sets
    """
    facts = dict(provenance or {})
    _require_runs(tables, design)
    tables.require_one_test_set()
    pairs = {name: paired(tables, design, name) for name in design.treatments}
    scored = score_runs(tables, design, rng=rng)
    arms = tuple(_arm(tables, design, name) for name in design.arms)
    seen = [_treatment(tables, design, name, pairs[name], scored, rng=rng) for name in pairs]
    evidence = Evidence(
        tables=tables,
        design=design,
        arms=arms,
        comparisons=tuple(seen),
        pairs=pairs,
        words={c.treatment: other_words(c, pairs[c.treatment], design) for c in seen},
        worst_case={c.treatment: worst_word(tables, c, pairs[c.treatment], design) for c in seen},
        without_seed={c.treatment: decisive_seeds(c, pairs[c.treatment], design) for c in seen},
        provenance={**facts, "earlier_looks_interval": adjusted_for_looks(facts, pairs, design)},
    )
    checks = run_checks(evidence)
    seen = [_with_blocker(c, blocking(evidence, checks, c), design) for c in seen]
    return Findings(
        design=design,
        metric_label=metric_label(design),
        arms=arms,
        comparisons=tuple(seen),
        calibration=calibration_rows(scored, design),
        reliability=reliability_diagrams(scored, design),
        curves=curves(tables, design),
        gaps=gaps(tables, design),
        runs=_runs(tables, design),
        checks=checks,
        n_test=next((p.examples.shape[1] for p in pairs.values() if p.examples is not None), None),
        provenance=facts,
    )


def metric_label(design: Design) -> str:
    """Return what the metric is called in a sentence."""
    known = METRICS.get(design.metric)
    if known is None or not design.benchmark_id:  # of scores from elsewhere only the name is known
        return design.metric
    return f"test {known.label}"


def _require_runs(tables: Tables, design: Design) -> None:
    for name in design.arms:
        if not tables.finished(name):
            raise BadTables(
                f"no run of arm {name!r} has finished, so there is nothing to compare.",
                fix=f"bench run {design.experiment}",
            )


def paired(tables: Tables, design: Design, treatment: str) -> Paired:
    """Return both arms on the seeds that finished in both."""
    seeds = tables.paired_seeds(design, treatment)
    base = tables.values(design, design.baseline, seeds)
    other = tables.values(design, treatment, seeds)
    examples = None
    measure = design.measure
    if measure.per_example is not None and all(
        tables.has_predictions(design, arm, seeds) for arm in (design.baseline, treatment)
    ):
        examples = tables.per_example(measure, treatment, seeds)
        examples -= tables.per_example(measure, design.baseline, seeds)
    return Paired(tuple(seeds), base, other, examples)


# -- arms and runs ---------------------------------------------------------------------------


def _arm(tables: Tables, design: Design, name: str) -> Arm:
    values = tables.values(design, name, tables.finished(name))
    rows = tables.trials[tables.trials.arm == name]
    collapsed = int(_collapsed(values, design, chance_level(tables, design)).sum())
    collapse_low, collapse_high = clopper_pearson(collapsed, values.size)
    low, high = mean_interval(values, level=1 - design.alpha)
    return Arm(
        name=name,
        settings=dict(design.arm_settings.get(name, {})),
        n_finished=values.size,
        n_failed=int((rows.status == "failed").sum()),
        n_collapsed=collapsed,
        collapse_low=collapse_low,
        collapse_high=collapse_high,
        mean=float(values.mean()),
        sd=float(values.std(ddof=1)) if values.size > 1 else None,
        min=float(values.min()),
        max=float(values.max()),
        low=low,
        high=high,
    )


def _collapsed(
    values: NDArray[np.float64], design: Design, chance: float | None
) -> NDArray[np.bool_]:
    """Mark finished runs at chance level, or more than 6 MADs on the bad side of the median."""
    good = values if design.higher_is_better else -values
    median = float(np.median(good))
    mad = float(np.median(np.abs(good - median)))
    bad: NDArray[np.bool_] = (
        good < median - COLLAPSE_MADS * mad if mad > 0 else np.zeros(good.size, dtype=np.bool_)
    )
    if chance is not None:
        bad |= good <= (chance if design.higher_is_better else -chance)
    return bad


def _runs(tables: Tables, design: Design) -> tuple[RunRow, ...]:
    known = {(row["arm"], row["seed"]): row for row in records(tables.trials)}
    values = {
        (arm, seed): float(value)
        for arm in design.arms
        for seed, value in zip(
            tables.finished(arm),
            tables.values(design, arm, tables.finished(arm)),
            strict=True,
        )
    }
    seeds = list(dict.fromkeys([*design.seeds, *(int(s) for s in tables.trials.seed)]))
    rows = []
    for seed in seeds:
        for arm in design.arms:
            row = known.get((arm, seed), {})
            rows.append(
                RunRow(
                    seed=seed,
                    arm=arm,
                    value=values.get((arm, seed)),
                    status=str(row.get("status", "missing")),
                    device=str(row.get("device", "")),
                    duration_s=row.get("duration_s"),
                    attempts=int(row.get("attempts") or 0),
                    note=str(row.get("reason") or ""),
                )
            )
    return tuple(rows)


# -- one treatment ---------------------------------------------------------------------------


def _treatment(
    tables: Tables,
    design: Design,
    name: str,
    pairs: Paired,
    scored: Mapping[tuple[str, int], ScoredRun],
    *,
    rng: np.random.Generator,
) -> Treatment:
    main = primary(pairs, design)
    power = _power(pairs, design)
    verdict = _decide(main, pairs.n, design, blocker=_flat(main, pairs))
    return Treatment(
        treatment=name,
        n_pairs=pairs.n,
        verdict=_worded(verdict, main, pairs.n, design, name, power),
        primary=main,
        analyses=_analyses(pairs, design, rng=rng),
        equivalence=_equivalence(main, design),
        effect=_effect(pairs, design),
        bayes=_bayes(main, design),
        power=power,
        variance=_variance(pairs),
        claim=claimed(tables, design, name, pairs, main, verdict),
        secondary=secondary(tables, design, name, list(pairs.seeds), scored, rng=rng),
        anytime=_anytime(pairs, design),
        sufficient=Sufficient(
            seeds=pairs.seeds,
            baseline=tuple(map(float, pairs.baseline)),
            treatment=tuple(map(float, pairs.treatment)),
        ),
    )


def _flat(main: Primary, pairs: Paired) -> str | None:
    flat = main.reason is not None and main.standard_error is None and pairs.n >= FEWEST_PAIRS
    return NO_SPREAD if flat else None


def _decide(main: Primary, n: int, design: Design, *, blocker: str | None = None) -> Verdict:
    return decide(
        n=n,
        low=main.low,
        high=main.high,
        low90=main.low90,
        high90=main.high90,
        margin=design.margin,
        higher_is_better=design.higher_is_better,
        blocker=blocker,
    )


def _worded(
    verdict: Verdict, main: Primary, n: int, design: Design, name: str, power: PowerFinding
) -> VerdictFinding:
    sentence = headline(
        verdict,
        n=n,
        difference=main.difference,
        treatment=name,
        baseline=design.baseline,
        measure=design.measure,
        label=metric_label(design),
        margin=design.margin,
    )
    needed = power.seeds_for_margin if verdict.word == "inconclusive" else None
    return VerdictFinding.of(verdict, sentence, needed, power.reason)


def _with_blocker(c: Treatment, blocker: str | None, design: Design) -> Treatment:
    if blocker is None:
        return c
    verdict = _decide(c.primary, c.n_pairs, design, blocker=blocker)
    worded = _worded(verdict, c.primary, c.n_pairs, design, c.treatment, c.power)
    return replace(c, verdict=worded)


def _analyses(pairs: Paired, design: Design, *, rng: np.random.Generator) -> tuple[Analysis, ...]:
    """Repeat the comparison in the ways a reader might have chosen."""
    level, _ = levels(design)
    base, other = pairs.baseline, pairs.treatment
    rows: list[tuple[str, Callable[[], Comparison]]] = []
    if pairs.examples is not None and pairs.examples.shape[1] >= 2:
        rows.append(("two_way", partial(two_way_over, pairs, level)))
    rows += [
        ("paired_t", partial(paired_t, base, other, level=level)),
        ("sign_flip", partial(sign_flip, base, other, level=level, rng=rng)),
        ("bootstrap_t", partial(bootstrap_t, base, other, level=level, rng=rng)),
        ("wilcoxon", partial(wilcoxon, base, other, level=level)),
        ("welch", partial(welch, base, other, level=level)),
        ("leave_one_out", lambda: leave_one_out(partial(_some, pairs, design, level), pairs.n)),
        ("anytime", partial(_anytime_comparison, pairs, design, level)),
    ]
    return tuple(_attempt(name, compare, pairs, level) for name, compare in rows)


def _some(pairs: Paired, design: Design, level: float, rows: NDArray[np.intp]) -> Comparison:
    """Return the planned analysis of all pairs, or of all but one."""
    if rows.size == pairs.n:
        return fixed_analysis(pairs, design, level=level)
    position = int(np.setdiff1d(np.arange(pairs.n), rows)[0])
    return fixed_without(pairs, design, position, level=level)


def _anytime_comparison(pairs: Paired, design: Design, level: float) -> Comparison:
    floor = variance_floor(fixed_analysis(pairs, design, level=level))
    return anytime(pairs.differences, level=level, variance_floor=floor)


def _attempt(name: str, compare: Callable[[], Comparison], pairs: Paired, level: float) -> Analysis:
    try:
        c = compare()
    except UnusableRuns as refusal:
        mean = float(pairs.differences.mean()) if pairs.n else None
        return Analysis(
            name=name,
            difference=mean,
            low=None,
            high=None,
            level=level,
            p_value=None,
            reason=refusal.what,
        )
    return Analysis(
        name=name,
        difference=c.difference,
        low=c.low,
        high=c.high,
        level=c.level,
        p_value=c.p_value,
        reason=c.reason,
    )


def _equivalence(main: Primary, design: Design) -> EquivalenceFinding | None:
    """Test against the margin with the primary's own error; a sequential one has only limits."""
    if design.margin is None:
        return None
    fixed = main.method in ("two_way", "paired_t")  # else p would ignore the looks
    if not fixed or main.difference is None or main.standard_error is None or main.df is None:
        return EquivalenceFinding(
            p_value=None,
            margin=design.margin,
            reason=main.reason or f"the {main.method} interval has no p for equivalence",
        )
    found = tost(main.difference, main.standard_error, main.df, margin=design.margin)
    return EquivalenceFinding(p_value=found.p_value, margin=design.margin)


def _effect(pairs: Paired, design: Design) -> EffectFinding | None:
    if pairs.n < 2:
        return None
    wins = win_rate(pairs.baseline, pairs.treatment, higher_is_better=design.higher_is_better)
    size, reason = None, None
    diff, n = pairs.differences, pairs.n
    mean = float(diff.mean())
    reach = float(t_isf(0.025, n - 1) * diff.std(ddof=1) * np.sqrt(1 + 1 / n))
    try:
        size = effect_size(pairs.baseline, pairs.treatment)
    except UnusableRuns as refusal:
        reason = refusal.what
    return EffectFinding(
        d_z=None if size is None else size.d_z,
        hedges_g=None if size is None else size.hedges_g,
        low=None if size is None else size.low,
        high=None if size is None else size.high,
        win_rate=wins.rate,
        win_low=wins.low,
        win_high=wins.high,
        new_pair_low=None if size is None else mean - reach,
        new_pair_high=None if size is None else mean + reach,
        wins=wins.wins,
        ties=wins.ties,
        reason=reason,
    )


def _bayes(main: Primary, design: Design) -> BayesFinding | None:
    """Cut the posterior at the margin; without one there is nothing to cut at."""
    if design.margin is None or main.difference is None:
        return None
    if main.standard_error is None or main.df is None:
        return None
    found = posterior(main.difference, main.standard_error, main.df, margin=design.margin)
    worse, better = found.below, found.above
    if not design.higher_is_better:
        worse, better = better, worse
    return BayesFinding(worse=worse, equivalent=found.inside, better=better)


def _power(pairs: Paired, design: Design) -> PowerFinding:
    level, _ = levels(design)
    try:
        fixed = fixed_analysis(pairs, design, level=level)
    except UnusableRuns as refusal:
        return PowerFinding(
            detectable_at_80=None, seeds_for_margin=None, sd=None, reason=refusal.what
        )
    sd = float(pairs.differences.std(ddof=1))
    error, df = fixed.standard_error or sd / np.sqrt(pairs.n), fixed.df or pairs.n - 1
    # A two-way error has its own degrees of freedom: as if from df + 1 seeds.
    n_equivalent = max(2, round(df) + 1)
    gain = detectable(float(error) * np.sqrt(n_equivalent), n_equivalent, alpha=1 - level)
    if design.margin is None:
        reason = "no margin was declared"
        return PowerFinding(detectable_at_80=gain, seeds_for_margin=None, sd=sd, reason=reason)
    per_seed = fixed.variance_per_seed if isinstance(fixed, TwoWay) else sd**2
    needed = seeds_needed(
        design.margin,
        variance_per_seed=per_seed,
        variance_floor=variance_floor(fixed),
        n=pairs.n,
        alpha=1 - level,
    )
    return PowerFinding(
        detectable_at_80=gain, seeds_for_margin=needed.n, sd=sd, reason=needed.reason
    )


def _variance(pairs: Paired) -> VarianceFinding | None:
    if pairs.examples is None:
        return None
    try:
        found = two_way(pairs.examples)
    except UnusableRuns:
        return None
    spread = pairs.baseline.std() > 0 and pairs.treatment.std() > 0
    together = float(np.corrcoef(pairs.baseline, pairs.treatment)[0, 1]) if spread else None
    return VarianceFinding(
        seeds=found.variance_seeds,
        examples=found.variance_examples,
        residual=found.variance_residual,
        correlation_between_arms=together,
        n_examples=found.n_examples,
        ms_seeds=found.ms_seeds,
        ms_examples=found.ms_examples,
        ms_residual=found.ms_residual,
    )


def _anytime(pairs: Paired, design: Design) -> AnytimeFinding:
    level, _ = levels(design)
    looks = design.looks
    try:
        now = _anytime_comparison(pairs, design, level)
    except UnusableRuns:
        return AnytimeFinding(low=None, high=None, e_value=None, p_value=None, looks=looks, path=())
    path = []
    step_size = max(1, pairs.n // MOST_STEPS)  # a thousand seeds need no thousand points
    for n in sorted(range(pairs.n, 1, -step_size)):
        at = pairs.keep(np.arange(n))
        try:
            step = _anytime_comparison(at, design, level)
        except UnusableRuns:
            continue
        path.append((n, step.difference, step.low, step.high))
    evidence = anytime(pairs.differences, level=level).e_value
    return AnytimeFinding(
        low=now.low,
        high=now.high,
        e_value=evidence,
        p_value=now.p_value,
        looks=looks,
        path=tuple(path),
    )


def summary_settings(design: Design) -> Sequence[tuple[str, tuple[str, ...]]]:
    """Return the settings in which the arms differ: key, then one value an arm."""
    keys = dict.fromkeys(key for arm in design.arms for key in design.arm_settings.get(arm, {}))
    rows = []
    for key in keys:
        values = tuple(
            json.dumps(design.arm_settings.get(arm, {}).get(key), default=str, ensure_ascii=False)
            for arm in design.arms
        )
        if len(set(values)) > 1:
            rows.append((key, values))
    return rows
