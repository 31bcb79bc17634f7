import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.analysis.data.metrics import Predictions
from bench.analysis.data.tables import Design, Tables
from bench.analysis.data.units import Units
from bench.analysis.study.checks.design import SKEW_COST, _strong_skew
from bench.analysis.study.conclude import _collapsed, _pooled_mad
from bench.analysis.study.study import study

ALL = [*(f"B{i}" for i in range(1, 8)), *(f"C{i}" for i in range(1, 22))]


def check(f, name):
    return next(c for c in f.checks if c.id == name)


def state(s, name):
    return check(s.findings(), name).state


def with_trials(s, **columns):
    return s.changed(trials=s.tables.trials.assign(**columns))


@pytest.fixture(scope="module")
def plain(simulate):
    """Return a small benchmark on which every check that can pass does."""
    return simulate(n_seeds=10, n_test=200, effect=0.06, noise=0.02)


def facts(s, **changes):
    return s.changed(provenance={**s.provenance, **changes})


@pytest.mark.sample(7)
def test_every_check_is_answered_once_in_the_order_blockers_cautions_notes(any_case, known):
    checks = known(any_case).checks
    named = [c.id for c in checks if c.level != "note"]
    asked = [*ALL, "C24"] if any_case == "auroc" else ALL
    assert named == sorted(named, key=asked.index) and named == asked
    assert all(c.text.endswith((".", "!", "?")) or c.level == "note" for c in checks)
    assert all(c.why for c in checks if c.state == "failed" and c.level != "note")


def test_a_sound_benchmark_passes_what_can_be_checked(plain):
    f = plain.findings()
    # Six epochs have no last quarter whose slope would say anything (C14).
    assert {c.id for c in f.checks if c.state != "passed"} <= {"C6", "C7", "C14", "C21"}


@pytest.mark.parametrize(("n", "b1", "c1"), [
    (5, "failed", "not checked"), (6, "passed", "failed"), (10, "passed", "passed"),
])  # fmt: skip
def test_the_number_of_pairs_is_one_blocker_or_one_caution(simulate, n, b1, c1):
    f = simulate(n_seeds=n, n_test=100).findings()
    assert (check(f, "B1").state, check(f, "C1").state) == (b1, c1)


@pytest.mark.parametrize(("n", "b1"), [(6, "failed"), (7, "passed")])
def test_three_treatments_share_the_error_rate_and_need_seven_pairs(simulate, n, b1):
    # 2^-5 = 0.031 and 2^-6 = 0.016; each treatment has 0.05 / 3 = 0.017
    f = simulate(n_seeds=n, n_test=100, treatments=("a", "b", "c"), effect=0.05).findings()
    assert check(f, "B1").state == b1
    assert {c.verdict.word == "none" for c in f.comparisons} == {b1 == "failed"}


@pytest.mark.parametrize(("higher", "word"), [(True, "worse"), (False, "better")])
def test_a_strong_skew_is_named_with_its_side_and_what_it_costs(simulate, higher, word):
    s = simulate(n_seeds=10, n_test=100, scores_only=True, metric="score", higher_is_better=higher)
    assert state(s, "C18") == "passed"
    skewed = s.tables.scores.copy()
    order = skewed[skewed.arm == "smoothed"].index
    base = skewed[skewed.arm == "baseline"].set_index("seed").value
    gains = [0.0, 0.001, 0.002, 0.001, 0.003, 0.0, 0.002, 0.001, 0.002, 0.2]
    skewed.loc[order, "value"] = base.loc[skewed.loc[order, "seed"]].to_numpy() + gains
    found = check(s.changed(scores=skewed).findings(), "C18")
    assert found.state == "failed" and "to the right, skewness +2.7" in found.text
    assert f"called {word} in 9.5% of studies (2.5% promised)" in found.why
    assert "13.3% (5%)" in found.why


