"""What is printed to be typed next can be typed: fixes, and the command that goes on."""

import pickle
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.errors import Refusal
from bench.cli import app
from bench.commands.parser import parser
from bench.commands.wording import worded
from bench.store.typed_command import going_on

Bench = Callable[..., Any]


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory, write_tiny: Callable[..., Path]) -> Path:
    return write_tiny(tmp_path_factory.mktemp("mine"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, copy_store: Callable[[Path], str]) -> str:
    return copy_store(tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize(
    ("typed", "remedy", "expected"),
    [
        ("run x --seeds 0-", {"options": [("seeds", 20)]}, "run x --seeds 20"),
        ("run x -s0- -q", {"options": [("seeds", 20)]}, "run x -s0- -q --seeds 20"),
        ("run x", {"settings": {"lr": 0.1, "k": "a b"}}, "run x --set lr=0.1 --set 'k=a b'"),
        (
            "run x --set a=1 --set b=2",
            {"options": [("arm", "other:a=1")], "without": [("set", "a=1")]},
            "run x --set b=2 --arm other:a=1",
        ),
        ("run x --arm a:b=1 --aa --arm=c:d=1", {"without": ["arm"]}, "run x --aa"),
        ("run 'a b' --vary 'c d'", {"without": ["vary"]}, "run 'a b'"),
        ("run --aa x --stop group", {"without": ["aa", "stop"]}, "run x"),
        ("run -s 3,4 x", {"without": ["seeds"]}, "run x"),
        ("run x --redo q:a", {"replace": [("q:a", "0:my a")]}, "run x --redo '0:my a'"),
        ("run x --redo=q:a", {"replace": [("q:a", "0:a")]}, "run x --redo=0:a"),
        ("plan digist --seeds 3", {"replace": [("digist", "digits")]}, "plan digits --seeds 3"),
        ("run x", {"options": [("max_hours", 8), ("aa", True)]}, "run x --max-hours 8 --aa"),
        ("run x --claim", {"without": ["claim"]}, "run x"),
        ("run x --margin=-3 -q", {"options": [("margin", 0.3)]}, "run x -q --margin 0.3"),
        ("nothing x", {"options": [("seeds", 20)]}, "nothing x --seeds 20"),
        ("run x", {"command": ["bench", "status", "a b"]}, "status 'a b'"),
    ],
)
def test_a_remedy_is_worded_as_a_command_and_nothing_that_was_typed_is_lost(
    typed: str, remedy: dict[str, Any], expected: str
):
    words = shlex.split(typed)
    assert worded(Refusal("no.", **remedy), words, parser(app)) == f"bench {expected}"
    lead = Refusal("no.", fix="mend it, then", **remedy)
    assert worded(lead, words, parser(app)) == f"mend it, then bench {expected}"


def test_where_nothing_typed_can_be_replaced_the_remedy_stays_in_words():
    refusal = Refusal("no.", replace=[("mine", "digits")])
    assert worded(refusal, ["report", "mine.py"], parser(app)) == '"digits" in place of "mine"'


def test_a_caller_in_python_reads_the_remedy_as_arguments():
    refusal = Refusal(
        "no.",
        fix="mend it, or",
        options=[("unit", "percent")],
        settings={"lr": 0.1},
        without=["sd"],
    )
    assert refusal.remedy() == 'mend it, or unit="percent", settings={"lr": 0.1}, without sd'
    assert Refusal("no.").remedy() is None and Refusal("no.", fix="go").remedy() == "go"
    assert worded(Refusal("no."), ["run"], parser(app)) is None


def test_a_remedy_arrives_whole_in_another_process():
    refusal = Refusal("no.", facts=["a"], options=[("a", 1)], without=["b", ("c", "d")])
    refusal.code = "other"
    again = pickle.loads(pickle.dumps(refusal))
    assert vars(again) == vars(refusal)


def test_what_goes_on_neither_starts_nor_repeats_anything_anew():
    typed = "run x --fresh --redo 3:weak --seeds 4 --redo=0:strong --redo"
    assert going_on(shlex.split(typed)) == ["run", "x", "--seeds", "4"]


REFUSED = [
    "run MINE --seeds 0-",
    "run --margin 0.3 MINE --seeds 3,3 --scope seeds",
    "run MINE --margin -1 --claim 2",
    "run MINE --set epoch=3 --set nap=0.1",
    "run MINE --set epochs=many --set nap=0.1",
    "run MINE --set epochs",
    "run MINE --set strength=2",
    "run MINE --arm weak:strength=2 --arm other:strength=3",
    "run MINE --arm 'my arm'",
    "run MINE --arm twin:strength=1 --arm other:strength=3",
    "run MINE --arm 'my arm:strenght=2,epochs=4'",
    "run digits --arm 'my arm:epochs=0'",
    "run digits --set epochs=0 --set lr=0.01",
    "run MINE --aa --claim 0.3 --arm x:strength=2",
    "run MINE --vary init --stop anytime --max-seeds 30",
    "run MINE --vary init,init",
    "run MINE --max-seeds 30",
    "run MINE --seeds 3,4 --stop anytime --max-seeds 9",
    "run MINE --stop anytime --max-seeds 0",
    "run MINE --stop group --max-seeds 8",
    "run MINE --arm 'long one:strength=2' --redo 'q:long one' --redo 1:weak",
    "run MINE --workers 0",
    "run MINE --timeout 0 --fail-on none,wors",
    "run MINE --backend dask --address tcp://10.0.0.1:8786",
    "plan MINE --margin 2 --detect 1",
    "plan --claim 0.3 --detect 0.3",
    "plan --stop anytime --set a=1",
    "plan MINE --freeze --detect 0.3 --power 0.9 --margin 1",
    "plan --power 3 --seeds 40",
]


@pytest.mark.parametrize("typed", REFUSED)
def test_a_fix_works_as_it_is_typed(
    typed: str, mine: Path, store: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    """Nothing is trained: what is looked at is that nobody refuses the command any more."""
    monkeypatch.setattr("bench.commands.session.Session.rehearse", lambda *args, **how: None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    words = [str(mine) if word == "MINE" else word for word in shlex.split(typed)]
    words += ["--dry-run"] if words[0] == "run" else []
    for _ in range(2):  # where two things are wrong, the first fix shows the second
        said = bench(*words)
        if said.status == 0:
            break
        assert said.status == 2, said.err
        fix = re.search(r"^  fix: (.+)$", said.err, re.MULTILINE)
        assert fix is not None, said.err
        words = shlex.split(fix[1])[1:]
    assert bench(*words).status == 0, said.err


def test_a_run_that_is_not_planned_is_replaced_by_one_that_is(mine: Path, store: str, bench: Bench):
    arm = ("--arm", "long one:strength=2")
    words = ("--seeds", 2, "--store", store, "--workers", 1, "-q")
    said = bench("run", mine, *arm, *words, "--redo", "9:long one")
    assert said.status == 2 and said.err.endswith(" --redo '0:long one'\n")


def test_what_was_not_redone_is_redone_by_the_command_that_goes_on(
    tmp_path: Path, write_tiny: Callable[..., Path], copy_store: Callable[[Path], str], bench: Bench
):
    flag = tmp_path / "broken"
    body = f'if os.path.exists({str(flag)!r}): raise ValueError("no such layer")'
    words = ("run", write_tiny(tmp_path, body), "--seeds", 2, "--workers", 1, "--no-report", "-q")
    words = (*words, "--store", copy_store(tmp_path / "store"))
    assert bench(*words).status == 0
    flag.touch()
    said = bench(*words, "--redo", "1:weak")
    again = f"bench {' '.join(map(str, words))}"
    assert said.status == 3
    assert said.err.endswith(f"fix: mend the cause, then {again} --redo 1:weak\n")
    said = bench(*words, "--fresh")
    assert said.status == 3 and said.err.endswith(f"fix: mend the cause, then {again}\n")
