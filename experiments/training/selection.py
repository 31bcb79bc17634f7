"""Model selection: the epoch that stands for a training, and early stopping."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from bench.experiment import Diverged, Outcome, Predictions, Trial
from bench.experiments.training.label_smoothing import validation_scores

Weights = Mapping[str, Tensor]


class Selection:
    """The epochs of one training: the first with the best validation accuracy is selected.

    Attributes
    ----------
    over : after the last epoch, `patience` epochs without a better one, or a loss that diverged
    weights : by epoch, what the test set is scored with: those of the selected epoch and the last
    """

    def __init__(
        self, trial: Trial, labels: Tensor, *, epochs: int, patience: int | None = None
    ) -> None:
        self.trial, self.labels, self.epochs = trial, labels, epochs
        self.patience = patience or epochs
        self.over = False
        self.weights: dict[int, Weights] = {}
        self._best, self._selected, self._last = -1.0, 0, 0
        self._diverged: Diverged | None = None

    def log(
        self, epoch: int, values: Mapping[str, float], log_p: Tensor, weights: Callable[[], Weights]
    ) -> None:
        """Record an epoch, and keep its weights if it is the best so far or the last.

        Once a training is over nothing more of it is recorded: in a pack others may go on.

        Parameters
        ----------
        values : what the epoch measured, besides the validation scores
        log_p : log-probabilities of the validation images, shape (N, K)
        weights : gives a copy of the network's weights
        """
        if self.over:
            return
        smoothing = self.trial.settings["epsilon"], self.trial.settings["convention"]
        scores = validation_scores(log_p, self.labels, *smoothing)
        try:
            self.trial.log(epoch, {**values, **scores})
        except Diverged as diverged:  # the other trainings of the pack go on
            self._diverged, self.over, self.weights = diverged, True, {}
            return
        self._last = epoch
        if scores["val/accuracy"] > self._best:  # of tied epochs the earliest stays
            self._best, self._selected, self._log_p = scores["val/accuracy"], epoch, log_p
            self.weights = {epoch: weights()}
        self.over = epoch + 1 == self.epochs or epoch - self._selected >= self.patience
        if self.over and epoch not in self.weights:
            self.weights[epoch] = weights()

    def outcome(
        self, test: Mapping[int, Tensor], labels: Tensor, **facts: Any
    ) -> Outcome | Diverged:
        """Return what the training gives.

        Parameters
        ----------
        test : by epoch, the log-probabilities of the test images that `weights` give
        labels : of the test images
        """
        if self._diverged is not None:
            return self._diverged
        return Outcome(
            test=_predictions(test[self._selected], labels),
            test_last=_predictions(test[self._last], labels),
            validation=_predictions(self._log_p, self.labels),
            selected_epoch=self._selected,
            facts={"epochs_trained": self._last + 1, **facts},
        )


def _predictions(log_p: Tensor, labels: Tensor) -> Predictions:
    return Predictions(log_p.cpu().numpy(), labels.cpu().numpy())
