"""Set metrics: macro-F1, balanced accuracy, AUROC, average precision and AURC of a test set.

None is a mean over examples; each is a function of all of them. Where scikit-learn has one, it is
the same number.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.analysis.data.format import count
from bench.analysis.data.jackknife import Statistic
from bench.analysis.data.predictions import Predictions, Rows
from bench.analysis.errors import BadPredictions

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Prepared = Callable[[Predictions], Statistic]

RISK_POINTS = 20  # of a risk-coverage curve that is kept


def macro_f1(labels: Ints, predicted: Ints, n_classes: int) -> float:
    """Return the mean over classes of F1, the harmonic mean of precision and recall.

    Parameters
    ----------
    labels, predicted : shape (N,), 0 to n_classes - 1; every class is the label of an example

    References
    ----------
    Opitz & Burst (2019), Macro F1 and macro F1, eq. 2; scikit-learn's f1_score(average="macro").
    """
    hits, true = _hits(labels, predicted, n_classes)
    return float((2 * hits / (true + np.bincount(predicted, minlength=n_classes))).mean())


def balanced_accuracy(labels: Ints, predicted: Ints, n_classes: int) -> float:
    """Return the mean over classes of the share of a class's examples that is found.

    Parameters
    ----------
    labels, predicted : shape (N,), 0 to n_classes - 1; every class is the label of an example
    """
    hits, true = _hits(labels, predicted, n_classes)
    return float((hits / true).mean())


def _hits(labels: Ints, predicted: Ints, n_classes: int) -> tuple[Floats, Floats]:
    """Return how many examples of each class are found, and how many there are."""
    right = labels[labels == predicted]
    hits, true = (np.bincount(found, minlength=n_classes) for found in (right, labels))
    return hits.astype(np.float64), true.astype(np.float64)


def ranked(scores: ArrayLike) -> Ints:
    """Return each score's rank among the different scores, 0 the lowest; ties share theirs."""
    ranks: Ints = np.unique(np.asarray(scores), return_inverse=True)[1].astype(np.int64)
    return ranks


def auroc(positive: ArrayLike, scores: ArrayLike) -> float:
    """Return the area under the ROC curve: how often a positive example outranks a negative one.

    Parameters
    ----------
    positive : shape (N,), true for the examples of the class in question; some are, some are not
    scores : shape (N,), higher the more probable; only their order counts, and a tie counts half

    References
    ----------
    Hanley & McNeil (1982), Radiology 143(1); scikit-learn's roc_auc_score.
    """
    return auroc_of_ranks(np.asarray(positive, dtype=bool), ranked(scores))


def auroc_of_ranks(positive: Bools, ranks: Ints) -> float:
    """Return the same from the ranks of the scores, of some of the examples or of all."""
    with_it, without = _by_rank(positive, ranks)
    below = np.cumsum(without) - without
    return float(with_it @ (below + without / 2) / (with_it.sum() * without.sum()))


def average_precision(positive: ArrayLike, scores: ArrayLike) -> float:
    """Return the precision averaged over the recalls at which it changes, without interpolation.

    Parameters
    ----------
    positive : shape (N,), true for the examples of the class in question; at least one is
    scores : shape (N,), higher the more probable; examples of equal score are found together

    References
    ----------
    scikit-learn's average_precision_score.
    """
    return average_precision_of_ranks(np.asarray(positive, dtype=bool), ranked(scores))


def average_precision_of_ranks(positive: Bools, ranks: Ints) -> float:
    """Return the same from the ranks of the scores, of some of the examples or of all."""
    with_it, without = _by_rank(positive, ranks)
    found, taken = np.cumsum(with_it[::-1]), np.cumsum((with_it + without)[::-1])
    precision = found / np.maximum(taken, 1)
    return float(with_it[::-1] @ precision / with_it.sum())


def _by_rank(positive: Bools, ranks: Ints) -> tuple[Floats, Floats]:
    """Return how many positive and how many other examples have each rank."""
    size = int(ranks.max()) + 1
    both = (np.bincount(ranks[rows], minlength=size) for rows in (positive, ~positive))
    with_it, without = (found.astype(np.float64) for found in both)
    return with_it, without


