"""Provenance: what a reader needs to repeat a benchmark, and nothing that should stay private."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from bench.execution import provenance
from bench.execution.devices import cpu_slots
from bench.execution.provenance import collect, git_state


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "me")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "me@example.invalid")
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("x = 1\n")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_a_clean_repository_gives_its_commit(repository: Path):
    assert git_state(repository) == {
        "commit": git(repository, "rev-parse", "HEAD"),
        "dirty": False,
        "diff_sha256": None,
    }


def test_a_change_makes_it_dirty_and_each_change_has_a_digest_of_its_own(repository: Path):
    (repository / "a.py").write_text("x = 2\n")
    first = git_state(repository)
    (repository / "a.py").write_text("x = 3\n")
    second = git_state(repository)
    assert first["dirty"] and second["dirty"] and first["commit"] == second["commit"]
    assert first["diff_sha256"] != second["diff_sha256"] and len(first["diff_sha256"]) == 64


def test_files_that_git_does_not_know_change_nothing(repository: Path):
    (repository / "results.csv").write_text("1")
    assert git_state(repository)["dirty"] is False


def test_outside_a_repository_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) == {"commit": None, "dirty": None, "diff_sha256": None}


def test_without_git_nothing_is_claimed(repository: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert git_state(repository)["commit"] is None


def test_code_versions_and_machine_are_recorded(repository: Path):
    facts = collect(["bench", "run", "a.py"], repository / "a.py", cpu_slots(2))
    assert facts["command"] == "bench run a.py"
    assert facts["commit"] == git(repository, "rev-parse", "HEAD")
    assert (facts["devices"], facts["threads"]) == (["cpu"], 1)
    assert {"numpy", "torch", "mlflow"} <= set(facts["packages"])
    assert facts["python"] and facts["platform"] and facts["host"] and facts["cores"] >= 1
    json.dumps(facts, allow_nan=False)


def test_the_recorded_command_can_be_typed_again(repository: Path):
    command = ["bench", "run", "my file.py", "--arm", "a b:x='1'", "--set", 'note="$HOME"']
    facts = collect(command, repository / "a.py", cpu_slots(1))
    assert shlex.split(facts["command"]) == command


def test_no_secret_of_the_environment_is_recorded(
    repository: Path, monkeypatch: pytest.MonkeyPatch
):
    names = ("MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "MLFLOW_TRACKING_URI")
    for name in names:
        monkeypatch.setenv(name, f"s3cret-of-{name}")
    (repository / "a.py").write_text('key = "s3cret in the diff"\n')
    text = json.dumps(collect(["bench", "run"], repository / "a.py", cpu_slots(1)))
    assert "s3cret" not in text  # the diff too is only a digest


def test_a_password_that_was_typed_is_not_recorded(repository: Path):
    command = ["bench", "run", "--store", "postgresql://me:s3cret@host/db"]
    facts = collect(command, repository / "a.py", cpu_slots(1))
    assert facts["command"] == "bench run --store 'postgresql://me:***@host/db'"
    assert "s3cret" not in json.dumps(facts)


def test_a_user_without_a_name_is_no_obstacle(monkeypatch: pytest.MonkeyPatch):
    def nobody() -> str:
        raise KeyError("uid 12345")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert provenance._user() == "unknown"


def test_a_repository_runs_no_program_of_its_own(repository: Path, tmp_path_factory):
    """Somebody's .git/config may name programs for git to start."""
    outside = tmp_path_factory.mktemp("outside")
    planted = outside / "planted.sh"
    planted.write_text(f"#!/bin/sh\ntouch {outside}/ran\n")
    planted.chmod(0o755)
    (repository / ".gitattributes").write_text("*.py diff=planted\n")
    programs = ("fsmonitor", "external", "planted.command", "planted.textconv")
    for name, part in zip(programs, ("core", "diff", "diff", "diff"), strict=True):
        git(repository, "config", f"{part}.{name}", str(planted))
    (repository / "a.py").write_text("x = 2\n")
    found = git_state(repository)
    assert found["dirty"] is True and len(found["diff_sha256"]) == 64
    assert not (outside / "ran").exists()


def test_a_repository_that_is_none_any_more_is_harmless(repository: Path):
    (repository / ".git" / "HEAD").unlink()
    assert git_state(repository) == {"commit": None, "dirty": None, "diff_sha256": None}


def test_a_detached_head_and_a_submodule_are_named_by_their_commit(repository: Path):
    git(repository, "checkout", "-q", "--detach")
    commit = git_state(repository)["commit"]
    assert commit and len(commit) == 40
    inner = repository / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    (inner / "b.py").write_text("y = 1\n")
    git(inner, "add", "b.py")
    git(inner, "commit", "-qm", "inner")
    assert git_state(inner)["commit"] not in (None, commit)
