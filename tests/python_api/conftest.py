"""A table of three arms, an empty folder, and the text of a refusal."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

import bench as door

if TYPE_CHECKING:
    pass


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    base = rng.normal(0.8, 0.01, 12)
    other = {"new": base + rng.normal(0.005, 0.004, 12), "wild": base + rng.normal(0, 0.01, 12)}
    return pd.DataFrame({"seed": range(12), "base": base, **other})


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder, in which the test is."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def refused() -> Callable[[Callable[[], object]], str]:
    """Return what gives the whole text of a refusal."""

    def said(call: Callable[[], object]) -> str:
        with pytest.raises(door.Refusal) as caught:
            call()
        return str(caught.value)

    return said
