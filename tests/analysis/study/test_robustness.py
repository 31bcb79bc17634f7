import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.analysis.study.pairs import Paired
from bench.analysis.study.robustness import (
    adjusted_for_looks,
    chance_level,
    decisive_seeds,
    other_words,
)
from bench.analysis.study.verdict_interval import fixed_analysis


def check(f, name):
    return next(c for c in f.checks if c.id == name)


def pairs_of(f, seed_values):
    c = f.comparisons[0]
    base = np.array(c.pairs.baseline)
    return Paired.of(c.pairs.seeds, base, base + np.array(seed_values))


def test_failures_that_would_change_the_word_forbid_it(known):
    f = known("failed_runs")
    c = f.comparisons[0]
    assert c.verdict.rule == 0
    assert "3 runs failed, and at their worst they would change the word" in c.verdict.headline
    assert check(f, "B6").state == "failed"
    assert c.primary.low > 0  # the interval of the complete pairs alone said better
    assert c.n_pairs == 17


def test_failures_that_change_nothing_do_not_block(simulate):
    # the failed run is the baseline's: at chance it would only help the treatment
    f = simulate(n_seeds=12, effect=0.06, noise=0.004, failed={("baseline", 2)}).findings()
    text = check(f, "B6")
    word = f.comparisons[0].verdict.word
    assert (text.state == "passed") == (word != "none")


def test_a_failed_run_of_each_arm_at_chance_is_a_tie(simulate):
    f = simulate(
        n_seeds=14, effect=0.08, noise=0.004, margin=0.002, scope="seeds",
        failed={("baseline", 2), ("smoothed", 2)},
    ).findings()  # fmt: skip
    assert check(f, "B6").state == "passed"
    assert f.comparisons[0].verdict.word == "better"


def test_the_worst_case_blocks_only_the_treatment_it_would_change(simulate):
    f = simulate(
        n_seeds=12,
        treatments=("sturdy", "fragile"),
        effect=(0.06, 0.06),
        noise=0.004,
        failed={("fragile", 2), ("fragile", 3)},
    ).findings()
    sturdy, fragile = f.comparisons
    assert (sturdy.verdict.word, fragile.verdict.word) == ("better", "none")
    assert "2 runs failed" in fragile.verdict.headline


def test_a_run_beside_a_failed_one_may_have_scores_only(simulate):
    s = simulate(n_seeds=10, effect=0.05, failed={("smoothed", 3)})
    kept = {k: v for k, v in s.tables.predictions.items() if k[:2] != ("baseline", 3)}
    scores = pd.DataFrame(
        [
            ("baseline", seed, "accuracy", 0.9)
            for seed in s.tables.finished("baseline")
        ],
        columns=["arm", "seed", "score", "value"],
    )  # fmt: skip
    f = s.changed(scores=scores, predictions=kept).findings()
    assert f.comparisons[0].n_pairs == 9
    assert check(f, "B6").state in ("passed", "failed")


def test_too_few_pairs_keep_their_own_headline_whatever_failed(simulate):
    f = simulate(n_seeds=6, failed={("smoothed", 0), ("smoothed", 1)}).findings()
    assert f.comparisons[0].verdict.headline == "4 seeds are too few for a verdict."
    assert check(f, "B6").state == "not checked"


@pytest.mark.parametrize(
    ("metric", "level"), [("accuracy", 1 / 10), ("nll", np.log(10)), ("brier", 0.9)]
)
def test_chance_is_what_a_model_scores_that_knows_nothing(simulate, metric, level):
    s = simulate(n_seeds=1, metric=metric)
    assert chance_level(10, s.design) == pytest.approx(level)


def test_a_score_of_the_users_own_has_no_chance_level(simulate):
    s = simulate(n_seeds=2, scores_only=True, metric="reward")
    assert chance_level(None, s.design) is None


def test_the_seed_that_decides_is_found(simulate):
    s = simulate(n_seeds=12, scope="seeds", margin=None)
    f = s.findings()
    values = [0.01, 0.02, 0.0, 0.012, -0.004, 0.02, 0.001, 0.013, -0.01, 0.004, -0.012, 0.03]
    pairs = pairs_of(f, values)
    word = "better" if fixed_analysis(pairs, s.design, level=0.95).low > 0 else "inconclusive"
    verdict = dataclasses.replace(f.comparisons[0].verdict, word=word)
    c = dataclasses.replace(f.comparisons[0], verdict=verdict)
    expected, base = [], np.array(pairs.baseline[1:])
    for i, seed in enumerate(pairs.seeds):
        others = Paired.of(pairs.seeds[1:], base, base + np.delete(values, i))
        rest = fixed_analysis(others, s.design, level=0.95)
        if (rest.low > 0) != (word == "better"):
            expected.append(seed)
    assert decisive_seeds(c, pairs, s.design) == expected != []


def test_a_clear_result_hangs_on_no_seed(known):
    f = known("rule3_better")
    assert check(f, "C9").state == "passed"
    assert check(f, "C8").state == "passed"


def test_with_six_pairs_no_seed_is_called_decisive(simulate):
    s = simulate(n_seeds=6, effect=0.05)
    f = s.findings()
    assert decisive_seeds(f.comparisons[0], pairs_of(f, [0.05, 0, 0, 0.01, 0, 0]), s.design) == []


def test_companions_are_asked_for_their_word(simulate):
    s = simulate(n_seeds=12, effect=0.05)
    f = s.findings()
    pairs = pairs_of(f, f.comparisons[0].differences)
    words = other_words(f.comparisons[0], pairs, s.design)
    assert set(words) == {"paired_t", "sign_flip", "bootstrap_t", "welch"}
    assert set(words.values()) == {"better"}


def test_analyses_that_disagree_are_named(simulate):
    # large common spread between seeds: only the unpaired analysis cannot see the gain
    f = simulate(n_seeds=12, base_sd=0.05, base=0.8, effect=0.02, noise=0.004, margin=None,
                 scope="seeds").findings()  # fmt: skip
    found = check(f, "C8")
    assert found.state == "failed"
    assert "Welch, unpaired: inconclusive" in found.text


def test_each_earlier_look_widens_the_interval_that_is_printed(simulate):
    s = simulate(n_seeds=12, effect=0.05)
    pairs = {"smoothed": pairs_of(s.findings(), s.findings().comparisons[0].differences)}
    shown = {
        looks: adjusted_for_looks({"earlier_looks": looks}, pairs, s.design)["smoothed"]
        for looks in (0, 1, 9)
    }
    lows = [float(text[2:].split(",")[0]) for text in shown.values()]
    assert lows[0] > lows[1] > lows[2]


@pytest.mark.parametrize(("n_seeds", "there"), [(7, False), (8, True)])
def test_the_interquartile_mean_is_shown_from_eight_runs_on(simulate, n_seeds, there):
    c = simulate(n_seeds=n_seeds, n_test=200).findings().comparisons[0]
    row = c.analysis("iqm")
    assert (row is not None) == there
    if row is not None:
        base, other = (stats.trim_mean(v, 0.25) for v in (c.pairs.baseline, c.pairs.treatment))
        assert row.difference == pytest.approx(other - base)
        assert row.low < row.difference < row.high and row.reason
