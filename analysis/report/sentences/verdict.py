"""What the first screen says: the word, the numbers behind it, what it reaches and costs."""

import re

from bench.analysis.data import format as form
from bench.analysis.report.sentences import common
from bench.analysis.study.findings import Findings, Secondary, Treatment
from bench.analysis.study.gates import gate
from bench.analysis.study.verdict import fewest_pairs

UNTESTED = "Other training sets, data sets, architectures and tuning budgets were not tested."


def title(f: Findings) -> str:
    """Return the page's title."""
    c = f.comparisons[0]
    text = common.sentence(c.verdict.label.lower())
    if len(f.comparisons) > 1:
        text = overview(f).rstrip(".")
    elif c.verdict.word != "none":
        text += f": {common.signed_estimate(f, c.primary)}"
    return f"{text} — {f.design.experiment}"


def overview(f: Findings) -> str:
    """Return how many of several treatments got which word."""
    names = {
        "better": "better",
        "worse": "worse",
        "equivalent": "practically equivalent",
        "not_worse": "not worse",
        "inconclusive": "inconclusive",
        "none": "without a verdict",
    }
    counts = _counts(f)
    parts = [f"{n} {'is' if n == 1 else 'are'} {names[word]}" for word, n in counts.items()]
    return f"Of {len(f.comparisons)} treatments, {common.listed(parts)}."


def _counts(f: Findings) -> dict[str, int]:
    """Return how many treatments got each word, the best words first."""
    words = [c.verdict.word for c in f.comparisons]
    order = ("better", "worse", "equivalent", "not_worse", "inconclusive", "none")
    return {word: words.count(word) for word in order if word in words}


def question(f: Findings) -> str:
    """Return the question that the page answers first."""
    return (
        f.design.question if f.design.claim is None else f"Is the claimed {common.claimed(f)} real?"
    )


def compared(f: Findings) -> str:
    """Return what was compared with what, on which data, how often."""
    arms = common.listed(f.design.treatments)
    data = (f.provenance.get("data") or {}).get("name")
    against = f"{f.design.baseline} on {data}" if data else f.design.baseline
    return f"{common.sentence(arms)} against {against}, {common.compared_units(f)}."


def headline_numbers(f: Findings, c: Treatment) -> list[str]:
    """Return the parts of the line under the headline, after the estimate."""
    p, base, other = c.primary, f.arm(f.design.baseline), f.arm(c.treatment)
    means = f"{form.value(base.mean, f.measure.unit)} → {form.value(other.mean, f.measure.unit)}"
    if c.verdict.word == "none":
        if not 0 < c.n_pairs < fewest_pairs(p.level) or not c.differences:
            return [means]
        each = ", ".join(form.number(d, f.measure.unit) for d in c.differences)
        found = f"{common.paired(f, c.n_pairs)}: {each}{common.unit(f)}"
        mean = f", mean {common.signed_estimate(f, p)}" if c.n_pairs > 1 else ""
        return [means, f"{found}{mean}"]
    if c.verdict.word in ("equivalent", "not_worse"):
        parts = [f"{form.level(p.level90)} CI {common.limits(f, p.low90, p.high90)}", means]
        if c.equivalence is not None and c.equivalence.p_value is not None:
            parts.append(f"equivalence {common.adjusted_p(f, c.equivalence.p_value)}")
        return parts
    return [
        common.confidence(f, p),
        means,
        common.adjusted_p(f, p.p_value) if p.p_value is not None else "",
    ]


def mini(f: Findings) -> str:
    """Return the sticky bar's summary: glyph, estimate, interval; of several their words."""
    if len(f.comparisons) > 1:
        names = {"none": "no verdict", "not_worse": "not worse"}
        return ", ".join(f"{n} {names.get(word, word)}" for word, n in _counts(f).items())
    c = f.comparisons[0]
    p = c.primary
    if c.verdict.word == "none":
        return f"{c.verdict.glyph} no verdict"
    if c.verdict.word in ("equivalent", "not_worse"):
        shown = f"{form.level(p.level90)} {common.limits(f, p.low90, p.high90)}"
    else:
        shown = common.limits(f, p.low, p.high)
    return f"{c.verdict.glyph} {common.signed_estimate(f, p)} {shown}"


