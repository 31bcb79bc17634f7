"""Git arms: commits to compare, each checked out into a worktree of its own in bench's cache.

The user's checkout is never touched: an arm `.` is what lies there, changes and all. Worktrees are
removed at the end; those of a session that was killed by the next one.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.cache import cache_dir
from bench.programs import git
from bench.programs.code_files import counts_as_code, work_tree
from bench.programs.refusals import BadArms
from bench.programs.study_file import Placed

HERE = "."
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
SETUP_S = 3600.0
LOCK = "lock"
SHIM = Path(__file__).parent / "shim"


@dataclass(frozen=True)
class Commit:
    """What one arm is."""

    arm: str
    rev: str  # as typed
    sha: str  # with a digest of the changes behind a +, where there are some

    @property
    def is_here(self) -> bool:
        """Whether it is the user's own checkout."""
        return self.rev == HERE


def commits_of(placed: Placed) -> list[Commit]:
    """Return the commits of a study's arms.

    Raises
    ------
    BadArms : no repository, or no such commit
    """
    revs = {name: str(own["git"]) for name, own in placed.study.arms.items() if "git" in own}
    if not revs:
        return []
    folder = Path(placed.folder)
    top = work_tree(folder)
    if top is None:
        raise BadArms(
            f"{folder} is in no git repository, so there is no commit to train.",
            fix="git init && git add -A && git commit -m first, or run bench where the code is",
        )
    found = [Commit(arm, rev, _sha(top, rev, arm)) for arm, rev in revs.items()]
    _require_different(placed, found)
    return found


def _require_different(placed: Placed, commits: list[Commit]) -> None:
    """Refuse two arms of one commit and the same settings."""
    seen: dict[str, Commit] = {}
    for commit in commits:
        own = {k: v for k, v in placed.study.arms[commit.arm].items() if k != "git"}
        twin = seen.setdefault(json.dumps([commit.sha, own], sort_keys=True, default=str), commit)
        if twin is not commit:
            unchanged = ["Nothing is changed in the checkout."] if commit.is_here else []
            raise BadArms(
                f"arms {twin.arm!r} and {commit.arm!r} are the same commit, {commit.sha[:12]}: "
                "nothing to compare.",
                facts=unchanged,
                fix="name another commit, or change something",
            )


def _sha(top: Path, rev: str, arm: str) -> str:
    if rev == HERE:
        return _here(top)
    said = git.ask(top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}")
    if said is None:
        names = (git.ask(top, "branch", "--all", "--format=%(refname:short)") or "").split("\n")
        raise BadArms(
            f'arm {arm!r}: there is no commit "{rev[:80]}".',
            facts=[f"Branches: {', '.join(filter(None, names[:8])) or 'none'}."],
            replace=[(f"{arm}@git:{rev}", f"{arm}@git:{names[0] or 'HEAD'}")],
        )
    return said


def _here(top: Path) -> str:
    """Return the commit of the checkout, with a digest of what was changed since."""
    head = git.ask(top, "rev-parse", "HEAD")
    if head is None:
        raise BadArms("the repository has no commit yet.", fix="git commit")
    within = ("--ignore-submodules=none", "--submodule=diff")
    changes = _asked(top, "diff", "--no-ext-diff", "--no-textconv", *within, "--binary", "HEAD")
    new = _asked(top, "ls-files", "-z", "--others", "--exclude-standard")
    sha = hashlib.sha256(changes.encode(errors="surrogateescape"))
    names = [n for n in sorted(new.split("\0")) if n and counts_as_code(top / n)]
    for name in names:
        sha.update(os.fsencode(name) + (top / name).read_bytes())
    return f"{head}+{sha.hexdigest()[:12]}" if changes or names else head


def _asked(top: Path, *words: str) -> str:
    """Return what git says of the checkout, for which nothing may stand in."""
    said = git.ask(top, *words, seconds=120)
    if said is None:
        raise BadArms(
            f"git does not say what is changed in {top}.",
            facts=[f"Asked within two minutes: git {' '.join(words)}"],
            fix="commit the changes, and name the commit in place of .",
        )
    return said