@pytest.mark.parametrize("n", SKEW_COST)
def test_what_skew_costs_is_what_the_check_says(n):
    rng = np.random.default_rng(1)
    d = rng.exponential(size=(40_000, n)) - 1
    error = d.std(axis=1, ddof=1) / np.sqrt(n)
    below = (d.mean(axis=1) + stats.t.ppf([[0.975], [0.95]], n - 1) * error < 0).mean(axis=1)
    assert SKEW_COST[n] == pytest.approx(below, abs=0.005)
    normal = [_strong_skew(row) for row in rng.normal(size=(4000, n))]
    assert np.mean(np.array(normal) != 0) < 0.06


def test_arms_that_drew_differently_are_named(plain):
    assert state(plain, "C17") == "passed"
    assert "init, order" in check(plain.findings(), "C17").text
    rows = plain.tables.trials
    other = [
        json.dumps({"streams": {"init": "same", "order": f"{arm if seed == 3 else ''}{seed}"}})
        for arm, seed in zip(rows.arm, rows.seed, strict=True)
    ]
    found = check(with_trials(plain, facts=other).findings(), "C17")
    assert found.state == "failed" and "order in 1 pair." in found.text
    assert state(with_trials(plain, facts=["{}"] * len(rows)), "C17") == "not checked"


def test_runs_of_different_length_are_not_compared_draw_for_draw(simulate):
    short = simulate(n_seeds=6, n_epochs=1)
    rows = short.tables.trials
    facts = [json.dumps({"streams": {"order": arm}}) for arm in rows.arm]
    epochs = short.tables.epochs[short.tables.epochs.arm == "baseline"]
    assert state(with_trials(short.changed(epochs=epochs), facts=facts), "C17") == "not checked"


def test_an_a_a_says_that_nothing_should_be_found(simulate):
    some = simulate(effect=0.0, n_seeds=8, aa=True)
    assert "both arms are the baseline" in check(some.findings(), "N5").text
    assert state(some, "C17") == "not checked"
    lucky = simulate(effect=0.05, n_seeds=8, aa=True).findings()
    assert "A difference was found where there is none" in check(lucky, "N5").text


def test_scores_from_elsewhere_cannot_be_checked_for_other_differences(plain):
    assert state(plain, "B2") == "passed"
    assert state(plain.changed(design={"benchmark_id": ""}), "B2") == "not checked"


def test_the_scored_epoch_is_compared_with_the_best_on_validation(plain):
    assert state(plain, "B3") == "passed"
    other = with_trials(plain, selected_epoch=plain.tables.trials.selected_epoch + 1)
    assert state(other, "B3") == "not checked"
    unknown = plain.changed(trials=plain.tables.trials.drop(columns="selected_epoch"))
    assert state(unknown, "B3") == "not checked"


@pytest.mark.parametrize(("overlap", "expected"), [(0, "passed"), (100, "failed")])
def test_test_examples_in_training_are_a_blocker(plain, overlap, expected):
    s = facts(plain, data={"name": "x", "train_test_overlap": overlap, "test": 200})
    f = s.findings()
    assert check(f, "B4").state == expected
    assert (f.comparisons[0].verdict.word == "none") == (expected == "failed")


def test_an_unrecorded_overlap_is_not_checked(plain):
    assert state(facts(plain, data={}), "B4") == "not checked"


def test_predictions_that_do_not_give_the_logged_accuracy_are_a_blocker(plain):
    assert state(plain, "B5") == "passed"
    changed = dict(plain.tables.predictions)
    old = changed["smoothed", 3, "test"]
    rolled = np.roll(old.log_probabilities, 1, axis=0)
    changed["smoothed", 3, "test"] = Predictions(rolled, old.labels)
    f = plain.changed(predictions=changed).findings()
    assert check(f, "B5").state == "failed"
    assert "1 of 20 runs" in check(f, "B5").text
    assert f.comparisons[0].verdict.headline.startswith("No verdict: in 1 of 20 runs the stored")


