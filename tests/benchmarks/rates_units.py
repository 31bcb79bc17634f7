"""Rates of the other designs: clusters, data sets, folds, unpaired runs, one run, looks, repeats.

``python tests/benchmarks/rates_units.py`` simulates what UNITS.md §2 states and writes
`rates_units.md` beside this file (``--quick``: a tenth of the replications, as it then says). Every
study goes through `Paired` and `Design(units=…)`, `primary`, `gate` and `decide`, as a report's
does. Fixed seeds, one stream a cell.
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from rates import (
    Claim,
    Counts,
    Floats,
    Job,
    Key,
    Rate,
    agreement,
    commit,
    covers,
    head,
    rates,
    section,
    simulate,
)

from bench.analysis.data.tables import Design, Scope
from bench.analysis.data.units import Units
from bench.analysis.inference import corrected_t, paired_t
from bench.analysis.inference.additive import additive_fit
from bench.analysis.inference.gram import gram
from bench.analysis.inference.sequential import anytime, planned_looks
from bench.analysis.inference.unpaired import Runs
from bench.analysis.study.findings import Primary
from bench.analysis.study.gates import Gate, gate
from bench.analysis.study.pairs import Paired
from bench.analysis.study.verdict import Verdict, decide
from bench.analysis.study.verdict_interval import (
    fixed_analysis,
    primary,
    variance_floor,
    verdict_interval,
)
from bench.importers.cells import cells_of

MARGIN = 3.0  # standard deviations of the estimate: wide enough for every word
REPS = 4000

# SDs over rows, over columns, of the rest.
SOURCES = {
    "seeds alone": (0.3, 0.0, 0.3),
    "columns alone": (0.0, 1.0, 0.3),
    "both": (0.3, 1.0, 1.0),
    "noise": (0.0, 0.0, 1.0),
}
CLUSTERS = {  # examples of each
    "20 of 5": [5] * 20,
    "60 of 1 to 9": [1 + i % 9 for i in range(60)],
    "12 of 2 to 40": [2, 3, 4, 5, 6, 8, 10, 14, 20, 28, 36, 40],
    "30, one with .6": [87] + [2] * 29,
    "6, one with .6": [15] + [2] * 5,
    "200 of 5": [5] * 200,
    "15 of 4": [4] * 15,
}


class Study(NamedTuple):
    """One simulated study whose true difference is 0."""

    pairs: Paired
    design: Design


class Answer(NamedTuple):
    """What the report of one study would say."""

    main: Primary
    asked: Gate


def design(
    n: int, units: Units, *, scope: Scope = "seeds_and_examples", stop: str = "fixed"
) -> Design:
    return Design(
        experiment="simulated",
        question="Is there a difference?",
        baseline="baseline",
        treatments=("treatment",),
        metric="score",
        higher_is_better=True,
        seeds=tuple(range(n)),
        scope=scope,
        units=units,
        stop=stop,  # type: ignore[arg-type]
    )


def pairs_of(d: Floats, **more: object) -> Paired:
    n = d.size
    return Paired(seeds=tuple(range(n)), baseline=(0.0,) * n, treatment=tuple(d.tolist()), **more)  # type: ignore[arg-type]


def names(n: int) -> tuple[str, ...]:
    return tuple(f"set {i}" for i in range(n))


# -- how studies are drawn ----------------------------------------------------------------------


def table(
    rng: np.random.Generator, n: int, sds: tuple[float, float, float], sizes: Floats
) -> Floats:
    """Draw the difference of each row on each column, a mean of `sizes` examples."""
    rows, columns, rest = sds
    d = rows * rng.normal(size=(n, 1)) + columns * rng.normal(size=sizes.size)
    return d + rest * rng.normal(size=(n, sizes.size)) / np.sqrt(sizes)


def crossed(rng: np.random.Generator, n: int, source: str) -> Study:
    d = table(rng, n, SOURCES[source], np.ones(200))
    return Study(pairs_of(d.mean(axis=1), crossed=gram(d)), design(n, Units()))


def clusters(rng: np.random.Generator, n: int, kind: str, source: str) -> Study:
    sizes = np.array(CLUSTERS[kind], dtype=float)
    d = table(rng, n, SOURCES[source], sizes)
    pairs = pairs_of(d @ sizes / sizes.sum(), crossed=gram(d, sizes))
    return Study(pairs, design(n, Units(columns="clusters", cluster="passage")))


def one_run(rng: np.random.Generator, kind: str) -> Study:
    sizes = np.array(CLUSTERS[kind], dtype=float)
    d = table(rng, 1, (0.0, 1.0, 1.0), sizes)[0]
    weights = None if np.ptp(sizes) == 0 else tuple(sizes.tolist())
    units = Units(rows="none", columns="clusters", cluster="passage")
    return Study(pairs_of(d, weights=weights), design(1, units, scope="seeds"))


def ignored(rng: np.random.Generator, n: int, kind: str) -> Study:
    """Draw the examples of clusters, and analyse them as if they shared nothing, wrongly."""
    sizes = np.array(CLUSTERS[kind])
    rows, columns, rest = SOURCES["both"] if n > 1 else (0.0, 1.0, 1.0)
    d = np.repeat(columns * rng.normal(size=sizes.size), sizes) + rows * rng.normal(size=(n, 1))
    d = d + rest * rng.normal(size=(n, int(sizes.sum())))
    if n == 1:
        units = Units(rows="none", columns="examples")
        return Study(pairs_of(d[0]), design(1, units, scope="seeds"))
    return Study(pairs_of(d.mean(axis=1), crossed=gram(d)), design(n, Units()))


def binary(rng: np.random.Generator, n: int, discordant: float, gain: float = 0.0) -> Study:
    """Draw right and wrong answers of one run each; `gain` is the true difference."""
    better, worse = (discordant + gain) / 2, (discordant - gain) / 2
    at = rng.choice(4, size=n, p=[better, worse, 0.7 - worse, 0.3 - better])
    base, other = np.isin(at, (1, 2)).astype(float), np.isin(at, (0, 2)).astype(float)
    units = Units(rows="none", columns="examples")
    return Study(Paired.of(range(n), base, other), design(1, units, scope="seeds"))


def once(rng: np.random.Generator, n: int, sets: int, source: str) -> Study:
    """Draw models that are each scored on every data set; the question is of new data sets."""
    d = table(rng, n, SOURCES[source], np.ones(sets))
    units = Units(columns="datasets", datasets=names(sets), trained="once", new_datasets=True)
    return Study(pairs_of(d.mean(axis=1), crossed=gram(d)), design(n, units))


def gains(rng: np.random.Generator, size: int, skewed: bool) -> Floats:
    return rng.exponential(size=size) - 1 if skewed else rng.normal(size=size)


def nested(rng: np.random.Generator, n: int, sets: int, skewed: bool) -> Study:
    """Draw a model for each data set and seed; the question is of new data sets."""
    d = gains(rng, sets, skewed) + rng.normal(size=sets) / math.sqrt(n)
    units = Units(columns="none", datasets=names(sets), trained="per-dataset", new_datasets=True)
    return Study(pairs_of(d), design(sets, units, scope="seeds"))


def these(rng: np.random.Generator, n: int, sizes: tuple[int, ...], in_clusters: bool) -> Study:
    """Draw seeds that are scored on the examples of fixed data sets of unlike gains."""
    strata = np.repeat(np.arange(len(sizes)), sizes)
    apart = (
        np.linspace(-2, 2, len(sizes))[strata] + 0.2 * rng.normal(size=(n, len(sizes)))[:, strata]
    )
    weights = np.where(np.arange(strata.size) % 3 == 0, 9.0, 2.0) if in_clusters else None
    examples = np.ones(strata.size) if weights is None else weights
    d = table(rng, n, (0.2, 1.0, 1.0), examples) + apart
    shares = examples / np.bincount(strata, weights=examples)[strata] / len(sizes)
    units = Units(columns="clusters" if in_clusters else "examples", datasets=names(len(sizes)))
    return Study(pairs_of(d @ shares, crossed=gram(d, weights, strata)), design(n, units))


def these_runs(rng: np.random.Generator, runs: tuple[int, ...]) -> Study:
    """Draw trainings of each of several fixed data sets, whose spreads differ."""
    sds = np.resize([1.0, 0.5, 2.0], len(runs))
    d = np.concatenate([sd * rng.normal(size=k) for sd, k in zip(sds, runs, strict=True)])
    strata = tuple(np.repeat(np.arange(len(runs)), runs).tolist())
    units = Units(columns="none", datasets=names(len(runs)), trained="per-dataset")
    return Study(pairs_of(d, strata=strata), design(d.size, units, scope="seeds"))


def these_shared(rng: np.random.Generator, n: int, sets: int) -> Study:
    """Draw models scored on every one of several fixed data sets; a value a run and data set."""
    d = table(rng, n, (0.3, 0.0, 1.0), np.ones(sets)) + np.linspace(-2, 2, sets)
    units = Units(columns="datasets", datasets=names(sets), trained="once")
    return Study(pairs_of(d.mean(axis=1), crossed=gram(d)), design(n, units, scope="seeds"))


def skewed_seeds(rng: np.random.Generator, n: int) -> Study:
    return Study(pairs_of(gains(rng, n, True)), design(n, Units(columns="none"), scope="seeds"))


def unpaired(
    rng: np.random.Generator, n: int, m: int, ratio: float, examples: int, skewed: bool = False
) -> Study:
    """Draw runs that share nothing but their examples; the treatment's SD is `ratio` times."""
    sizes, arms = (n, m), []
    shared = rng.normal(size=examples)
    for k, sd in zip(sizes, (1.0, ratio), strict=True):
        own = 0.5 * rng.normal(size=examples)
        runs = 0.5 * sd * gains(rng, k, skewed)[:, None]
        arms.append(runs + (shared + own + rng.normal(size=(k, examples)) if examples else 0.0))
    means = [arm.mean(axis=1) for arm in arms]
    crossed = Runs(scores=gram(np.concatenate(arms)), n_baseline=n) if examples else None
    pairs = Paired(
        seeds=tuple(range(min(sizes))),
        baseline=tuple(means[0].tolist()),
        treatment=tuple(means[1].tolist()),
        crossed=crossed,
        independent=True,
    )
    units = Units(columns="examples" if examples else "none", paired=False)
    return Study(pairs, design(n, units, scope="seeds_and_examples" if examples else "seeds"))


