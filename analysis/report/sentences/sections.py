"""What stands above and below the tables of the report."""

import math

from bench.analysis.data import format as form
from bench.analysis.inference.variance_sources import ALL
from bench.analysis.report.sentences import common
from bench.analysis.report.sentences.verdict import cost_fact
from bench.analysis.study.findings import Findings, Treatment, VarianceFinding

COMPONENTS = {  # what a part of the variance comes from, and the question that it answers
    "seeds": ("seeds", "would new seeds give this difference on these test examples?"),
    "examples": ("test examples", "would new test examples give it with these seeds?"),
    "residual": (
        "what neither explains",
        "does a seed do well on some examples only? More of either averages it out",
    ),
}


def checks_lede(f: Findings) -> str:
    """Return how many checks there are and what they say together."""
    asked = [c for c in f.checks if c.level != "note"]
    failed = [c for c in asked if c.state == "failed"]
    blockers = sum(c.level == "blocker" for c in failed)
    passed = sum(c.state == "passed" for c in asked)
    unanswered = sum(c.state == "not checked" for c in asked)
    text = f"{passed} of {len(asked)} passed, {unanswered} not checked."
    if blockers:
        blocked = [c.treatment for c in f.comparisons if c.verdict.word == "none"]
        whose = "" if len(blocked) == len(f.comparisons) else f" for {common.listed(blocked)}"
        return f"{text} {form.count(blockers, 'blocker')}: no verdict can be given{whose}."
    if failed:
        return (
            f"{text} None blocks the verdict; {form.count(len(failed), 'caution')} to read first."
        )
    return f"{text} None blocks the verdict."


def analyses_lede(f: Findings) -> str:
    """Return whether the companions lean the same way as the primary."""
    if all(c.verdict.word == "none" for c in f.comparisons):
        return "There is no verdict that could depend on it."
    check = next(check for check in f.checks if check.id == "C8")
    start = "No." if check.state == "passed" else "In part."
    return f"{start} {check.text} Only the first row was planned."


def seeds_lede(f: Findings, c: Treatment) -> str:
    """Return which differences this design sees."""
    p = c.power
    if p.detectable_at_80 is None:
        return f"It cannot be said: {p.reason}."
    text = (
        f"With {common.in_pairs(f, c.n_pairs)} the design has an 80% chance of detecting "
        f"{form.spread(p.detectable_at_80, f.measure.unit)}, counting {common.reach(f, c)}"
    )
    if f.design.margin is None:
        return f"{text}."
    margin = common.margin(f)
    settled = c.verdict.word in ("better", "worse", "equivalent") and not c.verdict.size_open
    if settled:
        return f"{text}; on which side of {margin} it lies is settled."
    if p.seeds_for_margin is None:
        return f"{text}; settling {margin} {_not_settled(f, c)}."
    needed = common.in_pairs(f, p.seeds_for_margin)
    return f"{text}; settling {margin} would take about {needed} in all."


def _not_settled(f: Findings, c: Treatment) -> str:
    if common.columns_too(f, c):
        return f"takes more {f.design.units.column.many}, not more {f.design.units.pair.many}"
    return f"is not a matter of the number of {f.design.units.pair.many} alone"


def calibration_lede(f: Findings, c: Treatment) -> str:
    """Return what happens to calibration, in one sentence."""
    rows = {r.arm: r for r in f.calibration if not r.scaled}
    if c.treatment not in rows:
        return "No predicted probabilities are stored, so calibration was not measured."
    row, (head, _) = rows[c.treatment], cost_fact(f, c)
    lean = "over-confident" if row.gap > 0 else "under-confident"
    gap = form.value(abs(row.gap), "fraction").rstrip("%")
    name = common.sentence(c.treatment)
    return f"{head}. {name} is {lean} by {gap} pp on average (confidence minus accuracy)."


