"""Comparisons: one question about treatment minus baseline, one file, one result.

=================== =========================================================================
`two_way`           new seeds and new test examples: the verdict interval where predictions are
`paired_t`          new seeds, this test set
`sign_flip`         the same question, assuming only that signs are exchangeable
`bootstrap_t`       the same question, the spread's shape taken from the data
`wilcoxon`          the typical seed instead of the mean
`welch`             runs that share nothing, or pairs as if they shared no seeds
`weighted_t`        units that count differently, or lie in strata: passages, data sets
`corrected_t`       folds of one data set, whose training sets overlap
`mcnemar`           one run of each: what a single pair can say
`leave_one_out`     whether one seed decides
`friedman_ranks`    which of several arms are ranked apart over data sets
`interquartile_mean` the average run of several data sets, without the extreme quarters
`iqm_difference`    the average run of one arm against that of the other
`tost`              whether the difference is too small to matter
`posterior`         how probable below, inside and above the margin are
=================== =========================================================================
"""

from bench.analysis.inference.bayes import Posterior, posterior
from bench.analysis.inference.bootstrap_t import bootstrap_t
from bench.analysis.inference.corrected_t import corrected_t
from bench.analysis.inference.iqm import InterquartileMean, interquartile_mean, iqm_difference
from bench.analysis.inference.leave_one_out import LeaveOneOut, leave_one_out
from bench.analysis.inference.mcnemar import McNemar, mcnemar
from bench.analysis.inference.paired_t import paired_t
from bench.analysis.inference.ranks import Ranks, friedman_ranks
from bench.analysis.inference.sign_flip import SignFlip, sign_flip
from bench.analysis.inference.tost import Equivalence, tost
from bench.analysis.inference.two_way import (
    TwoWay,
    effective_df,
    two_way,
    two_way_from_mean_squares,
)
from bench.analysis.inference.weighted import weighted_t
from bench.analysis.inference.welch import welch
from bench.analysis.inference.wilcoxon import wilcoxon

__all__ = [
    "Equivalence",
    "InterquartileMean",
    "LeaveOneOut",
    "McNemar",
    "Posterior",
    "Ranks",
    "SignFlip",
    "TwoWay",
    "bootstrap_t",
    "corrected_t",
    "effective_df",
    "friedman_ranks",
    "interquartile_mean",
    "iqm_difference",
    "leave_one_out",
    "mcnemar",
    "paired_t",
    "posterior",
    "sign_flip",
    "tost",
    "two_way",
    "two_way_from_mean_squares",
    "weighted_t",
    "welch",
    "wilcoxon",
]