def test_scores_only_leave_the_predictions_unchecked(known):
    f = known("scores_only")
    assert [check(f, name).state for name in ("B5", "C11", "C14", "C15")] == ["not checked"] * 4


def test_failed_runs_are_weighed_at_their_worst(plain, known):
    assert state(plain, "B6") == "passed"
    assert check(known("failed_runs"), "B6").state == "failed"


@pytest.mark.parametrize("name", ["identical_arms", "constant_difference"])
def test_no_spread_is_a_blocker_that_the_page_lists(known, name):
    f = known(name)
    assert check(f, "B7").state == "failed"
    assert "no spread" in f.comparisons[0].verdict.headline


def test_two_versions_of_a_module_among_the_runs_block_the_verdict(plain):
    rows = plain.tables.trials
    odd = [{"late_modules": {"mylib/loss.py": "one" if i else "other"}} for i in range(len(rows))]
    f = with_trials(plain, facts=[json.dumps(each) for each in odd]).findings()
    assert check(f, "B2").state == "failed" and f.comparisons[0].verdict.word == "none"
    assert "mylib/loss.py (2 versions)" in check(f, "B2").text
    same = [json.dumps({"late_modules": {"mylib/loss.py": "one"}})] * len(rows)
    g = with_trials(plain, facts=same).findings()
    assert check(g, "B2").state == "passed" and not [c for c in g.checks if c.id == "N6"]


def test_a_module_that_one_arm_alone_loads_is_a_note(plain):
    arms = plain.tables.trials.arm
    arm = plain.design.treatments[0]
    facts = [json.dumps({"late_modules": {"mixup.py": "x"}} if a == arm else {}) for a in arms]
    f = with_trials(plain, facts=facts).findings()
    assert check(f, "B2").state == "passed"
    assert check(f, "N6").text == f"mixup.py was loaded while training, and in {arm} alone."


def test_reused_processes_that_change_bits_block_the_verdict(plain):
    assert not [c for c in plain.findings().checks if c.id == "B8"]  # most never share one
    same = facts(plain, reuse_differs=[]).findings()
    assert check(same, "B8").state == "passed" and same.comparisons[0].verdict.word != "none"
    f = facts(plain, reuse_differs=["smoothed/seed-03"]).findings()
    assert check(f, "B8").state == "failed"
    assert "smoothed/seed-03 gives other bits" in check(f, "B8").text
    assert f.comparisons[0].verdict.word == "none"


def test_one_pair_cannot_show_a_spread(known):
    assert check(known("one_pair"), "B7").state == "not checked"
    assert check(known("two_pairs"), "B7").state == "passed"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "passed"),
        ({"frozen_before_first_run": False}, "failed"),
        ({"analysis_changed_after_results": True}, "failed"),
        ({"frozen_at": None}, "not checked"),
    ],
)
def test_the_plan_must_have_been_frozen_before_the_results(plain, change, expected):
    assert state(plain.changed(design=change), "C2") == expected


def test_seeds_added_after_a_look_are_said(known):
    found = check(known("seeds_added"), "C3")
    assert (found.state, "after 10 pairs had finished" in found.text) == ("failed", True)


@pytest.mark.parametrize(
    ("looks", "expected"), [(0, "passed"), (2, "failed"), (None, "not checked")]
)
def test_earlier_benchmarks_on_the_test_set_widen_the_printed_interval(plain, looks, expected):
    f = facts(plain, earlier_looks=looks).findings()
    found = check(f, "C4")
    assert found.state == expected
    if looks:
        assert "Adjusted for 3 looks (Bonferroni), the interval of smoothed is [" in found.why


def test_several_treatments_are_all_reported(known):
    assert "All 3 treatments" in check(known("three_treatments"), "C5").text


@pytest.mark.sample(7)
def test_tuning_is_never_said_to_have_been_checked(any_case, known):
    assert check(known(any_case), "C6").state == "not checked"