def what_narrows(f: Findings, c: Treatment) -> str:
    """Return what twice the seeds or twice the test images would do to the interval."""
    v = c.variance
    if v is None or not common.columns_too(f, c):
        return ""
    seeds, examples = v.width_with_twice_seeds, v.width_with_twice_examples
    text = (
        f"Twice the seeds would narrow the interval to about {seeds:.0%} of its width, twice the "
        f"test examples to {examples:.0%}"
    )
    if abs(seeds - examples) < common.ALIKE:
        text += ": either helps as much."
    else:
        text += f": more {'seeds' if seeds < examples else 'test examples'} help more."
    return f"{text} {_what_halves(v)}"


def _what_halves(v: VarianceFinding) -> str:
    start, seeds, examples = "Half the width takes", v.seeds_to_halve, v.examples_to_halve
    if seeds is None and examples is None:
        return (
            f"{start} more of both, at most four times as many of each: no number of pairs or of "
            "test examples alone does it."
        )
    if examples is None:
        return f"{start} {_about(seeds)} pairs in all; no number of test examples alone does it."
    if seeds is None:
        return f"{start} {_about(examples)} test examples; no number of pairs alone does it."
    return f"{start} {_about(seeds)} pairs in all, or {_about(examples)} test examples."


def _about(n: int | None) -> str:
    """Return a number rounded up to two digits: an estimate knows no more."""
    step = 10 ** max(0, len(str(n)) - 2)
    return f"about {-(-(n or 0) // step) * step:,}"


def components_lede(f: Findings, c: Treatment) -> str:
    """Return where the variance of the mean difference comes from."""
    if c.variance is None:
        return ""
    first, *rest = (
        (part_share(part.share), COMPONENTS[part.source][0]) for part in c.variance.components
    )
    parts = [f"{first[0]} comes from {first[1]}", *(f"{part} from {what}" for part, what in rest)]
    whose = f"{c.treatment}: of" if len(f.comparisons) > 1 else "Of"
    return f"{whose} the variance of the mean difference, {common.listed(parts)}."


def part_share(x: float) -> str:
    """Return a share of the variance; what is not seen at all is 0%."""
    return "0%" if x == 0 else form.share(x)


def sources_lede(f: Findings) -> str:
    """Return which source of randomness spreads the paired difference most."""
    rows = [r for r in f.sources if r.treatment == f.design.treatments[0] and r.sd is not None]
    alone = [r for r in rows if r.source != ALL]
    if not alone:
        return ""
    top = max(alone, key=lambda r: r.sd or 0.0)
    return (
        f"Of the sources that varied alone, {top.source} spreads the paired difference most: "
        f"SD {form.spread(top.sd, f.measure.unit)} over {form.count(top.n, 'seed')}."
    )


def classes_note(f: Findings, c: Treatment) -> str:
    """Return what the table of classes holds, and how its p-values were adjusted."""
    rows = [row for row in f.classes if row.treatment == c.treatment]
    text = "Exploratory: no class was named in advance. p adjusted over all classes "
    text += "(Benjamini–Hochberg)."
    if f.n_test is not None and sum(row.n_examples for row in rows) < f.n_test:
        text += f" The {len(rows)} classes with the smallest p are listed."
    return text


def training_lede(f: Findings) -> str:
    """Return whether training had levelled off."""
    check = next(check for check in f.checks if check.id == "C14")
    return check.text


def correlation(f: Findings, c: Treatment) -> str:
    """Return what the pairing bought, and the standardised effect."""
    parts = []
    r = None if c.variance is None else c.variance.correlation_between_arms
    paired, unpaired = c.analysis("paired_t"), c.analysis("welch")
    if r is not None:
        text = f"Seeds correlate at r = {form.number(r, 'score', digits=2)} between arms"
        widths = [
            a.high - a.low
            for a in (paired, unpaired)
            if a is not None and a.low is not None and a.high is not None
        ]
        if len(widths) == 2 and widths[1] > 0:
            change = 1 - widths[0] / widths[1]
            verb = "narrowed" if change >= 0 else "widened"
            text += f", so pairing {verb} the seeds-only interval by {abs(change):.0%}"
        parts.append(text + ".")
    e = c.effect
    if e is not None and e.d_z is not None and c.verdict.word != "none":
        parts.append(
            f"Standardised effect d_z = {form.number(e.d_z, 'score', digits=2)} "
            f"(95% CI {form.interval(e.low, e.high, 'score', digits=2)}; "
            f"Hedges g = {form.number(e.hedges_g, 'score', digits=2)})."
        )
        parts.append(
            f"It wins on {e.win_rate:.0%} of {f.design.units.pair.many} "
            f"(95% CI {e.win_low:.0%} to {e.win_high:.0%}"
            f"{', a tie counting half' if e.ties else ''})."
        )
    return " ".join(parts)


