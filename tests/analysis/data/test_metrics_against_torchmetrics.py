"""Our equal-width ECE and MCE against torchmetrics', away from the edges of its bins.

torchmetrics puts a confidence on an edge into the bin above it, [lo, hi); ours, as in Guo et al.
(2017), into the bin below, (lo, hi]. Elsewhere both must say the same.
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bench.analysis.calibration.errors import max_error
from bench.analysis.data.metrics import Predictions, confidence, correct, ece

AWAY = 1e-4  # torchmetrics rounds confidences and edges to float32


def predictions(rng: np.random.Generator, n: int, classes: int, *, bins: int) -> Predictions:
    """Draw predictions, of every confidence, none of which lies on an edge of a bin."""
    sharp = rng.uniform(0.1, 6, size=(n, 1))
    logits = sharp * rng.normal(size=(n, classes))
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    sure = np.exp(log_p.max(axis=1)) * bins
    log_p = log_p[np.abs(sure - np.rint(sure)) > AWAY * bins]
    labels = np.where(
        rng.random(len(log_p)) < 0.6, log_p.argmax(axis=1), rng.integers(classes, size=len(log_p))
    )
    return Predictions(log_p.astype(np.float32), labels)


def theirs(p: Predictions, *, bins: int, norm: str = "l1") -> float:
    import torch  # here: both take ten seconds, which no other test needs to wait for
    from torchmetrics.functional import classification

    found: Any = classification.multiclass_calibration_error(
        torch.from_numpy(np.exp(p.log_probabilities.astype(np.float64))),
        torch.from_numpy(p.labels.copy()),
        num_classes=p.log_probabilities.shape[1],
        n_bins=bins,
        norm=norm,
    )
    return float(found)


@given(
    st.integers(0, 2**32 - 1), st.sampled_from([2, 3, 10, 100]), st.sampled_from([1, 5, 10, 15, 40])
)
@settings(max_examples=40)
def test_both_errors_agree_away_from_the_edges_of_bins(seed: int, classes: int, bins: int):
    p = predictions(np.random.default_rng(seed), 300, classes, bins=bins)
    sure, right = confidence(p), correct(p)
    assert ece(sure, right, bins=bins) == pytest.approx(theirs(p, bins=bins), abs=2e-6)
    assert max_error(sure, right, bins=bins) == pytest.approx(
        theirs(p, bins=bins, norm="max"), abs=2e-5
    )


def test_an_edge_belongs_to_the_bin_below_here_and_to_the_bin_above_there():
    # 0.5 is exact in binary, and an edge of two bins
    p = Predictions(np.log(np.array([[0.5, 0.5], [0.75, 0.25]], np.float32)), np.array([0, 1]))
    assert ece(confidence(p), correct(p), bins=2) == pytest.approx((0.5 + 0.75) / 2)
    assert theirs(p, bins=2) == pytest.approx(abs((0.5 + 0.75) / 2 - 0.5))
