"""`bench.run`: train the arms on the same seeds, and return whether they differ."""

import difflib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from numbers import Integral
from pathlib import Path
from typing import Any, TypeVar

from bench.analysis.data.json_values import plain
from bench.commands.common import Usage, data_folder
from bench.commands.options import Arms, Design, Output, Recording, Training
from bench.commands.run import Asked, execute
from bench.design.loading import require_not_importing
from bench.design.option_values import amount
from bench.execution.signals import ended_by_signals
from bench.experiment import BadExperiment, Experiment
from bench.python_api.refusals import in_python
from bench.reports.result import Result
from bench.store.records import seeds_text

T = TypeVar("T")

NOT_HERE = {"dry_run", "blind", "no_report"}  # options that leave nothing to return


class _Silent(Output):
    silent = True


@in_python
def run(
    experiment: str | Path | Experiment,
    *,
    seeds: int | str | Sequence[int] = 20,
    settings: Mapping[str, Any] | None = None,
    arms: Mapping[str, Mapping[str, Any]] | None = None,
    margin: float | str | None = None,
    claim: float | str | None = None,
    data: str | Path | None = None,
    devices: str = "auto",
    store: str | None = None,
    progress: bool = False,
    **options: Any,
) -> Result:
    """Train the arms on the same seeds and return whether they differ, as `bench run` does.

    What has finished is recorded, and the same call goes on where it stopped. Each training is a
    process of its own that imports the experiment's file: a script calls this below
    ``if __name__ == "__main__":``.

    Parameters
    ----------
    experiment : a built-in experiment, a file or a module, or the EXPERIMENT of one
    seeds : how many, or which
    settings : changed in every arm
    arms : further treatments, each with its settings
    margin, claim : a number in the metric's own unit, or percentage points as "0.5pp"
    data : folder with the data set
    devices : "auto", "cpu", or GPUs by number or UUID
    store : an MLflow tracking URI, by default that of this folder
    progress : show how the training goes
    options : the other options of `bench run`, as ``stop="anytime"`` or ``max_hours=8``

    Raises
    ------
    Refusal : what cannot be trained, or failed; `load` returns what there is

    Examples
    --------
    >>> import bench
    >>> f = bench.run("digits", seeds=20, arms={"strong": {"epsilon": 0.2}})  # doctest: +SKIP
    >>> f["strong"].verdict  # doctest: +SKIP
    'better'
    """
    require_not_importing("bench.run")
    changed: dict[str, Any] = {
        **options,
        "seeds": _seeds(seeds),
        "settings": [_pair(key, value) for key, value in (settings or {}).items()] or None,
        "arms": [_arm(name, own) for name, own in (arms or {}).items()] or None,
        "margin": amount("margin", margin),
        "claim": amount("claim", claim),
    }
    _require_known(options)
    with ended_by_signals(), _environment_kept():
        found = execute(
            _reference(experiment),
            design=_group(Design, changed),
            arms=_group(Arms, changed),
            devices=devices,
            training=_group(Training, changed),
            data=data_folder(None if data is None else Path(data)),
            asked=_group(Asked, changed),
            recording=_group(Recording, changed),
            store=store,
            output=_Silent(quiet=not progress),
        )
    assert found is not None  # no option that would leave it out is known here
    return Result.of(found)


@contextmanager
def _environment_kept() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _seeds(given: int | str | Sequence[int]) -> str:
    if isinstance(given, str | int | Integral):
        return str(given)
    return seeds_text([int(seed) for seed in given])


def _pair(key: str, value: Any) -> str:
    """Return a setting as it is typed."""
    return f"{key}={json.dumps(plain(value))}"


def _arm(name: str, settings: Mapping[str, Any]) -> str:
    return f"{name}:{','.join(_pair(key, value) for key, value in settings.items())}"


def _group(kind: type[T], options: Mapping[str, Any]) -> T:
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: options[name] for name in names if name in options})


def _require_known(options: Mapping[str, Any]) -> None:
    groups = (Design, Training, Recording, Asked)
    known = [f.name for group in groups for f in fields(group) if f.name not in NOT_HERE]
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise Usage(
                f"bench.run has no option {name}.",
                facts=[*(f"Closest: {each}." for each in close), f"Known: {', '.join(known)}."],
            )


def _reference(experiment: str | Path | Experiment) -> str:
    """Return by which name the processes of its trainings find an experiment."""
    if not isinstance(experiment, Experiment):
        return str(experiment)
    module = sys.modules.get(str(getattr(experiment.train, "__module__", "")))
    file = getattr(module, "__file__", None)
    if module is None or file is None or vars(module).get("EXPERIMENT") is not experiment:
        raise BadExperiment(
            f"{experiment.name} is not the EXPERIMENT of a file.",
            facts=["Each training is a process of its own, which imports the file."],
            fix='write it to a file as EXPERIMENT = Experiment(…), then bench.run("FILE.py")',
        )
    return module.__name__ if "." in module.__name__ else str(file)
