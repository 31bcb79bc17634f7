"""Words: every sentence of the report, each from the same findings as its numbers."""

import math
import re
from collections.abc import Sequence

from bench.analysis.data.format import (
    MINUS,
    count,
    difference,
    digits_for,
    interval,
    level,
    magnitude,
    number,
    p_equation,
    share,
    spread,
    suffix,
    value,
)
from bench.analysis.inference.sign_flip import EXACT_UP_TO, RANDOM_SUBSETS
from bench.analysis.inference.variance_sources import ALL
from bench.analysis.study.findings import (
    Analysis,
    Findings,
    Primary,
    Secondary,
    Treatment,
    VarianceFinding,
)
from bench.analysis.study.verdict import FEWEST_PAIRS

ALIKE = 0.02  # shares of a width that are called the same

METHOD = {
    "two_way": "crossed analysis of variance over seeds and test examples",
    "paired_t": "paired t interval over seeds",
    "anytime": "anytime-valid mixture interval",
    "group": "group-sequential interval, O’Brien–Fleming spending",
}
REACH = {
    "seeds_and_examples": "new seeds and new test examples",
    "seeds": "new seeds on this test set",
}
ANALYSES = {
    "two_way": ("Seeds and test examples", "crossed random effects"),
    "paired_t": ("Paired t", "new seeds, this test set"),
    "sign_flip": ("Exact sign-flip test", "no distribution assumed"),
    "bootstrap_t": ("Studentized bootstrap", "9,999 resamples, allows skew"),
    "wilcoxon": ("Wilcoxon signed rank", "the typical seed, not the mean"),
    "welch": ("Ignoring the pairing (Welch)", "what an unpaired analysis would have said"),
    "leave_one_out": ("Leave out any one seed", "outer hull of the re-analyses"),
    "anytime": ("Anytime-valid", "holds however often one looks"),
}
COMPONENTS = {  # what a part of the variance comes from, and the question that it answers
    "seeds": ("seeds", "would new seeds give this difference on these test examples?"),
    "examples": ("test examples", "would new test examples give it with these seeds?"),
    "residual": (
        "what neither explains",
        "does a seed do well on some examples only? More of either averages it out",
    ),
}


def analysis_name(a: Analysis, n: int) -> tuple[str, str]:
    """Return what an analysis of n pairs is called, and a few words on it."""
    if a.name == "sign_flip" and n > EXACT_UP_TO:
        return "Sign-flip test", f"no distribution assumed; {RANDOM_SUBSETS:,} random patterns"
    return ANALYSES[a.name]


def flip_name(n: int) -> str:
    """Return what the sign-flip test of n pairs is called in a sentence."""
    return "exact sign-flip" if n <= EXACT_UP_TO else f"sign-flip ({RANDOM_SUBSETS:,} patterns)"


def adjusted_p(f: Findings, p: float | None) -> str:
    """Return "p = 0.003", counting all treatments as the interval beside it does."""
    m = len(f.design.treatments)
    if p is None or m == 1:
        return p_equation(p)
    return f"{p_equation(min(1.0, m * p))}, adjusted for {m} treatments"


def estimate(f: Findings, p: Primary) -> str:
    """Return the signed estimate; with the interval's digits where it would print as zero."""
    u = f.measure.unit
    text = number(p.difference, u)
    if p.difference and not text.startswith(("+", MINUS)):
        text = number(p.difference, u, digits=digits_for(p.low, p.high, u, guards=f.design.guards))
    return text


def signed_estimate(f: Findings, p: Primary) -> str:
    """Return the estimate with its unit: +0.31 pp."""
    return f"{estimate(f, p)}{unit(f)}"


def listed(names: Sequence[str]) -> str:
    """Return "a", "a and b", "a, b and c"."""
    *rest, last = names
    return f"{', '.join(rest)} and {last}" if rest else last


def sentence(name: str) -> str:
    """Return a name with a capital letter."""
    return name[:1].upper() + name[1:]


