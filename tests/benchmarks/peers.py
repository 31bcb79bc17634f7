"""Peers: how often does each package claim a difference between two equal variants?

In an environment of its own, from the root of the repository::

    uv venv /tmp/peers
    uv pip install --python /tmp/peers/bin/python -r tests/benchmarks/peers-requirements.txt
    /tmp/peers/bin/python tests/benchmarks/peers.py

writes `peers.md` beside this file (``--quick``: a tenth of the replications, as the page says). A
package that cannot be imported, or a call that it refuses, is named in the output. Each is called
as its own documentation says; what that is stands in `METHODS`.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes, one core each

import argparse
import contextlib
import datetime
import importlib
import importlib.metadata
import io
import math
import multiprocessing
import platform
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.analysis.inference import paired_t, sign_flip, welch
from bench.analysis.study.verdict import decide

Floats = np.ndarray
SEED = 21
NUMBERS = (5, 10, 20)
ALPHA = 0.05
PACKAGES = ("ictonyx", "autorank", "baycomp", "deepsig")


# -- both arms of n seeds; the paired difference has mean 0 and SD 1 --------------------------


def normal(rng: np.random.Generator, n: int) -> tuple[Floats, Floats]:
    shared = 2.1 * rng.normal(size=n)
    return shared + math.sqrt(0.5) * rng.normal(size=n), shared + math.sqrt(0.5) * rng.normal(
        size=n
    )


def skewed_arms(rng: np.random.Generator, n: int) -> tuple[Floats, Floats]:
    shared = -2.1 * rng.exponential(size=n)
    own = -math.sqrt(0.5) * rng.exponential(size=(2, n))
    return shared + own[0], shared + own[1]


def skewed_differences(rng: np.random.Generator, n: int) -> tuple[Floats, Floats]:
    baseline = 2.1 * rng.normal(size=n) + math.sqrt(0.5) * rng.normal(size=n)
    return baseline, baseline + rng.exponential(size=n) - 1


SCENARIOS = {
    "normal": normal,
    "skewed arms": skewed_arms,
    "skewed differences": skewed_differences,
}


# -- the methods, each with one answer a row of the tables ------------------------------------


@dataclass(frozen=True)
class Answer:
    """What a method claims; `differs` is None for a one-sided question."""

    differs: bool | None
    better: bool
    none: bool = False  # it declined to answer


Answers = tuple[Answer, ...]
NO_ANSWER = Answer(differs=False, better=False, none=True)


def two_sided(p: float, gain: float) -> Answer:
    found = bool(p <= ALPHA)
    return Answer(differs=found, better=found and gain > 0)


def bench_t(base: Floats, other: Floats, seed: int) -> Answers:
    r = paired_t(base, other)
    return (two_sided(r.p_value, r.difference),)


def bench_flip(base: Floats, other: Floats, seed: int) -> Answers:
    r = sign_flip(base, other)
    return (two_sided(r.p_value, r.difference),)


def bench_verdict(base: Floats, other: Floats, seed: int) -> Answers:
    r, narrow = paired_t(base, other), paired_t(base, other, level=0.9)
    verdict = decide(
        n=r.n,
        low=r.low,
        high=r.high,
        low90=narrow.low,
        high90=narrow.high,
        margin=None,
        higher_is_better=True,
    )
    word = verdict.word
    return (
        Answer(differs=word in ("better", "worse"), better=word == "better", none=word == "none"),
    )


def unpaired_welch(base: Floats, other: Floats, seed: int) -> Answers:
    r = welch(base, other)
    return (two_sided(r.p_value, r.difference),)


def unpaired_ranks(base: Floats, other: Floats, seed: int) -> Answers:
    p = stats.mannwhitneyu(other, base).pvalue
    return (two_sided(p, other.mean() - base.mean()),)


def ictonyx_comparison(base: Floats, other: Floats, seed: int) -> Any:
    ix = importlib.import_module("ictonyx")

    def study(values: Floats) -> Any:
        return ix.VariabilityStudyResults(
            all_runs_metrics=[pd.DataFrame({"val_accuracy": [v]}) for v in values],
            final_metrics={"val_accuracy": [float(v) for v in values]},
            final_test_metrics=[],
            seed=42,
        )

    arms = (study(other), study(base))
    return ix.compare_results(*arms, metric="val_accuracy", seed=seed).overall_test


def ictonyx_paired(base: Floats, other: Floats, seed: int) -> Answers:
    """Read its test, then its interval."""
    test = ictonyx_comparison(base, other, seed)
    if test.confidence_interval is None:
        return NO_ANSWER, NO_ANSWER
    low, high = test.confidence_interval
    return ictonyx_answer(test, base, other), Answer(differs=low > 0 or high < 0, better=low > 0)


def ictonyx_answer(test: Any, base: Floats, other: Floats) -> Answer:
    if math.isnan(test.p_value):
        return NO_ANSWER
    found = bool(test.is_significant())
    return Answer(differs=found, better=found and other.mean() > base.mean())


def autorank_default(base: Floats, other: Floats, seed: int) -> Answers:
    autorank = importlib.import_module("autorank")
    data = pd.DataFrame({"baseline": base, "treatment": other})
    result = autorank.autorank(data, alpha=ALPHA, verbose=False)
    found = bool(result.pvalue < ALPHA)
    return (Answer(differs=found, better=found and other.mean() > base.mean()),)


def baycomp_probability(name: str, base: Floats, other: Floats, seed: int) -> Answers:
    """Read the posterior probability at 0.95 and at 0.975."""
    baycomp = importlib.import_module("baycomp")
    options = {"random_state": seed} if name == "two_on_multiple" else {}
    found = getattr(baycomp, name)(base, other, **options)
    p_base, p_other = found[0], found[-1]  # two_on_multiple returns P(rope) = 0 between them
    return tuple(
        Answer(differs=bool(max(p_base, p_other) >= least), better=bool(p_other >= least))
        for least in (0.95, 0.975)
    )


def deepsig_order(base: Floats, other: Floats, seed: int) -> Answers:
    """Read the violation ratio at 0.5 and at 0.2."""
    deepsig = importlib.import_module("deepsig")
    epsilon = deepsig.aso(other, base, seed=seed, show_progress=False)
    return tuple(Answer(differs=None, better=bool(epsilon < most)) for most in (0.5, 0.2))


def deepsig_test(name: str, base: Floats, other: Floats, seed: int) -> Answers:
    p = getattr(importlib.import_module("deepsig"), name)(other, base)
    return (Answer(differs=None, better=bool(p < ALPHA)),)


@dataclass(frozen=True)
class Row:
    """A row of the tables: how one number of an answer is read."""

    label: str
    nominal: str  # percent, either direction; empty: one-sided at 5 %
    note: str


@dataclass(frozen=True)
class Method:
    """What is called, and its rows."""

    call: str
    run: Callable[[Floats, Floats, int], Answers]
    reps: int
    rows: tuple[Row, ...]


METHODS = [
    Method(
        "analysis.comparisons.paired_t(baseline, treatment)",
        bench_t,
        4000,
        (Row("bench: paired t", "5", "p ≤ 0.05"),),
    ),
    Method(
        "analysis.comparisons.sign_flip(baseline, treatment)",
        bench_flip,
        600,
        (Row("bench: sign-flip", "5", "p ≤ 0.05; at 5 pairs p is never below 0.0625"),),
    ),
    Method(
        "analysis.verdict.decide(..., margin=None), limits of paired_t",
        bench_verdict,
        4000,
        (Row("bench: verdict", "5", "BETTER or WORSE; below 6 pairs there is no verdict"),),
    ),
    Method(
        "analysis.comparisons.welch(baseline, treatment)",
        unpaired_welch,
        4000,
        (Row("Welch t", "5", "p ≤ 0.05: the usual test that gives pairing away"),),
    ),
    Method(
        "scipy.stats.mannwhitneyu(treatment, baseline)",
        unpaired_ranks,
        4000,
        (Row("Mann–Whitney", "5", "p ≤ 0.05; gives pairing away, as ictonyx with paired=False"),),
    ),
    Method(
        'ictonyx.compare_results(treatment, baseline, metric="val_accuracy", seed=...)',
        ictonyx_paired,
        400,
        (
            Row(
                "ictonyx, its test",
                "5",
                "is_significant(); by default paired=True, its paired Wilcoxon test. Below 6 pairs "
                'it answers "Insufficient Data"',
            ),
            Row(
                "ictonyx, its interval",
                "5",
                "confidence_interval of the same result, 95 % BCa for the mean difference, "
                "leaves out 0. It warns itself that BCa is unstable below 15 pairs",
            ),
        ),
    ),
    Method(
        "autorank.autorank(DataFrame, alpha=0.05, verbose=False)",
        autorank_default,
        1000,
        (
            Row(
                "autorank",
                "5",
                "pvalue < alpha. Shapiro–Wilk on each arm chooses the paired t test or Wilcoxon; "
                "the latter is one-sided, for the arm with the larger median (_util.rank_two)",
            ),
        ),
    ),
    Method(
        "baycomp.two_on_multiple(baseline, treatment)",
        partial(baycomp_probability, "two_on_multiple"),
        400,
        (
            Row(
                "baycomp, signed rank, P ≥ 0.95",
                "10",
                "rope=0 by default. Meant for one score a data set; here one a seed. 0.95 is the "
                "threshold of Benavoli et al. (2017); in either direction it compares with 10 %",
            ),
            Row("baycomp, signed rank, P ≥ 0.975", "5", "what compares with a rate of 5 %"),
        ),
    ),
    Method(
        "baycomp.two_on_single(baseline, treatment)",
        partial(baycomp_probability, "two_on_single"),
        4000,
        (
            Row(
                "baycomp, correlated t, P ≥ 0.95",
                "10",
                "rope=0, runs=1. Meant for the folds of a cross-validation, whose overlap it "
                "corrects for; seeds do not overlap, so that it is cautious here",
            ),
            Row("baycomp, correlated t, P ≥ 0.975", "5", "what compares with a rate of 5 %"),
        ),
    ),
    Method(
        "deepsig.aso(treatment, baseline, seed=..., show_progress=False)",
        deepsig_order,
        200,
        (
            Row(
                "deepsig, ASO, ε < 0.5",
                "",
                "confidence_level=0.95 by default; unpaired; asks whether the treatment is better. "
                'Its README: "If the returned eps_min < 0.5, A is better than B"',
            ),
            Row("deepsig, ASO, ε < 0.2", "", "the threshold that its README recommends to check"),
        ),
    ),
    Method(
        "deepsig.permutation_test(treatment, baseline)",
        partial(deepsig_test, "permutation_test"),
        300,
        (Row("deepsig, permutation test", "", "p < 0.05; paired, one-sided"),),
    ),
    Method(
        "deepsig.bootstrap_test(treatment, baseline)",
        partial(deepsig_test, "bootstrap_test"),
        300,
        (
            Row(
                "deepsig, bootstrap test",
                "",
                "p < 0.05; one-sided; documented as paired, though it resamples each arm by itself",
            ),
        ),
    ),
]


# -- the same numbers, faster ------------------------------------------------------------------


def speed_up() -> list[str]:
    """Replace two inner loops by array operations; return what was checked.

    The results are the same to the last digits, which is checked on five samples each time; the
    documented calls would take hours.
    """
    notes = []
    with contextlib.suppress(ImportError):
        notes.append(_speed_up_deepsig())
    with contextlib.suppress(ImportError):
        notes.append(_speed_up_baycomp())
    return notes


def _samples() -> list[tuple[Floats, Floats]]:
    rng = np.random.default_rng(0)
    return [normal(rng, n) for n in (5, 8, 10, 15, 20)]


def _speed_up_deepsig() -> str:
    aso = importlib.import_module("deepsig").aso
    module = sys.modules["deepsig.aso"]

    def quantile_function(scores: Floats) -> Callable[[Floats], Floats]:
        ordered, n = np.sort(scores), len(scores)
        return lambda p: ordered[np.clip(np.ceil(n * p).astype(int) - 1, 0, n - 1)]

    def epsilons() -> list[float]:
        few = {"num_bootstrap_iterations": 20, "seed": 1, "show_progress": False}
        return [float(aso(other, base, **few)) for base, other in _samples()]

    before = epsilons()
    module.get_quantile_function = quantile_function
    if epsilons() != before:
        raise SystemExit("the faster quantile function gives other numbers than deepsig's")
    return "deepsig's quantile function is evaluated on arrays instead of value by value"


def _speed_up_baycomp() -> str:
    multiple = importlib.import_module("baycomp.multiple")
    original = multiple.SignedRankTest.sample

    def sample(x, y, rope=0, *, prior=0.5, nsamples=50000, random_state=None):
        if rope:
            return original(x, y, rope, prior=prior, nsamples=nsamples, random_state=random_state)
        diff = np.hstack(([0], y - x))
        sums = diff[:, None] + diff
        above = (sums > 0) + 0.5 * (sums == 0)
        alpha = np.ones(diff.size)
        alpha[0] = prior
        weights = np.random.RandomState(random_state).dirichlet(alpha, nsamples)
        drawn = np.zeros((nsamples, 3))
        drawn[:, 2] = np.einsum("ij,ij->i", weights @ above, weights)
        drawn[:, 0] = 1 - drawn[:, 2]
        return drawn

    for base, other in _samples():
        slow = original(base, other, nsamples=500, random_state=1)
        if not np.allclose(sample(base, other, nsamples=500, random_state=1), slow, atol=1e-12):
            raise SystemExit("the faster signed-rank sample gives other numbers than baycomp's")
    multiple.SignedRankTest.sample = staticmethod(sample)
    return "baycomp's signed-rank sample is drawn with array operations instead of one by one"


# -- the simulation ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One method on one kind of data, at one number of seeds and one true gain."""

    method: int
    scenario: str
    n: int
    gain: float


