import pytest
from statsmodels.stats.power import TTestPower

from bench.design.sample_size import BadPlan, Pilot, advise, gain_of

PILOT = Pilot(
    name="digits",
    n=20,
    sd=0.0067,
    variance_per_seed=0.0067**2,
    variance_floor=0.0016**2,
    seconds_per_pair=3.1,
)


def test_gains_and_seeds_are_those_of_statsmodels():
    found = advise(unit="fraction", detect=0.003)
    solver = TTestPower()
    for n, gain in found.by_seeds:
        assert solver.power(gain / 0.008, n, 0.05) == pytest.approx(0.8, abs=1e-6)
    assert found.seeds == 58
    needed = solver.solve_power(0.003 / 0.008, power=0.8, alpha=0.05)
    assert 57 < needed <= 58


def test_a_pilot_plans_with_the_upper_limit_of_its_spread():
    found = advise(unit="fraction", pilot=PILOT, detect=0.01)
    assert found.sd > PILOT.sd
    assert "upper 80% limit from the 20 pairs of digits" in found.text()
    assert found.seeds_with_new_examples is not None and found.seeds is not None
    assert found.seeds_with_new_examples > found.seeds  # new test examples cost seeds too


def test_says_when_no_number_of_seeds_is_enough_for_new_examples():
    found = advise(unit="fraction", pilot=PILOT, detect=0.003)
    assert found.seeds_with_new_examples is None
    assert "more of these, not more seeds" in found.text()


def test_a_wanted_number_of_seeds_gets_its_own_row():
    found = advise(unit="fraction", sd=0.005, seeds=40)
    assert 40 in dict(found.by_seeds)
    assert "40 seeds detect 0.23 pp" in found.text()


def test_fewer_pairs_than_a_verdict_takes_are_never_advised():
    found = advise(unit="fraction", pilot=PILOT, detect=0.5)
    assert found.seeds == found.seeds_with_new_examples == 6
    assert min(n for _, n in found.by_gain if n is not None) >= 6
    assert gain_of(5, "fraction").text() == "5 seeds give no verdict, whatever they show; 6 may"
    assert gain_of(6, "fraction").text().startswith("6 seeds can detect 1.15 pp")


def test_a_metric_without_a_known_spread_is_planned_in_units_of_its_sd():
    found = advise(unit="score", seeds=20)
    assert found.sd == 1.0
    assert dict(found.by_seeds)[20] == pytest.approx(0.66, abs=0.005)


@pytest.mark.parametrize("unit", ["fraction", "nats", "score"])
def test_fits_a_terminal(unit: str):
    text = advise(unit=unit, pilot=PILOT, detect=0.003, seeds=1000).text()  # type: ignore[arg-type]
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("options", "what", "fix"),
    [
        ({"power": 1.5}, "--power 1.5 is not between 0.05 and 1", "power=0.8"),
        ({"power": 0.01}, "--power 0.01 is not between", "power=0.8"),
        ({"detect": 0.0}, "--detect is not a gain other than 0", "detect=0.3"),
        ({"sd": -0.01}, "--sd -1 is not a spread above 0", "sd=0.8"),
        ({"sd": float("nan")}, "is not a spread above 0", "sd=0.8"),
        ({"seeds": 1}, "--seeds 1 is not between 2", "seeds=20"),
    ],
)
def test_refuses_numbers_without_a_plan(options: dict[str, float], what: str, fix: str):
    with pytest.raises(BadPlan) as refusal:
        advise(unit="fraction", **options)  # type: ignore[arg-type]
    assert what in refusal.value.what
    assert refusal.value.remedy() == fix
