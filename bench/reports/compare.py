"""Builds findings from other people's scores: files, or another project's MLflow runs."""

import shlex
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.analysis.study.findings import Findings
from bench.analysis.study.study import study
from bench.importers.tables import BadColumns, Layout, imported
from bench.store.address import redacted
from bench.store.names import file_name


def compared(
    source: str,
    layout: Layout,
    *,
    store: str | None,
    command: Sequence[str],
    say: Callable[[str], object],
    **judged: Any,
) -> Findings:
    """Analyse scores from elsewhere; neither torch nor, for files, MLflow is imported.

    Parameters
    ----------
    source : a file, or mlflow:EXPERIMENT
    layout : which columns hold what
    store : of that experiment
    command : as typed, for the record
    say : is told how the values are read
    judged : how, as `imported` takes it: unit, margin, claim, …

    Raises
    ------
    BadScores, BadColumns, BadPairs : what cannot be compared
    """
    if not layout.baseline:
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
        found = imported(path, layout, **judged)
    say(found.said)
    facts = {
        "command": shlex.join(["bench", *map(redacted, command)]),
        "data": {"name": source if source.startswith("mlflow:") else path.name},
        "scores_sha256": found.sha256,
        "dropped_pairs": list(found.dropped),
        "notes": [found.said],
        "against_name": found.against_name,
    }
    name = source.removeprefix("mlflow:") if source.startswith("mlflow:") else path.stem
    design = replace(found.design, experiment=name)
    return study(found.tables, design, provenance=facts)


def _from_mlflow(experiment: str, store: str | None, folder: Path) -> Path:
    """Write another project's finished runs as a table: params.*, tags.* and metrics.*."""
    from bench.store.mlflow_store import Store

    frame = Store(store).foreign_runs(experiment)
    path = folder / f"{file_name(experiment)}.parquet"
    frame.to_parquet(path, index=False, write_page_checksum=True)
    return path
