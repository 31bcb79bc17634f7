import math

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference import two_way
from bench.analysis.study.claim import (
    best_epoch_optimism,
    chance_in_one_pair,
    chance_in_two_runs,
    flipped_share,
    likelihood_ratio,
    read_claim,
)


def pairs(sd, n=20, seed=0):
    d = np.random.default_rng(seed).normal(size=n)
    return np.zeros(n), sd * (d - d.mean()) / d.std(ddof=1)


@pytest.mark.parametrize(("sd", "chance"), [(0.006, 0.34), (0.008, 0.38), (0.010, 0.40)])
def test_reproduces_the_chances_of_the_article(sd, chance):
    # +0.3 pp on 1000 validation images
    r = chance_in_one_pair(0.003, *pairs(sd), grid_step=1 / 1000)
    assert r.chance == pytest.approx(chance, abs=0.005)
    assert r.low < r.chance < r.high
    assert (r.sd, r.df) == (pytest.approx(sd), 19)


@pytest.mark.parametrize(("n_validation", "steps", "truth"), [(100, 1, 0.428), (50, 1, 0.402)])
def test_a_claim_between_two_steps_is_shown_by_the_next_one(n_validation, steps, truth):
    # 0.3 pp of 100 images: one image or more. The truth: by simulation of whole images.
    step = 1 / n_validation
    sd = (steps - 0.5) * step / -stats.norm.ppf(truth)
    r = chance_in_one_pair(0.003, *pairs(sd), grid_step=step)
    assert r.chance == pytest.approx(truth, abs=5e-4) and r.chance < 0.5
    whole = np.rint(pairs(sd, n=40_000)[1] / step)
    assert r.chance == pytest.approx((np.abs(whole) >= 1).mean() / 2, abs=0.01)
    assert flipped_share(0.003, np.zeros(40_000), whole * step, grid_step=step) == pytest.approx(
        truth, abs=0.01
    )


def test_limits_are_those_of_the_spread():
    # chi2.ppf((0.975, 0.025), 19) = 32.8523, 8.9065
    r = chance_in_one_pair(0.003, *pairs(0.008))
    for limit, quantile in ((r.low, 32.85233), (r.high, 8.906516)):
        spread = 0.008 * math.sqrt(19 / quantile)
        assert limit == pytest.approx(0.5 * math.erfc(0.003 / spread / math.sqrt(2)), abs=1e-7)


def test_two_runs_without_a_shared_seed_vary_more():
    rng = np.random.default_rng(1)
    shared = rng.normal(0, 0.01, size=20)
    arms = shared + rng.normal(0, 0.005, size=(2, 20))
    paired, unpaired = chance_in_one_pair(0.003, *arms), chance_in_two_runs(0.003, *arms)
    assert unpaired.sd == pytest.approx(math.sqrt(arms.var(axis=1, ddof=1).sum()))
    assert unpaired.chance > paired.chance
    assert 19 <= unpaired.df <= 38


def test_a_claimed_loss_is_as_likely_as_a_gain():
    assert chance_in_one_pair(-0.003, *pairs(0.008)) == chance_in_one_pair(0.003, *pairs(0.008))


def test_runs_that_never_differ_show_no_gain():
    r = chance_in_one_pair(0.003, [0.1] * 5, [0.1] * 5)
    assert (r.chance, r.low, r.high, r.sd) == (0, 0, 0, 0)
    assert chance_in_two_runs(0.003, [0.1] * 5, [0.1] * 5).chance == 0
    assert likelihood_ratio(0.003, 0.0) is None


def test_refuses_one_pair():
    with pytest.raises(UnusableRuns, match="1 seed pair is too few .* at least 2"):
        chance_in_one_pair(0.003, [0.1], [0.2])


def test_chance_is_how_often_it_happens_and_its_limits_cover_it():
    rng = np.random.default_rng(2)
    truth = np.mean(rng.normal(0, 0.008, size=400_000) >= 0.003)
    results = [chance_in_one_pair(0.003, *np.zeros((1, 10)), rng.normal(0, 0.008, size=10))
               for _ in range(1000)]  # fmt: skip
    covered = np.mean([r.low <= truth <= r.high for r in results])
    assert covered == pytest.approx(0.95, abs=0.028)


