"""The error rates that STATISTICS.md promises, and that the same check finds a wrong method.

A short version of `tests/benchmarks/rates.py`, with fixed seeds: 600 to 3,000 replications a
method, each held against exact binomial bounds.
"""

import importlib
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import special, stats

from bench.analysis.calibration.errors import squared_error
from bench.analysis.calibration.intervals import ece_difference
from bench.analysis.data.metrics import METRICS, Predictions, ece
from bench.analysis.data.tables import Design
from bench.analysis.inference import (
    bootstrap_t,
    effective_df,
    paired_t,
    sign_flip,
    two_way,
    welch,
    wilcoxon,
)
from bench.analysis.inference.sequential import anytime
from bench.analysis.inference.variance_components import components
from bench.analysis.study.pairs import Paired
from bench.analysis.study.verdict import decide
from bench.analysis.study.verdict_interval import primary, verdict_interval

BEYOND_CHANCE = 1e-4  # how improbable a count must be before a promise counts as broken


def keeps(wrong: Sequence[bool], promised: float = 0.05, *, at_least: float | None = None) -> bool:
    """Tell whether a method is wrong as seldom as promised, and not far more seldom.

    The first is the error rate. The second, half of the promise by default, finds what is safe
    only because it is useless: an interval that never misses is too wide.
    """
    n, count = len(wrong), int(np.sum(wrong))
    fewest = promised / 2 if at_least is None else at_least
    too_often = stats.binom.sf(count - 1, n, promised) < BEYOND_CHANCE
    too_seldom = stats.binom.cdf(count, n, fewest) < BEYOND_CHANCE
    return not (too_often or too_seldom)


def test_the_check_itself_breaks_at_four_percent_points_and_at_nothing():
    assert keeps([True] * 50 + [False] * 950)
    assert not keeps([True] * 90 + [False] * 910)
    assert not keeps([False] * 1000)
    assert keeps([False] * 1000, at_least=0)


# -- seeds only -------------------------------------------------------------------------------

DIFFERENCES: dict[str, Callable[..., np.ndarray]] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "heavy": lambda rng, shape: rng.standard_t(3, size=shape),
    "skewed": lambda rng, shape: rng.exponential(size=shape) - 1,
    # in steps of one test example, with many ties and zeros
    "grid": lambda rng, shape: np.rint(rng.normal(size=shape)),
    # 3 % of the runs of either arm at chance
    "collapse": lambda rng, shape: rng.normal(size=shape) + fallen(rng, shape) - fallen(rng, shape),
}


def fallen(rng, shape):
    return 100.0 * (rng.random(shape) < 0.03)


def resampler(differences):
    """Return another generator for every sample; one for all would share its resamples' luck."""
    return np.random.default_rng(np.ascontiguousarray(differences).view(np.uint64))


def studentized(baseline, treatment):
    rng = resampler(treatment - baseline)
    return bootstrap_t(baseline, treatment, n_resamples=999, rng=rng)


def percentile(baseline, treatment):
    return plain_bootstrap(baseline, treatment, "percentile")


def accelerated(baseline, treatment):
    return plain_bootstrap(baseline, treatment, "BCa")


def plain_bootstrap(baseline, treatment, method):
    d = treatment - baseline
    found = stats.bootstrap((d,), np.mean, n_resamples=999, method=method, rng=resampler(d))
    return found.confidence_interval


def misses(analyse, kind: str, n: int, *, reps: int = 2000) -> list[bool]:
    """Return how often the interval leaves out a true difference of 0; arms share their seeds."""
    rng = np.random.default_rng([7, n, *kind.encode()])
    differences = DIFFERENCES[kind](rng, (reps, n))
    shared = 2.1 * rng.normal(size=(reps, n))  # the arms correlate at 0.9
    found = [analyse(base, base + d) for base, d in zip(shared, differences, strict=True)]
    return [not low_to_high_holds(r, 0.0) for r in found]


def low_to_high_holds(r, truth: float) -> bool:
    return (r.low is None or r.low <= truth) and (r.high is None or truth <= r.high)


