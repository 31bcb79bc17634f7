"""Environment: languages, hash seeds, homes and repositories change no number and break nothing."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.execution.provenance import git_state

pytestmark = pytest.mark.skipif(os.name != "posix", reason="locales, homes and modes are POSIX's")

BENCH = Path(sys.executable).with_name("bench")
OWN_LOCALE = ("LANG", "LC_ALL", "LC_CTYPE", "LANGUAGE")
LOCALES: Mapping[str, Mapping[str, str]] = {
    "C": {"LANG": "C"},
    "C in ASCII": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "Turkish": {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"},
    "no UTF-8 mode": {"PYTHONUTF8": "0", "LANG": "C.UTF-8"},
}
INTERPRETERS: Mapping[str, Mapping[str, str]] = {
    "no bytecode, hash seed 0": {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"},
    "hash seed 1": {"PYTHONHASHSEED": "1"},
    "random hash seed": {"PYTHONHASHSEED": "random"},
    "a backend that matplotlib does not know": {"MPLBACKEND": "x"},
}


class Run:
    """`bench run` of a small experiment in a process of its own: what it said and found."""

    def __init__(
        self,
        experiment: Path,
        store: str,
        *,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        seeds: int = 6,
    ) -> None:
        inherited = {name: os.environ[name] for name in os.environ if name not in OWN_LOCALE}
        words = [BENCH, "run", experiment, "--seeds", str(seeds), "--workers", "1"]
        self.done = subprocess.run(
            [*prefix, *words, "--store", store],
            env={**inherited, **(environment or {})},
            cwd=experiment.parent,
            capture_output=True,
        )
        said = (self.done.stdout + self.done.stderr).decode("utf-8", "replace")
        assert self.done.returncode == 0 and "Traceback" not in said, said
        assert b"test accuracy" in self.done.stdout  # the verdict, in whatever encoding
        page = Path(store.removeprefix("sqlite:///")).parent / "reports" / "tiny"
        self.results = json.loads((page / "results.json").read_bytes())

    @property
    def numbers(self) -> Any:
        """What a report computes, and what it was computed from."""
        return [self.results[name] for name in ("comparisons", "calibration", "n_test")] + [
            [(run["arm"], run["seed"], run["value"]) for run in self.results["pairs"]]
        ]

    @property
    def identity(self) -> Any:
        return self.results["plan"]["benchmark_id"]

    @property
    def provenance(self) -> Any:
        return self.results["provenance"]

    def check(self, name: str) -> Any:
        (found,) = (check for check in self.results["checks"] if check["id"] == name)
        return found


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory, tiny_text: Callable[..., str]) -> Path:
    """Return an experiment outside any repository, with letters that ASCII lacks."""
    path = tmp_path_factory.mktemp("mine") / "tiny_environment.py"
    path.write_text(tiny_text("größe = 'İı'"), "utf-8")
    return path


@pytest.fixture(scope="module")
def undisturbed(
    experiment: Path,
    tmp_path_factory: pytest.TempPathFactory,
    copy_store: Callable[[Path], str],
) -> Run:
    return Run(experiment, copy_store(tmp_path_factory.mktemp("undisturbed")))


# -- languages and interpreters ------------------------------------------------------------------


@pytest.mark.parametrize("name", [*LOCALES, *INTERPRETERS])
def test_neither_a_language_nor_a_hash_seed_changes_a_number(
    name: str,
    experiment: Path,
    undisturbed: Run,
    tmp_path: Path,
    copy_store: Callable[[Path], str],
):
    environment = {**LOCALES, **INTERPRETERS}[name]
    found = Run(experiment, copy_store(tmp_path / "store"), environment=environment)
    assert found.numbers == undisturbed.numbers and found.identity == undisturbed.identity


def test_a_home_that_is_read_only_changes_no_number(
    experiment: Path, undisturbed: Run, tmp_path: Path, copy_store: Callable[[Path], str]
):
    """As a user, or as a root that modes hold for too."""
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    prefix = () if os.getuid() else ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    if prefix and shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and there is no setpriv to take that away")
    tried = [*prefix, sys.executable, "-c", f"open({str(home / 'x')!r}, 'w')"]
    assert b"PermissionError" in subprocess.run(tried, capture_output=True).stderr
    environment = {"HOME": str(home), "XDG_CACHE_HOME": "", "MPLCONFIGDIR": ""}
    store = copy_store(tmp_path / "store")
    found = Run(experiment, store, environment=environment, prefix=prefix)
    assert found.numbers == undisturbed.numbers and not list(home.iterdir())


# -- repositories -------------------------------------------------------------------------------


def git(folder: Path, *words: str) -> str:
    who = (
        "-c",
        "user.name=me",
        "-c",
        "user.email=me@x.invalid",
        "-c",
        "protocol.file.allow=always",
    )
    done = subprocess.run(
        ["git", "-C", folder, *who, *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Callable[[str], Path]:
    """Return what makes a repository with one file and one commit."""

    def make(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        git(folder, "init", "-q")
        (folder / "notes.txt").write_text(name)
        git(folder, "add", ".")
        git(folder, "commit", "-qm", name)
        return folder

    return make


def test_in_a_submodule_its_own_commit_is_recorded(
    repository: Callable[[str], Path],
    experiment: Path,
    undisturbed: Run,
    tmp_path: Path,
    copy_store: Callable[[Path], str],
):
    """A submodule has a detached HEAD, and its `.git` is a file."""
    inner, outer = repository("inner"), repository("outer")
    shutil.copy(experiment, inner)
    git(inner, "add", ".")
    git(inner, "commit", "-qm", "experiment")
    git(outer, "submodule", "--quiet", "add", str(inner), "sub")
    git(outer, "commit", "-qm", "submodule")
    git(outer / "sub", "checkout", "-q", "--detach")
    found = Run(outer / "sub" / experiment.name, copy_store(tmp_path / "store"))
    assert found.provenance["commit"] == git(inner, "rev-parse", "HEAD")
    assert found.provenance["commit"] != git(outer, "rev-parse", "HEAD")
    assert found.provenance["dirty"] is False and found.check("C12")["state"] == "passed"
    assert found.numbers == undisturbed.numbers and found.identity == undisturbed.identity


def test_in_a_repository_without_commits_no_commit_is_recorded_and_the_check_says_so(
    experiment: Path, undisturbed: Run, tmp_path: Path, copy_store: Callable[[Path], str]
):
    git(tmp_path, "init", "-q")
    shutil.copy(experiment, tmp_path)
    found = Run(tmp_path / experiment.name, copy_store(tmp_path / "store"))
    assert found.numbers == undisturbed.numbers and found.identity == undisturbed.identity
    for run in (found, undisturbed):  # and without any repository
        assert (run.provenance["commit"], run.provenance["dirty"]) == (None, None)
        assert run.check("C12")["state"] == "not checked"


def test_a_detached_head_is_the_commit_that_is_checked_out(repository: Callable[[str], Path]):
    folder = repository("one")
    first = git(folder, "rev-parse", "HEAD")
    (folder / "notes.txt").write_text("two")
    git(folder, "commit", "-qam", "two")
    git(folder, "checkout", "-q", first)
    assert git_state(folder) == {"commit": first, "dirty": False, "diff_sha256": None}
    (folder / "notes.txt").write_text("changed")
    assert git_state(folder)["dirty"] is True


def test_a_head_that_names_nothing_is_no_commit(repository: Callable[[str], Path]):
    folder = repository("one")
    (folder / ".git" / "HEAD").write_text("ref: refs/heads/gone\n")
    assert git_state(folder)["commit"] is None
    (folder / ".git" / "HEAD").write_text("no reference")
    assert git_state(folder)["commit"] is None


def test_variables_of_a_git_hook_do_not_stand_for_another_repository(
    repository: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    mine, other = repository("mine"), repository("other")
    (tmp_path / "none").mkdir()
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    found = git_state(mine)
    assert git_state(tmp_path / "none")["commit"] is None
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name)
    head = git(mine, "rev-parse", "HEAD")
    assert found == {"commit": head, "dirty": False, "diff_sha256": None}


# -- versions -----------------------------------------------------------------------------------


def test_a_package_that_was_upgraded_between_runs_is_named(
    tmp_path: Path, tiny_text: Callable[..., str], copy_store: Callable[[Path], str]
):
    """What is in site-packages has a version, and no other digest, in a run's record."""
    package = tmp_path / "venv" / "site-packages" / "upgraded"
    package.mkdir(parents=True)
    path = tmp_path / "tiny_upgraded.py"
    path.write_text(tiny_text(), "utf-8")
    path.write_text(f"import upgraded\n{path.read_text('utf-8')}", "utf-8")
    store, inherited = copy_store(tmp_path / "store"), os.environ.get("PYTHONPATH", "")
    environment = {
        "PYTHONPATH": os.pathsep.join([str(package.parent), inherited]).strip(os.pathsep)
    }
    for version, seeds, state in (("1.9", 2, "passed"), ("1.10", 3, "failed")):
        (package / "__init__.py").write_text(f"__version__ = {version!r}\n")
        found = Run(path, store, environment=environment, seeds=seeds)
        assert found.check("C10")["state"] == state, found.check("C10")
    assert "upgraded: 1.10, 1.9" in found.check("C10")["text"]
    assert len(found.results["pairs"]) == 6  # one benchmark, whose later pair ran apart
