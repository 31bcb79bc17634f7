"""Markdown: the result as text to paste into an issue, a note or a README."""

import re
from collections.abc import Sequence

from bench.analysis.data.format import count
from bench.analysis.report.names import fitted, shortened
from bench.analysis.report.sentences import cite, common, sections, verdict
from bench.analysis.report.tables import Cell, Row, Table, every, varied
from bench.analysis.study.findings import Check, Findings, Treatment

MOST_NOTE = 3000  # signs after which a note names no further treatment; MLflow takes 5,000
MOST_QUESTION = 200

# What a Markdown reader would act on: marks, links, tags, entities, addresses, and what makes a
# heading or a list of a line. Brackets around numbers and "p < 0.001" are left readable.
_ACTS = re.compile(
    r"(?P<text>\[[+\u2212]?[\d.∞]+, [+\u2212]?[\d.∞]+\](?![(\[:]))"
    r"|(?P<entity><(?! )|(?<! )>|>(?! )|&(?=[#A-Za-z]))"
    r"|(?P<mention>@)"
    r"|(?P<mark>[\\`*_{}\[\]|~$]|:(?=//)|(?i:(?<=www)\.|(?<=mailto):|(?<=xmpp):)|^[-+=#](?!\d))"
    r"|(?P<number>^\d+(?=[.)](?: |$)))"
)
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
_JOINER = "\u2060"  # takes no room; keeps "@name" from calling somebody


def inert(text: str) -> str:
    """Return one line of text whose Markdown and HTML signs are only signs."""
    return _ACTS.sub(_replaced, " ".join(text.split()))


def _replaced(found: re.Match[str]) -> str:
    sign = found[0]
    match found.lastgroup:
        case "entity":
            return _ENTITIES[sign]
        case "mention":
            return sign + _JOINER
        case "mark":
            return f"\\{sign}"
        case "number":
            return f"{sign}\\"  # before the point that would begin a list
        case _:
            return sign


def results(f: Findings, *, trail: Sequence[tuple[str, str]]) -> str:
    """Return results.md: verdict, numbers, checks, tables, the paragraph, where it comes from.

    Parameters
    ----------
    f : what `study` found
    trail : name and text of each line of the audit trail
    """
    f = fitted(f)
    blocks = [f"# {inert(verdict.question(f))}", inert(verdict.compared(f))]
    blocks += [f"**{inert(verdict.overview(f))}**"] if len(f.comparisons) > 1 else []
    for c in f.comparisons:
        blocks += [f"## {inert(c.treatment)}"] if len(f.comparisons) > 1 else []
        blocks += _answer(f, c)
    blocks += ["## Read before quoting", inert(sections.checks_lede(f))]
    failed = [_check(check) for check in f.checks if check.state == "failed"]
    blocks += ["\n".join(failed)] if failed else []
    blocks += ["## Tables", *(table(t) for t in every(f)), "## Results paragraph"]
    blocks += [f"> {inert(cite.paragraph(f, c))}" for c in f.comparisons]
    lines = [f"- **{inert(name)}:** {inert(text)}" for name, text in trail]
    blocks += ["## Where it comes from", "\n".join(lines)] if lines else []
    return "\n\n".join(blocks) + "\n"


def note(f: Findings) -> str:
    """Return the few lines that describe the parent run in MLflow."""
    f = fitted(f)
    # The verdict first: MLflow's list of runs shows only the beginning.
    blocks: list[str] = []
    for i, c in enumerate(f.comparisons):
        if sum(map(len, blocks)) > MOST_NOTE:
            blocks.append(f"{count(len(f.comparisons) - i, 'more treatment')} in the report.")
            break
        blocks.append(headline(c))
        if c.verdict.word != "none":
            blocks.append(inert(_numbers(f, c)))
    asked = f"**{inert(shortened(f.design.question, MOST_QUESTION))}**"
    return "\n\n".join([*blocks, asked, "The whole report is the artifact `report.html`."])


def headline(c: Treatment) -> str:
    """Return glyph, word and sentence of a verdict."""
    provisional = ", provisional" if c.verdict.provisional else ""
    sentence = inert(c.verdict.headline)
    return f"{c.verdict.glyph} **{c.verdict.label}{provisional}** {sentence}"


def _numbers(f: Findings, c: Treatment) -> str:
    shown = [] if c.verdict.word == "none" else [common.signed_estimate(f, c.primary)]
    return " · ".join([*shown, *(part for part in verdict.headline_numbers(f, c) if part)])


def _answer(f: Findings, c: Treatment) -> list[str]:
    facts = {
        "The claim": verdict.claim_fact(f, c),
        "How often it wins": verdict.wins_fact(f, c),
        "The cost": verdict.cost_fact(f, c),
        "Trust checks": verdict.trust_fact(f),
        "What differs": ("", "; ".join(f"{key}: {old} → {new}" for key, old, new in varied(f, c))),
        "How far it reaches": ("", verdict.reach(f, c)),
    }
    lines = []
    for name, (head, tail) in facts.items():
        text = f"{head.rstrip('.')}. {tail}" if head else tail
        lines += [f"- **{name}:** {inert(text)}"] if text else []
    return [
        headline(c),
        inert(_numbers(f, c)),
        *(inert(line) for line in verdict.more_about_verdict(f, c)),
        "\n".join(lines),
    ]


def _check(check: Check) -> str:
    why = f" {inert(check.why)}" if check.why else ""
    return f"- **{check.level.capitalize()} {inert(check.id)}:** {inert(check.text)}{why}"


# -- tables ----------------------------------------------------------------------------------


def tables(f: Findings) -> list[str]:
    """Return tables 1 to 4 and 8 of fitted findings, each with its caption."""
    return [table(t) for t in every(f)]


def table(t: Table) -> str:
    """Return one table with its caption above and its note below."""
    number = f"Table {t.number}{f': {inert(t.of)}' if t.of else ''}"
    lines = [
        f"**{number}. {inert(t.caption)}**",
        "",
        _line([inert(name) for name, _ in t.columns]),
        _line(["--:" if numbers else ":--" for _, numbers in t.columns]),
        *(_row(row) for row in t.rows),
    ]
    return "\n".join([*lines, "", inert(t.note)] if t.note else lines)


def _row(row: Row) -> str:
    texts = [_cell(cell) for cell in row.cells]
    return _line([f"**{text}**" if text and row.main else text for text in texts])


def _cell(cell: Cell) -> str:
    return inert(f"{cell.text}: {cell.note}" if cell.note else cell.text)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
