"""Simulated benchmarks: seeds × arms × test examples × classes, with every knob a test needs."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.analysis.data.metrics import Predictions
from bench.analysis.data.tables import Design, Tables
from bench.analysis.report import html as page
from bench.analysis.study.findings import Findings
from bench.analysis.study.study import study

Run = tuple[str, int]

PROVENANCE: Mapping[str, Any] = {
    "command": "bench run digits --seeds 20",
    "bench": "0.1.0",
    "python": "3.11.7",
    "processor": "Simulated",
    "cores": 2,
    "threads": 1,
    "devices": ["cpu"],
    "packages": {"numpy": "2.0"},
    "commit": "96cf1b985abb892bd9cd978415ee379b97ffe82a",
    "dirty": False,
    "notes": [],
    "data": {"name": "digits (simulated)", "digest": "1bb41b981e4a2bec", "train_test_overlap": 0},
    "mlflow": "experiment 1, parent run 038f63520cd84d28b020f17972617e34",
    "earlier_looks": 0,
}


@dataclass(frozen=True, eq=False)
class Simulated:
    """One benchmark that never ran."""

    tables: Tables
    design: Design
    provenance: Mapping[str, Any] = field(default_factory=lambda: dict(PROVENANCE))

    def changed(self, *, design: Mapping[str, Any] | None = None, **parts: Any) -> "Simulated":
        """Return the same benchmark with other tables, facts of the design or provenance."""
        facts = parts.pop("provenance", self.provenance)
        tables = replace(self.tables, **parts)
        return Simulated(tables, replace(self.design, **(design or {})), facts)

    def findings(self, *, seed: int = 0) -> Findings:
        return study(
            self.tables,
            self.design,
            provenance=self.provenance,
            seed=seed,
        )


def _simulate(
    *,
    effect: float | Sequence[float] = 0.02,  # mean paired difference of each treatment
    noise: float = 0.008,  # its SD over seeds; both are met exactly, up to one example
    base: float = 0.90,
    base_sd: float = 0.01,
    n_seeds: int = 20,
    n_test: int = 500,
    n_val: int = 200,
    n_classes: int = 10,
    n_epochs: int = 6,
    baseline: str = "baseline",
    treatments: Sequence[str] = ("smoothed",),
    confidence: Sequence[float] = (0.95, 0.85),
    certain: bool = False,  # every prediction has probability exactly 1
    absent_class: int | None = None,  # no test example has this label
    jitter: float = 0.3,  # how much a run's right examples differ from another's
    failed: Collection[Run] = (),
    collapsed: Collection[Run] = (),
    missing: Collection[Run] = (),
    early_stop: bool = False,
    validation: bool = True,
    scores_only: bool = False,
    scores: Mapping[str, float] | None = None,  # further scores: their spread
    metric: str = "accuracy",
    higher_is_better: bool = True,
    margin: float | None = 0.005,
    claim: float | None = 0.01,
    experiment: str = "digits",
    question: str = "Does label smoothing raise test accuracy?",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    provenance: Mapping[str, Any] | None = None,
    rng: int = 0,
    **design: Any,
) -> Simulated:
    """Return tables and design of a benchmark with this outcome."""
    draw = np.random.default_rng(rng)
    arms = (baseline, *treatments)
    effects = [effect] * len(treatments) if isinstance(effect, int | float) else list(effect)
    level = base + base_sd * draw.normal(size=n_seeds)
    wanted = {baseline: level}
    for arm, gain in zip(treatments, effects, strict=True):
        z = draw.normal(size=n_seeds)
        if n_seeds > 1 and noise > 0:
            z = (z - z.mean()) / z.std(ddof=1)
        wanted[arm] = level + gain + noise * z
    labels = {
        split: _labels(draw, size, n_classes, absent_class if split == "test" else None)
        for split, size in (("test", n_test), ("validation", n_val))
    }
    difficulty = {split: draw.permutation(len(y)) / len(y) for split, y in labels.items()}
    trials, epochs, rows, predictions = [], [], [], {}
    for seed in range(n_seeds):
        for position, arm in enumerate(arms):
            key = (arm, seed)
            if key in missing:
                continue
            gone = key in failed
            accuracy = 1 / n_classes if key in collapsed else float(wanted[arm][seed])
            length = n_epochs - (int(draw.integers(n_epochs // 2)) if early_stop else 0)
            curve = _curve(draw, accuracy, length, n_val)
            best = int(np.argmax(curve))
            logged = None
            if not gone and not scores_only:
                sure = confidence[min(position, len(confidence) - 1)]
                for split, size, right in (
                    ("test", n_test, round(accuracy * n_test)),
                    ("validation", n_val, round(curve[best] * n_val)),
                ):
                    order = difficulty[split] + jitter * draw.normal(size=size)
                    hit = np.zeros(size, dtype=bool)
                    hit[np.argsort(order)[: min(max(right, 0), size)]] = True
                    if split == "test":
                        logged = float(hit.mean())
                    if split == "test" or validation:
                        predictions[arm, seed, split] = _predict(
                            draw, labels[split], hit, n_classes, sure, certain
                        )
            if not gone and scores_only:
                rows.append((arm, seed, metric, accuracy))
            if not gone:
                rows += [
                    (arm, seed, name, accuracy + spread * draw.normal())
                    for name, spread in (scores or {}).items()
                ]
            if not gone and n_epochs:
                epochs += [
                    {
                        "arm": arm,
                        "seed": seed,
                        "epoch": e,
                        "val/accuracy": float(curve[e]),
                        "train/loss": 2.0 / (e + 1),
                    }
                    for e in range(length)
                ]
            trials.append(
                {
                    "arm": arm,
                    "seed": seed,
                    "status": "failed" if gone else "finished",
                    "reason": "loss became NaN at epoch 4" if gone else "",
                    "device": "cpu",
                    "duration_s": float("nan") if gone else 0.5 + 0.1 * draw.random(),
                    "environment": json.dumps({"torch": "2.9"}),
                    "facts": json.dumps(
                        {"streams": {"init": f"i{seed}", "order": f"o{seed}"}, "seed_used": True}
                    ),
                    "attempts": 1,
                    "selected_epoch": None if gone or not n_epochs else best,
                    "logged_accuracy": logged,
                }
            )
    tables = Tables(
        trials=pd.DataFrame(trials),
        epochs=pd.DataFrame(epochs, columns=["arm", "seed", "epoch", "val/accuracy", "train/loss"]),
        scores=pd.DataFrame(rows, columns=["arm", "seed", "score", "value"]),
        predictions=predictions,
    )
    changed = settings or {
        arm: {"epochs": n_epochs, "label_smoothing": round(0.1 * i, 3)}
        for i, arm in enumerate(arms)
    }
    known: dict[str, Any] = {
        "seeds": tuple(range(n_seeds)),
        "hash": "60a9d710a1c00d00",
        "benchmark_id": "1aa8202fb045d41c",
        "frozen_at": "2026-11-22T11:50:00+00:00",
        "frozen_before_first_run": True,
        **design,
    }
    return Simulated(
        tables,
        Design(
            experiment=experiment,
            question=question,
            baseline=baseline,
            treatments=tuple(treatments),
            metric=metric,
            higher_is_better=higher_is_better,
            margin=margin,
            claim=claim,
            arm_settings=changed,
            **known,
        ),
        dict(PROVENANCE) if provenance is None else provenance,
    )


def _labels(
    draw: np.random.Generator, size: int, n_classes: int, absent: int | None
) -> np.ndarray[Any, Any]:
    classes = [k for k in range(n_classes) if k != absent]
    return draw.choice(classes, size=size)


def _curve(
    draw: np.random.Generator, accuracy: float, length: int, n_val: int
) -> np.ndarray[Any, Any]:
    """Return validation accuracies on the grid 1 / n_val, levelling off half-way."""
    if length == 0:
        return np.array([accuracy])
    rise = np.minimum(1.0, np.arange(1, length + 1) / max(1, length // 2))
    raw = accuracy * (0.6 + 0.4 * rise) + 0.01 * draw.normal(size=length)
    return np.clip(np.round(raw * n_val), 0, n_val) / n_val


def _predict(
    draw: np.random.Generator,
    labels: np.ndarray[Any, Any],
    hit: np.ndarray[Any, Any],
    k: int,
    mean: float,
    certain: bool,
) -> Predictions:
    """Return predictions that are right where `hit`, with confidences around `mean`."""
    sure = (
        np.ones(labels.size)
        if certain
        else 1 / k
        + (1 - 1 / k) * (0.05 + 0.94 * draw.beta(20 * mean, 20 * (1 - mean), size=labels.size))
    )
    named = np.where(hit, labels, (labels + draw.integers(1, k, size=labels.size)) % k)
    p = np.repeat(((1 - sure) / (k - 1))[:, None], k, axis=1)
    p[np.arange(labels.size), named] = sure
    with np.errstate(divide="ignore"):
        return Predictions(np.log(p).astype(np.float32), labels)


# What it takes to reach each rule of REPORT.md §1, and what the page must say then.
RULES: Mapping[str, Mapping[str, Any]] = {
    "rule0_few_pairs": {"n_seeds": 4},
    "rule0_blocker": {
        "effect": 0.03,
        "provenance": {
            **PROVENANCE,
            "data": {**PROVENANCE["data"], "train_test_overlap": 3},
        },
    },
    "rule1_equivalent": {"effect": 0.0, "noise": 0.004, "margin": 0.02},
    "rule2_equivalent_not_zero": {
        "effect": 0.006,
        "noise": 0.004,
        "margin": 0.02,
        "scope": "seeds",
    },
    "rule3_better": {"effect": 0.04, "margin": 0.01},
    "rule4_better_size_open": {"effect": 0.03, "margin": 0.03},
    "rule4_better_no_margin": {"effect": 0.03, "margin": None},
    "rule5_worse": {"effect": -0.04, "margin": 0.01},
    "rule6_worse_size_open": {"effect": -0.03, "margin": 0.03},
    "rule6_worse_no_margin": {"effect": -0.03, "margin": None},
    "rule7_inconclusive": {"effect": 0.004, "noise": 0.02},
    "rule7_inconclusive_no_margin": {"effect": 0.004, "noise": 0.02, "margin": None},
}

# Studies at the edge of what can be analysed.
ODD: Mapping[str, Mapping[str, Any]] = {
    "provisional": {"n_seeds": 7, "effect": 0.05},
    "three_treatments": {
        "treatments": ("eps-0.05", "eps-0.1", "eps-0.2"),
        "effect": (0.0, 0.04, -0.03),
    },
    "scores_only": {"scores_only": True, "n_epochs": 0},
    "own_score_lower_is_better": {
        "scores_only": True,
        "metric": "validation perplexity",
        "higher_is_better": False,
        "base": 23.0,
        "effect": -0.5,
        "noise": 0.3,
        "margin": 0.25,
        "claim": -0.4,
        "n_epochs": 0,
    },
    "nll": {"metric": "nll", "higher_is_better": False, "margin": 0.01, "claim": -0.02},
    "brier": {"metric": "brier", "higher_is_better": False, "margin": None, "claim": None},
    "auroc": {"metric": "auroc", "n_classes": 3},
    "aurc": {"metric": "aurc", "higher_is_better": False, "margin": None, "claim": None},
    "anytime": {"stop": "anytime", "effect": 0.03},
    "anytime_few": {"stop": "anytime", "n_seeds": 6, "effect": 0.001, "noise": 0.03},
    "group_first_look": {
        "stop": "group",
        "n_seeds": 10,
        "seeds": tuple(range(20)),
        "effect": 0.02,
    },
    "group_at_the_end": {"stop": "group", "effect": 0.03},
    "seeds_added": {"looks": (10,), "effect": 0.03},
    "scope_seeds": {"scope": "seeds", "effect": 0.02},
    "identical_arms": {"effect": 0.0, "noise": 0.0, "jitter": 0.0},
    "constant_difference": {"effect": 0.02, "noise": 0.0, "base_sd": 0.0},
    "one_pair": {"n_seeds": 1},
    "two_pairs": {"n_seeds": 2},
    "no_pair_in_common": {
        "n_seeds": 4,
        "missing": {("baseline", 0), ("baseline", 1), ("smoothed", 2), ("smoothed", 3)},
    },
    "failed_runs": {
        "n_seeds": 20,
        "failed": {("smoothed", 3), ("smoothed", 4), ("baseline", 9)},
        "effect": 0.03,
    },
    "failed_and_missing": {
        "n_seeds": 20,
        "failed": {("smoothed", 3)},
        "missing": {("baseline", 5), ("smoothed", 6)},
        "effect": 0.05,
    },
    "collapsed_runs": {"n_seeds": 20, "collapsed": {("smoothed", 3)}, "effect": 0.03},
    "absent_class": {"absent_class": 3},
    "certain": {"certain": True},
    "two_classes": {"n_classes": 2},
    "hundred_classes": {"n_classes": 100, "n_test": 300},
    "two_test_examples": {"n_test": 2, "base": 0.5, "base_sd": 0.3, "noise": 0.3},
    "one_test_example": {"n_test": 1, "base": 0.5, "base_sd": 0.5, "noise": 0.5},
    "one_epoch": {"n_epochs": 1},
    "early_stop": {"early_stop": True, "n_epochs": 10},
    "no_validation": {"validation": False},
    "further_scores": {"scores": {"f1": 0.01, "recall": 0.0}},
    "no_plan": {
        "hash": "",
        "benchmark_id": "",
        "frozen_at": None,
        "frozen_before_first_run": False,
        "provenance": {},
    },
    "twenty_five_pairs": {"n_seeds": 25},
}

SAME_PAGE = frozenset(
    ("two_pairs", "anytime", "group_at_the_end", "constant_difference", "failed_and_missing",
     "absent_class", "two_classes", "hundred_classes", "early_stop", "two_test_examples",
     "one_test_example", "no_validation", "one_epoch", "certain", "brier")
)  # fmt: skip

# What `make test` looks at: no verdict and each kind of one, several arms, another metric, gaps.
QUICK = ("rule0_blocker", "rule1_equivalent", "rule3_better", "rule7_inconclusive",
         "three_treatments", "own_score_lower_is_better", "failed_runs")  # fmt: skip


@cache
def _findings(name: str) -> Findings:
    few = {} if name in RULES else {"n_seeds": 12}  # the exact test of 20 pairs takes its time
    return _simulate(**{**few, **(RULES | ODD)[name]}).findings()


@pytest.fixture(scope="session")
def simulate() -> Callable[..., Simulated]:
    """Return the factory of simulated benchmarks."""
    return _simulate


@pytest.fixture(scope="session")
def known() -> Callable[[str], Findings]:
    """Return the findings of a named study, computed once a session."""
    return _findings


@cache
def _report(name: str) -> str:
    return page.render(_findings(name), version="0.1.0")


@pytest.fixture(scope="session")
def report() -> Callable[[str], str]:
    """Return the page of a named study, rendered once a session."""
    return _report


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Return what opens a page as a file: `show(html, width=500, color_scheme="dark")`.

    Whatever a test does with it, the page says nothing to the console and asks for nothing.
    """
    contexts, noise = [], []

    def opened(html: str, *, width: int = 1280, **options: Any) -> Any:
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        source = tmp_path / f"{len(contexts)}.html"
        source.write_text(html, "utf-8")
        address, tab = source.as_uri(), contexts[-1].new_page()
        tab.on("console", lambda message: noise.append(message.text))
        tab.on("pageerror", lambda error: noise.append(str(error)))
        tab.on("request", lambda asked: asked.url == address or noise.append(asked.url))
        tab.goto(address)
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert noise == []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give `rule_case` every verdict rule, `any_case` also what lies at the edge.

    `page_case` leaves out what gives the same page as another; drawing it takes most of a second.
    """
    pages = [name for name in RULES | ODD if name not in SAME_PAGE]
    if "rule_case" in metafunc.fixturenames:
        metafunc.parametrize("rule_case", list(RULES))
    for name, cases in (("any_case", list(RULES | ODD)), ("page_case", pages)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, [_quick_or_thorough(case) for case in cases])


def _quick_or_thorough(case: str) -> Any:
    return pytest.param(case, marks=[] if case in QUICK else [pytest.mark.thorough])