def limits(f: Findings, low: float | None, high: float | None) -> str:
    """Return an interval that never rounds onto zero or the margin."""
    return interval(low, high, f.measure.unit, guards=f.design.guards)


def confidence(f: Findings, p: Primary) -> str:
    """Return "95% CI [+0.12, +0.50]" of the verdict interval."""
    return f"{level(p.level)} CI {limits(f, p.low, p.high)}"


def title(f: Findings) -> str:
    """Return the page's title."""
    c = f.comparisons[0]
    text = sentence(c.verdict.label.lower())
    if len(f.comparisons) > 1:
        text = overview(f).rstrip(".")
    elif c.verdict.word != "none":
        text += f": {signed_estimate(f, c.primary)}"
    return f"{text} — {f.design.experiment}"


def overview(f: Findings) -> str:
    """Return how many of several treatments got which word."""
    names = {
        "better": "better",
        "worse": "worse",
        "equivalent": "practically equivalent",
        "inconclusive": "inconclusive",
        "none": "without a verdict",
    }
    counts = _counts(f)
    parts = [f"{n} {'is' if n == 1 else 'are'} {names[word]}" for word, n in counts.items()]
    return f"Of {len(f.comparisons)} treatments, {listed(parts)}."


def _counts(f: Findings) -> dict[str, int]:
    """Return how many treatments got each word, the best words first."""
    words = [c.verdict.word for c in f.comparisons]
    order = ("better", "worse", "equivalent", "inconclusive", "none")
    return {word: words.count(word) for word in order if word in words}


def question(f: Findings) -> str:
    """Return the question that the page answers first."""
    return f.design.question if f.design.claim is None else f"Is the claimed {claimed(f)} real?"


def claimed(f: Findings) -> str:
    """Return the claimed gain with its sign and unit: +0.30 pp."""
    claim = f.design.claim or 0.0
    return f"{'+' if claim >= 0 else MINUS}{magnitude(claim, f.measure.unit)}{unit(f)}"


def unit(f: Findings) -> str:
    """Return the printed unit of a difference, with its space."""
    return suffix(f.measure.unit)


def compared(f: Findings) -> str:
    """Return what was compared with what, on which data, how often."""
    arms = listed(f.design.treatments)
    data = (f.provenance.get("data") or {}).get("name")
    pairs = min(c.n_pairs for c in f.comparisons)
    where = f" on {data}" if data else ""
    return f"{sentence(arms)} against {f.design.baseline}{where}, {count(pairs, 'paired seed')}."


def headline_numbers(f: Findings, c: Treatment) -> list[str]:
    """Return the parts of the line under the headline, after the estimate."""
    p, base, other = c.primary, f.arm(f.design.baseline), f.arm(c.treatment)
    means = f"{value(base.mean, f.measure.unit)} → {value(other.mean, f.measure.unit)}"
    if c.verdict.word == "none":
        if not 0 < c.n_pairs < FEWEST_PAIRS:
            return [means]
        each = ", ".join(number(d, f.measure.unit) for d in c.differences)
        return [means, f"{count(c.n_pairs, 'paired seed')}: {each}{unit(f)}"]
    if c.verdict.word == "equivalent":
        parts = [f"{level(p.level90)} CI {limits(f, p.low90, p.high90)}", means]
        if c.equivalence is not None and c.equivalence.p_value is not None:
            parts.append(f"equivalence {adjusted_p(f, c.equivalence.p_value)}")
        return parts
    return [confidence(f, p), means, adjusted_p(f, p.p_value) if p.p_value is not None else ""]


def mini(f: Findings) -> str:
    """Return the sticky bar's summary: glyph, estimate, interval; of several their words."""
    if len(f.comparisons) > 1:
        names = {"none": "no verdict"}
        return ", ".join(f"{n} {names.get(word, word)}" for word, n in _counts(f).items())
    c = f.comparisons[0]
    p = c.primary
    if c.verdict.word == "none":
        return f"{c.verdict.glyph} no verdict"
    if c.verdict.word == "equivalent":
        shown = f"{level(p.level90)} {limits(f, p.low90, p.high90)}"
    else:
        shown = limits(f, p.low, p.high)
    return f"{c.verdict.glyph} {signed_estimate(f, p)} {shown}"


