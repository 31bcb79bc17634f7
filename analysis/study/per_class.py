"""Classes: in which classes of the test set does the accuracy change? Exploratory."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.analysis.data.metrics import METRICS
from bench.analysis.data.tables import Design, Tables
from bench.analysis.errors import UnusableRuns
from bench.analysis.inference import paired_t, two_way
from bench.analysis.inference.multiplicity import benjamini_hochberg
from bench.analysis.study.findings import ClassRow
from bench.analysis.study.verdict_interval import Paired

MOST_CLASSES = 30  # that are listed: those with the smallest p

Floats = NDArray[np.float64]


def class_rows(
    tables: Tables, design: Design, pairs: Mapping[str, Paired], facts: Mapping[str, Any]
) -> tuple[ClassRow, ...]:
    """Compare the accuracy within each class, its p adjusted over all classes of a treatment.

    Parameters
    ----------
    pairs : of each treatment
    facts : of the data; `class_names` where they are known, in the order of the labels
    """
    found: list[ClassRow] = []
    for treatment, paired in pairs.items():
        seeds = list(paired.seeds)
        known = all(
            tables.has_predictions(design, arm, seeds) for arm in (design.baseline, treatment)
        )
        if paired.n >= 2 and known:
            found += _of_treatment(tables, design, treatment, seeds, facts)
    return tuple(found)


def _of_treatment(
    tables: Tables, design: Design, treatment: str, seeds: list[int], facts: Mapping[str, Any]
) -> list[ClassRow]:
    accuracy = METRICS["accuracy"]
    labels = tables.predictions[treatment, seeds[0], "test"].labels
    base = tables.per_example(accuracy, design.baseline, seeds)
    other = tables.per_example(accuracy, treatment, seeds)
    classes = np.unique(labels)
    members = [labels == label for label in classes]
    p_values = [_p_value(base[:, rows], other[:, rows], design) for rows in members]
    adjusted = benjamini_hochberg([1.0 if p is None else p for p in p_values])
    names = facts.get("class_names")
    named = isinstance(names, list | tuple) and len(names) > int(classes[-1])
    rows = [
        ClassRow(
            treatment=treatment,
            label=str(names[label]) if named and names else str(label),
            n_examples=int(where.sum()),
            baseline=float(base[:, where].mean()),
            treated=float(other[:, where].mean()),
            difference=float(other[:, where].mean() - base[:, where].mean()),
            p_value=p,
            p_adjusted=None if p is None else float(q),
        )
        for label, where, p, q in zip(classes, members, p_values, adjusted, strict=True)
    ]
    listed = sorted(rows, key=lambda row: 1.0 if row.p_value is None else row.p_value)
    kept = {id(row) for row in listed[:MOST_CLASSES]}
    return [row for row in rows if id(row) in kept]


def _p_value(base: Floats, other: Floats, design: Design) -> float | None:
    """Return the p of the plan's kind of analysis, or None where a class shows no spread."""
    try:
        if design.scope == "seeds" or base.shape[1] < 2:
            return paired_t(base.mean(axis=1), other.mean(axis=1)).p_value
        return two_way(other - base).p_value
    except UnusableRuns:
        return None
