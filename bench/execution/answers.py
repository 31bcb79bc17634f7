"""Answers: the files by which the results of a training reach the supervisor.

JSON and numpy's arrays, nothing that is unpickled; `answer.json` comes last and by an atomic
rename, so that an answer is whole or not there.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.analysis.data.metrics import Predictions
from bench.design.plan import TrialKey
from bench.design.results import Failure, Result, Success
from bench.experiment import Outcome
from bench.store import artifacts
from bench.store.names import file_name

ANSWER = "answer.json"


def run_folder(root: Path, key: TrialKey) -> Path:
    """Return a run's own folder: what a training sees as `trial.folder`."""
    where = f"-{file_name(key.dataset)}" if key.dataset else ""
    return root / f"{file_name(key.arm)}-{key.seed}{where}"


def write(folder: Path, results: Sequence[Result]) -> None:
    """Write the results of a pack.

    Raises
    ------
    TypeError, ValueError : facts that cannot be written as JSON
    """
    plain = [_as_dict(result) for result in results]
    for number, result in enumerate(results):
        if isinstance(result, Success):
            artifacts.write_predictions(folder / f"{number}.npz", result.outcome)
            artifacts.write_examples(folder / f"{number}.examples.npz", result.outcome)
    part = folder / f".{ANSWER}"
    part.write_text(json.dumps(plain, default=str), "utf-8")
    os.replace(part, folder / ANSWER)


def read(folder: Path, *, log: str | None = None) -> list[Result] | None:
    """Return the results of a pack; None where it has not answered.

    Parameters
    ----------
    log : what it printed; None where the answer says it
    """
    try:
        plain = json.loads((folder / ANSWER).read_text("utf-8"))
    except FileNotFoundError:
        return None
    found = [_from_dict(each, folder, number) for number, each in enumerate(plain)]
    return found if log is None else [replace(result, log=log) for result in found]


def _as_dict(result: Result) -> dict[str, Any]:
    plain = {f.name: getattr(result, f.name) for f in fields(result) if f.name != "files"}
    plain |= {"key": [*result.key.parts.values()], "folder": str(result.folder)}
    if isinstance(result, Success):
        plain["outcome"] = artifacts.outcome_values(result.outcome)
    return plain


def _from_dict(plain: dict[str, Any], answer: Path, number: int) -> Result:
    key, folder = TrialKey(*plain.pop("key")), Path(plain.pop("folder"))
    if "outcome" not in plain:
        return Failure(key=key, folder=folder, **{**plain, "facts": tuple(plain["facts"])})
    arrays = _read_predictions(answer / f"{number}.npz")
    arrays |= _read_examples(answer / f"{number}.examples.npz")
    outcome = Outcome(**plain.pop("outcome"), **arrays)
    return Success(key=key, folder=folder, outcome=outcome, **plain)


def _read_predictions(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as archive:
        return {
            split: Predictions(archive[f"{split}_log_probabilities"], archive[f"{split}_labels"])
            for split in artifacts.SPLITS
            if f"{split}_labels" in archive
        }


def _read_examples(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    found = artifacts.read_examples(path)
    return {"examples": found.values, "clusters": found.clusters}
