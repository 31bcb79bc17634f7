"""Builds findings from other people's scores: files, logs, or runs of other trackers."""

import shlex
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from bench.analysis.study.findings import Findings
from bench.analysis.study.study import study
from bench.importers import run_files, sources
from bench.importers.asked import Asked, at_of
from bench.importers.tables import BadColumns, Layout, imported
from bench.store.address import redacted
from bench.store.names import file_name


def compared(
    source: str,
    layout: Layout,
    *,
    store: str | None,
    command: Sequence[str],
    at: str | None = None,
    name: str | None = None,
    say: Callable[[str], object],
    **judged: Any,
) -> Findings:
    """Analyse scores from elsewhere; neither torch nor, for files, MLflow is imported.

    Parameters
    ----------
    source : a file, a folder or glob of files, or one of `bench.importers.sources.READERS`
    layout : which columns hold what
    store : of an MLflow experiment
    command : as typed, for the record
    at : which step of a run counts: last, max:COLUMN or min:COLUMN
    name : pattern of paths or names of runs that gives columns, as {arm}-s{seed}
    say : is told how the values are read
    judged : how, as `imported` takes it: unit, margin, claim, …

    Raises
    ------
    BadScores, BadColumns, BadPairs, BadRequest : what cannot be compared
    """
    if not layout.baseline:
        what = "the arm's name" if layout.is_long else "its column"
        raise BadColumns(
            "which values are the baseline's is not said.",
            facts=[f"--baseline names {what}."],
            options=[("baseline", "NAME")],
        )
    notes = list[str]()
    asked = _asked(layout, at=at, name=name, store=store, where=judged.get("where", ()))
    frame = sources.read(source, replace(asked, say=notes.append))
    notes = list(dict.fromkeys(notes))
    for note in notes:
        say(note)
    prefix, rest = sources.parted(source)
    place = Path(rest).expanduser().resolve()  # nobody's folders stand in a report
    called, shown = (rest, rest) if prefix == "mlflow" else (place.stem, place.name)
    whole = prefix is None and not run_files.are_several(source)
    as_it_is = whole and not notes and at is None and name is None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(rest).expanduser() if as_it_is else _saved(frame, called, Path(folder))
        found = imported(path, layout, **judged)
    say(found.said)
    facts = {
        "command": shlex.join(["bench", *map(redacted, command)]),
        "data": {"name": f"{prefix}:{shown}" if prefix else shown},
        "scores_sha256": found.sha256,
        "dropped_pairs": list(found.dropped),
        "notes": [*notes, found.said],
        "against_name": found.against_name,
    }
    design = replace(found.design, experiment=called)
    return study(found.tables, design, provenance=facts)


def _asked(layout: Layout, **options: Any) -> Asked:
    """Return what is asked of the source: of the layout, which columns are keys and which scores.

    In long form every column that was typed is a key, but those of values.
    """
    typed = asdict(layout)
    scores = [typed.pop("baseline"), *typed.pop("treatments")]
    values = tuple(typed.pop("metrics"))
    keys = [v for each in typed.values() for v in (each if isinstance(each, tuple) else (each,))]
    return Asked(
        keys=tuple(key for key in keys if isinstance(key, str)),
        seed=layout.seed or layout.pair,
        values=values if layout.is_long else tuple(scores),
        **{**options, "at": at_of(options["at"]), "where": tuple(options["where"])},
    )


def _saved(frame: pd.DataFrame, name: str, folder: Path) -> Path:
    """Write a table as a file that `imported` reads; cells of several kinds become texts."""
    mixed = [c for c in frame.columns if frame[c].dtype == object]
    texts = {c: frame[c].map(lambda v: None if pd.isna(v) else str(v)) for c in mixed}
    path = folder / f"{file_name(name)}.parquet"
    frame.assign(**texts).to_parquet(path, index=False, write_page_checksum=True)
    return path
