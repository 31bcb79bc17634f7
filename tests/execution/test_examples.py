"""Trainings that return a score of every test example, through `bench run` to the report."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

# Passages of 1 to 5 questions; `{top}` may change them, `{result}` is what is returned.
READER = '''"""An experiment of a test."""
import numpy as np
from bench import Experiment, Outcome, Predictions, Trial

PASSAGE = np.repeat(np.arange(12), np.arange(12) % 5 + 1)
HARD = np.random.default_rng(0).normal(size=12)[PASSAGE]


def train(trial):
    noise = trial.rng("init").normal(size=PASSAGE.size)
    shift = trial.settings["gain"] * (1 + HARD) + 0.3 * trial.rng("order").normal()
    f1 = 1 / (1 + np.exp(HARD - shift - 0.5 * noise))
    return {result}


EXPERIMENT = Experiment(name="reader", question="Does retrieval raise F1?", {how},
    arms={{"plain": {{"gain": 0.0}}, "retrieval": {{"gain": 0.4}}}}, train=train)
'''
RESULT = 'Outcome(examples={"f1": f1, "exact": f1 > 0.6}, clusters=PASSAGE)'
HOW = 'metric="f1", cluster="passage"'
NAMES = (f"mine_reader_{i}.py" for i in range(10**6))


@pytest.fixture(scope="module")
def train(copy_store: Callable[[Path], str]) -> Callable[..., tuple[int, Path]]:
    """Return what trains a reader in a folder: the exit status, and where its report lies."""
    from bench.cli import _run

    def run(folder: Path, result: str = RESULT, how: str = HOW, seeds: int = 6) -> tuple[int, Path]:
        path = folder / next(NAMES)
        path.write_text(READER.format(result=result, how=how))
        words = ["run", path, "--seeds", seeds, "--store", copy_store(folder), "-q"]
        return _run([*map(str, words), "--workers", "1"]), folder / "reports" / "reader"

    return run


@pytest.fixture(scope="module")
def folder(train: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the report of a trained reader lies."""
    status, found = train(tmp_path_factory.mktemp("reader"))
    assert status == 0
    return Path(found)


def comparison(folder: Path) -> Any:
    return json.loads((folder / "results.json").read_text())["comparisons"][0]


def values_of(name: str = "f1", seeds: int = 6) -> Any:
    """Return what the trainings score, shape (2, seeds, N), and each question's passage."""
    space: dict[str, Any] = {}
    exec(READER.format(result=RESULT, how=HOW), space)
    trials = space["Trial"], space["EXPERIMENT"]
    runs = [
        [
            trials[1].train(trials[0](seed=s, arm=a, settings=trials[1].arm_settings(a)))
            for s in range(seeds)
        ]
        for a in ("plain", "retrieval")
    ]
    return np.array([[run.examples[name] for run in arm] for arm in runs]), space["PASSAGE"]


def by_hand(difference: Any, passage: Any) -> tuple[float, float, float]:
    """Return difference and 95 % limits of seeds × weighted clusters, from the formulas.

    Each passage counts with its questions; squares of a weight w count w² / (1 - w), so that one
    passage that dominates does not bias the variance.
    """
    names, sizes = np.unique(passage, return_counts=True)
    m = np.stack([difference[:, passage == name].mean(axis=1) for name in names], axis=1)
    w = sizes / sizes.sum()
    q, s, g = w**2 / (1 - w), len(m), 1 / (w**2).sum()
    r, c = m @ w, m.mean(axis=0)
    d = r.mean()
    v_s, v_g = r.var(ddof=1) / s, (q * (c - d) ** 2).sum()
    v_e = (q * (m - r[:, None] - c + d) ** 2).sum() / (s * (s - 1))
    v = max(v_s + v_g - v_e, v_s, v_g)
    parts = v_s**2 / (s - 1) + v_g**2 / (g - 1) + v_e**2 / ((s - 1) * (g - 1))
    reach = stats.t.ppf(0.975, max(1.0, v**2 / parts)) * np.sqrt(v)
    return d, d - reach, d + reach


def test_scores_of_passages_give_the_weighted_two_way_interval(folder: Path):
    found = comparison(folder)
    scores, passage = values_of()
    expected = by_hand(scores[1] - scores[0], passage)
    main = found["primary"]
    assert main["method"] == "two_way"
    assert (main["difference"], main["low"], main["high"]) == pytest.approx(expected, rel=1e-9)
    (other,) = found["secondary"]  # alone, so that nothing is adjusted
    exact, _ = values_of("exact")
    expected = by_hand(exact[1] - exact[0], passage)
    assert other["metric"] == "exact"
    assert (other["difference"], other["low"], other["high"]) == pytest.approx(expected, rel=1e-9)
    assert "new seeds and new passages" in (folder / "report.html").read_text()


def test_the_report_of_scores_of_examples_is_verified(folder: Path, bench: Callable[..., Any]):
    assert "all equal" in bench("verify", folder / "report.html").out


def test_the_same_scores_in_a_file_are_compared_alike(
    folder: Path, bench: Callable[..., Any], tmp_path: Path
):
    scores, passage = values_of()
    arm, seed, question = np.indices(scores.shape).reshape(3, -1)
    table = pd.DataFrame({"arm": np.array(["plain", "retrieval"])[arm], "seed": seed})
    table = table.assign(question=question, passage=passage[question], f1=scores.ravel())
    table.to_csv(tmp_path / "scores.csv", index=False)
    words = "--arm arm --metric f1 --seed seed --example question --cluster passage"
    words += " --baseline plain --unit plain --json"
    said = bench("compare", tmp_path / "scores.csv", *words.split())
    ours, theirs = comparison(folder)["primary"], said.json["comparisons"][0]["primary"]
    for name in ("difference", "low", "high", "p_value"):
        assert theirs[name] == pytest.approx(ours[name], rel=1e-9)


def test_examples_without_clusters_are_columns_of_their_own(
    train: Callable[..., Any], tmp_path: Path
):
    result = 'Outcome(examples={"accuracy": f1 > 0.5})'
    status, folder = train(tmp_path, result, 'metric="accuracy"')
    assert status == 0
    found = comparison(folder)["primary"]
    scores, _ = values_of()
    right = 1.0 * (scores > 0.5)
    expected = by_hand(right[1] - right[0], np.arange(right.shape[2]))
    assert (found["difference"], found["low"], found["high"]) == pytest.approx(expected, rel=1e-9)
    assert "new seeds and new test examples" in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("result", "how", "what"),
    [
        (RESULT, 'metric="f1"', "the experiment does not say what they are"),
        (
            'Outcome(examples={"f1": f1[trial.seed:]})',
            'metric="f1"',
            "it has 32 test examples, seed 00, plain had 33",
        ),
        (
            'Outcome(examples={"f1": f1}, clusters=np.roll(PASSAGE, trial.seed))',
            HOW,
            "its clusters, or their order, are not those of seed 00, plain",
        ),
        (RESULT, 'metric="bleu", cluster="passage"', 'has no "bleu" to compare'),
    ],
)
def test_scores_that_do_not_fit_fail_at_once(
    result: str,
    how: str,
    what: str,
    train: Callable[..., Any],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
):
    status, _ = train(tmp_path, result, how, seeds=2)
    assert status != 0 and what in capfd.readouterr().err
