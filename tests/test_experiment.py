"""The contract: streams that do not disturb each other, and refusals that say what to write."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from bench.analysis.errors import BadPredictions
from bench.experiment import (
    BadExperiment,
    BadOutcome,
    Diverged,
    Experiment,
    Metric,
    Outcome,
    Predictions,
    Trial,
)

STREAMS = ("init", "subset", "order", "augment", "dropout", "one of my own")


def trial(seed: int = 7, arm: str = "baseline", **settings: Any) -> Trial:
    return Trial(seed=seed, arm=arm, settings=settings)


def experiment(**changes: Any) -> Experiment:
    values: dict[str, Any] = {
        "name": "mine",
        "question": "Does it help?",
        "arms": {"baseline": {"epsilon": 0.0}, "smoothed": {"epsilon": 0.1}},
        "train": lambda trial: Outcome(scores={"return": 1.0}),
    }
    return Experiment(**{**values, **changes})


# -- streams ---------------------------------------------------------------------------------


def test_a_stream_is_the_same_in_every_arm():
    first, second = trial(arm="baseline", epsilon=0.0), trial(arm="smoothed", epsilon=0.1)
    for stream in STREAMS:
        assert np.array_equal(first.rng(stream).random(5), second.rng(stream).random(5))


def test_every_stream_and_every_seed_draws_numbers_of_its_own():
    draws = {
        tuple(trial(seed).rng(stream).integers(2**63, size=2))
        for seed in range(20)
        for stream in STREAMS
    }
    assert len(draws) == 20 * len(STREAMS)


def test_a_second_call_goes_on_where_the_first_stopped():
    whole = trial().rng("order").random(6)
    mine = trial()
    parts = [mine.rng("order").random(2), mine.rng("order").random(4)]
    assert np.array_equal(np.concatenate(parts), whole)


@given(st.sampled_from(STREAMS), st.integers(0, 50))
def test_one_more_draw_in_one_stream_shifts_no_other(greedy: str, extra: int):
    mine, calm = trial(), trial()
    mine.rng(greedy).random(extra)
    for stream in STREAMS:
        if stream != greedy:
            assert mine.rng(stream).random() == calm.rng(stream).random()


def test_a_stream_keeps_its_numbers_in_later_versions_of_bench():
    # Published results rest on these: a change here changes every benchmark.
    assert trial(7).rng("init").integers(10**6, size=3).tolist() == [322603, 92111, 366646]
    assert trial(2**32 - 1).rng("order").random() == 0.6662673280042213


def test_torch_streams_are_seeded_apart_stateful_and_the_same_in_every_arm():
    torch = pytest.importorskip("torch")
    first, second = trial(arm="baseline"), trial(arm="smoothed")
    a, b = (t.torch_rng("init") for t in (first, second))
    assert torch.equal(torch.rand(4, generator=a), torch.rand(4, generator=b))
    assert first.torch_rng("init") is a
    others = [torch.rand(1, generator=first.torch_rng(s)).item() for s in STREAMS[1:]]
    assert len(set(others)) == len(others)
    assert torch.equal(  # drawing from the numpy stream of that name changes nothing
        torch.rand(4, generator=a), torch.rand(4, generator=second.torch_rng("init"))
    )


# -- epochs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_is_recorded_and_then_ends_the_training(loss: float):
    seen: list[tuple[int, dict[str, float]]] = []
    mine = Trial(seed=0, arm="a", settings={}, on_epoch=lambda e, v: seen.append((e, v)))
    with pytest.raises(Diverged, match=rf"^train/loss became {loss} at epoch 4\.$") as caught:
        mine.log(4, {"train/loss": loss, "lr": 0.1})
    assert (caught.value.code, caught.value.exit_status) == ("nan", 3)
    assert seen[0][0] == 4 and seen[0][1]["lr"] == 0.1


def test_only_a_loss_ends_a_training():
    trial().log(0, {"val/auc": float("nan"), "train/loss": 0.3})


def test_whatever_turns_into_a_number_can_be_logged():
    seen: list[dict[str, float]] = []
    mine = Trial(seed=0, arm="a", settings={}, on_epoch=lambda e, v: seen.append(v))
    mine.log(np.int64(0), {"train/loss": np.float32(0.5), "steps": np.int32(3)})
    assert seen == [{"train/loss": 0.5, "steps": 3.0}]
    assert {type(v) for v in seen[0].values()} == {float}


@pytest.mark.parametrize("name", ["top@5", "loss (raw)", "", "a" * 251, "a//b", "../up", " a"])
def test_a_name_that_the_store_cannot_hold_is_refused_where_it_is_logged(name: str):
    with pytest.raises(BadOutcome, match="nothing can be logged under the name") as caught:
        trial().log(0, {name: 1.0})
    assert "letters, digits" in caught.value.facts[0] and "val/top-5" in str(caught.value.fix)


@pytest.mark.parametrize("name", ["loss", "val/top-5", "Größe", "lr group:1.0", "a" * 250])
def test_an_ordinary_name_can_be_logged(name: str):
    trial().log(0, {name: 1.0})


@pytest.mark.parametrize("name", ["epoch", "time"])
def test_the_two_columns_of_benchs_own_cannot_be_logged(name: str):
    with pytest.raises(BadOutcome, match=f'"{name}" of every epoch is bench\'s own') as caught:
        trial().log(0, {name: 1.0})
    assert f'"time/{name}"' in str(caught.value.fix)


# -- outcomes --------------------------------------------------------------------------------


def test_an_outcome_without_predictions_or_scores_is_refused():
    with pytest.raises(BadOutcome, match="neither test predictions nor scores") as caught:
        Outcome(facts={"n": 3})
    assert caught.value.fix is not None
    assert 'Outcome(scores={"return": 312.0})' in caught.value.fix
    assert (caught.value.code, caught.value.exit_status) == ("outcome", 3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_no_finite_number_is_refused(value: float):
    with pytest.raises(BadOutcome, match=f"score 'return' is {value}, not a finite number"):
        Outcome(scores={"return": value})


def test_a_score_whose_name_the_store_cannot_hold_is_refused():
    with pytest.raises(BadOutcome, match="nothing can be logged under the name 'top@5'"):
        Outcome(scores={"top@5": 0.9})


def test_scores_of_every_example_are_an_outcome():
    found = Outcome(examples={"f1": [0.5, 1.0]}, clusters=["a", "b"])
    assert found.scored is not None and found.examples["f1"].tolist() == [0.5, 1.0]
    assert replace(found, facts={"n": 1}).clusters.tolist() == ["a", "b"]


TWO = Predictions(np.log(np.full((2, 2), 0.5)), np.array([0, 1]))


@pytest.mark.parametrize(
    ("given", "what", "fix"),
    [
        ({"examples": {"f@1": [1, 2]}}, "nothing can be logged under the name 'f@1'", "top-5"),
        ({"examples": {"f1": [1, 2]}, "scores": {"f1": 1}}, "'f1' is a score of", "of scores"),
        ({"examples": {"nll": [1, 2]}, "test": TWO}, "'nll' is a score of every", "my nll"),
        ({"examples": {"f1": [1, 2, 3]}, "test": TWO}, "for 2 examples, and examples of 3", "same"),
        (
            {"examples": {"f1": [1, 2]}, "test": TWO, "clusters": [1, 2]},
            "clusters were returned with test predictions",
            "score them yourself",
        ),
    ],
)
@pytest.mark.sample(5)
def test_examples_that_contradict_the_rest_are_refused(given: Any, what: str, fix: str):
    with pytest.raises(BadOutcome, match=what) as caught:
        Outcome(**given)
    assert fix in (caught.value.fix or "")


def test_clusters_have_a_name_and_examples_have_clusters():
    with_clusters = Outcome(examples={"f1": [1, 2]}, clusters=[1, 2])
    with pytest.raises(BadOutcome, match="the experiment does not say what they are") as caught:
        experiment().require_clusters_named(with_clusters)
    assert 'cluster="passage"' in (caught.value.fix or "")
    named = experiment(cluster="passage")
    named.require_clusters_named(with_clusters)
    named.require_clusters_named(Outcome(scores={"f1": 1.0}))
    with pytest.raises(BadOutcome, match="no clusters, and each example has a passage"):
        named.require_clusters_named(Outcome(examples={"f1": [1, 2]}))


# -- experiments -----------------------------------------------------------------------------


def test_an_experiment_has_a_baseline_and_settings_for_every_arm():
    mine = experiment(settings={"epochs": 3, "epsilon": 9.0})
    assert mine.baseline == "baseline"
    assert mine.arm_settings("smoothed") == {"epochs": 3, "epsilon": 0.1}


REFUSED = [
    ({"name": " "}, "the experiment has no name", "my-experiment"),
    ({"arms": {"only": {}}}, "'mine' has 1 arm; a comparison needs two", "baseline"),
    ({"arms": {}}, "'mine' has 0 arm", "smoothed"),
    ({"train": None}, "train of experiment 'mine' is not a function", "returns an Outcome"),
    (
        {"metric": "nll"},
        "nll is better when lower.*higher_is_better=True",
        "higher_is_better=False",
    ),
    ({"higher_is_better": False}, "accuracy is better when higher", "higher_is_better=True"),
    ({"margin": 0.0}, "margin is 0.0; it must be a number above 0", "0.3 pp"),
    ({"margin": -0.1}, "margin is -0.1", "margin=None"),
    ({"margin": float("nan")}, "margin is nan", "margin=None"),
    ({"claim": float("inf")}, "claim is inf; it must be a number, in metric units", None),
    ({"arms": "abc"}, "arms is 'abc'; it must be a dictionary of names to settings", None),
    ({"arms": ["a", "b"]}, r"arms is \['a', 'b'\]; it must be a dictionary", None),
    ({"arms": {"a": 1, "b": {}}}, "arm 'a' has 1; arms is a dictionary of names", "smoothed"),
    ({"arms": {0: {}, 1: {}}}, "arm 0 has {}; arms is a dictionary of names", "smoothed"),
    ({"settings": [("lr", 0.1)]}, "settings is .*; it must be a dictionary", None),
    ({"name": 3}, "name is 3; it must be a text", None),
    ({"metric": None}, "metric is None; it must be a text", None),
    ({"margin": "0.3 pp"}, "margin is '0.3 pp'; it must be a number", None),
    ({"claim": "big"}, "claim is 'big'; it must be a number", None),
    ({"pack_seeds": "3"}, "pack_seeds is '3'; it must be 1 or more", None),
    ({"cluster": 3}, "cluster is 3; it must be a text", None),
    ({"cluster": "a\nb"}, "cluster is 'a.nb'; it must be one word or two", "passage"),
    ({"datasets": "abc"}, "datasets are 'abc'; they must be several different names", "svhn"),
    ({"datasets": ["a"]}, "must be several different names", "where there is one"),
    ({"datasets": ["a", "a"]}, "must be several different names", None),
    ({"datasets": ["a", "b:c"]}, "must be several different names", None),
    ({"datasets": 3}, "datasets is 3; it must be a list of names", None),
    (
        {"datasets": ["a", "b"], "settings": {"dataset": "a"}},
        "a setting is called dataset",
        "trial.dataset",
    ),
    ({"pack_seeds": 0}, "pack_seeds is 0; it must be 1 or more", None),
]


@pytest.mark.parametrize(("changes", "what", "fix"), REFUSED)
def test_an_experiment_that_cannot_run_is_refused(changes: Any, what: str, fix: str | None):
    with pytest.raises(BadExperiment, match=what) as caught:
        experiment(**changes)
    assert caught.value.exit_status == 2
    if fix is not None:
        assert fix in (caught.value.fix or "")


def test_a_metric_of_the_users_own_may_go_either_way():
    assert experiment(metric="return").metric == "return"
    assert not experiment(metric="regret", higher_is_better=False).higher_is_better


# -- the package -----------------------------------------------------------------------------


def test_bench_gives_exactly_the_contract_and_what_python_asks():
    import bench
    from bench import experiment as contract
    from bench.analysis.errors import Refusal
    from bench.python_api.compare import compare
    from bench.python_api.load import load
    from bench.python_api.run import run

    assert {name: getattr(bench, name) for name in bench.__all__} == {
        **{
            name: getattr(contract, name)
            for name in ("Experiment", "Metric", "Outcome", "Predictions", "Trial")
        },
        **{"Refusal": Refusal, "compare": compare, "load": load, "run": run},
    }
    with pytest.raises(AttributeError, match="module 'bench' has no attribute 'Trail'"):
        _ = bench.Trail


@pytest.mark.parametrize("epoch", [-1, 1.5, 2**31, True, "3", None, float("nan")])
def test_an_epoch_is_a_whole_number_from_zero_on(epoch: Any):
    trial = Trial(seed=0, arm="a", settings={})
    with pytest.raises(BadOutcome, match=r"takes a whole number|was logged"):
        trial.log(epoch, {"train/loss": 1.0})


@pytest.mark.parametrize("epoch", [np.int64(3), 3.0, np.float32(3), np.array(3)])
def test_an_epoch_may_be_of_any_numeric_type(epoch: Any):
    seen: list[Any] = []
    trial = Trial(seed=0, arm="a", settings={}, on_epoch=lambda *given: seen.append(given))
    trial.log(epoch, {"train/loss": np.float32(0.5)})
    assert seen == [(3, {"train/loss": 0.5})] and type(seen[0][0]) is int


@pytest.mark.parametrize("value", ["high", [1.0, 2.0], None, 10**400])
def test_what_is_logged_is_one_number(value: Any):
    with pytest.raises(BadOutcome, match=r"'train/loss' is \w+ .*, not one number\."):
        Trial(seed=0, arm="a", settings={}).log(0, {"train/loss": value})


@pytest.mark.parametrize("facts", [{1: "x"}, {("a", "b"): 1}, {"a": {2: 3}}])
def test_facts_have_texts_as_keys(facts: Any):
    with pytest.raises(BadOutcome, match="keys are texts"):
        Outcome(scores={"r": 1.0}, facts=facts)


@pytest.mark.parametrize("value", [object(), {1, 2}, b"x", np.zeros(3)])
def test_facts_that_json_does_not_know_are_refused(value: Any):
    with pytest.raises(BadOutcome, match="which cannot be recorded"):
        Outcome(scores={"r": 1.0}, facts={"a": [value]})


def test_numbers_of_numpy_become_pythons():
    found = Outcome(
        scores={"r": np.float64(1)},
        facts={"n": np.int64(3), "deep": {"x": (np.float32(0.5), None)}},
        selected_epoch=np.int32(4),  # type: ignore[arg-type]
    )
    assert found.facts == {"n": 3, "deep": {"x": [0.5, None]}} and type(found.facts["n"]) is int
    assert found.selected_epoch == 4 and type(found.selected_epoch) is int


@pytest.mark.parametrize("chosen", [1.5, "best", True])
def test_a_selected_epoch_is_a_whole_number(chosen: Any):
    with pytest.raises(BadOutcome, match="selected_epoch"):
        Outcome(scores={"r": 1.0}, selected_epoch=chosen)


def test_log_probabilities_of_any_framework_and_precision_are_taken():
    torch = pytest.importorskip("torch")
    logits = torch.randn(6, 3, requires_grad=True)
    labels = torch.arange(6) % 3
    expected = logits.detach().log_softmax(1).numpy()
    for precision in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        found = Predictions(logits.log_softmax(1).to(precision), labels)
        assert found.log_probabilities.dtype == np.float32
        assert np.abs(found.log_probabilities - expected).max() < 0.02
        assert found.labels.tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (np.full((4, 2), 0.5), "these are probabilities: pass their logarithm"),
        (np.array([[3.0, -1.0], [0.5, 2.0]]), "these look like logits"),
    ],
)
def test_probabilities_and_logits_are_named_as_such(given: Any, says: str):
    with pytest.raises(BadPredictions, match=says):
        Predictions(given, np.zeros(len(given), dtype=int))


# -- metrics of one's own ----------------------------------------------------------------------


def cost(predictions: Predictions) -> float:
    return 1.0


def test_a_metric_of_ones_own_decides():
    own = Metric("cost", of=cost, higher_is_better=False)
    mine = experiment(metric="cost", higher_is_better=False, metrics=[own])
    assert mine.metrics[0].label == "cost"


@pytest.mark.parametrize(
    ("metrics", "what"),
    [
        (cost, "metrics is .*; it must be a list of Metric"),
        ({"cost": cost}, "metrics is .*; it must be a list of Metric"),
        ([cost], "metrics is .*; it must be a list of Metric"),
        ([Metric("cost")], "metric 'cost' is not a plain number that a function"),
        ([Metric("cost", unit="fraction", of=cost)], "metric 'cost' is not a plain number"),
        ([Metric("auroc", of=cost)], "there is a metric 'auroc' already"),
        ([Metric("a", of=cost), Metric("a", of=cost)], "there is a metric 'a' already"),
        ([Metric("", of=cost)], "nothing can be logged under the name ''"),
        ([Metric("a@b", of=cost)], "nothing can be logged under the name 'a@b'"),
    ],
)
def test_what_is_no_metric_of_ones_own_is_refused(metrics: Any, what: str):
    with pytest.raises(BadExperiment, match=what) as caught:
        experiment(metrics=metrics)
    assert caught.value.fix


def test_the_direction_of_the_deciding_metric_is_that_of_its_function():
    own = Metric("cost", of=cost, higher_is_better=False)
    with pytest.raises(BadExperiment, match="cost is better when lower") as caught:
        experiment(metric="cost", metrics=[own])
    assert caught.value.fix == "higher_is_better=False"
    with pytest.raises(BadExperiment, match="aurc is better when lower"):
        experiment(metric="aurc")
