"""Sources of variance: data drawn, first weights, order, augmentation: which spreads?

One source of randomness varies and the others are pinned to one seed; then all vary together. What
a source brings is the SD that its runs show. After Bouthillier et al. (2021), Accounting for
variance in machine learning benchmarks, MLSys.
"""

import math
from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True, kw_only=True)
class SourceValues:
    """The values of one arm's runs in which one source of randomness varied."""

    source: str
    arm: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]


def source_values(families: Mapping[str, Tables], design: Design) -> tuple[SourceValues, ...]:
    """Return every finished run's value, source by source, "all" last; of each arm by arm.

    Parameters
    ----------
    families : source to the runs in which it alone varied; "all" to those in which all did
    design : arms and metric
    """
    named = [name for name in families if name != ALL]
    return tuple(
        SourceValues(
            source=name,
            arm=arm,
            seeds=tuple(seeds),
            values=tuple(map(float, families[name].values(design, arm, seeds))),
        )
        for name in (*named, *((ALL,) if ALL in families else ()))
        for arm in design.arms
        if (seeds := families[name].finished(arm))
    )


def source_rows(found: Sequence[SourceValues], design: Design) -> tuple[SourceRow, ...]:
    """Return the spread that each source brings, in every arm and in the paired difference.

    Returns
    -------
    source by source, in the order given; of each the arms, then every treatment's difference
    """
    rows: list[SourceRow] = []
    for name in dict.fromkeys(of.source for of in found):
        own = [of for of in found if of.source == name]
        values = {of.arm: dict(zip(of.seeds, of.values, strict=True)) for of in own}
        for arm, known in values.items():
            rows.append(_row(name, arm, None, np.array(list(known.values()))))
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
