"""Example files: predictions.{npz,parquet,csv} and examples.{csv,parquet,jsonl} of a run.

A row is a test example. Predictions have a label and what the model says of every class:
log-probabilities, probabilities or logits, as one array or as columns such as probability_0. Other
examples have any scores as numbers, and may name their cluster and themselves.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

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
        splits = [each.decode() if isinstance(each, bytes) else str(each) for each in splits]
        for name in dict.fromkeys(splits):
            if name.lower() in SPLITS:
                rows = np.asarray([each == name for each in splits])
                found[SPLITS[name.lower()]] = _predictions(said, rows)
        return found
    except Refusal as refusal:
        raise NoResults(
            f"{path.name}: {refusal.what}", facts=refusal.facts, fix=refusal.fix
        ) from None
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise NoResults(f"{path.name} cannot be read: {text_of(error)}") from None


@dataclass(frozen=True)
class ExampleFile:
    """A run's scores of every test example, the cluster of each, and a digest of their names."""

    scores: Mapping[str, Floats] = field(default_factory=dict)
    clusters: Any = None
    ids: str = ""


def examples_in(folder: Path, cluster: str) -> ExampleFile:
    """Return a run's scores of every test example; without any where it wrote none.

    Parameters
    ----------
    cluster : the column of clusters that the study names; "" where it names none

    Raises
    ------
    NoResults : no table of numbers, an example that is there twice, a column that is not there
    """
    path = next((folder / name for name in EXAMPLES if (folder / name).is_file()), None)
    if path is None:
        return ExampleFile()
    try:
        table = _table(path)
    except (OSError, ValueError, TypeError) as error:
        raise NoResults(f"{path.name} cannot be read: {text_of(error)}") from None
    ids = next((name for name in IDS if name in table.columns and name != cluster), None)
    if ids is not None:
        table = _in_one_order(table, ids, path.name)
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
    return ExampleFile(
        scores,
        _clusters(path, table, column) if column else None,
        "" if ids is None else sha256("\0".join(map(str, table[ids])).encode()).hexdigest()[:16],
    )


def _in_one_order(table: pd.DataFrame, ids: str, name: str) -> pd.DataFrame:
    """Return a table in the order of its ids, which is the same in all runs."""
    odd = table[ids].isna().sum()
    if odd:
        raise NoResults(f"{name} has no {ids} in {odd} of {len(table)} rows.")
    twice = table[ids][table[ids].duplicated()]
    if len(twice):
        raise NoResults(f"{name} has {ids} {str(twice.iloc[0])[:40]!r} twice.")
    numeric = pd.api.types.is_numeric_dtype(table[ids])
    return table.sort_values(ids, key=None if numeric else lambda column: column.astype(str))


def _clusters(path: Path, table: pd.DataFrame, column: str) -> Any:
    """Return the cluster of each row, as it stands in the file: NA is a country."""
    found = table[column]
    if path.suffix == ".csv":
        plain = pd.read_csv(path, usecols=[column], dtype=str, keep_default_na=False)
        found = plain[column].loc[table.index]
    odd = int((found.isna() | (found.astype(str) == "")).sum())
    if odd:
        raise NoResults(f"{path.name} has no {column} in {odd} of {len(table)} rows.")
    return found.to_numpy()


def _table(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    if path.suffix == ".jsonl":
        lines = path.read_text("utf-8-sig").split("\n")  # pandas takes a run_time for a date
        return pd.DataFrame([json.loads(line) for line in lines if line.strip()])
    return pd.read_csv(path)


def _of_npz(path: Path) -> dict[str, Any]:
    with path.open("rb") as handle, np.load(handle, allow_pickle=False) as archive:
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
