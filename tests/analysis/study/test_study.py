import dataclasses
import json
import math
from numbers import Real

import numpy as np
import pytest
from scipy import special, stats

from bench.analysis.data.metrics import METRICS
from bench.analysis.data.tables import BadTables
from bench.analysis.errors import Refusal
from bench.analysis.report.sentences import verdict
from bench.analysis.study.conclude import summary_settings
from bench.analysis.study.study import study

NUMBER, TEXT, FLAG = (Real, type(None)), (str,), (bool,)
LIST = (list,)

# REPORT.md §10, key by key; further keys are welcome.
PLAN = {
    "hash": TEXT, "benchmark_id": TEXT, "frozen_at": (str, type(None)),
    "frozen_before_first_run": FLAG, "baseline": TEXT, "treatments": LIST, "metric": TEXT,
    "higher_is_better": FLAG, "scope": TEXT, "alpha": NUMBER, "margin": NUMBER, "claim": NUMBER,
    "seeds_planned": (list, int), "stop": TEXT,
}  # fmt: skip
ARM = {
    "name": TEXT, "settings": (dict,), "n_finished": (int,), "n_failed": (int,), "mean": NUMBER,
    "sd": NUMBER, "min": NUMBER, "max": NUMBER, "low": NUMBER, "high": NUMBER,
}  # fmt: skip
COMPARISON = {
    "treatment": TEXT, "n_pairs": (int,), "verdict": (dict,), "primary": (dict,),
    "analyses": LIST, "equivalence": (dict, type(None)), "effect": (dict, type(None)),
    "bayes": (dict, type(None)), "power": (dict,), "variance": (dict, type(None)),
    "claim": (dict, type(None)), "secondary": LIST, "anytime": (dict,),
}  # fmt: skip
INSIDE = {
    "verdict": {
        "word": TEXT, "size_open": FLAG, "provisional": FLAG, "headline": TEXT,
        "seeds_needed": NUMBER,
    },
    "primary": {
        "method": TEXT, "difference": NUMBER, "low": NUMBER, "high": NUMBER, "low90": NUMBER,
        "high90": NUMBER, "level": NUMBER, "p_value": NUMBER, "df": NUMBER,
    },
    "equivalence": {"p_value": NUMBER, "margin": NUMBER},
    "effect": dict.fromkeys(
        ("d_z", "hedges_g", "low", "high", "win_rate", "win_low", "win_high"), NUMBER
    ),
    "bayes": dict.fromkeys(("worse", "equivalent", "better"), NUMBER),
    "power": dict.fromkeys(("detectable_at_80", "seeds_for_margin"), NUMBER),
    "variance": dict.fromkeys(
        ("seeds", "examples", "residual", "correlation_between_arms", "n_examples", "ms_seeds",
         "ms_examples", "ms_residual"), NUMBER,
    ),
    "claim": {
        "value": NUMBER, "reading": (str, type(None)), "chance_without_effect": NUMBER,
        "chance_low": NUMBER, "chance_high": NUMBER, "best_epoch_optimism": NUMBER,
    },
    "anytime": {"low": NUMBER, "high": NUMBER, "e_value": NUMBER, "p_value": NUMBER,
                "looks": (list, int)},
}  # fmt: skip
ANALYSIS = {"name": TEXT, "difference": NUMBER, "low": NUMBER, "high": NUMBER, "p_value": NUMBER}
SECONDARY = {"metric": TEXT} | dict.fromkeys(
    ("baseline", "treatment", "difference", "low", "high", "p_value", "p_adjusted", "p_holm"),
    NUMBER,
)
CALIBRATION = {"arm": TEXT, "scaled": FLAG} | dict.fromkeys(
    ("ece", "ece_debiased", "ce2", "mce", "nll", "brier", "gap", "noise_floor", "temperature"),
    NUMBER,
)
PAIR = {"seed": (int,), "arm": TEXT, "value": NUMBER, "status": TEXT}
CHECK = {"id": TEXT, "level": TEXT, "state": TEXT, "text": TEXT}
TOP = {
    "schema": TEXT, "experiment": TEXT, "question": TEXT, "plan": (dict,), "arms": LIST,
    "comparisons": LIST, "calibration": LIST, "pairs": LIST, "checks": LIST, "provenance": (dict,),
}  # fmt: skip


