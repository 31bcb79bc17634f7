"""Repeats: two equal failures in an arm without a success are a mistake in the experiment."""

from typing import Any

import pytest

from bench.design.plan import TrialKey
from bench.design.results import Failure
from bench.execution.repeats import EDITED, Repeats


def failure(arm: str = "on", seed: int = 0, **more: Any) -> Failure:
    plain = {
        "code": "training",
        "error": "KeyError",
        "place": "mine.py, line 3",
        "what": "KeyError",
    }
    return Failure(key=TrialKey(arm, seed), **{**plain, **more})


def test_the_second_failure_of_its_kind_is_a_repetition():
    repeats = Repeats()
    first, second = failure(seed=0), failure(seed=1)
    repeats.failed(first, 0, final=True)
    assert repeats.found is None
    repeats.failed(second, 1, final=True)
    assert repeats.found is second
    repeats.failed(failure(seed=2), 2, final=True)
    assert repeats.found is second  # it is the first that is told


@pytest.mark.parametrize(
    "other", [{"arm": "off"}, {"error": "ValueError"}, {"place": "mine.py, line 4"}]
)
def test_another_arm_exception_or_line_is_another_kind(other: dict[str, str]):
    repeats = Repeats()
    repeats.failed(failure(seed=0), 0, final=True)
    repeats.failed(failure(seed=1, **other), 1, final=True)
    assert repeats.found is None


def test_a_success_of_the_arm_before_or_between_acquits():
    for repeats in (Repeats(["on"]), Repeats()):
        repeats.succeeded("on")
        for seed in range(4):
            repeats.failed(failure(seed=seed), seed, final=True)
        assert repeats.found is None
        for seed in range(2):
            repeats.failed(failure("off", seed), seed, final=True)
        assert repeats.found is not None and repeats.found.key.arm == "off"


def test_a_pack_fails_once_and_a_retry_counts():
    repeats = Repeats()
    for seed in range(5):
        repeats.failed(failure(seed=seed, attempt=1), 7, final=False)
    assert repeats.found is None
    repeats.failed(failure(attempt=2), 7, final=True)
    assert repeats.found is not None


@pytest.mark.parametrize(
    "by_chance",
    [
        {"code": "nan"},
        {"code": "timeout"},
        {"code": "memory"},
        {"code": "gpu-memory"},
        {"code": "crash", "error": "SIGKILL"},
    ],
)
def test_what_the_next_training_may_be_free_of_never_counts(by_chance: dict[str, str]):
    repeats = Repeats()
    for seed in range(9):
        repeats.failed(failure(seed=seed, **by_chance), seed, final=True)
    assert repeats.found is None


def test_a_segfault_that_repeats_counts():
    repeats = Repeats()
    for attempt in (1, 2):
        repeats.failed(
            failure(code="crash", error="SIGSEGV", place="", attempt=attempt), 0, final=attempt > 1
        )
    assert repeats.found is not None


def test_a_device_is_blamed_until_the_retry_elsewhere_fails_too():
    repeats = Repeats()
    for pack in range(5):
        repeats.failed(failure(code="device", error="RuntimeError"), pack, final=False)
    assert repeats.found is None
    repeats.failed(failure(code="device", error="RuntimeError", attempt=2), 0, final=True)
    assert repeats.found is not None  # once: two devices have failed


def test_that_no_device_is_left_is_no_mistake_of_the_experiments():
    repeats = Repeats()
    repeats.failed(failure(code="device", error="", place=""), 0, final=True)
    assert repeats.found is None


def test_an_edited_file_ends_it_at_once_whatever_has_succeeded():
    repeats = Repeats(["on"])
    repeats.failed(failure(code=EDITED), 0, final=True)
    assert repeats.found is not None