def more_about_verdict(f: Findings, c: Treatment) -> list[str]:
    """Return what an undecided reader needs next: what is still plausible, what would settle it."""
    p, v, n = c.primary, c.verdict, c.n_pairs
    lines: list[str] = []
    if f.design.pending and v.word != "none":
        lines.append(
            f"Interim: {count(f.design.pending, 'planned run')} still to be trained. Until then "
            "the interval is the one that holds however often one looks."
        )
    if v.provisional:
        lines.append(f"Provisional: {n} pairs. The word may change with 10 or more.")
    if v.word == "none" and n < FEWEST_PAIRS:
        floor = f"{2.0 ** (1 - n):.3g}" if n >= 1 else "1"
        lines.append(
            f"With {count(n, 'pair')} the exact test can never go below p = {floor}, whatever the "
            f"data. Run {command(f)}; finished seeds are kept, and the interval will allow for "
            "this look."
        )
    if v.word == "inconclusive" and p.low is not None and p.high is not None:
        better, worse = (p.high, p.low) if f.design.higher_is_better else (p.low, p.high)
        verb = ("gain", "loss") if f.design.higher_is_better else ("fall", "rise")
        digits = digits_for(p.low, p.high, f.measure.unit, guards=f.design.guards)
        sizes = [number(abs(x), f.measure.unit, digits=digits).lstrip("+") for x in (better, worse)]
        lines.append(
            f"A {verb[0]} of {sizes[0]}{unit(f)} and a {verb[1]} of {sizes[1]}{unit(f)} are both "
            "still plausible."
        )
    if v.word == "inconclusive":
        if f.design.margin is not None:
            lines.append(_what_settles(f, c))
    if f.design.margin is None and v.word == "inconclusive":
        lines.append(
            "No margin was declared, so whether the arms match closely enough is not tested."
        )
    if v.word == "inconclusive" and (p.low is None or p.high is None):
        lines.insert(0, f"The interval is still unbounded: {n} pairs are too few for this plan.")
    return lines


def stopping(f: Findings) -> str | None:
    """Return when the plan's rule ended the training, or how it may; None for a fixed number."""
    d = f.design
    if d.stop == "fixed":
        return None
    rule = {
        "group": "looks at half, three quarters and all of the pairs",
        "anytime": "a look after every pair",
    }[d.stop]
    if d.stopped_at is None:
        return f"{rule}; no look was enough to stop"
    more = f.comparisons[0].n_pairs - d.stopped_at
    text = f"{rule}; enough after {count(d.stopped_at, 'pair')} of at most {len(d.seeds)}"
    if more > 0:
        text += f", and {count(more, 'pair')} then in training count too"
    return text


def command(f: Findings) -> str:
    """Return what adds the seeds that a verdict needs."""
    option = "--max-seeds" if f.design.stop == "anytime" else "--seeds"
    again = str(f.provenance.get("again") or f"bench run {f.design.experiment}")
    again = re.sub(rf"(?<!\S)(?:{option}[ =]|-s ?(?=\d))\S+ ?", "", again).rstrip()
    return f"{again} {option} {max(20, len(f.design.seeds))}"


def _what_settles(f: Findings, c: Treatment) -> str:
    margin, needed = f"{magnitude(f.design.margin or 0.0, f.measure.unit)}{unit(f)}", c.verdict
    if needed.seeds_needed is None:
        if _scope(f, c) == "seeds":  # only the number of seeds could be too large to name
            return f"No number of pairs within reach would settle {margin}."
        return f"More test images are needed to settle {margin}, not more seeds."
    if needed.seeds_needed <= c.n_pairs:
        return (
            f"About {needed.seeds_needed:,} pairs settle {margin} in four cases of five; this is "
            "one of the others."
        )
    return f"About {needed.seeds_needed:,} pairs in all would be needed to settle {margin}."


# -- the four facts --------------------------------------------------------------------------


