"""Artifacts: the files of one run (epochs, predictions, outcome, log), with their SHA-256."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import pandas as pd
from pyarrow import parquet

from bench.analysis.data.examples import Examples
from bench.analysis.data.metrics import METRICS, Predictions, confidence, correct, ece
from bench.analysis.data.tables import Split
from bench.analysis.errors import BadPredictions
from bench.design.results import Failure, Result, Success
from bench.experiment import Outcome
from bench.store.names import storable
from bench.store.private import keep_private, make_folder

PREDICTIONS, EPOCHS, OUTCOME = "predictions.npz", "epochs.parquet", "outcome.json"
EXAMPLES = "examples.npz"
LOG, TRACEBACK = "log.txt", "traceback.txt"
SPLITS: tuple[Split, ...] = get_args(Split)
T = TypeVar("T")


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
        (folder / LOG).write_text(storable(result.log), "utf-8")
    if isinstance(result, Failure):
        text = storable(result.traceback or result.what)
        (folder / TRACEBACK).write_text(text, "utf-8")
    return digests


def put(folder: Path, root: Path) -> None:
    """Give a run the files of a folder, by a second name where the disk knows such a thing."""
    for path in folder.rglob("*"):
        if path.is_file():
            target = root / path.relative_to(folder)
            make_folder(target.parent)
            part = target.with_name(".part")  # as short as can be: a name may have its full length
            part.unlink(missing_ok=True)
            link_or_copy(path, part)
            keep_private(part)
            os.replace(part, target)
            with suppress(OSError):  # two names of one file replace nothing
                part.unlink(missing_ok=True)


def link_or_copy(path: Path, target: Path) -> None:
    """Give a file a second name, by a hard link where the disk has them."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copy2(path, target)


def _write_outcome(folder: Path, result: Success) -> None:
    plain = outcome_values(result.outcome)
    (folder / OUTCOME).write_text(json.dumps(plain, indent=1, default=str), "utf-8")
    write_predictions(folder / PREDICTIONS, result.outcome)
    write_examples(folder / EXAMPLES, result.outcome)


def outcome_values(outcome: Outcome) -> dict[str, Any]:
    """Return what an outcome holds besides predictions."""
    return {
        "scores": dict(outcome.scores),
        "selected_epoch": outcome.selected_epoch,
        "facts": dict(outcome.facts),
    }


def write_predictions(path: Path, outcome: Outcome) -> None:
    """Write an outcome's predictions; no file where there are none."""
    arrays: dict[str, Any] = {}
    for split in SPLITS:
        item: Predictions | None = getattr(outcome, split)
        if item is not None:
            arrays[f"{split}_log_probabilities"] = item.log_probabilities
            arrays[f"{split}_labels"] = item.labels
    if arrays:
        np.savez(path, allow_pickle=False, **arrays)


def write_examples(path: Path, outcome: Outcome) -> None:
    """Write an outcome's scores of every example; no file where there are none."""
    if outcome.scored is not None:
        of = outcome.scored
        arrays = {"names": np.array([*of.values]), "values": np.stack([*of.values.values()])}
        if of.clusters is not None:
            arrays["clusters"] = of.clusters
        np.savez(path, allow_pickle=False, **arrays)


@dataclass(frozen=True, eq=False)
class Recorded:
    """What a finished run left behind."""

    outcome: Mapping[str, Any]  # scores, selected_epoch, facts
    epochs: pd.DataFrame | None
    predictions: Mapping[Split, Callable[[], Predictions]]  # read when called
    examples: Examples | None = None


def load(digests: Mapping[str, str], locate: Callable[[str], Path], *, who: str) -> Recorded:
    """Read a finished run's files after checking their bytes; nothing in them is ever run.

    Parameters
    ----------
    digests : what `write` returned when the run was recorded
    locate : gives the local path of an artifact, or raises FileNotFoundError
    who : words for the refusal

    Raises
    ------
    Damaged : one is missing, its SHA-256 differs, or it cannot be read
    """

    def get(name: str, kind: str, read: Callable[[Path], Any], otherwise: Any) -> Any:
        if name not in digests:
            return otherwise
        what = f"the stored {kind} of {who}"
        return readable(read, verified(name, digests[name], locate, what=what), what=what)

    return Recorded(
        outcome=get(OUTCOME, "outcome", read_outcome, {}),
        epochs=get(EPOCHS, "epochs", read_epochs, None),
        predictions=get(PREDICTIONS, "predictions", partial(prediction_readers, who=who), {}),
        examples=get(EXAMPLES, "examples", read_examples, None),
    )


