"""A Lightning module: `bench run module.py --seeds 20`."""

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from bench import Experiment
from bench.adapters import lightning as adapter

images, labels = load_digits(return_X_y=True)
data = TensorDataset(torch.tensor(images / 16).float(), torch.tensor(labels))
train_set, test_set = torch.utils.data.random_split(data, [300, 1497], torch.Generator())


class Digits(L.LightningModule):
    def __init__(self, epsilon: float):
        super().__init__()
        self.net, self.loss = nn.Linear(64, 10), nn.CrossEntropyLoss(label_smoothing=epsilon)

    def training_step(self, batch, _):
        loss = self.loss(self.net(batch[0]), batch[1])
        self.log("train/loss", loss, on_epoch=True, on_step=False)
        return loss

    def predict_step(self, batch, _):
        return self.net(batch[0])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.01)


def train(trial):
    class Data(L.LightningDataModule):
        def train_dataloader(self):
            return DataLoader(train_set, 32, shuffle=True, generator=trial.torch_rng("order"))

        def predict_dataloader(self):
            return DataLoader(test_set, 500)

    return adapter.fit(trial, Digits(**trial.settings), Data(), max_epochs=3)


ARMS = {"baseline": {"epsilon": 0.0}, "smoothed": {"epsilon": 0.1}}
EXPERIMENT = Experiment(name="module", question="Does smoothing help?", arms=ARMS, train=train)
