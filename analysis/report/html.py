"""Page: findings to one self-contained HTML file, without scripts and without requests."""

import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache, partial
from html import escape
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from bench.analysis.data import format as form
from bench.analysis.report import latex, markdown, tables
from bench.analysis.report.document import document, packed, written_by
from bench.analysis.report.figures import verdict_strip
from bench.analysis.report.figures.style import VERDICT_COLOUR
from bench.analysis.report.figures.verdict import strip
from bench.analysis.report.names import fitted, listing, printable, shortened
from bench.analysis.report.pictures import Drawn, draw
from bench.analysis.report.sentences import cite, common, sections, verdict
from bench.analysis.study.findings import Check, Findings, RunRow

HERE = Path(__file__).parent
STYLE = HERE / "style.css"
MOST_ROWS = 24  # of the running estimate
MOST_TEXT = 4000  # characters of one line of the audit trail
NO_DIGEST = "0" * 64  # in its place while the page's own digest is taken
DIGEST = re.compile(r'sha256 of this page <span class="mono">([^<]*)</span>')


def render(f: Findings, *, version: str, data: str | None = None) -> str:
    """Return the report as HTML; the same findings give the same bytes.

    Parameters
    ----------
    f : what `study` found
    version : of bench, for the page's generator tag
    data : what to embed, by default what `embedded` returns
    """
    data = data or embedded(f, version=version)
    source = [each for each in f.provenance.get("source") or () if "text" in each]
    f = fitted(f)
    unit, drawings = f.measure.unit, draw(f)
    text = _template("page.html.j2").render(
        **_screen(f, drawings["strips"]),
        checks="#checks",
        cite=cite,
        sections=sections,
        writer=written_by(version),
        css=STYLE.read_text("utf-8"),
        data=data,
        digest=NO_DIGEST,
        drawings=drawings,
        ece=partial(_ece, f),
        table_number=partial(tables.number, f),
        severity=_severity,
        tables=tables,
        latex=latex.tables(f),
        markdown=markdown.tables(f),
        forest_axis=lambda t: verdict_strip.forest_axis(f, (row.span for row in t.rows)),
        thinned=_thinned,
        provenance=audit_trail(f),
        source=[(printable(each["path"]), listing(each["text"])) for each in source],
        printed_line=provenance_line(f),
        run_note=_run_note,
        number=lambda x: form.number(x, unit),
        value=lambda x, u=unit: form.value(x, u),
        diff=lambda x, u=unit: form.difference(x, u),
        duration=lambda s: "" if s is None else form.duration(s),
    )
    return text.replace(_marked(NO_DIGEST), _marked(digest(text)), 1)


def first_screen(f: Findings) -> str:
    """Return the first screen of the report for a notebook, whose own style it leaves alone."""
    f = fitted(f)
    seen = repr((f.design, [c.primary for c in f.comparisons]))
    ids = f"bench-{hashlib.sha256(seen.encode('utf-8', 'backslashreplace')).hexdigest()[:8]}-"
    strips = {c.treatment: strip(f, c, ids=ids) for c in f.comparisons}
    return _template("notebook.html.j2").render(
        **_screen(f, strips, ids=ids), checks=None, css=_nested(STYLE.read_text("utf-8"))
    )


def _nested(css: str) -> str:
    """Return the page's style for what stands inside one element: rules of the page become its."""
    return re.sub(r"(?<![\w-])(:root|body)(?=[{:,])", "&", css)


def _screen(f: Findings, strips: Drawn, ids: str = "") -> dict[str, Any]:
    """Return what the first screen of fitted findings needs, here and in a notebook."""
    return {
        "f": f,
        "first": f.comparisons[0],
        "several": len(f.comparisons) > 1,
        "strips": strips,
        "ids": ids,
        "common": common,
        "verdict": verdict,
        "count": form.count,
        "level": form.level,
        "kind": lambda c: VERDICT_COLOUR[c.verdict.word],
        "varied": partial(tables.varied, f),
        "notes": [str(note) for note in f.provenance.get("notes") or ()],
        "overview_axis": partial(verdict_strip.overview_axis, f),
        "scale": form.scale(f.measure.unit),
        "estimate": partial(common.estimate, f),
    }


def digest(text: str) -> str:
    """Return the SHA-256 of a page, but for the digest that it states."""
    stated = stated_digest(text)
    bare = text if stated is None else text.replace(_marked(stated), _marked(NO_DIGEST), 1)
    return hashlib.sha256(bare.encode("utf-8", "backslashreplace")).hexdigest()


def stated_digest(text: str) -> str | None:
    """Return the digest that a page states of itself."""
    found = DIGEST.search(text)
    return found[1] if found else None


def _marked(digest: str) -> str:
    return f'sha256 of this page <span class="mono">{digest}</span>'


@cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,  # everything a user typed is text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["glossed"] = glossed
    return environment.get_template(name)


def embedded(f: Findings, *, version: str) -> str:
    """Return results.json, its summary packed, as text that is safe inside a script element."""
    data = packed(document(f, version=version))
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


GLOSSES = {
    "d_z": "the mean difference over the standard deviation of the differences",
    "Hedges g": "d_z, corrected for few pairs",
    "likelihood ratio": "how much better one of two values explains what was seen",
    "outer hull": "from the lowest to the highest limit of all these intervals",
    "debiased": "less the error that a perfectly calibrated model would show by chance",
}
_TERM = re.compile("|".join(rf"\b{re.escape(term)}" for term in GLOSSES))


