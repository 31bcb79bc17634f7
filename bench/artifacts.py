"""Artifacts: the files of one run (epochs, predictions, outcome, log), written and verified."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from analysis.errors import BadPredictions
from analysis.metrics import METRICS, Predictions, confidence, correct, ece
from analysis.table import Split
from bench.work import Failure, Result, Success

PREDICTIONS, EPOCHS, OUTCOME = "predictions.npz", "epochs.parquet", "outcome.json"
LOG, TRACEBACK = "log.txt", "traceback.txt"
SPLITS: tuple[Split, ...] = get_args(Split)


class Damaged(BadPredictions):
    """A stored file that is missing or not the bytes that were recorded."""


def write(folder: Path, result: Result) -> dict[str, str]:
    """Write a result's files and return the SHA-256 of those that a report rests on."""
    if result.epochs:
        pd.DataFrame(result.epochs).to_parquet(folder / EPOCHS, index=False)
    if isinstance(result, Success):
        _write_outcome(folder, result)
    digests = {path.name: sha256(path) for path in sorted(folder.iterdir())}
    if result.log.strip():
        (folder / LOG).write_text(result.log, "utf-8")
    if isinstance(result, Failure):
        (folder / TRACEBACK).write_text(result.traceback or result.what, "utf-8")
    return digests


def _write_outcome(folder: Path, result: Success) -> None:
    outcome = result.outcome
    plain = {
        "scores": dict(outcome.scores),
        "selected_epoch": outcome.selected_epoch,
        "facts": dict(outcome.facts),
    }
    (folder / OUTCOME).write_text(json.dumps(plain, indent=1, default=str), "utf-8")
    arrays: dict[str, Any] = {}
    for split in SPLITS:
        item: Predictions | None = getattr(outcome, split)
        if item is not None:
            arrays[f"{split}_log_probabilities"] = item.log_probabilities
            arrays[f"{split}_labels"] = item.labels
    if arrays:
        np.savez(folder / PREDICTIONS, allow_pickle=False, **arrays)


def verified(
    name: str, digests: Mapping[str, str], locate: Callable[[str], Path], *, who: str, fix: str
) -> Path | None:
    """Return a recorded file after checking its bytes; None if the run never had one.

    Parameters
    ----------
    name : the file's name
    digests : what `write` returned when the run was recorded
    locate : gives the local path of an artifact, or raises FileNotFoundError
    who, fix : words for the refusal

    Raises
    ------
    Damaged : it is missing, or its SHA-256 differs
    """
    if name not in digests:
        return None
    kind = {PREDICTIONS: "predictions", EPOCHS: "epochs"}.get(name, "outcome")
    try:
        path = locate(name)
    except FileNotFoundError:
        raise Damaged(f"the stored {kind} of {who} are missing.", fix=fix) from None
    found = sha256(path)
    if found != digests[name]:
        raise Damaged(
            f"the stored {kind} of {who} are damaged.",
            facts=[
                f"Expected sha256 {digests[name][:8]}…, found {found[:8]}…. "
                "The report would rest on data that changed."
            ],
            fix=fix,
        )
    return path


def read_predictions(path: Path) -> dict[Split, Predictions]:
    """Read every split of a predictions file; never a pickle."""
    with np.load(path, allow_pickle=False) as archive:
        return {
            split: Predictions(archive[f"{split}_log_probabilities"], archive[f"{split}_labels"])
            for split in SPLITS
            if f"{split}_labels" in archive
        }


def read_outcome(path: Path) -> dict[str, Any]:
    """Read scores, selected epoch and facts."""
    plain: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return plain


def final_scores(result: Success) -> dict[str, float]:
    """Score every arm by the same functions from the stored predictions."""
    values: dict[str, float] = dict(result.outcome.scores)
    for split in SPLITS:
        item: Predictions | None = getattr(result.outcome, split)
        if item is None:
            continue
        for metric in METRICS.values():
            if metric.per_example is not None:
                values[f"{split}/{metric.name}"] = float(metric.per_example(item).mean())
        values[f"{split}/ece"] = ece(confidence(item), correct(item))
    return values


def sha256(path: Path) -> str:
    """Return the digest of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
