"""Curves: how training went, epoch by epoch, over all seeds; descriptive only."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.analysis.data.tables import Design, Tables
from bench.analysis.inference.distributions import t_isf
from bench.analysis.study.findings import Curve, Gap
from bench.analysis.study.summary import RunCurve

VALIDATION = "val/accuracy"
FEWEST_EPOCHS = 8  # of a run whose last quarter has a slope


def run_curves(tables: Tables, design: Design) -> tuple[RunCurve, ...]:
    """Return every run's validation accuracy by epoch, as far as it was logged."""
    found = []
    for arm in design.arms:
        wide = _wide(tables.epochs, arm, common=False)
        for seed in wide.columns:
            column = wide[seed].dropna()
            found.append(
                RunCurve(
                    arm=arm,
                    seed=int(seed),
                    epochs=tuple(int(e) for e in column.index),
                    values=_floats(column),
                )
            )
    return tuple(found)


def epochs_of(runs: Sequence[RunCurve]) -> pd.DataFrame:
    """Return curves as one row a run and epoch: arm, seed, epoch, validation accuracy."""
    rows = [
        (run.arm, run.seed, epoch, value)
        for run in runs
        for epoch, value in zip(run.epochs, run.values, strict=True)
    ]
    return pd.DataFrame(rows, columns=["arm", "seed", "epoch", VALIDATION])


def curves(epochs: pd.DataFrame, design: Design) -> tuple[Curve, ...]:
    """Return each arm's validation accuracy by epoch: median and middle 90 % of seeds.

    An epoch counts the runs that reached it (early stopping ends some sooner); epochs that less
    than half of the runs reached are left out.
    """
    found = []
    for arm in design.arms:
        wide = _wide(epochs, arm)
        if wide.empty:
            continue
        found.append(
            Curve(
                arm=arm,
                epochs=tuple(int(e) for e in wide.index),
                median=_floats(wide.median(axis=1)),
                low=_floats(wide.quantile(0.05, axis=1)),
                high=_floats(wide.quantile(0.95, axis=1)),
            )
        )
    return tuple(found)


def gaps(epochs: pd.DataFrame, design: Design) -> tuple[Gap, ...]:
    """Return each treatment's paired difference by epoch with pointwise 95 % limits."""
    base = _wide(epochs, design.baseline)
    found = []
    for treatment in design.treatments:
        diff = (_wide(epochs, treatment) - base).dropna(axis=1, how="all").dropna(how="all")
        diff = diff[diff.count(axis=1) >= max(3, diff.shape[1] / 2)]
        if diff.empty:
            continue
        n = diff.count(axis=1).to_numpy(dtype=np.float64)
        mean = diff.mean(axis=1).to_numpy(dtype=np.float64)
        error = diff.std(axis=1).to_numpy(dtype=np.float64) / np.sqrt(n)
        reach = np.array([t_isf(0.025, count - 1) for count in n]) * error
        found.append(
            Gap(
                treatment=treatment,
                epochs=tuple(int(e) for e in diff.index),
                mean=tuple(map(float, mean)),
                low=tuple(map(float, mean - reach)),
                high=tuple(map(float, mean + reach)),
            )
        )
    return tuple(found)


def best_epochs(epochs: pd.DataFrame, arm: str) -> pd.DataFrame:
    """Return per seed the best validation epoch (the earliest of ties), its value, the last."""
    wide = _wide(epochs, arm, common=False)
    return pd.DataFrame(
        {
            "best_epoch": wide.idxmax(axis=0),
            "best": wide.max(axis=0),
            "last_epoch": wide.apply(lambda column: column.last_valid_index(), axis=0),
        }
    )


def projected_rise(runs: Sequence[RunCurve], arm: str) -> dict[int, float]:
    """Return by seed what the slope of a run's last quarter adds over another quarter.

    A run of fewer than eight epochs has no last quarter, and no entry.
    """
    found = {}
    for run in runs:
        if run.arm != arm or len(run.epochs) < FEWEST_EPOCHS:
            continue
        quarter = max(2, math.ceil(len(run.epochs) / 4))
        slope = np.polyfit(run.epochs[-quarter:], run.values[-quarter:], 1)[0]
        found[run.seed] = float(slope) * (run.epochs[-1] - run.epochs[-quarter] + 1)
    return found


def _wide(epochs: pd.DataFrame, arm: str, *, common: bool = True) -> pd.DataFrame:
    """Return epochs × seeds of the validation accuracy."""
    if VALIDATION not in epochs.columns:
        return pd.DataFrame()
    rows = epochs[(epochs.arm == arm) & np.isfinite(epochs[VALIDATION].astype(float))]
    wide = rows.pivot_table(index="epoch", columns="seed", values=VALIDATION, aggfunc="last")
    if common and not wide.empty:
        wide = wide[wide.count(axis=1) >= wide.shape[1] / 2]
    return wide


def _floats(column: "pd.Series[float]") -> tuple[float, ...]:
    return tuple(float(x) for x in column)