def missing(rng: np.random.Generator, n: int, examples: int, share: float) -> Study:
    """Draw runs of which a tenth of the cells is missing, filled as `complete` fills them."""
    tables, filled = [], 0
    for d in (table(rng, n, (0.3, 1.0, 1.0), np.ones(examples)) / 2 for _ in range(2)):
        gaps = rng.random(d.shape) < share
        filled += int(gaps.sum())
        tables.append(additive_fit(np.where(gaps, np.nan, d)))
    base, other = tables
    pairs = Paired(
        seeds=tuple(range(n)),
        baseline=tuple(base.mean(axis=1).tolist()),
        treatment=tuple(other.mean(axis=1).tolist()),
        crossed=gram(other - base, filled=filled),
    )
    return Study(pairs, design(n, Units()))


# -- repeats inside a unit ------------------------------------------------------------------------


def samples(rng: np.random.Generator, questions: int, draws: int, apart: bool) -> Study:
    """Draw right and wrong samples of one model each; apart: each sample as a question, wrongly."""
    chance = 1 / (1 + np.exp(-rng.normal(size=questions) - 1.2 * rng.normal(size=(2, questions))))
    right = rng.random((2, questions, draws)) < chance[:, :, None]
    arm, question, draw = (x.ravel() for x in np.indices(right.shape))
    long = pd.DataFrame(
        {"arm": np.array(["a", "b"])[arm], "example": question, "metric v": right.ravel()}
    )
    if apart:
        long["example"] = question * draws + draw
    cells = cells_of(long, ("a", "b"), ["v"], rows=[], columns=["example"]).values["v"][:, 0]
    units = Units(rows="none", columns="examples")
    pairs = Paired.of(range(cells.shape[1]), *cells)
    return Study(pairs, design(1, units, scope="seeds"))