@pytest.mark.parametrize(
    ("analyse", "kind", "n"),
    [
        (paired_t, "normal", 6),
        (paired_t, "normal", 20),
        (paired_t, "heavy", 10),
        (paired_t, "grid", 10),
        (sign_flip, "normal", 10),
        (sign_flip, "heavy", 10),
        (sign_flip, "collapse", 10),
        (studentized, "normal", 10),
        (studentized, "skewed", 20),
    ],
)
def test_an_interval_misses_as_often_as_it_says(analyse, kind, n):
    assert keeps(misses(analyse, kind, n))


@pytest.mark.parametrize("analyse", [paired_t, sign_flip])
@pytest.mark.parametrize("kind", ["grid", "collapse"])
def test_steps_of_one_example_and_collapsed_runs_do_not_raise_the_error_rate(analyse, kind):
    assert keeps(misses(analyse, kind, 12, reps=1000), at_least=0)


@pytest.mark.parametrize("analyse", [percentile, accelerated])
def test_the_check_finds_that_a_plain_bootstrap_misses_too_often(analyse):
    assert not keeps(misses(analyse, "normal", 10, reps=1000))


def test_the_check_finds_that_welch_gives_away_what_pairing_buys():
    wrong = misses(welch, "normal", 10)
    assert keeps(wrong, at_least=0)  # it never raises a false alarm
    assert not keeps(wrong)  # because its interval is three times too wide


def test_the_check_finds_that_ranks_do_not_speak_of_the_mean():
    rng = np.random.default_rng(8)
    skewed, zero = rng.exponential(size=(1000, 20)) - 1, np.zeros(20)
    assert not keeps([wilcoxon(zero, d).p_value <= 0.05 for d in skewed])


# -- new seeds and new test examples ------------------------------------------------------------


def crossed(rng, n: int, *, seed_sd: float, example_sd: float, examples: int = 200):
    """Return treatment minus baseline of every seed on every example; the truth is 0."""
    d = seed_sd * rng.normal(size=(n, 1)) + example_sd * rng.normal(size=(1, examples))
    return d + 0.3 * rng.normal(size=(n, examples))


def answers(rng, n: int, examples: int = 200):
    """Return the same for right and wrong answers of two exchangeable arms, 80 % right."""
    difficulty = rng.normal(size=(1, examples))
    arms = []
    for _ in range(2):
        own = 0.3 * rng.normal(size=(1, examples)) + 0.1 * rng.normal(size=(n, 1))
        arms.append(0.9 + difficulty + own + 0.5 * rng.normal(size=(n, examples)) > 0)
    return arms[1].astype(float) - arms[0]


TABLES: dict[str, Callable[..., np.ndarray]] = {
    "seeds": lambda rng, n: crossed(rng, n, seed_sd=0.05, example_sd=0.0),
    "examples": lambda rng, n: crossed(rng, n, seed_sd=0.0, example_sd=0.4),
    "seeds and examples": lambda rng, n: crossed(rng, n, seed_sd=0.05, example_sd=0.4),
    "right answers": answers,
}


def misses_of_tables(analyse, kind: str, n: int, *, reps: int = 1500) -> list[bool]:
    rng = np.random.default_rng([9, n, *kind.encode()])
    found = [analyse(TABLES[kind](rng, n)) for _ in range(reps)]
    return [not low_to_high_holds(r, 0.0) for r in found]


def over_seeds(table):
    return paired_t(np.zeros(len(table)), table.mean(axis=1))


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("n", [6, 20])
def test_two_way_misses_as_often_as_it_says_whatever_varies(kind, n):
    assert keeps(misses_of_tables(two_way, kind, n), at_least=0.015)


@pytest.mark.parametrize("kind", ["examples", "seeds and examples", "right answers"])
def test_the_check_finds_that_a_t_over_seeds_takes_the_test_set_for_the_world(kind):
    assert not keeps(misses_of_tables(over_seeds, kind, 20, reps=600))


def test_a_t_over_seeds_is_right_where_only_seeds_vary():
    assert keeps(misses_of_tables(over_seeds, "seeds", 20))


def few_that_differ(rng, n: int, examples: int = 200):
    """Return differences that come from one example in twenty: -1, 0 or 1 for every seed."""
    some = (rng.random((1, examples)) < 0.05) * rng.choice([-1.0, 1.0], size=(1, examples))
    return some + 0.1 * rng.normal(size=(n, 1)) + 0.3 * rng.normal(size=(n, examples))


