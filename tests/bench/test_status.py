"""Status: one word a pair, and a command to go on."""

import re
from typing import Any

import pytest

from bench.plan import TrialKey, parse_seeds
from bench.status import Listing, State


def state(words: dict[tuple[str, int], str], **changes: Any) -> State:
    seeds = tuple(dict.fromkeys(seed for _, seed in words))
    values: dict[str, Any] = {
        "name": "mine",
        "benchmark_id": "abcdef0123456789",
        "verdict": None,
        "active_at": 1.7e9,
        "held": False,
        "arms": tuple(dict.fromkeys(arm for arm, _ in words)),
        "seeds": seeds,
        "trials": {TrialKey(arm, seed): word for (arm, seed), word in words.items()},
    }
    return State(**{**values, **changes})


def pair(first: str, second: str) -> str:
    return state({("a", 0): first, ("b", 0): second}).pair(0)


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        ("finished", "finished", "finished"),
        ("finished", "failed", "failed"),
        ("running", "failed", "failed"),
        ("finished", "running", "running"),
        ("running", "waiting", "running"),
        ("finished", "waiting", "waiting"),
        ("waiting", "waiting", "waiting"),
    ],
)
def test_a_pair_is_only_as_far_as_its_slowest_arm(first: str, second: str, word: str):
    assert pair(first, second) == pair(second, first) == word


MIXED = {
    ("base", 0): "finished", ("new", 0): "finished",
    ("base", 1): "running", ("new", 1): "waiting",
    ("base", 2): "finished", ("new", 2): "failed",
    ("base", 3): "waiting", ("new", 3): "waiting",
}  # fmt: skip


def test_marks_counts_and_the_way_on_are_shown():
    text = state(MIXED).text(unicode=True)
    assert text.splitlines()[0] == "mine   4 pairs planned   not running"
    assert "  base  ●◐●·" in text and "  new   ●·×·" in text
    assert "1 done, 1 running, 1 failed, 1 waiting" in text
    assert "  resume   bench run mine --seeds 4" in text


def test_without_unicode_there_are_only_plain_signs():
    text = state(MIXED, name="größe").text(unicode=False)
    assert text.isascii() and "  base  o-o." in text and "  new   o.x." in text


def test_a_benchmark_that_is_running_is_not_to_be_resumed():
    text = state(MIXED, held=True).text(unicode=True)
    assert "running now" in text and "resume" not in text


def test_a_finished_benchmark_shows_its_last_verdict_and_no_way_on():
    done = state({("a", 5): "finished", ("b", 5): "finished"}, verdict="better")
    assert "verdict  better, when last reported" in done.text(unicode=True)
    assert "resume" not in done.text(unicode=True)


@pytest.mark.parametrize("seeds", [(0, 1, 2), (3,), (0,), (5, 1), (0, 2), (7, 8, 9)])
def test_the_way_on_names_exactly_the_planned_seeds(seeds: tuple[int, ...]):
    waiting = state({(arm, seed): "waiting" for seed in seeds for arm in ("a", "b")})
    text = waiting.text(unicode=True)
    assert parse_seeds(text.rpartition("--seeds ")[2]) == seeds


def test_many_seeds_are_shown_fifty_a_line():
    many = state({(arm, s): "finished" for s in range(120) for arm in ("a", "b")})
    lines = many.text(unicode=True).splitlines()
    assert [line.count("●") for line in lines if line.startswith("  a ")] == [50, 50, 20]
    assert max(map(len, lines)) <= 80


def test_json_gives_every_trial_and_the_counts():
    plain = state(MIXED).as_dict()
    assert plain["experiment"] == "mine" and plain["pairs_planned"] == 4
    assert {k: v for k, v in plain.items() if re.fullmatch("pairs_(?!planned).*", k)} == {
        "pairs_finished": 1,
        "pairs_running": 1,
        "pairs_failed": 1,
        "pairs_waiting": 1,
    }
    assert {"arm": "new", "seed": 2, "status": "failed"} in plain["trials"]


def test_the_list_has_a_line_a_benchmark():
    listed = Listing((state(MIXED, verdict="better"), state(MIXED, name="other", held=True)))
    lines = listed.text(unicode=True).splitlines()
    assert lines[0].split() == ["experiment", "pairs", "failed", "verdict", "last", "active",
                                "benchmark"]  # fmt: skip
    assert re.match(r"mine +1/4 +1 +better +\d{4}-\d\d-\d\d \d\d:\d\d +abcdef0$", lines[1])
    assert re.match(r"other +1/4 +1 +running ", lines[2])
    assert [b["experiment"] for b in listed.as_dict()["benchmarks"]] == ["mine", "other"]
    assert "trials" not in listed.as_dict()["benchmarks"][0]


def test_an_empty_list_says_what_to_run():
    assert Listing(()).text(unicode=True).endswith("next     bench run digits --seeds 20")
