"""The plan: what is read from a command line, what identity rests on, and what packs depend on."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from bench.design.loading import Discovered, described
from bench.design.plan import (
    LARGEST_SEED,
    MOST_SEEDS,
    BadSeeds,
    BadSetting,
    Plan,
    TrialKey,
    arms_with,
    digest,
    in_metric_units,
    make_plan,
    parse_seeds,
    require_margin,
    varied_settings,
)
from bench.execution.devices import Device, Slot
from bench.execution.server import Server
from bench.experiment import BadExperiment, Experiment, Outcome

SEEDS = st.integers(0, LARGEST_SEED)
ARMS: dict[str, dict[str, Any]] = {"a": {"lr": 0.1, "steps": 3}, "b": {"lr": 0.2, "steps": 3}}


def found(**changes: Any) -> Discovered:
    values: dict[str, Any] = {
        "name": "mine",
        "question": "Does it help?",
        "arms": {"off": {"epsilon": 0.0}, "on": {"epsilon": 0.1}},
        "settings": {"epochs": 20, "lr": 1e-3, "mode": "fast", "flag": True, "seen": None},
        "train": lambda trial: Outcome(scores={"return": 1.0}),
    }
    experiment = described(Experiment(**{**values, **changes}))
    return Discovered(experiment, "mine.py", {"mine.py": "x = 1"}, {"mine.py": "5"})


def a_plan(**changes: Any) -> Plan:
    values: dict[str, Any] = {
        "experiment": "mine",
        "question": "Does it help?",
        "arms": ARMS,
        "source_digest": "s1",
        "data": {"digest": "d1"},
        "batches": ((0, 1, 2),),
    }
    return Plan(**{**values, **changes})


# -- seeds -----------------------------------------------------------------------------------


@given(st.integers(1, 500))
def test_a_number_means_that_many_seeds_from_zero(n: int):
    assert parse_seeds(str(n)) == tuple(range(n)) == parse_seeds(f" {n} ")


@given(st.lists(SEEDS, min_size=2, max_size=20, unique=True))
def test_a_list_is_read_in_its_order(seeds: list[int]):
    assert parse_seeds(",".join(map(str, seeds))) == tuple(seeds)
    assert parse_seeds(" , ".join(map(str, seeds))) == tuple(seeds)


@given(SEEDS, st.integers(0, 300))
def test_a_range_holds_both_its_ends(first: int, more: int):
    last = min(first + more, LARGEST_SEED)
    assert parse_seeds(f"{first}-{last}") == tuple(range(first, last + 1))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), min_size=1, max_size=5))
def test_ranges_and_numbers_mix_and_each_seed_comes_once(parts: list[tuple[int, int]]):
    text = ",".join(f"{first}-{first + more}" for first, more in parts)
    expected = [s for first, more in parts for s in range(first, first + more + 1)]
    if len(set(expected)) == len(expected):
        assert parse_seeds(text) == tuple(expected)
    else:
        with pytest.raises(BadSeeds, match="names seed .* twice"):
            parse_seeds(text)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_and_nothing_else(text: str):
    try:
        seeds = parse_seeds(text)
    except BadSeeds as refusal:
        assert refusal.exit_status == 2 and refusal.options == (("seeds", 20),)
    else:
        assert 0 < len(seeds) == len(set(seeds)) and all(0 <= s <= LARGEST_SEED for s in seeds)
        assert set(text) <= set("0123456789-, \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0") or not (
            text.isascii()
        )


@pytest.mark.parametrize(
    "text",
    ["0-", "-3", "3-1", "1,", ",", "", "x", "1.5", "1e3", "0x10", "²", "٣", "1--2", "1-2-3",
     "4294967296,1", "0-4294967296", "9" * 30 + ",1"],
)  # fmt: skip
def test_what_is_no_list_of_seeds_is_refused_with_the_three_forms(text: str):
    with pytest.raises(BadSeeds, match="is not a number, range or list") as caught:
        parse_seeds(text)
    assert caught.value.render() == (
        f'error[seeds]: --seeds "{text}" is not a number, range or list.\n'
        "  Use 20, 0-19 or 0,3,7. Seeds are whole numbers from 0 to 4294967295, each once.\n"
        "  fix: seeds=20"
    )


@pytest.mark.parametrize("text", ["0", "100001", "9" * 400])
def test_too_few_or_too_many_seeds_are_refused(text: str):
    with pytest.raises(BadSeeds, match="is not between 1 and 100,000 seeds"):
        parse_seeds(text)


def test_ranges_that_add_up_to_too_many_seeds_are_refused_before_they_are_built():
    with pytest.raises(BadSeeds, match="asks for more than 100,000 seeds"):
        parse_seeds("0-4294967295")
    with pytest.raises(BadSeeds, match="asks for more than 100,000 seeds"):
        parse_seeds(f"0-{MOST_SEEDS - 1},{MOST_SEEDS}")


# -- settings and arms -----------------------------------------------------------------------


def test_set_changes_every_arm_and_keeps_what_they_differ_in():
    arms = arms_with(found(), ["epochs=5", "lr=0.5"])
    assert arms == {
        "off": {"epochs": 5, "lr": 0.5, "mode": "fast", "flag": True, "seen": None, "epsilon": 0.0},
        "on": {"epochs": 5, "lr": 0.5, "mode": "fast", "flag": True, "seen": None, "epsilon": 0.1},
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("epochs=7", 7),
        ("lr=2", 2.0),
        ("lr=1e-2", 0.01),
        ("mode=slow", "slow"),
        ("mode=a=b", "a=b"),
        ("flag=false", False),
        ("flag=False", False),
        ("seen=anything", "anything"),
        ("seen=[1, 2]", [1, 2]),
        (" epochs =7", 7),
    ],
)
def test_a_value_is_read_as_what_the_setting_is(text: str, value: Any):
    key = text.partition("=")[0].strip()
    got = arms_with(found(), [text])["on"][key]
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize(
    ("text", "what", "better"),
    [
        ("epochs=many", "epochs is 'many', but it must be a number like 20", "epochs=20"),
        ("epochs=true", "epochs is True, but it must be a number", "epochs=20"),
        ("flag=1", "flag is 1, but it must be a bool like True", "flag=true"),
        ("mode=3", "mode is 3, but it must be a str like 'fast'", "mode=fast"),
        ("lr=" + "9" * 400, "but it must be a number like 0.001", "lr=0.001"),
        ("lr=" + "9" * 9000, "but it must be a number like 0.001", "lr=0.001"),
        ("mode=" + "[" * 5000 + "1", "", None),
        ("epoch=3", 'there is no setting "epoch"', "epochs=3"),
        ("epo=3", 'there is no setting "epo"', "epochs=3"),
        ("epoch=many", 'there is no setting "epoch"', "epochs=20"),
        ("zzz=3", 'there is no setting "zzz"', "epochs=20"),
        ("epochs", '--set "epochs" is not KEY=VALUE', "epochs=20"),
        ("=3", '--set "=3" is not KEY=VALUE', "epochs=20"),
        ("epsilon=0.3", "epsilon is what the arms differ in", "--arm"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused_with_one_that_does(
    text: str, what: str, better: str | None
):
    if better is None:  # only that it does not fall over: a text is a text
        assert arms_with(found(), [text])["on"]["mode"] == text.partition("=")[2]
        return
    with pytest.raises(BadSetting) as caught:
        arms_with(found(), [text])
    assert what in caught.value.what
    if better == "--arm":
        assert caught.value.options == (("arm", f"another:{text}"),)
        assert caught.value.without == (("set", text),)
    else:
        assert caught.value.replace == ((text, better),)
    assert (caught.value.code, caught.value.exit_status) == ("setting", 2)


def test_an_unknown_setting_is_answered_with_the_nearest_and_all():
    with pytest.raises(BadSetting) as caught:
        arms_with(found(), ["epoch=3"])
    assert caught.value.facts == ("Closest: epochs.", "Known: epochs, lr, mode, flag, seen.")


def test_an_arm_is_added_with_what_it_changes():
    arms = arms_with(found(), ["epochs=5"], ["strong:epsilon=0.3,lr=1"])
    assert list(arms) == ["off", "on", "strong"]
    assert (arms["strong"]["epsilon"], arms["strong"]["lr"], arms["strong"]["epochs"]) == (
        0.3,
        1.0,
        5,
    )


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("on:epsilon=0.3", "arm 'on' exists already", "on-2:epsilon=0.3"),
        ("strong", "it has no NAME:KEY=VALUE", "strong:epsilon=0.15"),
        (":epsilon=0.3", "it has no NAME:KEY=VALUE", "another:epsilon=0.15"),
        ("my arm:", "it has no NAME:KEY=VALUE", "my arm:epsilon=0.15"),
        ("lr:lr,epochs=3", '--arm "lr" is not KEY=VALUE', "lr:epsilon=0.15,epochs=3"),
        ("strong:lr=1,epsilom=1", 'there is no setting "epsilom"', "strong:lr=1,epsilon=1"),
        ("strong:eps=0.2", 'there is no setting "eps"', "strong:epsilon=0.2"),
        ("strong:epsilon=0.3,eps=1", 'there is no setting "eps"', "strong:epsilon=0.3"),
        ("strong:epochs=many", "it must be a number like 20", "strong:epochs=21"),
    ],
)
def test_an_arm_that_cannot_be_added_is_refused_with_one_that_can(text: str, what: str, fix: str):
    with pytest.raises(BadSetting) as caught:
        arms_with(found(), [], [text])
    assert what in caught.value.what
    assert caught.value.replace == ((text, fix),)
    assert list(arms_with(found(), [], [fix]))[:2] == ["off", "on"]


def test_two_arms_with_the_same_settings_are_refused():
    with pytest.raises(BadExperiment, match="arms 'on' and 'twin' have the same settings"):
        arms_with(found(), [], ["twin:epsilon=0.1"])
    with pytest.raises(BadExperiment, match="nothing to compare"):
        arms_with(found(arms={"a": {}, "b": {}}))


@pytest.mark.parametrize("value", [Path("x"), print, {1, 2}, float, object()])
def test_a_setting_that_cannot_be_recorded_is_refused_with_the_way_out(value: Any):
    with pytest.raises(BadExperiment, match="setting 'thing' is .* cannot be recorded") as caught:
        found(settings={"thing": value})
    assert "look the object up in train()" in str(caught.value.fix)


def test_a_setting_with_a_name_that_the_store_cannot_hold_is_refused():
    with pytest.raises(BadExperiment, match=r"setting 'lr \(head\)' is float '0.1'"):
        found(settings={"lr (head)": 0.1})


def test_the_settings_in_which_arms_differ_are_named():
    assert varied_settings(ARMS) == ["lr"]
    assert varied_settings({"a": {"x": 1}, "b": {"x": 1, "y": None}}) == ["y"]


def test_what_is_typed_in_points_is_kept_as_a_fraction():
    assert in_metric_units(0.3, "accuracy") == pytest.approx(0.003)
    assert in_metric_units(0.3, "nll") == in_metric_units(0.3, "return") == 0.3
    assert in_metric_units(None, "accuracy") is None


# -- identity --------------------------------------------------------------------------------

KEY = TrialKey("a", 1)
TRAINING = {
    "experiment": "other",
    "source_digest": "s2",
    "data": {"digest": "d2"},
    "arms": {**ARMS, "b": {"lr": 0.3, "steps": 3}},
    "pack_seeds": 2,
}
JUDGING = {
    "metric": "nll",
    "higher_is_better": False,
    "margin": 0.01,
    "claim": 0.02,
    "alpha": 0.01,
    "scope": "seeds",
    "stop": "anytime",
    "max_seeds": 50,
}


@pytest.mark.parametrize("name", TRAINING)
def test_what_changes_a_training_makes_another_benchmark_and_another_plan(name: str):
    changed = a_plan(**{name: TRAINING[name]})
    assert changed.benchmark_id != a_plan().benchmark_id
    assert changed.hash != a_plan().hash


@pytest.mark.parametrize("name", JUDGING)
def test_what_changes_only_the_judgement_keeps_the_benchmark_but_not_the_plan(name: str):
    changed = a_plan(**{name: JUDGING[name]})
    assert changed.benchmark_id == a_plan().benchmark_id
    assert changed.hash != a_plan().hash
    assert changed.trial_digest(KEY) == a_plan().trial_digest(KEY)


def test_more_seeds_keep_the_benchmark_but_not_the_plan():
    more = a_plan().with_seeds(range(5))
    assert more.batches == ((0, 1, 2), (3, 4)) and more.seeds == (0, 1, 2, 3, 4)
    assert more.benchmark_id == a_plan().benchmark_id and more.hash != a_plan().hash
    assert a_plan().with_seeds([2, 0]) == a_plan()


def test_a_trials_identity_is_its_source_settings_data_seed_and_arm():
    before = a_plan().trial_digest(KEY)
    for changes in (
        {"source_digest": "s2"},
        {"data": {"digest": "d2"}},
        {"arms": {**ARMS, "a": {"lr": 0.3, "steps": 3}}},
    ):
        assert a_plan(**changes).trial_digest(KEY) != before
    assert a_plan().trial_digest(TrialKey("a", 2)) != before
    assert a_plan().trial_digest(TrialKey("b", 1)) != before
    same_settings = a_plan(arms={"a": ARMS["a"], "b": ARMS["a"]})
    assert same_settings.trial_digest(KEY) != same_settings.trial_digest(TrialKey("b", 1))


def test_another_arm_or_another_name_does_not_change_a_trials_identity():
    before = a_plan().trial_digest(KEY)
    for changes in (
        {"experiment": "other"},
        {"arms": {**ARMS, "c": {"lr": 9.0, "steps": 3}}},
        {"batches": ((5, 6),)},
        {"question": "Why?"},
    ):
        assert a_plan(**changes).trial_digest(KEY) == before


def test_the_order_in_which_settings_are_written_changes_nothing():
    turned = {name: dict(reversed(settings.items())) for name, settings in ARMS.items()}
    assert a_plan(arms=turned).benchmark_id == a_plan().benchmark_id
    assert a_plan(arms=turned).trial_digest(KEY) == a_plan().trial_digest(KEY)


def test_the_order_of_the_arms_matters_because_the_first_is_the_baseline():
    turned = a_plan(arms=dict(reversed(ARMS.items())))
    assert turned.benchmark_id != a_plan().benchmark_id
    assert (a_plan().baseline, turned.baseline) == ("a", "b")


def test_a_digest_stays_what_it_is_from_one_version_of_bench_to_the_next():
    # Recorded benchmarks are found again by it: a change here would train everything anew.
    assert a_plan().benchmark_id[:16] == "dcc9aaae0151498d"
    assert a_plan().trial_digest(KEY)[:16] == "d64dac543908a09c"
    assert digest({"b": 1, "a": [1.5, None]}) == digest({"a": (1.5, None), "b": 1})


# -- trials and packs ------------------------------------------------------------------------


def test_the_arms_of_a_seed_stand_side_by_side():
    order = [(key.arm, key.seed) for key in a_plan().trials()]
    assert order == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]


def test_a_run_is_named_for_its_arm_and_seed():
    assert TrialKey("smoothed", 7).run_name == "smoothed/seed-07"
    assert TrialKey("smoothed", 1234).run_name == "smoothed/seed-1234"


def test_without_train_pack_every_trial_is_a_pack():
    assert a_plan().packs() == [(key,) for key in a_plan().trials()]


def test_a_pack_holds_all_arms_of_its_seeds_and_no_seeds_of_a_later_batch():
    plan = a_plan(pack_seeds=2, batches=()).with_seeds([0, 1, 2]).with_seeds([0, 7, 8, 9])
    seeds = [sorted({key.seed for key in pack}) for pack in plan.packs()]
    assert seeds == [[0, 1], [2], [7, 8], [9]]
    assert all({key.arm for key in pack} == {"a", "b"} for pack in plan.packs())


@given(
    st.integers(0, 3),
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.sets(st.integers(0, 40)),
)
def test_packs_never_depend_on_what_is_left(pack_seeds: int, sizes: list[int], done: set[int]):
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    batches = tuple(
        tuple(range(start, start + size)) for start, size in zip(starts, sizes, strict=True)
    )
    plan = a_plan(pack_seeds=pack_seeds, batches=batches)
    trials = plan.trials()
    finished = {trials[i] for i in done if i < len(trials)}
    left = plan.packs_left(finished)
    assert left == [pack for pack in plan.packs() if not finished.issuperset(pack)]
    assert sorted((k.seed, k.arm) for pack in plan.packs() for k in pack) == sorted(
        (k.seed, k.arm) for k in trials
    )


def test_seeds_that_are_added_leave_the_older_packs_as_they_were():
    plan = a_plan(pack_seeds=2)
    assert plan.with_seeds(range(9)).packs()[: len(plan.packs())] == plan.packs()


def test_packs_stay_as_they_were_recorded_where_a_device_holds_more_or_less():
    recorded = a_plan(pack_seeds=4, batches=()).with_seeds(range(6))
    smaller = a_plan(pack_seeds=1, batches=()).with_seeds(range(8))
    assert smaller.benchmark_id == recorded.benchmark_id
    resumed = smaller.in_batches(recorded.batches).with_seeds(smaller.seeds)
    assert resumed.batches == ((0, 1, 2, 3), (4, 5), (6,), (7,))


# -- JSON ------------------------------------------------------------------------------------


@given(st.lists(st.lists(SEEDS, min_size=1, max_size=4), min_size=1, max_size=3))
def test_a_plan_comes_back_from_json_as_it_was(batches: list[list[int]]):
    plan = a_plan(batches=tuple(tuple(b) for b in batches), margin=0.1, stop="group", max_seeds=9)
    plain = json.loads(json.dumps(plan.as_dict()))
    assert Plan.from_dict(plain) == plan
    assert plain["hash"] == plan.hash == Plan.from_dict(plain).hash
    assert plain["benchmark_id"] == plan.benchmark_id


def test_tuples_among_the_settings_keep_their_identity_through_json():
    plan = a_plan(arms={"a": {"sizes": (1, 2)}, "b": {"sizes": (3,)}})
    assert Plan.from_dict(json.loads(json.dumps(plan.as_dict()))).benchmark_id == plan.benchmark_id


def test_the_hash_does_not_change_when_a_plan_is_replaced(plan_of: Callable[..., Plan]):
    plan = a_plan()
    assert plan.hash and replace(plan, margin=0.5).hash == a_plan(margin=0.5).hash


def test_a_plan_takes_margin_and_claim_from_the_experiment_unless_they_are_typed():
    mine = found(margin=0.005, claim=0.01)
    how: dict[str, Any] = {"data": {}, "arms": arms_with(mine), "seeds": (0, 1)}
    assert (make_plan(mine, **how).margin, make_plan(mine, **how).claim) == (0.005, 0.01)
    typed = make_plan(mine, **how, margin=0.02, claim=-0.03)
    assert (typed.margin, typed.claim) == (0.02, -0.03)


def test_packs_are_only_made_for_an_experiment_that_trains_packs():
    how: dict[str, Any] = {"data": {}, "arms": ARMS, "seeds": (0,)}
    assert make_plan(found(pack_seeds=3), **how).pack_seeds == 0
    packed = found(pack_seeds=3, train_pack=lambda trials: [])
    assert make_plan(packed, **how).pack_seeds == 3


def test_packs_that_depend_on_the_device_are_as_large_as_the_caller_says():
    mine = found(pack_seeds=lambda settings, device: 8, train_pack=lambda trials: [])
    how: dict[str, Any] = {"data": {}, "arms": ARMS, "seeds": range(5)}
    plan = make_plan(mine, **how, pack_seeds=2)
    assert plan.pack_seeds == 2 and plan.batches == ((0, 1), (2, 3), (4,))
    assert make_plan(mine, **how).pack_seeds == 0  # which nobody can tell yet


def test_packs_fit_every_device_and_every_arm(
    tmp_path: Path, write_tiny: Callable[..., Path], serve: Callable[[object], Server]
):
    fit = "{'A': 8, 'B': 4}[os.environ['CUDA_VISIBLE_DEVICES']] // s['lr']"
    extra = f"train_pack=lambda trials: [],\n    pack_seeds=lambda s, device: {fit},"
    server = serve(write_tiny(tmp_path, extra=extra))
    first, second = (
        Slot(f"cuda:{index}", 0, 1, (Device("cuda", index, uuid, "NVIDIA A100"),))
        for index, uuid in enumerate("AB")
    )
    arms = {"a": {"lr": 1}, "b": {"lr": 2}}
    assert server.pack_seeds(arms, [first, second]) == 2
    assert server.pack_seeds(arms, [first]) == 4
    assert server.pack_seeds({"a": {"lr": 99}}, [second]) == 1  # the smallest there is


def test_the_design_carries_the_plan_and_its_history():
    design = a_plan(margin=0.01).design(frozen_at="2026-01-01", looks=(2,))
    assert (design.baseline, design.treatments, design.seeds) == ("a", ("b",), (0, 1, 2))
    assert (design.margin, design.looks, design.frozen_at) == (0.01, (2,), "2026-01-01")
    assert design.hash == a_plan(margin=0.01).hash


@pytest.mark.parametrize(
    ("margin", "claim", "says"),
    [(1e308, None, "--margin 1e+308"), (None, -1e200, "--claim -1e+200"), (1e-70, None, "1e-70")],
)
def test_a_margin_whose_square_is_no_number_is_refused(
    margin: float | None, claim: float | None, says: str
):
    with pytest.raises(BadSetting, match=r"is beyond every metric\.") as caught:
        require_margin(margin, claim)
    assert says in caught.value.what
    require_margin(0.3, 0.0)
