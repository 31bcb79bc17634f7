"""Example files: predictions.{npz,parquet,csv} and examples.{csv,parquet,jsonl} of a run.

A row is a test example. Predictions have a label and what the model says of every class:
log-probabilities, probabilities or logits, as one array or as columns such as probability_0. Other
examples have any scores as numbers, and may name their cluster and themselves.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.analysis.data.metrics import Predictions
from bench.analysis.errors import Refusal, text_of
from bench.programs.refusals import NoResults

PREDICTIONS = tuple(f"predictions.{kind}" for kind in ("npz", "parquet", "csv"))
EXAMPLES = tuple(f"examples.{kind}" for kind in ("csv", "parquet", "jsonl"))
LABELS = ("labels", "label", "target", "targets", "y")
SCALES = {
    "log_probabilities": ("log_probabilities", "log_probability", "log_probs", "log_prob"),
    "probabilities": ("probabilities", "probability", "probs", "prob"),
    "logits": ("logits", "logit"),
}
SPLITS = {"test": "test", "validation": "validation", "val": "validation", "valid": "validation"}
IDS = ("example", "id", "item", "index", "question", "doc_id")
CLUSTER = "cluster"

Floats = NDArray[np.float64]


def predictions_in(folder: Path) -> dict[str, Predictions]:
    """Return a run's predictions by split, "test" and "validation"; {} where it wrote none.

    Raises
    ------
    NoResults : a file that is not as this module's first lines say
    """
    path = next((folder / name for name in PREDICTIONS if (folder / name).is_file()), None)
    if path is None:
        return {}
    try:
        said = _of_npz(path) if path.suffix == ".npz" else _of_table(_table(path))
        splits = said.get("split")
        if splits is None:
            return {"test": _predictions(said)}
        found = {}
        for name in dict.fromkeys(map(str, splits)):
            if name.lower() in SPLITS:
                rows = np.asarray([str(each) == name for each in splits])
                found[SPLITS[name.lower()]] = _predictions(said, rows)
        return found
    except Refusal as refusal:
        raise NoResults(
            f"{path.name}: {refusal.what}", facts=refusal.facts, fix=refusal.fix
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NoResults(f"{path.name} cannot be read: {text_of(error)}") from None


def examples_in(folder: Path, cluster: str) -> tuple[dict[str, Floats], Any]:
    """Return a run's scores of every test example and the cluster of each, or ({}, None).

    Parameters
    ----------
    cluster : the column of clusters that the study names; "" where it names none

    Raises
    ------
    NoResults : no table of numbers, an example that is there twice, a column that is not there
    """
    path = next((folder / name for name in EXAMPLES if (folder / name).is_file()), None)
    if path is None:
        return {}, None
    try:
        table = _table(path)
    except (OSError, ValueError, TypeError) as error:
        raise NoResults(f"{path.name} cannot be read: {text_of(error)}") from None
    ids = next((name for name in IDS if name in table.columns), None)
    if ids is not None:
        twice = table[ids][table[ids].duplicated()]
        if len(twice):
            raise NoResults(f"{path.name} has {ids} {str(twice.iloc[0])[:40]!r} twice.")
        table = table.sort_values(ids, kind="stable")  # one order in all runs
    column = cluster or (CLUSTER if CLUSTER in table.columns else "")
    if column and not cluster:
        raise NoResults(
            f'{path.name} has a column "{CLUSTER}", and the study does not say what it is.',
            fix=f'cluster = "{CLUSTER}" in study.toml, or the name that yours has, as "passage"',
        )
    if column and column not in table.columns:
        raise NoResults(f'{path.name} has no column "{column}" of clusters.')
    given = {ids, column}
    scores = {
        str(name): table[name].to_numpy(np.float64)
        for name in table.columns
        if name not in given and pd.api.types.is_numeric_dtype(table[name])
    }
    if not scores:
        raise NoResults(f"{path.name} has no column of numbers.")
    return scores, table[column].to_numpy() if column else None


def _table(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    if path.suffix == ".jsonl":
        return pd.read_json(path, lines=True)
    return pd.read_csv(path)


def _of_npz(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _of_table(table: pd.DataFrame) -> dict[str, Any]:
    """Return a table's arrays as an archive would have them: class columns become one array."""
    found: dict[str, Any] = {str(name): table[name].to_numpy() for name in table.columns}
    for scale, names in SCALES.items():
        for name in names:
            if name in found and len(table) and not np.isscalar(found[name][0]):
                found[scale] = np.stack([np.asarray(row, float) for row in found[name]])
            numbered = {
                int(match[1]): column
                for column in map(str, table.columns)
                if (match := re.fullmatch(rf"{name}_(\d+)", column))
            }
            if numbered:
                if sorted(numbered) != [*range(len(numbered))]:
                    raise ValueError(f"{name}_0, {name}_1, … are not all there")
                each = [found[numbered[k]] for k in range(len(numbered))]
                found[scale] = np.stack(each, axis=1).astype(float)
    return found


def _predictions(said: Mapping[str, Any], rows: NDArray[np.bool_] | None = None) -> Predictions:
    labels = next((said[name] for name in LABELS if name in said), None)
    scale, given = next(
        (
            (scale, said[name])
            for scale, names in SCALES.items()
            for name in (scale, *names)
            if name in said
        ),
        ("", None),
    )
    if labels is None or given is None:
        raise NoResults(
            f"it has {', '.join(said)[:200] or 'nothing'}; predictions are labels and "
            "log_probabilities, probabilities or logits.",
            fix="np.savez(path, logits=logits, labels=labels)",
        )
    chosen = slice(None) if rows is None else rows
    values = np.asarray(given, dtype=np.float64)[chosen]
    with np.errstate(divide="ignore"):
        if scale == "probabilities":
            values = np.log(values)
        elif scale == "logits":
            values = values - values.max(axis=-1, keepdims=True)
            values = values - np.log(np.exp(values).sum(axis=-1, keepdims=True))
    return Predictions(values.astype(np.float32), np.asarray(labels)[chosen])
