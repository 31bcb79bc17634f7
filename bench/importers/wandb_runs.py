"""Reads runs of Weights & Biases: an exported table or chart, or a project through its API.

A table (Runs page, "Export to CSV") has one row a run: Name, State, …, its config and summary. A
chart (panel, "Export CSV") has one row a step, and of each run the columns `name - metric`,
`name - metric__MIN` and `name - metric__MAX`. The API is wandb.apis.public, `Api().runs()`:
https://docs.wandb.ai/models/ref/python/public-api/run
"""

import importlib
import os
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from bench.importers import files
from bench.importers.asked import Asked, At, BadRequest
from bench.importers.files import BadScores
from bench.importers.steps import at_step, counted

TWIN = re.compile(r"__(MIN|MAX)$")
MOST_RUNS = 10_000
OWN = ("run_name", "state", "run_id", "step")  # columns of ours: no metric takes their place


def read(typed: str, asked: Asked) -> pd.DataFrame:
    """Return one row a run of an exported file, or of a project `entity/project`."""
    path = Path(typed).expanduser()
    if path.is_file():
        frame = files.read(path)
        return _from_chart(frame, path.name, asked) if _is_chart(frame) else _table(frame, asked)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", typed) and not path.suffix:
        return _from_project(typed, asked)
    raise BadScores(
        f"there is no file {typed}, and it is no project either.",
        fix="name an exported CSV, or entity/project",
    )


def _table(frame: pd.DataFrame, asked: Asked) -> pd.DataFrame:
    """Return a table of runs as it is: it holds the last value of each metric alone."""
    if asked.at not in (None, At()):
        raise BadRequest(
            "an exported table of runs has no steps to choose from.",
            facts=["It holds one row a run, the last value of each metric."],
            fix="export the chart, or name the project entity/project; or leave --at out:",
            without=["at"],
        )
    return frame


def _is_chart(frame: pd.DataFrame) -> bool:
    twins = {c for c in frame.columns if TWIN.search(c)}
    lines = [c for c in frame.columns if " - " in c and c not in twins]
    return bool(lines) and {f"{c}__{end}" for c in lines for end in ("MIN", "MAX")} <= twins


def _from_chart(frame: pd.DataFrame, where: str, asked: Asked) -> pd.DataFrame:
    """Return one row a run: its name, its metrics and the step that counts."""
    lines = [c for c in frame.columns if " - " in c and not TWIN.search(c)]
    groups = [c for c in lines if c.startswith("Group: ")]
    if groups:
        raise BadScores(
            f"{where}: {groups[0]!r} is a mean over runs, not a run.",
            facts=["Taken for a run, it would hide how much the runs differ."],
            fix="switch grouping off in the workspace, and export the chart again",
        )
    by_run: dict[str, dict[str, pd.Series]] = {}
    for column in lines:
        run, _, metric = column.rpartition(" - ")
        by_run.setdefault(run, {})[metric] = frame[column]
    tables = []
    for run, metrics in by_run.items():
        one = pd.DataFrame({**metrics, "run_name": run, "step": frame.iloc[:, 0]})
        tables.append(one.dropna(subset=[c for c in metrics if c != "_step"], how="all"))
    every = pd.concat(tables, ignore_index=True)
    at = asked.at or At()
    runs = at_step(every, at, ["run_name"], step="step", where=where)
    asked.say(counted(runs, at, "step", asked.values))
    return runs


def _from_project(project: str, asked: Asked) -> pd.DataFrame:
    """Return the runs of a project: run_name, state, config.* and the metrics; run_id last."""
    try:
        os.environ.setdefault("WANDB_SILENT", "true")
        wandb: Any = importlib.import_module("wandb")
    except ModuleNotFoundError:
        raise BadRequest(
            f"{project} is read through wandb, which is not installed.",
            fix="pip install wandb, and wandb login; or export the runs as CSV",
        ) from None
    runs = list(islice(wandb.Api().runs(project), MOST_RUNS + 1))
    if not 0 < len(runs) <= MOST_RUNS:
        raise BadScores(f"{project} has {'no' if not runs else f'over {MOST_RUNS:,}'} runs.")
    known = pd.DataFrame(
        [
            {"run_name": run.name, "state": run.state, "run_id": run.id}
            | {f"config.{k}": v for k, v in run.config.items() if _is_plain(k, v)}
            for run in runs
        ]
    )
    found = known.merge(_scores(runs, project, asked), on="run_id", how="left")
    return found[[*(c for c in found.columns if c != "run_id"), "run_id"]]


def _scores(runs: Sequence[Any], project: str, asked: Asked) -> pd.DataFrame:
    """Return the runs' summaries, or of each the step that a metric chooses."""
    if asked.at in (None, At()):
        return pd.DataFrame([{**_plain(run.summary), "run_id": run.id} for run in runs])
    assert asked.at is not None
    rows = [
        {**_plain(row), "run_id": run.id, "step": row["_step"]}
        for run in runs
        for row in run.scan_history()
    ]
    history = pd.DataFrame(rows, columns=None if rows else ["run_id", "step"])
    found = at_step(history, asked.at, ["run_id"], step="step", where=project)
    asked.say(counted(found, asked.at, "step", asked.values))
    return found


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if _is_plain(k, v)}


def _is_plain(name: str, value: object) -> bool:
    return (
        not name.startswith("_") and name not in OWN and isinstance(value, (bool, int, float, str))
    )