def more_about_verdict(f: Findings, c: Treatment) -> list[str]:
    """Return what an undecided reader needs next: what is still plausible, what would settle it."""
    p, v, n = c.primary, c.verdict, c.n_pairs
    lines: list[str] = []
    if f.design.pending and v.word != "none":
        lines.append(
            f"Interim: {form.count(f.design.pending, 'planned run')} still to be trained. Until "
            "then the interval is the one that holds however often one looks."
        )
    asked = gate(c.pairs, f.design)
    if v.provisional:
        lines.append(f"Provisional: {asked.what}. The word may change with {asked.full} or more.")
    if v.word == "none" and not f.design.units.are_seeds and not asked.is_open:
        lines.append(f"{asked.why} It takes {asked.needed}.")
    elif v.word == "none" and n < fewest_pairs(p.level):
        floor = f"{2.0 ** (1 - n):.3g}" if n >= 1 else "1"
        lines.append(
            f"With {form.count(n, 'pair')} the exact test can never go below p = {floor}, "
            "whatever the "
            f"data. {_more(f)}"
        )
    if v.word == "inconclusive" and p.low is not None and p.high is not None:
        better, worse = (p.high, p.low) if f.design.higher_is_better else (p.low, p.high)
        verb = ("gain", "loss") if f.design.higher_is_better else ("fall", "rise")
        digits = form.digits_for(p.low, p.high, f.measure.unit, guards=f.design.guards)
        sizes = [
            form.number(abs(x), f.measure.unit, digits=digits).lstrip("+") for x in (better, worse)
        ]
        lines.append(
            f"A {verb[0]} of {sizes[0]}{common.unit(f)} and a {verb[1]} of "
            f"{sizes[1]}{common.unit(f)} are both still plausible."
        )
    if v.word == "inconclusive":
        lines.append(_what_settles(f, c))
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
    text = f"{rule}; enough after {form.count(d.stopped_at, 'pair')} of at most {len(d.seeds)}"
    if more > 0:
        text += f", and {form.count(more, 'pair')} then in training count too"
    return text


def _more(f: Findings) -> str:
    if not f.design.benchmark_id:
        return f"Add rows of more {f.design.units.pair.many}; decide before how many."
    return f"Run {command(f)}; finished seeds are kept, and the interval will allow for this look."


def command(f: Findings) -> str:
    """Return what adds the seeds that a verdict needs."""
    option = "--max-seeds" if f.design.stop == "anytime" else "--seeds"
    again = str(f.provenance.get("again") or f"bench run {f.design.experiment}")
    again = re.sub(rf"(?<!\S)(?:{option}[ =]|-s ?(?=\d))\S+ ?", "", again).rstrip()
    return f"{again} {option} {max(20, len(f.design.seeds))}"


def _what_settles(f: Findings, c: Treatment) -> str:
    if f.design.margin is None:
        return "No margin was declared, so whether the arms match closely enough is not tested."
    margin, needed = common.margin(f), c.verdict
    if needed.seeds_needed is None:
        if needed.seeds_needed_reason and not c.pairs.alike:
            return f"How many would settle {margin} is not known: {needed.seeds_needed_reason}."
        if not common.columns_too(f, c):  # only the number of seeds could be too large to name
            return f"No number of pairs within reach would settle {margin}."
        units = f.design.units
        return (
            f"More {units.column.many} are needed to settle {margin}, not more {units.pair.many}."
        )
    if needed.seeds_needed <= c.n_pairs:
        return (
            f"About {needed.seeds_needed:,} pairs settle {margin} in four cases of five; this is "
            "one of the others."
        )
    return f"About {needed.seeds_needed:,} pairs in all would be needed to settle {margin}."


def claim_fact(f: Findings, c: Treatment) -> tuple[str, str]:
    """Return the claim's reading, and what one pair of runs is worth."""
    claim = c.claim
    if claim is None:
        return "None to check", "No claimed gain was declared."
    amount = common.claimed(f)
    if claim.reading is None or c.verdict.word == "none":
        head, tail = "Not judged", f"There is no interval to hold {amount} against."
    else:
        head, place = {
            "compatible": ("Compatible", "lies inside the interval"),
            "larger": ("Larger than supported", "is more than these {rows} support"),
            "smaller": ("Smaller than supported", "is less than these {rows} support"),
            "contradicted": ("Contradicted", "is ruled out by these {rows}"),
        }[claim.reading]
        tail = f"{amount} {place.format(rows=f.design.units.pair.many)}"
        if claim.reading == "compatible" and c.verdict.word == "inconclusive":
            tail += ", and so is no gain at all"
        tail += "."
    if claim.chance_without_effect is not None:
        tail = (
            f"{tail.rstrip('.')}; one pair of runs alone shows at least {amount} in "
            f"{form.share(claim.chance_without_effect)} of cases if there is no effect at all."
        )
    return head, tail


def wins_fact(f: Findings, c: Treatment) -> tuple[str, str]:
    """Return how many seeds the treatment wins, and what one more pair may show."""
    e = c.effect
    if e is None:
        if c.pairs.independent:
            return "Not asked", "The runs are not paired."
        if c.pairs.test_share is not None:
            return "Not asked", "Folds share their training examples."
        return "Not known", "One pair does not tell how often."
    head = common.won(f, c)
    if e.ties and f.design.units.rows != "none":
        head += f", {form.count(e.ties, 'tie')}"
    if e.new_pair_low is None or e.new_pair_high is None:
        return head, "Every pair shows the same difference." if e.reason else ""
    low, high = (form.number(x, f.measure.unit) for x in (e.new_pair_low, e.new_pair_high))
    return head, f"One new pair could show {low} to {high}{common.unit(f)}."


