"""Builds findings from other people's scores: files, or another project's MLflow runs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from bench.analysis.study.findings import Findings
from bench.analysis.study.study import study
from bench.design.option_values import require_margin
from bench.importers.tables import BadColumns, GivenUnit, Layout, imported
from bench.store.names import file_name

if TYPE_CHECKING:
    import pandas as pd

MLFLOW = "mlflow:"
UNITS = get_args(GivenUnit)


def compared(
    source: "str | pd.DataFrame",
    layout: Layout,
    *,
    store: str | None,
    command: str,
    say: Callable[[str], object],
    **judged: Any,
) -> Findings:
    """Analyse scores from elsewhere; neither torch nor, for files, MLflow is imported.

    Parameters
    ----------
    source : a file, mlflow:EXPERIMENT, or a table in memory
    layout : which columns hold what
    store : of that experiment
    command : as typed, for the record, without passwords
    say : is told how the values are read
    judged : how, as `imported` takes it: unit, margin, claim, …

    Raises
    ------
    BadScores, BadColumns, BadPairs : what cannot be compared
    BadSetting : a margin or a claim that is none
    """
    require_margin(judged.get("margin"), judged.get("claim"))
    if (unit := judged.get("unit", "auto")) not in UNITS:
        what = f'unit "{unit}" is none of {", ".join(UNITS)}.'
        raise BadColumns(what, options=[("unit", "auto")])
    if not layout.baseline:
        what = "the arm's name" if layout.is_long else "its column"
        raise BadColumns(
            "which values are the baseline's is not said.",
            facts=[f"The baseline is {what}."],
            options=[("baseline", "NAME")],
        )
    path, frame, experiment = _table(source, store)
    found = imported(path, layout, frame=frame, **judged)
    say(found.said)
    name = source if frame is not None and isinstance(source, str) else path.name
    facts = {
        "command": command,
        "data": {"name": name},
        "scores_sha256": found.sha256,
        "dropped_pairs": list(found.dropped),
        "notes": [found.said],
        "against_name": found.against_name,
    }
    design = replace(found.design, experiment=experiment)
    return study(found.tables, design, provenance=facts)


def _table(
    source: "str | pd.DataFrame", store: str | None
) -> "tuple[Path, pd.DataFrame | None, str]":
    """Return what messages call a table, the table where it is no file, and the experiment's name.

    Of another project the finished runs: params.*, tags.* and metrics.*, a row each.
    """
    if not isinstance(source, str):
        return Path("DataFrame"), source, "table"
    if not source.startswith(MLFLOW):
        path = Path(source).expanduser()
        return path, None, path.stem
    from bench.store.mlflow_store import Store

    experiment = source.removeprefix(MLFLOW)
    return Path(file_name(experiment)), Store(store).foreign_runs(experiment), experiment