def conforms(found, schema, where):
    for key, kinds in schema.items():
        assert key in found, f"{where} lacks {key}"
        value = found[key]
        assert isinstance(value, kinds), f"{where}.{key} is {value!r}"
        assert isinstance(value, bool) == (kinds is FLAG), f"{where}.{key} is {value!r}"


def numbers(value):
    if isinstance(value, dict):
        for part in value.values():
            yield from numbers(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from numbers(part)
    elif isinstance(value, float):
        yield value


@pytest.mark.sample(7)
def test_the_json_has_the_keys_and_types_of_the_schema(any_case, known):
    data = known(any_case).as_dict()
    assert data["schema"] == "bench.report/2"
    conforms(data, TOP, "results")
    conforms(data["plan"], PLAN, "plan")
    for name, schema in (("arms", ARM), ("calibration", CALIBRATION), ("pairs", PAIR),
                         ("checks", CHECK)):  # fmt: skip
        for i, item in enumerate(data[name]):
            conforms(item, schema, f"{name}[{i}]")
    assert [c["treatment"] for c in data["comparisons"]] == data["plan"]["treatments"]
    for c in data["comparisons"]:
        conforms(c, COMPARISON, "comparison")
        for name, schema in INSIDE.items():
            if c[name] is not None:
                conforms(c[name], schema, name)
        for item in c["analyses"]:
            conforms(item, ANALYSIS, "analysis")
        for item in c["secondary"]:
            conforms(item, SECONDARY, "secondary")
        assert c["verdict"]["word"] in ("better", "worse", "equivalent", "inconclusive", "none")
        assert c["primary"]["method"] in ("two_way", "paired_t", "anytime", "group")


@pytest.mark.sample(7)
def test_the_json_holds_no_nan_and_comes_back_as_it_was(any_case, known):
    f = known(any_case)
    data = f.as_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert all(math.isfinite(x) for x in numbers(data))


@pytest.mark.sample(7)
def test_nothing_becomes_none_without_a_reason(any_case, known):
    for c in known(any_case).as_dict()["comparisons"]:
        for item in [c["primary"], *c["analyses"], *c["secondary"]]:
            if item["low"] is None or item["high"] is None or item["p_value"] is None:
                assert item["reason"], item


@pytest.mark.sample(7)
def test_limits_and_differences_are_ordered(any_case, known):
    for c in known(any_case).comparisons:
        for item in [c.primary, *c.analyses, *c.secondary]:
            if item.low is not None and item.high is not None:
                assert item.low <= item.high
                if getattr(item, "name", "") != "leave_one_out":
                    assert item.low - 1e-12 <= item.difference <= item.high + 1e-12
        p = c.primary
        if p.low is not None and p.low90 is not None:
            assert p.low <= p.low90 <= p.high90 <= p.high
        if p.p_value is not None and p.low is not None:
            assert (p.low > 0 or p.high < 0) == (p.p_value < 1 - p.level)


def test_each_rule_is_reached_by_its_case(rule_case, known):
    c = known(rule_case).comparisons[0]
    assert rule_case.startswith(f"rule{c.verdict.rule}_")
    assert c.verdict.size_open == ("size_open" in rule_case)
    assert (known(rule_case).design.margin is None) == ("no_margin" in rule_case)


def test_numbers_are_those_of_scipy(known):
    f = known("rule3_better")
    c = f.comparisons[0]
    base, other = (np.array(getattr(c.pairs, name)) for name in ("baseline", "treatment"))
    d = other - base
    found = {a.name: a for a in c.analyses}
    t = stats.ttest_rel(other, base)
    assert found["paired_t"].p_value == pytest.approx(t.pvalue)
    assert (found["paired_t"].low, found["paired_t"].high) == pytest.approx(
        tuple(t.confidence_interval())
    )
    welch = stats.ttest_ind(other, base, equal_var=False)
    assert found["welch"].p_value == pytest.approx(welch.pvalue)
    assert c.effect.d_z == pytest.approx(d.mean() / d.std(ddof=1))
    n = d.size
    gamma = special.gammaln((n - 1) / 2) - special.gammaln((n - 2) / 2)
    assert c.effect.hedges_g == pytest.approx(c.effect.d_z * np.exp(gamma) / np.sqrt((n - 1) / 2))
    assert c.effect.wins == (d > 0).sum()
    p = c.primary
    assert c.equivalence.p_value == pytest.approx(
        max(
            stats.t.sf((p.difference + 0.01) / p.standard_error, p.df),
            stats.t.sf((0.01 - p.difference) / p.standard_error, p.df),
        )
    )
    assert c.bayes.better == pytest.approx(
        stats.t.sf((0.01 - p.difference) / p.standard_error, p.df)
    )
    assert c.bayes.worse + c.bayes.equivalent + c.bayes.better == pytest.approx(1)
    for name, values in (("baseline", base), ("smoothed", other)):
        arm = f.arm(name)
        assert (arm.mean, arm.sd) == pytest.approx((values.mean(), values.std(ddof=1)))
        expected = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
        assert (arm.low, arm.high) == pytest.approx(expected)


def test_ten_more_flips_of_the_sign_give_the_exact_p(simulate):
    c = simulate(n_seeds=10, effect=0.01, noise=0.01).findings().comparisons[0]
    d = np.array(c.differences)
    signs = 1 - 2 * ((np.arange(2**10)[:, None] >> np.arange(10)) & 1)
    sums = signs @ d
    expected = np.mean(np.abs(sums) >= abs(d.sum()) - 1e-9 * np.abs(d).sum())
    assert c.analysis("sign_flip").p_value == pytest.approx(expected)


@pytest.mark.sample(7)
def test_equivalence_p_and_word_agree(any_case, known):
    f = known(any_case)
    m, alpha = len(f.design.treatments), f.design.alpha
    for c in f.comparisons:
        if c.equivalence is None or c.equivalence.p_value is None or c.verdict.word == "none":
            continue
        assert (c.equivalence.p_value < alpha / m) == (c.verdict.word == "equivalent")


def test_without_a_margin_equivalence_and_posterior_are_left_out(known):
    c = known("rule4_better_no_margin").comparisons[0]
    assert c.equivalence is None
    assert c.bayes is None
    assert c.verdict.word == "better"
    assert known("rule7_inconclusive_no_margin").comparisons[0].verdict.seeds_needed is None


@pytest.mark.parametrize("name", ["group_at_the_end", "anytime", "seeds_added"])
def test_a_sequential_interval_has_no_equivalence_p_beside_it(known, name):
    found = known(name).comparisons[0].equivalence
    assert found.p_value is None
    assert "no p for equivalence" in found.reason


# -- invariance ------------------------------------------------------------------------------


def core(f, treatment=0):
    """Return the numbers that an invariance must keep."""
    c = f.comparisons[treatment]
    p = c.primary
    return {
        "primary": (p.difference, p.low, p.high, p.low90, p.high90, p.p_value, p.df),
        "analyses": {a.name: (a.difference, a.low, a.high, a.p_value) for a in c.analyses},
        "word": (c.verdict.word, c.verdict.rule),
        "secondary": {s.metric: (s.difference, s.p_value) for s in c.secondary},
    }


def close(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[k], b[k]) for k in a)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(close(x, y) for x, y in zip(a, b, strict=True))
    return a == b if a is None or isinstance(a, str) else b == pytest.approx(a, rel=1e-9, abs=1e-12)