def test_failures_in_one_arm_only_are_a_caution(known):
    f = known("failed_runs")
    assert check(f, "C7").state == "failed"
    assert "baseline 1, smoothed 2" in check(f, "C7").text


@pytest.mark.parametrize("n", [3, 6, 10, 20])
def test_healthy_runs_are_hardly_ever_called_collapsed(n):
    """Normal values without a chance level: 22, 11, 8 and 5 % of benchmarks with raw MADs."""
    rng = np.random.default_rng(2)
    design = SimpleNamespace(higher_is_better=True, arms=("a", "b"), units=Units())
    false = 0
    for _ in range(2000):
        both = rng.normal(size=(2, n))
        runs = [
            SimpleNamespace(arm=arm, status="finished", value=value)
            for arm, values in zip("ab", both, strict=True)
            for value in values
        ]
        scale = _pooled_mad(SimpleNamespace(design=design, runs=runs, published={}))
        false += any(_collapsed(values, design, None, scale).any() for values in both)
    assert false / 2000 <= 0.008


def test_a_run_far_out_but_far_from_chance_has_not_collapsed():
    design = SimpleNamespace(higher_is_better=True)
    values = np.array([0.94, 0.941, 0.939, 0.942, 0.94, 0.90, 0.5, 0.1])
    assert _collapsed(values, design, 0.1, 0.001).tolist() == [False] * 6 + [True] * 2
    assert _collapsed(values, design, None, 0.001).tolist() == [False] * 5 + [True] * 3
    assert _collapsed(values, design, 0.1, 0.0).tolist() == [False] * 7 + [True]
    loss = SimpleNamespace(higher_is_better=False)
    assert _collapsed(-values, loss, None, 0.001).tolist() == [False] * 5 + [True] * 3


def test_a_collapsed_run_is_counted_with_a_rate(known):
    f = known("collapsed_runs")
    arm = f.arm("smoothed")
    assert (arm.n_collapsed, arm.n_finished) == (1, 20)
    assert "smoothed: 1 run collapsed (0% to 25% of runs)" in check(f, "C7").text


def test_without_a_verdict_other_analyses_are_not_compared(known):
    f = known("rule0_few_pairs")
    assert [check(f, name).state for name in ("C8", "C9")] == ["not checked"] * 2


def test_one_seed_that_decides_is_named(simulate):
    # one seed with a very large gain carries the mean
    s = simulate(n_seeds=10, effect=0.012, noise=0.0162, margin=None, scope="seeds")
    found = check(s.findings(), "C9")
    assert found.state == "failed"
    assert "seed " in found.text


def test_runs_on_other_machines_are_a_caution(plain):
    assert state(plain, "C10") == "passed"
    devices = ["cuda:0" if i % 2 else "cpu" for i in range(20)]
    mixed = check(with_trials(plain, device=devices).findings(), "C10")
    assert (mixed.state, "device: cpu, cuda" in mixed.text) == ("failed", True)
    versions = [json.dumps({"torch": f"2.{i % 2}"}) for i in range(20)]
    found = check(with_trials(plain, environment=versions).findings(), "C10")
    assert (found.state, "torch: 2.0, 2.1" in found.text) == ("failed", True)


@pytest.mark.parametrize("nothing", ["", "{}", None, float("nan")])
def test_unrecorded_machines_are_not_checked(plain, nothing):
    assert state(with_trials(plain, environment=[nothing] * 20), "C10") == "not checked"


def test_scope_seeds_says_what_new_examples_would_add(simulate, known):
    assert check(known("rule3_better"), "C11").state == "passed"
    assert check(known("scope_seeds"), "C11").state in ("passed", "failed")
    s = simulate(n_seeds=10, n_test=200, effect=0.02, noise=0.01, scope="seeds")
    f = s.findings()
    two_way = f.comparisons[0].analysis("two_way")
    assert f.comparisons[0].verdict.word == "better"
    assert check(f, "C11").state == ("failed" if two_way.low <= 0 else "passed")


