import itertools

import numpy as np
import pytest
from scipy import stats

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference import paired_t, wilcoxon
from bench.analysis.inference.wilcoxon import pseudomedian

# Demsar (2006), Table 2: C4.5 and C4.5+m on 14 data sets
C45 = [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1, 0.94, 0.619, 0.972, 0.957]
TUNED = [
    0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1, 0.962, 0.666, 0.981, 0.978
]  # fmt: skip


def test_reproduces_demsars_table_although_its_differences_carry_rounding():
    # Ranks 3.5 and 8.5 (twice) against, two zeros with 1.5 each: counted over all 2^12 signs.
    r = wilcoxon(C45, TUNED)
    diff = np.round(np.subtract(TUNED, C45), 6)
    ranks = stats.rankdata(np.abs(diff))[diff != 0]
    up = stats.rankdata(np.abs(diff))[diff > 0].sum()
    every = np.array(list(itertools.product([0, 1], repeat=ranks.size))) @ ranks
    assert r.p_value == pytest.approx(2 * (every >= max(up, ranks.sum() - up)).mean())
    assert r.p_value == 0.0078125


def test_estimates_the_median_of_the_pairwise_means():
    d = np.random.default_rng(0).normal(size=11)
    walsh = [(d[i] + d[j]) / 2 for i in range(11) for j in range(i, 11)]
    assert pseudomedian(d) == pytest.approx(np.median(walsh))
    assert wilcoxon(np.zeros(11), d).difference == pytest.approx(np.median(walsh))


def test_offers_no_interval_and_says_why():
    r = wilcoxon(C45, TUNED)
    assert (r.low, r.high) == (None, None)
    assert r.reason == (
        "not offered: the ranks speak of the typical seed, not of the mean difference"
    )


def test_identical_arms_and_constant_differences_have_a_p():
    assert wilcoxon([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]).p_value == 1
    assert wilcoxon([0.1, 0.2, 0.3], [0.6, 0.7, 0.8]).p_value == 0.25


def test_refuses_one_pair():
    with pytest.raises(UnusableRuns, match="1 seed pair is too few .* at least 2"):
        wilcoxon([0.1], [0.2])


def test_equals_scipy_without_ties():
    d = np.random.default_rng(1).normal(size=25)
    expected = stats.wilcoxon(d, method="asymptotic", zero_method="zsplit").pvalue
    assert wilcoxon(np.zeros(25), d).p_value == pytest.approx(expected)
    for n in (2, 5, 10, 20):
        expected = stats.wilcoxon(d[:n], method="exact").pvalue
        assert wilcoxon(np.zeros(n), d[:n]).p_value == pytest.approx(expected)


def test_ties_and_zeros_keep_the_level():
    """Whole numbers, as accuracies of few images give: 4.3 % where scipy's exact test is none."""
    rng = np.random.default_rng(3)
    samples = np.rint(1.5 * rng.normal(size=(4000, 10)))
    assert 0.02 < alarms(samples, wilcoxon) <= 0.05


def test_false_alarms_are_promised_for_symmetric_differences_only():
    rng = np.random.default_rng(2)
    symmetric = rng.standard_t(3, size=(700, 20))
    skewed = rng.exponential(size=(700, 20)) - 1  # mean 0, median below
    assert alarms(symmetric, wilcoxon) == pytest.approx(0.05, abs=0.025)
    assert alarms(skewed, wilcoxon) > 0.10
    assert alarms(skewed, paired_t) < 0.11


def alarms(samples, analysis):
    zero = np.zeros(samples.shape[1])
    return np.mean([analysis(zero, d).p_value < 0.05 for d in samples])