@pytest.fixture(scope="module")
def some(simulate):
    return simulate(n_seeds=10, n_test=200, n_val=100)


def test_the_same_input_gives_the_same_findings(some):
    assert some.findings().as_dict() == some.findings().as_dict()


def test_the_order_of_rows_and_of_planned_seeds_changes_nothing(some):
    shuffled = some.changed(
        trials=some.tables.trials.sample(frac=1, random_state=1),
        epochs=some.tables.epochs.sample(frac=1, random_state=1),
        design={"seeds": some.design.seeds[::-1]},
    )
    assert close(core(some.findings()), core(shuffled.findings()))


def test_other_names_change_nothing_but_names(some):
    names = {"baseline": "zeta", "smoothed": "alpha"}
    renamed = some.changed(
        trials=some.tables.trials.replace({"arm": names}),
        epochs=some.tables.epochs.replace({"arm": names}),
        predictions={(names[a], s, k): p for (a, s, k), p in some.tables.predictions.items()},
        design={"baseline": "zeta", "treatments": ("alpha",), "arm_settings": {}},
    )
    assert close(core(some.findings()), core(renamed.findings()))


def test_swapping_the_arms_flips_the_signs(simulate):
    s = simulate(n_seeds=10, n_test=200, claim=None, validation=False)
    there = s.findings().comparisons[0]
    back = s.changed(design={"baseline": "smoothed", "treatments": ("baseline",)})
    again = back.findings().comparisons[0]
    p, q = there.primary, again.primary
    assert (p.difference, p.low, p.high, p.p_value) == pytest.approx(
        (-q.difference, -q.high, -q.low, q.p_value)
    )
    for a in there.analyses:
        b = again.analysis(a.name)
        assert a.difference == pytest.approx(-b.difference)
        assert a.p_value == pytest.approx(b.p_value)
        if a.low is not None:
            assert (a.low, a.high) == pytest.approx((-b.high, -b.low))
    assert {there.verdict.word, again.verdict.word} == {"better", "worse"}


