"""Means and spreads as papers print them: what they must say, and what they are worth."""

import pytest
from scipy import stats

import bench
from bench.importers.published import BadSummary, read


def test_a_deviation_and_its_standard_error_are_the_same_summary():
    sd, se = read("base=82.1±0.8(sd),n=16"), read("base=82.1 +- 0.2 (se), n=16")
    assert sd == se and sd[1].sd == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("82.1±0.8(sd),n=5", "is no summary"),
        ("base=82.1", "is no summary"),
        ("base=82.1±-0.8(sd),n=5", "is no summary"),
        ("base=82.1±0.8,n=5", "a standard deviation or a standard error is not said"),
        ("base=82.1±0.8(sd)", "of how many runs 82.1 is the mean is not said"),
    ],
)
def test_what_a_summary_has_to_say_is_not_guessed(typed, said):
    with pytest.raises(BadSummary, match=said):
        read(typed)


def test_two_summaries_give_scipys_welch():
    f = bench.compare(summary=["base=82.1±0.8(sd),n=5", "new=83.0±0.6(sd),n=8"])
    theirs = stats.ttest_ind_from_stats(83.0, 0.6, 8, 82.1, 0.8, 5, equal_var=False)
    assert f.p_value == pytest.approx(theirs.pvalue)
    assert f.verdict == "inconclusive" and f.difference == pytest.approx(0.9)


def test_percentages_are_read_as_those_of_a_file():
    f = bench.compare(
        summary=["base=82.1±0.8(sd),n=10", "new=83.4±0.7(sd),n=10"],
        metric="accuracy",
        margin="0.5pp",
    )
    theirs = stats.ttest_ind_from_stats(83.4, 0.7, 10, 82.1, 0.8, 10, equal_var=False)
    assert f.difference == pytest.approx(0.013) and f.p_value == pytest.approx(theirs.pvalue)
    assert f.comparisons[0].verdict.headline.endswith("by more than the margin you set.")


def test_a_mean_of_three_runs_gives_no_verdict():
    f = bench.compare(summary=["base=70±0.1(sd),n=3", "new=90±0.1(sd),n=30"])
    assert f.verdict == "none"


@pytest.mark.parametrize("names", [("a",), ("a", "a")])
def test_one_arm_is_no_comparison(names):
    with pytest.raises(BadSummary, match="is no comparison"):
        bench.compare(summary=[f"{name}=1±0.2(sd),n=5" for name in names])