@dataclass(frozen=True)
class Outcome:
    """Counts over replications of one row; `trouble` says why a call was refused."""

    differs: int | None
    better: int
    none: int
    reps: int
    trouble: str = ""


def simulate(task: tuple[Cell, float]) -> tuple[Cell, tuple[Outcome, ...], float]:
    cell, scale = task
    started = time.perf_counter()
    return cell, _simulate(cell, scale), time.perf_counter() - started


def _simulate(cell: Cell, scale: float) -> tuple[Outcome, ...]:
    method = METHODS[cell.method]
    reps = max(20, round(method.reps * scale))
    # All methods see the same samples of a scenario.
    name = f"{cell.scenario}{cell.n}{cell.gain}"
    rng = np.random.default_rng([SEED, crc32(name.encode())])
    np.random.seed(crc32(name.encode()))  # deepsig's tests draw from the global state
    answers = []
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for seed in range(reps):
            base, other = SCENARIOS[cell.scenario](rng, cell.n)
            try:
                answers.append(method.run(base, other + cell.gain, seed))
            except ImportError as missing:
                return (Outcome(0, 0, 0, 0, f"not installed: {missing}"),) * len(method.rows)
            except Exception as refusal:  # an API that differs is a result, not a crash
                trouble = f"{type(refusal).__name__}: {refusal}"
                return (Outcome(0, 0, 0, 0, trouble),) * len(method.rows)
    return tuple(_count(row) for row in zip(*answers, strict=True))


