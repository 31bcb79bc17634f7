"""bench: paired comparisons of trainings that hold up.

What an experiment of your own imports; the README shows one in 20 lines.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.experiment import (
        Experiment as Experiment,
        Metric as Metric,
        Outcome as Outcome,
        Predictions as Predictions,
        Trial as Trial,
    )

__version__ = "0.1.0"
__all__ = ["Experiment", "Metric", "Outcome", "Predictions", "Trial"]


if (Path(__file__).parent / "analysis").is_file():  # a link that came as a text file
    __path__.append(str(Path(__file__).parents[1]))


def __getattr__(name: str) -> Any:
    # The contract needs numpy, and `bench --help` does not: it is imported on first use.
    if name not in __all__:
        raise AttributeError(f"module 'bench' has no attribute {name!r}")
    from bench import experiment

    return getattr(experiment, name)