def checkpoints(rng: np.random.Generator, n: int, kept: int, apart: bool) -> Study:
    """Draw some checkpoints of each run; apart: each as a run of its own, wrongly."""
    values = 0.8 * rng.normal(size=(2, n, 1)) + 0.6 * rng.normal(size=(2, n, kept))
    arm, seed, step = (x.ravel() for x in np.indices(values.shape))
    long = pd.DataFrame(
        {"arm": np.array(["a", "b"])[arm], "seed": seed, "metric v": values.ravel()}
    )
    if apart:
        long["seed"] = seed * kept + step
    cells = cells_of(long, ("a", "b"), ["v"], rows=["seed"], columns=[]).values["v"][:, :, 0]
    rows = cells.shape[1]
    pairs = Paired.of(range(rows), *cells)
    return Study(pairs, design(rows, Units(columns="none"), scope="seeds"))


# -- folds ----------------------------------------------------------------------------------------

FEATURES, ROWS = 6, 100  # of each arm; of the data set


def fold_scores(
    rng: np.random.Generator, folds: int, repeats: int, learner: str, signal: float
) -> Floats:
    """Return accuracies, shape (2, folds × repeats), of two arms on one fresh data set.

    The arms see disjoint features of one distribution, so that they are equally good on average.
    """
    y = rng.integers(0, 2, size=ROWS)
    x = rng.normal(size=(2, ROWS, FEATURES)) + signal * (y - 0.5)[:, None]
    found = []
    for _ in range(repeats):
        for test in np.array_split(rng.permutation(ROWS), folds):
            train = np.ones(ROWS, dtype=bool)
            train[test] = False
            found.append(
                [
                    (LEARNERS[learner](own[train], y[train], own[test]) == y[test]).mean()
                    for own in x
                ]
            )
    return np.array(found).T


