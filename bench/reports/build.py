"""Builds the report of a recorded benchmark: findings, files, and a note on its run."""

import hashlib
import shlex
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from bench.redaction import redacted
from bench.reports.formats import REPORT, Files, contents, require_writable, write_files
from bench.store.artifacts import Damaged
from bench.store.base import Store
from bench.store.names import file_name
from bench.store.records import goes_on
from bench.store.runs import Benchmark, Unreadable

if TYPE_CHECKING:
    from bench.analysis.data.tables import Tables
    from bench.analysis.report.anonymous import Kind
    from bench.analysis.study.findings import Findings
    from bench.design.sample_size import Pilot


@dataclass(frozen=True)
class Reported:
    """What was found, and the files that say it."""

    findings: "Findings"
    paths: list[Path]

    @property
    def html(self) -> Path | None:
        """The page, where it was asked for."""
        return next((path for path in self.paths if path.name == "report.html"), None)


def report(
    store: Store,
    benchmark: Benchmark,
    *,
    out: Path | None = None,
    formats: Sequence[str] | None = None,
    anonymous: bool = False,
    source: bool = False,
) -> Reported:
    """Analyse a benchmark and write its report; page and JSON also go to the MLflow parent run.

    Parameters
    ----------
    store, benchmark : what is recorded, and where
    out : the folder to write to, by default the store's for this experiment
    formats : some of `formats.FORMATS`, by default page and JSON
    anonymous : hide who made it, and where; such a report goes to its folder alone
    source : hold the text of the experiment's source files, not their digests alone
    """
    formats = formats or REPORT
    folder = out or folder_of(store, benchmark)
    if anonymous and out is None:
        folder /= "anonymous"
    require_writable(folder)
    tables = store.tables(benchmark)
    findings = analysed(store, benchmark, tables, source=source)
    if anonymous:
        from bench.analysis.report.anonymous import Veil, anonymous as hidden

        veil = Veil(_identifying(store, benchmark))
        findings = hidden(findings, veil)
        files = contents(findings, formats, tables=tables, hide=veil)
    else:
        every = tuple(dict.fromkeys((*REPORT, *formats)))
        files = contents(findings, every, tables=tables)
    wanted = {name: data for name, data in files.items() if _format(name) in formats}
    paths = write_files(folder, wanted)
    if not anonymous:
        _publish(store, benchmark, findings, files)
    return Reported(findings, paths)


def folder_of(store: Store, benchmark: Benchmark) -> Path:
    """Return where a benchmark's report lies; an A/A's not in the place of the real one."""
    folder = store.folder / "reports" / file_name(benchmark.name)
    return folder / "aa" if benchmark.plan.aa else folder


def _format(name: str) -> str:
    return name.removesuffix(".gz").rpartition(".")[2]


def analysed(
    store: Store, benchmark: Benchmark, tables: "Tables", *, source: bool = False
) -> "Findings":
    """Return what a benchmark says; the same records give the same findings."""
    from bench.analysis.study.study import study

    return study(
        tables,
        benchmark.design(),
        provenance=provenance_of(store, benchmark, source=source),
        families={name: store.tables(b) for name, b in store.families(benchmark).items()},
    )


def comparison(store: Store, name: str) -> Benchmark:
    """Return the latest benchmark that compares arms; an A/A only where there is no other."""
    latest = store.benchmark(name)
    if not latest.plan.aa:
        return latest
    return next((each for each in store.benchmarks(name) if not each.plan.aa), latest)


def pilot_from(store: Store, name: str) -> "tuple[Pilot, str]":
    """Return a recorded benchmark as a pilot, and its metric.

    Raises
    ------
    BadPlan : there is only an A/A, whose arms share no seeds: it shows no paired differences
    """
    from bench.analysis.errors import UnusableRuns
    from bench.analysis.inference import TwoWay
    from bench.analysis.study.summarise import paired
    from bench.analysis.study.verdict_interval import fixed_analysis, variance_floor
    from bench.design.sample_size import BadPlan, Pilot

    benchmark = comparison(store, name)
    if benchmark.plan.aa:
        raise BadPlan(
            f"all that is recorded of {name} is an A/A, whose arms share no seeds.",
            facts=["The SD of paired differences is not in it."],
            options=[("sd", 0.8)],
            without=["pilot"],
        )
    tables, design = store.tables(benchmark), benchmark.design()
    pairs = paired(tables, design, design.treatments[0])
    sd, per_seed, floor = 0.0, 0.0, 0.0
    if pairs.n >= 2:
        sd = float(pairs.differences.std(ddof=1))
        try:
            fixed = fixed_analysis(pairs, design, level=1 - design.alpha)
            floor = variance_floor(fixed)
            per_seed = fixed.variance_per_seed if isinstance(fixed, TwoWay) else sd**2
        except UnusableRuns:
            sd = 0.0
    times = tables.trials[tables.trials.status == "finished"].duration_s
    seconds = float(times.median()) * len(benchmark.plan.arms) if len(times) else None
    return Pilot(name, pairs.n, sd, per_seed, floor, seconds), benchmark.plan.metric


