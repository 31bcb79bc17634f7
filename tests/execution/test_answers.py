"""Answers: results go through files and come back the same, to the last bit."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.design.plan import TrialKey
from bench.design.results import Failure, Job, Result, Success
from bench.execution import answers
from bench.experiment import Outcome, Predictions
from bench.store import artifacts

KEY = TrialKey("an arm: é/\\", 3)


def predictions(seed: int, *, dtype: Any = np.float64) -> Predictions:
    p = np.random.default_rng(seed).dirichlet(np.ones(3), size=5)
    return Predictions(np.log(p).astype(dtype), np.arange(5) % 3)


def success(folder: Path, **outcome: Any) -> Success:
    return Success(
        key=KEY,
        outcome=Outcome(**outcome),
        epochs=[{"epoch": 0, "time": 0.1 + 0.2, "loss": float("inf")}],
        duration_s=1 / 3,
        started_at=1e9 / 7,
        device="cuda:1",
        threads=2,
        log="",
        attempt=2,
        environment={"torch": "2.9"},
        folder=folder / "own",
    )


def there_and_back(folder: Path, *results: Result) -> list[Result]:
    answers.write(folder, results)
    found = answers.read(folder, log="what it printed")
    assert found is not None
    return found


def test_a_success_comes_back_to_the_last_bit(tmp_path: Path):
    sent = success(
        tmp_path,
        test=predictions(0),
        test_last=predictions(1, dtype=np.float32),
        validation=predictions(2),
        scores={"return": 0.1 + 0.2},
        selected_epoch=np.int64(7),
        facts={"notes": ["a", {"b": None}], "n": 3},
    )
    (found,) = there_and_back(tmp_path, sent)
    assert isinstance(found, Success) and found.fingerprint() == sent.fingerprint()
    assert found.log == "what it printed" and found.key == KEY
    for name in ("epochs", "duration_s", "started_at", "device", "threads", "attempt", "folder"):
        assert getattr(found, name) == getattr(sent, name)
    assert found.environment == {"torch": "2.9"}
    assert found.outcome.facts == {"notes": ["a", {"b": None}], "n": 3}
    assert found.outcome.selected_epoch == 7 and type(found.outcome.selected_epoch) is int
    for split in artifacts.SPLITS:
        a, b = getattr(found.outcome, split), getattr(sent.outcome, split)
        assert a.log_probabilities.dtype == b.log_probabilities.dtype
        assert a.labels.tobytes() == b.labels.tobytes() and a.labels.dtype == b.labels.dtype


@pytest.mark.parametrize("clusters", [None, [3, 1, 3], ["é", "b", "é"]])
@pytest.mark.sample(3)
def test_scores_of_examples_come_back_with_their_clusters(tmp_path: Path, clusters: Any):
    scores = {"F-1/é": [0.1 + 0.2, 1e-300, -5.0], "file": [1, 2, 3]}
    sent = success(tmp_path, examples=scores, clusters=clusters)
    (found,) = there_and_back(tmp_path, sent)
    assert isinstance(found, Success) and found.fingerprint() == sent.fingerprint()
    assert {n: v.tolist() for n, v in found.outcome.examples.items()} == scores
    assert np.array_equal(found.outcome.clusters, sent.outcome.clusters)


def test_what_was_not_returned_is_none(tmp_path: Path):
    first, second = there_and_back(
        tmp_path, success(tmp_path, scores={"return": 1.0}), success(tmp_path, test=predictions(0))
    )
    assert isinstance(first, Success) and isinstance(second, Success)
    assert first.outcome.test is None and first.outcome.selected_epoch is None
    assert second.outcome.test is not None and second.outcome.validation is None
    assert second.outcome.scores == {}


def test_a_failure_comes_back_whole(tmp_path: Path):
    sent = Failure(
        key=KEY,
        code="training",
        what="ValueError: \udc80 \x00 \x1b[2J",  # a lone surrogate, as of an odd file name
        facts=("one", "two"),
        traceback="Traceback …",
        error="ValueError",
        place="mine.py, line 3",
        epochs=[{"epoch": 0, "loss": 0.5}],
        attempt=2,
        retryable=True,
        folder=tmp_path,
    )
    (found,) = there_and_back(tmp_path, sent)
    assert isinstance(found, Failure)
    for name in sent.__dataclass_fields__:
        expected = "what it printed" if name == "log" else getattr(sent, name)
        assert getattr(found, name) == expected


def test_the_results_of_a_pack_keep_their_order_and_arrays(tmp_path: Path):
    sent = [success(tmp_path, test=predictions(seed)) for seed in range(12)]
    found = there_and_back(tmp_path, *sent)
    prints = [result.fingerprint() for result in found if isinstance(result, Success)]
    assert prints == [result.fingerprint() for result in sent] and len(set(prints)) == 12


def test_no_answer_is_none_and_half_an_answer_is_none(tmp_path: Path):
    assert answers.read(tmp_path, log="") is None
    (tmp_path / f".{answers.ANSWER}").write_text("[")  # its process was killed while it wrote
    assert answers.read(tmp_path, log="") is None


def test_an_answer_appears_after_all_that_it_refers_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: list[set[str]] = []
    replace = os.replace

    def watched(source: Path, target: Path) -> None:
        seen.append({path.name for path in tmp_path.iterdir()})
        json.loads(Path(source).read_text())
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    answers.write(tmp_path, [success(tmp_path, test=predictions(0))])
    assert seen == [{"0.npz", ".answer.json"}]


@pytest.mark.parametrize("facts", [{"a": {(1, 2): 3}}, "loop"])
def test_facts_that_json_does_not_know_are_refused_and_leave_no_answer(facts: Any, tmp_path: Path):
    if facts == "loop":
        facts = {}
        facts["itself"] = facts
    result = success(tmp_path, scores={"x": 1.0})
    object.__setattr__(result.outcome, "facts", facts)  # past the contract's own checks
    with pytest.raises((TypeError, ValueError)):
        answers.write(tmp_path, [result])
    assert answers.read(tmp_path, log="") is None


def test_arrays_of_objects_are_neither_written_nor_read(tmp_path: Path, monkeypatch: Any):
    answers.write(tmp_path, [success(tmp_path, test=predictions(0))])
    np.savez(tmp_path / "0.npz", **{"test_labels": np.array([None]), "test_log_probabilities": 1})
    with pytest.raises(ValueError, match="allow_pickle"):
        answers.read(tmp_path, log="")


def test_runs_of_a_pack_have_folders_apart(tmp_path: Path):
    keys = [TrialKey(arm, seed) for arm in ("a", "a/b", "a\\b", "..", "é") for seed in (1, 11)]
    folders = {answers.run_folder(tmp_path, key) for key in keys}
    assert len(folders) == len(keys) and {folder.parent for folder in folders} == {tmp_path}


def test_a_job_goes_through_json_and_comes_back_the_same():
    keys = (TrialKey("off", 0), TrialKey("on", 0))
    job = Job(
        pack=3,
        keys=keys,
        settings={"off": {"x": 0}, "on": {"x": [1, None, "é"]}},
        reference="/a/b.py",
        source_digest="d",
        data_dir=None,
        timeout_s=1.5,
        draws={keys[0]: {"seed": 0, "varied": "order", "drawn": 2**63}},
        attempt=2,
        folders="/f",
        devices=2,
        reuse_process=True,
    )
    assert Job.from_dict(json.loads(json.dumps(job.as_dict()))) == job
    assert job.only(keys[1:]).keys == keys[1:] and job.only(keys[1:]).pack == 3


def test_a_fingerprint_knows_the_last_bit_and_every_split(tmp_path: Path):
    p = predictions(0)
    nudged = p.log_probabilities.copy()
    nudged[0, 0] = np.nextafter(nudged[0, 0], -9)
    outcomes: list[dict[str, Any]] = [
        {"test": p},
        {"test": Predictions(nudged, p.labels)},
        {"test": p, "validation": p},
        {"test": p, "scores": {"x": 1.0}},
        {"test": p, "examples": {"x": [1.0] * 5}},
        {"test": p, "examples": {"x": [1.0] * 4 + [float(np.nextafter(1.0, 2))]}},
        {"test": p, "scores": {"x": float(np.nextafter(1.0, 2))}},
    ]
    prints = {success(tmp_path, **outcome).fingerprint() for outcome in outcomes}
    assert len(prints) == len(outcomes)
