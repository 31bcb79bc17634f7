"""Names of analyses, and numbers as the sentences have them."""

from collections.abc import Sequence

from bench.analysis.data import format as form
from bench.analysis.inference.sign_flip import EXACT_UP_TO, RANDOM_SUBSETS
from bench.analysis.study.analyses import WAYS
from bench.analysis.study.findings import Analysis, Findings, Primary

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


def analysis_name(a: Analysis, n: int) -> tuple[str, str]:
    """Return what an analysis of n pairs is called, and a few words on it."""
    if a.name == "sign_flip" and n > EXACT_UP_TO:
        return "Sign-flip test", f"no distribution assumed; {RANDOM_SUBSETS:,} random patterns"
    return WAYS[a.name].label, WAYS[a.name].note


def flip_name(n: int) -> str:
    """Return what the sign-flip test of n pairs is called in a sentence."""
    return "exact sign-flip" if n <= EXACT_UP_TO else f"sign-flip ({RANDOM_SUBSETS:,} patterns)"


def adjusted_p(f: Findings, p: float | None) -> str:
    """Return "p = 0.003", counting all treatments as the interval beside it does."""
    m = len(f.design.treatments)
    if p is None or m == 1:
        return form.p_equation(p)
    return f"{form.p_equation(min(1.0, m * p))}, adjusted for {m} treatments"


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