def aurc(confidences: ArrayLike, correct: ArrayLike) -> float:
    """Return the area under the risk-coverage curve: the mean error rate over the N coverages.

    At coverage i / N the model answers for the i examples of which it is surest; the risk is the
    share of wrong answers among them. Examples of equal confidence are answered in no order: of
    each of them the mean error of all of them counts, as if every order were as likely.

    Parameters
    ----------
    confidences, correct : shape (N,), probability of the predicted class; 1 where it is true

    References
    ----------
    Geifman & El-Yaniv (2017), Selective classification for deep neural networks, NeurIPS;
    Xia et al. (2025), Towards understanding why label smoothing degrades selective
    classification, ICLR.
    """
    surest_first = ranked(-np.asarray(confidences, dtype=np.float64))
    return aurc_of_ranks(surest_first, 1 - np.asarray(correct, dtype=np.float64))


def aurc_of_ranks(ranks: Ints, wrong: Floats) -> float:
    """Return the same from ranks, the surest first, of some of the examples or of all."""
    return float(_risks(ranks, wrong).mean())


def risk_coverage(confidences: ArrayLike, correct: ArrayLike) -> Floats:
    """Return the risk-coverage curve at RISK_POINTS coverages that are equally far apart.

    Parameters
    ----------
    confidences, correct : shape (N,), as of `aurc`, which is the mean over all N coverages

    Returns
    -------
    shape (RISK_POINTS,): the error rate of the surest i / RISK_POINTS of the examples, rounded up
    """
    surest_first = ranked(-np.asarray(confidences, dtype=np.float64))
    risks = _risks(surest_first, 1 - np.asarray(correct, dtype=np.float64))
    answered = -(-np.arange(1, RISK_POINTS + 1) * risks.size // RISK_POINTS)
    found: Floats = risks[answered - 1]
    return found


def _risks(ranks: Ints, wrong: Floats) -> Floats:
    """Return the error rate of the i surest examples, for each i from 1 to N."""
    size = np.bincount(ranks)
    there = size > 0
    errors = np.bincount(ranks, weights=wrong)[there] / size[there]
    found: Floats = np.cumsum(np.repeat(errors, size[there])) / np.arange(1, ranks.size + 1)
    return found


def of_answers(what: str, of: Callable[[Ints, Ints, int], float]) -> Prepared:
    """Return a metric of the most probable classes, of which every class must have an example."""

    def prepared(predictions: Predictions) -> Statistic:
        labels, k = predictions.labels, predictions.n_classes
        predicted = predictions.log_probabilities.argmax(axis=1)
        require = _every_class(predictions, what)

        def statistic(rows: Rows) -> float:
            require(rows)
            return of(labels[rows], predicted[rows], k)

        return statistic

    return prepared


def of_ranks(what: str, of: Callable[[Bools, Ints], float]) -> Prepared:
    """Return a metric of each class against the rest, and of class 1 alone where there are two."""

    def prepared(predictions: Predictions) -> Statistic:
        labels, log_p = predictions.labels, predictions.log_probabilities
        classes = [1] if predictions.n_classes == 2 else range(predictions.n_classes)
        require = _every_class(predictions, what)
        ranks = {k: ranked(log_p[:, k]) for k in classes}

        def statistic(rows: Rows) -> float:
            require(rows)
            there = labels[rows]
            return float(np.mean([of(there == k, ranks[k][rows]) for k in classes]))

        return statistic

    return prepared


def _every_class(predictions: Predictions, what: str) -> Callable[[Rows], None]:
    """Return what refuses rows without an example of some class."""
    labels, k = predictions.labels, predictions.n_classes
    known = np.bincount(labels, minlength=k)

    def require(rows: Rows) -> None:
        lacking = np.flatnonzero(np.bincount(labels[rows], minlength=k) == 0)
        if not lacking.size:
            return
        name, n = int(lacking[0]), int(known[lacking[0]])
        some = f"only {count(n, 'test example')} of {len(labels):,} {'is' if n == 1 else 'are'}"
        raise BadPredictions(
            f"{some} of class {name}, too few for an interval of the {what}."
            if n
            else f"no test example is of class {name}, so there is no {what}.",
            facts=[
                "Every class needs test examples, also without any one of 40 groups of examples."
            ],
            fix="score more examples of every class, or leave out the class, or choose another "
            'metric, for example metric="accuracy"',
        )

    return require