def _count(answers: Answers) -> Outcome:
    one_way = answers[0].differs is None
    return Outcome(
        differs=None if one_way else sum(bool(a.differs) for a in answers),
        better=sum(a.better for a in answers),
        none=sum(a.none for a in answers),
        reps=len(answers),
    )


def all_cells() -> list[Cell]:
    """Return every cell, the slowest methods first."""
    order = sorted(range(len(METHODS)), key=lambda i: "aso" not in METHODS[i].call)
    return [
        Cell(method, scenario, n, gain)
        for method in order
        for scenario in SCENARIOS
        for n in reversed(NUMBERS)
        for gain in (0.0, 1.0)
    ]


Found = dict[Cell, tuple[Outcome, ...]]


def run(scale: float) -> Found:
    tasks = [(cell, scale) for cell in all_cells()]
    found: Found = {}
    context = multiprocessing.get_context("spawn")
    with context.Pool(2, initializer=speed_up) as pool:
        for done, (cell, outcomes, took) in enumerate(pool.imap_unordered(simulate, tasks), 1):
            found[cell] = outcomes
            call = METHODS[cell.method].call
            print(f"{done}/{len(tasks)} {call}, {cell} {took:.1f} s", flush=True)
    return found


# -- the page --------------------------------------------------------------------------------------


