"""Results: what a program has left, as the outcome of its training."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.analysis.data.metrics import METRICS
from bench.experiment import BadOutcome, Diverged, Outcome
from bench.programs import mlflow_files
from bench.programs.epoch_files import FILES as EPOCHS, file_in, last_values, numbers
from bench.programs.example_files import EXAMPLES, PREDICTIONS, examples_in, predictions_in
from bench.programs.lines import Printed, is_fraction
from bench.programs.refusals import NoResults

SCORES = "metrics.json"
STREAMS = "streams.json"
LOOKED_FOR = (SCORES, *EPOCHS, *PREDICTIONS, *EXAMPLES)


def outcome_of(
    folder: Path, printed: Printed, metric: str, *, cluster: str = "", elsewhere: Iterable[str] = ()
) -> Outcome:
    """Return what a program that ended well has measured.

    Parameters
    ----------
    folder : {out}
    printed : with the scores that were read from the output
    metric : that decides
    cluster : the column of clusters among its examples
    elsewhere : result files that it wrote into another folder

    Raises
    ------
    NoResults : none, or none that has the metric
    Diverged : the metric is no finite number
    """
    test = predictions_in(folder)
    examples = examples_in(folder, cluster)
    last = {} if (path := file_in(folder)) is None else last_values(path)
    scores = {**last, **_scores(folder), **printed.scores}
    logged = mlflow_files.last_values(folder, "" if metric in scores else metric)
    scores = {**logged, **scores}
    scores = {name_of(name): value for name, value in scores.items()}
    computed = [*METRICS] if "test" in test else []
    known = [*scores, *examples.scores, *computed]
    if metric not in known:
        raise _nothing(folder, printed, metric, known, elsewhere)
    if metric in scores and metric not in computed and metric not in examples.scores:
        _require_number(scores[metric], metric)
    kept = {
        name: value
        for name, value in scores.items()
        if math.isfinite(value) and name not in examples.scores and name not in computed
    }
    facts: dict[str, Any] = {"streams": streams} if (streams := _streams(folder)) else {}
    facts |= {"example_ids": examples.ids} if examples.ids else {}
    return Outcome(
        test=test.get("test"),
        validation=test.get("validation"),
        scores=kept,
        examples=examples.scores,
        clusters=examples.clusters,
        facts=facts,
    )


def _scores(folder: Path) -> dict[str, float]:
    path = folder / SCORES
    if not path.is_file():
        return {}
    try:
        said = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise NoResults(f"{SCORES} is no JSON: {error}.") from None
    if not isinstance(said, dict):
        raise NoResults(
            f"{SCORES} holds {type(said).__name__}, not names and numbers.",
            fix='write {"accuracy": 0.94}',
        )
    return numbers(said)


def _streams(folder: Path) -> dict[str, str]:
    """Return what the program says of its random streams: a name and where each stands."""
    try:
        said = json.loads((folder / STREAMS).read_text("utf-8-sig"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in said.items()} if isinstance(said, Mapping) else {}


def name_of(name: str) -> str:
    """Return a score's name as the store can hold it: val/top@5 as val/top_5."""
    parts = [re.sub(r"[^\w .:-]", "_", part).strip(" .:-") for part in name.split("/")]
    return "/".join(part for part in parts if part)[:250] or "score"


def _require_number(value: float, metric: str) -> None:
    if not math.isfinite(value):
        raise Diverged(f"{metric} is {value}.")
    if is_fraction(metric) and not 0 <= value <= 1:
        raise BadOutcome(
            f"{metric} is {value:g}, and it is a fraction from 0 to 1.",
            facts=["A printed number that a per cent sign follows is read as per cent."],
            fix=f"divide it by 100, or give what is in per cent its own name: {metric}_percent",
        )


def _nothing(
    folder: Path, printed: Printed, metric: str, known: list[str], elsewhere: Iterable[str]
) -> NoResults:
    read = sorted(printed.readers)
    there = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())[:8]
    facts = [
        f"It has {', '.join(known)[:300]}." if known else "No score was found at all.",
        f"Looked for: {', '.join(read)} in what it prints."
        if read
        else "Nothing is read from what it prints: no --metric NAME=REGEX, no [read].",
        f"Looked for {', '.join(LOOKED_FOR)} in {{out}}, which has "
        f"{', '.join(there) if there else 'no file'}.",
        *(f"It wrote {name}, which is not in {{out}}." for name in elsewhere),
        *printed.words(),
    ]
    fix = (
        f'write {{"{metric}": 0.94}} to {{out}}/{SCORES}, or read it from the output with --metric'
    )
    return NoResults(
        f'the program ended well, and no "{metric}" was found.',
        facts=facts,
        fix=f"{fix} '{metric}=REGEX'" if not known else f"--metric {known[0]}",
    )