def glossed(text: str) -> str:
    """Return a text as HTML, escaped, in which terms of the trade explain themselves."""
    return _TERM.sub(
        lambda found: f'<dfn title="{GLOSSES[found[0]]}">{found[0]}</dfn>', escape(text)
    )


def provenance_line(f: Findings) -> str:
    """Return what a printed first page says of where its numbers are from."""
    p, d = f.provenance, f.design
    parts = [
        f"plan {d.hash[:7]}" if d.hash else "",
        _commit(p) or "",
        f"bench {p['bench']}" if p.get("bench") else "",
        str(p.get("recorded") or ""),
    ]
    return ", ".join(part for part in parts if part)


def _ece(f: Findings, arm: str) -> str:
    row = next(r for r in f.calibration if r.arm == arm and not r.scaled)
    return form.value(row.ece_debiased, "fraction")


def _severity(check: Check) -> tuple[str, str]:
    if check.state == "passed":
        return "ok", "✓ Passed"
    if check.state == "not checked":
        return "note", "· Not checked"
    return {
        "blocker": ("blocker", "■ Blocker"),
        "caution": ("caution", "◆ Caution"),
        "note": ("note", "◇ Note"),
    }[check.level]


def _thinned(path: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return at most some two dozen rows of a long path, the last one always."""
    step = max(1, -(-len(path) // MOST_ROWS))
    return [row for i, row in enumerate(path) if (len(path) - 1 - i) % step == 0]


def _run_note(run: RunRow) -> str:
    if run.status == "finished":
        return f"{run.attempts} attempts" if run.attempts > 1 else ""
    return f"{run.status}: {run.note}" if run.note else run.status


def audit_trail(f: Findings) -> list[tuple[str, str, bool]]:
    """Return what a reader needs to repeat or to doubt the result: name, text, whether code."""
    d, p, c = f.design, f.provenance, f.comparisons[0]
    done = sum(run.status == "finished" for run in f.runs)
    failed = sum(run.status == "failed" for run in f.runs)
    retried = sum(run.attempts > 1 for run in f.runs)
    planned = len(d.seeds) * len(d.arms)
    settings = {arm.name: dict(arm.settings) for arm in f.arms}
    lines: list[tuple[str, object, bool]] = [
        ("Command", p.get("command"), True),
        ("Plan", _plan_line(f), False),
        ("Primary analysis", verdict.primary_name(f, c), False),
        ("Stopping rule", verdict.stopping(f), False),
        (
            "Runs",
            f"{planned} planned, {done} finished, {failed} failed, {retried} tried again, "
            "none excluded",
            False,
        ),
        ("Time", _time(f), False),
        ("Code", _commit(p), True),
        ("Source", _source(p), True),
        ("Data", _data(p), False),
        ("Software", _software(p), False),
        ("Hardware", _hardware(p), False),
        ("Settings", json.dumps(settings, default=str, ensure_ascii=False), True),
        ("MLflow", p.get("mlflow"), True),
        ("Recorded", p.get("recorded"), False),
    ]
    return [(name, shortened(str(text), MOST_TEXT), mono) for name, text, mono in lines if text]


def _time(f: Findings) -> str | None:
    """Return how long the trainings took in all, on what."""
    spent = sum(run.duration_s or 0.0 for run in f.runs)
    devices = sorted({run.device for run in f.runs if run.device})
    if not spent or not devices:
        return None
    return f"{spent / 3600:.3g} device-hours of training on {common.listed(devices)}"


def _plan_line(f: Findings) -> str | None:
    d = f.design
    if not d.hash:
        return None
    when = (d.frozen_at or "").replace("T", " ").replace("+00:00", " UTC")
    how = "before the first run" if d.frozen_before_first_run else "after results could be seen"
    return f"{d.hash[:7]}, frozen {when}, {how}; benchmark {d.benchmark_id[:7]}"


def _commit(p: Any) -> str | None:
    if not p.get("commit"):
        return None
    return f"git {str(p['commit'])[:10]}, {'uncommitted changes' if p.get('dirty') else 'clean'}"


def _source(p: Any) -> str:
    files = p.get("source") or ()
    return ", ".join(f"{each['path']} sha256 {each['sha256'][:12]}…" for each in files)


def _data(p: Any) -> str | None:
    data = p.get("data") or {}
    parts = [str(data.get("name") or "")]
    if data.get("digest"):
        parts.append(f"sha256 {str(data['digest'])[:12]}…")
    skip = {"name", "digest", "note", "notes", "train_test_overlap"}
    parts += [
        f"{key.replace('_', ' ')} {value}"
        for key, value in data.items()
        if key not in skip and isinstance(value, (int, str)) and len(str(value)) < 40
    ]
    return ", ".join(part for part in parts if part) or None


def _software(p: Any) -> str | None:
    if not p.get("python"):
        return None
    versions = ", ".join(f"{name} {version}" for name, version in (p.get("packages") or {}).items())
    return f"bench {p.get('bench')}, Python {p['python']}, {versions}"


def _hardware(p: Any) -> str | None:
    if not p.get("processor"):
        return None
    devices = ", ".join(p.get("devices") or ())
    threads = p.get("threads")
    line = f"{devices}; {p['processor']}, {form.count(p.get('cores') or 1, 'core')}"
    return f"{line}, {form.count(threads, 'thread')} a worker" if threads else line