def cost_fact(f: Findings, c: Treatment) -> tuple[str, str]:
    """Return what happens to calibration: judged by the squared error, shown by the ECE."""
    raw = next((s for s in c.secondary if s.metric == "ce2"), None)
    scaled = next((s for s in c.secondary if s.metric == "ce2_scaled"), None)
    rows = {r.arm: r for r in f.calibration if not r.scaled}
    if raw is None or c.treatment not in rows or f.design.baseline not in rows:
        return "Not measured", "Calibration needs predicted probabilities."
    before, after = (
        form.value(rows[arm].ece_debiased, "fraction") for arm in (f.design.baseline, c.treatment)
    )
    text = f"ECE {before} → {after}."
    if c.verdict.word == "none":
        return "Calibration: not judged", text
    if f.design.pending:
        return "Calibration: not judged yet", text
    if scaled is not None:
        why = f" ({scaled.reason})" if scaled.reason else ""
        text += f" After temperature scaling: {reading(scaled).lstrip('▲▼? ')}{why}."
    word = {"▲ better": " better", "▼ worse": " worse"}.get(reading(raw), ": not resolved")
    return f"Calibration{word}", text


def reading(s: Secondary) -> str:
    """Return what a secondary outcome's adjusted interval says."""
    if s.low is None or s.high is None:
        return "? no answer"
    if s.descriptive:
        return "described only"
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
        f"{form.count(cautions, 'caution')}, {form.count(blockers, 'blocker')}",
        f"{passed} of {len(asked)} passed.",
    )


def pairing(f: Findings) -> str:
    """Say what the arms of a seed share."""
    if not f.design.benchmark_id:
        return "What else the arms share is not recorded."
    alike = next((check.state for check in f.checks if check.id == "C17"), "not checked")
    commands = any("command" in settings for settings in f.design.arm_settings.values())
    if commands and alike != "passed":
        return "Paired by seed, which the programs get; batches not compared."
    return "Each seed fixes every source of randomness for both arms."


def reach(f: Findings, c: Treatment) -> str:
    """Return how far the verdict reaches, and what was not tested."""
    return f"{reached(f, c)} {UNTESTED}"


def reached(f: Findings, c: Treatment) -> str:
    """Return how far the verdict reaches, and what the other interval says."""
    other = c.analysis("paired_t" if f.design.scope == "seeds_and_examples" else "two_way")
    base = f"{common.sentence(common.reach(f, c))}."
    if c.verdict.word == "none":
        base = f"Without a verdict, nowhere yet. The plan asks for {common.reach(f, c)}."
    if c.verdict.word == "none" or other is None or other.low is None:
        return base
    shown = common.limits(f, other.low, other.high)
    if other.name == "paired_t" and common.columns_too(f, c):
        fixed = c.primary.method == "two_way"
        verb = "is" if fixed else "for a fixed number of seeds would be"
        alone = f.design.units.reach(columns_too=False)
        base += f" For {alone} alone the interval {verb} {shown}."
    elif other.name == "two_way":
        columns = f.design.units.column.many
        base += f" Counting the sampling of {columns} too, the interval is {shown}."
    return base


def primary_name(f: Findings, c: Treatment) -> str:
    """Return the planned analysis in words."""
    margin = f"margin ±{common.margin(f)}" if f.design.margin else "no margin"
    kind = "difference" if c.pairs.independent else "paired difference"
    return (
        f"mean {kind}, {common.method(f, c.primary)}, "
        f"for {common.reach(f, c)}, α = {f.design.alpha:g} two-sided, {margin}"
    )


def strip_caption(f: Findings, c: Treatment) -> str:
    """Return what the lines of the verdict strip are."""
    alone = f.design.units.reach(columns_too=False).replace("new seeds", "new training seeds")
    if c.verdict.word == "none":
        text = "Open dots: one per pair." if c.differences else "There is no pair to draw."
    elif c.primary.low is None or c.primary.high is None:
        text = "Open dots: one per pair. The interval is still unbounded."
    elif c.primary.method not in ("two_way", "anytime", "group"):
        text = f"Bar, which the verdict follows: {form.level(c.primary.level)} CI for {alone}."
    else:
        inner = f"{form.level(c.primary.level)} CI for {alone}"
        outer = {
            "two_way": [],
            "anytime": ["looks at the results"],
            "group": ["the planned looks"],
        }[c.primary.method]
        if c.primary.method != "two_way":
            inner += ", as if their number had been fixed"
        if common.columns_too(f, c):
            outer = [*outer, f"a new sample of {f.design.units.column.many}"]
        text = (
            f"Thick bar: {inner}. Thin whisker, which the verdict follows: also allowing for "
            f"{' and '.join(outer)}."
        )
    if f.design.margin:
        when = "before the first run" if f.design.frozen_before_first_run else "by the plan"
        size = common.margin(f)
        text += f" Shaded: differences under {size}, declared too small to matter {when}."
    return text
