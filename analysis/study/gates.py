"""Gates: are there enough units of each kind for a word, and for which?"""

from dataclasses import dataclass

import numpy as np

from bench.analysis.data.format import count
from bench.analysis.data.tables import Design
from bench.analysis.inference.gram import Gram
from bench.analysis.inference.weighted import effective_size
from bench.analysis.study.pairs import Paired
from bench.analysis.study.verdict import FULL_PAIRS, fewest_pairs
from bench.analysis.study.verdict_interval import levels

FEWEST_FOLDS = 5
FEWEST_RUNS, FULL_RUNS = 4, 6  # of each arm, unpaired
FEWEST_COLUMNS = 6  # examples, clusters or data sets; effective, where they count differently
FEWEST_DISCORDANT = 60  # right and wrong answers of one run each, for equivalence


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What there is of the scarcest unit, and what a word takes.

    `may_match` is False where too little differs to tell that the arms match.
    """

    have: int
    needed: int
    full: int  # from here on the word is not provisional
    what: str  # "6 pairs", "5 passages": what there is, in words
    why: str  # why fewer are too few
    may_match: bool = True

    @property
    def is_open(self) -> bool:
        """Whether there is enough for a word."""
        return self.have >= self.needed

    @property
    def provisional(self) -> bool:
        """Whether the word may change with a few more."""
        return self.have < self.full


def gate(pairs: Paired, design: Design) -> Gate:
    """Return what a verdict of these pairs has to pass."""
    units = design.units
    if pairs.independent:
        sizes = pairs.sizes
        arm = design.baseline if sizes[0] <= sizes[1] else "the treatment"
        return Gate(
            have=min(sizes),
            needed=FEWEST_RUNS,
            full=FULL_RUNS,
            what=f"{count(min(sizes), 'run')} of {arm}",
            why="With 2 runs against 20 the interval missed the truth in 12% of simulated studies.",
        )
    if units.rows == "none":
        return _of_columns(pairs, design)
    if units.rows == "folds":
        return Gate(
            have=pairs.n,
            needed=FEWEST_FOLDS,
            full=FULL_PAIRS,
            what=units.pair.counted(pairs.n),
            why="Fewer folds do not show how they vary.",
        )
    if pairs.strata is not None:
        least = int(np.bincount(pairs.strata).min())
        if least < 2:
            return Gate(
                have=least,
                needed=2,
                full=2,
                what=f"{count(least, 'seed')} of one data set",
                why="One run of a data set does not show how its runs vary.",
            )
    if units.new_datasets and not units.nested:
        return _of_new_datasets(pairs, design)
    needed = fewest_pairs(levels(design)[0])
    return Gate(
        have=pairs.n,
        needed=needed,
        full=max(needed, FULL_PAIRS),
        what=count(pairs.n, "pair") if units.are_seeds else units.pair.counted(pairs.n),
        why=f"With {count(pairs.n, 'pair')} the exact test can never go below "
        f"p = {2 ** (1 - max(pairs.n, 1)):g}.",
    )


def _of_columns(pairs: Paired, design: Design) -> Gate:
    """Return what one run of each arm has to pass: enough units that differ."""
    noun, values = design.units.pair, np.array([pairs.baseline, pairs.treatment])
    differ = int((values[0] != values[1]).sum())
    size = pairs.n if pairs.weights is None else int(_effective(pairs))
    binary = bool(np.isin(values, (0, 1)).all())
    scarce = min(size, differ)
    what = f"{noun.counted(differ)} on which the arms differ"
    return Gate(
        have=scarce,
        needed=FEWEST_COLUMNS,
        full=FULL_PAIRS,
        what=what if differ <= size else f"{noun.counted(size)} of equal weight, in effect",
        why=f"Below {FEWEST_COLUMNS} no test can tell a difference from luck.",
        may_match=not binary or differ >= FEWEST_DISCORDANT,
    )


def _effective(pairs: Paired) -> float:
    weights = np.ones(pairs.n) if pairs.weights is None else np.array(pairs.weights)
    strata = np.zeros(pairs.n) if pairs.strata is None else np.array(pairs.strata)
    parts = [weights[strata == t] for t in np.unique(strata)]
    return sum(effective_size(part / part.sum()) for part in parts)


def _of_new_datasets(pairs: Paired, design: Design) -> Gate:
    """Return what models that are scored on every data set have to pass: enough of both."""
    sets = pairs.crossed.n_examples if isinstance(pairs.crossed, Gram) else 0
    needed = fewest_pairs(levels(design)[0])
    scarce = min(sets, pairs.n)
    return Gate(
        have=scarce,
        needed=needed,
        full=FULL_PAIRS,
        what=count(sets, "data set") if sets < pairs.n else count(pairs.n, "pair"),
        why=f"New data sets are spoken of by how these differ: fewer than {needed} do not show it.",
    )
