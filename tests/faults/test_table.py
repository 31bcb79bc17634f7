"""The table of faults: what it shows where nobody counted lost runs, and the campaign's page."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def shared(pytestconfig: pytest.Config) -> Any:
    """Return what all tests share: it prints the table."""
    return pytestconfig.pluginmanager.get_plugin(str(Path(__file__).parents[1] / "conftest.py"))


@pytest.fixture
def campaign() -> Any:
    spec = importlib.util.spec_from_file_location("c", Path(__file__).with_name("campaign.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_runs_that_nobody_looked_for_are_a_dash_and_not_a_zero(shared: Any, fault: Any):
    tally = type(fault)({})
    with tally("kill"):
        tally.lost("kill", 0)
    with tally("lock"):
        tally.right("lock", [0.5], [0.5])
    assert shared.lines_of(dict(reversed(tally.table.items()))) == [
        "      injected  survived  finished runs lost  wrong",
        "lock         1         1                   –      0",
        "kill         1         1                   0      –",
        "all          2         2                   0      0",
    ]


def test_a_fault_that_is_not_survived_or_loses_runs_is_counted_so(fault: Any):
    tally = type(fault)({})
    with pytest.raises(AssertionError, match="2 finished runs lost"), tally("kill"):
        tally.lost("kill", 2)
    assert tally.table == {"kill": {"injected": 1, "survived": 0, "finished runs lost": 2}}


def test_a_command_that_ends_well_with_other_numbers_is_counted_as_wrong(fault: Any):
    tally = type(fault)({})
    with pytest.raises(AssertionError), tally("kill"):
        tally.right("kill", [0.5], [0.6])
    assert tally.table == {"kill": {"injected": 1, "survived": 0, "wrong": 1}}


def test_the_campaigns_page_says_when_and_on_what(campaign: Any):
    text = campaign.page(["      injected  ", "all          2"], "3 tests passed", 600)
    assert "3 tests passed, in 10 minutes.\nPython 3." in text and " cores, " in text
    assert "```text\n      injected\nall          2\n```\n" in text
