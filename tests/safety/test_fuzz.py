"""Fuzz: a short slice of it; and what it looks for, it finds."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and waits for a pidfd")

FOLDER = Path(__file__).parent
# In a process without other threads, as the fuzzer is: what is planted, and what was found of it.
PLANTED = """
import json, os, sys, time
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[1])
import fuzz, fuzz_inputs

def refuses(status, error="", out=""):
    print(out, end="")
    print(error, end="", file=sys.stderr)
    sys.exit(status)

MAINS = {
    "": lambda words: refuses(5, "error[scores]: no.", '{"error": {}}'),
    "traceback": lambda words: 1 / 0,
    "hang": lambda words: time.sleep(60),
    "escape sequence": lambda words: print("\\x1b[2J", flush=True),
    "status 7": lambda words: refuses(7, "error[x]: no."),
    "status -9": lambda words: os.kill(os.getpid(), 9),
    "no error[…]": lambda words: refuses(2, "no."),
    "no JSON error": lambda words: refuses(2, "error[x]: no.", "no."),
    "MiB": lambda words: np.ones(2**25),
}
fuzz.MOST_MIB = 200
found, folder = {}, Path(sys.argv[2])
for name, main in MAINS.items():
    place = folder / "place"
    place.mkdir(exist_ok=True)
    answer = fuzz.answered(main, ["status", "--json"], place, limit_s=1)
    found[name] = answer.faults(["status", "--json"])
drawn = []
for name in ("one", "two"):
    (folder / name).mkdir()
    rng = np.random.default_rng(1)
    words = [fuzz_inputs.tables(rng, folder, folder / name) for _ in range(3)]
    drawn.append([words, [p.read_bytes().hex() for p in sorted((folder / name).iterdir())]])
print(json.dumps([found, drawn]))
"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("planted")
    words = [sys.executable, "-c", PLANTED, FOLDER, folder]
    return json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)


def test_what_the_fuzzer_looks_for_it_finds(planted: Any):
    found = planted[0]
    assert found.pop("") == []
    for planted_fault, faults in found.items():
        assert any(planted_fault in fault for fault in faults), (planted_fault, faults)


def test_an_input_is_the_same_whenever_it_is_drawn(planted: Any):
    first, again = planted[1]
    assert first == again


def test_a_slice_of_the_fuzzing_finds_nothing(tmp_path: Path):
    words = ["--forks", "150", "--real", "1", "--page", tmp_path / "fuzz.md", "--keep", tmp_path]
    done = subprocess.run(
        [sys.executable, FOLDER / "fuzz.py", *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    last = (tmp_path / "fuzz.md").read_text("utf-8").splitlines()[-1]
    assert last.startswith("| all | 151 | 0 | 0 | 0 |"), last
