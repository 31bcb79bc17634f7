"""Groups of options: declared once, read by typer, and handed to a command as one value."""

import inspect

import pytest

from bench.commands.options import Arms, Design, Output, expanded, given


def test_a_command_has_the_options_of_its_groups_as_its_own_and_gets_them_back_whole():
    seen = []

    @expanded
    def command(name: str = "x", *, arms: Arms, output: Output) -> None:
        """Do it."""
        seen.append((name, arms, output))

    parameters = inspect.signature(command).parameters
    assert list(parameters) == [
        *("name", "settings", "arms", "append", "metric", "lower_is_better", "datasets"),
        *("as_json", "quiet", "verbose", "no_color"),
    ]
    values = {name: parameter.default for name, parameter in parameters.items()}
    command(**{**values, "settings": ["lr=1"], "quiet": True})
    assert seen == [("x", Arms(settings=["lr=1"]), Output(quiet=True))]
    assert command.__doc__ == "Do it."


def test_what_was_given_is_named_as_it_is_typed():
    assert given(Design(), Arms()) == []
    found = given(Design(aa=True, max_seeds=9, scope="seeds"), Arms(settings=["a=1"]))
    assert found == ["--scope", "--max-seeds", "--aa", "--set"]


@pytest.mark.parametrize("output", [Output(), Output(quiet=True), Output(as_json=True)])
def test_a_message_is_for_a_person_who_wants_it(output: Output, capsys: pytest.CaptureFixture[str]):
    output.say("loading …")
    assert capsys.readouterr() == ("", "loading …\n" if output == Output() else "")