def test_a_lower_is_better_score_mirrors_its_negative(simulate):
    one = {"n_seeds": 10, "scores_only": True, "metric": "reward", "n_epochs": 0, "margin": 0.01,
           "claim": None}  # fmt: skip
    s = simulate(**one)
    negative = s.changed(
        scores=s.tables.scores.assign(value=-s.tables.scores.value),
        design={"higher_is_better": False},
    )
    a, b = (x.findings().comparisons[0] for x in (s, negative))
    assert a.verdict.word == b.verdict.word == "better"
    assert (a.primary.low, a.primary.high) == pytest.approx((-b.primary.high, -b.primary.low))
    assert (a.effect.wins, a.bayes.better) == (b.effect.wins, pytest.approx(b.bayes.better))


# -- the edges -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("identical_arms", "none"),
        ("constant_difference", "none"),
        ("one_pair", "none"),
        ("two_pairs", "none"),
        ("no_pair_in_common", "none"),
        ("two_test_examples", "inconclusive"),
    ],
)
def test_what_cannot_be_judged_is_not(known, name, word):
    assert known(name).comparisons[0].verdict.word == word


def test_no_spread_is_said_where_there_were_pairs_enough(known):
    assert known("identical_arms").comparisons[0].verdict.headline == (
        "No verdict: no spread, since every pair differs by the same amount."
    )
    flip = known("identical_arms").comparisons[0].analysis("sign_flip")
    assert flip.p_value == 1  # the exact test still stands


def test_a_collapsed_run_stays_in_the_mean(known, simulate):
    f = known("collapsed_runs")
    values = [run.value for run in f.runs if run.arm == "smoothed"]
    assert f.arm("smoothed").mean == pytest.approx(np.mean(values))
    assert f.arm("smoothed").min == pytest.approx(0.1)
    assert f.comparisons[0].n_pairs == 20
    limits = stats.binomtest(1, 20).proportion_ci(0.95, method="exact")
    arm = f.arm("smoothed")
    assert (arm.collapse_low, arm.collapse_high) == pytest.approx((limits.low, limits.high))


def test_every_planned_run_has_a_row_whatever_became_of_it(known):
    f = known("failed_and_missing")
    status = {(run.arm, run.seed): (run.status, run.value is None) for run in f.runs}
    assert len(status) == len(f.runs) == 40
    assert status["smoothed", 3] == ("failed", True)
    assert status["baseline", 5] == ("missing", True)
    assert status["baseline", 0] == ("finished", False)


def test_an_arm_without_a_finished_run_is_refused(simulate):
    s = simulate(n_seeds=2, failed={("smoothed", 0), ("smoothed", 1)})
    with pytest.raises(BadTables, match="no run of arm 'smoothed' has finished"):
        s.findings()


def test_other_test_sets_are_refused(simulate):
    s, other = (simulate(n_seeds=6, rng=rng) for rng in (0, 1))
    mixed = {**s.tables.predictions}
    mixed["smoothed", 2, "test"] = other.tables.predictions["smoothed", 2, "test"]
    with pytest.raises(BadTables, match="scored on other test examples"):
        s.changed(predictions=mixed).findings()


