import math

import numpy as np
import pytest
from scipy import stats

from bench.analysis.calibration.errors import (
    Bins,
    ece_debiased,
    equal_mass_bins,
)
from bench.analysis.calibration.intervals import (
    ece_difference,
    ece_difference_from_pseudo_values,
    ece_pseudo_values,
)
from bench.analysis.data.jackknife import example_groups
from bench.analysis.data.metrics import ece
from bench.analysis.errors import UnusableRuns
from bench.analysis.inference import paired_t, two_way


def test_groups_are_equal_and_shared():
    groups = example_groups(1003, rng=np.random.default_rng(0))
    assert np.ptp(np.bincount(groups)) == 1
    assert np.bincount(example_groups(7, rng=np.random.default_rng(0))).tolist() == [1] * 7


def test_pseudo_values_equal_leaving_out_each_group_by_hand():
    rng = np.random.default_rng(12)
    sure = rng.random(300)
    right = rng.random(300) < sure
    groups = example_groups(300, rng=rng)
    full, pseudo = ece_pseudo_values(sure, right, groups)
    assert full == pytest.approx(ece_debiased(equal_mass_bins(sure, right)))
    ranks = np.argsort(np.argsort(sure, kind="stable"))
    for g in (0, 17, 39):
        keep = groups != g
        b = (ranks * 15 // 300)[keep]  # bins stay those of the full sample
        sums = [np.bincount(b, weights=w[keep], minlength=15) for w in (sure, right)]
        left = ece_debiased(
            Bins(count=np.bincount(b, minlength=15) + 0.0, confidence=sums[0], correct=sums[1])
        )
        assert pseudo[g] == pytest.approx(40 * full - 39 * left)


def seeds_and_examples(rng, *, seeds, examples, over):
    """Return both arms; each seed of an arm is overconfident by about `over[arm]`."""
    sure = rng.uniform(0.55, 0.99, size=(1, examples)) + np.zeros((seeds, 1))
    shared = rng.normal(size=(1, examples))
    arms = []
    for mean in over:
        by = rng.normal(mean, 0.01, size=(seeds, 1))
        own = rng.normal(size=(seeds, examples))
        level = stats.norm.cdf(math.sqrt(0.6) * shared + math.sqrt(0.4) * own)
        arms.append((sure, (level < sure - by).astype(float)))
    return arms


def test_difference_is_centred_on_the_full_sample():
    rng = np.random.default_rng(13)
    arms = seeds_and_examples(rng, seeds=6, examples=400, over=(0.05, 0.1))
    r = ece_difference(*arms, rng=rng)
    means = [np.mean([ece_debiased(equal_mass_bins(*run)) for run in zip(*a, strict=True)])
             for a in arms]  # fmt: skip
    assert r.difference == pytest.approx(means[1] - means[0])
    assert (r.low + r.high) / 2 == pytest.approx(r.difference)
    assert (r.name, r.n, r.n_examples) == ("ece_debiased", 6, 40)


def test_difference_swaps_with_its_arms():
    arms = seeds_and_examples(np.random.default_rng(14), seeds=5, examples=300, over=(0.05, 0.1))
    r = ece_difference(*arms, rng=np.random.default_rng(0))
    swapped = ece_difference(*arms[::-1], rng=np.random.default_rng(0))
    assert (swapped.low, swapped.high) == pytest.approx((-r.high, -r.low))
    assert swapped.p_value == pytest.approx(r.p_value)


def test_difference_from_stored_pseudo_values_is_the_same():
    pseudo = np.random.default_rng(15).normal(0.02, 0.1, size=(6, 40))
    r = ece_difference_from_pseudo_values(0.021, pseudo)
    assert r.standard_error == two_way(pseudo).standard_error
    assert r.difference == 0.021


def test_difference_refuses_arms_that_do_not_pair_and_arms_that_are_equal():
    rng = np.random.default_rng(16)
    one, other = seeds_and_examples(rng, seeds=4, examples=100, over=(0.05, 0.1))
    with pytest.raises(UnusableRuns, match=r"\(4, 100\) and \(3, 100\); .* same seeds and test"):
        ece_difference(one, (other[0][:3], other[1][:3]), rng=rng)
    with pytest.raises(UnusableRuns, match="all 4 seed pairs .* check that the seed and"):
        ece_difference(one, one, rng=rng)


def test_difference_covers_the_truth_and_the_plug_in_error_over_seeds_does_not():
    rng = np.random.default_rng(17)
    jackknife, plug_in = [], []
    for _ in range(300):
        arms = seeds_and_examples(rng, seeds=6, examples=1000, over=(0.02, 0.07))
        r = ece_difference(*arms, rng=rng)
        jackknife.append(r.low <= 0.05 <= r.high)
        plain = [[ece(*run) for run in zip(*arm, strict=True)] for arm in arms]
        t = paired_t(*plain)
        plug_in.append(t.low <= 0.05 <= t.high)
    assert np.mean(jackknife) > 0.90
    assert np.mean(plug_in) < 0.75
