"""Reads another project's MLflow runs: of a database, a server, or a folder of files."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from bench.importers import mlflow_folder
from bench.importers.asked import Asked, At
from bench.importers.files import BadScores
from bench.importers.steps import at_step, counted
from bench.store.address import may_hold_runs
from bench.store.runs import History, Run

PARENT = "mlflow.parentRunId"


def read(experiment: str, asked: Asked) -> pd.DataFrame:
    """Return one row a run: run_name, status, parent, params.*, tags.*, metrics.* and run_id.

    A folder is read as it lies, without MLflow; nothing is written there.

    Raises
    ------
    NothingRecorded : no such experiment
    BadScores : no run in it
    """
    folder = _folder(asked.store)
    history: Callable[[Run], History]
    if folder is not None:
        runs, history = (
            mlflow_folder.runs(folder, experiment),
            partial(mlflow_folder.history, folder),
        )
    else:
        from bench.store.mlflow_store import Store

        store = Store(asked.store)
        runs, history = store.foreign_runs(experiment), store.history
    parents = {run.tags.get(PARENT) for run in runs}
    runs = [run for run in runs if run.metrics or run.run_id not in parents]
    if not runs:
        raise BadScores(f'experiment "{experiment}" has no run.')
    frame = _table(runs)
    if asked.at in (None, At()):
        return frame
    assert asked.at is not None
    every = pd.concat([_steps(run, history(run)) for run in runs], ignore_index=True)
    chosen = at_step(every, asked.at, ["run_id"], step="step", where=experiment)
    asked.say(counted(chosen, asked.at, "step", asked.values))
    others = [c for c in frame.columns if not c.startswith("metrics.")]
    return frame[others].merge(chosen, on="run_id", how="left")


def _steps(run: Run, history: History) -> pd.DataFrame:
    """Return one row a step; of several values at one step the last counts."""
    columns = {
        f"metrics.{name}": pd.Series({step: value for step, _, value in sorted(logged)})
        for name, logged in history.items()
    }
    frame = pd.DataFrame(columns).rename_axis("step").reset_index()
    return frame.assign(run_id=run.run_id)


def _folder(typed: str | None) -> Path | None:
    """Return the folder of files that was meant, if it was one: ./mlruns where no store is named.

    With neither a name nor a database there, MLflow's own default of old lies in ./mlruns.
    """
    named = typed or os.environ.get("MLFLOW_TRACKING_URI")
    if named is None:
        found = Path("mlruns")
        return found if mlflow_folder.is_store(found) and not may_hold_runs(None) else None
    path = mlflow_folder.path_of(named)
    return path if path is not None and mlflow_folder.is_store(path) else None


def _table(runs: Sequence[Run]) -> pd.DataFrame:
    rows = [
        {"run_name": run.name, "status": run.status, "parent": run.tags.get(PARENT)}
        | {f"params.{k}": v for k, v in run.params.items()}
        | {f"tags.{k}": v for k, v in run.tags.items() if not k.startswith("mlflow.")}
        | {f"metrics.{k}": v for k, v in run.metrics.items()}
        for run in runs
    ]
    return pd.DataFrame(rows).assign(run_id=[run.run_id for run in runs])
