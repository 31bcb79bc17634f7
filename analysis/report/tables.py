"""Tables: which rows the report's tables have; page, Markdown and LaTeX print these alone."""

from collections.abc import Callable, Sequence
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


# The tables in the page's order, and whether these findings have them.
ORDER: dict[str, Callable[[Findings], bool]] = {
    "primary": lambda f: True,
    "among": lambda f: among(f) is not None,
    "analyses": lambda f: any(c.verdict.word != "none" for c in f.comparisons),
    "questions": lambda f: any(sections.questions(f, c) for c in f.comparisons),
    "sources": lambda f: bool(f.sources),
    "components": lambda f: any(c.variance for c in f.comparisons),
    "secondary": lambda f: any(c.secondary for c in f.comparisons),
    "changed": lambda f: any(c.changed for c in f.comparisons),
    "cost": lambda f: bool(f.costs),
    "classes": lambda f: bool(f.classes),
    "datasets": lambda f: any(c.datasets for c in f.comparisons),
    "runs": lambda f: True,
}


def number(f: Findings, name: str) -> int:
    """Return a table's number: its place among those that these findings have."""
    names = list(ORDER)
    return 1 + sum(ORDER[before](f) for before in names[: names.index(name)])


def _columns(*texts: str, numbers: Sequence[str] = ()) -> tuple[tuple[str, bool], ...]:
    return (*((name, False) for name in texts), *((name, True) for name in numbers))


def _whose(f: Findings, c: Treatment) -> str:
    return c.treatment if len(f.comparisons) > 1 else ""


