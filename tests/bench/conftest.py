"""A small experiment, discovered, plans made of it, and processes that have imported one."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.design.loading import Discovered, discover
from bench.design.plan import Plan, arms_with, make_plan
from bench.execution.server import Server


@pytest.fixture
def tiny(tmp_path: Path, write_tiny: Callable[..., Path]) -> Discovered:
    """Return a small experiment, discovered."""
    return discover(str(write_tiny(tmp_path)))


@pytest.fixture
def serve() -> Iterator[Callable[[object], Server]]:
    """Return what starts a process that imports an experiment; it ends with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda name: stack.enter_context(Server(str(name)))


@pytest.fixture
def plan_of() -> Callable[..., Plan]:
    """Return what plans an experiment over seeds."""

    def plan(found: Discovered, seeds: Any = range(3), **how: Any) -> Plan:
        data = how.pop("data", {"name": "forty numbers", "digest": "d1"})
        arms = arms_with(found, how.pop("overrides", ()), how.pop("extra_arms", ()))
        return make_plan(found, data=data, arms=arms, seeds=tuple(seeds), **how)

    return plan
