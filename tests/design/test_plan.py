"""The plan: what identity rests on, and what packs depend on."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from bench.design.description import Discovered
from bench.design.option_values import LARGEST_SEED, arms_with
from bench.design.plan import (
    Plan,
    TrialKey,
    digest,
    make_plan,
    varied_settings,
    what_changed,
)
from bench.execution.devices import Device, Slot
from bench.execution.server import Server
from bench.experiment import BadExperiment

SEEDS = st.integers(0, LARGEST_SEED)
ARMS: dict[str, dict[str, Any]] = {"a": {"lr": 0.1, "steps": 3}, "b": {"lr": 0.2, "steps": 3}}


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


@pytest.mark.parametrize("value", [Path("x"), print, {1, 2}, float, object()])
def test_a_setting_that_cannot_be_recorded_is_refused_with_the_way_out(
    found: Callable[..., Discovered], value: Any
):
    with pytest.raises(BadExperiment, match="setting 'thing' is .* cannot be recorded") as caught:
        found(settings={"thing": value})
    assert "look the object up in train()" in str(caught.value.fix)


def test_a_setting_with_a_name_that_the_store_cannot_hold_is_refused(
    found: Callable[..., Discovered],
):
    with pytest.raises(BadExperiment, match=r"setting 'lr \(head\)' is float '0.1'"):
        found(settings={"lr (head)": 0.1})


def test_the_settings_in_which_arms_differ_are_named():
    assert varied_settings(ARMS) == ["lr"]
    assert varied_settings({"a": {"x": 1}, "b": {"x": 1, "y": None}}) == ["y"]


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


def test_a_plan_takes_margin_and_claim_from_the_experiment_unless_they_are_typed(
    found: Callable[..., Discovered],
):
    mine = found(margin=0.005, claim=0.01)
    how: dict[str, Any] = {"data": {}, "arms": arms_with(mine), "seeds": (0, 1)}
    assert (make_plan(mine, **how).margin, make_plan(mine, **how).claim) == (0.005, 0.01)
    typed = make_plan(mine, **how, margin=0.02, claim=-0.03)
    assert (typed.margin, typed.claim) == (0.02, -0.03)


def test_packs_are_only_made_for_an_experiment_that_trains_packs(found: Callable[..., Discovered]):
    how: dict[str, Any] = {"data": {}, "arms": ARMS, "seeds": (0,)}
    assert make_plan(found(pack_seeds=3), **how).pack_seeds == 0
    packed = found(pack_seeds=3, train_pack=lambda trials: [])
    assert make_plan(packed, **how).pack_seeds == 3


def test_packs_that_depend_on_the_device_are_as_large_as_the_caller_says(
    found: Callable[..., Discovered],
):
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


# -- several data sets ---------------------------------------------------------------------------


def test_a_plan_of_one_data_set_is_what_it_always_was():
    plan = a_plan(margin=0.01)
    assert (
        plan.hash == "25fb91510d059c11acea40ebb6e6eda5e3d4fd0732259e0ed19c4cdbf17c232b"
        and plan.benchmark_id == "dcc9aaae0151498d2d9e01bc789334d0b0ac48abd998f70656907b7b2019d140"
    )
    assert (
        plan.trial_digest(TrialKey("b", 1))
        == "cc93873bdd11bc4b213105374cb0542dfeaa5614ec770db346a80d47832fa21d"
    )
    assert plan.draw(TrialKey("b", 1)) == {"seed": 1}
    assert not {"datasets", "cluster"} & plan.as_dict().keys()


def test_every_data_set_has_trainings_of_its_own():
    plan = a_plan(datasets=("cifar", "svhn"), batches=((0, 7),))
    assert Plan.from_dict(json.loads(json.dumps(plan.as_dict()))) == plan
    keys = plan.trials()
    assert [key.typed for key in keys[:4]] == ["0:a:cifar", "0:b:cifar", "0:a:svhn", "0:b:svhn"]
    assert keys[2].run_name == "a/svhn/seed-00" and keys[2].title == "seed 00, a, svhn"
    assert len({plan.trial_digest(key) for key in keys}) == len(keys) == 8
    drawn = {(key.seed, key.dataset): plan.draw(key)["seed"] for key in keys}
    assert len(set(drawn.values())) == 4  # the same in both arms
    again = replace(plan, aa=True)
    assert len({again.draw(key)["seed"] for key in keys}) == 8
    assert plan.benchmark_id != replace(plan, datasets=("svhn", "cifar")).benchmark_id


def test_seeds_and_data_sets_are_rows_that_stay_when_seeds_are_added():
    plan = a_plan(datasets=("cifar", "svhn"), batches=((0, 7),), scope="new_datasets")
    design = plan.with_seeds([3]).design()
    assert design.seeds == (0, 1, 14, 15, 6, 7) and design.batches == ((0, 1, 14, 15), (6, 7))
    assert design.labels[15] == "svhn, 7" and design.scope == "seeds"
    assert design.units.nested and design.units.new_datasets
    assert design.units.datasets == ("cifar", "svhn") and design.units.columns == "none"


def test_a_pack_trains_on_one_data_set():
    packs = a_plan(datasets=("cifar", "svhn"), pack_seeds=2, batches=((0, 1), (2,))).packs()
    assert [{key.dataset for key in pack} for pack in packs] == [{"cifar"}, {"svhn"}] * 2
    assert [len(pack) for pack in packs] == [4, 4, 2, 2]


def test_other_data_sets_are_another_benchmark_and_said():
    old, new = a_plan(datasets=("cifar", "svhn")), a_plan()
    assert what_changed(old, new) == ["the data sets (cifar, svhn; now one)"]
