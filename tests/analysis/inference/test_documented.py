"""Every public statistic says what it takes, refuses and rests on, and its example is true."""

import doctest
import inspect
import sys

import pytest

from bench.analysis import inference

PUBLIC = {name: getattr(inference, name) for name in inference.__all__}
FUNCTIONS = [name for name, value in PUBLIC.items() if inspect.isfunction(value)]


@pytest.mark.sample(len(PUBLIC))
@pytest.mark.parametrize("name", PUBLIC)
def test_its_worked_example_is_true(name: str):
    value = PUBLIC[name]
    names = vars(sys.modules[value.__module__])
    [example] = doctest.DocTestFinder(recurse=False).find(value, name, globs=dict(names))
    assert example.examples, "has no example"
    said: list[str] = []
    doctest.DocTestRunner().run(example, out=said.append)
    assert said == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_says_what_it_takes_what_it_refuses_and_its_source(name: str):
    text = inspect.getdoc(PUBLIC[name]) or ""
    for head in ("Parameters", "Raises", "References", "Examples"):
        assert f"{head}\n{'-' * len(head)}\n" in text
    taken = text.partition("Parameters\n")[2].partition("Raises\n")[0]
    for parameter in inspect.signature(PUBLIC[name]).parameters:
        assert parameter in taken
