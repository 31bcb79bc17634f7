import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference import paired_t, sign_flip, two_way
from bench.analysis.inference.multiplicity import (
    benjamini_hochberg,
    bonferroni,
    bonferroni_level,
    holm,
)

# Benjamini & Hochberg (1995), sec. 3.2
P = [
    0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.324, 0.4262, 0.5719,
    0.6528, 0.759, 1.0,
]  # fmt: skip


def test_reproduces_the_example_of_1995():
    assert (benjamini_hochberg(P) <= 0.05).sum() == 4
    assert (holm(P) <= 0.05).sum() == 3
    assert holm(P)[:3] == pytest.approx([0.0015, 0.0056, 0.0247])


@settings(max_examples=40)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_equals_statsmodels_and_scipy_in_any_order(p):
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p))
    assert benjamini_hochberg(p) == pytest.approx(multipletests(p, method="fdr_bh")[1])


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
@pytest.mark.parametrize("p", [[0.5, 1.2], [-0.1], [np.nan, 0.1]])
def test_refuses_what_is_no_p(adjust, p):
    with pytest.raises(UnusableRuns, match="not all between 0 and 1; leave out .* count them"):
        adjust(p)


def test_interval_and_p_are_adjusted_alike():
    rng = np.random.default_rng(0)
    family = [paired_t(np.zeros(10), rng.normal(0.8, 1, size=10)) for _ in range(5)]
    family.append(two_way(rng.normal(0.5, 1, size=(10, 30))))
    for raw, adjusted in zip(family, bonferroni(family), strict=True):
        again = raw.interval(1 - 0.05 / 6) if hasattr(raw, "interval") else None
        if again:
            assert (adjusted.low, adjusted.high) == pytest.approx(again)
        assert adjusted.p_adjusted == min(1, 6 * raw.p_value)
        assert (adjusted.low > 0 or adjusted.high < 0) == (adjusted.p_adjusted < 0.05)
        assert raw.p_value <= adjusted.p_holm <= adjusted.p_adjusted
        assert (adjusted.m, adjusted.family_level) == (6, 0.95)
        assert adjusted.level == bonferroni_level(0.95, 6)


def test_an_analysis_without_error_keeps_its_p_and_says_why_it_has_no_interval():
    both = [sign_flip(np.zeros(8), np.arange(8.0))] * 2
    r, _ = bonferroni(both)
    assert (r.low, r.high) == (None, None)
    assert r.reason == "the analysis sign_flip has no standard error and df to widen by"
    assert r.p_adjusted == 2 * r.p_value


def test_an_interval_at_the_single_level_is_kept():
    made = sign_flip(np.zeros(12), np.arange(12.0), level=bonferroni_level(0.95, 2))
    r, _ = bonferroni([made, made])
    assert (r.low, r.high, r.level) == (made.low, made.high, 0.975)


def test_an_empty_family_is_empty():
    assert bonferroni([]) == ()
    with pytest.raises(ValueError, match="m is 0; it counts the comparisons"):
        bonferroni_level(0.95, 0)


def test_no_false_alarm_in_the_whole_family_as_often_as_promised():
    rng = np.random.default_rng(1)
    alarms, holms, unadjusted = [], [], []
    for _ in range(1000):
        family = bonferroni([paired_t(*rng.normal(size=(2, 8))) for _ in range(4)])
        alarms.append(any(not c.low <= 0 <= c.high for c in family))
        holms.append(any(c.p_holm < 0.05 for c in family))
        unadjusted.append(any(c.p_value < 0.05 for c in family))
    assert np.mean(alarms) < 0.05 + 0.022
    assert alarms == holms  # with no true effect they alarm together
    assert np.mean(unadjusted) > 0.14
