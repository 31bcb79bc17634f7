"""A Lightning module: `bench run module.py --seeds 20`."""

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Subset, TensorDataset

from bench import Experiment
from bench.adapters import lightning as adapter

x, y = map(torch.tensor, load_digits(return_X_y=True))
data = TensorDataset(x.float() / 16, y)


class Digits(L.LightningModule):
    def __init__(self, epsilon):
        super().__init__()
        self.net = torch.nn.Linear(64, 10)
        self.loss = torch.nn.CrossEntropyLoss(label_smoothing=epsilon)

    def training_step(self, batch, _):
        loss = self.loss(self.net(batch[0]), batch[1])
        self.log("train/loss", loss, on_step=False, on_epoch=True)  # in MLflow, an epoch each
        return loss

    def predict_step(self, batch, _):
        return self.net(batch[0])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.01)


def train(trial):
    loader = DataLoader(Subset(data, range(300)), 32, generator=trial.torch_rng("order"))
    test = DataLoader(Subset(data, range(300, 1797)), 500)
    module = Digits(**trial.settings)
    return adapter.fit(trial, module, loader, test_dataloader=test, max_epochs=3)


ARMS = {"baseline": {"epsilon": 0.0}, "smoothed": {"epsilon": 0.1}}
EXPERIMENT = Experiment(name="module", question="Does smoothing help?", arms=ARMS, train=train)
