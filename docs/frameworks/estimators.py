"""Two scikit-learn estimators: `bench run estimators.py --seeds 20`."""

from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

from bench import Experiment

x, y = load_digits(return_X_y=True)
EXPERIMENT = Experiment.from_estimators(
    RandomForestClassifier(30),
    ExtraTreesClassifier(30),
    x,
    y,
    name="estimators",
    question="Do extremely randomised trees raise test accuracy?",
    arms=("forest", "extra"),
    margin=0.005,
)