def claim_fact(f: Findings, c: Treatment) -> tuple[str, str]:
    """Return the claim's reading, and what one pair of runs is worth."""
    claim = c.claim
    if claim is None:
        return "None to check", "No claimed gain was declared."
    amount = claimed(f)
    if claim.reading is None or c.verdict.word == "none":
        head, tail = "Not judged", f"There is no interval to hold {amount} against."
    else:
        head = {
            "compatible": "Compatible",
            "larger": "Larger than supported",
            "smaller": "Smaller than supported",
            "contradicted": "Contradicted",
        }[claim.reading]
        place = {
            "compatible": "lies inside the interval",
            "larger": "is more than these seeds support",
            "smaller": "is less than these seeds support",
            "contradicted": "is ruled out by these seeds",
        }[claim.reading]
        tail = f"{amount} {place}"
        if claim.reading == "compatible" and c.verdict.word == "inconclusive":
            tail += ", and so is no gain at all"
        tail += "."
    if claim.chance_without_effect is not None:
        tail += (
            f" One pair of runs would show at least {amount} in "
            f"{share(claim.chance_without_effect)} of cases if there were no effect at all."
        )
    return head, tail


def wins_fact(f: Findings, c: Treatment) -> tuple[str, str]:
    """Return how many seeds the treatment wins, and what one more pair may show."""
    e = c.effect
    if e is None:
        return "Not known", "One pair does not tell how often."
    ties = f", {count(e.ties, 'tie')}" if e.ties else ""
    head = f"{e.wins} of {count(c.n_pairs, 'seed')}{ties}"
    if e.new_pair_low is None or e.new_pair_high is None:
        return head, "Every pair shows the same difference."
    low, high = (number(x, f.measure.unit) for x in (e.new_pair_low, e.new_pair_high))
    return head, f"One new pair could show {low} to {high}{unit(f)}."


def cost_fact(f: Findings, c: Treatment) -> tuple[str, str]:
    """Return what happens to calibration."""
    raw = next((s for s in c.secondary if s.metric == "ece_debiased"), None)
    scaled = next((s for s in c.secondary if s.metric == "ece_debiased_scaled"), None)
    rows = {r.arm: r for r in f.calibration if not r.scaled}
    if raw is None or c.treatment not in rows or f.design.baseline not in rows:
        return "Not measured", "Calibration needs predicted probabilities."
    if c.verdict.word == "none":
        ece = [value(rows[arm].ece, "fraction") for arm in (f.design.baseline, c.treatment)]
        return "Calibration: not judged", f"ECE {ece[0]} → {ece[1]}."
    word = {"▲ better": "better", "▼ worse": "worse"}.get(reading(raw), "not resolved")
    ece = [value(rows[arm].ece, "fraction") for arm in (f.design.baseline, c.treatment)]
    text = f"ECE {ece[0]} → {ece[1]}."
    if scaled is not None:
        after = reading(scaled).lstrip("▲▼? ")
        text += f" After temperature scaling: {after}."
    return f"Calibration {word}" if word != "not resolved" else "Calibration: not resolved", text


def reading(s: Secondary) -> str:
    """Return what a secondary outcome's adjusted interval says."""
    if s.low is None or s.high is None:
        return "? no answer"
    if s.low <= 0 <= s.high:
        return "? not resolved"
    if s.higher_is_better is None:
        return "higher" if s.low > 0 else "lower"
    return "▲ better" if (s.low > 0) == s.higher_is_better else "▼ worse"


def trust_fact(f: Findings) -> tuple[str, str]:
    """Return how many checks did not pass."""
    failed = [c for c in f.checks if c.state == "failed" and c.level != "note"]
    cautions = sum(c.level == "caution" for c in failed)
    blockers = len(failed) - cautions
    asked = [c for c in f.checks if c.level != "note"]
    passed = sum(c.state == "passed" for c in asked)
    return (
        f"{count(cautions, 'caution')}, {count(blockers, 'blocker')}",
        f"{passed} of {len(asked)} passed.",
    )