def labelled(placed: Placed, commits: list[Commit]) -> Placed:
    """Return a study whose arms name their commits, by which a run is known again."""
    arms: dict[str, dict[str, Any]] = {n: dict(own) for n, own in placed.study.arms.items()}
    for commit in commits:
        arms[commit.arm].pop("git")
        arms[commit.arm]["commit"] = commit.sha
    return replace(placed, study=placed.study.model_copy(update={"arms": arms}))


def differences(placed: Placed) -> list[str]:
    """Return how each commit differs from the baseline's, in git's words."""
    named = {n: str(own["commit"]) for n, own in placed.study.arms.items() if "commit" in own}
    top = work_tree(Path(placed.folder)) if len(named) > 1 else None
    if top is None:
        return []
    (first, base), *others = named.items()
    found = []
    for name, sha in others:
        ends = [base.partition("+")[0], *([] if "+" in sha else [sha])]
        said = git.ask(top, "diff", "--no-ext-diff", "--no-textconv", "--stat=70", *ends) or ""
        *files, total = said.strip().splitlines() or ["no file that git tracks"]
        listed = [line.partition("|")[0].strip() for line in files[:5]]
        more = f", and {len(files) - 5} more" if len(files) > 5 else ""
        where = f": {', '.join(listed)}{more}" if listed else ""
        found.append(f"{first} to {name}: {total.strip()}{where}.")
    return found


def moved_on(placed: Placed) -> list[str]:
    """Return the arms of the user's checkout, as words, if it is no longer what they name."""
    here = {
        name: str(own["commit"])
        for name, own in placed.study.arms.items()
        if "commit" in own and name not in placed.worktrees
    }
    top = work_tree(Path(placed.folder)) if here else None
    now = None if top is None else _here(top)
    return [f"the checkout of arm {name}" for name, sha in here.items() if sha != now]


@contextlib.contextmanager
def checked_out(placed: Placed) -> Iterator[Placed]:
    """Check out what a study's arms name, and remove it at the end.

    Yields
    ------
    the study with its commits and worktrees; the same where no arm is a commit

    Raises
    ------
    BadArms : no such commit, submodules or large files that are missing, a setup that fails
    """
    commits = commits_of(placed)
    if not commits:
        yield placed
        return
    folder = Path(placed.folder)
    top = work_tree(folder) or folder
    root = cache_dir() / "worktrees"
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    _remove_stale(top, root)
    mine = Path(tempfile.mkdtemp(prefix=f"{top.name}-", dir=root))
    with FileLock(mine / LOCK):
        try:
            places: dict[str, str] = {}
            for commit in commits:
                if not commit.is_here:
                    place = mine / commit.sha[:12]
                    if not place.exists():
                        _check_out(top, place, commit, placed)
                    places[commit.arm] = str(place / folder.relative_to(top))
            yield replace(labelled(placed, commits), worktrees=places)
        finally:
            _remove(top, mine)


def _check_out(top: Path, place: Path, commit: Commit, placed: Placed) -> None:
    done = git.run(
        top, "worktree", "add", "--detach", "--force", str(place), commit.sha, seconds=600
    )
    if done is None or done.returncode:
        said = "" if done is None else done.stderr.strip().splitlines()[-1:]
        raise BadArms(
            f"commit {commit.sha[:12]} of arm {commit.arm!r} cannot be checked out.", facts=[*said]
        )
    for name in placed.study.link:
        _link(top, place, name)
    within = place / Path(placed.folder).relative_to(top)
    if not within.is_dir():
        raise BadArms(
            f"commit {commit.sha[:12]} of arm {commit.arm!r} has no folder "
            f"{within.relative_to(place)}, where the command runs."
        )
    if placed.study.setup:
        _set_up(placed.study.setup, within, commit)
    _require_whole(place, commit, placed.study.setup)


def _link(top: Path, place: Path, name: str) -> None:
    target, link = top / name, place / name
    if Path(name).is_absolute() or ".." in Path(name).parts or not target.exists():
        raise BadArms(f"link: there is no {name} in {top}.", fix=f'take "{name}" out of link')
    if not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)


