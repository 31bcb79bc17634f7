import itertools
import math

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats

from bench.analysis.data.metrics import METRICS
from bench.analysis.data.tables import Design
from bench.analysis.study.pairs import Paired
from bench.analysis.study.verdict import GLYPHS, LABELS, decide, headline
from bench.analysis.study.verdict_interval import primary

FORBIDDEN = ("significant", "trend", "marginal", "sota")
TINY = 1e-12


def judge(low, high, *, inner=None, margin=0.005, n=20, higher=True, blocker=None):
    """Decide on a 95 % interval; the 90 % one is `inner`, by default four fifths as wide."""
    if inner is None and low is not None and high is not None:
        middle, half = (low + high) / 2, 0.4 * (high - low)
        inner = middle - half, middle + half
    return decide(
        n=n,
        low=low,
        high=high,
        low90=None if inner is None else inner[0],
        high90=None if inner is None else inner[1],
        margin=margin,
        higher_is_better=higher,
        blocker=blocker,
    )


def say(verdict, difference, *, metric="accuracy", margin=0.005, n=20):
    measure = METRICS[metric]
    return headline(
        verdict,
        many=f"These {n} seeds",
        too_few=f"{n} seed is" if n == 1 else f"{n} seeds are",
        difference=difference,
        treatment="smoothed",
        baseline="baseline",
        measure=measure,
        label=f"test {measure.label}",
        margin=margin,
    )


GOLDEN = [
    # rule, low, high, margin, word, size_open, sentence
    (1, -0.001, 0.002, 0.005, "equivalent", False,
     "Smoothed and baseline match in test accuracy: the 90% interval of the difference lies "
     "within ±0.50 pp."),
    (2, 0.001, 0.003, 0.005, "equivalent", False,
     "Smoothed raises test accuracy, but by less than 0.50 pp."),
    (2, -0.003, -0.001, 0.005, "equivalent", False,
     "Smoothed lowers test accuracy, but by less than 0.50 pp."),
    (3, 0.006, 0.020, 0.005, "better", False,
     "Smoothed raises test accuracy, by more than the margin you set."),
    (4, 0.004, 0.020, 0.005, "better", True,
     "Smoothed raises test accuracy; whether by enough to matter is unsettled."),
    (4, 0.004, 0.020, None, "better", False, "Smoothed raises test accuracy."),
    (5, -0.020, -0.006, 0.005, "worse", False,
     "Smoothed lowers test accuracy, by more than the margin you set."),
    (6, -0.020, -0.004, 0.005, "worse", True,
     "Smoothed lowers test accuracy; whether by enough to matter is unsettled."),
    (6, -0.020, -0.004, None, "worse", False, "Smoothed lowers test accuracy."),
    (7, -0.010, 0.020, 0.005, "inconclusive", False,
     "These 20 seeds cannot tell smoothed from baseline."),
    (7, -0.001, 0.002, None, "inconclusive", False,
     "These 20 seeds cannot tell smoothed from baseline."),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "low", "high", "margin", "word", "size_open", "sentence"), GOLDEN)
def test_each_rule_has_its_word_and_sentence(rule, low, high, margin, word, size_open, sentence):
    verdict = judge(low, high, margin=margin)
    assert (verdict.rule, verdict.word, verdict.size_open) == (rule, word, size_open)
    assert say(verdict, (low + high) / 2, margin=margin) == sentence
    assert not any(bad in sentence.lower() for bad in FORBIDDEN)


@pytest.mark.parametrize(
    ("n", "blocker", "sentence"),
    [
        (5, None, "5 seeds are too few for a verdict."),
        (1, None, "1 seed is too few for a verdict."),
        (0, None, "0 seeds are too few for a verdict."),
        (20, "the data differ", "No verdict: the data differ."),
        (3, "the data differ", "No verdict: the data differ."),
    ],
)
def test_no_verdict_with_too_few_pairs_or_a_blocker(n, blocker, sentence):
    verdict = judge(0.01, 0.02, n=n, blocker=blocker)
    assert (verdict.rule, verdict.word, verdict.provisional) == (0, "none", False)
    assert say(verdict, 0.015, n=n) == sentence


@pytest.mark.parametrize(("n", "provisional"), [(6, True), (9, True), (10, False), (20, False)])
def test_six_to_nine_pairs_are_provisional(n, provisional):
    assert judge(0.006, 0.02, n=n).provisional is provisional
    assert judge(-0.01, 0.02, n=n).provisional is provisional


@pytest.mark.parametrize(
    ("low", "high", "rule"),
    [
        (0.0, 0.02, 7),  # a limit of zero does not leave out zero
        (-0.02, 0.0, 7),
        (TINY, 0.02, 4),
        (-0.02, -TINY, 6),
        (0.005, 0.02, 4),  # a limit on the margin is not beyond it
        (0.005 + TINY, 0.02, 3),
        (-0.02, -0.005, 6),
        (-0.02, -0.005 - TINY, 5),
    ],
)
def test_limits_on_zero_or_on_the_margin_do_not_pass_it(low, high, rule):
    assert judge(low, high).rule == rule


@pytest.mark.parametrize(
    ("inner", "rule"),
    [
        ((-0.005, 0.004), 7),  # a 90 % limit on the margin is not inside it
        ((-0.004, 0.005), 7),
        ((-0.005 + TINY, 0.005 - TINY), 1),
    ],
)
def test_equivalence_needs_the_90_per_cent_interval_strictly_inside(inner, rule):
    assert judge(-0.006, 0.006, inner=inner).rule == rule


def test_equivalence_goes_before_better():
    # the 95 % interval reaches beyond the margin and leaves out zero; the 90 % one lies inside
    assert judge(0.0001, 0.0051, inner=(0.0005, 0.0049)).rule == 2


