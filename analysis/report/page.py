"""Page: findings to one self-contained HTML file, without scripts and without requests."""

import json
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from analysis import format as form
from analysis.figures import effect, planning, reliability, strip, training
from analysis.figures.canvas import VERDICT_COLOUR, Drawing
from analysis.findings import Analysis, Check, Findings, Primary, RunRow, Secondary, Treatment
from analysis.report import words
from analysis.report.display import fitted, shortened
from analysis.study import summary_settings

HERE = Path(__file__).parent
MOST_ROWS = 24  # of the running estimate
MOST_TEXT = 4000  # characters of one line of the audit trail
MOST_VALUE = 60  # characters of a setting's value, where it is shown as changed


def render(f: Findings, *, version: str) -> str:
    """Return the report as HTML; the same findings give the same bytes.

    Parameters
    ----------
    f : what `study` found
    version : of bench, for the page's generator tag
    """
    data, f = embedded(f), fitted(f)
    unit = f.measure.unit
    return _template().render(
        f=f,
        w=words,
        version=version,
        css=_css(),
        data=data,
        level=form.level,
        drawings=_drawings(f),
        kind=lambda c: VERDICT_COLOUR[c.verdict.word],
        strip=partial(strip.strip, f),
        varied=partial(_varied, f),
        notes=[str(note) for note in f.provenance.get("notes") or ()],
        severity=_severity,
        analyses=partial(_analyses, f),
        forest_axis=partial(strip.forest_axis, f),
        forest_head=strip.forest_head,
        forest_row=lambda axis, row: strip.forest_row(
            axis, f, row.a.low, row.a.difference, row.a.high, main=row.main
        ),
        thinned=_thinned,
        provenance=_provenance(f),
        run_note=_run_note,
        direction=_direction,
        number=lambda x: form.number(x, unit),
        estimate=partial(words.estimate, f),
        value=lambda x, u=unit: form.value(x, u),
        diff=lambda x, u=unit: form.difference(x, u),
        spread=lambda x: form.spread(x, unit),
        interval=form.interval,
        plain_interval=lambda low, high: form.plain_interval(low, high, unit),
        p_value=form.p_value,
        duration=lambda s: "" if s is None else form.duration(s),
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,  # everything a user typed is text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2")


def embedded(f: Findings) -> str:
    """Return the findings as JSON that is safe inside a script element."""
    text = json.dumps(f.as_dict(), allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _css() -> Any:
    from markupsafe import Markup

    return Markup((HERE / "style.css").read_text("utf-8"))


def _drawings(f: Findings) -> SimpleNamespace:
    return SimpleNamespace(
        slopes={c.treatment: effect.slopes(f, c) for c in f.comparisons},
        dots={c.treatment: effect.dots(f, c) for c in f.comparisons},
        sensitivity={
            c.treatment: _if(c.power.sd, planning.sensitivity, f, c) for c in f.comparisons
        },
        running={c.treatment: _if(_bounded(c), planning.as_they_came, f, c) for c in f.comparisons},
        reliability=[
            (reliability.reliability(f, r), f"{words.sentence(r.arm)}, ECE {_ece(f, r.arm)}")
            for r in f.reliability
        ],
        curves=training.learning_curves(f) if f.curves else None,
        gaps=training.differences_by_epoch(f) if f.gaps else None,
    )


def _if(
    wanted: object,
    draw: Callable[[Findings, Treatment], Drawing],
    f: Findings,
    c: Treatment,
) -> Drawing | None:
    return draw(f, c) if wanted else None


def _bounded(c: Treatment) -> bool:
    return any(low is not None and high is not None for _, _, low, high in c.anytime.path)


def _ece(f: Findings, arm: str) -> str:
    row = next(r for r in f.calibration if r.arm == arm and not r.scaled)
    return form.value(row.ece, "fraction")


def _varied(f: Findings, c: Treatment) -> list[tuple[str, str, str]]:
    """Return the settings in which this treatment differs from the baseline."""
    arms = f.design.arms
    at = arms.index(c.treatment)
    return [
        (
            shortened(key, MOST_VALUE),
            shortened(values[0], MOST_VALUE),
            shortened(values[at], MOST_VALUE),
        )
        for key, values in summary_settings(f.design)
        if values[0] != values[at]
    ]


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


def _analyses(f: Findings, c: Treatment) -> list[SimpleNamespace]:
    """Return the rows of the table of analyses, the planned one first and marked."""
    rows = []
    if c.primary.method == "group":
        rows.append(_row(_as_analysis(c.primary), "planned looks, O’Brien–Fleming", main=True))
    for a in c.analyses:
        name, note = words.analysis_name(a, c.n_pairs)
        main = a.name == c.primary.method
        row = _row(a, f"{note}; primary, fixed in the plan" if main else note, main=main)
        row.name = name
        rows.append(row)
    if not any(row.main for row in rows):  # the planned one could not be done
        rows.insert(0, _row(_as_analysis(c.primary), words.METHOD[c.primary.method], main=True))
        rows[0].name = "Planned analysis"
    return sorted(rows, key=lambda row: not row.main)


def _row(a: Analysis, note: str, *, main: bool) -> SimpleNamespace:
    return SimpleNamespace(a=a, name="Group-sequential", note=note, main=main)


def _as_analysis(p: Primary) -> Analysis:
    return Analysis(
        name=p.method,
        difference=p.difference,
        low=p.low,
        high=p.high,
        level=p.level,
        p_value=p.p_value,
        reason=p.reason,
    )


def _thinned(path: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return at most some two dozen rows of a long path, the last one always."""
    step = max(1, -(-len(path) // MOST_ROWS))
    return [row for i, row in enumerate(path) if (len(path) - 1 - i) % step == 0]


def _direction(s: Secondary) -> str:
    side = {True: "higher is better", False: "lower is better", None: "no direction declared"}
    return side[s.higher_is_better] + (", nats" if s.unit == "nats" else "")


def _run_note(run: RunRow) -> str:
    if run.status == "finished":
        return f"{run.attempts} attempts" if run.attempts > 1 else ""
    return f"{run.status}: {run.note}" if run.note else run.status


def _provenance(f: Findings) -> list[tuple[str, str, bool]]:
    """Return the audit trail's lines: name, text, whether it is code."""
    d, p, c = f.design, f.provenance, f.comparisons[0]
    done = sum(run.status == "finished" for run in f.runs)
    failed = sum(run.status == "failed" for run in f.runs)
    planned = len(d.seeds) * len(d.arms)
    settings = {arm.name: dict(arm.settings) for arm in f.arms}
    lines: list[tuple[str, object, bool]] = [
        ("Command", p.get("command"), True),
        ("Plan", _plan_line(f), False),
        ("Primary analysis", words.primary_name(f, c), False),
        ("Runs", f"{planned} planned, {done} finished, {failed} failed, 0 excluded", False),
        ("Code", _commit(p), True),
        ("Data", _data(p), False),
        ("Software", _software(p), False),
        ("Hardware", _hardware(p), False),
        ("Settings", json.dumps(settings, default=str, ensure_ascii=False), True),
        ("MLflow", p.get("mlflow"), True),
        ("Recorded", p.get("recorded"), False),
    ]
    return [(name, shortened(str(text), MOST_TEXT), mono) for name, text, mono in lines if text]


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
    line = f"{devices}; {p['processor']}, {words.count(p.get('cores') or 1, 'core')}"
    return f"{line}, {words.count(threads, 'thread')} a worker" if threads else line
