"""Status: one word a pair, and a command to go on."""

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.errors import Refusal
from bench.commands.common import experiment_name
from bench.design.option_values import parse_seeds
from bench.design.plan import Plan, TrialKey
from bench.display.status import Listing, State, listing
from bench.store.artifacts import Damaged
from bench.store.mlflow_store import Store
from bench.store.records import goes_on, seeds_text
from bench.store.runs import Benchmark, Unreadable


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
    again = "bench run mine.py --set nap=0.1 --seeds 4"
    text = state(MIXED, again=again).text(unicode=True)
    assert text.splitlines()[0] == "mine   4 pairs planned   not running"
    assert "  base  ●◐●·" in text and "  new   ●·×·" in text
    assert "1 done, 1 running, 1 failed, 1 waiting" in text
    assert text.endswith(f"  resume   {again}")


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
def test_seeds_are_named_as_they_are_typed(seeds: tuple[int, ...]):
    assert parse_seeds(seeds_text(seeds)) == seeds


@pytest.mark.parametrize(
    ("typed", "again"),
    [
        ("bench run pkg/forest.py --set lr=2", "bench run pkg/forest.py --set lr=2"),
        ("bench run 'my file.py' -s 4 --fresh", "bench run 'my file.py' -s 4"),
        ("bench run f.py --redo 3:a --redo=4:b --arm x:lr=1", "bench run f.py --arm x:lr=1"),
        (
            "bench plan f.py --seeds 4 --freeze --stop group",
            "bench run f.py --seeds 4 --stop group",
        ),
        ("bench run it's.py", "bench run forest --seeds 0,7"),  # recorded without quotes
        ("pytest -q", "bench run forest --seeds 0,7"),
        ("", "bench run forest --seeds 0,7"),
    ],
)
def test_what_was_typed_last_goes_on_with_it(typed: str, again: str):
    plan = Plan(
        experiment="forest", question="?", arms={"a": {}}, source_digest="s", data={},
        batches=((0, 7),),
    )  # fmt: skip
    benchmark = Benchmark("run", "1", "forest", plan.benchmark_id, 0.0, 0.0, plan, ())
    assert shlex.join(goes_on(benchmark, typed)) == again


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


def test_a_damaged_benchmark_is_a_row_that_says_so_and_what_mends_it():
    damaged = Unreadable("run", "torn", "fedcba98", 1.7e9, Damaged("it is torn.", fix="glue"))
    listed = Listing((damaged, state(MIXED)))
    lines = listed.text(unicode=True).splitlines()
    assert re.match(r"torn +damaged +\d{4}-\d\d-\d\d \d\d:\d\d +fedcba9$", lines[1])
    assert lines[2].startswith("mine ") and lines[-2:] == ["it is torn.", "  fix: glue"]
    [said] = listed.as_dict()["damaged"]
    assert (said["experiment"], said["message"]) == ("torn", "it is torn.")
    assert [b["experiment"] for b in listed.as_dict()["benchmarks"]] == ["mine"]


def test_an_empty_list_says_what_to_run():
    assert Listing(()).text(unicode=True).endswith("next     bench run digits --seeds 20")


def test_a_module_is_known_by_the_name_that_it_gives_itself(
    tmp_path: Path, tiny_text: Callable[..., str], monkeypatch: pytest.MonkeyPatch
):
    package = tmp_path / "mine_package"
    package.mkdir()
    (package / "mine_forest.py").write_text(tiny_text(name="oak"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # for the process that imports it
    assert experiment_name("mine_package.mine_forest") == "oak"
    assert experiment_name(str(package / "mine_forest.py")) == "oak"
    for recorded in ("oak", "oak.v2", "mine_package.elm", None):
        assert experiment_name(recorded) == recorded
    assert "mine_package" not in sys.modules  # what is the user's runs in a process of its own
    with pytest.raises(Refusal, match=r"there is no file gone\.py") as caught:
        experiment_name("gone.py")
    assert (caught.value.code, caught.value.exit_status) == ("experiment", 2)


def test_what_was_begun_anew_is_told_apart(
    tmp_path: Path, write_tiny: Callable[..., Path], copy_store: Callable[[Path], str], bench: Any
):
    source, uri = write_tiny(tmp_path), copy_store(tmp_path / "store")
    for more in ((), ("--fresh",), ("--set", "epochs=2")):
        words = ("--seeds", 2, "--store", uri, "--workers", 1, "-q", "--no-report")
        assert bench("run", source, *words, *more).status == 0
    for found in (bench("status", "--store", uri), listing(Store(uri)).text(unicode=True)):
        rows = getattr(found, "out", found).splitlines()[1:]
        assert ["superseded" in row for row in rows] == [False, False, True]
        assert rows[1].split()[-1] == rows[2].split()[-1] != rows[0].split()[-1]
    said = bench("status", "--store", uri, "--json").json
    assert [b["superseded"] for b in said["benchmarks"]] == [False, False, True]