def every(f: Findings) -> list[Table]:
    """Return all tables but those of classes and runs, in the page's order."""
    by_arm = (analyses, questions, components, secondary_outcomes, changed, cost, data_sets)
    found = [primary_outcome(f), among(f), spread_by_source(f)]
    found += [of(f, c) for of in by_arm for c in f.comparisons]
    return sorted((t for t in found if t), key=lambda t: t.number)


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
    """Return the table of each arm over its seeds, and the paired differences."""
    return Table(
        number=number(f, "primary"),
        caption="Primary outcome",
        columns=_columns(
            common.sentence(f.metric_label),
            numbers=(
                "Mean",
                f"SD over {f.design.units.row.many}",
                "Min to max",
                f"{form.level(1 - f.design.alpha)} CI",
            ),
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
    note = common.pairs(f, c)
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
    """Return the planned analysis, first and marked, and others; None where there is no verdict."""
    if c.verdict.word == "none":
        return None
    unit = common.unit(f)
    note = f"Difference in {f.metric_label}{',' if unit else ''}{unit}."
    if len(f.comparisons) > 1:
        note += (
            f" Intervals count all {len(f.comparisons)} treatments, these p-values only their own."
        )
    return Table(
        number=number(f, "analyses"),
        of=_whose(f, c),
        caption=f"{form.count(len(c.analyses), 'way')} to analyse the same {common.pairs(f, c)}",
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
        text, note = common.analysis_name(a, c.n_pairs, f.design.units)
        main = a.name == c.primary.method
        name = Cell(text=text, note=f"{note}; {_planned(f)}" if main else note)
        rows.append(_analysis(f, a, name, main=main))
    if not any(row.main for row in rows):  # the planned one could not be done
        name = Cell(text="Planned analysis", note=common.method(f, c.primary))
        rows.append(_analysis(f, Analysis.of(c.primary.method, c.primary), name, main=True))
    return sorted(rows, key=lambda row: not row.main)


def _planned(f: Findings) -> str:
    return "primary, fixed in the plan" if f.design.hash else "primary"


def _analysis(f: Findings, a: Analysis, name: Cell, *, main: bool) -> Row:
    limits = Cell(text=common.limits(f, a.low, a.high))
    if a.low is None and a.high is None:
        limits = Cell(text=form.NONE, title=a.reason or "")
    cells = (name, Cell(text=form.number(a.difference, f.measure.unit)), limits, _p(a.p_value))
    return Row(cells=cells, main=main, span=(a.low, a.difference, a.high))


def _p(p: float | None) -> Cell:
    return Cell(text=form.p_value(p), title=common.p_title(p))


def questions(f: Findings, c: Treatment) -> Table | None:
    """Return the table of what a p-value does not answer; None where nothing can be answered."""
    rows = sections.questions(f, c)
    if not rows:
        return None
    return Table(
        number=number(f, "questions"),
        of=_whose(f, c),
        caption="Questions a single p-value does not answer",
        columns=_columns("Question", "Answer", "Basis"),
        rows=tuple(_row(Cell(text=question), rest) for question, *rest in rows),
    )


# -- secondary outcomes ----------------------------------------------------------------------


def secondary_outcomes(f: Findings, c: Treatment) -> Table | None:
    """Return outcomes whose interval and p are adjusted alike; None where there are none."""
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
        number=number(f, "secondary"),
        of=_whose(f, c),
        caption="Secondary outcomes",
        note=(
            f"{common.paired(f, c.n_pairs)}. Intervals and p-values are adjusted "
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
    """Return the table of accuracy within each class of the test set."""
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
        number=number(f, "classes"),
        of=_whose(f, c),
        caption="Accuracy within each class",
        note=sections.classes_note(f, c),
        columns=_columns("Class", numbers=numbers),
        rows=tuple(rows),
    )


def spread_by_source(f: Findings) -> Table | None:
    """Return the table of what each source of randomness brings; None where none varied alone."""
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
        number=number(f, "sources"),
        caption="Spread by source of randomness",
        note="SD over seeds with 95% limits (chi-square, for normal values). One source varies, "
        "the others are pinned to one seed; the last rows vary all.",
        columns=_columns("What varies", "Of", numbers=("Seeds", "SD", "95% limits")),
        rows=tuple(rows),
    )


def components(f: Findings, c: Treatment) -> Table | None:
    """Return what makes the spread of the difference; None without a crossed analysis."""
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
        number=number(f, "components"),
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


def data_sets(f: Findings, c: Treatment) -> Table | None:
    """Return the table of each data set by itself; None where there is but one."""
    if not c.datasets:
        return None
    unit, sign = f.measure.unit, 1 if f.design.higher_is_better else -1
    won = sum(sign * row.difference > 0 for row in c.datasets)
    tied = sum(row.difference == 0 for row in c.datasets)
    rows = []
    for row in c.datasets:
        texts = (
            form.value(row.baseline, unit),
            form.value(row.treatment, unit),
            form.number(row.difference, unit),
            common.limits(f, row.low, row.high) if row.low is not None else form.NONE,
        )
        name = Cell(text=row.name, title=row.reason or "")
        rows.append(replace(_row(name, texts), span=(row.low, row.difference, row.high)))
    level = form.level(c.primary.level)
    return Table(
        number=number(f, "datasets"),
        of=_whose(f, c),
        caption="Each data set by itself",
        note=f"Better on {won}, equal on {tied}, worse on {len(rows) - won - tied} of "
        f"{form.count(len(rows), 'data set')}. Each interval is for its data set alone: of many, "
        "some leave out zero by chance.",
        columns=_columns(
            "Data set", numbers=(f.design.baseline, c.treatment, "Difference", f"{level} CI")
        ),
        rows=tuple(rows),
    )


def changed(f: Findings, c: Treatment) -> Table | None:
    """Return the examples on which the arms differ most; None where they are not known."""
    if c.changed is None:
        return None
    unit, of, noun = f.measure.unit, c.changed, f.design.units.column
    rows = [
        _row(
            Cell(text=example.name),
            (
                form.value(example.baseline, unit),
                form.value(example.treatment, unit),
                form.number(example.treatment - example.baseline, unit),
            ),
        )
        for example in of.examples
    ]
    return Table(
        number=number(f, "changed"),
        of=_whose(f, c),
        caption=f"Which {noun.many} changed most",
        note=f"Of {noun.counted(of.better + of.worse + of.same)}, {of.better:,} are better with "
        f"{c.treatment}, {of.worse:,} worse and {of.same:,} the same, on average over the runs. "
        "Those that changed most, chosen for that: on new runs they would change less.",
        columns=_columns(
            common.sentence(noun.one), numbers=(f.design.baseline, c.treatment, "Difference")
        ),
        rows=tuple(rows),
    )


def cost(f: Findings, c: Treatment) -> Table | None:
    """Return what the treatment costs in training time; None where it was not recorded."""
    of = next((cost for cost in f.costs if cost.of == c.treatment), None)
    if of is None:
        return None
    limits = form.NONE
    if of.low is not None and of.high is not None:
        limits = form.interval(of.low, of.high, "score", digits=1)
    texts = (
        f"{of.baseline:.1f}",
        f"{of.treatment:.1f}",
        form.number(of.difference, "score", digits=1),
        limits,
    )
    return Table(
        number=number(f, "cost"),
        of=_whose(f, c),
        caption="What it costs",
        note=f"Seconds of training a run, paired by {f.design.units.pair.one}, as they were "
        "measured beside whatever else ran; descriptive.",
        columns=_columns(
            "Cost",
            numbers=(f.design.baseline, c.treatment, "Difference", f"{form.level(of.level)} CI"),
        ),
        rows=(_row(Cell(text="Training time"), texts),),
    )


def among(f: Findings) -> Table | None:
    """Return every two arms, all intervals together; None with fewer than three arms."""
    found = f.among
    if found is None or all(c.verdict.word == "none" for c in f.comparisons):
        return None
    unit = f.measure.unit
    rows = [
        Row(
            cells=(
                Cell(text=f"{pair.second} \u2212 {pair.first}", title=pair.reason or ""),
                Cell(text=form.number(pair.difference, unit)),
                Cell(text=common.limits(f, pair.low, pair.high)),
                _p(pair.p_adjusted),
            ),
            span=(pair.low, pair.difference, pair.high),
        )
        for pair in found.contrasts
    ]
    groups = "; ".join(common.listed(group) for group in found.tied)
    note = f"Cannot be told apart: {groups}." if groups else "Every two arms are told apart."
    if found.ranks is not None:
        p = form.p_equation(found.ranks.p_value)
        note += f" Over data sets, Friedman’s test of equal ranks: {p}."
    return Table(
        number=number(f, "among"),
        caption="All arms among themselves",
        note=f"{note} Intervals and p-values count all {len(rows)} pairs (Bonferroni).",
        columns=_columns(
            "Pair", numbers=("Difference", f"{form.level(found.contrasts[0].level)} CI", "p, adj.")
        ),
        rows=tuple(rows),
    )


def _spreads(low: float, high: float, unit: form.Unit) -> str:
    return f"{form.spread(low, unit)} to {form.spread(high, unit)}"
