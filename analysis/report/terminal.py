"""Terminal: the summary that ends a run, 80 columns wide, from the same findings."""

import textwrap

from bench.analysis.data import format as form
from bench.analysis.report.figures.axis import Axis
from bench.analysis.report.figures.verdict_strip import Strip
from bench.analysis.report.names import fitted
from bench.analysis.report.sentences import common, verdict
from bench.analysis.study.findings import Findings, Treatment

WIDTH = 80
ASCII: dict[str, str | int | None] = {
    **dict(zip("▲▼≈–░│├┤┼━●◆○─\u2212’·—“”", '^v~-.|[]+=o*o--\'--""', strict=True)),
    "→": "->",
    "≥": ">=",
    "α": "alpha",
    "±": "+-",
    "∞": "inf",
    "…": "...",
}


def summary(
    f: Findings, *, report: str | None, browse: str = "bench ui", unicode: bool = True
) -> str:
    """Return what `bench run` prints at its end.

    Parameters
    ----------
    f : what `study` found
    report : the path of the HTML report, or None if none was written
    browse : the command that shows the recorded runs
    unicode : False where the terminal cannot show it
    """
    f = fitted(f)
    lines = [*_head(f), ""]
    for c in f.comparisons:
        lines += [*_answer(f, c), ""]
    lines += _facts(f, report, browse)
    return _shown(lines, unicode=unicode)


def brief(f: Findings, *, unicode: bool = True) -> str:
    """Return the words and their intervals alone: what Python shows of findings."""
    f = fitted(f)
    lines = _head(f)
    for c in f.comparisons:
        numbers = [part for part in verdict.headline_numbers(f, c) if part]
        decided = [] if c.verdict.word == "none" else [common.signed_estimate(f, c.primary)]
        lines += [*_word(c), *_wrapped(f"    {'   '.join([*decided, *numbers])}", 4)]
    return _shown(lines, unicode=unicode)


def _shown(lines: list[str], *, unicode: bool) -> str:
    text = "\n".join(lines)
    if unicode:
        return text
    return text.translate(str.maketrans(ASCII)).encode("ascii", "replace").decode()


def _head(f: Findings) -> list[str]:
    planned = len(f.design.seeds)
    pairs = min(c.n_pairs for c in f.comparisons)
    data = (f.provenance.get("data") or {}).get("name")
    head = [f.design.experiment, ", ".join(x for x in (data, f.metric_label) if x)]
    most = "at most " if f.design.stopped_at is not None else ""
    size = f"{pairs} of {most}{form.count(planned, 'pair')}"
    if not f.design.units.are_seeds:
        size = common.compared_units(f)
    return _wrapped(f"{'   '.join(head)}   {size}", 4)


def _word(c: Treatment) -> list[str]:
    provisional = ", provisional" if c.verdict.provisional else ""
    return _wrapped(f"  {c.verdict.glyph} {c.verdict.label}{provisional}  {c.verdict.headline}", 4)


def _answer(f: Findings, c: Treatment) -> list[str]:
    lines = [*_word(c), ""]
    numbers = [part for part in verdict.headline_numbers(f, c) if part]
    if c.verdict.word == "none":
        lines += [f"    {part}" for part in numbers]
    else:
        won = f"won on {common.won(f, c)}" if c.effect else ""
        exact = c.analysis("mcnemar")
        if exact is not None:
            won += f"   McNemar’s exact {form.p_equation(exact.p_value)}"
        first = [common.signed_estimate(f, c.primary), numbers[0], *numbers[2:]]
        lines += _wrapped("    " + "   ".join(first), 4)
        lines += _wrapped("    " + "   ".join(part for part in (numbers[1], won) if part), 4)
        lines += ["", *_strip(f, c)]
    for line in verdict.more_about_verdict(f, c):
        lines += ["", *_wrapped(f"    {line}", 4)]
    if f.design.claim is not None:
        _, tail = verdict.claim_fact(f, c)
        lines += ["", *_wrapped(f"  claim    {tail[:1].lower()}{tail[1:]}", 11)]
    if f.calibration:
        head, tail = verdict.cost_fact(f, c)
        lines += _wrapped(f"  cost     {head[:1].lower()}{head[1:]}. {tail}", 11)
    if c.verdict.word != "none":
        lines += _wrapped(f"  reach    {_reach(f, c)}", 11)
    return lines


def _reach(f: Findings, c: Treatment) -> str:
    text = verdict.reached(f, c)
    return text[:1].lower() + text[1:]


def _strip(f: Findings, c: Treatment) -> list[str]:
    """Draw the margin, the interval and the estimate in one line over an axis."""
    strip = Strip.of(f, c)
    if not strip.span:
        return []
    low, estimate, high = strip.span
    axis = Axis([*strip.lines, low, high], 4.0, WIDTH - 6.0, ticks=7)
    row = [" "] * WIDTH
    for sign, start, end in (("░", -strip.margin, strip.margin), ("━", low, high)):
        if start != end:
            first, last = round(axis(start)), round(axis(end))
            row[first : last + 1] = sign * (last + 1 - first)
    row[round(axis(low))], row[round(axis(high))] = "├", "┤"
    row[round(axis(0))] = "┼" if low < 0 < high else "│"
    row[round(axis(estimate))] = "●"
    labels = [" "] * (WIDTH + 8)
    for tick in axis.ticks():
        text = axis.label(tick)
        start = max(0, round(axis(tick)) - len(text) // 2)
        if all(cell == " " for cell in labels[max(0, start - 1) : start + len(text) + 1]):
            labels[start : start + len(text)] = text
    return ["".join(row).rstrip(), "".join(labels).rstrip()[:WIDTH]]


def _facts(f: Findings, report: str | None, browse: str) -> list[str]:
    passed = sum(c.state == "passed" for c in f.checks)
    unanswered = sum(c.state == "not checked" for c in f.checks)
    text = f"{passed} passed, {unanswered} not checked"
    for kind in ("blocker", "caution"):
        failed = [_short(c.text) for c in f.checks if c.state == "failed" and c.level == kind]
        if failed:
            text += f", {form.count(len(failed), kind)}: {'; '.join(failed)}"
    lines = _wrapped(f"  checks   {text}", 11)
    if rule := verdict.stopping(f):
        lines += _wrapped(f"  stopped  {rule}", 11)
    times = [run.duration_s for run in f.runs if run.duration_s is not None]
    if times:
        what = "GPU time" if any("cuda" in run.device for run in f.runs) else "training"
        spent = f"{form.count(len(times), 'run')}, {form.duration(sum(times))} of {what}"
        lines += [f"  spent    {spent}"]
    for note in f.provenance.get("notes") or ():
        lines += _wrapped(f"  note     {note}", 11)
    ending = [f"  report   {report}"] if report else []
    if f.design.benchmark_id:  # recorded here, not scores from elsewhere
        ending.append(f"  next     {browse}")
    lines += ["", *ending] if ending else []
    return lines


def _short(text: str) -> str:
    text = text.split(". ")[0].split(":")[0].split(" (")[0].rstrip(".")
    return text[:1].lower() + text[1:]


def _wrapped(text: str, indent: int) -> list[str]:
    """Wrap at 80 columns, keeping the first line's own spacing; a longer word is cut."""
    return textwrap.wrap(text, WIDTH - 1, subsequent_indent=" " * indent, break_on_hyphens=False)