# The SD of seeds, of examples and of the rest that each draws.
SPREADS = {
    "seeds and examples": (TABLES["seeds and examples"], (0.05, 0.4, 0.3)),
    "seeds": (TABLES["seeds"], (0.05, 0.0, 0.3)),
    "few that differ": (few_that_differ, (0.1, math.sqrt(0.05), 0.3)),
}


def misses_of_parts(draw, truth, *, by_kurtosis: bool = True, reps: int = 1000) -> list[list[bool]]:
    rng, found = np.random.default_rng(15), []
    for _ in range(reps):
        table = draw(rng, 10)
        df = effective_df(table) if by_kurtosis else (199, 9 * 199)
        parts = components(two_way(table), df)
        found.append([not p.low <= sd <= p.high for p, sd in zip(parts, truth, strict=True)])
    return [list(part) for part in zip(*found, strict=True)]


@pytest.mark.parametrize("kind", SPREADS)
def test_the_parts_of_the_spread_miss_as_often_as_they_say(kind):
    for wrong in misses_of_parts(*SPREADS[kind]):
        assert keeps(wrong, at_least=0.015)


def test_the_parts_of_right_answers_keep_their_rates_and_the_check_finds_that_normal_ones_do_not():
    rng = np.random.default_rng(16)
    large = [two_way(answers(rng, 60, 4000)) for _ in range(15)]
    names = ("variance_seeds", "variance_examples", "variance_residual")
    truth = [math.sqrt(np.mean([getattr(r, name) for r in large])) for name in names]
    seeds, examples, rest = misses_of_parts(answers, truth)
    assert keeps(seeds, at_least=0.015)
    assert keeps(examples, at_least=0.015)
    assert keeps(rest, 0.1, at_least=0)  # a seed's answers are not quite independent
    _, examples, rest = misses_of_parts(answers, truth, by_kurtosis=False, reps=400)
    assert not keeps(examples)
    assert not keeps(rest, 0.1)


# -- the verdict --------------------------------------------------------------------------------

MARGIN, SD = 0.005, 0.008


def design(n: int, stop="fixed") -> Design:
    return Design(
        experiment="simulated",
        question="Is there a difference?",
        baseline="baseline",
        treatments=("treatment",),
        metric="accuracy",
        higher_is_better=True,
        seeds=tuple(range(n)),
        margin=MARGIN,
        stop=stop,
    )


def verdict(differences, plan: Design, table=None):
    n = differences.size
    pairs = Paired.of(tuple(range(n)), np.full(n, 0.9), 0.9 + differences, table)
    main = primary(pairs, plan)
    limits = {"low": main.low, "high": main.high, "low90": main.low90, "high90": main.high90}
    return decide(n=n, **limits, margin=plan.margin, higher_is_better=True)


def words(truth: float, *, n: int = 20, reps: int = 2000) -> list[str]:
    """Return the verdicts of many studies; "beyond" where the size is settled too."""
    rng, plan = np.random.default_rng([10, n, round(1e4 * abs(truth))]), design(n)
    found = [verdict(d, plan) for d in truth + SD * rng.normal(size=(reps, n))]
    return [v.word + (" beyond" if v.rule in (3, 5) else "") for v in found]


def test_without_a_difference_better_and_worse_are_each_said_as_seldom_as_promised():
    said = words(0.0)
    assert keeps([word.startswith("better") for word in said], 0.025, at_least=0.01)
    assert keeps([word.startswith("worse") for word in said], 0.025, at_least=0.01)


def test_on_the_margin_equivalent_and_beyond_are_said_as_seldom_as_promised():
    said = words(MARGIN)
    assert keeps([word == "equivalent" for word in said], 0.05)
    assert keeps([word == "better beyond" for word in said], 0.025, at_least=0.01)
    assert "worse" not in said


def test_below_the_margin_equivalent_and_beyond_are_said_as_seldom_as_promised():
    said = words(-MARGIN, n=10)
    assert keeps([word == "equivalent" for word in said], 0.05, at_least=0)
    assert keeps([word == "worse beyond" for word in said], 0.025, at_least=0.01)


