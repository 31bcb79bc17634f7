import json
import weakref
from collections.abc import Mapping

import pytest

from bench.analysis.data.metrics import Predictions
from bench.analysis.study.conclude import conclude
from bench.analysis.study.summary import DamagedReport, Summary


def stored(summary):
    """Return a summary as JSON gives it back."""
    return json.loads(json.dumps(summary.as_dict(), allow_nan=False))


def test_json_gives_the_summary_back(known, any_case):
    summary = known(any_case).summary
    assert Summary.from_dict(stored(summary)) == summary


def test_findings_follow_from_the_summary_alone(known, any_case):
    f = known(any_case)
    assert conclude(Summary.from_dict(stored(f.summary))).as_dict() == f.as_dict()


def test_the_summary_does_not_grow_with_the_test_set(simulate):
    few, many = (
        len(json.dumps(simulate(n_seeds=6, n_test=n).findings().summary.as_dict()))
        for n in (100, 5000)
    )
    assert many < 1.2 * few


def test_what_only_predictions_can_show_is_marked(known):
    marked = " ".join(known("rule3_better").summary.as_dict()["not_recomputed"])
    for what in ("B5", "temperature", "noise floor", "B6", "kurtosis", "best epoch"):
        assert what in marked


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("design"),
        lambda data: data["design"].update(alpha="much"),
        lambda data: data["treatments"][0].pop("pairs"),
        lambda data: data.update(runs=None),
        lambda data: data["runs"]["seed"].pop(),
        lambda data: data.update(treatments="none"),
        lambda data: data.update(seed=1.5),
    ],
)
def test_damaged_data_are_refused(known, damage):
    data = stored(known("rule3_better").summary)
    damage(data)
    with pytest.raises(DamagedReport, match="not whole"):
        Summary.from_dict(data)


@pytest.mark.parametrize("data", [None, [], "text", 3])
def test_what_is_no_object_is_refused(data):
    with pytest.raises(DamagedReport, match="not whole"):
        Summary.from_dict(data)


class _ReadWhenAsked(Mapping):
    """Predictions of which each is made anew whenever asked for, and never two at a time."""

    def __init__(self, kept):
        self.kept, self.given = kept, []

    def __getitem__(self, key):
        assert not any(of() for _, of in self.given), "an earlier one is still alive"
        old = self.kept[key]
        found = Predictions(old.log_probabilities, old.labels)
        self.given.append((key, weakref.ref(found)))
        return found

    def __contains__(self, key):
        return key in self.kept

    def __iter__(self):
        return iter(self.kept)

    def __len__(self):
        return len(self.kept)


@pytest.mark.parametrize("shape", [{}, {"failed": {("smoothed", 3)}}, {"validation": False}])
def test_one_run_of_predictions_is_alive_at_a_time_and_read_once(simulate, shape):
    s = simulate(n_seeds=6, treatments=("smoothed", "other"), **shape)
    lazy = _ReadWhenAsked(s.tables.predictions)
    found = s.changed(predictions=lazy).findings()
    assert sorted(key for key, _ in lazy.given) == sorted(s.tables.predictions)
    assert found.summary == s.findings().summary
