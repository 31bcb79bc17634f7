"""Names of analyses, and numbers as the sentences have them."""

from collections.abc import Sequence

from bench.analysis.data import format as form
from bench.analysis.data.units import Units
from bench.analysis.inference.sign_flip import EXACT_UP_TO, RANDOM_SUBSETS
from bench.analysis.study.analyses import WAYS
from bench.analysis.study.compare_arm import sizes
from bench.analysis.study.findings import Analysis, Findings, Primary, Treatment
from bench.analysis.study.verdict_interval import seeds_only

ALIKE = 0.02  # shares of a width that are called the same


METHOD = {  # {rows} and {columns} are what these are called
    "two_way": "crossed analysis of variance over {rows} and {columns}",
    "paired_t": "paired t interval over {rows}",
    "weighted_t": "t interval of the weighted mean over {rows}",
    "corrected_t": "t interval corrected for overlapping training sets (Nadeau–Bengio)",
    "welch": "Welch t interval, unpaired",
    "anytime": "anytime-valid mixture interval",
    "group": "group-sequential interval, O’Brien–Fleming spending",
}


def method(f: Findings, p: Primary) -> str:
    """Return the planned analysis in a few words."""
    units = f.design.units
    return METHOD[p.method].format(rows=units.pair.many, columns=units.column.many)


def counted(f: Findings, n: int) -> str:
    """Return "20 seeds", "220 test examples"."""
    return f.design.units.pair.counted(n)


def in_pairs(f: Findings, n: int) -> str:
    """Return "20 pairs"; of other units than seeds "220 test examples"."""
    return form.count(n, "pair") if f.design.units.are_seeds else counted(f, n)


def pairs(f: Findings, c: Treatment) -> str:
    """Return "20 pairs", "220 test examples", "30 and 40 runs"."""
    units = f.design.units
    return form.count(c.n_pairs, "pair") if units.are_seeds else sizes(c.pairs, units.pair)


def compared_units(f: Findings) -> str:
    """Return how many units were compared: "20 paired seeds", "30 and 40 runs"."""
    least = min(f.comparisons, key=lambda c: c.n_pairs)
    if f.design.units.are_seeds:
        return form.count(least.n_pairs, "paired seed")
    return sizes(least.pairs, f.design.units.pair)


def paired(f: Findings, n: int) -> str:
    """Return "20 paired seeds"; of other units than seeds only their number."""
    return form.count(n, "paired seed") if f.design.units.are_seeds else counted(f, n)


def columns_too(f: Findings, c: Treatment) -> bool:
    """Tell whether the interval counts the drawing of columns, such as test examples, too."""
    return f.design.scope == "seeds_and_examples" and (
        c.variance is not None or (c.primary.low is not None and not seeds_only(c.pairs, f.design))
    )


def reach(f: Findings, c: Treatment) -> str:
    """Return the population that the interval of a treatment speaks of."""
    return f.design.units.reach(columns_too=columns_too(f, c))


def won(f: Findings, c: Treatment) -> str:
    """Return "12 of 20 seeds", "18 of 24 discordant test examples, 196 ties"."""
    if c.effect is None:
        return ""
    wins, ties, noun = c.effect.wins, c.effect.ties, f.design.units.pair
    if f.design.units.rows == "none" and ties:
        decided = c.n_pairs - ties
        differ = f"{noun.many} on which the arms differ"
        return f"{wins:,} of {decided:,} {differ}, {form.count(ties, 'tie')}"
    return f"{wins} of {noun.counted(c.n_pairs)}"


def analysis_name(a: Analysis, n: int, units: Units) -> tuple[str, str]:
    """Return what an analysis of n pairs is called, and a few words on it."""
    way = WAYS[a.name]
    if a.name == "sign_flip" and n > EXACT_UP_TO:
        return "Sign-flip test", f"no distribution assumed; {RANDOM_SUBSETS:,} random patterns"
    rows, columns = units.pair, units.column
    names = {
        "rows": rows.many,
        "Rows": sentence(rows.many),
        "row": rows.one,
        "columns": columns.many,
    }
    reached = units.reach(columns_too=False).replace(" on ", ", ", 1)
    return way.label.format(**names), way.note.format(**names, reach=reached)


def flip_name(n: int) -> str:
    """Return what the sign-flip test of n pairs is called in a sentence."""
    return "exact sign-flip" if n <= EXACT_UP_TO else f"sign-flip ({RANDOM_SUBSETS:,} patterns)"


def adjusted_p(f: Findings, p: float | None) -> str:
    """Return "p = 0.003", counting all treatments as the interval beside it does."""
    arms, conditions = len(f.design.treatments), f.design.conditions
    if p is None or arms * conditions == 1:
        return form.p_equation(p)
    counted = [form.count(arms, "treatment")] if arms > 1 else []
    counted += [form.count(conditions, "condition")] if conditions > 1 else []
    adjusted = min(1.0, arms * conditions * p)
    return f"{form.p_equation(adjusted)}, adjusted for {' and '.join(counted)}"


def estimate(f: Findings, p: Primary) -> str:
    """Return the signed estimate; with the interval's digits where it would print as zero."""
    u = f.measure.unit
    text = form.number(p.difference, u)
    if p.difference and not text.startswith(("+", form.MINUS)):
        text = form.number(
            p.difference, u, digits=form.digits_for(p.low, p.high, u, guards=f.design.guards)
        )
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
    return form.interval(low, high, f.measure.unit, guards=f.design.guards)


def confidence(f: Findings, p: Primary) -> str:
    """Return "95% CI [+0.12, +0.50]" of the verdict interval."""
    return f"{form.level(p.level)} CI {limits(f, p.low, p.high)}"


def claimed(f: Findings) -> str:
    """Return the claimed difference with its sign and unit: +0.30 pp."""
    claim = f.design.claimed_difference or 0.0
    return f"{'+' if claim >= 0 else form.MINUS}{form.magnitude(claim, f.measure.unit)}{unit(f)}"


def margin(f: Findings) -> str:
    """Return the margin with its unit: 0.30 pp."""
    return f"{form.magnitude(f.design.margin or 0.0, f.measure.unit)}{unit(f)}"


def unit(f: Findings) -> str:
    """Return the printed unit of a difference, with its space."""
    return form.suffix(f.measure.unit)


def p_title(p: float | None) -> str:
    """Return the exact p for a tooltip."""
    return "" if p is None else f"exact: {p:.3g}"