@pytest.mark.parametrize("truth", [0.0, MARGIN])
def test_the_verdict_over_test_examples_keeps_its_rates(truth):
    rng, plan = np.random.default_rng([11, round(1e4 * truth)]), design(20)
    said = []
    for _ in range(800):
        table = crossed(rng, 20, seed_sd=0.008, example_sd=0.02) * 0.6 + truth
        said.append(verdict(table.mean(axis=1), plan, table).word)
    false = ("better", "worse") if truth == 0 else ("equivalent",)
    assert keeps([word in false for word in said], at_least=0)


# -- looking early ------------------------------------------------------------------------------


def peeking(d: np.ndarray) -> list[bool]:
    """Tell where a t test after every pair from the 6th on says p < 0.05 at least once."""
    n = np.arange(1, d.shape[1] + 1)
    mean = np.cumsum(d, axis=1) / n
    spread = np.sqrt((np.cumsum(d**2, axis=1) - n * mean**2)[:, 5:] / (n[5:] - 1))
    t = np.abs(mean[:, 5:]) / spread * np.sqrt(n[5:])
    return list((t > stats.t.isf(0.025, n[5:] - 1)).any(axis=1))


@pytest.mark.parametrize("kind", ["normal", "heavy"])
def test_a_look_after_every_pair_keeps_the_rate_and_the_check_finds_that_naive_looks_do_not(kind):
    d = DIFFERENCES[kind](np.random.default_rng(12), (1500, 100))
    alarms = [max(anytime(row).log_e_path) > math.log(20) for row in d]
    assert keeps(alarms, at_least=0.005)
    assert not keeps(peeking(d))


def test_looks_at_one_test_set_keep_the_rate_and_the_check_finds_that_seeds_alone_do_not():
    rng, plan = np.random.default_rng(13), design(30, "anytime")
    both, seeds = [], []
    for _ in range(300):
        table = crossed(rng, 30, seed_sd=0.1, example_sd=0.6)
        d = table.mean(axis=1)
        pairs = Paired.of(tuple(range(30)), np.zeros(30), d, table)
        looks = range(6, 31, 3)
        kept = [verdict_interval(pairs.first(n), plan, level=0.95) for n in looks]
        both.append(not all(low_to_high_holds(r, 0.0) for r in kept))
        seeds.append(not all(low_to_high_holds(anytime(d[:n]), 0.0) for n in looks))
    assert keeps(both, at_least=0)
    assert not keeps(seeds)


# -- other designs, drawn as `tests/benchmarks/rates_units.py` draws them ------------------------


@pytest.fixture
def units(monkeypatch):
    """Return that script as a module; it pins the threads of whoever runs it."""
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    return importlib.import_module("rates_units")


@pytest.mark.parametrize(
    ("draw", "args"),
    [
        ("crossed", (6, "both")),
        ("clusters", (10, "60 of 1 to 9", "both")),
        ("one_run", ("15 of 4",)),
        ("binary", (200, 0.1)),
        ("once", (10, 8, "both")),
        ("nested", (3, 8, False)),
        ("these", (10, (50, 100, 200), False)),
        ("these", (10, (6, 12, 20), True)),
        ("these_runs", ((6,) * 8,)),
        ("these_shared", (10, 8)),
        ("unpaired", (5, 20, 3.0, 0)),
        ("unpaired", (10, 10, 3.0, 50)),
        ("samples", (100, 5, False)),
        ("checkpoints", (10, 5, False)),
    ],
)
def test_every_design_keeps_its_rates_through_gate_and_verdict(units, draw, args):
    rng = np.random.default_rng(17)
    found = [units.answered(getattr(units, draw)(rng, *args)) for _ in range(300)]
    delta = units.MARGIN * float(np.std([a.main.difference for a in found]))
    assert keeps([not low_to_high_holds(a.main, 0.0) for a in found])
    for side in (-delta, delta):
        words = [units.word(a, margin=delta, shift=side).word for a in found]
        assert keeps([word == "equivalent" for word in words], at_least=0)


def test_gaps_that_are_filled_leave_the_rate_as_it_was(units):
    rng = np.random.default_rng(18)
    found = [units.answered(units.missing(rng, 8, 30, 0.1)) for _ in range(150)]
    assert keeps([not low_to_high_holds(a.main, 0.0) for a in found], at_least=0)


