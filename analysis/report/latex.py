"""LaTeX: the tables and the paragraph for a paper, by booktabs, graphicx and siunitx."""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import replace

from bench.analysis.data.format import NONE
from bench.analysis.report.names import fitted
from bench.analysis.report.sentences import cite
from bench.analysis.report.tables import (
    Cell,
    Row,
    Table,
    analyses,
    primary_outcome,
    secondary_outcomes,
)
from bench.analysis.study.findings import Findings

# A table shrinks only where it would be wider than the text.
_FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}"
_APART = "\ue000"  # keeps two hyphens from becoming a dash
_SIGNS = {
    _APART: "{}",
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "`": r"\textasciigrave{}",
    '"': r"\char34{}",  # babel may have given it a meaning
    "\u2212": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "≈": r"$\approx$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≠": r"$\neq$",
    "→": r"$\to$",
    "∞": r"$\infty$",
    "▲": r"$\uparrow$",
    "▼": r"$\downarrow$",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "’": "'",
    "‘": "`",
    "“": "``",
    "”": "''",
    "\ufffd": "?",
    **{
        letter: rf"$\{name}$"
        for letter, name in zip(
            "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ",
            "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma "
            "tau upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi "
            "Omega".split(),
            strict=True,
        )
    },
}
_NUMBER = r"[+\u2212]?(?:\d+(?:\.\d+)?|∞)"
_MATHS = re.compile(rf"\[{_NUMBER}, {_NUMBER}\]|(?:\bp [=<>]|^[<>]) [\d.]*\d|\u2212\d[\d.]*")
_CELL = re.compile(r"(?P<sign>[+\u2212])?(?P<whole>\d+)(?:\.(?P<part>\d+))?(?P<unit>%| pp)?")


def inert(text: str) -> str:
    """Return one line of text in which no sign is a command."""
    parts, at = [], 0
    for found in _MATHS.finditer(text):
        maths = found[0].replace(" ", "").replace("\u2212", "-").replace("∞", r"\infty")
        parts += [_escaped(text[at : found.start()]), f"${maths}$"]
        at = found.end()
    return "".join([*parts, _escaped(text[at:])])


def _escaped(text: str) -> str:
    flat = re.sub(r"-(?=-)", f"-{_APART}", re.sub(r"\s+", " ", text))
    return "".join(_SIGNS.get(sign, sign) for sign in flat)


def results(f: Findings, *, version: str) -> str:
    """Return results.tex, to be put into a paper by an input command.

    Parameters
    ----------
    f : what `study` found
    version : of bench
    """
    f = fitted(f)
    blocks = [f"% bench {version}, plan {f.design.hash[:7] or 'not recorded'}."]
    body = [*tables(f), *(_paragraph(cite.paragraph(f, c)) for c in f.comparisons)]
    blocks[0] += "\n% Needs \\usepackage{booktabs,graphicx,siunitx}."
    if not all(text.isascii() for text in body):
        blocks[0] += "\n% Names hold letters that pdfLaTeX may lack; XeLaTeX and LuaLaTeX do not."
    return "\n\n".join([*blocks, *body]) + "\n"


def _paragraph(text: str) -> str:
    return textwrap.fill(inert(text), 96, break_long_words=False, break_on_hyphens=False)


# -- tables ----------------------------------------------------------------------------------


def tables(f: Findings) -> list[str]:
    """Return the outcomes and analyses of fitted findings, in the page's order."""
    by_arm = (of(f, c) for of in (analyses, secondary_outcomes) for c in f.comparisons)
    return [table(t) for t in (primary_outcome(f), *by_arm) if t]


def table(t: Table) -> str:
    """Return one floating table; what is not a number, its first column apart, is left out."""
    kept = [i for i, (_, numbers) in enumerate(t.columns) if numbers or i == 0]
    rows = [replace(row, cells=tuple(row.cells[i] for i in kept)) for row in t.rows]
    kinds = ["l", *(_kind([row.cells[i] for row in rows]) for i in range(1, len(kept)))]
    head = " & ".join(f"{{{inert(t.columns[i][0])}}}" for i in kept)
    caption = f"{t.caption}{f', {t.of}' if t.of else ''}. {t.note}".strip()
    lines = [
        r"\begin{table}[tbp]",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{inert(caption)}}}",
        rf"{_FITTED}{{\begin{{tabular}}{{@{{}}{' '.join(kinds)}@{{}}}}",
        r"\toprule",
        rf"{head} \\",
        r"\midrule",
        *_rows(rows, kinds),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def _kind(cells: Sequence[Cell]) -> str:
    """Return siunitx's column for numbers of equally many decimals, else a plain one."""
    found = [_CELL.fullmatch(cell.text) for cell in cells if cell.text not in ("", NONE)]
    known = [match for match in found if match is not None]
    if not known or len(known) < len(found) or len({len(m["part"] or "") for m in known}) > 1:
        return "r"
    sign = "+" if any(match["sign"] for match in known) else ""
    whole, part = max(len(match["whole"]) for match in known), len(known[0]["part"] or "")
    options = [f"table-format={sign}{whole}.{part}"]
    options += ["retain-explicit-plus"] if sign else []
    units = [match["unit"] for match in known if match["unit"]]
    options += [f"table-space-text-post={{{_unit(max(units, key=len))}}}"] if units else []
    return f"S[{', '.join(options)}]"


def _unit(text: str) -> str:
    return r"\%" if text == "%" else rf"\,{inert(text.strip())}"


def _rows(rows: Sequence[Row], kinds: Sequence[str]) -> list[str]:
    """Return the rows, the one that the verdict rests on apart from the others."""
    lines, before = [], None
    for row in rows:
        if before is not None and before.main != row.main:
            lines.append(r"\midrule")
        first, *rest = row.cells
        # In braces: a name that begins with a bracket would be an option of the row before.
        texts = [_cell(cell, kind) for cell, kind in zip(rest, kinds[1:], strict=True)]
        lines.append(rf"{' & '.join([f'{{{inert(first.text)}}}', *texts])} \\")
        if first.note:
            small = rf"\quad\scriptsize {inert(first.note)}"
            lines.append(rf"\multicolumn{{{len(kinds)}}}{{@{{}}l}}{{{small}}} \\")
        before = row
    return lines


def _cell(cell: Cell, kind: str) -> str:
    number = _CELL.fullmatch(cell.text) if kind.startswith("S") else None
    if number is None:
        return f"{{{inert(cell.text)}}}"
    sign = {"\u2212": "-", "+": "+"}.get(number["sign"] or "", "")
    digits = f"{sign}{number['whole']}" + (f".{number['part']}" if number["part"] else "")
    return digits + (f"{{{_unit(number['unit'])}}}" if number["unit"] else "")
