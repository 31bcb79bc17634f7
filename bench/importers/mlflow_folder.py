"""Reads MLflow's store of files: EXPERIMENT/RUN/{meta.yaml, params/, metrics/, tags/}.

Format: mlflow/store/tracking/file_store.py. A parameter or tag is a file with its text; a metric is
a file with a line `timestamp value step` for each value, its name may hold folders. The last
value of a metric is the one with the highest step, then time, then value, as there.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlparse

from bench.importers.files import MOST_BYTES, BadScores
from bench.store.records import no_experiment
from bench.store.runs import History, Logged, Run

META = "meta.yaml"
STATES = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
MOST_TEXT = 2**20  # bytes of a meta.yaml, parameter or tag
LINE = re.compile(r"^(\w+):[ \t]*(.*(?:\n[ \t]+.*)*)$", re.MULTILINE)


def path_of(typed: str) -> Path | None:
    """Return the folder that a store's address names: a path, or file:… as MLflow writes it."""
    if typed.startswith("file:"):
        return Path(unquote(urlparse(typed).path)).expanduser()
    return None if "://" in typed else Path(typed).expanduser()


def is_store(folder: Path) -> bool:
    """Tell whether a folder holds experiments as files."""
    return folder.is_dir() and any(True for _ in _experiments(folder))


def runs(folder: Path, experiment: str) -> list[Run]:
    """Return the runs of an experiment, finished or not, that were not deleted.

    Raises
    ------
    NothingRecorded : no such experiment
    BadScores : a file that is not as MLflow writes it
    """
    known = {meta.get("name", ""): path for path, meta in _experiments(folder)}
    if experiment not in known:
        raise no_experiment(experiment, list(known))
    places = sorted(path.parent for path in known[experiment].glob(f"*/{META}"))
    found = [_run(place) for place in places]
    return [run for run in found if not run.deleted]


def history(folder: Path, run: Run) -> History:
    """Return every value of every metric of a run, as (step, timestamp, value)."""
    return dict(_metrics(folder / run.experiment_id / run.run_id))


def _experiments(folder: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    for path in sorted(folder.glob(f"*/{META}")):
        meta = _meta(path)
        if meta.get("lifecycle_stage") == "active" and "artifact_location" in meta:
            yield path.parent, meta


def _run(place: Path) -> Run:
    meta = _meta(place / META)
    tags = _texts(place / "tags")
    state = meta.get("status", "")
    return Run(
        run_id=place.name,
        name=meta.get("run_name") or tags.get("mlflow.runName", place.name),
        experiment_id=place.parent.name,
        status=STATES.get(int(state), state) if state.isdecimal() else state,
        started_ms=0,
        deleted=meta.get("lifecycle_stage") != "active",
        artifact_uri="",
        tags=tags,
        metrics={name: max(lines)[2] for name, lines in _metrics(place)},
        params=_texts(place / "params"),
    )


def _metrics(place: Path) -> Iterator[tuple[str, list[Logged]]]:
    """Yield the metrics of a run, each with all values as (step, timestamp, value)."""
    for path in sorted((place / "metrics").rglob("*")):
        if path.is_file():
            text = _text(path, MOST_BYTES)
            values = [_value(line, path) for line in text.splitlines() if line.strip()]
            if not values:
                raise _damaged(path, "it is empty")
            yield path.relative_to(place / "metrics").as_posix(), values


def _value(line: str, path: Path) -> Logged:
    parts = line.split()
    try:
        return int(parts[2]) if len(parts) > 2 else 0, int(parts[0]), float(parts[1])
    except (ValueError, IndexError):
        raise _damaged(path, f"its line {line[:40]!r} is no time, value and step") from None


def _texts(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {p.relative_to(folder).as_posix(): _text(p, MOST_TEXT).rstrip("\n") for p in files}


def _text(path: Path, most: int) -> str:
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise _damaged(path, f"it has more than {most // 1024**2} MiB")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _damaged(path, "it is no text in UTF-8") from None


def _meta(path: Path) -> dict[str, str]:
    """Read the flat YAML that MLflow writes: one `key: value` a line, long ones folded."""
    found = LINE.findall(_text(path, MOST_TEXT))
    return {key: _scalar(re.sub(r"\n\s+", " ", value.strip()), path) for key, value in found}


def _scalar(text: str, path: Path) -> str:
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if text.startswith('"'):
        try:
            return str(json.loads(text))
        except ValueError:
            raise _damaged(path, f"{text[:40]!r} is no text") from None
    return "" if text == "null" else text


def _damaged(path: Path, why: str) -> BadScores:
    place = "/".join(path.parts[-4:])
    return BadScores(f"{place} is not as MLflow writes it: {why}.", fix="mend or delete that run")
