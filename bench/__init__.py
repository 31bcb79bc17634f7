"""bench: paired comparisons of trainings that hold up.

What an experiment of your own imports, and what Python asks; the README shows both.
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.analysis.errors import Refusal as Refusal
    from bench.experiment import (
        Experiment as Experiment,
        Metric as Metric,
        Outcome as Outcome,
        Predictions as Predictions,
        Trial as Trial,
    )
    from bench.python_api.compare import compare as compare
    from bench.python_api.load import load as load
    from bench.python_api.run import run as run

__version__ = "0.1.0"
__all__ = [
    "Experiment",
    "Metric",
    "Outcome",
    "Predictions",
    "Refusal",
    "Trial",
    "compare",
    "load",
    "run",
]
_HOMES = {name: f"bench.python_api.{name}" for name in ("compare", "load", "run")}
_HOMES["Refusal"] = "bench.analysis.errors"

if (Path(__file__).parent / "analysis").is_file():  # a link that came as a text file
    __path__.append(str(Path(__file__).parents[1]))


def __getattr__(name: str) -> Any:
    # The contract needs numpy, and `bench --help` does not: it is imported on first use.
    if name not in __all__:
        raise AttributeError(f"module 'bench' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "bench.experiment")), name)
