"""Sources of variance: data drawn, first weights, order, augmentation: which spreads?

One source of randomness varies and the others are pinned to one seed; then all vary together. What
a source brings is the SD that its runs show. After Bouthillier et al. (2021), Accounting for
variance in machine learning benchmarks, MLSys.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.analysis.data.tables import Design, Tables
from bench.analysis.errors import UnusableRuns
from bench.analysis.inference.distributions import chi2_isf

ALL = "all"

# What a spread under one source answers: would the result be the same with …?
QUESTIONS: Mapping[str, str] = {
    "subset": "another training set from the same pool",
    "init": "other initial weights",
    "order": "another order of the batches",
    "augment": "other augmentations of the same images",
    "dropout": "other units dropped",
    ALL: "everything drawn anew, as for the verdict",
}


@dataclass(frozen=True, kw_only=True)
class SourceRow:
    """The spread that one source of randomness brings, the others pinned."""

    source: str  # a stream's name; "all": nothing pinned
    arm: str
    treatment: str | None  # of the paired difference; None: of the arm's own values
    n: int
    sd: float | None
    low: float | None
    high: float | None


def question(source: str) -> str:
    """Return which change of the training a source stands for."""
    return QUESTIONS.get(source, f"another draw of the stream {source!r}")


def source_rows(families: Mapping[str, Tables], design: Design) -> tuple[SourceRow, ...]:
    """Return the spread that each source brings, in every arm and in the paired difference.

    Parameters
    ----------
    families : source to the runs in which it alone varied; "all" to those in which all did
    design : arms and metric

    Returns
    -------
    source by source, "all" last; of each the arms, then every treatment's difference
    """
    named = [name for name in families if name != ALL]
    rows: list[SourceRow] = []
    for name in (*named, *((ALL,) if ALL in families else ())):
        tables = families[name]
        values = {
            arm: dict(zip(seeds, tables.values(design, arm, seeds), strict=True))
            for arm in design.arms
            if (seeds := tables.finished(arm))
        }
        for arm, found in values.items():
            rows.append(_row(name, arm, None, np.array(list(found.values()))))
        base = values.get(design.baseline, {})
        for treatment in design.treatments:
            both = [s for s in values.get(treatment, {}) if s in base]
            gaps = np.array([values[treatment][s] - base[s] for s in both])
            rows.append(_row(name, design.baseline, treatment, gaps))
    return tuple(rows)


def _row(source: str, arm: str, treatment: str | None, values: NDArray[np.float64]) -> SourceRow:
    found: tuple[float, float, float] | tuple[None, None, None] = (None, None, None)
    if values.size >= 2:
        found = spread(values)
    sd, low, high = found
    return SourceRow(
        source=source, arm=arm, treatment=treatment, n=values.size, sd=sd, low=low, high=high
    )


def spread(values: NDArray[np.float64], *, level: float = 0.95) -> tuple[float, float, float]:
    """Return the SD of runs and its chi-square limits.

    Parameters
    ----------
    values : shape (n,), one a seed
    level : coverage of the limits, for normal values

    Raises
    ------
    UnusableRuns : fewer than two values
    """
    n = values.size
    if n < 2:
        raise UnusableRuns(f"{n} run is too few to see a spread; run at least 2, better 10")
    sd, tail = float(values.std(ddof=1)), (1 - level) / 2
    low = sd * math.sqrt((n - 1) / chi2_isf(tail, n - 1))
    high = sd * math.sqrt((n - 1) / chi2_isf(1 - tail, n - 1))
    return sd, low, high