def nearest_mean(x: Floats, y: Floats, new: Floats) -> Floats:
    means = [x[y == k].mean(axis=0) for k in (0, 1)]
    return ((new - means[1]) ** 2).sum(axis=1) < ((new - means[0]) ** 2).sum(axis=1)


def ridge(x: Floats, y: Floats, new: Floats) -> Floats:
    centre, target = x.mean(axis=0), y - y.mean()
    apart = x - centre
    weights = np.linalg.solve(apart.T @ apart + np.eye(x.shape[1]), apart.T @ target)
    return (new - centre) @ weights + y.mean() > 0.5


LEARNERS: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "nearest mean": nearest_mean,
    "ridge": ridge,
}


def folded(
    rng: np.random.Generator, reps: int, folds: int, repeats: int, learner: str, signal: float
) -> Counts:
    """Compare over folds as the product does, and in the ways it refuses."""
    share = 1 / (folds - 1)
    units = Units(rows="folds", columns="none", test_share=share)
    answers, others = [], {"plain t": [], "K taken as the rows": []}
    for _ in range(reps):
        scores = fold_scores(rng, folds, repeats, learner, signal)
        n = scores.shape[1]
        study = Study(
            Paired(
                seeds=tuple(range(n)),
                baseline=tuple(scores[0].tolist()),
                treatment=tuple(scores[1].tolist()),
                test_share=share,
            ),
            design(n, units, scope="seeds"),
        )
        answers.append(answered(study))
        if answers[-1].main.low is None:  # no spread: no claim
            continue
        wrong = {"plain t": paired_t(*scores)}
        wrong["K taken as the rows"] = corrected_t(*scores, test_share=1 / (n - 1))
        for label, r in wrong.items():
            others[label].append(r.p_value <= 0.05)
    what = "no signal" if signal == 0 else "signal"
    times = f"{repeats} × {folds}" if repeats > 1 else f"{folds}"
    row = f"{times} folds, {learner}, {what}"
    return summed("folds", row, answers) | rates("folds, wrongly", row, others)


# -- looks ----------------------------------------------------------------------------------------


def looked(
    rng: np.random.Generator, reps: int, stop: str, planned: int, sets: int, every: int = 1
) -> Counts:
    """Look at seeds scored on a few new data sets: does the interval ever leave out the truth?"""
    looks = planned_looks(planned) if stop == "group" else tuple(range(6, planned + 1, every))
    missed: dict[str, list[float]] = {"as reported": [], "z in place of t": []}
    for _ in range(reps):
        pairs, of = once(rng, planned, sets, "both")
        of = design(planned, of.units, stop=stop)
        wrong = dict.fromkeys(missed, False)
        for n in looks:
            seen = pairs.first(n)
            r = verdict_interval(seen, of, level=0.95)
            wrong["as reported"] |= not covers(r.low, r.high)
            if stop == "anytime":
                floor = variance_floor(fixed_analysis(seen, of, level=0.95))
                z = anytime(seen.differences, level=0.95, variance_floor=floor)
                wrong["z in place of t"] |= not covers(z.low, z.high)
        for label, value in wrong.items():
            missed[label].append(value)
    if stop == "group":
        del missed["z in place of t"]
    return rates("looks", f"{stop}, {len(looks)} looks up to {planned}, {sets} data sets", missed)


# -- what is counted ------------------------------------------------------------------------------


def answered(study: Study) -> Answer:
    return Answer(primary(study.pairs, study.design), gate(study.pairs, study.design))