def test_a_95_per_cent_limit_at_zero_is_plain_equivalence():
    assert judge(0.0, 0.004, inner=(0.0005, 0.0035)).rule == 1


def test_an_unbounded_interval_decides_nothing_on_that_side():
    assert judge(None, None).rule == 7
    assert judge(None, 0.02).rule == 7
    assert judge(0.006, None).rule == 3
    assert judge(None, -0.006).rule == 5
    assert judge(-0.001, 0.001, inner=(None, 0.001)).rule == 7


LIMITS = st.floats(-0.05, 0.05)


@given(LIMITS, LIMITS, st.floats(0, 1), st.sampled_from([None, 0.005, 0.02]), st.integers(0, 30))
def test_lower_is_better_is_the_exact_mirror(a, b, share, margin, n):
    low, high = sorted((a, b))
    inner = (low + share * (high - low) / 2, high - share * (high - low) / 2)
    mirrored = judge(-high, -low, inner=(-inner[1], -inner[0]), margin=margin, n=n, higher=False)
    assert mirrored == judge(low, high, inner=inner, margin=margin, n=n)


@given(LIMITS, LIMITS, st.sampled_from([None, 0.005, 0.02]), st.booleans(), st.integers(6, 30))
def test_word_and_interval_never_contradict_each_other(a, b, margin, higher, n):
    low, high = sorted((a, b))
    verdict = judge(low, high, margin=margin, higher=higher, n=n)
    lo, hi = (low, high) if higher else (-high, -low)
    beyond = margin if margin is not None and not verdict.size_open else 0.0
    match verdict.word:
        case "better":
            assert lo > beyond
        case "worse":
            assert hi < -beyond
        case "inconclusive":
            assert lo <= 0 <= hi
        case "equivalent":
            assert margin is not None
    assert not verdict.size_open or margin is not None


@given(LIMITS, LIMITS, st.sampled_from(["accuracy", "nll", "brier"]))
def test_the_verb_follows_the_raw_metric_and_the_word_the_direction(a, b, metric):
    low, high = sorted((a, b))
    higher = METRICS[metric].higher_is_better
    verdict = judge(low, high, higher=higher)
    text = say(verdict, (low + high) / 2, metric=metric)
    if verdict.word in ("better", "worse"):
        rises = (verdict.word == "better") == higher
        assert (" raises " in text) == rises and (" lowers " in text) == (not rises)


def test_no_printed_word_claims_more_than_the_rule():
    texts = [*LABELS.values(), *(row[-1] for row in GOLDEN)]
    assert not any(bad in text.lower() for bad, text in itertools.product(FORBIDDEN, texts))
    assert len(set(GLYPHS.values())) == len(GLYPHS) == len(LABELS)


# -- promised rates, through the planned analysis and the rule --------------------------------

N_SEEDS, N_TEST, REPETITIONS = 20, 60, 800


def words(*, effect, margin, scope, rng, seeds_sd=0.008):
    """Return the words of benchmarks whose true difference is `effect`."""
    design = Design(
        experiment="x",
        question="?",
        baseline="a",
        treatments=("b",),
        metric="accuracy",
        higher_is_better=True,
        seeds=tuple(range(N_SEEDS)),
        margin=margin,
        scope=scope,
    )
    found = []
    for _ in range(REPETITIONS):
        # new seeds and, for the two-way scope, new test examples in every benchmark
        table = effect + seeds_sd * rng.normal(size=(N_SEEDS, 1))
        if scope == "seeds":
            table = np.repeat(table, 2, axis=1)
        else:
            table = table + 0.03 * rng.normal(size=(1, N_TEST))
            table = table + 0.05 * rng.normal(size=(N_SEEDS, N_TEST))
        pairs = Paired.of(
            tuple(range(N_SEEDS)), np.full(N_SEEDS, 0.9), 0.9 + table.mean(axis=1), table
        )
        main = primary(pairs, design)
        verdict = decide(
            n=N_SEEDS,
            low=main.low,
            high=main.high,
            low90=main.low90,
            high90=main.high90,
            margin=margin,
            higher_is_better=True,
        )
        found.append(verdict.word)
    return found


def at_most(count, rate):
    """Tell whether so many of the repetitions are no evidence against the promised rate."""
    return stats.binomtest(count, REPETITIONS, rate, alternative="greater").pvalue > 1e-3


@pytest.mark.parametrize("scope", ["seeds", "seeds_and_examples"])
def test_false_better_and_worse_stay_at_their_promised_rate(scope):
    found = words(effect=0.0, margin=None, scope=scope, rng=np.random.default_rng(1))
    assert at_most(found.count("better"), 0.027)
    assert at_most(found.count("worse"), 0.026)


@pytest.mark.parametrize("scope", ["seeds", "seeds_and_examples"])
def test_false_equivalence_on_the_margin_stays_at_its_promised_rate(scope):
    # the margin wide enough that equivalence is reachable at all
    found = words(effect=0.02, margin=0.02, scope=scope, rng=np.random.default_rng(2))
    assert at_most(found.count("equivalent"), 0.052)
    assert found.count("equivalent") > 0


def test_a_clear_gain_is_found_and_an_absent_one_matched():
    gains = words(effect=0.03, margin=0.01, scope="seeds", rng=np.random.default_rng(3))
    assert gains.count("better") == REPETITIONS
    none = words(effect=0.0, margin=0.02, scope="seeds", rng=np.random.default_rng(4))
    assert none.count("equivalent") > 0.99 * REPETITIONS
    assert math.isclose(sum(map(none.count, LABELS)), REPETITIONS)
