"""bench: paired comparisons of trainings that hold up.

What an experiment of your own imports; the README shows one in 20 lines.
"""

from bench.contract import Experiment as Experiment
from bench.contract import Outcome as Outcome
from bench.contract import Predictions as Predictions
from bench.contract import Trial as Trial

__version__ = "0.1.0"