def readable(read: Callable[..., T], path: Path, *how: Any, what: str) -> T:
    """Return what a file holds.

    Raises
    ------
    Damaged : it cannot be read
    """
    try:
        return read(path, *how)
    except Exception as error:  # every format fails in its own way
        first = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise Damaged(f"{what} cannot be read.", facts=[first]) from error


def verified(
    name: str, expected: str, locate: Callable[[str], Path], *, what: str, fix: str | None = None
) -> Path:
    """Return a recorded file after checking its bytes.

    Raises
    ------
    Damaged : it is missing, or its SHA-256 differs
    """
    try:
        path = locate(name)
        found = sha256(path)
    except FileNotFoundError:
        raise Damaged(f"{what} are missing.", fix=fix) from None
    if found != expected:
        raise Damaged(
            f"{what} are damaged.",
            facts=[
                f"Expected sha256 {expected[:8]}…, found {found[:8]}…. "
                "The report would rest on data that changed."
            ],
            fix=fix,
        )
    return path


def prediction_readers(path: Path, *, who: str) -> dict[Split, Callable[[], Predictions]]:
    """Return what reads each split of a predictions file when called, or raises Damaged."""
    what = f"the stored predictions of {who}"
    with np.load(path, allow_pickle=False) as archive:
        splits = [split for split in SPLITS if f"{split}_labels" in archive]
    return {split: partial(readable, read_predictions, path, split, what=what) for split in splits}


def read_predictions(path: Path, split: Split) -> Predictions:
    """Read one split of a predictions file, with the CRC-32 of its bytes; never a pickle."""
    with np.load(path, allow_pickle=False) as archive:
        return Predictions(archive[f"{split}_log_probabilities"], archive[f"{split}_labels"])


def read_examples(path: Path) -> Examples:
    """Read the scores of every example, with the CRC-32 of their bytes; never a pickle."""
    with np.load(path, allow_pickle=False) as archive:
        values = dict(zip(map(str, archive["names"]), archive["values"], strict=True))
        return Examples(values, archive["clusters"] if "clusters" in archive else None)


def read_epochs(path: Path) -> pd.DataFrame:
    """Read what every epoch measured; without pandas' detours, which thousands of runs feel."""
    with parquet.ParquetFile(path) as file:
        frame: pd.DataFrame = file.read(use_threads=False).to_pandas(use_threads=False)
    return frame


def read_outcome(path: Path) -> dict[str, Any]:
    """Read scores, selected epoch and facts."""
    plain = json.loads(path.read_text("utf-8"))
    selected = plain["selected_epoch"]
    return {
        "scores": {str(name): float(value) for name, value in plain["scores"].items()},
        "selected_epoch": None if selected is None else int(selected),
        "facts": dict(plain["facts"]),
    }


def final_scores(result: Success, metric: str = "") -> dict[str, float]:
    """Score every arm by the same functions from the stored predictions.

    Parameters
    ----------
    metric : of the plan: computed of the test predictions also where it is no mean over examples
    """
    values: dict[str, float] = dict(result.outcome.scores)
    for name, scores in result.outcome.examples.items():
        values[f"test/{name}" if name in METRICS else name] = float(np.mean(scores))
    for split in SPLITS:
        item: Predictions | None = getattr(result.outcome, split)
        if item is None:
            continue
        for known in METRICS.values():
            if known.per_example is not None or (known.name == metric and split == "test"):
                values[f"{split}/{known.name}"] = known.value(item)
        values[f"{split}/ece"] = ece(confidence(item), correct(item))
    return values


def sha256(path: Path) -> str:
    """Return the digest of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
