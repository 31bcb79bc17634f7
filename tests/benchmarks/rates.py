"""Rates: does every analysis keep the error rate it promises, and what do the wrong ways do?

``python tests/benchmarks/rates.py`` simulates what STATISTICS.md states and writes `rates.md`
beside this file (``--quick``: a tenth of the replications, as it then says). All randomness comes
from fixed seeds, one stream a cell, so that a table can be recomputed to the digit.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes, one core each

import argparse
import datetime
import math
import multiprocessing
import platform
import re
import subprocess
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from zlib import crc32

import numpy as np
import scipy
from scipy import special, stats

from bench.analysis.calibration.errors import squared_error
from bench.analysis.calibration.intervals import ece_difference
from bench.analysis.data.metrics import METRICS, Predictions, ece
from bench.analysis.data.tables import Design
from bench.analysis.errors import UnusableRuns
from bench.analysis.inference import (
    bootstrap_t,
    effective_df,
    paired_t,
    sign_flip,
    two_way,
    welch,
    wilcoxon,
)
from bench.analysis.inference.comparison import Comparison
from bench.analysis.inference.sequential import anytime, boundaries, planned_looks
from bench.analysis.inference.variance_components import components
from bench.analysis.study.pairs import Paired
from bench.analysis.study.verdict import Word, decide
from bench.analysis.study.verdict_interval import primary, verdict_interval

Floats = np.ndarray
Key = tuple[str, str, str]  # table, row, column
Counts = dict[Key, tuple[float, float, int]]  # sum, sum of squares, replications

SEED = 20
NUMBERS = (6, 10, 20, 50)
SD = 0.008  # of the paired differences: 0.8 pp
ALPHA = 0.05


# -- differences whose true mean is zero ----------------------------------------------------


COLLAPSE_RATE, COLLAPSE_DEPTH = 0.03, 100.0  # a run at 10 % instead of 90 %, at an SD of 0.8 pp


def collapse(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return COLLAPSE_DEPTH * (rng.random(shape) < COLLAPSE_RATE)


DIFFERENCES: dict[str, Callable[[np.random.Generator, tuple[int, int]], Floats]] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "t3": lambda rng, shape: rng.standard_t(3, size=shape),
    "skewed": lambda rng, shape: rng.exponential(size=shape) - 1,
    "grid": lambda rng, shape: np.rint(rng.normal(size=shape)),
    "collapse, both arms": lambda rng, shape: (
        rng.normal(size=shape) + collapse(rng, shape) - collapse(rng, shape)
    ),
    "collapse, treatment only": lambda rng, shape: (
        rng.normal(size=shape) - collapse(rng, shape) + COLLAPSE_RATE * COLLAPSE_DEPTH
    ),
}


def rates(table: str, row: str, values: dict[str, Iterable[float]]) -> Counts:
    """Return sums of each column's values, one value a replication."""
    found = {}
    for column, numbers in values.items():
        v = np.asarray(list(numbers), dtype=float)
        found[table, row, column] = (float(v.sum()), float(v @ v), v.size)
    return found


def covers(low: float | None, high: float | None, truth: float = 0.0) -> bool:
    """Tell whether an interval holds the truth; an unbounded limit misses nothing."""
    return (low is None or low <= truth) and (high is None or truth <= high)


# -- 1. seeds only: type I error and coverage ------------------------------------------------


ANALYSES = {
    "paired t": lambda base, other, rng: paired_t(base, other),
    "studentized bootstrap": lambda base, other, rng: bootstrap_t(
        base, other, n_resamples=1999, rng=rng
    ),
    "Wilcoxon": lambda base, other, rng: wilcoxon(base, other),
    "Welch": lambda base, other, rng: welch(base, other),
}


def seeds_only(rng: np.random.Generator, reps: int, name: str, n: int) -> Counts:
    """Apply every analysis of seeds to arms that share their seeds; correlation about 0.9."""
    gains = DIFFERENCES[name](rng, (reps, n))
    shared = 2.1 * rng.normal(size=(reps, n))  # what both arms owe to the seed
    claims: dict[str, list[float]] = {label: [] for label in ANALYSES}
    kept: dict[str, list[float]] = {label: [] for label in ANALYSES}
    for base, gain in zip(shared, gains, strict=True):
        for label, analyse in ANALYSES.items():
            result = answer(partial(analyse, base, base + gain, rng))
            claims[label].append(result is not None and result.p_value <= ALPHA)
            kept[label].append(result is None or covers(result.low, result.high))
    del kept["Wilcoxon"]  # offers no interval
    flat = np.ptp(gains, axis=1) == 0
    peeked = peeking(gains, first=min(6, n))
    claims |= {"naive t, peeking": peeked}
    kept |= {"naive t, peeking": ~peeked}
    row = f"{name}, n = {n}"
    extra = {"no spread": flat.astype(float)}
    return rates("type I", row, claims | extra) | rates("coverage", row, kept)


def answer(call: Callable[[], Comparison]) -> Comparison | None:
    try:
        return call()
    except UnusableRuns:
        return None  # no spread: no claim


