"""Tables: which rows the report's tables have; page, Markdown and LaTeX print these alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.analysis.data import format as form
from bench.analysis.inference import variance_sources
from bench.analysis.report.names import shortened
from bench.analysis.report.sentences import common, sections, verdict
from bench.analysis.study.conclude import summary_settings
from bench.analysis.study.findings import Analysis, Findings, Secondary, Treatment

MOST_VALUE = 60  # characters of a setting's value, where it is shown as changed

Span = tuple[float | None, float | None, float | None]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell as it is printed."""

    text: str
    note: str = ""  # small print below the text
    title: str = ""  # the exact number, or why there is none
    mood: str = ""  # "pos" or "neg"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row; its first cell names it."""

    cells: tuple[Cell, ...]
    main: bool = False  # what the verdict rests on
    span: Span | None = None  # low, estimate, high, where the page draws them


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table of the report."""

    number: int
    caption: str
    columns: tuple[tuple[str, bool], ...]  # name, whether it holds numbers
    rows: tuple[Row, ...]
    of: str = ""  # the treatment, where there are several
    note: str = ""


def _columns(*texts: str, numbers: Sequence[str] = ()) -> tuple[tuple[str, bool], ...]:
    return (*((name, False) for name in texts), *((name, True) for name in numbers))


def _whose(f: Findings, c: Treatment) -> str:
    return c.treatment if len(f.comparisons) > 1 else ""


def every(f: Findings) -> list[Table]:
    """Return tables 1 to 4 and 8, those of a treatment together, where the findings have them."""
    found = [primary_outcome(f)]
    for c in f.comparisons:
        tables = (analyses(f, c), questions(f, c), secondary_outcomes(f, c), components(f, c))
        found += [t for t in tables if t]
    return found


def varied(f: Findings, c: Treatment) -> list[tuple[str, str, str]]:
    """Return the settings in which this treatment differs from the baseline."""
    arms = f.design.arms
    at = arms.index(c.treatment)
    rows = ((key, values[0], values[at]) for key, values in summary_settings(f.design))
    return [
        (shortened(key, MOST_VALUE), shortened(old, MOST_VALUE), shortened(new, MOST_VALUE))
        for key, old, new in rows
        if old != new
    ]


def primary_outcome(f: Findings) -> Table:
    """Return table 1: each arm over its seeds, and the paired differences."""
    return Table(
        number=1,
        caption="Primary outcome",
        columns=_columns(
            common.sentence(f.metric_label),
            numbers=("Mean", "SD over seeds", "Min to max", f"{form.level(1 - f.design.alpha)} CI"),
        ),
        rows=(*_arms(f), *(_difference(f, c) for c in f.comparisons)),
    )


def _arms(f: Findings) -> list[Row]:
    unit, rows = f.measure.unit, []
    for arm in f.arms:
        runs = [form.count(arm.n_finished, "run")]
        runs += [f"{arm.n_failed} failed"] if arm.n_failed else []
        runs += [f"{arm.n_collapsed} collapsed"] if arm.n_collapsed else []
        texts = (
            form.value(arm.mean, unit),
            form.spread(arm.sd, unit),
            f"{form.value(arm.min, unit)} to {form.value(arm.max, unit)}",
            form.plain_interval(arm.low, arm.high, unit),
        )
        rows.append(_row(Cell(text=arm.name, note=", ".join(runs)), texts))
    return rows


def _difference(f: Findings, c: Treatment) -> Row:
    unit, p, judged = f.measure.unit, c.primary, c.verdict.word != "none"
    note = form.count(c.n_pairs, "pair")
    if judged:
        note += f", the verdict’s {form.level(p.level)} interval"
    texts = (
        form.NONE if p.difference is None else common.signed_estimate(f, p),
        form.spread(c.power.sd, unit),
        " to ".join(form.number(end(c.differences), unit) for end in (min, max))
        if c.differences
        else "",
        common.limits(f, p.low, p.high) if judged else form.NONE,
    )
    name = Cell(text=f"{c.treatment} \u2212 {f.design.baseline}", note=note)
    return replace(_row(name, texts), main=True)


def _row(name: Cell, texts: Sequence[str]) -> Row:
    return Row(cells=(name, *(Cell(text=text) for text in texts)))


# -- does the answer depend on the analysis? -------------------------------------------------


def analyses(f: Findings, c: Treatment) -> Table | None:
    """Return table 2: the planned analysis first and marked; None where there is no verdict."""
    if c.verdict.word == "none":
        return None
    unit = common.unit(f)
    note = f"Difference in {f.metric_label}{',' if unit else ''}{unit}."
    if len(f.comparisons) > 1:
        note += (
            f" Intervals count all {len(f.comparisons)} treatments, these p-values only their own."
        )
    return Table(
        number=2,
        of=_whose(f, c),
        caption=f"{len(c.analyses)} ways to analyse the same {form.count(c.n_pairs, 'pair')}",
        note=note,
        columns=_columns(
            "Analysis", numbers=("Estimate", f"{form.level(c.primary.level)} CI", "p")
        ),
        rows=tuple(_analyses(f, c)),
    )


def _analyses(f: Findings, c: Treatment) -> list[Row]:
    rows = []
    if c.primary.method == "group":
        name = Cell(text="Group-sequential", note="planned looks, O’Brien–Fleming")
        rows.append(_analysis(f, Analysis.of(c.primary.method, c.primary), name, main=True))
    for a in c.analyses:
        text, note = common.analysis_name(a, c.n_pairs)
        main = a.name == c.primary.method
        name = Cell(text=text, note=f"{note}; primary, fixed in the plan" if main else note)
        rows.append(_analysis(f, a, name, main=main))
    if not any(row.main for row in rows):  # the planned one could not be done
        name = Cell(text="Planned analysis", note=common.METHOD[c.primary.method])
        rows.append(_analysis(f, Analysis.of(c.primary.method, c.primary), name, main=True))
    return sorted(rows, key=lambda row: not row.main)


def _analysis(f: Findings, a: Analysis, name: Cell, *, main: bool) -> Row:
    limits = Cell(text=common.limits(f, a.low, a.high))
    if a.low is None and a.high is None:
        limits = Cell(text=form.NONE, title=a.reason or "")
    cells = (name, Cell(text=form.number(a.difference, f.measure.unit)), limits, _p(a.p_value))
    return Row(cells=cells, main=main, span=(a.low, a.difference, a.high))


def _p(p: float | None) -> Cell:
    return Cell(text=form.p_value(p), title=common.p_title(p))


def questions(f: Findings, c: Treatment) -> Table | None:
    """Return table 3: what a p-value does not answer; None where nothing can be answered."""
    rows = sections.questions(f, c)
    if not rows:
        return None
    return Table(
        number=3,
        of=_whose(f, c),
        caption="Questions a single p-value does not answer",
        columns=_columns("Question", "Answer", "Basis"),
        rows=tuple(_row(Cell(text=question), rest) for question, *rest in rows),
    )


# -- secondary outcomes ----------------------------------------------------------------------


def secondary_outcomes(f: Findings, c: Treatment) -> Table | None:
    """Return table 4: interval and p adjusted by the same method; None where there are none."""
    if not c.secondary:
        return None
    n = sum(not s.descriptive for s in c.secondary)
    level = form.level(c.secondary[0].level)
    note = ""
    if n < len(c.secondary):
        note = (
            " The ECE is debiased, over 15 bins of equally many examples; it is described only, as "
            "its intervals do not hold as often as they promise: calibration is judged by the "
            "squared error and by confidence minus accuracy."
        )
    numbers = (f.design.baseline, c.treatment, "Difference", f"{level} CI, adj.", "p, adj.")
    return Table(
        number=4,
        of=_whose(f, c),
        caption="Secondary outcomes",
        note=(
            f"{form.count(c.n_pairs, 'paired seed')}. Intervals and p-values are adjusted "
            f"together for {form.count(n, 'outcome')} (Bonferroni), so they cannot disagree. "
            f"Temperature is fitted on validation data.{note}"
        ),
        columns=(*_columns("Outcome", numbers=numbers), *_columns("Reading")),
        rows=tuple(
            _secondary(s, judged=c.verdict.word != "none" and not f.design.pending)
            for s in c.secondary
        ),
    )


def _secondary(s: Secondary, *, judged: bool) -> Row:
    limits = Cell(text=form.NONE, title=s.reason or "")
    if judged and s.low is not None:
        limits = Cell(text=form.interval(s.low, s.high, s.unit))
    says = verdict.reading(s) if judged else "not judged"
    mood = "neg" if "worse" in says else "pos" if "better" in says else ""
    cells = (
        Cell(text=s.label, note=_direction(s)),
        Cell(text=form.value(s.baseline, s.unit)),
        Cell(text=form.value(s.treatment, s.unit)),
        Cell(text=form.difference(s.difference, s.unit)),
        limits,
        _p(s.p_adjusted) if judged else Cell(text=form.NONE),
        Cell(text=says, mood=mood),
    )
    return Row(cells=cells)


def _direction(s: Secondary) -> str:
    side = {True: "higher is better", False: "lower is better", None: "no direction declared"}
    return side[s.higher_is_better] + (", nats" if s.unit == "nats" else "")


# -- exploratory --------------------------------------------------------------------------------


def classes(f: Findings, c: Treatment) -> Table | None:
    """Return table 5: accuracy within each class of the test set."""
    found = [row for row in f.classes if row.treatment == c.treatment]
    if not found:
        return None
    rows = []
    for k in found:
        accuracies = (form.value(x, "fraction") for x in (k.baseline, k.treated))
        texts = (f"{k.n_examples:,}", *accuracies, form.difference(k.difference, "fraction"))
        row = _row(Cell(text=k.label), texts)
        rows.append(replace(row, cells=(*row.cells, _p(k.p_adjusted))))
    numbers = ("Test examples", f.design.baseline, c.treatment, "Difference", "p, adj.")
    return Table(
        number=5,
        of=_whose(f, c),
        caption="Accuracy within each class",
        note=sections.classes_note(f, c),
        columns=_columns("Class", numbers=numbers),
        rows=tuple(rows),
    )


def spread_by_source(f: Findings) -> Table | None:
    """Return table 7: what each source of randomness brings; None where none varied alone."""
    if not f.sources:
        return None
    unit = f.measure.unit
    rows: list[Row] = []
    for r in f.sources:
        again = bool(rows) and rows[-1].cells[0].text == r.source
        of = f"{r.treatment} \u2212 {r.arm}" if r.treatment else r.arm
        limits = form.NONE
        if r.low is not None and r.high is not None:
            limits = _spreads(r.low, r.high, unit)
        name = Cell(text=r.source, note="" if again else variance_sources.question(r.source))
        row = _row(name, (of, str(r.n), form.spread(r.sd, unit), limits))
        rows.append(replace(row, main=r.source == variance_sources.ALL))
    return Table(
        number=7,
        caption="Spread by source of randomness",
        note="SD over seeds with 95% limits (chi-square, for normal values). One source varies, "
        "the others are pinned to one seed; the last rows vary all.",
        columns=_columns("What varies", "Of", numbers=("Seeds", "SD", "95% limits")),
        rows=tuple(rows),
    )


def components(f: Findings, c: Treatment) -> Table | None:
    """Return table 8: what makes the spread of the difference; None without a crossed analysis."""
    if c.variance is None:
        return None
    unit = f.measure.unit
    rows = []
    for part in c.variance.components:
        text, note = sections.COMPONENTS[part.source]
        cells = (
            f"{part.n:,}",
            form.spread(part.sd, unit),
            _spreads(part.low, part.high, unit),
            sections.part_share(part.share),
        )
        rows.append(_row(Cell(text=common.sentence(text), note=note), cells))
    return Table(
        number=8,
        of=_whose(f, c),
        caption="What makes the spread of the paired difference",
        note="Crossed analysis of variance: SD of one seed, of one test example and of one seed on "
        "one example, with 95% limits (modified large-sample: seeds as if normal, examples by "
        "their kurtosis; those of the last row held in 90% of simulated cases), and the shares of "
        "the variance of the mean. After Bouthillier et al. (2021), Accounting for variance in "
        "machine learning benchmarks, MLSys.",
        columns=_columns(
            "What is drawn anew", numbers=("Drawn", "SD of one", "95% limits", "Share")
        ),
        rows=tuple(rows),
    )


def _spreads(low: float, high: float, unit: form.Unit) -> str:
    return f"{form.spread(low, unit)} to {form.spread(high, unit)}"
