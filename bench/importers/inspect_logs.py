"""Reads logs of inspect_ai, `.json` or `.eval`: one row an item and epoch, a column a scorer.

Format: https://inspect.aisi.org.uk/eval-logs.html, inspect_ai.log.EvalLog. A `.eval` is a zip of
header.json (without samples; absent where the evaluation died, then _journal/start.json holds its
beginning), summaries.json and samples/ID_epoch_N.json. A score is C, I, P (partial) or N (no
answer), a number, or an object of them; the letters count as inspect_ai.scorer.value_to_float
does: 1, 0, 0.5, 0.
"""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from bench.importers import eval_logs
from bench.importers.asked import Asked
from bench.importers.compression import zip_member
from bench.importers.files import MOST_BYTES, MOST_DECODED, BadScores

LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}


def read(typed: str, asked: Asked) -> pd.DataFrame:
    """Return one row an item: model, task, sample_id, epoch, status, the scores and file.

    The status is the log's, or `error` of an item that failed.

    Raises
    ------
    BadScores : no logs there, or one that cannot be read
    """
    files = eval_logs.found(typed, "*.eval", "*.json")
    rows = [row for path in files for row in _rows(path)]
    return eval_logs.table(rows, typed)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.stat().st_size > MOST_BYTES:
        raise BadScores(f"{path.name} has {path.stat().st_size / 1024**3:.1f} GiB.")
    log, samples = _of_zip(path) if zipfile.is_zipfile(path) else _of_json(path)
    about = eval_logs.mapping(log.get("eval"))
    if "model" not in about or "task" not in about:
        raise BadScores(f"{path.name} is no log of inspect_ai: it names no model and task.")
    who = {"model": str(about["model"]), "task": str(about["task"])}
    for sample in map(eval_logs.mapping, samples):
        failed = bool(sample.get("error"))
        yield {
            **who,
            "sample_id": sample.get("id"),
            "epoch": sample.get("epoch"),
            "status": "error" if failed else str(log.get("status", "started")),
            **_scores(eval_logs.mapping(sample.get("scores"))),
            "file": path.as_posix(),
        }


def _scores(scores: Any) -> dict[str, float | None]:
    """Return what the scorers gave, one column each, and one a key where a score is an object."""
    found: dict[str, float | None] = {}
    for scorer, score in scores.items():
        value = eval_logs.mapping(score).get("value")
        each = {scorer: value}
        if isinstance(value, dict):
            each = {f"{scorer}.{key}": inner for key, inner in value.items()}
        for name, inner in each.items():
            letter = LETTERS.get(inner) if isinstance(inner, str) else None
            found[name] = eval_logs.number(inner) if letter is None else letter
    return found


def _of_json(path: Path) -> tuple[dict[str, Any], list[Any]]:
    log = eval_logs.mapping(eval_logs.parsed(path.read_bytes(), path.name))
    samples = log.get("samples")
    return dict(log), samples if isinstance(samples, list) else []


def _of_zip(path: Path) -> tuple[dict[str, Any], list[Any]]:
    """Read a .eval; its summaries hold every score, samples are read where there are none."""
    with zipfile.ZipFile(path) as packed:
        sizes = {entry.filename: entry.file_size for entry in packed.infolist()}
        header = "header.json" if "header.json" in sizes else "_journal/start.json"
        samples = [name for name in sizes if name.startswith("samples/")]
        wanted = [header, *(["summaries.json"] if "summaries.json" in sizes else samples)]
        if sum(sizes.get(name, 0) for name in wanted) > MOST_DECODED:
            raise BadScores(f"{path.name} has more than {MOST_DECODED // 1024**2} MiB unpacked.")
        try:
            texts = [zip_member(packed, name) for name in wanted]
        except (KeyError, struct.error, zipfile.BadZipFile, EOFError, OSError, zlib.error) as error:
            raise BadScores(
                f"{path.name} cannot be read: {str(error)[:100]}.",
                fix="inspect log convert --to json --output-dir FOLDER, and name that folder",
            ) from error
    first, *rest = (
        eval_logs.parsed(t, f"{path.name}: {n}") for t, n in zip(texts, wanted, strict=True)
    )
    log = dict(eval_logs.mapping(first))
    every = rest[0] if wanted[1:] == ["summaries.json"] else rest
    return log, every if isinstance(every, list) else []
