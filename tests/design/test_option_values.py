"""What is read from a command line: seeds, settings, arms, margins; and what is refused."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, strategies as st

from bench.design.description import Discovered
from bench.design.option_values import (
    LARGEST_SEED,
    MOST_SEEDS,
    BadSeeds,
    BadSetting,
    arms_with,
    in_metric_units,
    parse_seeds,
    require_margin,
)
from bench.experiment import BadExperiment

SEEDS = st.integers(0, LARGEST_SEED)


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


def test_set_changes_every_arm_and_keeps_what_they_differ_in(found: Callable[..., Discovered]):
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
def test_a_value_is_read_as_what_the_setting_is(
    found: Callable[..., Discovered], text: str, value: Any
):
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
    found: Callable[..., Discovered], text: str, what: str, better: str | None
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


def test_an_unknown_setting_is_answered_with_the_nearest_and_all(found: Callable[..., Discovered]):
    with pytest.raises(BadSetting) as caught:
        arms_with(found(), ["epoch=3"])
    assert caught.value.facts == ("Closest: epochs.", "Known: epochs, lr, mode, flag, seen.")


def test_an_arm_is_added_with_what_it_changes(found: Callable[..., Discovered]):
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
def test_an_arm_that_cannot_be_added_is_refused_with_one_that_can(
    found: Callable[..., Discovered], text: str, what: str, fix: str
):
    with pytest.raises(BadSetting) as caught:
        arms_with(found(), [], [text])
    assert what in caught.value.what
    assert caught.value.replace == ((text, fix),)
    assert list(arms_with(found(), [], [fix]))[:2] == ["off", "on"]


def test_two_arms_with_the_same_settings_are_refused(found: Callable[..., Discovered]):
    with pytest.raises(BadExperiment, match="arms 'on' and 'twin' have the same settings"):
        arms_with(found(), [], ["twin:epsilon=0.1"])
    with pytest.raises(BadExperiment, match="nothing to compare"):
        arms_with(found(arms={"a": {}, "b": {}}))


# -- margins


def test_what_is_typed_in_points_is_kept_as_a_fraction():
    assert in_metric_units(0.3, "accuracy") == pytest.approx(0.003)
    assert in_metric_units(0.3, "nll") == in_metric_units(0.3, "return") == 0.3
    assert in_metric_units(None, "accuracy") is None


@pytest.mark.parametrize(
    ("margin", "claim", "says"),
    [(1e308, None, "margin 1e+308"), (None, -1e200, "claim -1e+200"), (1e-70, None, "1e-70")],
)
def test_a_margin_whose_square_is_no_number_is_refused(
    margin: float | None, claim: float | None, says: str
):
    with pytest.raises(BadSetting, match=r"is beyond every metric\.") as caught:
        require_margin(margin, claim)
    assert says in caught.value.what
    require_margin(0.3, 0.0)
