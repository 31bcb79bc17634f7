"""Reporting: a recorded benchmark becomes findings, files and a note on its parent run."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.files import Written, file_name, write_report
from bench.runner import Look
from bench.tracking import Benchmark, Store

if TYPE_CHECKING:
    from analysis.findings import Findings
    from analysis.format import Unit
    from bench.plan import Plan
    from bench.planning import Pilot


def find_out(store: Store, benchmark: Benchmark) -> "Findings":
    """Load a benchmark and analyse it; the same records give the same findings."""
    from analysis.study import study

    return study(
        store.tables(benchmark),
        benchmark.design(),
        provenance=provenance_of(store, benchmark),
        rng=np.random.default_rng(0),
    )


def pilot_from(store: Store, name: str) -> "tuple[Pilot, Unit, float]":
    """Return a recorded benchmark as a pilot, its unit, and typed numbers' factor."""
    from analysis.comparisons import TwoWay
    from analysis.errors import UnusableRuns
    from analysis.format import scale
    from analysis.primary import fixed_analysis, variance_floor
    from analysis.study import paired
    from bench.planning import Pilot

    benchmark = store.benchmark(name)
    tables, design = store.tables(benchmark), benchmark.design()
    pairs = paired(tables, design, design.treatments[0])
    unit, sd, per_seed, floor = design.measure.unit, 0.0, 0.0, 0.0
    if pairs.n >= 2:
        sd = float(pairs.differences.std(ddof=1))
        try:
            fixed = fixed_analysis(pairs, design, level=1 - design.alpha)
            floor = variance_floor(fixed)
            per_seed = fixed.variance_per_seed if isinstance(fixed, TwoWay) else sd**2
        except UnusableRuns:
            sd = 0.0
    times = tables.trials[tables.trials.status == "finished"].duration_s
    seconds = float(times.median()) * 2 if len(times) else None
    return Pilot(name, pairs.n, sd, per_seed, floor, seconds), unit, 1 / scale(unit)


def provenance_of(store: Store, benchmark: Benchmark) -> dict[str, Any]:
    """Return what is known about a benchmark's code, data and machine, of its latest session."""
    sessions = store.provenance(benchmark)
    latest = dict(sessions[-1]) if sessions else {}
    data = dict(benchmark.plan.data)
    notes = [_as_sentence(str(data[key])) for key in ("note", "weights_note") if data.get(key)]
    notes += [str(note) for session in sessions for note in session.get("notes") or ()]
    mlflow = f"experiment {benchmark.experiment_id}, parent run {benchmark.run_id}"
    return {
        **latest,
        "data": data,
        "dirty": None
        if not sessions or any(s.get("dirty") is None for s in sessions)
        else any(s["dirty"] for s in sessions),
        "notes": list(dict.fromkeys(notes)),
        "sessions": len(sessions),
        "mlflow": mlflow,
        "earlier_looks": _earlier_looks(store, benchmark),
    }


def _as_sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _earlier_looks(store: Store, benchmark: Benchmark) -> int:
    """Count the benchmarks of this store that scored the same test set before this one."""
    digest = benchmark.plan.data.get("digest")
    if digest is None:
        return 0
    return sum(
        other.plan.data.get("digest") == digest
        and other.started_at < benchmark.started_at
        and other.run_id != benchmark.run_id
        for other in store.benchmarks()
    )


def write(store: Store, benchmark: Benchmark, findings: "Findings", out: Path | None) -> Written:
    """Write report.html and results.json, and put both on the MLflow parent run."""
    folder = out or store.folder / "reports" / file_name(benchmark.name)
    written = write_report(findings, folder)
    store.publish(
        benchmark,
        files=written.texts,
        metrics=_metrics(findings),
        tags={
            "bench.verdict": ", ".join(c.verdict.word for c in findings.comparisons),
            "bench.plan": findings.design.hash,
        },
        note=note(findings),
    )
    return written


def _metrics(f: "Findings") -> dict[str, float | None]:
    from analysis.format import scale

    factor = scale(f.measure.unit)
    found: dict[str, float | None] = {}
    for i, c in enumerate(f.comparisons):
        end = "" if i == 0 else f"_{i + 1}"
        diff, low, high = (
            None if x is None else x * factor
            for x in (c.primary.difference, c.primary.low, c.primary.high)
        )
        found |= {f"diff_pp{end}": diff, f"ci_low{end}": low, f"ci_high{end}": high}
        found |= {f"p{end}": c.primary.p_value, f"n_pairs{end}": float(c.n_pairs)}
    return found


def note(f: "Findings") -> str:
    """Return the parent run's description in Markdown; what a user typed is inert in it."""
    from analysis.format import difference
    from analysis.report import words

    lines = [f"**{markdown(f.design.question)}**"]
    for c in f.comparisons:
        lines.append(f"{c.verdict.glyph} **{c.verdict.label}** {markdown(c.verdict.headline)}")
        if c.verdict.word != "none":
            estimate = difference(c.primary.difference, f.measure.unit)
            numbers = words.headline_numbers(f, c)
            lines.append(markdown("   ".join([estimate, *numbers])))
    lines.append("The whole report is the artifact `report.html`.")
    return "\n\n".join(lines)


def markdown(text: str) -> str:
    """Return text whose Markdown and HTML signs are only signs."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~$&-])", r"\\\1", " ".join(text.split()))


def looker(plan: "Plan") -> Any:
    """Return the function that the runner asks after each pair: the anytime-valid interval.

    Only the seeds of the first treatment's pairs enter; the verdict waits for the report.
    """
    from analysis.errors import UnusableRuns
    from analysis.sequential import anytime

    treatment = list(plan.arms)[1]

    def look(pairs: Sequence[Mapping[str, float]]) -> Look | None:
        if len(pairs) < 3:
            return None
        differences = [pair[treatment] - pair[plan.baseline] for pair in pairs]
        try:
            now = anytime(differences)
        except UnusableRuns:
            return None
        return Look(now.difference, now.low, now.high)

    return look
