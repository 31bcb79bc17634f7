"""Protocol: the claim's own way of measuring, repeated on these runs."""

from dataclasses import replace

import numpy as np

from bench.analysis.data.metrics import correct
from bench.analysis.data.tables import Design, Split, Tables
from bench.analysis.errors import UnusableRuns
from bench.analysis.study.claim import (
    best_epoch_optimism,
    chance_in_one_pair,
    chance_in_two_runs,
    flipped_share,
    likelihood_ratio,
    read_claim,
)
from bench.analysis.study.curves import best_epochs
from bench.analysis.study.findings import BestEpochs, ClaimFinding, Primary
from bench.analysis.study.verdict import Verdict
from bench.analysis.study.verdict_interval import Paired

_BOTH: tuple[Split, Split] = ("validation", "test")


def claimed(
    tables: Tables,
    design: Design,
    treatment: str,
    pairs: Paired,
    best: BestEpochs | str,
    main: Primary,
    verdict: Verdict,
) -> ClaimFinding | None:
    """Read the claim against the interval, and by its own protocol: one run of each arm."""
    found = chances(design, best, main, verdict)
    if found is None or isinstance(best, str):
        return found
    flattery = _optimism(tables, design, treatment, pairs)
    if flattery is None:
        return found
    return replace(
        found,
        best_epoch_optimism=flattery[0],
        optimism_low=flattery[1],
        optimism_high=flattery[2],
    )


def best_epochs_of(
    tables: Tables, design: Design, treatment: str, pairs: Paired
) -> BestEpochs | str:
    """Return each run's best validation accuracy over its epochs, or why it is not known."""
    best = [best_epochs(tables, arm) for arm in (design.baseline, treatment)]
    if design.metric != "accuracy" or any(table.empty for table in best) or pairs.n < 2:
        return "no validation accuracy by epoch"
    both = [table["best"].reindex(list(pairs.seeds)).to_numpy(float) for table in best]
    if not all(np.isfinite(values).all() for values in both):
        return "some runs logged no validation accuracy"
    sizes = {len(p) for (_, _, split), p in tables.predictions.items() if split == "validation"}
    step = 1 / sizes.pop() if len(sizes) == 1 else 0.0
    base, other = (tuple(map(float, values)) for values in both)
    return BestEpochs(baseline=base, treatment=other, grid_step=step)


def chances(
    design: Design, best: BestEpochs | str, main: Primary, verdict: Verdict
) -> ClaimFinding | None:
    """Return how the claim reads, and how often one pair of runs would show it by luck."""
    if design.claim is None:
        return None
    reading = (
        None
        if main.low is None and main.high is None
        else read_claim(design.claim, main.low, main.high, equivalent=verdict.word == "equivalent")
    )
    if isinstance(best, str):
        return ClaimFinding(value=design.claim, reading=reading, reason=best)
    both, step = (best.baseline, best.treatment), best.grid_step
    one = chance_in_one_pair(design.claim, *both, grid_step=step)
    two = chance_in_two_runs(design.claim, *both, grid_step=step)
    return ClaimFinding(
        value=design.claim,
        reading=reading,
        chance_without_effect=one.chance,
        chance_low=one.low,
        chance_high=one.high,
        chance_unpaired=two.chance,
        chance_observed=flipped_share(design.claim, *both, grid_step=step),
        likelihood_ratio=likelihood_ratio(design.claim, one.sd),
    )


def _optimism(
    tables: Tables, design: Design, treatment: str, pairs: Paired
) -> tuple[float, float | None, float | None] | None:
    """Return how much the best validation epoch flatters, averaged over the arms of a seed."""
    arms = (design.baseline, treatment)
    keys = [(arm, seed) for arm in arms for seed in pairs.seeds]
    if not all((*key, split) in tables.predictions for key in keys for split in _BOTH):
        return None
    mean = {
        split: np.mean(
            [[correct(tables.predictions[arm, s, split]) for s in pairs.seeds] for arm in arms],
            axis=0,
        )
        for split in _BOTH
    }
    try:
        found = best_epoch_optimism(mean["validation"], mean["test"])
    except UnusableRuns:
        return None
    return found.mean, found.low, found.high