def percent(hits: int | None, reps: int) -> str:
    if hits is None:
        return "–"
    share, held = hits / reps, (hits + 2) / (reps + 4)  # never an error of 0
    return f"{100 * share:.1f} ± {100 * math.sqrt(held * (1 - held) / reps):.1f}"


def shown(outcome: Outcome, what: str) -> str:
    if outcome.trouble:
        return f"({outcome.trouble})"
    if outcome.none == outcome.reps:
        return "declines"
    return percent(getattr(outcome, what), outcome.reps)


def table(found: Found, gain: float, what: str) -> list[str]:
    names = [f"{scenario}, n = {n}" for scenario in SCENARIOS for n in NUMBERS]
    rates = gain == 0  # otherwise power, which has no nominal value
    lines = ["| | " + "nominal | " * rates + " | ".join(names) + " |"]
    lines.append("|---" * (len(names) + 1 + rates) + "|")
    for i, method in enumerate(METHODS):
        for j, row in enumerate(method.rows):
            outcomes = [found[Cell(i, s, n, gain)][j] for s in SCENARIOS for n in NUMBERS]
            if what == "differs" and all(o.differs is None for o in outcomes):
                continue
            nominal = row.nominal if what == "differs" else _one_way(row.nominal)
            cells = [*([nominal] if rates else []), *(shown(o, what) for o in outcomes)]
            lines.append(f"| {row.label} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _one_way(nominal: str) -> str:
    return f"{float(nominal) / 2:g}" if nominal else "5"


def page(found: Found, *, took_s: float, notes: list[str], quick: bool) -> str:
    versions = []
    for name in (*PACKAGES, "numpy", "scipy", "pandas", "statsmodels"):
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{name} (not installed)")
    calls = [
        f"| {row.label} | `{m.call}` | {row.note} | {found[Cell(i, 'normal', 10, 0.0)][j].reps:,} |"
        for i, m in enumerate(METHODS)
        for j, row in enumerate(m.rows)
    ]
    return "\n".join([
        "# The same simulation over other packages",
        "",
        f"Written by `tests/benchmarks/peers.py` on "
        f"{datetime.datetime.now(datetime.UTC).date().isoformat()} with "
        f"Python {platform.python_version()}, {', '.join(versions)}; {took_s / 60:.0f} minutes on "
        "2 cores. Percentages ± Monte Carlo standard errors.",
        *(["", "**Short run: a tenth of the full run's replications.**"] if quick else []),
        "",
        "n seeds, both variants trained on each. What a seed gives both of them has an SD of 2.1, "
        "the paired difference an SD of 1, so that the arms correlate at 0.9. *normal* and "
        "*skewed arms* are A/A: two equal variants, the latter with exponential tails towards low "
        "scores. *skewed differences* has a mean difference of 0, but a typical seed loses (median "
        "−0.31) and a few gain much: methods that rank ask about the typical seed and may rightly "
        "say that there is something; they are wrong only if read as speaking of the mean.",
        "",
        "The packages were made for different questions (see the calls below), and none but bench "
        "is designed for pairs of seeds alone; a high or low number is a property of the use, not "
        "a mark for the package. No package here, bench's scope `seeds` included, accounts for new "
        "test examples in this simulation; there are none in it.",
        "",
        "## No difference: how often a difference is claimed, in either direction (%)",
        "",
        *table(found, 0.0, "differs"),
        "One-sided methods are in the next table only. \"declines\": no answer at this number.",
        "",
        "## No difference: how often the treatment is claimed to be better (%)",
        "",
        *table(found, 0.0, "better"),
        "## A true gain of one SD of the paired difference: how often it is found (%)",
        "",
        "Power is worth comparing between methods that keep their rate in the tables above.",
        "",
        *table(found, 1.0, "better"),
        "## The calls",
        "",
        "| | call | read as | replications |",
        "|---|---|---|---|",
        *calls,
        "",
        *([f"For speed only, after checking on five samples that the numbers are the same: "
           f"{'; '.join(notes)}.", ""] if notes else []),
    ])  # fmt: skip


def main() -> None:
    """Simulate and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the replications")
    quick = parser.parse_args().quick
    started = time.perf_counter()
    found = run(0.1 if quick else 1.0)
    text = page(found, took_s=time.perf_counter() - started, notes=speed_up(), quick=quick)
    path = Path(__file__).with_suffix(".md")
    path.write_text(text, encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
