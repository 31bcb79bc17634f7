import copy
import json

import numpy as np
import pytest

from bench.analysis.study.findings import DamagedReport, Findings
from bench.analysis.study.recompute import recompute

# What needs validation examples or redrawn labels, which no report embeds.
NEEDS_PREDICTIONS = {"best_epoch_optimism", "optimism_low", "optimism_high"}


def stored(f):
    """Return the findings as JSON gives them back."""
    return json.loads(json.dumps(f.as_dict(), allow_nan=False))


def again(data):
    return recompute(Findings.from_dict(data), rng=np.random.default_rng(0))


@pytest.mark.sample(7)
def test_json_gives_the_findings_back(known, any_case):
    data = stored(known(any_case))
    assert Findings.from_dict(data).as_dict() == data


@pytest.mark.sample(7)
def test_every_study_can_be_computed_again(known, any_case):
    found = again(stored(known(any_case)))
    assert found.mismatches == ()
    assert found.n_values > 50


def numbers(value, path=()):
    """Walk to every number of JSON."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from numbers(part, (*path, key))
    elif isinstance(value, list):
        for i, part in enumerate(value):
            yield from numbers(part, (*path, i))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path


def changed(data, path):
    """Return the data with one number moved by its hundredth, or by one where it counts."""
    data = copy.deepcopy(data)
    *way, last = path
    place = data
    for step in way:
        place = place[step]
    place[last] = place[last] + 1 if isinstance(place[last], int) else place[last] * 1.01 + 1e-6
    return data


@pytest.mark.parametrize("name", ["rule3_better", "rule7_inconclusive", "three_treatments"])
def test_a_changed_number_is_found(known, name):
    data = stored(known(name))
    parts = {key: data[key] for key in ("arms", "comparisons", "calibration", "reliability")}
    paths = [
        path
        for path in numbers(parts)
        if "sufficient" not in path
        and "settings" not in path
        and not set(path) & {*NEEDS_PREDICTIONS, "looks", "n_collapsed", "n_failed"}
        and path[-1] not in ("collapse_low", "collapse_high")
    ]
    assert len(paths) > 200
    draw = np.random.default_rng(1)
    for i in draw.choice(len(paths), size=15, replace=False):
        found = again(changed(data, paths[i]))
        assert found.mismatches, f"{paths[i]} was changed and nothing noticed"


@pytest.mark.parametrize("side", ["baseline", "treatment"])
def test_a_changed_value_of_a_pair_is_found(known, side):
    data = stored(known("rule3_better"))
    where = {
        m.where for m in again(changed(data, ("comparisons", 0, "sufficient", side, 4))).mismatches
    }
    assert f"comparisons[0].sufficient.{side}[4]" in where
    assert "comparisons[0].primary.difference" in where


def test_a_run_that_is_given_another_value_is_found(known):
    data = stored(known("rule3_better"))
    place = next(i for i, run in enumerate(data["pairs"]) if run["seed"] == 7)
    found = again(changed(data, ("pairs", place, "value")))
    assert any(".sufficient." in m.where for m in found.mismatches)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: data.update(schema="bench.report/0"), "no data of the schema"),
        (lambda data: data.pop("plan"), "not whole"),
        (lambda data: data["plan"].update(alpha="much"), "not whole"),
        (lambda data: data["comparisons"][0].pop("primary"), "not whole"),
        (lambda data: data.update(arms=None), "not whole"),
        (lambda data: data.update(comparisons="none"), "not whole"),
    ],
)
def test_damaged_data_are_refused(known, damage, says):
    data = stored(known("rule3_better"))
    damage(data)
    with pytest.raises(DamagedReport, match=says):
        Findings.from_dict(data)


@pytest.mark.parametrize("data", [None, [], "text", 3])
def test_what_is_no_object_is_refused(data):
    with pytest.raises(DamagedReport, match="no data of the schema"):
        Findings.from_dict(data)
