"""Completion: what bash offers after what has been typed, in a real bash."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(sys.executable).with_name("bench")
BASH = shutil.which("bash")


@pytest.fixture(scope="module")
def script() -> str:
    """Return what `bench --show-completion` prints in bash."""
    if BASH is None:
        pytest.skip("no bash")
    command = [BASH, "-c", f"{BENCH} --show-completion; true"]  # true: bash stays its parent
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "complete -o default -F _bench_completion bench" in done.stdout
    return done.stdout


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("bench re", ["report"]),
        (
            "bench ",
            "run report compare plan verify doctor list init status ui".split(),
        ),
        ("bench run di", ["digits"]),
        ("bench status ", ["cifar10", "digits", "shuffled", "trees"]),
        ("bench run my_exp", []),  # bash offers files
        ("bench run digits --se", ["--seeds", "--set"]),
        ("bench run digits --stop a", ["anytime"]),
        ("bench run digits --scope ", ["seeds-and-examples", "seeds", "new-datasets"]),
    ],
)
def test_bash_offers_what_may_follow(typed: str, offered: list[str], script: str):
    words = typed.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    ask = f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _bench_completion {BENCH}"
    program = f'{script}\n{ask}\nprintf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == offered and done.stderr == ""