def word(answer: Answer, *, margin: float | None, shift: float = 0.0) -> Verdict:
    """Return the verdict of the same study with its true difference moved by `shift`."""
    main, asked = answer

    def moved(limit: float | None) -> float | None:
        return None if limit is None else limit + shift

    return decide(
        n=asked.have,
        low=moved(main.low),
        high=moved(main.high),
        low90=moved(main.low90),
        high90=moved(main.high90),
        margin=margin,
        higher_is_better=True,
        blocker="no spread" if main.reason and main.standard_error is None else None,
        fewest=asked.needed,
        full=asked.full,
        may_match=asked.may_match,
        goal="not_worse",
    )


MATCH, LOSS = "false EQUIVALENT at +δ", "false EQUIVALENT at −δ"
NOT_WORSE = "false EQUIVALENT or NOT WORSE at −δ"
COLUMNS = (
    "coverage", "half-width", "false BETTER", "false WORSE", LOSS, NOT_WORSE, MATCH, "NO VERDICT",
    "provisional",
)  # fmt: skip


def summed(
    table: str, row: str, found: Sequence[Answer], at_margin: Sequence[Answer] | None = None
) -> Counts:
    """Return one row of a table, as `COLUMNS`.

    `at_margin` are studies whose true difference is -δ; None: the same ones, moved.
    """
    centre = np.array([a.main.difference for a in found], dtype=float)
    spread = float(np.std(centre)) or 1.0
    delta = MARGIN * spread if at_margin is None else BINARY_GAIN
    at_zero = [word(a, margin=None) for a in found]
    if at_margin is None:
        loss = [word(a, margin=delta, shift=-delta) for a in found]
        gain = [word(a, margin=delta, shift=delta) for a in found]
    else:
        loss, gain = [word(a, margin=delta) for a in at_margin], []
    widths = [(a.main.high - a.main.low) / 2 for a in found if a.main.low is not None]
    values = {
        "coverage": [covers(a.main.low, a.main.high) for a in found],
        "half-width": [width / (1.96 * spread) for width in widths],
        "false BETTER": [v.word == "better" for v in at_zero],
        "false WORSE": [v.word == "worse" for v in at_zero],
        LOSS: [v.word == "equivalent" for v in loss],
        NOT_WORSE: [v.word in ("equivalent", "not_worse", "better") for v in loss],
        MATCH: [v.word == "equivalent" for v in gain],
        "NO VERDICT": [v.word == "none" for v in at_zero],
        "provisional": [v.provisional for v in at_zero],
    }
    return rates(table, row, {column: v for column, v in values.items() if v})


DRAWS: dict[str, Callable[..., Study]] = {
    f.__name__: f
    for f in (
        crossed, clusters, ignored, one_run, once, nested, these, these_runs, these_shared,
        skewed_seeds, unpaired, missing, samples, checkpoints,
    )
}  # fmt: skip


def cell(
    rng: np.random.Generator, reps: int, table: str, row: str, draw: str, *args: object
) -> Counts:
    return summed(table, row, [answered(DRAWS[draw](rng, *args)) for _ in range(reps)])


BINARY_GAIN = 0.03  # the margin of binary answers, and the true loss at it


def answers(rng: np.random.Generator, reps: int, n: int, discordant: float) -> Counts:
    at_zero, at_margin = (
        [answered(binary(rng, n, discordant, gain)) for _ in range(reps)]
        for gain in (0.0, -BINARY_GAIN)
    )
    row = f"{n:,} questions, {discordant:.0%} discordant"
    return summed("binary", row, at_zero, at_margin)


# -- all of it ------------------------------------------------------------------------------------

NUMBERS = (6, 10, 20)


