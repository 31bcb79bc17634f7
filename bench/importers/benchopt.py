"""Reads results of benchopt: one row a solver, data set and repetition, at its last point.

Format: https://benchopt.github.io/stable/benchmark_workflow/manage_benchmark_results.html, a
Parquet file with objective_name, solver_name, data_name or dataset_name, idx_rep, stop_val and the
columns objective_* of Objective.evaluate_result.
"""

from pathlib import Path

import pandas as pd

from bench.importers import files
from bench.importers.asked import Asked, At
from bench.importers.files import BadScores
from bench.importers.steps import at_step, counted

NAMES = ("objective_name", "solver_name", "dataset_name", "data_name", "idx_rep")
POINT = "point"  # of a solver's curve, counted: stop_val is a tolerance that falls for some


def read(typed: str, asked: Asked) -> pd.DataFrame:
    """Return the end of every curve, or the point of it that a column chooses."""
    path = Path(typed).expanduser()
    frame = files.read(path)
    missing = {"solver_name", "idx_rep", "stop_val"} - set(frame.columns)
    if missing:
        raise BadScores(
            f"{path.name} is no result of benchopt: no column {', '.join(sorted(missing))}.",
            facts=[f"Columns: {', '.join(frame.columns[:30])}."],
            fix="name a file of its folder outputs, benchopt_run_….parquet",
        )
    keys = [name for name in NAMES if name in frame.columns]
    frame[POINT] = frame.groupby(keys, dropna=False).cumcount()
    at = asked.at or At()
    found = at_step(frame, at, keys, step=POINT, where=path.name)
    asked.say(counted(found, at, POINT, asked.values))
    return found