# -- scope and sections ----------------------------------------------------------------------


def reach(f: Findings, c: Treatment) -> str:
    """Return how far the verdict reaches, and what the other interval says."""
    other = c.analysis("paired_t" if f.design.scope == "seeds_and_examples" else "two_way")
    base = f"{sentence(REACH[_scope(f, c)])}."
    if c.verdict.word == "none":
        base = f"Without a verdict, nowhere yet. The plan asks for {REACH[_scope(f, c)]}."
    if c.verdict.word == "none" or other is None or other.low is None:
        return f"{base} Other data sets, architectures and tuning budgets were not tested."
    shown = limits(f, other.low, other.high)
    if other.name == "paired_t" and _scope(f, c) == "seeds_and_examples":
        fixed = c.primary.method == "two_way"
        verb = "is" if fixed else "for a fixed number of seeds would be"
        base += f" For new seeds on this test set alone the interval {verb} {shown}."
    elif other.name == "two_way":
        base += f" Counting the sampling of test examples too, the interval is {shown}."
    return f"{base} Other data sets, architectures and tuning budgets were not tested."


def _scope(f: Findings, c: Treatment) -> str:
    counted = c.variance is not None and f.design.scope == "seeds_and_examples"
    return "seeds_and_examples" if counted else "seeds"


def primary_name(f: Findings, c: Treatment) -> str:
    """Return the planned analysis in words."""
    return (
        f"mean paired difference, {METHOD[c.primary.method]}, for {REACH[_scope(f, c)]}, "
        f"α = {f.design.alpha:g} two-sided, "
        + (
            f"margin ±{magnitude(f.design.margin, f.measure.unit)}{unit(f)}"
            if f.design.margin
            else "no margin"
        )
    )


def strip_caption(f: Findings, c: Treatment) -> str:
    """Return what the lines of the verdict strip are."""
    if c.verdict.word == "none":
        text = "Open dots: one per pair." if c.n_pairs else "There is no pair to draw."
    elif c.primary.low is None or c.primary.high is None:
        text = "Open dots: one per pair. The interval is still unbounded."
    elif c.primary.method == "paired_t":
        text = (
            f"Bar, which the verdict follows: {level(c.primary.level)} CI for new training seeds "
            "on this test set."
        )
    else:
        inner = f"{level(c.primary.level)} CI for new training seeds on this test set"
        outer = {
            "two_way": [],
            "anytime": ["looks at the results"],
            "group": ["the planned looks"],
        }[c.primary.method]
        if c.primary.method != "two_way":
            inner += ", as if their number had been fixed"
        if _scope(f, c) == "seeds_and_examples":
            outer = [*outer, "a new sample of test images"]
        text = (
            f"Thick bar: {inner}. Thin whisker, which the verdict follows: also allowing for "
            f"{' and '.join(outer)}."
        )
    if f.design.margin:
        when = "before the first run" if f.design.frozen_before_first_run else "by the plan"
        amount = f"{magnitude(f.design.margin, f.measure.unit)}{unit(f)}"
        text += f" Shaded: differences under {amount}, declared too small to matter {when}."
    return text


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
        whose = "" if len(blocked) == len(f.comparisons) else f" for {listed(blocked)}"
        return f"{text} {count(blockers, 'blocker')}: no verdict can be given{whose}."
    if failed:
        return f"{text} None blocks the verdict; {count(len(failed), 'caution')} to read first."
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
        f"With {count(c.n_pairs, 'pair')} the design has an 80% chance of detecting "
        f"{spread(p.detectable_at_80, f.measure.unit)}, counting {REACH[_scope(f, c)]}"
    )
    if f.design.margin is None:
        return f"{text}."
    margin = f"{magnitude(f.design.margin, f.measure.unit)}{unit(f)}"
    settled = c.verdict.word in ("better", "worse", "equivalent") and not c.verdict.size_open
    if settled:
        return f"{text}; on which side of {margin} it lies is settled."
    if p.seeds_for_margin is None:
        return f"{text}; settling {margin} takes more test images, not more seeds."
    return f"{text}; settling {margin} would take about {p.seeds_for_margin:,} pairs in all."


