"""Own metrics: functions of predictions that are called when a training ends."""

from collections.abc import Callable

import numpy as np
import pytest

from bench.analysis.data.own_metrics import own_metrics

TOP = """
from bench import Metric

def predictions(trial):
    p = trial.rng("init").uniform(0.1, 0.9, size=60)
    return Predictions(np.log(np.c_[1 - p, p]), np.arange(60) % 2)

def cost(predictions):
    wrong = predictions.log_probabilities.argmax(axis=1) != predictions.labels
    return 5 * wrong[predictions.labels == 1].mean() + wrong[predictions.labels == 0].mean()
"""
METRICS = 'metrics=[Metric("cost", of=cost, higher_is_better=False)]'
Write = Callable[..., str]
Run = Callable[..., object]


def test_a_run_records_the_value_and_what_its_interval_rests_on(train: Run, scored: Write):
    path = scored("return Outcome(test=predictions(trial))", top=TOP, extra=METRICS)
    result = train(path).success()
    own, test = own_metrics(result.outcome.facts)["cost"], result.outcome.test
    wrong = test.log_probabilities.argmax(axis=1) != test.labels
    value = 5 * wrong[1::2].mean() + wrong[::2].mean()
    assert result.outcome.scores["cost"] == pytest.approx(value)
    assert (own.label, own.higher_is_better) == ("cost", False)
    assert own.columns.shape == (40,) and own.columns.mean() == pytest.approx(value)
    assert np.ptp(own.columns) > 0


@pytest.mark.parametrize(
    ("body", "metrics", "what"),
    [
        ("return score(1.0)", METRICS, "'cost' is a function of test predictions, and the"),
        (
            'return Outcome(test=predictions(trial), scores={"cost": 1.0})',
            METRICS,
            "a score 'cost', which is a metric of the experiment",
        ),
        (
            "return Outcome(test=predictions(trial))",
            'metrics=[Metric("cost", of=lambda p: None)]',
            "metric 'cost' gave 'None', not a finite number",
        ),
    ],
    ids=["no predictions", "a score of its name", "no number"],
)
def test_what_cannot_be_computed_fails_its_run_by_name(
    body: str, metrics: str, what: str, train: Run, scored: Write
):
    failure = train(scored(body, top=TOP, extra=metrics)).failure()
    assert what in failure.what