def test_random_designs_give_findings_or_a_refusal_never_nan(simulate):
    rng = np.random.default_rng(11)
    for _ in range(25):
        n = int(rng.integers(1, 9))
        runs = [(arm, seed) for arm in ("baseline", "a", "b") for seed in range(n)]
        broken = {key for key in runs if rng.random() < 0.2}
        s = simulate(
            n_seeds=n,
            n_test=int(rng.choice([1, 2, 30])),
            n_val=int(rng.choice([1, 20])),
            n_classes=int(rng.choice([2, 3, 10])),
            n_epochs=int(rng.choice([0, 1, 4])),
            treatments=("a", "b"),
            failed={key for key in broken if rng.random() < 0.5},
            missing={key for key in broken if rng.random() < 0.3},
            collapsed={key for key in runs if rng.random() < 0.1},
            effect=float(rng.choice([0.0, 0.05])),
            noise=float(rng.choice([0.0, 0.02])),
            metric=str(rng.choice(["accuracy", "nll", "brier"])),
            margin=[None, 0.01][int(rng.integers(2))],
            claim=[None, 0.01, -0.02][int(rng.integers(3))],
            stop=str(rng.choice(["fixed", "anytime", "group"])),
            scope=str(rng.choice(["seeds", "seeds_and_examples"])),
            certain=bool(rng.random() < 0.2),
            validation=bool(rng.random() < 0.7),
            scores_only=False,
            rng=int(rng.integers(1000)),
        )
        s = s.changed(design={"higher_is_better": s.design.metric == "accuracy"})
        try:
            data = s.findings().as_dict()
        except Refusal:
            continue
        json.dumps(data, allow_nan=False)


def test_settings_that_differ_are_found_whatever_their_type(some):
    d = dataclasses.replace(
        some.design,
        arm_settings={
            "baseline": {"path": PathLike(), "same": 1},
            "smoothed": {"path": 3, "same": 1},
        },
    )
    assert [key for key, _ in summary_settings(d)] == ["path"]


class PathLike:
    def __str__(self):
        return "/data"


def test_values_that_json_does_not_know_do_not_stop_it(some):
    odd = {"path": PathLike(), "array": np.arange(3), "scalar": np.float32(0.5), "set": {1}}
    s = some.changed(
        provenance={**some.provenance, **odd}, design={"arm_settings": {"baseline": odd}}
    )
    data = s.findings().as_dict()
    text = json.dumps(data, allow_nan=False)
    assert "/data" in text
    assert data["provenance"]["array"] == [0, 1, 2]


def test_every_metric_can_be_the_primary_one(some):
    for name, measure in METRICS.items():
        design = {"metric": name, "higher_is_better": measure.higher_is_better, "claim": None}
        f = some.changed(design=design).findings()
        assert f.comparisons[0].verdict.word != "none"
        assert name not in {s.metric for s in f.comparisons[0].secondary}


def test_the_random_numbers_come_from_the_argument(some):
    noise = [
        study(some.tables, some.design, seed=seed).calibration[0].noise_floor for seed in (0, 0, 1)
    ]
    assert noise[0] == noise[1] != noise[2]


# -- a report before the end -----------------------------------------------------------------


def test_an_interim_report_shows_only_what_holds_however_often_one_looks(simulate):
    late = {(arm, seed) for arm in ("baseline", "smoothed") for seed in range(12, 20)}
    f = simulate(missing=late, effect=0.03).findings()
    [c] = f.comparisons
    assert f.design.pending == 16 and c.n_pairs == 12
    assert c.primary.method == "anytime" and (c.primary.low, c.primary.high) == (
        c.anytime.low, c.anytime.high,
    )  # fmt: skip
    assert "Interim: 16 planned runs still to be trained" in verdict.more_about_verdict(f, c)[0]


def test_a_failed_run_is_not_waited_for(simulate):
    f = simulate(failed={("smoothed", 3)}, effect=0.03).findings()
    assert f.design.pending == 0 and f.comparisons[0].primary.method == "two_way"


@pytest.mark.parametrize(("n", "method"), [(10, "group"), (12, "anytime"), (15, "group")])
def test_between_planned_looks_a_group_plan_has_no_boundary(simulate, n, method):
    some = simulate(stop="group", n_seeds=n, seeds=tuple(range(20)), effect=0.02)
    assert some.findings().comparisons[0].primary.method == method


def test_a_rule_that_stopped_waits_for_nothing(simulate):
    some = simulate(stop="group", n_seeds=12, seeds=tuple(range(20)), stopped_at=10, effect=0.02)
    f = some.findings()
    assert f.design.pending == 0 and f.comparisons[0].primary.method == "group"
