"""What the tests of designs share."""

from collections.abc import Callable
from typing import Any

import pytest

from bench.design.description import Discovered, described
from bench.experiment import Experiment, Outcome


def _found(**changes: Any) -> Discovered:
    values: dict[str, Any] = {
        "name": "mine",
        "question": "Does it help?",
        "arms": {"off": {"epsilon": 0.0}, "on": {"epsilon": 0.1}},
        "settings": {"epochs": 20, "lr": 1e-3, "mode": "fast", "flag": True, "seen": None},
        "train": lambda trial: Outcome(scores={"return": 1.0}),
    }
    experiment = described(Experiment(**{**values, **changes}))
    return Discovered(experiment, "mine.py", {"mine.py": "x = 1"}, {"mine.py": "5"})


@pytest.fixture(scope="session")
def found() -> Callable[..., Discovered]:
    """Return what describes an experiment with two arms, with changes."""
    return _found
