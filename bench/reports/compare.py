"""Builds findings from other people's scores: files, or another project's MLflow runs."""

import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.analysis.study.findings import Findings
from bench.analysis.study.study import study
from bench.importers.files import read
from bench.importers.layout import BadColumns, Layout
from bench.importers.rows import chosen, shown
from bench.importers.tables import Imported, imported
from bench.store.address import redacted
from bench.store.names import file_name


def compared(
    source: str,
    layout: Layout,
    *,
    store: str | None,
    command: Sequence[str],
    say: Callable[[str], object],
    by: str | None = None,
    **judged: Any,
) -> list[Findings]:
    """Analyse scores from elsewhere; neither torch nor, for files, MLflow is imported.

    Parameters
    ----------
    source : a file, or mlflow:EXPERIMENT
    layout : which columns hold what
    store : of that experiment
    command : as typed, for the record
    say : is told how the values are read
    by : the column whose values are conditions, each compared by itself
    judged : how, as `imported` takes it: unit, margin, claim, …

    Raises
    ------
    BadScores, BadColumns, BadPairs : what cannot be compared
    """
    if not layout.baseline and judged.get("against") is None:
        what = "the arm's name" if layout.is_long else "its column"
        raise BadColumns(
            "which values are the baseline's is not said.",
            facts=[f"--baseline names {what}."],
            options=[("baseline", "NAME")],
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(source).expanduser()
        if source.startswith("mlflow:"):
            path = _from_mlflow(source.removeprefix("mlflow:"), store, Path(folder))
        if by is None:
            found = [("", imported(path, layout, **judged))]
        else:
            found = list(_by_condition(path, layout, by, **judged))
    name = source.removeprefix("mlflow:") if source.startswith("mlflow:") else path.stem
    return [_study(each, condition, name, source, path, command, say) for condition, each in found]


def _by_condition(
    path: Path, layout: Layout, by: str, **judged: Any
) -> Iterator[tuple[str, Imported]]:
    """Read each condition's rows; together they share the error rate."""
    frame = chosen(read(path), judged.pop("where", ()), path)
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


def _study(
    found: Imported,
    condition: str,
    name: str,
    source: str,
    path: Path,
    command: Sequence[str],
    say: Callable[[str], object],
) -> Findings:
    where = f"{condition}: " if condition else ""
    say(f"{where}{found.said}")
    facts = {
        "command": shlex.join(["bench", *map(redacted, command)]),
        "data": {"name": source if source.startswith("mlflow:") else path.name},
        "scores_sha256": found.sha256,
        "dropped_pairs": list(found.dropped),
        "notes": [found.said],
        "filled_cells": found.filled,
        "against_name": found.against_name,
    }
    name = f"{name}, {condition}" if condition else name
    design = replace(found.design, experiment=name)
    return study(found.tables, design, provenance=facts)


def _from_mlflow(experiment: str, store: str | None, folder: Path) -> Path:
    """Write another project's finished runs as a table: params.*, tags.* and metrics.*."""
    from bench.store.mlflow_store import Store

    frame = Store(store).foreign_runs(experiment)
    path = folder / f"{file_name(experiment)}.parquet"
    frame.to_parquet(path, index=False, write_page_checksum=True)
    return path