@pytest.mark.parametrize(
    ("dirty", "expected"), [(False, "passed"), (True, "failed"), (None, "not checked")]
)
def test_uncommitted_changes_are_a_caution(plain, dirty, expected):
    assert state(facts(plain, dirty=dirty), "C12") == expected


def test_a_spread_below_one_test_example_is_a_caution(plain, simulate):
    assert state(plain, "C13") == "passed"
    coarse = simulate(n_seeds=10, n_test=100, effect=0.05, noise=0.003)
    assert state(coarse, "C13") == "failed"
    assert state(simulate(n_seeds=10, metric="nll"), "C13") == "not checked"


@pytest.mark.parametrize(("rise", "expected", "said"), [
    ({"baseline": 0.0, "smoothed": 0.0}, "passed", "levelled off"),
    ({"baseline": 0.02, "smoothed": 0.02}, "passed", "baseline [+9.99, +10.01] pp"),
    ({"baseline": 0.0, "smoothed": 0.01}, "failed", "could move: smoothed by [+5.00, +5.00] pp"),
])  # fmt: skip
def test_a_difference_that_still_moves_at_the_end_is_a_caution(simulate, rise, expected, said):
    s = simulate(n_seeds=10, n_test=200, n_epochs=20)
    epochs = s.tables.epochs.copy()
    late = np.maximum(epochs.epoch - 14, 0)
    own = 0.0005 * np.sin(7 * epochs.seed + 3 * epochs.epoch)  # a spread over runs
    epochs["val/accuracy"] = 0.6 + epochs.arm.map(rise) * late + own
    found = check(s.changed(epochs=epochs).findings(), "C14")
    assert found.state == expected and said in found.text, found.text


def test_a_noisy_plateau_cannot_rule_out_a_rise_and_few_epochs_say_nothing(plain, simulate):
    noisy = simulate(n_seeds=6, n_test=200, n_epochs=20, n_val=50)
    assert "could move" in check(noisy.findings(), "C14").text
    assert state(plain, "C14") == "not checked"
    assert state(plain.changed(epochs=plain.tables.epochs.iloc[:0]), "C14") == "not checked"


def test_validation_that_points_the_other_way_is_a_caution(plain):
    assert state(plain, "C15") == "passed"
    swapped = {
        ({"baseline": "smoothed", "smoothed": "baseline"}[arm], seed, split)
        if split == "validation"
        else (arm, seed, split): p
        for (arm, seed, split), p in plain.tables.predictions.items()
    }
    assert state(plain.changed(predictions=swapped), "C15") == "failed"
    tests = {k: p for k, p in plain.tables.predictions.items() if k[2] == "test"}
    assert state(plain.changed(predictions=tests), "C15") == "not checked"


def test_retries_failures_and_notes_are_listed(simulate):
    s = simulate(n_seeds=8, failed={("smoothed", 5)})
    attempts = [2 if i == 3 else 1 for i in range(16)]
    noted = facts(with_trials(s, attempts=attempts), notes=["The weights are stand-ins."])
    texts = {c.id: c.text for c in noted.findings().checks if c.level == "note"}
    assert texts["N1"] == "Seed 1, smoothed, took 2 attempts (same seed)."
    assert texts["N2"] == "Seed 5, smoothed, failed: loss became NaN at epoch 4"
    assert texts["N3"] == "The weights are stand-ins."


def test_one_very_long_run_is_noted(plain):
    times = [100.0 if i == 4 else 2.0 for i in range(20)]
    f = with_trials(plain, duration_s=times).findings()
    assert check(f, "N4").text == "One run took 1m 40s, the median run 2.0 s."