def peeking(d: Floats, *, first: int) -> Floats:
    """Tell where a t test after every pair from `first` on says p < 0.05 at least once."""
    n = np.arange(1, d.shape[1] + 1)
    mean = np.cumsum(d, axis=1) / n
    square = np.cumsum(d * d, axis=1) - n * mean**2
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(np.maximum(square, 0.0) / np.maximum(n - 1, 1) / n)
        t = np.where(error > 1e-12, np.abs(mean) / error, 0.0)
        beyond = t > stats.t.isf(ALPHA / 2, n - 1)
    return beyond[:, first - 1 :].any(axis=1)


def flips(rng: np.random.Generator, reps: int, name: str, n: int) -> Counts:
    results = [sign_flip(np.zeros(n), d, rng=rng) for d in DIFFERENCES[name](rng, (reps, n))]
    row = f"{name}, n = {n}"
    return rates("type I", row, {"sign-flip": [r.p_value <= ALPHA for r in results]}) | rates(
        "coverage", row, {"sign-flip": [covers(r.low, r.high) for r in results]}
    )


def plain_bootstraps(rng: np.random.Generator, reps: int, name: str, n: int) -> Counts:
    """Apply scipy's percentile and BCa bootstrap of the mean, 100 samples at a time."""
    kept: dict[str, list[float]] = {"percentile bootstrap": [], "BCa bootstrap": []}
    for _ in range(max(1, reps // 100)):
        d = DIFFERENCES[name](rng, (100, n))
        for label, method in (("percentile bootstrap", "percentile"), ("BCa bootstrap", "BCa")):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # samples without spread: NaN, no claim
                found = stats.bootstrap(
                    (d,), np.mean, axis=1, vectorized=True, n_resamples=1999, method=method, rng=rng
                ).confidence_interval
            kept[label] += list(~((found.low > 0) | (found.high < 0)))
    row = f"{name}, n = {n}"
    missed = {label: [1 - k for k in values] for label, values in kept.items()}
    return rates("coverage", row, kept) | rates("type I", row, missed)


# -- 2. seeds and test examples ---------------------------------------------------------------


N_EXAMPLES = 500
# SD over seeds, over examples, of the rest; on the scale of one cell's difference
COMPONENTS = {
    "residual only": (0.0, 0.0, 0.3),
    "seeds": (0.02, 0.0, 0.3),
    "examples": (0.0, 0.2, 0.3),
    "seeds and examples": (0.02, 0.2, 0.3),
    "examples rule": (0.005, 0.4, 0.3),
}


def gaussian_table(rng: np.random.Generator, n: int, name: str) -> tuple[Floats, Floats, Floats]:
    seed_sd, example_sd, rest = COMPONENTS[name]
    d = seed_sd * rng.normal(size=(n, 1)) + example_sd * rng.normal(size=(1, N_EXAMPLES))
    d = d + rest * rng.normal(size=(n, N_EXAMPLES))
    base = 0.03 * rng.normal(size=n)  # what both arms owe to the seed
    return d, base, base + d.mean(axis=1)


def accuracy_table(rng: np.random.Generator, n: int, name: str) -> tuple[Floats, Floats, Floats]:
    """Draw right answers of two exchangeable arms, about 88 % right; the true difference is 0."""
    difficulty = rng.normal(size=(1, N_EXAMPLES))
    arms = []
    for _ in range(2):
        own = 0.3 * rng.normal(size=(1, N_EXAMPLES)) + 0.05 * rng.normal(size=(n, 1))
        noise = 0.5 * rng.normal(size=(n, N_EXAMPLES))
        arms.append((1.4 + difficulty + own + noise > 0).astype(float))
    return arms[1] - arms[0], arms[0].mean(axis=1), arms[1].mean(axis=1)


def examples(rng: np.random.Generator, reps: int, name: str, n: int) -> Counts:
    draw = accuracy_table if name == "accuracy" else gaussian_table
    kept: dict[str, list[float]] = {"two-way": [], "t over seeds": [], "Welch": []}
    for _ in range(reps):
        d, base, other = draw(rng, n, name)
        for label, result in (
            ("two-way", two_way(d)),
            ("t over seeds", paired_t(base, other)),
            ("Welch", welch(base, other)),
        ):
            kept[label].append(covers(result.low, result.high))
    return rates("two-way", f"{name}, n = {n}", kept)


def spreads(rng: np.random.Generator, reps: int, name: str, n: int) -> Counts:
    """Put limits to the SD of seeds, of examples and of the rest."""
    kept: dict[str, list[float]] = {"seeds": [], "examples": [], "residual": []}
    for _ in range(reps):
        d, _, _ = gaussian_table(rng, n, name)
        parts = components(two_way(d), effective_df(d))
        for part, sd in zip(parts, COMPONENTS[name], strict=True):
            kept[part.source].append(covers(part.low, part.high, sd))
    return rates("components", f"{name}, n = {n}", kept)


# -- 3. the verdict, through analysis.primary and analysis.verdict ----------------------------


def design_of(n: int, margin: float | None, stop: str = "fixed") -> Design:
    return Design(
        experiment="simulated",
        question="Is there a difference?",
        baseline="baseline",
        treatments=("treatment",),
        metric="accuracy",
        higher_is_better=True,
        seeds=tuple(range(n)),
        margin=margin,
        stop=stop,  # type: ignore[arg-type]
    )


def pairs_of(d: Floats, table: Floats | None = None) -> Paired:
    base = np.full(d.size, 0.9)
    return Paired.of(tuple(range(d.size)), base, base + d, table)


def word_of(pairs: Paired, design: Design) -> tuple[Word, bool]:
    """Return the word, and whether the size is open."""
    main = primary(pairs, design)
    verdict = decide(
        n=pairs.n,
        low=main.low,
        high=main.high,
        low90=main.low90,
        high90=main.high90,
        margin=design.margin,
        higher_is_better=design.higher_is_better,
        blocker="no spread" if main.reason and main.standard_error is None else None,
    )
    return verdict.word, verdict.size_open


def tally(words: Sequence[tuple[Word, bool]], truth: str) -> dict[str, list[float]]:
    """Return which words are wrong at a boundary."""
    found = {
        "0": {
            "false BETTER": [word == "better" for word, _ in words],
            "false WORSE": [word == "worse" for word, _ in words],
        },
        "+margin": {
            "false EQUIVALENT": [word == "equivalent" for word, _ in words],
            "false BETTER by more than the margin": [
                word == "better" and not size_open for word, size_open in words
            ],
        },
        "-margin": {
            "false EQUIVALENT": [word == "equivalent" for word, _ in words],
            "false WORSE by more than the margin": [
                word == "worse" and not size_open for word, size_open in words
            ],
        },
    }[truth]
    return {column: [float(v) for v in values] for column, values in found.items()}


TRUTHS = {"0": 0.0, "+margin": 1.0, "-margin": -1.0}


def verdicts(
    rng: np.random.Generator, reps: int, name: str, n: int, margin: float, truth: str
) -> Counts:
    design = design_of(n, margin)
    scale = SD / {"t3": math.sqrt(3)}.get(name, 1.0)
    d = scale * DIFFERENCES[name](rng, (reps, n)) + TRUTHS[truth] * margin
    words = [word_of(pairs_of(row), design) for row in d]
    return rates("verdict", f"{name}, n = {n}, margin {100 * margin:g} pp", tally(words, truth))


def verdicts_two_way(
    rng: np.random.Generator, reps: int, n: int, ratio: float, truth: str
) -> Counts:
    """Draw tables whose mean over examples has an SD over seeds of 0.8 pp."""
    margin, design = 0.005, design_of(n, 0.005)
    words = []
    for _ in range(reps):
        table = crossed(rng, n, ratio) + TRUTHS[truth] * margin
        words.append(word_of(pairs_of(table.mean(axis=1), table), design))
    row = f"two-way, √B = {ratio:g} sd, n = {n}, margin 0.5 pp"
    return rates("verdict", row, tally(words, truth))


def crossed(rng: np.random.Generator, n: int, ratio: float) -> Floats:
    """Return a (n, 500) table: SD over seeds 0.8 pp, the test set's error `ratio` times that."""
    rest = 0.1
    seed_sd = math.sqrt(SD**2 - rest**2 / N_EXAMPLES)
    table = seed_sd * rng.normal(size=(n, 1)) + rest * rng.normal(size=(n, N_EXAMPLES))
    return table + ratio * SD * math.sqrt(N_EXAMPLES) * rng.normal(size=(1, N_EXAMPLES))


def verdicts_sequential(
    rng: np.random.Generator, reps: int, stop: str, n: int, looks: tuple[int, ...], truth: str
) -> Counts:
    """Stop at the first look whose word is neither INCONCLUSIVE nor NONE."""
    margin, design = 0.005, design_of(n, 0.005, stop)
    words, used = [], []
    for d in SD * rng.normal(size=(reps, n)) + TRUTHS[truth] * margin:
        for look in looks:
            word = word_of(pairs_of(d[:look]), design)
            if word[0] not in ("inconclusive", "none"):
                break
        words.append(word)
        used.append(float(look))
    seen = "looks at 10, 15, 20" if stop == "group" else f"a look after every pair, 6 to {n}"
    row = f"{stop}, {seen}, margin 0.5 pp"
    return rates("verdict", row, tally(words, truth)) | rates(
        "pairs used", row, {f"at a true difference of {truth}": used}
    )


# -- 4. looking early --------------------------------------------------------------------------


def after_every_pair(rng: np.random.Generator, reps: int, name: str, n: int) -> Counts:
    d = DIFFERENCES[name](rng, (reps, n))
    paths = [anytime(row).log_e_path for row in d]
    return rates(
        "anytime",
        f"{name}, a look after every pair to {n}",
        {
            "anytime": [max(path) > -math.log(ALPHA) for path in paths],
            "naive t, from 2 pairs on": peeking(d, first=2),
            "naive t, from 6 pairs on": peeking(d, first=6),
            "t at the end only": peeking(d, first=n),
        },
    )


def on_one_test_set(rng: np.random.Generator, reps: int, ratio: float) -> Counts:
    """Look after every pair, 6 to 40, through the verdict interval with and without B."""
    both = design_of(40, None, "anytime")
    missed: dict[str, list[float]] = {"anytime with B": [], "anytime over seeds alone": []}
    for _ in range(reps):
        table = crossed(rng, 40, ratio)
        d = table.mean(axis=1)
        pairs = pairs_of(d, table)
        wrong = dict.fromkeys(missed, False)
        for n in range(6, 41):
            seen = pairs.first(n)
            for label, interval in (
                ("anytime with B", verdict_interval(seen, both, level=0.95)),
                ("anytime over seeds alone", anytime(d[:n])),
            ):
                wrong[label] |= not covers(interval.low, interval.high)
        for label, value in wrong.items():
            missed[label].append(value)
    return rates("one test set", f"√B = {ratio:g} sd of a difference", missed)


def three_looks(rng: np.random.Generator, reps: int, name: str, gain: float) -> Counts:
    """Group-sequential t tests at 10, 15, 20, vectorised over the package's own boundaries."""
    looks = planned_looks(20)
    d = SD * DIFFERENCES[name](rng, (reps, 20)) + gain
    stopped = np.zeros(reps, dtype=int)
    for look, z in zip(looks, boundaries(looks), strict=True):
        t = np.abs(d[:, :look].mean(axis=1)) / stats.sem(d[:, :look], axis=1)
        here = (t > stats.t.isf(stats.norm.sf(z), look - 1)) & (stopped == 0)
        stopped[here] = look
    fixed = np.abs(d.mean(axis=1)) / stats.sem(d, axis=1) > stats.t.isf(ALPHA / 2, 19)
    naive = np.zeros(reps, dtype=bool)
    for look in looks:
        t = np.abs(d[:, :look].mean(axis=1)) / stats.sem(d[:, :look], axis=1)
        naive |= t > stats.t.isf(ALPHA / 2, look - 1)
    row = f"{name}, true difference {100 * gain:g} pp"
    return rates(
        "group",
        row,
        {"group, three looks": stopped > 0, "t at 20 only": fixed, "naive t, three looks": naive},
    ) | rates("pairs used", f"group, {row}", {"until it rejects": np.where(stopped, stopped, 20)})


# -- 5. calibration ------------------------------------------------------------------------------


def over_confident(
    rng: np.random.Generator, n: int, size: int, over: tuple[float, float]
) -> list[tuple[Floats, Floats]]:
    """Draw two arms; a seed is overconfident by N(over, 0.01), the same at every confidence."""
    sure = rng.uniform(0.55, 0.99, size=(1, size)) + np.zeros((n, 1))
    shared = rng.normal(size=(1, size))
    arms = []
    for mean in over:
        by = rng.normal(mean, 0.01, size=(n, 1))
        level = special.ndtr(math.sqrt(0.6) * shared + math.sqrt(0.4) * rng.normal(size=(n, size)))
        arms.append((sure, (level < sure - by).astype(float)))
    return arms


def true_error(over: float) -> float:
    """Return the mean of |N(over, 0.01)|: the calibration error of a seed, on average."""
    z = over / 0.01
    return 0.01 * math.sqrt(2 / math.pi) * math.exp(-z * z / 2) + over * (1 - 2 * special.ndtr(-z))


def calibration(
    rng: np.random.Generator, reps: int, n: int, size: int, over: tuple[float, float]
) -> Counts:
    truth = true_error(over[1]) - true_error(over[0])
    squares = over[1] ** 2 - over[0] ** 2  # the squared error of N(over, 0.01), less its mean
    kept: dict[str, list[float]] = {"jackknife, two-way": [], "plug-in ECE, t over seeds": []}
    judged: dict[str, list[float]] = {"squared error, two-way": [], "signed gap, two-way": []}
    off: dict[str, list[float]] = {"debiased": [], "plug-in": []}
    for _ in range(reps):
        arms = over_confident(rng, n, size, over)
        jackknife = ece_difference(*arms, rng=rng)
        plain = [[ece(*run) for run in zip(*arm, strict=True)] for arm in arms]
        plug_in = paired_t(*plain)
        gaps = [sure - right for sure, right in arms]
        for label, r, t in zip(
            judged,
            (ece_difference(*arms, rng=rng, error=squared_error), two_way(gaps[1] - gaps[0])),
            (squares, over[1] - over[0]),
            strict=True,
        ):
            judged[label].append(covers(r.low, r.high, t))
        for label, r in zip(kept, (jackknife, plug_in), strict=True):
            kept[label].append(covers(r.low, r.high, truth))
        for label, r in zip(off, (jackknife, plug_in), strict=True):
            off[label].append(100 * (r.difference - truth))
    row = f"{over[0]:g} and {over[1]:g} overconfident, {n} seeds × {size:,} examples"
    return rates("ΔECE", row, kept | judged) | rates("ΔECE bias", row, off)


# -- 6. metrics that are no mean over examples ----------------------------------------------------


# Share of positive examples, test examples, and how far a positive's score lies from a negative's.
TEST_SETS = {
    "half positive": (0.5, 500, 2.0),
    "2 % positive": (0.02, 2000, 2.0),
    "half positive, AUROC near .98": (0.5, 500, 3.1),
}
METRICS_OF_SETS = ("auroc", "macro_f1", "balanced_accuracy", "average_precision", "aurc")


def exchangeable(rng: np.random.Generator, n: int, name: str) -> list[list[Predictions]]:
    """Draw two arms of n runs on one test set; the true difference of any metric is 0."""
    share, size, apart = TEST_SETS[name]
    labels = (rng.random(size) < share).astype(np.int64)
    side, example = labels - 0.5, 0.8 * rng.normal(size=size)
    arms = []
    for _ in range(2):
        own = 0.5 * rng.normal(size=size)
        runs = []
        for _ in range(n):
            slope, shift = apart + 0.1 * rng.normal(), 0.1 * rng.normal()
            logit = slope * side + shift + example + own + 0.5 * rng.normal(size=size)
            log_p = np.stack([special.log_expit(-logit), special.log_expit(logit)], axis=1)
            runs.append(Predictions(log_p.astype(np.float32), labels))
        arms.append(runs)
    return arms


def influence(run: Predictions) -> Floats:
    """Return AUROC plus each example's influence on it: columns by DeLong et al. (1988)."""
    scores, there = run.log_probabilities[:, 1].astype(float), run.labels == 1
    ahead = scores[there][:, None] - scores[~there][None, :]
    wins = (ahead > 0) + 0.5 * (ahead == 0)
    value, columns = wins.mean(), np.empty(len(run))
    columns[there] = value + (wins.mean(axis=1) - value) * len(run) / there.sum()
    columns[~there] = value + (wins.mean(axis=0) - value) * len(run) / (~there).sum()
    return columns


def set_metrics(rng: np.random.Generator, reps: int, n: int, name: str) -> Counts:
    """Compare arms without a difference by metrics of the whole test set."""
    metrics = [m for m in METRICS_OF_SETS if "near" not in name or m == "auroc"]
    claims: dict[tuple[str, str], list[float]] = {}
    for _ in range(reps):
        arms = exchangeable(rng, n, name)
        ways: dict[str, Callable[[Predictions], Floats]] = {
            metric: METRICS[metric].columns for metric in metrics
        }
        for metric, of in (*ways.items(), ("influence", influence)):
            base, other = (np.stack([of(run) for run in arm]) for arm in arms)
            row = "auroc" if metric == "influence" else metric
            way = "DeLong, two-way" if metric == "influence" else "jackknife, two-way"
            claims.setdefault((row, way), []).append(two_way(other - base).p_value <= ALPHA)
            if metric != "influence":
                seeds = paired_t(base.mean(axis=1), other.mean(axis=1))
                claims.setdefault((row, "t over seeds"), []).append(seeds.p_value <= ALPHA)
    found: Counts = {}
    for (metric, way), said in claims.items():
        found |= rates("set metrics", f"{METRICS[metric].label}, {name}", {way: said})
    return found


# -- all of it ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """One cell: a function, its arguments, and how often it is repeated."""

    run: Callable[..., Counts]
    reps: int
    args: tuple

    @property
    def name(self) -> str:
        return f"{self.run.__name__}{self.args}"

    def __call__(self, scale: float) -> Counts:
        rng = np.random.default_rng([SEED, crc32(self.name.encode())])
        return self.run(rng, max(50, round(self.reps * scale)), *self.args)


def all_jobs() -> list[Job]:
    """Return every cell, the slowest first."""
    jobs = [Job(verdicts_sequential, 300, ("anytime", 60, tuple(range(6, 61)), t)) for t in TRUTHS]
    jobs += [Job(verdicts_sequential, 1000, ("group", 20, planned_looks(20), t)) for t in TRUTHS]
    jobs += [Job(on_one_test_set, 500, (ratio,)) for ratio in (0.1, 0.2, 0.35, 0.5)]
    names = list(DIFFERENCES)
    jobs += [
        Job(flips, 1000 if n == 20 else 3000, (name, n)) for n in (20, 50, 10, 6) for name in names
    ]
    jobs += [Job(seeds_only, 4000, (name, n)) for n in NUMBERS for name in names]
    jobs += [Job(plain_bootstraps, 4000, (name, n)) for n in NUMBERS for name in names]
    jobs += [Job(examples, 3000, (name, n)) for n in NUMBERS for name in [*COMPONENTS, "accuracy"]]
    jobs += [Job(spreads, 3000, (name, n)) for n in NUMBERS for name in COMPONENTS]
    jobs += [Job(verdicts, 10_000, ("normal", 20, 0.005, truth)) for truth in TRUTHS]
    jobs += [
        Job(verdicts, 4000, (name, n, margin, truth))
        for name, n, margin in [
            ("normal", 20, 0.003),
            ("normal", 6, 0.01),
            ("normal", 10, 0.005),
            ("normal", 50, 0.003),
            ("t3", 20, 0.005),
            ("skewed", 20, 0.005),
            ("grid", 20, 0.005),
            ("collapse, both arms", 20, 0.005),
        ]
        for truth in TRUTHS
    ]
    jobs += [
        Job(verdicts_two_way, 3000, (20, ratio, truth))
        for ratio in (0.0, 0.1, 0.2)
        for truth in TRUTHS
    ]
    jobs += [Job(after_every_pair, 5000, (name, 100)) for name in names]
    jobs += [Job(three_looks, 200_000, ("normal", gain)) for gain in (0.0, 0.005)]
    jobs += [Job(three_looks, 200_000, (name, 0.0)) for name in ("t3", "skewed")]
    jobs += [
        Job(calibration, reps, (n, size, over))
        for reps, n, size, overs in (
            (1000, 10, 500, ((0.05, 0.05), (0.02, 0.07), (0.0, 0.05), (0.0, 0.02))),
            (1000, 10, 2000, ((0.05, 0.05), (0.02, 0.07), (0.0, 0.05), (0.0, 0.02))),
            (300, 20, 10_000, ((0.05, 0.05), (0.02, 0.07), (0.0, 0.05))),
        )
        for over in overs
    ]
    jobs += [Job(set_metrics, 1500, (10, name)) for name in TEST_SETS]
    return jobs


@dataclass(frozen=True)
class Rate:
    """A mean over replications, with its Monte Carlo standard error."""

    mean: float
    error: float
    reps: int

    @property
    def percent(self) -> str:
        return f"{100 * self.mean:.1f} ± {100 * self.error:.1f}"

    @property
    def plain(self) -> str:
        return f"{self.mean:.2f} ± {self.error:.2f}"


def rate(counts: tuple[float, float, int]) -> Rate:
    total, square, n = counts
    mean = total / n
    spread = max(square / n - mean**2, 0.0)
    if total == square:  # a share: never quote an error of 0
        share = (total + 2) / (n + 4)
        spread = max(spread, share * (1 - share))
    return Rate(mean, math.sqrt(spread / n), n)


def _run(task: tuple[Job, float]) -> tuple[str, Counts, float]:
    job, scale = task
    started = time.perf_counter()
    found = job(scale)
    return job.name, found, time.perf_counter() - started


def simulate(jobs: Sequence[Job], scale: float) -> dict[Key, Rate]:
    """Return the rates of all cells, in the order of their jobs."""
    tasks = [(job, scale) for job in jobs]
    found: dict[Key, Rate] = {}
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for done, (name, counts, took) in enumerate(pool.imap(_run, tasks), 1):
            found |= {key: rate(value) for key, value in counts.items()}
            print(f"{done}/{len(tasks)} {name} {took:.1f} s", flush=True)
    return found


# -- the page -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Claim:
    """A number that STATISTICS.md states, and the cells that measure it."""

    text: str
    low: float  # rounding of the quoted number included; percent unless `unit` is empty
    high: float
    cells: tuple[Key, ...]
    unit: str = "%"


def cells(table: str, rows: Iterable[str], column: str) -> tuple[Key, ...]:
    return tuple((table, row, column) for row in rows)


def rows_of(name: str, numbers: Sequence[int] = (10, 20, 50)) -> list[str]:
    return [f"{name}, n = {n}" for n in numbers]


def claims() -> list[Claim]:
    """Return what is compared with STATISTICS.md: quoted values with their rounding."""
    found = []
    for name, quoted in (("normal", (95, 95, 95)), ("t3", (96, 95, 95)), ("skewed", (91, 92, 94))):
        found += [
            Claim(
                f"§2 paired t covers {q} %, {name}, n = {n}",
                q - 0.5,
                q + 0.5,
                cells("coverage", rows_of(name, [n]), "paired t"),
            )
            for n, q in zip((10, 20, 50), quoted, strict=True)
        ]
    for column in ("percentile bootstrap", "BCa bootstrap"):
        found += [
            Claim(
                f"§2 {column} covers {q} %, n = {n} (normal; under skew it is lower)",
                q - 0.5,
                q + 0.5,
                cells("coverage", rows_of("normal", [n]), column),
            )
            for n, q in ((10, 89), (20, 92), (50, 95))
        ]
    fixed = "normal, n = 20, margin 0.5 pp"
    every = "a look after every pair to 100"
    return [
        *found,
        Claim(
            "§2 Wilcoxon rejects a true zero mean 13–22 % of the time under skew, n = 10 to 50",
            12.5,
            22.5,
            cells("type I", rows_of("skewed"), "Wilcoxon"),
        ),
        Claim(
            "§1 two-way covers .94–.965 in all scenarios",
            93.95,
            96.55,
            cells("two-way", two_way_rows(), "two-way"),
        ),
        Claim(
            "§1 where t over seeds covers .75–.96",
            74.5,
            96.5,
            cells("two-way", two_way_rows(), "t over seeds"),
        ),
        Claim("§4 false BETTER ≤ 2.7 %", 0, 2.75, cells("verdict", [fixed], "false BETTER")),
        Claim("§4 false WORSE ≤ 2.6 %", 0, 2.65, cells("verdict", [fixed], "false WORSE")),
        Claim(
            "§4 false EQUIVALENT ≤ 5.2 %", 0, 5.25, cells("verdict", [fixed], "false EQUIVALENT")
        ),
        Claim(
            "§4 anytime over seeds alone misses 8–43 % on one test set",
            7.5,
            43.5,
            cells(
                "one test set",
                [f"√B = {r:g} sd of a difference" for r in (0.1, 0.2, 0.35, 0.5)],
                "anytime over seeds alone",
            ),
        ),
        Claim(
            "§5 group: type I .049",
            4.85,
            4.95,
            cells("group", ["normal, true difference 0 pp"], "group, three looks"),
        ),
        Claim(
            "§5 group: 17.5 seeds on average at +0.5 pp",
            17.45,
            17.55,
            cells("pairs used", ["group, normal, true difference 0.5 pp"], "until it rejects"),
            unit="",
        ),
        *(
            Claim(text, low, high, cells("anytime", [f"{name}, {every}"], "anytime"))
            for text, low, high, name in (
                ("§5 anytime: .027, normal", 2.65, 2.75, "normal"),
                ("§5 anytime: .018, t3", 1.75, 1.85, "t3"),
                ("§5 anytime: up to .11 under skew", 0, 11.5, "skewed"),
            )
        ),
        Claim(
            "§5 naive t reaches .33 in the same looks",
            32.5,
            33.5,
            cells("anytime", [f"normal, {every}"], "naive t, from 6 pairs on"),
        ),
        Claim(
            "§5 the fixed t under skew: .078 (n is not stated; here 20)",
            7.75,
            7.85,
            cells("type I", ["skewed, n = 20"], "paired t"),
        ),
    ]


def two_way_rows() -> list[str]:
    return [f"{name}, n = {n}" for name in [*COMPONENTS, "accuracy"] for n in NUMBERS]


def head(title: str, script: Path, scale: float, took_s: float, source: str) -> list[str]:
    """Return a page's first lines: what wrote it, when, from which source, and for how long."""
    return [
        f"# {title}",
        "",
        f"Written by `tests/benchmarks/{script.name}` on {today()}: "
        f"Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}, "
        f"{source}; {took_s / 60:.0f} minutes on 2 cores. Fixed seeds.",
        *([] if scale == 1 else ["", f"**Short run: {scale:g} of the full run's replications.**"]),
        "",
    ]


def page(found: dict[Key, Rate], *, scale: float, took_s: float, source: str) -> str:
    """Return the whole result as Markdown."""
    text = [
        *head("Error rates, simulated", Path(__file__), scale, took_s, source),
        "[rates_units.md](rates_units.md) has clusters, data sets, folds, unpaired runs, one run "
        "of each, looks with few columns, and repeats.",
        "",
        "Every cell is a percentage ± its Monte Carlo standard error; nominal are 5 % (type I "
        "error) and 95 % (coverage). Methods without a mark go through the functions of "
        "`analysis/`; those marked † are wrong here on purpose, for contrast. p and interval of a "
        "method never disagree in this package, so type I error and coverage add up to 100 up to "
        "unbounded intervals and Monte Carlo error.",
        "",
        *agreement(found, claims(), "STATISTICS.md"),
        *section(
            found,
            "## Seeds only: type I error (%)",
            "type I",
            "True mean difference 0; arms correlated at about 0.9 (normal). *grid*: differences in "
            "whole test examples, SD one. *collapse*: 3 % of the runs fall from 90 % to 10 %, "
            "100 SDs of the differences; in the treatment alone, with the mean brought back to 0. "
            "Naive peeking looks after every pair from the 6th on. Differences without spread "
            "(last column) are no claim and no miss.",
            wrong=("Welch", "percentile bootstrap", "BCa bootstrap", "naive t, peeking"),
            columns=(
                "paired t", "sign-flip", "studentized bootstrap", "Wilcoxon", "Welch",
                "percentile bootstrap", "BCa bootstrap", "naive t, peeking", "no spread",
            ),
        ),
        *section(
            found,
            "## Seeds only: coverage of the 95 % interval (%)",
            "coverage",
            "The same draws. The studentized bootstrap has 1,999 resamples (the report: 9,999), as "
            "have scipy's percentile and BCa. Wilcoxon has no interval.",
            wrong=("Welch", "percentile bootstrap", "BCa bootstrap", "naive t, peeking"),
            columns=(
                "paired t", "sign-flip", "studentized bootstrap", "Welch", "percentile bootstrap",
                "BCa bootstrap", "naive t, peeking",
            ),
        ),
        *section(
            found,
            "## New seeds and new test examples: coverage of the 95 % interval (%)",
            "two-way",
            f"{N_EXAMPLES} examples. SDs over seeds, examples and the rest: "
            + "; ".join(f"{name} {a:g}, {b:g}, {c:g}" for name, (a, b, c) in COMPONENTS.items())
            + ". *accuracy*: right and wrong answers of two exchangeable arms, about 88 % right, "
            "from a probit model with example, arm × example, arm × seed and residual effects.",
            wrong=("t over seeds", "Welch"),
        ),
        *section(
            found,
            "## The spread of seeds, of examples and of the rest: coverage of the 95 % limits (%)",
            "components",
            "The same normal draws. Where an SD is 0, only the limit below can miss.",
        ),
        *section(
            found,
            "## Verdicts that are wrong (%)",
            "verdict",
            "Through `analysis.primary` and `analysis.verdict`; SD 0.8 pp. False BETTER and WORSE "
            "at a true difference of 0 (nominal 2.5 each), false EQUIVALENT at a true difference "
            "of ± margin (5), by more than the margin at that margin (2.5). Scope seeds, unless "
            "the row says two-way.",
            columns=(
                "false BETTER", "false WORSE", "false EQUIVALENT",
                "false BETTER by more than the margin", "false WORSE by more than the margin",
            ),
        ),
        *section(
            found,
            "## A look after every pair: type I error (%)",
            "anytime",
            "An alarm is e > 20 at any look. \"From 6 pairs on\" is where verdicts begin.",
            wrong=("naive t, from 2 pairs on", "naive t, from 6 pairs on"),
        ),
        *section(
            found,
            "## A look after every pair on one test set: misses of the 95 % interval (%)",
            "one test set",
            "6 to 40 pairs × 500 examples, the test set drawn anew for each sequence and shared by "
            "its runs. √B is the error that it brings, in SDs of a paired difference.",
            wrong=("anytime over seeds alone",),
        ),
        *section(
            found,
            "## Three planned looks, at 10, 15 and 20 of 20 pairs: rejections (%)",
            "group",
            "SD 0.8 pp. At +0.5 pp the rejections are power.",
            wrong=("naive t, three looks",),
        ),
        *section(found, "### Pairs used, on average", "pairs used", "", plain=True),
        *section(
            found,
            "## Difference in calibration error: coverage of the 95 % interval (%)",
            "ΔECE",
            "Each seed overconfident by N(m, 0.01) at every confidence; examples shared by the "
            "arms. The truth is E|N(m, 0.01)| of the treatment minus that of the baseline; of the "
            "squared error its square, of the signed gap m. Reports judge by the last two.",
            wrong=("plug-in ECE, t over seeds",),
        ),
        *section(
            found,
            "### Bias of the difference (hundredths, that is percentage points of ECE)",
            "ΔECE bias",
            "",
            plain=True,
            wrong=("plug-in",),
        ),
        *section(
            found,
            "## Metrics that are no mean over examples: type I error (%)",
            "set metrics",
            "Two exchangeable arms of 10 runs on one test set: "
            + "; ".join(f"{name}, {size:,} examples" for name, (_, size, _) in TEST_SETS.items())
            + ". Scores have effects of the example, of arm × example, of the run's slope and "
            "shift, and a rest. The jackknife leaves out 40 groups of examples.",
            wrong=("t over seeds",),
            columns=("jackknife, two-way", "DeLong, two-way", "t over seeds"),
        ),
    ]  # fmt: skip
    return "\n".join(text) + "\n"


def section(
    found: dict[Key, Rate],
    title: str,
    table: str,
    note: str,
    *,
    columns: Sequence[str] = (),
    wrong: Sequence[str] = (),
    plain: bool | Sequence[str] = False,
    ordered: bool = False,
) -> list[str]:
    """Return one table with its title, note and replications.

    `plain` says which columns are no percentages; `ordered`, that the rows stand as they should.
    """
    rows = list(dict.fromkeys(key[1] for key in found if key[0] == table))
    order = rows if ordered else sorted(rows, key=row_order)
    names = list(columns) or list(dict.fromkeys(key[2] for key in found if key[0] == table))
    heads = [f"{name} †" if name in wrong else name for name in names]
    lines = [title, "", *([note, ""] if note else []), "| | " + " | ".join(heads) + " |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for row in order:
        values = {name: found.get((table, row, name)) for name in names}
        bare = names if plain is True else plain or ()
        shown = [
            "" if v is None else v.plain if name in bare else v.percent
            for name, v in values.items()
        ]
        lines.append(f"| {row} | " + " | ".join(shown) + " |")
    lines += ["", f"Replications: {replications(found, table, names)}.", ""]
    return lines


def row_order(row: str) -> tuple:
    """Sort in the order of definition, then by the words before the first number, then by it."""
    names = [*DIFFERENCES, *COMPONENTS, "accuracy"]
    start = next((i for i, name in enumerate(names) if row.startswith(f"{name}, ")), len(names))
    numbers = re.findall(r"[0-9.]*[0-9]", row.replace(",", ""))
    return start, re.split("[0-9]", row, maxsplit=1)[0], [float(x) for x in numbers]


def replications(found: dict[Key, Rate], table: str, names: Sequence[str]) -> str:
    parts: dict[str, list[str]] = {}
    for name in names:
        reps = sorted({r.reps for key, r in found.items() if key[0] == table and key[2] == name})
        parts.setdefault(" or ".join(f"{n:,}" for n in reps), []).append(name)
    if len(parts) == 1:
        return next(iter(parts))
    return "; ".join(f"{reps} ({', '.join(columns)})" for reps, columns in parts.items())


def agreement(found: dict[Key, Rate], stated: Sequence[Claim], where: str) -> list[str]:
    """Return the comparison with what is stated, number by number."""
    lines = [
        f"## Against {where}",
        "",
        "*Agrees*: every cell lies within the quoted range, rounding of the quoted number and "
        "three Monte Carlo standard errors allowed; a short run can contradict little. "
        f"{where} does not state all of its scenarios: where it quotes a range, *no* names "
        "the scenarios here that lie outside.",
        "",
        "| stated | measured here | agrees |",
        "|---|---|---|",
    ]
    for claim in stated:
        factor = 100 if claim.unit else 1
        got = [found[key] for key in claim.cells]
        off = [
            key[1]
            for key, r in zip(claim.cells, got, strict=True)
            if not claim.low - 3 * factor * r.error
            <= factor * r.mean
            <= claim.high + 3 * factor * r.error
        ]
        low, high = min(got, key=lambda r: r.mean), max(got, key=lambda r: r.mean)
        shown = [r.percent if claim.unit else r.plain for r in (low, high)]
        measured = shown[0] if len(got) == 1 else f"{shown[0]} to {shown[1]}"
        verdict = "yes" if not off else "**no**" + (f": {'; '.join(off)}" if len(got) > 1 else "")
        lines.append(f"| {claim.text} | {measured} | {verdict} |")
    return [*lines, ""]


def today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def commit() -> str:
    here = Path(__file__).parent
    out = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=10"],
        cwd=here, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return f"commit {out.stdout.strip()}" if out.returncode == 0 else "no commit"


def main() -> None:
    """Simulate and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the replications")
    quick = parser.parse_args().quick
    started, source = time.perf_counter(), commit()
    scale = 0.1 if quick else 1.0
    found = simulate(all_jobs(), scale)
    text = page(found, scale=scale, took_s=time.perf_counter() - started, source=source)
    path = Path(__file__).with_suffix(".md")
    path.write_text(text, encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