def all_jobs() -> list[Job]:
    """Return every cell, in the order of the page."""

    def row(table: str, label: str, draw: str, *args: object, reps: int = REPS) -> Job:
        return Job(cell, reps, (table, label, draw, *args))

    jobs = [
        row("crossed", f"{source}, n = {n}", "crossed", n, source)
        for source in SOURCES
        for n in NUMBERS
    ]
    jobs += [
        row("crossed", "both, 10 % of cells missing, n = 10", "missing", 10, 60, 0.1, reps=1000)
    ]
    for kind in ("20 of 5", "60 of 1 to 9", "12 of 2 to 40", "30, one with .6"):
        jobs += [
            row("clusters", f"{kind}, both, n = {n}", "clusters", n, kind, "both") for n in NUMBERS
        ]
    for source in ("seeds alone", "columns alone", "noise"):
        jobs += [
            row(
                "clusters",
                f"12 of 2 to 40, {source}, n = 10",
                "clusters",
                10,
                "12 of 2 to 40",
                source,
            )
        ]
    jobs += [
        row("clusters", "6, one with .6, both, n = 10", "clusters", 10, "6, one with .6", "both")
    ]
    jobs += [
        row("clusters", f"{kind}, both, n = 10, ignored †", "ignored", 10, kind)
        for kind in ("20 of 5", "12 of 2 to 40", "6, one with .6")
    ]
    jobs += [
        row("one run", kind, "one_run", kind)
        for kind in ("200 of 5", "15 of 4", "12 of 2 to 40", "30, one with .6", "6, one with .6")
    ]
    jobs += [
        row("one run", f"{kind}, ignored †", "ignored", 1, kind)
        for kind in ("200 of 5", "12 of 2 to 40")
    ]
    jobs += [
        Job(answers, 2000, (n, share)) for n in (50, 200, 1000) for share in (0.04, 0.1, 0.2, 0.4)
    ]
    jobs += [
        row("new sets", f"once, {sets} data sets, both, n = {n}", "once", n, sets, "both")
        for sets in (6, 8, 20)
        for n in NUMBERS
    ]
    jobs += [
        row("new sets", f"once, 8 data sets, {source}, n = 10", "once", 10, 8, source)
        for source in ("seeds alone", "columns alone", "noise")
    ]
    jobs += [
        row(
            "new sets",
            f"per data set, {sets} data sets{', skewed' * skewed}, n = {n}",
            "nested",
            n,
            sets,
            skewed,
        )
        for skewed in (False, True)
        for sets in (6, 8, 20)
        for n in ((3, 10) if not skewed else (10,))
    ]
    for label, sizes in (
        ("50, 100, 200 examples", (50, 100, 200)),
        ("8 of 50 examples", (50,) * 8),
    ):
        jobs += [row("these sets", f"{label}, n = {n}", "these", n, sizes, False) for n in NUMBERS]
    jobs += [row("these sets", "6, 12, 20 clusters, n = 10", "these", 10, (6, 12, 20), True)]
    jobs += [row("these sets", "20 of 25 examples, n = 10", "these", 10, (25,) * 20, False)]
    for label, runs in (
        ("3, 10, 20 runs", (3, 10, 20)), ("6 data sets of 3 runs", (3,) * 6),
        ("8 data sets of 6 runs", (6,) * 8), ("20 data sets of 2 runs", (2,) * 20),
    ):  # fmt: skip
        jobs += [row("these sets", f"trained per data set, {label}", "these_runs", runs)]
    jobs += [
        row("these sets", f"trained once, 8 data sets, a value each, n = {n}", "these_shared", n, 8)
        for n in NUMBERS
    ]
    jobs += [
        Job(folded, reps, (folds, repeats, learner, signal))
        for folds, repeats, reps in ((10, 1, 1000), (10, 10, 1000), (2, 5, 1000))
        for learner in LEARNERS
        for signal in (0.0, 0.6)
    ]
    for n, m, ratio in (
        (4, 4, 1),
        (5, 20, 1),
        (5, 20, 3),
        (20, 5, 3),
        (10, 10, 3),
        (8, 4, 1),
        (4, 20, 3),
        (3, 3, 1),
        (2, 20, 1),
    ):
        for examples in (0, 50):
            label = f"{n} and {m} runs, SD 1 : {ratio}{f', {examples} examples' * bool(examples)}"
            jobs += [row("unpaired", label, "unpaired", n, m, float(ratio), examples)]
    jobs += [row("skew", f"seeds, n = {n}", "skewed_seeds", n) for n in (6, 10, 20, 50)]
    jobs += [row("skew", "unpaired, 5 and 20 runs", "unpaired", 5, 20, 1.0, 0, True)]
    jobs += [Job(looked, 800, ("anytime", 40, sets)) for sets in (6, 8, 20)]
    jobs += [Job(looked, 600, ("group", 20, sets)) for sets in (6, 8, 20)]
    jobs += [
        row(
            "repeats", f"{what} {'apart †' if apart else 'averaged'}", draw, *args, apart, reps=1500
        )
        for what, draw, args in (
            ("200 questions × 5 samples,", "samples", (200, 5)),
            ("10 seeds × 5 checkpoints,", "checkpoints", (10, 5)),
        )
        for apart in (False, True)
    ]
    return jobs


# -- the page -------------------------------------------------------------------------------------


