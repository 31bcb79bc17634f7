"""Words of commands and of typed arms: what is filled in, what stays, and which sign decides."""

import pytest

from bench.experiment import BadExperiment
from bench.programs.template import odd_fields, of_a_shell, words
from bench.programs.typed import TypedArm


@pytest.mark.parametrize(
    ("command", "values", "expected"),
    [
        ("a --seed {seed} {seed}", {"seed": 3}, ["a", "--seed", "3", "3"]),
        ("a --x={x} '{x}y'", {"x": "b c"}, ["a", "--x=b c", "b cy"]),
        ("""a '{"lr": 0.1, "s": {seed}}'""", {"seed": 3}, ["a", '{"lr": 0.1, "s": 3}']),
        ("a {} {0} {other} %d {{seed}}", {"seed": 3}, ["a", "{}", "{0}", "{other}", "%d", "{3}"]),
        ("a {lr} {on} {sizes}", {"lr": 1e-4, "on": True, "sizes": [1, 2]}, None),
        ("a {x}", {"x": "{seed}", "seed": 3}, ["a", "{seed}"]),
        ("a {x} {xs}", {"x": 1, "xs": 2}, ["a", "1", "2"]),
    ],
)
@pytest.mark.sample(7)
def test_known_names_are_filled_in_and_other_braces_stay(command, values, expected):
    assert words(command, values) == (expected or ["a", "0.0001", "true", "[1, 2]"])


def test_a_value_is_one_word_also_for_a_shell():
    assert words("a {x} && b", {"x": "c; d"}, shell=True) == ["/bin/sh", "-c", "a 'c; d' && b"]


@pytest.mark.parametrize("command", ["a 'b", "  "])
def test_words_that_cannot_be_told_are_refused(command):
    with pytest.raises(BadExperiment):
        words(command, {})


def test_a_shells_signs_are_found_unless_they_are_quoted():
    assert of_a_shell("a b && c") == "&&"
    assert of_a_shell("a 2>log") == "2>log"
    assert of_a_shell("a '&&' \"|\" --f=x>y") == ""


def test_what_looks_like_a_field_is_told_and_a_variable_of_the_shell_is_not():
    assert odd_fields("a {sed} ${HOME} {seed} {0}", ["seed"]) == ["sed"]


@pytest.mark.parametrize(
    ("text", "name", "command", "rev"),
    [
        ("a=b:c@git:d", "a", "b:c@git:d", None),
        ("a:x=1", "a", None, None),
        ("a@git:feature/x=1:2", "a", None, "feature/x=1:2"),
        ("a@b=c", "a@b", "c", None),
        ("a=x\ny", "a", "x\ny", None),
        ("a", "a", None, None),
    ],
)
@pytest.mark.sample(6)
def test_the_first_sign_after_the_name_says_what_an_arm_is(text, name, command, rev):
    arm = TypedArm.of(text)
    assert (arm.name, arm.command, arm.rev) == (name, command, rev)
    assert arm.is_settings == (command is None and rev is None)
