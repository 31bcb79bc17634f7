import math

import pytest

from bench.experiments.training.setting_rules import (
    POSITIVE,
    SWITCH,
    BadSetting,
    check,
    nearest,
    one_of,
    whole,
)


def refused(rule, value):
    with pytest.raises(BadSetting) as told:
        check({"x": value}, {"x": rule}, defaults={"x": 7})
    return told.value


@pytest.mark.parametrize("value", [0, -3, 20.0, "20", True, None, math.nan])
def test_a_whole_number_is_no_fraction_no_text_and_no_switch(value):
    told = refused(whole(1), value)
    assert told.what == f"setting x is {value!r}; it must be a whole number, 1 or more."
    assert told.settings == {"x": 7}
    assert (told.code, told.exit_status) == ("setting", 2)


@pytest.mark.parametrize("value", [0, -1e-3, math.inf, math.nan, "1e-3", False])
def test_a_positive_number_is_finite_and_above_zero(value):
    assert "it must be a number above 0" in refused(POSITIVE, value).what


def test_a_switch_is_not_a_number():
    assert "it must be true or false" in refused(SWITCH, 1).what


def test_names_are_listed_where_one_is_unknown():
    assert "one of red, blue" in refused(one_of(["red", "blue"]), "green").what


def test_good_settings_and_settings_without_a_rule_pass():
    rules = {"n": whole(1, 7), "lr": POSITIVE, "absent": SWITCH}
    check({"n": 7, "lr": 1, "other": object()}, rules, defaults={})


def test_the_nearest_name_is_spelled_most_alike():
    assert nearest("unifrom", ["article", "uniform"]) == "uniform"
    assert nearest("zzz", ["article", "uniform"]) == "article"
