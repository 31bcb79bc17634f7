"""A Keras model: `KERAS_BACKEND=torch bench run layers.py --seeds 20`."""

import keras
from sklearn.datasets import load_digits

from bench import Experiment
from bench.adapters import keras as adapter

x, y = load_digits(return_X_y=True)
x = x.astype("float32") / 16


def train(trial):
    adapter.seeded(trial)
    model = keras.Sequential([keras.layers.Dense(10, activation="softmax")])
    model.compile(keras.optimizers.Adam(**trial.settings), "sparse_categorical_crossentropy")
    rows = trial.rng("subset").choice(900, 300, replace=False)
    log = adapter.callback(trial)
    model.fit(x[rows], y[rows], batch_size=32, epochs=3, verbose=0, callbacks=[log])
    return adapter.outcome(model, x[900:], y[900:])


ARMS = {"baseline": {"learning_rate": 0.01}, "slow": {"learning_rate": 0.001}}
EXPERIMENT = Experiment(name="layers", question="Is slower better?", arms=ARMS, train=train)