def claims(found: dict[Key, Rate]) -> list[Claim]:
    """Return the numbers of UNITS.md §2 and the cells that measure them."""

    def of(table: str, *parts: str, column: str = "coverage") -> tuple[Key, ...]:
        rows = dict.fromkeys(key[1] for key in found if key[0] == table)
        return tuple(
            (table, r, column)
            for r in rows
            if all(part in r for part in parts) and "ignored" not in r
        )

    sets, unpaired_rows = "new sets", ("5 and 20", "10 and", "8 and", "3 and")
    quoted: list[tuple[str, float, float, tuple[Key, ...]]] = [
        ("clusters, 20 of 5: covers .946–.986", 94.6, 98.6, of("clusters", "20 of 5")),
        ("clusters, 60 of 1–9: .953–.978", 95.3, 97.8, of("clusters", "60 of")),
        ("clusters, 12 of 2–40: .947–.985", 94.7, 98.5, of("clusters", "12 of")),
        ("clusters, one of .6 among 30: .949", 94.9, 94.9, of("clusters", "30, one")),
        ("one run, 200 clusters of 5: .949–.959", 94.9, 95.9, of("one run", "200 of")),
        ("one run, 15 clusters of 4: .950–.958", 95.0, 95.8, of("one run", "15 of")),
        ("one run, binary answers: .943–.987", 94.3, 98.7, of("binary")),
        ("these data sets, with examples, clusters inside too: .947–.957", 94.7, 95.7,
         of("these sets", "examples, n") + of("these sets", "clusters, n")),
        ("these data sets, nested, 3/10/20 runs: .950", 95.0, 95.0, of("these sets", "3, 10, 20")),
        ("new data sets, trained once, 8 sets, S = 10: .940–.995", 94.0, 99.5,
         of(sets, "once, 8", "n = 10")),
        ("new data sets, nested, 3 seeds × 8: .951", 95.1, 95.1,
         of(sets, "per data set, 8 data sets, n = 3")),
        ("new data sets, 6 skewed: .89", 89.0, 89.0, of(sets, "6 data sets, skewed")),
        ("folds: type I 2.8–4.0 %, that is coverage .960–.972", 96.0, 97.2, of("folds")),
        ("unpaired, 5/20, 10/10, 3/3, 8/4: .951–.963", 95.1, 96.3,
         tuple(key for key in of("unpaired", "SD 1 : 1") if key[1].startswith(unpaired_rows))),
        ("unpaired, 2/20: misses 12 %, that is .88", 88.0, 88.0, of("unpaired", "2 and 20")),
        ("10 % of cells missing: .954–.959", 95.4, 95.9, of("crossed", "missing")),
        ("anytime looks, 6 data sets: 3.7 % ever missed", 3.7, 3.7,
         of("looks", "anytime", ", 6 data", column="as reported")),
        ("the same with z in place of t: 9.1 %", 9.1, 9.1,
         of("looks", "anytime", ", 6 data", column="z in place of t")),
        ("samples as questions: 12 % false claims, that is .88", 88.0, 88.0,
         of("repeats", "samples", "apart")),
        ("samples averaged: 5 %, that is .95", 95.0, 95.0, of("repeats", "samples", "averaged")),
        ("checkpoints as rows: 39–58 % false claims, that is .42–.61", 42.0, 61.0,
         of("repeats", "checkpoints", "apart")),
    ]  # fmt: skip
    return [Claim(text, low - 0.05, high + 0.05, cells) for text, low, high, cells in quoted]


PROMISED = {"false BETTER": 2.5, "false WORSE": 2.5, LOSS: 5.0, NOT_WORSE: 5.0, MATCH: 5.0}


def broken(found: dict[Key, Rate]) -> list[str]:
    """Return every cell that is worse than 95 %, 2.5 % or 5 %, beyond Monte Carlo error."""
    lines = [
        "## Every cell that breaks its promise",
        "",
        "Coverage below 95 %, BETTER or WORSE above 2.5 % where nothing differs, EQUIVALENT above "
        "5 % at a true loss or gain of δ, each by more than three Monte Carlo standard errors; † "
        "rows are wrong on purpose and left out. Where NO VERDICT is 100 % the gate keeps the "
        "words back.",
        "",
        "| design | row | cell | measured |",
        "|---|---|---|---|",
    ]
    for (table, row, column), r in found.items():
        value, slack = 100 * r.mean, 300 * r.error
        low = column == "coverage" and value + slack < 95.0
        high = column in PROMISED and value - slack > PROMISED[column]
        if (low or high) and "†" not in row:
            lines.append(f"| {TITLES[table]} | {row} | {column} | {r.percent} |")
    return [*lines, ""]