def calibration_lede(f: Findings, c: Treatment) -> str:
    """Return what happens to calibration, in one sentence."""
    rows = {r.arm: r for r in f.calibration if not r.scaled}
    if c.treatment not in rows:
        return "No predicted probabilities are stored, so calibration was not measured."
    row, (head, _) = rows[c.treatment], cost_fact(f, c)
    lean = "over-confident" if row.gap > 0 else "under-confident"
    gap = value(abs(row.gap), "fraction").rstrip("%")
    name = sentence(c.treatment)
    return f"{head}. {name} is {lean} by {gap} pp on average (confidence minus accuracy)."


def what_narrows(f: Findings, c: Treatment) -> str:
    """Return what twice the seeds or twice the test images would do to the interval."""
    v = c.variance
    if v is None or _scope(f, c) == "seeds":
        return ""
    seeds, examples = v.width_with_twice_seeds, v.width_with_twice_examples
    text = (
        f"Twice the seeds would narrow the interval to about {seeds:.0%} of its width, twice the "
        f"test examples to {examples:.0%}"
    )
    if abs(seeds - examples) < ALIKE:
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
    return f"{whose} the variance of the mean difference, {listed(parts)}."


def part_share(x: float) -> str:
    """Return a share of the variance; what is not seen at all is 0%."""
    return "0%" if x == 0 else share(x)