def test_flipped_share_counts_each_pair_with_either_sign():
    d = [0.003, -0.004, 0.001, 0.0, 0.0025]
    # 0.003 and -(-0.004) of ten; half a step lets 0.0025 in
    assert flipped_share(0.003, np.zeros(5), d) == pytest.approx(0.2)
    assert flipped_share(0.003, np.zeros(5), d, grid_step=0.001) == pytest.approx(0.3)
    assert flipped_share(0.003, *pairs(0.008, n=4000)) == pytest.approx(0.354, abs=0.02)


def test_a_single_pair_is_weak_evidence():
    assert likelihood_ratio(0.003, 0.008) == pytest.approx(1.073, abs=5e-4)
    assert math.isfinite(likelihood_ratio(1.0, 1e-6))


def correctness(rng, rates, n_examples, *, shared=0.6):
    level = math.sqrt(shared) * rng.normal(size=n_examples)
    level = level + math.sqrt(1 - shared) * rng.normal(size=(len(rates), n_examples))
    return (
        np.array([[math.erf(v / math.sqrt(2)) for v in row] for row in level]) / 2 + 0.5
        < (np.asarray(rates)[:, None])
    )


def test_optimism_with_fixed_validation_examples_is_the_two_way_interval():
    rng = np.random.default_rng(3)
    best, test = rng.uniform(0.8, 0.85, size=8), rng.random((8, 50)) < 0.8
    r, expected = best_epoch_optimism(best, test), two_way(best[:, None] - test)
    assert (r.low, r.high, r.df) == pytest.approx((expected.low, expected.high, expected.df))
    assert r.per_run == pytest.approx(tuple(best - test.mean(axis=1)))
    assert r.mean == pytest.approx(np.mean(r.per_run))


def test_validation_examples_add_their_own_variance():
    rng = np.random.default_rng(4)
    val, test = correctness(rng, [0.83] * 8, 100), correctness(rng, [0.8] * 8, 400)
    both, fixed = best_epoch_optimism(val, test), best_epoch_optimism(val.mean(axis=1), test)
    assert both.mean == pytest.approx(fixed.mean)
    assert both.high - both.low > fixed.high - fixed.low


def test_optimism_covers_a_new_draw_of_seeds_and_of_both_samples():
    rng = np.random.default_rng(5)
    hits = []
    for _ in range(250):
        val = correctness(rng, rng.normal(0.83, 0.01, size=6), 80)
        test = correctness(rng, rng.normal(0.80, 0.01, size=6), 80)
        r = best_epoch_optimism(val, test)
        hits.append(r.low <= 0.03 <= r.high)
    assert 0.905 <= np.mean(hits) <= 0.995


def test_optimism_without_spread_has_a_mean_and_a_reason():
    r = best_epoch_optimism(np.full(3, 0.9), np.ones((3, 4)))
    assert (r.low, r.high, r.standard_error) == (None, None, None)
    assert r.mean == pytest.approx(-0.1)
    assert r.reason.startswith("no spread: all 3 runs differ by -0.1")


def test_optimism_refuses_rows_that_do_not_match():
    with pytest.raises(UnusableRuns, match=r"validation has shape \(3,\) .* give one row a seed"):
        best_epoch_optimism(np.ones(3), np.ones((4, 5)))


@pytest.mark.parametrize(
    ("low", "high", "equivalent", "reading"),
    [
        (0.001, 0.005, False, "compatible"),
        (-0.001, 0.003, False, "compatible"),  # a limit itself is inside
        (0.003, 0.006, False, "compatible"),
        (0.001, 0.002, False, "larger"),
        (-0.004, 0.002, False, "larger"),
        (0.004, 0.006, False, "smaller"),
        (-0.006, -0.001, False, "contradicted"),
        (-0.001, 0.001, True, "contradicted"),
        (0.004, 0.006, True, "contradicted"),
        (-0.004, 0.004, True, "compatible"),
        (None, None, False, "compatible"),
        (None, 0.001, False, "larger"),
    ],
)
def test_reads_a_claim_of_three_tenths(low, high, equivalent, reading):
    assert read_claim(0.003, low, high, equivalent=equivalent) == reading


@given(st.floats(-1, 1).filter(bool), st.floats(-1, 1), st.floats(0, 1), st.booleans())
def test_reading_does_not_depend_on_the_direction_of_the_metric(claim, low, width, equivalent):
    high = low + width
    mirrored = read_claim(-claim, -high, -low, equivalent=equivalent)
    assert read_claim(claim, low, high, equivalent=equivalent) == mirrored