def provenance_of(store: Store, benchmark: Benchmark, *, source: bool = False) -> dict[str, Any]:
    """Return what is known about a benchmark's code, data and machine, of its latest session.

    Parameters
    ----------
    source : with the text of its source files, beside their digests
    """
    sessions = store.provenance(benchmark)
    latest = dict(sessions[-1]) if sessions else {}
    data = dict(benchmark.plan.data)
    notes = [
        _as_sentence(f"{name.partition(' ')[2]} {text}".strip())
        for name, text in data.items()
        if text and name.partition(" ")[0] in ("note", "weights_note")
    ]
    notes += [str(note) for session in sessions for note in session.get("notes") or ()]
    recorded = store.recorded()
    if damaged := [f"{b.name} {b.benchmark_id[:7]}" for b in recorded if isinstance(b, Unreadable)]:
        notes.append(f"Damaged in this store, so left out of all counts: {', '.join(damaged)}.")
    try:
        files = store.source(benchmark)
    except Damaged:
        files = {}
        notes.append(
            "The source files in the store are not what was recorded, so they are left out."
        )
    mlflow = f"experiment {benchmark.experiment_id}, parent run {benchmark.run_id}"
    return {
        **latest,
        "data": data,
        "dirty": None
        if not sessions or any(s.get("dirty") is None for s in sessions)
        else any(s["dirty"] for s in sessions),
        "notes": list(dict.fromkeys(notes)),
        "sessions": len(sessions),
        "source": [_source_file(*each, text_too=source) for each in sorted(files.items())],
        "again": shlex.join(goes_on(benchmark, str(latest.get("command") or ""))),
        "mlflow": mlflow,
        "earlier_looks": _earlier_looks(recorded, benchmark),
        **_reuse(benchmark),
    }


def _source_file(path: str, text: str, *, text_too: bool) -> dict[str, str]:
    """Return a source file's digest, and where asked for its text, without passwords."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    return {"path": path, "sha256": digest, **({"text": redacted(text)} if text_too else {})}


def _reuse(benchmark: Benchmark) -> dict[str, Any]:
    """Return which runs gave other bits in a process of their own, where processes were reused."""
    compared = [event for event in benchmark.events if event["event"] == "reuse compared"]
    if not compared:
        return {}
    differs = sorted({run for event in compared for run in event["differs"]})
    return {"reuse_differs": differs}


def _as_sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _earlier_looks(recorded: Sequence[Benchmark | Unreadable], benchmark: Benchmark) -> int:
    """Count the benchmarks of this store that scored the same test set before this one."""
    digest = benchmark.plan.data.get("digest")
    if digest is None:
        return 0
    return sum(
        isinstance(other, Benchmark)
        and other.plan.data.get("digest") == digest
        and other.started_at < benchmark.started_at
        and other.run_id != benchmark.run_id
        for other in recorded
    )


def _identifying(store: Store, benchmark: Benchmark) -> "dict[str, Kind]":
    """Return what was recorded, or is known here, about who made it and where."""
    known: dict[str, Kind] = {benchmark.run_id: "run"}
    here = {"user": Path.home().name, "host": socket.gethostname()}
    server = {"host": urlparse(store.uri).hostname}
    for session in (*store.provenance(benchmark), here, server):
        host = str(session.get("host") or "")
        known |= {
            str(session.get("user") or ""): "user",
            str(session.get("commit") or ""): "commit",
        }
        known |= {host: "host", host.partition(".")[0]: "host"}
    folders = (store.folder, Path.cwd(), Path.home())
    return {**known, **{str(folder): "path" for folder in folders if len(folder.parts) > 1}}


def _publish(store: Store, benchmark: Benchmark, findings: "Findings", files: Files) -> None:
    """Put a report on the parent run: its files, numbers to sort by, and a note."""
    from bench.analysis.report import markdown

    store.publish(
        benchmark,
        files={name: files[name].decode() for name in files if _format(name) in REPORT},
        metrics=_metrics(findings),
        tags={
            "bench.verdict": ", ".join(c.verdict.word for c in findings.comparisons),
        },
        note=markdown.note(findings),
    )


def _metrics(f: "Findings") -> dict[str, float | None]:
    from bench.analysis.data.format import scale

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
