import numpy as np
import pytest
from scipy import stats

from bench.analysis.errors import UnusableRuns
from bench.analysis.inference.variance_sources import question, source_rows, source_values, spread
from bench.analysis.report import html as page
from bench.analysis.study.study import study


def test_the_limits_are_the_chi_square_ones():
    values = np.random.default_rng(0).normal(size=9)
    sd, low, high = spread(values)
    assert sd == pytest.approx(np.std(values, ddof=1))
    assert low == pytest.approx(sd * np.sqrt(8 / stats.chi2.isf(0.025, 8)))
    assert high == pytest.approx(sd * np.sqrt(8 / stats.chi2.ppf(0.025, 8)))


def test_the_limits_cover_as_promised():
    draw = np.random.default_rng(3)
    limits = [spread(draw.normal(scale=2.0, size=10))[1:] for _ in range(2000)]
    covered = sum(low <= 2.0 <= high for low, high in limits)
    assert stats.binomtest(covered, 2000, 0.95).pvalue > 0.001


def test_one_run_has_no_spread():
    with pytest.raises(UnusableRuns, match="1 run is too few to see a spread"):
        spread(np.array([0.5]))


@pytest.fixture(scope="module")
def families(simulate):
    """Return the benchmark and two in which only one source varied."""
    whole = simulate(n_seeds=8, noise=0.01, n_test=1000)
    return whole, {
        "init": simulate(n_seeds=8, noise=0.002, n_test=1000, rng=1).tables,
        "order": simulate(n_seeds=8, noise=0.006, n_test=1000, rng=2).tables,
    }


def test_every_source_has_its_arms_and_differences(families):
    whole, alone = families
    found = source_values({**alone, "all": whole.tables}, whole.design)
    rows = source_rows(found, whole.design)
    assert [r.source for r in rows[::3]] == ["init", "order", "all"]
    gaps = {r.source: r for r in rows if r.treatment == "smoothed"}
    for name, tables in {**alone, "all": whole.tables}.items():
        base, other = (tables.values(whole.design, a, list(range(8))) for a in whole.design.arms)
        assert gaps[name].sd == pytest.approx(np.std(other - base, ddof=1))
        assert gaps[name].n == 8


def test_a_source_with_one_run_has_no_sd(families, simulate):
    whole, _ = families
    few = simulate(
        n_seeds=8, missing={(a, s) for a in ("baseline", "smoothed") for s in range(1, 8)}
    )
    rows = source_rows(source_values({"init": few.tables}, whole.design), whole.design)
    assert [(r.n, r.sd, r.low) for r in rows] == [(1, None, None)] * 3


def test_the_report_names_the_largest_source_and_what_each_answers(families):
    whole, alone = families
    f = study(whole.tables, whole.design, families=alone)
    html = page.render(f, version="1")
    assert "order spreads the paired difference most" in html
    assert question("init") in html and question("all") in html


def test_the_report_of_one_benchmark_has_no_such_table(report):
    assert "Spread by source of randomness" not in report("rule3_better")


def test_twice_the_seeds_or_images_narrow_as_the_variances_say(known):
    v = known("rule3_better").comparisons[0].variance
    n, width = 20, v.n_examples

    def variance(n, width):
        return v.seeds / n + v.examples / width + v.residual / (n * width)

    now = variance(n, width)
    assert v.width_with_twice_seeds == pytest.approx(np.sqrt(variance(2 * n, width) / now))
    assert v.width_with_twice_examples == pytest.approx(np.sqrt(variance(n, 2 * width) / now))


def test_a_group_plan_shows_the_looks_it_has_reached(known):
    f = known("group_at_the_end")
    looks = f.comparisons[0].anytime.planned
    assert [look.n for look in looks] == [6, 9, 12]
    assert (looks[-1].low, looks[-1].high) == (
        f.comparisons[0].primary.low,
        f.comparisons[0].primary.high,
    )
    assert "intervals of the planned looks" in page.render(f, version="1")
