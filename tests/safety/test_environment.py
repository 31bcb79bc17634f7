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
SURROUNDINGS: Mapping[str, Mapping[str, str]] = {
    "LANG=C, without UTF-8, bytecode and random hashes": {
        "LANG": "C",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
    },
    "Turkish, hash seed 1, no such backend": {
        "LANG": "C",
        "LC_ALL": "tr_TR.UTF-8",
        "PYTHONHASHSEED": "1",
        "MPLBACKEND": "x",
    },
}


class Found:
    """The results of a `bench run` that ended well."""

    def __init__(self, store: str) -> None:
        page = Path(store.removeprefix("sqlite:///")).parent / "reports" / "tiny"
        self.results = json.loads((page / "results.json").read_bytes())
        self.provenance = self.results["provenance"]

    @property
    def same(self) -> Any:
        """What surroundings may not change: the benchmark, its data and what follows from them."""
        pairs = [(run["arm"], run["seed"], run["value"]) for run in self.results["pairs"]]
        computed = [self.results[name] for name in ("comparisons", "calibration", "n_test")]
        return [self.results["plan"]["benchmark_id"], pairs, computed]

    def check(self, name: str) -> Any:
        (found,) = (check for check in self.results["checks"] if check["id"] == name)
        return found


def words_of(experiment: Path, store: str, *, seeds: int = 6) -> list[str]:
    """Return a command line after `bench`."""
    return ["run", str(experiment), "--seeds", str(seeds), "--workers", "1", "--store", store]


def run(
    experiment: Path,
    store: str,
    *,
    environment: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> Found:
    """Run an experiment in a process of its own."""
    inherited = {name: os.environ[name] for name in os.environ if name not in OWN_LOCALE}
    done = subprocess.run(
        [*prefix, BENCH, *words_of(experiment, store)],
        env={**inherited, **(environment or {})},
        cwd=experiment.parent,
        capture_output=True,
    )
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert done.returncode == 0 and "Traceback" not in said, said
    assert b"test accuracy" in done.stdout  # the verdict, in whatever encoding
    return Found(store)


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
) -> Found:
    return run(experiment, copy_store(tmp_path_factory.mktemp("undisturbed")))


# -- languages, interpreters and homes -----------------------------------------------------------


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_no_language_hash_seed_or_backend_changes_a_number(
    name: str,
    experiment: Path,
    undisturbed: Found,
    tmp_path: Path,
    copy_store: Callable[[Path], str],
):
    found = run(experiment, copy_store(tmp_path / "store"), environment=SURROUNDINGS[name])
    assert found.same == undisturbed.same


def test_a_home_that_is_read_only_changes_no_number(
    experiment: Path, undisturbed: Found, tmp_path: Path, copy_store: Callable[[Path], str]
):
    """As a user, or as a root that modes hold for too; with a hash seed that nobody knows."""
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    prefix = () if os.getuid() else ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    if prefix and shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and there is no setpriv to take that away")
    tried = [*prefix, sys.executable, "-c", f"open({str(home / 'x')!r}, 'w')"]
    assert b"PermissionError" in subprocess.run(tried, capture_output=True).stderr
    empty = {
        "HOME": str(home),
        "XDG_CACHE_HOME": "",
        "MPLCONFIGDIR": "",
        "PYTHONHASHSEED": "random",
    }
    found = run(experiment, copy_store(tmp_path / "store"), environment=empty, prefix=prefix)
    assert found.same == undisturbed.same and not list(home.iterdir())


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
    undisturbed: Found,
    tmp_path: Path,
    copy_store: Callable[[Path], str],
    bench: Any,
):
    """A submodule has a detached HEAD, and its `.git` is a file."""
    inner, outer = repository("inner"), repository("outer")
    shutil.copy(experiment, inner)
    git(inner, "add", ".")
    git(inner, "commit", "-qm", "experiment")
    git(outer, "submodule", "--quiet", "add", str(inner), "sub")
    git(outer, "commit", "-qm", "submodule")
    git(outer / "sub", "checkout", "-q", "--detach")
    store = copy_store(tmp_path / "store")
    assert bench(*words_of(outer / "sub" / experiment.name, store)).status == 0
    found = Found(store)
    assert found.provenance["commit"] == git(inner, "rev-parse", "HEAD")
    assert found.provenance["commit"] != git(outer, "rev-parse", "HEAD")
    assert found.provenance["dirty"] is False and found.check("C12")["state"] == "passed"
    assert found.same == undisturbed.same


def test_in_a_repository_without_commits_no_commit_is_recorded_and_the_check_says_so(
    experiment: Path,
    undisturbed: Found,
    tmp_path: Path,
    copy_store: Callable[[Path], str],
    bench: Any,
):
    git(tmp_path, "init", "-q")
    shutil.copy(experiment, tmp_path)
    store = copy_store(tmp_path / "store")
    assert bench(*words_of(tmp_path / experiment.name, store)).status == 0
    found = Found(store)
    assert found.same == undisturbed.same
    for each in (found, undisturbed):  # and without any repository
        assert (each.provenance["commit"], each.provenance["dirty"]) == (None, None)
        assert each.check("C12")["state"] == "not checked"


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
    tmp_path: Path,
    tiny_text: Callable[..., str],
    copy_store: Callable[[Path], str],
    bench: Any,
    monkeypatch: pytest.MonkeyPatch,
):
    """What is in site-packages has a version, and no other digest, in a run's record."""
    package = tmp_path / "venv" / "site-packages" / "upgraded"
    package.mkdir(parents=True)
    path, store = tmp_path / "tiny_upgraded.py", copy_store(tmp_path / "store")
    path.write_text(f"{tiny_text()}\nimport upgraded\n", "utf-8")
    inherited = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(filter(None, [str(package.parent), inherited]))
    )
    for version, seeds, state in (("1.9", 2, "passed"), ("1.10", 3, "failed")):
        (package / "__init__.py").write_text(f"__version__ = {version!r}\n")
        assert bench(*words_of(path, store, seeds=seeds)).status == 0
        check = Found(store).check("C10")
        assert check["state"] == state, check
    assert "upgraded: 1.10, 1.9" in check["text"]
    assert len(Found(store).results["pairs"]) == 6  # one benchmark, whose last pair ran apart