def _set_up(setup: str, folder: Path, commit: Commit) -> None:
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", setup],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SETUP_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BadArms(f"setup of commit {commit.sha[:12]} took more than an hour.") from None
    if done.returncode:
        last = [line for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()][-6:]
        raise BadArms(
            f"setup of commit {commit.sha[:12]}, arm {commit.arm!r}, ended with status "
            f"{done.returncode}.",
            facts=[f"It is: {setup}", *(f"It printed: {line[:200]}" for line in last)],
            fix="mend setup in study.toml",
        )


def _require_whole(place: Path, commit: Commit, setup: str | None) -> None:
    """Refuse a commit of which git has checked out names alone: submodules, large files."""
    staged = git.ask(place, "ls-files", "-z", "--stage") or ""
    entries = [entry.partition("\t") for entry in staged.split("\0") if entry]
    modules = [name for mode, _, name in entries if mode.startswith("160000")]
    empty = [n for n in modules if not any((place / n).iterdir())] if modules else []
    if empty:
        raise BadArms(
            f"commit {commit.sha[:12]} of arm {commit.arm!r} has submodules that are not there: "
            f"{', '.join(empty[:5])}.",
            facts=["A worktree begins without them." if not setup else f"setup is: {setup}"],
            fix='setup = "git submodule update --init --recursive" in study.toml, or '
            f'link = ["{empty[0]}"]',
        )
    pointers = [name for _, _, name in entries if _is_pointer(place / name)]
    if pointers:
        raise BadArms(
            f"commit {commit.sha[:12]} of arm {commit.arm!r} has {len(pointers)} files of Git LFS "
            f"that are not there: {', '.join(pointers[:5])}.",
            fix='setup = "git lfs pull" in study.toml',
        )


def _is_pointer(path: Path) -> bool:
    try:
        if not path.is_file() or path.stat().st_size > 1024:
            return False
        with path.open("rb") as handle:
            return handle.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:
        return False


def _remove(top: Path, mine: Path) -> None:
    for place in mine.iterdir():
        if place.is_dir():
            git.run(top, "worktree", "remove", "--force", "--force", str(place), seconds=120)
    shutil.rmtree(mine, ignore_errors=True)
    git.run(top, "worktree", "prune")


def _remove_stale(top: Path, root: Path) -> None:
    """Remove the worktrees of sessions that were killed: nobody holds their lock."""
    for each in root.iterdir():
        with contextlib.suppress(OSError, Timeout):  # in use
            with FileLock(each / LOCK, timeout=0):
                _remove(top, each)


@contextlib.contextmanager
def own_modules(placed: Placed, arm: str) -> Iterator[dict[str, str]]:
    """Let the Python programs of a worktree import from it first, and see that they did.

    Yields
    ------
    what their environment needs; {} where the arm runs in the user's checkout

    Raises
    ------
    BadArms : one has loaded a module of the user's checkout
    """
    if arm not in placed.worktrees:
        yield {}
        return
    top, place = work_tree(Path(placed.folder)), work_tree(Path(placed.worktrees[arm]))
    if top is None or place is None:
        raise BadArms(f"the worktree of arm {arm!r} has been removed.", fix="the same command")
    paths = [str(SHIM), str(place), str(place / "src"), os.environ.get("PYTHONPATH", "")]
    with tempfile.TemporaryDirectory(prefix="bench-") as loaded:
        yield {
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "BENCH_CHECKOUT": os.path.realpath(top),
            "BENCH_WORKTREE": os.path.realpath(place),
            "BENCH_LOADED": loaded,
        }
        found = [p for each in Path(loaded).glob("*.json") for p in json.loads(each.read_text())]
    links = {os.path.realpath(top / name) for name in placed.study.link}
    odd = [p for p in dict.fromkeys(found) if not any(Path(p).is_relative_to(n) for n in links)]
    if odd:
        raise BadArms(
            f"arm {arm!r} has trained code of the checkout, not of its commit: "
            f"{', '.join(os.path.relpath(p, top) for p in odd[:3])}.",
            facts=["An editable install, or a path in the script, leads there from every commit."],
            fix='setup = "…" in study.toml that installs each commit, or take the install away',
        )
