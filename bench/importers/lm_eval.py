"""Reads lm-evaluation-harness: one row an item of `samples_TASK_DATE.jsonl`, a column a metric.

Format: lm_eval/loggers/evaluation_tracker.py, lm_eval/evaluator.py. A line holds doc_id, doc,
target, arguments, resps, filtered_resps, filter, metrics (their names, in newer versions), hashes,
and the metrics themselves. `results_DATE.json` beside it names the model, else the folder does.
"""

import re
from pathlib import Path
from typing import Any

import pandas as pd

from bench.importers import eval_logs
from bench.importers.asked import Asked
from bench.importers.files import MOST_BYTES, BadScores

NO_METRIC = frozenset(
    "doc_id doc target arguments resps filtered_resps filter metrics doc_hash prompt_hash "
    "target_hash".split()
)
NAME = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.\-]+)\.jsonl")


def read(typed: str, asked: Asked) -> pd.DataFrame:
    """Return one row an item: model, task, doc_id, filter, the metrics, date and folder.

    Raises
    ------
    BadScores : no samples there, or a file of another kind
    """
    fix = "run lm_eval with --log_samples --output_path FOLDER"
    files = eval_logs.found(typed, "samples_*.jsonl", fix=fix)
    rows = [row for path in files for row in _rows(path)]
    return eval_logs.table(rows, typed)


def _rows(path: Path) -> list[dict[str, Any]]:
    match = NAME.fullmatch(path.name)
    if match is None:
        raise BadScores(f"{path.name} is not called samples_TASK_DATE.jsonl.")
    if path.stat().st_size > MOST_BYTES:
        raise BadScores(f"{path.name} has {path.stat().st_size / 1024**3:.1f} GiB.")
    who = {"model": _model(path.parent, match["date"]), "task": match["task"]}
    last = {"date": match["date"], "folder": path.parent.as_posix()}
    rows = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                item = eval_logs.parsed(line, f"{path.name}: line {number}")
                rows.append({**who, **_item(item, f"{path.name}: line {number}"), **last})
    return rows


def _item(item: object, where: str) -> dict[str, Any]:
    given = eval_logs.mapping(item)
    if "doc_id" not in given:
        raise BadScores(f"{where} is no sample of lm-evaluation-harness: it has no doc_id.")
    scores = {k: eval_logs.number(v) for k, v in given.items() if k not in NO_METRIC}
    known = {k: v for k, v in scores.items() if v is not None}
    return {"doc_id": given["doc_id"], "filter": given.get("filter", "none"), **known}


def _model(folder: Path, date: str) -> str:
    """Return the model's name from the results of the same date, else from the folder."""
    for path in sorted(folder.glob(f"*_{date}.json")):
        if path.stat().st_size <= MOST_BYTES:
            results = eval_logs.mapping(eval_logs.parsed(path.read_bytes(), path.name))
            name = results.get("model_name") or results.get("model_source")
            if isinstance(name, str) and name:
                return name
    return folder.name