def questions(f: Findings, c: Treatment) -> list[tuple[str, str, str]]:
    """Return the questions a p-value does not answer: question, answer, basis."""
    p, design = c.primary, f.design
    rows: list[tuple[str, str, str]] = []
    if c.verdict.word == "none" or p.low is None or p.high is None:
        return rows
    outside = p.low > 0 or p.high < 0
    rows.append(
        (
            "Is there a difference at all?",
            f"{'Yes' if outside else 'Not resolved'}, {common.adjusted_p(f, p.p_value)}",
            f"two-sided, {common.method(f, p)}",
        )
    )
    if design.margin is not None:
        margin = common.margin(f)
        better = p.low if design.higher_is_better else -p.high
        rows.append(
            (
                f"Is it better by more than {margin}?",
                "Yes" if better > design.margin else "Not shown",
                f"{form.level(p.level)} CI against the margin",
            )
        )
        if c.equivalence is not None and c.equivalence.p_value is not None:
            small = c.verdict.word == "equivalent"
            rows.append(
                (
                    "Is it too small to matter?",
                    f"{'Yes' if small else 'Not shown'}, "
                    f"{common.adjusted_p(f, c.equivalence.p_value)}",
                    f"two one-sided tests, ±{margin}",
                )
            )
        if c.bayes is not None:
            rows.append(
                (
                    f"How likely is a gain over {margin}, given these data?",
                    form.share(c.bayes.better),
                    "Bayesian t posterior, reference prior",
                )
            )
    if c.claim is not None and c.claim.chance_without_effect is not None:
        rows += _claim_questions(f, c)
    return rows


def _claim_questions(f: Findings, c: Treatment) -> list[tuple[str, str, str]]:
    claim, p = c.claim, c.primary
    if claim is None or claim.chance_without_effect is None:
        return []
    amount = common.claimed(f)
    chance = form.share(claim.chance_without_effect)
    span = " (counted among these pairs, with either sign)"
    if claim.chance_low is not None and claim.chance_high is not None:
        span = f" (95% CI {form.share(claim.chance_low)} to {form.share(claim.chance_high)})"
    # One pair has no spread of its own, so alone it can never say yes, however rare its gain.
    alone = "no" if claim.chance_without_effect > f.design.alpha / 2 else "one pair cannot tell"
    rows = [
        (
            f"Is {amount} statistically significant?",
            f"In one pair of runs: {alone}; such a gain shows in {chance} of pairs without any "
            f"effect{span}. In these {c.n_pairs} pairs the mean difference is "
            f"{common.signed_estimate(f, p)} ({common.adjusted_p(f, p.p_value)}).",
            "the claim’s own protocol: best validation epoch, one run of each arm",
        )
    ]
    if claim.chance_unpaired is not None:
        rows.append(
            (
                "And if the two runs did not share a seed?",
                f"{form.share(claim.chance_unpaired)} of pairs without any effect",
                "the same, with the spread of both arms",
            )
        )
    if claim.likelihood_ratio is not None:
        rows.append(
            (
                "What is the single pair worth as evidence?",
                f"A likelihood ratio of {_ratio(claim.likelihood_ratio)} for {amount} against 0",
                "1 is worth nothing; 20 is strong",
            )
        )
    if claim.best_epoch_optimism is not None:
        shown = form.interval(claim.optimism_low, claim.optimism_high, "fraction")
        rows.append(
            (
                "How much does the best validation epoch flatter?",
                f"By {form.difference(claim.best_epoch_optimism, 'fraction')}, 95% CI {shown}",
                "validation minus test accuracy at that epoch",
            )
        )
    return rows


def _ratio(x: float) -> str:
    if x >= 1000:
        return "over 1,000"
    return f"{x:.3g}" if math.isfinite(x) else "over 1,000"
