"""`bench.compare`: the analysis of scores from elsewhere."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.analysis.data.json_values import plain
from bench.analysis.errors import literal
from bench.design.option_values import amount
from bench.importers.layout import UNIT_COLUMNS, BadColumns, Layout
from bench.importers.numbers import GivenUnit
from bench.python_api.refusals import in_python
from bench.redaction import redacted
from bench.reports.compare import compared, published
from bench.reports.result import Result

if TYPE_CHECKING:
    import pandas as pd

Name = str | int
Names = Name | Iterable[Name] | None


def _as_it_is(given: Any) -> Any:
    return given


def _name(given: Name | None) -> str | None:
    return None if given is None else str(given)


def _names(given: Names) -> tuple[str, ...]:
    if given is None:
        return ()
    many = isinstance(given, Iterable) and not isinstance(given, str)
    return tuple(map(str, given if many else (given,)))  # type: ignore[arg-type]


def _finite(given: Any) -> float:
    try:
        return float(given)
    except (TypeError, ValueError):
        raise BadColumns(
            f"against={str(given)[:40]!r} is no number.", fix="give a number"
        ) from None


SINGULAR = {"treatments": "treatment", "metrics": "metric"}
READ: Mapping[str, Callable[[Any], Any]] = {  # of the arguments that are not taken as they are
    "baseline": lambda given: _name(given) or "",
    **dict.fromkeys(("arm", "pair", "by", *UNIT_COLUMNS), _name),
    **dict.fromkeys(("treatment", "metric", "where"), _names),
    "against": lambda given: None if given is None else _finite(given),
    **{option: partial(amount, option) for option in ("margin", "claim")},
}


@in_python
def compare(
    source: "pd.DataFrame | str | Path | None" = None,
    *,
    summary: Names = None,
    baseline: Name | None = None,
    treatment: Names = None,
    arm: Name | None = None,
    metric: Names = None,
    seed: Name | None = None,
    fold: Name | None = None,
    example: Name | None = None,
    cluster: Name | None = None,
    dataset: Name | None = None,
    repeat: Name | None = None,
    by: Name | None = None,
    pair: Name | None = None,
    at: str | None = None,
    name: str | None = None,
    unit: GivenUnit = "auto",
    lower_is_better: bool = False,
    margin: float | str | None = None,
    claim: float | str | None = None,
    against: float | None = None,
    scope: Literal["these", "new-datasets"] | None = None,
    trained: Literal["once", "per-dataset"] | None = None,
    test_share: float | None = None,
    goal: Literal["better", "equivalent", "not-worse"] = "better",
    allow_missing: bool = False,
    where: Names = None,
    store: str | None = None,
) -> Result | dict[str, Result]:
    """Analyse results from elsewhere; trains nothing, writes nothing.

    Wide: `baseline` and `treatment` are columns of values. Long: `arm` is the column that names
    the arm, `metric` the column of values, and `baseline` one of the arms.

    Parameters
    ----------
    source : a table, one row a run; or a file (CSV, JSON, Parquet), or "mlflow:EXPERIMENT"
    summary : in place of a source: what is published of each arm, the baseline's first, as
        ``"base=82.1±0.8(sd),n=5"``
    baseline : the baseline's column; long form: its name
    treatment : one or several columns; long form: names, by default all but the baseline
    arm, metric : columns of the long form; of several metrics the first decides
    seed, fold, example, cluster, dataset : columns that say what a row is: a training, a fold, a
        test example, what examples share (a passage), a data set; the first three are found by
        their names too
    repeat : repeats inside such a unit, which are averaged; of folds: the repeat
    by : compare within each value of this column; the answer is then one result for each
    pair : any of these, told by its name; ``"row"`` pairs by place, ``"none"`` not at all
    at, name : of a source of steps or of several files, as `bench compare --help` says
    unit : "fraction" (0.947), "percent" (94.7), "plain", or "auto": by the metric's name
    lower_is_better : a loss or an error
    margin, claim : the smallest difference worth having, and a gain to check: a number in the
        metric's own unit, or percentage points as "0.5pp"
    against : a number in the baseline's place, taken as exact
    scope : ask of these data sets, or of new ones; by default of these where runs are repeated
    trained : a seed's model: once for all data sets, or one per data set
    test_share : n_test / n_train of random splits
    goal : what would be a success; only "not-worse" adds a word
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
    if summary is not None and source is None:
        plain_margin = {k: READ[k](given[k]) for k in ("margin", "claim")}
        return Result.of(
            published(
                _names(summary),
                command=_called("compare", source, given),
                say=lambda text: None,
                lower_is_better=lower_is_better,
                metric=next(iter(_names(metric)), "score"),
                unit=unit,
                goal="not_worse" if goal == "not-worse" else "better",
                **plain_margin,
            )
        )
    if (
        source is None
        or summary is not None
        or not (isinstance(source, str | os.PathLike) or hasattr(source, "columns"))
    ):
        kind = type(source).__name__
        raise TypeError(f'source is of type {kind}, not a DataFrame, a path or "mlflow:EXPERIMENT"')
    given.pop("summary")
    read = {name: READ.get(name, _as_it_is)(value) for name, value in given.items()}
    layout = {
        f.name: read.pop(name)
        for f in fields(Layout)
        if (name := SINGULAR.get(f.name, f.name)) in read
    }
    found = compared(
        os.fspath(source) if isinstance(source, str | os.PathLike) else source,
        Layout(**layout),
        command=_called("compare", source, given),
        say=lambda text: None,
        **read,
    )
    results = [Result.of(each) for each in found]
    if by is None:
        return results[0]
    return {each.design.experiment.rpartition(f"{by}=")[2]: each for each in results}


def _called(name: str, source: object, given: Mapping[str, Any]) -> str:
    """Return a call as it stands in a report's audit trail, without passwords."""
    first = literal(str(source)) if isinstance(source, str | os.PathLike) else "DataFrame"
    known = {name: plain(value) for name, value in given.items()}
    unsaid = (None, False, "auto", "better")
    more = [f"{k}={literal(v)}" for k, v in known.items() if not any(v is each for each in unsaid)]
    return redacted(f"bench.{name}({', '.join([first, *more])})")
