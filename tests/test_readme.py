"""The README's promises: its experiments run, its commands exist, its files are there."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from bench.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BENCH = Path(sys.executable).with_name("bench")


def examples() -> dict[str, str]:
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", README, re.S)
    return dict(blocks)


def commands() -> list[list[str]]:
    lines = re.findall(r"^\$ (bench .*?)(?:\s+#.*)?$", README, re.M)
    return [line.split() for line in lines]


def test_shows_one_experiment_with_scikit_learn_and_one_with_torch():
    assert {"from sklearn.ensemble" in text for text in examples().values()} == {True, False}
    assert any("import torch" in text for text in examples().values())


def test_an_experiment_of_ones_own_takes_twenty_lines():
    first = next(iter(examples().values()))
    assert len([line for line in first.splitlines() if line.strip()]) <= 20


@pytest.mark.parametrize("name", sorted(examples()))
def test_its_experiment_runs_as_it_stands(name: str, tmp_path: Path):
    (tmp_path / name).write_text(examples()[name], "utf-8")
    command = [str(BENCH), "run", name, "--seeds", "6", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    n = found["comparisons"][0]["n_pairs"]
    assert n == (12 if "datasets=[" in examples()[name] else 6)
    assert found["comparisons"][0]["verdict"]["provisional"] == (n < 10)
    assert (tmp_path / "mlruns" / "reports").is_dir()


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_its_commands_and_options_exist(words: list[str]):
    command = typer.main.get_command(app).commands[words[1]]
    known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    assert [word for word in words if word.startswith("--") and word not in known] == []


def test_shows_a_picture_of_the_report_that_is_there_and_small():
    [picture] = re.findall(r"!\[[^\]]{40,}\]\(([^)]+)\)", README)
    head = (ROOT / picture).read_bytes()
    assert head.startswith(b"\x89PNG") and len(head) < 150_000


def test_names_only_files_that_are_there():
    named = set(re.findall(r"`((?:bench|analysis|experiments|tests)/[\w/.]+)`", README))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_quotes_the_power_that_the_code_computes():
    from bench.analysis.inference.power import detectable, seeds_for

    assert f"20 seeds see {100 * detectable(0.008, 20):.2f} pp" in README
    assert f"0.3 pp takes {seeds_for(0.003, 0.008)}" in README
