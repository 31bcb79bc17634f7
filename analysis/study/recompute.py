"""Recompute: do the numbers of a report follow from the data embedded in it?

The analyses are the ones that made the report; only the crossed analyses start from their mean
squares, and the calibration of an arm from that of its runs, since predictions are not embedded.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from bench.analysis.data.tables import Design
from bench.analysis.errors import UnusableRuns
from bench.analysis.inference.two_way import MeanSquares, TwoWay, two_way_from_mean_squares
from bench.analysis.study.claim_protocol import chances
from bench.analysis.study.compare_arm import blocked, compare, metric_label
from bench.analysis.study.findings import (
    BestEpochs,
    ClaimFinding,
    Findings,
    Primary,
    Sufficient,
    Treatment,
)
from bench.analysis.study.secondary import calibration_rows, reliability_diagrams, secondary_again
from bench.analysis.study.verdict import Verdict
from bench.analysis.study.verdict_interval import Paired, mean_interval

TOLERANCE = 1e-9  # relative: sums in another order differ in their last bits


@dataclass(frozen=True)
class Mismatch:
    """A number that does not follow from the embedded data."""

    where: str  # comparisons[0].primary.high
    stated: Any
    recomputed: Any


@dataclass(frozen=True)
class Recomputed:
    """How many values were computed again, and which of them came out differently."""

    n_values: int
    mismatches: tuple[Mismatch, ...]


class Recalled(Paired):
    """Pairs without their test examples: the mean squares stand for them."""

    def __init__(self, of: Sufficient, n: int | None = None) -> None:
        keep = len(of.seeds) if n is None else n
        super().__init__(
            of.seeds[:keep], np.array(of.baseline[:keep]), np.array(of.treatment[:keep]), None
        )
        object.__setattr__(self, "_of", of)

    _of: Sufficient

    @property
    def n_examples(self) -> int | None:
        """Test examples that the mean squares were taken over."""
        return self._of.n_examples

    @property
    def mean_squares(self) -> MeanSquares:
        """Mean squares as they were stored."""
        of = self._of
        of_first = {n: (a, b, c) for n, a, b, c in of.squares_first}
        squares = of.squares if self.n == len(of.seeds) else of_first.get(self.n)
        if of.n_examples is None or squares is None:
            raise UnusableRuns("there are no predictions per test example")
        mean = float(self.differences.mean())
        return MeanSquares(mean, *squares, self.n, of.n_examples)

    @property
    def effective_df(self) -> tuple[float, float]:
        """Degrees of freedom as they were stored."""
        if self._of.effective_df is None:
            raise UnusableRuns("there are no predictions per test example")
        return self._of.effective_df

    @property
    def two_way_without(self) -> tuple[TwoWay | None, ...]:
        """The two-way analysis without each seed in turn."""
        return tuple(
            self._without(i, squares) for i, squares in enumerate(self._of.squares_without)
        )

    def _without(self, position: int, squares: tuple[float, float, float] | None) -> TwoWay | None:
        if squares is None or self._of.n_examples is None:
            return None
        mean = float(np.delete(self.differences, position).mean())
        return two_way_from_mean_squares(mean, *squares, self.n - 1, self._of.n_examples)

    def first(self, n: int) -> Paired:
        """Return the first n pairs."""
        return self if n == self.n else Recalled(self._of, n)


def recompute(f: Findings, *, rng: np.random.Generator) -> Recomputed:
    """Compute the numbers of a report again from its own data.

    Parameters
    ----------
    f : findings as they stand in a report
    rng : in the state in which `study` was given its own
    """
    design = f.design
    _, *streams = rng.spawn(1 + len(design.treatments))
    pairs: list[tuple[str, Any, Any]] = [("metric_label", f.metric_label, metric_label(design))]
    for i, (c, stream) in enumerate(zip(f.comparisons, streams, strict=True)):
        pairs.append((f"comparisons[{i}]", c, _treatment_again(c, design, stream)))
        pairs.append((f"comparisons[{i}].sufficient", _values(c), _values_of_runs(f, c)))
    pairs.append(("arms", [_spread(a) for a in f.arms], [_arm_again(f, a.name) for a in f.arms]))
    pairs.append(("calibration", f.calibration, calibration_rows(f.run_calibration, design)))
    pairs.append(("run_calibration", _errors(f), _errors_of_bins(f)))
    pairs.append(("reliability", f.reliability, reliability_diagrams(f.run_bins, design)))
    compared = [row for where, stated, again in pairs for row in _leaves(where, stated, again)]
    wrong = tuple(row for row in compared if not _same(row.stated, row.recomputed))
    return Recomputed(len(compared), wrong)


def _treatment_again(c: Treatment, design: Design, rng: np.random.Generator) -> Treatment:
    resampling, _ = rng.spawn(2)
    again = compare(
        Recalled(c.sufficient),
        design,
        c.treatment,
        claim=lambda main, verdict: _claim_again(c, design, main, verdict),
        secondary=secondary_again(c.secondary, c.sufficient.secondary, design),
        sums=(c.sufficient.best_epochs, c.sufficient.secondary),
        rng=resampling,
    )
    return blocked(again, c.verdict.blocker, design)


def _claim_again(
    c: Treatment, design: Design, main: Primary, verdict: Verdict
) -> ClaimFinding | None:
    best: BestEpochs | str = c.sufficient.best_epochs or (c.claim and c.claim.reason) or ""
    again = chances(design, best, main, verdict)
    if again is None or c.claim is None:
        return again
    kept = ("best_epoch_optimism", "optimism_low", "optimism_high")  # need validation examples
    values = {field.name: getattr(again, field.name) for field in fields(again)}
    return ClaimFinding(**values | {name: getattr(c.claim, name) for name in kept})


# -- what the table of runs says ---------------------------------------------------------------


def _values(c: Treatment) -> dict[str, Any]:
    s = c.sufficient
    return {"baseline": s.baseline, "treatment": s.treatment}


def _values_of_runs(f: Findings, c: Treatment) -> dict[str, Any]:
    known = {(run.arm, run.seed): run.value for run in f.runs}
    arms = {"baseline": f.design.baseline, "treatment": c.treatment}
    seeds = c.sufficient.seeds
    return {key: tuple(known.get((arm, seed)) for seed in seeds) for key, arm in arms.items()}


def _spread(arm: Any) -> dict[str, Any]:
    return {
        key: getattr(arm, key) for key in ("n_finished", "mean", "sd", "min", "max", "low", "high")
    }


def _arm_again(f: Findings, name: str) -> dict[str, Any]:
    rows = [r.value for r in f.runs if r.arm == name and r.status == "finished"]
    values = np.array([value for value in rows if value is not None], dtype=np.float64)
    low, high = mean_interval(values, level=1 - f.design.alpha)
    return {
        "n_finished": values.size,
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=1)) if values.size > 1 else None,
        "min": float(values.min()),
        "max": float(values.max()),
        "low": low,
        "high": high,
    }


def _errors(f: Findings) -> dict[str, Any]:
    raw = {(r.arm, r.seed): r for r in f.run_calibration if not r.scaled}
    return {
        f"{b.arm}, seed {b.seed}": {
            key: getattr(raw[b.arm, b.seed], key) for key in ("ece", "mce", "gap")
        }
        for b in f.run_bins
    }


def _errors_of_bins(f: Findings) -> dict[str, Any]:
    found = {}
    for bins in f.run_bins:
        count, sure = np.array(bins.count, dtype=np.float64), np.array(bins.confidence)
        apart = sure - np.array(bins.correct)
        found[f"{bins.arm}, seed {bins.seed}"] = {
            "ece": float(np.abs(apart).sum() / count.sum()),
            "mce": float(np.abs(apart[count > 0] / count[count > 0]).max()),
            "gap": float(apart.sum() / count.sum()),
        }
    return found


# -- comparing -------------------------------------------------------------------------------------


def _leaves(where: str, stated: Any, again: Any) -> Iterator[Mismatch]:
    """Walk two values of one shape side by side, down to their numbers and words."""
    if is_dataclass(stated) and not isinstance(stated, type) and type(stated) is type(again):
        for field in fields(stated):
            name = field.name
            yield from _leaves(f"{where}.{name}", getattr(stated, name), getattr(again, name))
    elif (
        isinstance(stated, Mapping) and isinstance(again, Mapping) and stated.keys() == again.keys()
    ):
        for key in stated:
            yield from _leaves(f"{where}.{key}", stated[key], again[key])
    elif _rows(stated) and _rows(again) and len(stated) == len(again):
        for i, (one, other) in enumerate(zip(stated, again, strict=True)):
            yield from _leaves(f"{where}[{i}]", one, other)
    else:
        yield Mismatch(where, stated, again)


def _rows(value: Any) -> bool:
    return isinstance(value, tuple | list)


def _same(stated: Any, again: Any) -> bool:
    if isinstance(stated, float | int) and isinstance(again, float | int):
        return math.isclose(stated, again, rel_tol=TOLERANCE, abs_tol=1e-12)
    return bool(stated == again)
