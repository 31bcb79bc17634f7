"""McNemar: what can one run of each arm say, when only the test examples vary?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference.distributions import binomial_cdf


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """The exact test of one pair; a single pair says nothing about other seeds.

    Examples
    --------
    >>> found = mcnemar([1, 1, 0, 0], [1, 0, 1, 1])
    >>> found.only_baseline, found.only_treatment, found.difference
    (1, 2, 0.25)
    """

    n_examples: int
    only_baseline: int  # examples that only the baseline has right
    only_treatment: int
    difference: float  # accuracy, treatment minus baseline
    p_value: float  # two-sided


def mcnemar(baseline: ArrayLike, treatment: ArrayLike) -> McNemar:
    """Compare the correct answers of one run of each arm on the same test examples.

    The examples that both have right, or both wrong, say nothing; the others are tosses of a
    fair coin where the two models are equally good.

    Parameters
    ----------
    baseline, treatment : shape (N,), 1 or True where the run is right, same example order

    Raises
    ------
    UnusableRuns : different lengths, no example, or values other than 0 and 1

    References
    ----------
    McNemar (1947), Psychometrika 12(2); exact as statsmodels' mcnemar(exact=True).

    Examples
    --------
    Of ten examples on which they differ the treatment has eight: a fair coin shows that, or more,
    on either side in 112 of 1,024 cases (scipy's binomtest(2, 10)).

    >>> baseline = [1] * 2 + [0] * 8 + [1] * 40
    >>> treatment = [0] * 2 + [1] * 8 + [1] * 40
    >>> round(mcnemar(baseline, treatment).p_value, 6)
    0.109375
    """
    first, second = _answers(baseline), _answers(treatment)
    if first.shape != second.shape:
        raise UnusableRuns(
            f"the baseline has {first.size} answers and the treatment {second.size}; "
            "score both runs on the same test examples, in the same order"
        )
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    differing = only_first + only_second
    p = 2 * binomial_cdf(min(only_first, only_second), differing, 0.5)
    return McNemar(
        n_examples=first.size,
        only_baseline=only_first,
        only_treatment=only_second,
        difference=(only_second - only_first) / first.size,
        p_value=min(1.0, p),
    )


def _answers(values: ArrayLike) -> NDArray[np.bool_]:
    raw = np.asarray(values)
    if raw.ndim != 1 or raw.size == 0 or not np.isin(raw, (0, 1)).all():
        raise UnusableRuns(
            f"answers of shape {raw.shape} are not one 0 or 1 a test example; "
            "pass the correct answers of one run, for example metrics.correct(predictions)"
        )
    return raw.astype(np.bool_)
