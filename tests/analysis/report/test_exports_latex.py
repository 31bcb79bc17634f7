"""LaTeX: tables that TeX sets as tables, whatever a user called things."""

import re
import shutil
import subprocess

import pytest

from bench.analysis.report import latex
from bench.analysis.report.names import fitted

SHAPES = ("rule3_better", "rule0_few_pairs", "three_treatments", "own_score_lower_is_better",
          "failed_runs", "anytime_few")  # fmt: skip
NAMES = [
    "\\input{/etc/passwd}",
    "\\immediate\\write18{id} \\end{tabular}",
    "\\begin{verbatim}",
    "100% $x^2$ & #1 a_b ~ ^^5c {",
    "^^M^^5cinput{x}",
    "\\",
    "a\\",
    "}",
    "{",
    "&",
    "[x] and \\\\[2cm]",
    "*",
    "--- -- `` '' \" <> |",
    "% comment",
    "new\nline\x00",
    "x" * 10_000,
    "<script>alert(1)</script>",
    "ε ≤ 0.1 → é",
]
COMMANDS = {"begin", "end", "centering", "footnotesize", "setlength", "tabcolsep", "caption",
            "toprule", "midrule", "bottomrule", "multicolumn", "quad", "scriptsize", "pm", "to",
            "leq", "epsilon", "infty", "uparrow", "downarrow", "dots", "textless", "textgreater",
            "textbackslash", "textasciicircum", "textasciitilde", "textbar", "textasciigrave",
            "char", "resizebox", "ifdim", "width", "linewidth", "else", "fi"}  # fmt: skip


def check_structure(text):
    """Refuse LaTeX that TeX would read as anything else than tables and text."""
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert set(re.findall(r"\\([A-Za-z]+)", body)) <= COMMANDS
    depth = 0
    for sign in re.sub(r"\\[\\{}%&#$_,]", "", body):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0
    assert depth == 0
    assert re.sub(r"\\\$", "", body).count("$") % 2 == 0
    bare = re.sub(r"\\.", "", body)
    assert "#" not in bare and "_" not in bare and "^" not in bare and "~" not in bare
    assert "%" not in bare
    for table in re.findall(r"\\begin{tabular}.*?\\end{tabular}", body, re.S):
        columns = len(re.findall(r"\b[lr]\b|S\[[^]]*\]", table.splitlines()[0]))
        assert columns >= 3
        for line in table[table.index(r"\toprule") :].splitlines()[1:-1]:
            if line in (r"\midrule", r"\bottomrule"):
                continue
            assert line.endswith(r" \\")
            cells = len(re.findall(r"(?<!\\)&", line)) + 1
            assert cells == (1 if line.startswith(rf"\multicolumn{{{columns}}}") else columns)


@pytest.mark.parametrize("name", SHAPES)
def test_it_has_the_structure_of_tables(known, name):
    text = latex.results(known(name), version="0.1.0")
    check_structure(text)
    assert text.startswith("% bench 0.1.0, plan ")
    assert r"\usepackage{booktabs,graphicx,siunitx}" in text.split("\n\n")[0]
    assert text.isascii()


def compile_latex(folder, text):
    (folder / "results.tex").write_text(text, "utf-8")
    (folder / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs,graphicx,siunitx}"
        "\\begin{document}\\input{results}\\end{document}"
    )
    return subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper"],
        cwd=folder,
        capture_output=True,
        timeout=60,
    )


@pytest.fixture(scope="module", params=NAMES, ids=lambda name: ascii(name[:24]))
def hostile(request, simulate):
    """Return a small study with one name wherever LaTeX prints one."""
    name, other = request.param, f"{request.param}!"
    return simulate(
        n_seeds=6, n_test=60, n_epochs=2, claim=None, experiment=name, baseline=name,
        treatments=(other,), scores={name: 0.01}, settings={name: {"lr": 0}, other: {"lr": 1}},
    ).findings()  # fmt: skip


def test_a_name_is_no_command(hostile):
    text = latex.results(hostile, version="1")
    check_structure(text)
    assert not re.search(r"\\\\\s*[\[*]", text)  # a row's name is no option of the row before
    assert latex.inert(fitted(hostile).design.baseline) in text
    assert text.count(r"\begin{table}") == 3


NO_TEX = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on PATH")


@NO_TEX
@pytest.mark.parametrize("name", ["rule3_better", "three_treatments", "anytime_few"])
def test_it_compiles(known, tmp_path, name):
    done = compile_latex(tmp_path, latex.results(known(name), version="1"))
    assert done.returncode == 0, done.stdout[-2000:].decode(errors="replace")
    assert b"Overfull" not in done.stdout, done.stdout[-2000:].decode(errors="replace")
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000


@NO_TEX
def test_a_study_of_hostile_names_compiles(hostile, tmp_path):
    done = compile_latex(tmp_path, latex.results(hostile, version="1"))
    assert done.returncode == 0, done.stdout[-2000:].decode(errors="replace")


@pytest.mark.parametrize(
    ("text", "tex"),
    [
        ("95% CI [+0.12, \u22120.50]", r"95\% CI $[+0.12,-0.50]$"),
        ("[\u2212∞, +1.00]", r"$[-\infty,+1.00]$"),
        ("p < 0.001 and p = 0.031", r"$p<0.001$ and $p=0.031$"),
        ("< 0.001", r"$<0.001$"),
        ("\u22120.5 pp", r"$-0.5$ pp"),
        ("a \u2212 b", "a $-$ b"),
        ("ε = 0.1", r"$\epsilon$ = 0.1"),
        ("a--b---c", "a-{}-b-{}-{}-c"),
        ("—", "---"),
        ("“x”’s", "``x'''s"),
        ("[x]*", "[x]*"),
        ("a\\b{c}", r"a\textbackslash{}b\{c\}"),
        ("50% & $5 #1 a_b ~ ^", r"50\% \& \$5 \#1 a\_b \textasciitilde{} \textasciicircum{}"),
        ("two\n\nlines", "two lines"),
    ],
)
def test_signs_are_written_as_signs(text, tex):
    assert latex.inert(text) == tex


def test_letters_that_pdflatex_may_lack_are_announced(simulate):
    f = simulate(n_seeds=6, n_test=40, n_epochs=2, baseline="基线").findings()
    text = latex.results(f, version="1")
    assert "XeLaTeX" in text.split("\n\n")[0] and "基线" in text
    check_structure(text)
