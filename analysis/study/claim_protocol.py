"""Protocol: the claim's own way of measuring, repeated on these runs."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.analysis.data.tables import Design
from bench.analysis.study import claim
from bench.analysis.study.findings import ClaimFinding, Primary
from bench.analysis.study.summary import Summary, TreatmentSums
from bench.analysis.study.verdict import Verdict


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
    design, both = summary.design, best_epochs_of(summary.design, of, best)
    gain = design.claimed_difference
    if gain is None:
        return None
    unbounded = main.low is None and main.high is None
    equivalent = verdict.word == "equivalent"
    reading = (
        None if unbounded else claim.read_claim(gain, main.low, main.high, equivalent=equivalent)
    )
    if isinstance(both, str):
        return ClaimFinding(value=gain, reading=reading, reason=both)
    step = 1 / summary.n_validation if summary.n_validation else 0.0  # one validation example
    one = claim.chance_in_one_pair(gain, *both, grid_step=step)
    two = claim.chance_in_two_runs(gain, *both, grid_step=step)
    optimism = of.optimism or (None, None, None)
    observed = claim.flipped_share(gain, *both, grid_step=step)
    coarse = one.sd < step  # a normal curve says nothing of differences of a step or two
    return ClaimFinding(
        value=gain,
        reading=reading,
        chance_without_effect=observed if coarse else one.chance,
        chance_low=None if coarse else one.low,
        chance_high=None if coarse else one.high,
        chance_unpaired=None if coarse else two.chance,
        chance_observed=observed,
        likelihood_ratio=claim.likelihood_ratio(gain, one.sd),
        best_epoch_optimism=optimism[0],
        optimism_low=optimism[1],
        optimism_high=optimism[2],
    )


def best_epochs_of(
    design: Design, of: TreatmentSums, best: Mapping[str, pd.DataFrame]
) -> Sequence[NDArray[np.float64]] | str:
    """Return each run's best validation accuracy by arm, baseline first, or why it is unknown."""
    both = [best[arm] for arm in (design.baseline, of.treatment)]
    if design.metric != "accuracy" or any(table.empty for table in both) or of.pairs.n < 2:
        return "no validation accuracy by epoch"
    values = [table["best"].reindex(list(of.pairs.seeds)).to_numpy(float) for table in both]
    if not all(np.isfinite(column).all() for column in values):
        return "some runs logged no validation accuracy"
    return values
