"""Scores of test examples: what is taken, what is refused, and clusters of them."""

from typing import Any

import numpy as np
import pytest

from bench.analysis.data.examples import BadExamples, Examples, means_by


def test_arrays_lists_booleans_and_tensors_are_taken():
    torch = pytest.importorskip("torch")
    scores = torch.tensor([0.5, 1.0], requires_grad=True)
    found = Examples({"a": [1, 0], "b": np.array([True, False]), "c": scores})
    assert {name: found.values[name].tolist() for name in "abc"} == {
        "a": [1.0, 0.0],
        "b": [1.0, 0.0],
        "c": [0.5, 1.0],
    }
    assert len(found) == 2 and found.weights is None and found.order == b""


def test_a_column_is_the_mean_of_its_cluster_in_the_order_of_first_appearance():
    found = Examples({"f1": [1.0, 0.0, 0.5, 0.25]}, ["z", "a", "z", "z"])  # type: ignore[arg-type]
    assert found.columns("f1").tolist() == pytest.approx([1.75 / 3, 0.0])
    assert found.weights is not None and found.weights.tolist() == [3.0, 1.0]
    assert found.order == b"z\0a\0z\0z"


def test_clusters_of_equal_size_count_alike():
    assert Examples({"f1": np.arange(6.0)}, np.array([7, 7, 3, 3, 5, 5])).weights is None


def test_the_mean_of_an_empty_place_is_no_number():
    found = means_by(np.array([0, 2, 2]), np.array([1.0, 2.0, 4.0]), 3)
    assert found[[0, 2]].tolist() == [1.0, 3.0] and np.isnan(found[1])


REFUSED: list[tuple[Any, Any, str, str]] = [
    ([0.1, 0.2], None, r"examples are '\[0.1, 0.2\]', not a dictionary", "one number an example"),
    ({}, [1, 2], "examples are '{}', not a dictionary", "one number an example"),
    ({"a": 0.3}, None, r"examples\['a'\] has shape \(\) and holds float64; it needs", ""),
    ({"a": []}, None, r"examples\['a'\] has shape \(0,\)", ""),
    ({"a": [[0.1], [0.2]]}, None, r"has shape \(2, 1\)", ""),
    ({"a": ["x", "y"]}, None, "holds <U1; it needs shape", ""),
    ({"a": [0.1, None]}, None, "holds object", ""),
    ({"a": [0.1, float("nan"), np.inf]}, None, "2 of 3 values of .* are NaN", "the worst one"),
    ({"a": [0.1, -1e61]}, None, r"1 of 2 values .* or beyond 1e\+60", "the worst one"),
    ({"a": [1, 2], "b": [1]}, None, r"\['b'\] has 1 values, .*\['a'\] has 2", "by every name"),
    ({"accuracy": [94.0, 97.0]}, None, "accuracy lies between 0 and 1", "by 100"),
    ({"a": [1, 2]}, [1, 2, 3], r"clusters have shape \(3,\) and hold int64; there are 2", ""),
    ({"a": [1, 2]}, [1.0, 2.0], "hold float64; there are 2 examples", ""),
    ({"a": [1, 2]}, np.array([1, "x"], dtype=object), "hold object", ""),
    ({"a": [1, 2]}, ["p", "p"], "all 2 examples lie in one cluster", "several clusters"),
]


@pytest.mark.parametrize(("values", "clusters", "what", "fix"), REFUSED)
@pytest.mark.sample(20)
def test_what_is_no_table_of_numbers_is_refused(values: Any, clusters: Any, what: str, fix: str):
    with pytest.raises(BadExamples, match=what) as caught:
        Examples(values, clusters)
    assert fix in (caught.value.fix or "")
