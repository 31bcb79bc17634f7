import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference import mcnemar


def answers(both, first, second, neither):
    return (
        [1] * both + [1] * first + [0] * second + [0] * neither,
        [1] * both + [0] * first + [1] * second + [0] * neither,
    )


@pytest.mark.parametrize("counts", [(794, 86, 150, 570), (5, 3, 3, 1), (2, 0, 6, 1), (0, 1, 0, 3)])
def test_equals_statsmodels(counts):
    both, first, second, neither = counts
    expected = statsmodels_mcnemar([[both, first], [second, neither]], exact=True).pvalue
    r = mcnemar(*answers(*counts))
    assert r.p_value == pytest.approx(expected, rel=1e-9)
    assert (r.only_baseline, r.only_treatment, r.n_examples) == (first, second, sum(counts))


def test_six_to_nothing_is_a_coin_falling_six_times():
    assert mcnemar(*answers(10, 0, 6, 0)).p_value == pytest.approx(2 / 2**6)


def test_runs_that_agree_everywhere_have_p_one():
    assert mcnemar([1, 0, 1], [1, 0, 1]).p_value == 1


def test_refuses_runs_on_different_examples():
    with pytest.raises(UnusableRuns, match="3 answers and the treatment 2; .* same test examples"):
        mcnemar([1, 0, 1], [1, 0])


@pytest.mark.parametrize("values", [[], [0.5, 1.0], [[1, 0]], [np.nan, 1.0]])
def test_refuses_what_are_no_answers(values):
    with pytest.raises(UnusableRuns, match=r"not one 0 or 1 .* metrics.correct\(predictions\)"):
        mcnemar(values, values)


def test_false_alarm_rate_never_exceeds_the_promised_one():
    rng = np.random.default_rng(0)
    runs = rng.random((2000, 2, 200)) < 0.8
    rate = np.mean([mcnemar(*pair).p_value <= 0.05 for pair in runs])
    assert 0.02 < rate < 0.05
