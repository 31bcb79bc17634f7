"""Python: what `bench compare`, `bench run` and `bench report` find, as values."""

import difflib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import wraps
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from unittest import mock

from bench.analysis.data.json_values import plain
from bench.analysis.errors import Refusal, literal
from bench.commands.common import Usage, data_folder, experiment_name
from bench.commands.options import Arms, Design, Output, Recording, Training
from bench.commands.run import Asked, execute
from bench.design.loading import require_not_importing
from bench.design.option_values import amount
from bench.execution.signals import ended_by_signals
from bench.experiment import BadExperiment, Experiment
from bench.importers.tables import GivenUnit, Layout
from bench.redaction import redacted
from bench.reports.build import analysed, comparison
from bench.reports.compare import compared
from bench.reports.result import Result
from bench.store.address import address, may_hold_runs
from bench.store.records import NothingRecorded, seeds_text

if TYPE_CHECKING:
    import pandas as pd

P = ParamSpec("P")
T = TypeVar("T")
Texts = str | Sequence[str] | None

NOT_HERE = {"dry_run", "blind", "no_report"}  # options that leave nothing to return


class _Silent(Output):
    silent = True


def _in_python(call: Callable[P, T]) -> Callable[P, T]:
    """Let a call's refusals speak Python: their text whole, a remedy as arguments, few frames."""

    @wraps(call)
    def face(*args: P.args, **given: P.kwargs) -> T:
        try:
            return call(*args, **given)
        except Refusal as refusal:
            told = refusal
        vars(told).pop("__notes__", None)  # tracebacks of other processes, for -v
        for pair in told.replace:
            name = next((n for n, value in given.items() if value == pair[0]), None)
            if name is not None:
                told.options = (*told.options, (name, pair[1]))
                told.replace = tuple(each for each in told.replace if each != pair)
        raise told.in_full().with_traceback(None) from None

    return face


@_in_python
def compare(
    source: "pd.DataFrame | str | Path",
    *,
    baseline: str | None = None,
    treatment: Texts = None,
    arm: str | None = None,
    metric: Texts = None,
    seed: str | None = None,
    pair: str | None = None,
    unit: GivenUnit = "auto",
    lower_is_better: bool = False,
    margin: float | str | None = None,
    claim: float | str | None = None,
    allow_missing: bool = False,
    where: Texts = None,
    store: str | None = None,
) -> Result:
    """Analyse results from elsewhere; trains nothing, writes nothing.

    Wide: `baseline` and `treatment` are columns of values. Long: `arm` is the column that names
    the arm, `metric` the column of values, and `baseline` one of the arms.

    Parameters
    ----------
    source : a table, one row a run; or a file (CSV, JSON, Parquet), or "mlflow:EXPERIMENT"
    baseline : the baseline's column; long form: its name
    treatment : one or several columns; long form: names, by default all but the baseline
    arm, metric : columns of the long form; of several metrics the first decides
    seed, pair : the column that numbers the trainings, by default found by its name;
        ``pair="row"`` pairs by place
    unit : "fraction" (0.947), "percent" (94.7), "plain", or "auto": by the metric's name
    lower_is_better : a loss or an error
    margin, claim : the smallest difference worth having, and a gain to check: a number in the
        metric's own unit, or percentage points as "0.5pp"
    allow_missing : count missing values as failed runs, also at their worst
    where : conditions COL=VALUE or COL!=VALUE that rows have to fit
    store : of that MLflow experiment

    Raises
    ------
    Refusal : what cannot be compared, with the argument that mends it

    Examples
    --------
    >>> import bench, pandas as pd
    >>> table = pd.DataFrame({  # Student's sleep data: R gives p = 0.002833, [0.700, 2.460]
    ...     "seed": range(10),
    ...     "first": [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
    ...     "second": [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
    ... })
    >>> f = bench.compare(table, baseline="first", treatment="second")
    >>> f.verdict, f.n, round(f.p_value, 6)
    ('better', 10, 0.002833)
    >>> [round(limit, 3) for limit in f.interval]
    [0.7, 2.46]
    """
    given = {name: value for name, value in locals().items() if name != "source"}
    if not (isinstance(source, str | os.PathLike) or hasattr(source, "columns")):
        kind = type(source).__name__
        raise TypeError(f'source is of type {kind}, not a DataFrame, a path or "mlflow:EXPERIMENT"')
    layout = Layout(
        baseline=baseline or "",
        treatments=_several(treatment),
        pair=pair,
        seed=seed,
        arm=arm,
        metrics=_several(metric),
    )
    found = compared(
        os.fspath(source) if isinstance(source, str | os.PathLike) else source,
        layout,
        store=store,
        command=_called("compare", source, given),
        say=lambda text: None,
        unit=unit,
        lower_is_better=lower_is_better,
        margin=amount("margin", margin),
        claim=amount("claim", claim),
        allow_missing=allow_missing,
        where=_several(where),
    )
    return Result.of(found)


@_in_python
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
        "settings": [f"{k}={literal(plain(v))}" for k, v in (settings or {}).items()] or None,
        "arms": [f"{n}:{_pairs(s)}" for n, s in (arms or {}).items()] or None,
        "margin": amount("margin", margin),
        "claim": amount("claim", claim),
    }
    _require_known(options)
    with ended_by_signals(), mock.patch.dict(os.environ):
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


@_in_python
def load(experiment: str | None = None, *, store: str | None = None) -> Result:
    """Return what is recorded of an experiment; trains nothing, writes nothing.

    Parameters
    ----------
    experiment : by default the latest
    store : an MLflow tracking URI, by default that of this folder

    Raises
    ------
    NothingRecorded : no such experiment

    Examples
    --------
    >>> import bench
    >>> bench.load("digits").verdict  # doctest: +SKIP
    'better'
    """
    if not may_hold_runs(store):
        raise NothingRecorded(
            f"nothing is recorded in {redacted(address(store))} yet.",
            fix=f"bench.run({literal(experiment or 'digits')})",
        )
    from bench.store.mlflow_store import Store

    place, name = Store(store), experiment_name(experiment)
    benchmark = place.benchmark() if name is None else comparison(place, name)
    return Result.of(analysed(place, benchmark, place.tables(benchmark)))


def _several(given: Texts) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given or ())


def _called(name: str, source: object, given: Mapping[str, Any]) -> str:
    """Return a call as it stands in a report's audit trail, without passwords."""
    first = literal(str(source)) if isinstance(source, str | os.PathLike) else "DataFrame"
    more = [f"{k}={literal(v)}" for k, v in given.items() if v not in (None, False, "auto")]
    return redacted(f"bench.{name}({', '.join([first, *more])})")


def _seeds(given: int | str | Sequence[int]) -> str:
    if isinstance(given, str | int) or isinstance(given, Integral):
        return str(given)
    return seeds_text([int(seed) for seed in given])


def _pairs(settings: Mapping[str, Any]) -> str:
    return ",".join(f"{key}={literal(plain(value))}" for key, value in settings.items())


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