TITLES = {
    "crossed": "Seeds × examples",
    "clusters": "Seeds × clusters",
    "one run": "One run of each, over clusters",
    "binary": "One run of each, right and wrong answers",
    "new sets": "New data sets",
    "these sets": "These data sets",
    "folds": "Folds",
    "unpaired": "Unpaired",
    "skew": "Skew",
    "repeats": "Repeats",
}
NOTES = {
    "crossed": "200 examples. SDs over seeds, examples and the rest: "
    + "; ".join(f"{name} {a:g}, {b:g}, {c:g}" for name, (a, b, c) in SOURCES.items())
    + ". Missing cells: of both arms, 60 examples, filled by the additive fit.",
    "clusters": "The clusters' sizes are fixed, their differences drawn anew; SDs as above, the "
    "rest of one example. *One with .6*: one cluster holds .6 of all examples. "
    "*Ignored †*: each example as a unit of its own.",
    "one run": "A cluster's difference has an SD of 1 and each example adds 1.",
    "binary": f"δ = {BINARY_GAIN:g}; at −δ the answers are drawn with that loss. EQUIVALENT takes "
    "60 discordant answers, a verdict 6.",
    "new sets": "*Once*: every model is scored on each data set; *per data set*: a model is "
    "trained for each, n seeds, SD 1 between data sets and 1 between seeds. *Skewed*: gains are "
    "exponential.",
    "these sets": "The data sets' gains run from −2 to 2 and are fixed; SDs over seeds 0.2, over "
    "seeds within a data set 0.2, over examples 1, of the rest 1. Trained per data set: SDs of "
    "runs 1, 0.5, 2 in turn.",
    "folds": f"Fresh data sets of {ROWS} rows, two arms on {FEATURES} features each of one "
    "distribution, so that neither is better. *5 × 2*: five repeats of two folds.",
    "unpaired": "Runs and SD of the baseline, then of the treatment. Below 4 runs an arm the "
    "gate gives no verdict.",
    "skew": "Exponential differences (skewness 2), mean brought to 0; of the unpaired runs, both "
    "arms exponential.",
    "repeats": "Two equal models: samples of their answers, or checkpoints of their runs. "
    "*Averaged* inside the unit, as `--repeat` does; *apart †*: each as a unit of its own.",
}


def page(found: dict[Key, Rate], *, scale: float, took_s: float, source: str) -> str:
    """Return the whole result as Markdown."""
    lines = [
        *head("Error rates of other designs, simulated", Path(__file__), scale, took_s, source),
        "Every study goes through `Paired`, `Design(units=…)`, `primary`, `gate` and `decide`; the "
        "goal is not-worse, so that all six words are on offer. The true difference is 0, without "
        "a margin, and −δ or +δ for the false EQUIVALENT and NOT WORSE (the same studies, moved); "
        "δ is three standard deviations of the estimate. Every cell is a percentage ± its Monte "
        "Carlo standard error, but *half-width*: that of the 95 % interval over 1.96 standard "
        "deviations of the estimate, so 1 is what known variances would give. *Provisional*: of "
        "all studies.",
        "",
        *agreement(found, claims(found), "UNITS.md §2"),
        *broken(found),
    ]
    for table, title in TITLES.items():
        lines += section(found, f"## {title}", table, NOTES[table], columns=COLUMNS,
                         plain=("half-width",), ordered=True)  # fmt: skip
        if table == "folds":
            lines += section(
                found, "### The same folds, analysed wrongly: type I error (%)", "folds, wrongly",
                "The plain paired t, and the correction with all rows taken for folds of one "
                "cross-validation.",
                wrong=("plain t", "K taken as the rows"), ordered=True,
            )  # fmt: skip
    lines += section(
        found, "## Looks with few columns: studies in which any look's interval misses (%)",
        "looks",
        "Seeds scored on new data sets drawn once; anytime after every pair from 6 to 40, group at "
        "10, 15 and 20 of 20.",
        wrong=("z in place of t",), ordered=True,
    )  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """Simulate and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the replications")
    scale = 0.1 if parser.parse_args().quick else 1.0
    started, source = time.perf_counter(), commit()
    found = simulate(all_jobs(), scale)
    text = page(found, scale=scale, took_s=time.perf_counter() - started, source=source)
    path = Path(__file__).with_suffix(".md")
    path.write_text(text, encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
