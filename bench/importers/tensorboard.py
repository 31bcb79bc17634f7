"""Reads a folder of TensorBoard runs: one row a folder with event files, a column a tag."""

from pathlib import Path

import pandas as pd

from bench.importers.asked import Asked, At
from bench.importers.event_file import scalars
from bench.importers.files import MOST_BYTES, BadScores
from bench.importers.steps import at_step, counted

OWN = ("step", "run_name")  # columns of ours: a tag of that name would take their place


def read(typed: str, asked: Asked) -> pd.DataFrame:
    """Return each run's scalars at its last step, or at the one that a tag chooses.

    Of several values of a tag at one step the one that was written last counts.

    Raises
    ------
    BadScores : no event files there, none with scalars, or a damaged one
    """
    folder = Path(typed).expanduser()
    files = sorted(p for p in folder.rglob("*tfevents*") if p.is_file())
    if not files:
        raise BadScores(
            f"there are no event files in {typed}.",
            fix="name the folder that tensorboard --logdir gets",
        )
    size = sum(path.stat().st_size for path in files)
    if size > 4 * MOST_BYTES:
        raise BadScores(f"the event files of {typed} have {size / 1024**3:.1f} GiB together.")
    tables = []
    for place in dict.fromkeys(path.parent for path in files):
        name = place.relative_to(folder).as_posix()
        table = _steps([path for path in files if path.parent == place], asked, name)
        tables.append(table.assign(run_name=folder.resolve().name if name == "." else name))
    every = pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
    if every.empty:
        raise BadScores(f"the event files of {typed} hold no scalars.")
    at = asked.at or At()
    found = at_step(every, at, ["run_name"], step="step", where=typed)
    asked.say(counted(found, at, "step", asked.values))
    return found


def _steps(files: list[Path], asked: Asked, name: str) -> pd.DataFrame:
    """Return one row a step of one run, a column a tag."""
    values: dict[str, dict[int, float]] = {}
    again = False
    for path in files:
        found, cut = scalars(path)
        before = {tag: set(steps) for tag, steps in values.items()}
        again |= any(one.step in before.get(one.tag, ()) for one in found)
        for one in found:
            values.setdefault(one.tag, {})[one.step] = one.value
        if cut:
            asked.say(f"{path.name} ends within a record; what came before it counts.")
    if again:
        asked.say(f"Event files of {name} share steps: the later file counts.")
    columns = {
        tag: pd.Series(steps, dtype="float64") for tag, steps in values.items() if tag not in OWN
    }
    return pd.DataFrame(columns).rename_axis("step").reset_index()
