"""Intervals of the difference of two arms' calibration errors, by a jackknife over examples."""

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.analysis.calibration.errors import (
    Bins,
    Floats,
    bins_by_rank,
    checked,
    ece_debiased,
    sums_by_bin,
)
from bench.analysis.data.jackknife import example_groups, pseudo_values
from bench.analysis.data.metrics import ECE_BINS
from bench.analysis.errors import UnusableRuns
from bench.analysis.inference.two_way import TwoWay, two_way, two_way_from_mean_squares

Error = Callable[[Bins], Floats]  # of calibration, by what is in the bins


def ece_pseudo_values(
    confidences: ArrayLike,
    correct: ArrayLike,
    groups: NDArray[np.intp],
    *,
    bins: int = ECE_BINS,
    error: Error = ece_debiased,
) -> tuple[float, Floats]:
    """Return one run's calibration error and its jackknife pseudo-value for each group of examples.

    Parameters
    ----------
    confidences, correct : shape (N,), probability of the predicted class; 1 where it is true
    groups : shape (N,), the same for every run; bins stay those of the full sample
    error : the debiased ECE, or the squared error (`errors.squared_error`)

    Returns
    -------
    the error, and G * error - (G - 1) * (error without the group), shape (G,)
    """
    sure, right = checked(confidences, correct)
    n_groups = int(groups.max()) + 1
    cell = sums_by_bin(sure, right, groups * bins + bins_by_rank(sure, bins), n_groups * bins)
    parts = [a.reshape(n_groups, bins) for a in (cell.count, cell.confidence, cell.correct)]
    count, sums, hits = (part.sum(axis=0) for part in parts)
    full = float(error(Bins(count=count, confidence=sums, correct=hits)))
    left = Bins(count=count - parts[0], confidence=sums - parts[1], correct=hits - parts[2])
    return full, pseudo_values(full, error(left))


def ece_difference(
    baseline: tuple[ArrayLike, ArrayLike],
    treatment: tuple[ArrayLike, ArrayLike],
    *,
    level: float = 0.95,
    rng: np.random.Generator,
    bins: int = ECE_BINS,
    error: Error = ece_debiased,
) -> TwoWay:
    """Compare the calibration error of two arms, for new seeds and new test examples.

    An ECE is no mean over examples; its jackknife pseudo-values over groups of examples are, very
    nearly, and go into the two-way formula. The difference is that of the full sample, and the
    interval is centred on it. (A plug-in ECE with a t over seeds covers anywhere from 0 to 95 %.)

    Parameters
    ----------
    baseline, treatment : (confidences, correct), each of shape (S, N), same seeds, same examples
    level : coverage of the interval, between 0 and 1
    rng : shuffles the examples into 40 groups shared by all runs
    error : the debiased ECE, or the squared error (`errors.squared_error`)

    Returns
    -------
    a comparison in which `n_examples` counts the groups

    Raises
    ------
    UnusableRuns : arms of different shape, fewer than two seeds or examples, or no spread

    References
    ----------
    Miller (1974), The jackknife, Biometrika 61(1); Owen (2007), Annals of Applied Statistics
    1(2), for crossed samples.
    """
    arms = [[np.asarray(part, dtype=np.float64) for part in arm] for arm in (baseline, treatment)]
    shapes = [part.shape for arm in arms for part in arm]
    if len(shapes[0]) != 2 or len(set(shapes)) > 1:
        raise UnusableRuns(
            f"the arms hold confidences of shape {shapes[0]} and {shapes[2]}; "
            "a paired analysis needs (S, N) in both: the same seeds and test examples"
        )
    groups = example_groups(shapes[0][1], rng=rng)
    full, pseudo = zip(
        *(_of_seeds(sure, right, groups, bins, error) for sure, right in arms), strict=True
    )
    return ece_difference_from_pseudo_values(
        float((full[1] - full[0]).mean()), pseudo[1] - pseudo[0], level=level
    )


def ece_difference_from_pseudo_values(
    difference: float, pseudo_values: Floats, *, level: float = 0.95
) -> TwoWay:
    """Return the interval of an ECE difference from pseudo-value differences, shape (S, G)."""
    about = two_way(pseudo_values, level=level)
    centred = two_way_from_mean_squares(
        difference,
        about.ms_seeds,
        about.ms_examples,
        about.ms_residual,
        about.n,
        about.n_examples,
        level=level,
    )
    return dataclasses.replace(centred, name="ece_debiased")


def _of_seeds(
    sure: Floats, right: Floats, groups: NDArray[np.intp], bins: int, error: Error
) -> tuple[Floats, Floats]:
    runs = [
        ece_pseudo_values(s, r, groups, bins=bins, error=error)
        for s, r in zip(sure, right, strict=True)
    ]
    return np.array([full for full, _ in runs]), np.stack([pseudo for _, pseudo in runs])
