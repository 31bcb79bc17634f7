"""Own metrics: values of a user's functions of predictions, as each run recorded them.

A function cannot be stored, and by the time of a report it may be another one. So it is called in
the process of the training, and what it gives of all examples and of 40 groups of them is stored
with the run: a report never mixes runs that different functions have scored.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.analysis.data.metrics import Metric, Predictions
from bench.analysis.errors import BadPredictions

FACT = "own_metrics"  # of a run, beside those that its training returned


@dataclass(frozen=True, eq=False)
class OwnMetric:
    """One metric of one run."""

    label: str
    higher_is_better: bool
    columns: NDArray[np.float64]  # shape (40,), fewer for fewer examples; their mean is its value


def computed(metrics: Iterable[Metric], predictions: Predictions) -> dict[str, Any]:
    """Return a run's own metrics as JSON values.

    Raises
    ------
    BadPredictions : one gave no finite number
    """
    return {
        metric.name: {
            "label": metric.label,
            "higher_is_better": metric.higher_is_better,
            "columns": metric.columns(predictions).tolist(),
        }
        for metric in metrics
    }


def own_metrics(facts: Mapping[str, Any]) -> dict[str, OwnMetric]:
    """Return the own metrics among the facts that a run recorded.

    Raises
    ------
    BadPredictions : they are not what `computed` returns
    """
    try:
        found = {
            str(name): OwnMetric(
                label=str(plain["label"]),
                higher_is_better=bool(plain["higher_is_better"]),
                columns=np.array(plain["columns"], dtype=np.float64),
            )
            for name, plain in dict(facts.get(FACT) or {}).items()
        }
    except (KeyError, TypeError, ValueError):
        raise BadPredictions("the recorded metrics of a run cannot be read.") from None
    for name, metric in found.items():
        if metric.columns.ndim != 1 or not np.isfinite(metric.columns).all():
            raise BadPredictions(f"the recorded metric {name!r} of a run is no row of numbers.")
    return found