def sources_lede(f: Findings) -> str:
    """Return which source of randomness spreads the paired difference most."""
    rows = [r for r in f.sources if r.treatment == f.design.treatments[0] and r.sd is not None]
    alone = [r for r in rows if r.source != ALL]
    if not alone:
        return ""
    top = max(alone, key=lambda r: r.sd or 0.0)
    return (
        f"Of the sources that varied alone, {top.source} spreads the paired difference most: "
        f"SD {spread(top.sd, f.measure.unit)} over {count(top.n, 'seed')}."
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
        text = f"Seeds correlate at r = {number(r, 'score', digits=2)} between arms"
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
            f"Standardised effect d_z = {number(e.d_z, 'score', digits=2)} "
            f"(95% CI {interval(e.low, e.high, 'score', digits=2)}; "
            f"Hedges g = {number(e.hedges_g, 'score', digits=2)})."
        )
        parts.append(
            f"It wins on {e.win_rate:.0%} of seeds (95% CI {e.win_low:.0%} to {e.win_high:.0%}"
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
            f"{'Yes' if outside else 'Not resolved'}, {adjusted_p(f, p.p_value)}",
            f"two-sided, {METHOD[p.method]}",
        )
    )
    if design.margin is not None:
        margin = f"{magnitude(design.margin, f.measure.unit)}{unit(f)}"
        better = p.low if design.higher_is_better else -p.high
        rows.append(
            (
                f"Is it better by more than {margin}?",
                "Yes" if better > design.margin else "Not shown",
                f"{level(p.level)} CI against the margin",
            )
        )
        if c.equivalence is not None and c.equivalence.p_value is not None:
            small = c.verdict.word == "equivalent"
            rows.append(
                (
                    "Is it too small to matter?",
                    f"{'Yes' if small else 'Not shown'}, {adjusted_p(f, c.equivalence.p_value)}",
                    f"two one-sided tests, ±{margin}",
                )
            )
        if c.bayes is not None:
            rows.append(
                (
                    f"How likely is a gain over {margin}, given these data?",
                    share(c.bayes.better),
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
    amount = claimed(f)
    chance = share(claim.chance_without_effect)
    span = f"{share(claim.chance_low or 0.0)} to {share(claim.chance_high or 0.0)}"
    # One pair has no spread of its own, so alone it can never say yes, however rare its gain.
    alone = "no" if claim.chance_without_effect > f.design.alpha / 2 else "one pair cannot tell"
    rows = [
        (
            f"Is {amount} statistically significant?",
            f"In one pair of runs: {alone}; such a gain shows in {chance} of pairs without any "
            f"effect (95% CI {span}). In these {c.n_pairs} pairs the mean difference is "
            f"{signed_estimate(f, p)} ({adjusted_p(f, p.p_value)}).",
            "the claim’s own protocol: best validation epoch, one run of each arm",
        )
    ]
    if claim.chance_unpaired is not None:
        rows.append(
            (
                "And if the two runs did not share a seed?",
                f"{share(claim.chance_unpaired)} of pairs without any effect",
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
        shown = interval(claim.optimism_low, claim.optimism_high, "fraction")
        rows.append(
            (
                "How much does the best validation epoch flatter?",
                f"By {difference(claim.best_epoch_optimism, 'fraction')}, 95% CI {shown}",
                "validation minus test accuracy at that epoch",
            )
        )
    return rows


def _ratio(x: float) -> str:
    if x >= 1000:
        return "over 1,000"
    return f"{x:.3g}" if math.isfinite(x) else "over 1,000"


# -- cite ------------------------------------------------------------------------------------


def paragraph(f: Findings, c: Treatment) -> str:
    """Return the paste-ready results paragraph."""
    u, design, p, n = f.measure.unit, f.design, c.primary, c.n_pairs
    base, other = f.arm(design.baseline), f.arm(c.treatment)
    verb = "raised" if (p.difference or 0) > 0 else "lowered"
    if c.verdict.word in ("none", "inconclusive", "equivalent"):
        change = (
            f"{design.baseline} reached a mean {f.metric_label} of {value(base.mean, u)} (SD "
            f"{spread(base.sd, u)}) and {c.treatment} {value(other.mean, u)} (SD "
            f"{spread(other.sd, u)}), a mean paired difference of {signed_estimate(f, p)}"
        )
    else:
        change = (
            f"{c.treatment} {verb} mean {f.metric_label} from {value(base.mean, u)} (SD "
            f"{spread(base.sd, u)}) to {value(other.mean, u)} (SD {spread(other.sd, u)}), a mean "
            f"paired difference of {signed_estimate(f, p)}"
        )
    parts = [f"Across {count(n, 'paired training seed')}, {change}"]
    if c.verdict.word == "none":
        parts[0] += "."
    else:
        parts[0] += f", {confidence(f, p)}, {adjusted_p(f, p.p_value)} ({METHOD[p.method]}"
        parts[0] += f"{_companions(f, c)})"
        parts[0] += f"; it won on {c.effect.wins} of {count(n, 'seed')}." if c.effect else "."
        parts.append(_margin_sentence(f, c))
        parts.append(_scope_sentence(f, c))
        parts.append(_calibration_sentence(f, c))
    parts.append(_completeness(f))
    return " ".join(part for part in parts if part)


def _companions(f: Findings, c: Treatment) -> str:
    texts = []
    t, flip = c.analysis("paired_t"), c.analysis("sign_flip")
    if c.primary.method != "paired_t" and t is not None and t.p_value is not None:
        texts.append(f"on this test set alone: paired t, {p_equation(t.p_value)}")
    if flip is not None and flip.p_value is not None:
        texts.append(f"{flip_name(c.n_pairs)} {p_equation(flip.p_value)}")
    return "".join(f"; {text}" for text in texts)


def _margin_sentence(f: Findings, c: Treatment) -> str:
    p, v = c.primary, c.verdict
    if f.design.margin is None:
        if v.word == "inconclusive":
            return "These data do not distinguish the arms."
        return ""
    declared = "pre-declared " if f.design.frozen_before_first_run else ""
    margin = f"{magnitude(f.design.margin, f.measure.unit)}{unit(f)}"
    if v.word == "equivalent":
        p_text = (
            f", {adjusted_p(f, c.equivalence.p_value)}"
            if c.equivalence is not None and c.equivalence.p_value is not None
            else ""
        )
        return (
            f"The {level(p.level90)} CI {limits(f, p.low90, p.high90)} lies within ±{margin} "
            f"(two one-sided tests{p_text})."
        )
    if v.word == "inconclusive":
        best = p.high if f.design.higher_is_better else p.low
        if best is None:
            return "These data do not distinguish the arms."
        return (
            "These data do not distinguish the arms: the interval includes both no difference and "
            f"one of {difference(best, f.measure.unit)}."
        )
    if v.size_open:
        return f"The interval includes differences smaller than {margin}."
    return f"The interval lies beyond the {declared}smallest difference of interest ({margin})."


def _scope_sentence(f: Findings, c: Treatment) -> str:
    t = c.analysis("paired_t")
    if _scope(f, c) == "seeds":
        return "The interval describes new seeds on this fixed test set."
    if t is None or t.low is None:
        return "The interval covers new seeds and new test examples."
    return (
        "The interval covers new seeds and new test examples; for new seeds on this fixed test "
        f"set it is {limits(f, t.low, t.high)}."
    )


def _calibration_sentence(f: Findings, c: Treatment) -> str:
    raw = next((s for s in c.secondary if s.metric == "ece_debiased"), None)
    if raw is None or raw.low is None:
        return ""
    verb = {"▲ better": "improved", "▼ worse": "worsened"}.get(reading(raw))
    shown = (
        f"{difference(raw.difference, 'fraction')}, {level(raw.level)} CI "
        f"{interval(raw.low, raw.high, 'fraction')}, {p_equation(raw.p_adjusted)}, adjusted for "
        f"{len(c.secondary)} secondary outcomes"
    )
    if verb is None:
        return f"The change in calibration error (debiased ECE) was not resolved ({shown})."
    return f"Calibration {verb}: debiased ECE changed by {shown}."


def _completeness(f: Findings) -> str:
    design = f.design
    planned = len(design.seeds) * len(design.arms)
    done = sum(run.status == "finished" for run in f.runs)
    failed = sum(run.status == "failed" for run in f.runs)
    if done == planned:
        runs = f"All {planned} planned runs were completed and analysed"
    else:
        runs = f"{done} of {planned} planned runs were completed"
        runs += f", {failed} failed" if failed else ""
    if design.stopped_at is not None:
        rule = METHOD[f.comparisons[0].primary.method]
        runs = (
            f"The planned rule ({rule}) stopped the training after {design.stopped_at} of at most "
            f"{len(design.seeds)} pairs; {done} runs were completed and analysed, those in "
            "training at the stop included"
        )
    if not design.hash:
        return f"{runs}; the analysis was not preregistered."
    if design.frozen_before_first_run and not design.analysis_changed_after_results:
        when = f"the analysis was frozen before the first run (plan {design.hash[:7]})"
    else:
        when = f"the analysis was changed after results could be seen (plan {design.hash[:7]})"
    if design.seeds_added_after_look:
        when += ", and seeds were added after results could be seen"
    return f"{runs}; {when}."


def p_title(p: float | None) -> str:
    """Return the exact p for a tooltip."""
    return "" if p is None else f"exact: {p:.3g}"


def neurips(f: Findings) -> str:
    """Return answers to items 7 and 8 of the NeurIPS checklist."""
    c = f.comparisons[0]
    hours = sum(run.duration_s or 0.0 for run in f.runs) / 3600
    devices = ", ".join(sorted({run.device for run in f.runs if run.device}))
    done = count(sum(run.status == "finished" for run in f.runs), "run")
    if c.verdict.word == "none":
        bars = "[No] There is no verdict and no interval to report."
    else:
        bars = (
            f"[Yes] Error bars are {level(c.primary.level)} confidence intervals of the mean "
            f"paired difference over {count(c.n_pairs, 'training seed')} "
            f"({METHOD[c.primary.method]}; for {REACH[_scope(f, c)]}). SDs, where given, are over "
            "seeds."
        )
    if hours and devices:
        compute = f"[Yes] {done}, {hours:.2g} device-hours in total on {devices}."
    else:
        compute = f"[No] {done}; their compute was not recorded."
    return f"7. Statistical significance. {bars}\n8. Compute. {compute}"
