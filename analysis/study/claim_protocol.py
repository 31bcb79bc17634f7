"""Protocol: the claim's own way of measuring, repeated on these runs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.analysis.data.tables import Design
from bench.analysis.study.claim import (
    chance_in_one_pair,
    chance_in_two_runs,
    flipped_share,
    likelihood_ratio,
    read_claim,
)
from bench.analysis.study.findings import ClaimFinding, Primary
from bench.analysis.study.summary import Summary, TreatmentSums
from bench.analysis.study.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class BestEpochs:
    """Best validation accuracy of each run of the pairs, for the claim's own protocol."""

    baseline: tuple[float, ...]
    treatment: tuple[float, ...]


def claimed(
    summary: Summary,
    of: TreatmentSums,
    best: Mapping[str, pd.DataFrame],
    main: Primary,
    verdict: Verdict,
) -> ClaimFinding | None:
    """Read the claim against the interval, and by its own protocol: one run of each arm.

    Parameters
    ----------
    best : arm to what `best_epochs` returns
    """
    design, runs = summary.design, best_epochs_of(summary.design, of, best)
    if design.claim is None:
        return None
    unbounded = main.low is None and main.high is None
    equivalent = verdict.word == "equivalent"
    reading = (
        None if unbounded else read_claim(design.claim, main.low, main.high, equivalent=equivalent)
    )
    if isinstance(runs, str):
        return ClaimFinding(value=design.claim, reading=reading, reason=runs)
    both = runs.baseline, runs.treatment
    step = 1 / summary.n_validation if summary.n_validation else 0.0  # one validation example
    one = chance_in_one_pair(design.claim, *both, grid_step=step)
    two = chance_in_two_runs(design.claim, *both, grid_step=step)
    optimism = of.optimism or (None, None, None)
    return ClaimFinding(
        value=design.claim,
        reading=reading,
        chance_without_effect=one.chance,
        chance_low=one.low,
        chance_high=one.high,
        chance_unpaired=two.chance,
        chance_observed=flipped_share(design.claim, *both, grid_step=step),
        likelihood_ratio=likelihood_ratio(design.claim, one.sd),
        best_epoch_optimism=optimism[0],
        optimism_low=optimism[1],
        optimism_high=optimism[2],
    )


def best_epochs_of(
    design: Design, of: TreatmentSums, best: Mapping[str, pd.DataFrame]
) -> BestEpochs | str:
    """Return each run's best validation accuracy over its epochs, or why it is not known."""
    both = [best[arm] for arm in (design.baseline, of.treatment)]
    if design.metric != "accuracy" or any(table.empty for table in both) or of.pairs.n < 2:
        return "no validation accuracy by epoch"
    values = [table["best"].reindex(list(of.pairs.seeds)).to_numpy(float) for table in both]
    if not all(np.isfinite(column).all() for column in values):
        return "some runs logged no validation accuracy"
    base, other = (tuple(map(float, column)) for column in values)
    return BestEpochs(baseline=base, treatment=other)
