"""What the tests of calibration share."""

import numpy as np
import pytest

from bench.analysis.data.metrics import Predictions


def _numbers(c):
    """Return what is measured of a run."""
    return [v for k, v in vars(c).items() if k not in ("arm", "seed", "scaled", "temperature")]


def _drawn(n, classes, rng, *, sharper=1.0):
    """Return predictions whose labels follow them, then made sharper by a factor."""
    logits = rng.normal(size=(n, classes)) * 2
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    labels = (np.cumsum(np.exp(logits), axis=1) < rng.random((n, 1))).sum(axis=1)
    logits *= sharper
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return Predictions(logits.astype(np.float32), np.minimum(labels, classes - 1))


@pytest.fixture(scope="session")
def numbers():
    """Return the function itself."""
    return _numbers


@pytest.fixture(scope="session")
def drawn():
    """Return the function itself."""
    return _drawn
