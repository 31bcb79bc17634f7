"""Classes: in which classes of the test set does the accuracy change? Exploratory."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.analysis.data.metrics import METRICS
from bench.analysis.data.tables import Design, Tables
from bench.analysis.errors import UnusableRuns
from bench.analysis.inference import paired_t
from bench.analysis.inference.distributions import t_sf
from bench.analysis.inference.multiplicity import benjamini_hochberg
from bench.analysis.inference.two_way import mean_squares, two_way_from_mean_squares
from bench.analysis.study.findings import ClassRow
from bench.analysis.study.pairs import Paired
from bench.analysis.study.summary import ClassSums, Squares
from bench.analysis.study.verdict_interval import stopping_rule

MOST_CLASSES = 30  # that are listed: those with the smallest p

Floats = NDArray[np.float64]


def class_sums(
    tables: Tables, design: Design, pairs: Mapping[str, Paired], facts: Mapping[str, Any]
) -> tuple[ClassSums, ...]:
    """Return what the comparison within each class is computed from.

    Parameters
    ----------
    pairs : of each treatment
    facts : of the study; its data's `class_names` where they are known, in the order of the labels
    """
    found: list[ClassSums] = []
    names = (facts.get("data") or {}).get("class_names")
    for treatment, paired in pairs.items():
        seeds = list(paired.seeds)
        known = all(
            (arm, seed, "test") in tables.predictions
            for arm in (design.baseline, treatment)
            for seed in seeds
        )
        if paired.n >= 2 and known:
            found += _of_treatment(tables, design, treatment, seeds, names)
    return tuple(found)


def _of_treatment(
    tables: Tables, design: Design, treatment: str, seeds: list[int], names: Any
) -> list[ClassSums]:
    labels = tables.scored(treatment, seeds[0], "test").labels
    base = tables.per_example(METRICS["accuracy"], design.baseline, seeds)
    other = tables.per_example(METRICS["accuracy"], treatment, seeds)
    classes = np.unique(labels)
    named = isinstance(names, list | tuple) and len(names) > int(classes[-1])
    found = []
    for label in classes:
        rows = labels == label
        difference, squares, error = _compared(base[:, rows], other[:, rows], design)
        found.append(
            ClassSums(
                treatment=treatment,
                label=str(names[label]) if named else str(label),
                n_examples=int(rows.sum()),
                baseline=float(base[:, rows].mean()),
                treated=float(other[:, rows].mean()),
                difference=difference,
                squares=squares,
                error=error,
            )
        )
    return found


def _compared(
    base: Floats, other: Floats, design: Design
) -> tuple[float, Squares | None, float | None]:
    """Return the sums of the plan's kind of analysis; neither where a class shows no spread."""
    try:
        if design.scope == "seeds" or base.shape[1] < 2:
            c = paired_t(base.mean(axis=1), other.mean(axis=1))
            return c.difference, None, c.standard_error
        of = mean_squares(other - base)
        return of.difference, (of.seeds, of.examples, of.residual), None
    except UnusableRuns:
        return float(other.mean() - base.mean()), None, None


def class_rows(
    classes: Sequence[ClassSums], pairs: Mapping[str, int], design: Design
) -> tuple[ClassRow, ...]:
    """Compare the accuracy within each class, its p adjusted over all classes of a treatment.

    These p-values hold for a fixed number of seeds; where a look could have decided the number
    there are none.

    Parameters
    ----------
    pairs : number of each treatment's
    """
    found: list[ClassRow] = []
    for treatment, n in pairs.items():
        own = [c for c in classes if c.treatment == treatment]
        fixed = stopping_rule(n, design) == "fixed" and not design.pending
        p_values = [_p_value(c, n) if fixed else None for c in own]
        adjusted = benjamini_hochberg([1.0 if p is None else p for p in p_values]) if own else ()
        rows = [
            ClassRow(
                treatment=treatment,
                label=c.label,
                n_examples=c.n_examples,
                baseline=c.baseline,
                treated=c.treated,
                difference=c.treated - c.baseline,
                p_value=p,
                p_adjusted=None if p is None else float(q),
            )
            for c, p, q in zip(own, p_values, adjusted, strict=True)
        ]
        listed = sorted(rows, key=lambda row: 1.0 if row.p_value is None else row.p_value)
        kept = {id(row) for row in listed[:MOST_CLASSES]}
        found += [row for row in rows if id(row) in kept]
    return tuple(found)


def _p_value(c: ClassSums, n: int) -> float | None:
    if c.error is not None:
        return 2 * t_sf(abs(c.difference) / c.error, n - 1)
    if c.squares is None:
        return None
    try:
        return two_way_from_mean_squares(c.difference, *c.squares, n, c.n_examples).p_value
    except UnusableRuns:
        return None