def with_facts(s, **facts_of_run):
    """Return a benchmark whose runs recorded these facts, each a function of arm and seed."""
    rows = s.tables.trials
    found = [
        {name: of(arm, seed) for name, of in facts_of_run.items()}
        for arm, seed in zip(rows.arm, rows.seed, strict=True)
    ]
    return with_trials(s, facts=list(map(json.dumps, found)))


def test_runs_that_nothing_seeded_are_counted_and_the_way_to_see_it_is_named(plain):
    assert state(plain, "C20") == "passed"
    s = with_facts(plain, seed_used=lambda arm, seed: arm == "baseline" or seed < 7)
    found = check(s.findings(), "C20")
    assert found.state == "failed"
    assert found.text.startswith("3 of 20 runs drew from no stream of the trial and did not read")
    assert "(smoothed 3)" in found.text and "doctor" in found.why


@pytest.mark.parametrize("recorded", [None, "yes", 1])
def test_whether_a_seed_was_used_may_not_be_known(plain, recorded):
    s = with_facts(plain, seed_used=lambda arm, seed: recorded)
    assert state(s, "C20") == "not checked"


@pytest.mark.parametrize(("drawn", "expected"), [(30, "failed"), (70, "failed"), (71, "passed")])
def test_a_seed_that_draws_little_of_the_pool_is_a_caution(plain, drawn, expected):
    data = {**plain.provenance["data"], "train_pool": 284}
    s = facts(with_facts(plain, trained_on=lambda arm, seed: drawn), data=data)
    found = check(s.findings(), "C21")
    assert found.state == expected and f"{drawn} of the 284 examples" in found.text
    if drawn == 30:
        assert "(10.6%)" in found.text and "12% of simulated studies" in found.why


@pytest.mark.parametrize("pool", [None, "many", 0, -3, True])
def test_a_pool_of_unknown_size_is_not_checked(plain, pool):
    data = {**plain.provenance["data"], "train_pool": pool}
    s = facts(with_facts(plain, trained_on=lambda arm, seed: 30), data=data)
    assert state(s, "C21") == "not checked"
    assert state(facts(plain, data=None), "C21") == "not checked"


@pytest.mark.parametrize(("base", "expected"), [(0.7, "passed"), (0.99, "failed")])
def test_an_auroc_near_its_ceiling_is_a_caution(simulate, base, expected):
    s = simulate(n_seeds=8, n_test=200, n_classes=2, metric="auroc", base=base, effect=0.0)
    found = check(s.findings(), "C24")
    assert found.state == expected
    if expected == "failed":
        assert "near its ceiling (baseline 9" in found.text and "93%" in found.why


def test_the_ceiling_of_other_metrics_is_not_asked_about(plain):
    assert "C24" not in {c.id for c in plain.findings().checks}


@pytest.mark.parametrize(
    ("margin", "state", "said"),
    [
        (0.002, "passed", "is of the size of what was measured"),
        (0.5, "failed", "The margin, 50.00 pp, is larger than"),
        (None, "not checked", "There is no margin"),
    ],
)
def test_a_margin_in_another_unit_is_a_caution(margin, state, said):
    design = Design(
        experiment="e", question="?", baseline="a", treatments=("b",), metric="accuracy",
        higher_is_better=True, seeds=tuple(range(8)), margin=margin, scope="seeds",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    rows = [(arm, seed, 0.9 + 0.003 * rng.normal()) for seed in range(8) for arm in "ab"]
    scores = pd.DataFrame(rows, columns=["arm", "seed", "value"]).assign(score="accuracy")
    trials = scores[["arm", "seed"]].assign(
        status="finished", reason="", device="", duration_s=np.nan, environment="{}"
    )
    empty = pd.DataFrame({"arm": [], "seed": [], "epoch": []})
    f = study(Tables(trials=trials, epochs=empty, scores=scores, predictions={}), design)
    [check] = [check for check in f.checks if check.id == "C19"]
    assert check.state == state and said in check.text
