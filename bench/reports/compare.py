"""Builds findings from other people's scores: files, logs, or runs of other trackers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from bench.analysis.data.format import count
from bench.analysis.data.metric_names import lower_by_name
from bench.analysis.data.tables import Goal
from bench.analysis.study.conclude import conclude
from bench.analysis.study.findings import Findings
from bench.analysis.study.study import study
from bench.design.option_values import require_margin
from bench.importers import run_files, sources
from bench.importers.asked import Asked, at_of
from bench.importers.layout import BadColumns, Layout
from bench.importers.long_parquet import is_long
from bench.importers.numbers import KINDS, GivenUnit, in_design_units
from bench.importers.published import read, shown_in, summary_of
from bench.importers.rows import chosen, shown
from bench.importers.tables import Imported, imported

WORDS = {
    "unit": ("auto", "fraction", "percent", "plain"),
    "scope": ("these", "new-datasets"),
    "trained": ("once", "per-dataset"),
    "goal": ("better", "equivalent", "not-worse"),
}


def compared(
    source: str | pd.DataFrame,
    layout: Layout,
    *,
    store: str | None,
    command: str,
    at: str | None = None,
    name: str | None = None,
    by: str | None = None,
    say: Callable[[str], object],
    **judged: Any,
) -> list[Findings]:
    """Analyse scores from elsewhere; neither torch nor, for files, MLflow is imported.

    Parameters
    ----------
    source : a file, a folder or glob of files, one of `bench.importers.sources.READERS`, or a
        table in memory
    layout : which columns hold what
    store : of an MLflow experiment
    command : as typed, for the record, without passwords
    at : which step of a run counts: last, max:COLUMN or min:COLUMN
    name : pattern of paths or names of runs that gives columns, as {arm}-s{seed}
    by : the column whose values are conditions, each compared by itself
    say : is told how the values are read
    judged : how, as `imported` takes it: unit, margin, claim, …

    Returns
    -------
    one for each condition

    Raises
    ------
    BadScores, BadColumns, BadPairs, BadRequest : what cannot be compared
    """
    require_margin(judged.get("margin"), judged.get("claim"))
    for option, known in WORDS.items():
        typed = judged.get(option)
        if typed is not None and typed not in known:
            what = f'{option} "{typed}" is none of {", ".join(known)}.'
            raise BadColumns(what, options=[(option, known[0])])
    if not layout.baseline and judged.get("against") is None:
        what = "the arm's name" if layout.is_long else "its column"
        raise BadColumns(
            "which values are the baseline's is not said.",
            facts=[f"The baseline is {what}."],
            options=[("baseline", "NAME")],
        )
    notes = list[str]()
    asked = _asked(layout, at=at, name=name, store=store, where=judged.get("where", ()))
    frame: pd.DataFrame | None = None
    if not isinstance(source, str):
        frame, path, called, label = source, Path("DataFrame"), "table", "DataFrame"
    else:
        path, called, label = _names(source)
        others = (at, name, by, judged.get("against"), *judged.get("where", ()))
        asked_more = any(other is not None for other in others)
        if asked_more or not path.is_file() or not is_long(path, layout):
            frame = sources.read(source, replace(asked, say=notes.append))
    notes = list(dict.fromkeys(notes))
    for note in notes:
        say(note)
    facts = {"command": command, "data": {"name": label}}
    judged["goal"] = (judged.get("goal") or "better").replace("-", "_")
    found = []
    for condition, each in _conditions(frame, path, layout, by, **judged):
        if each.filled:
            gaps = count(each.filled, "score")
            notes.append(
                f"{gaps} inside runs lacking: filled from the run and the column they lie in, "
                "right if values are missing at random."
            )
        said = f"{condition}: {each.said}" if condition else each.said
        say(said)
        design = replace(each.design, experiment=", ".join(x for x in (called, condition) if x))
        provenance = {**facts, **_provenance(each), "notes": [*notes, each.said]}
        found.append(study(each.tables, design, provenance=provenance))
    return found


def published(
    typed: Sequence[str],
    *,
    command: str,
    say: Callable[[str], object],
    margin: float | None = None,
    claim: float | None = None,
    lower_is_better: bool = False,
    metric: str = "score",
    unit: GivenUnit = "auto",
    goal: Goal = "better",
) -> Findings:
    """Analyse means and spreads as papers print them.

    Parameters
    ----------
    typed : a summary an arm, as `bench.importers.published.read` takes it, the baseline's first
    command, say : as in `compared`
    margin, claim, unit : as `imported` takes them
    metric : what was measured

    Raises
    ------
    BadSummary : what cannot be compared
    """
    require_margin(margin, claim)
    arms = [read(each) for each in typed]
    shown = shown_in([of for _, of in arms], metric, unit)
    if shown == "percent":
        arms = [(name, replace(of, mean=of.mean / 100, sd=of.sd / 100)) for name, of in arms]
    by_name = lower_by_name(metric)
    side = "lower" if lower_is_better or by_name else "higher"
    said = (
        f"{metric} is read as {KINDS[shown]}; {side} is better. Published summaries, compared "
        "unpaired: what single runs gave is not known."
    )
    design = {
        "metric": metric,
        "higher_is_better": side == "higher",
        "margin": in_design_units(margin, shown),
        "claim": in_design_units(claim, shown),
        "unit": "score" if shown == "plain" else "fraction",
        "goal": goal,
    }
    facts = {"command": command, "data": {"name": "published summaries"}, "notes": [said]}
    found = conclude(summary_of(arms, provenance=facts, **design))
    say(said)
    return found


def _names(source: str) -> tuple[Path, str, str]:
    """Return what messages call a source, what its benchmark is called, and its name in print."""
    prefix, rest = sources.parted(source)
    place = Path(rest).expanduser().resolve()  # nobody's folders stand in a report
    called, label = (rest, rest) if prefix == "mlflow" else (place.stem, place.name)
    one_file = prefix is None and not run_files.are_several(source)
    path = Path(rest).expanduser() if one_file else Path(label)
    return path, called, f"{prefix}:{label}" if prefix else label


def _conditions(
    frame: pd.DataFrame | None, path: Path, layout: Layout, by: str | None, **judged: Any
) -> Iterator[tuple[str, Imported]]:
    """Lay out each condition's rows; together they share the error rate."""
    if by is None or frame is None:
        yield "", imported(path, layout, frame=frame, **judged)
        return
    frame = chosen(frame, judged.pop("where", ()), path)
    if by in (layout.arm, *layout.metrics):
        raise BadColumns(
            f"{by} holds the arms or what is compared, so it splits nothing.", without=["by"]
        )
    if by not in frame.columns:
        raise BadColumns(
            f'{path.name} has no column "{by}".',
            facts=[f"Columns: {', '.join(frame.columns[:30])}."],
            replace=[(by, frame.columns[0])],
        )
    names = list(dict.fromkeys(map(shown, frame[by].dropna())))
    for name in names:
        own = chosen(frame, [f"{by}={name}"], path).drop(columns=by)
        yield f"{by}={name}", imported(path, layout, frame=own, conditions=len(names), **judged)


def _provenance(found: Imported) -> dict[str, Any]:
    return {
        "scores_sha256": found.sha256,
        "dropped_pairs": list(found.dropped),
        "filled_cells": found.filled,
        "uneven_repeats": found.uneven,
        "against_name": found.against_name,
    }


def _asked(layout: Layout, **options: Any) -> Asked:
    """Return what is asked of the source: of the layout, which columns are keys and which scores.

    In long form every column that was typed is a key, but those of values.
    """
    typed = asdict(layout)
    scores = [typed.pop("baseline"), *typed.pop("treatments")]
    values = tuple(typed.pop("metrics"))
    return Asked(
        keys=tuple(key for key in typed.values() if isinstance(key, str)),
        seed=layout.seed or layout.pair,
        values=values if layout.is_long else tuple(scores),
        **{**options, "at": at_of(options["at"]), "where": tuple(options["where"])},
    )
