"""What is printed to be typed next can be typed: fixes, and the command that goes on."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.cli import app
from bench.commands.parser import parser
from bench.commands.retyping import retyped
from bench.store.resume_command import going_on

Bench = Callable[..., Any]


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory, write_tiny: Callable[..., Path]) -> Path:
    return write_tiny(tmp_path_factory.mktemp("mine"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, copy_store: Callable[[Path], str]) -> str:
    return copy_store(tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize(
    ("typed", "fix", "leave_out", "expected"),
    [
        ("run x --seeds 0-", "--seeds 20", [], "run x --seeds 20"),
        ("run --store s x -s 0- -q", "--seeds 20", [], "run --store s x --seeds 20 -q"),
        ("run x -s0- --margin=3", "--seeds 20", [], "run x --seeds 20 --margin=3"),
        ("run x --margin=-3", "--margin 0.3", [], "run x --margin 0.3"),
        ("run x --set a=1 --set b=2", "--set c=1", ["--set a=1"], "run x --set c=1 --set b=2"),
        ("run x --arm a:b=1 --aa --arm c:d=1", "--aa", ["--arm"], "run x --aa"),
        ("run 'a b' --vary 'c d'", "", ["--vary"], "run 'a b'"),
        (
            "compare t.csv --pair p --unit u",
            "--unit auto",
            [],
            "compare t.csv --pair p --unit auto",
        ),
        ("run x --seeds", "--seeds 20", [], "run x --seeds 20"),
        ("run --store s x", "--store FILE, of yours", [], "run x --store FILE, of yours"),
        ("nothing x", "--seeds 20", [], "nothing x --seeds 20"),
    ],
)
def test_a_fix_takes_the_place_of_what_was_typed_and_the_rest_stays(
    typed: str, fix: str, leave_out: list[str], expected: str
):
    assert retyped(shlex.split(typed), fix, leave_out, parser(app)) == f"bench {expected}"


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