@pytest.mark.parametrize(("draw", "args"), [("samples", (100, 5)), ("checkpoints", (10, 5))])
def test_the_check_finds_that_repeats_are_no_units(units, draw, args):
    rng = np.random.default_rng(19)
    found = [units.answered(getattr(units, draw)(rng, *args, True)) for _ in range(300)]
    assert not keeps([not low_to_high_holds(a.main, 0.0) for a in found])


def test_looks_at_six_data_sets_keep_the_rate(units):
    counts = units.looked(np.random.default_rng(20), 150, "anytime", 30, 6, 6)
    [missed] = [total for key, (total, _, _) in counts.items() if key[2] == "as reported"]
    assert keeps([True] * int(missed) + [False] * (150 - int(missed)), at_least=0)


@pytest.mark.parametrize(
    ("draw", "args"),
    [("one_run", ("6, one with .6",)), ("unpaired", (2, 20, 1.0, 0)), ("nested", (10, 5, True))],
)
def test_what_keeps_no_rate_is_given_no_word(units, draw, args):
    rng = np.random.default_rng(21)
    found = [units.answered(getattr(units, draw)(rng, *args)) for _ in range(50)]
    assert {units.word(a, margin=1.0).word for a in found} == {"none"}


# -- calibration --------------------------------------------------------------------------------


def over_confident(rng, *, seeds: int, examples: int, over: tuple[float, float]):
    """Draw two arms on the same examples; each seed is overconfident by about `over[arm]`."""
    sure = rng.uniform(0.55, 0.99, size=(1, examples)) + np.zeros((seeds, 1))
    shared = rng.normal(size=(1, examples))
    arms = []
    for mean in over:
        by, own = rng.normal(mean, 0.01, size=(seeds, 1)), rng.normal(size=(seeds, examples))
        level = special.ndtr(math.sqrt(0.6) * shared + math.sqrt(0.4) * own)
        arms.append((sure, (level < sure - by).astype(float)))
    return arms


def test_a_calibration_difference_keeps_its_rate_and_the_check_finds_that_plug_in_does_not():
    rng = np.random.default_rng(14)
    jackknife, squared, plug_in = [], [], []
    for _ in range(400):
        arms = over_confident(rng, seeds=8, examples=1000, over=(0.03, 0.09))
        r = ece_difference(*arms, rng=rng)
        jackknife.append(not low_to_high_holds(r, 0.06))
        r = ece_difference(*arms, rng=rng, error=squared_error)
        squared.append(not low_to_high_holds(r, 0.09**2 - 0.03**2))
        plain = [[ece(*run) for run in zip(*arm, strict=True)] for arm in arms]
        plug_in.append(not low_to_high_holds(paired_t(*plain), 0.06))
    assert keeps(jackknife, at_least=0) and keeps(squared, at_least=0)
    assert not keeps(plug_in)


# -- metrics that are no mean over examples -----------------------------------------------------


def exchangeable(rng, *, seeds: int, examples: int) -> list[list[Predictions]]:
    """Draw two arms of runs on one test set of two classes; the true difference is 0."""
    labels = rng.integers(0, 2, examples)
    example = 0.8 * rng.normal(size=examples) + 2 * (labels - 0.5)
    arms = []
    for own in 0.5 * rng.normal(size=(2, examples)):
        rest = 0.5 * rng.normal(size=(seeds, examples)) + 0.1 * rng.normal(size=(seeds, 1))
        logits = example + own + rest
        log_p = np.stack([special.log_expit(-logits), special.log_expit(logits)], axis=2)
        arms.append([Predictions(run.astype(np.float32), labels) for run in log_p])
    return arms


@pytest.mark.parametrize("metric", ["auroc", "aurc"])
def test_a_metric_of_a_whole_test_set_keeps_its_rate_and_the_check_finds_seeds_alone_do_not(metric):
    rng, of = np.random.default_rng(15), METRICS[metric].columns
    jackknife, seeds = [], []
    for _ in range(100):
        base, other = (
            np.stack([of(run) for run in arm]) for arm in exchangeable(rng, seeds=6, examples=300)
        )
        jackknife.append(two_way(other - base).p_value <= 0.05)
        seeds.append(paired_t(base.mean(axis=1), other.mean(axis=1)).p_value <= 0.05)
    assert keeps(jackknife, at_least=0)
    assert not keeps(seeds)
