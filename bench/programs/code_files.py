"""Code files: which files of a work tree make a program's run what it is.

Those that the command names, and all code and configuration, by suffix, of the work tree of the
script: tracked by git, or untracked and not ignored; without git all that lie beside and below it.
What trainings write is no part of it: their results are data, and new files are not looked for
once the first training has begun.
"""

import fnmatch
import os
import shlex
import shutil
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from bench.experiment import BadExperiment
from bench.programs import git, template
from bench.programs.study_file import CODE, CONFIGURATION, Placed

SCRIPTS = {suffix.lower() for suffix in CODE}
MOST_FILES = 20_000
MOST_BYTES = 16 * 2**20  # of a file that nobody named: larger ones are data
NOT_ENTERED = {"mlruns", "node_modules", "site-packages", "__pycache__", "wandb"}


def code_files(placed: Placed, commands: Mapping[str, str]) -> dict[str, Path]:
    """Return the files that make the runs of a study what they are, by their name in the tree.

    Parameters
    ----------
    commands : of the arms that run in the study's own folder; of commits git tells everything

    Raises
    ------
    BadExperiment : more files than a project has
    """
    study, folder = placed.study, Path(placed.folder)
    named = [path for command in commands.values() for path in named_files(command, folder)]
    found = {_name(path, folder): path for path in named}
    suffixes = {suffix.lower() for suffix in study.suffixes}
    scripts = [path.parent for path in named if path.suffix.lower() in SCRIPTS]
    for root in dict.fromkeys(scripts or [folder]) if commands else ():
        top = work_tree(root)
        for path in _below(root) if top is None else _listed(top):
            if path.suffix.lower() in suffixes and _counts(path):
                found.setdefault(_name(path, folder), path)
    return {name: path for name, path in found.items() if not _ignored(name, study.ignore)}


def named_files(command: str, folder: Path) -> list[Path]:
    """Return the files that a command names, the program itself left out: train.py, --cfg=a.yaml.

    Parameters
    ----------
    folder : where the command runs
    """
    first, *rest = template.split(command)
    own = [] if Path(first).is_absolute() or ("/" not in first and shutil.which(first)) else [first]
    each = [part for word in [*own, *rest] for part in (word, word.partition("=")[2])]
    paths = [
        folder / part for part in each if part and not part.startswith("-") and "\0" not in part
    ]
    return [path.resolve() for path in dict.fromkeys(paths) if _is_file(path)]


def work_tree(folder: Path) -> Path | None:
    """Return the top of the git work tree that a folder is in, or None."""
    said = git.ask(folder, "rev-parse", "--show-toplevel")
    return None if said is None else Path(said)


def counts_as_code(path: Path) -> bool:
    """Tell whether a file of a checkout is code or configuration, and no study."""
    suffix = path.suffix.lower()
    return suffix in (*CODE, *CONFIGURATION) and path.is_file() and not _is_a_study(path)


def is_code(name: str) -> bool:
    """Tell whether a file is code by its suffix; configuration is what programs also write."""
    return Path(name).suffix in CODE


def _listed(top: Path) -> Iterator[Path]:
    """Yield what git lists of a work tree and of those within it: submodules, and other clones.

    Raises
    ------
    BadExperiment : git gives no list
    """
    said = git.ask(top, "ls-files", "-z", "--cached", "--others", "--exclude-standard", seconds=120)
    if said is None:
        raise BadExperiment(
            f"git does not list the files of {top}, so that what a run is cannot be told.",
            fix=f"git -C {shlex.quote(str(top))} ls-files --others --exclude-standard, and mend it",
        )
    names = [PurePosixPath(name) for name in said.split("\0") if name]
    left_out = {name.parent for name in names if name.name == "pyvenv.cfg"}
    left_out |= {name.parent.parent for name in names if name.parent.name == "conda-meta"}
    for name in names:
        if NOT_ENTERED & {*name.parts[:-1]} or left_out & {*name.parents}:
            continue
        if (top / name / ".git").exists():
            yield from _listed(top / name)
        else:
            yield top / name


def _below(root: Path) -> Iterator[Path]:
    for number, path in enumerate(_walk(root)):
        if number >= MOST_FILES:
            raise BadExperiment(
                f"more than {MOST_FILES:,} files lie beside and below the program, in {root}.",
                facts=["Which of them make a run what it is cannot be told without git."],
                fix="put the program into a folder of its own, or into a repository: git init",
            )
        yield path


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            if not path.name.startswith(".") and path.name not in NOT_ENTERED:
                if not any((path / name).exists() for name in ("pyvenv.cfg", "conda-meta")):
                    yield from _walk(path)
        elif path.is_file():
            yield path


def _counts(path: Path) -> bool:
    """Tell whether a listed file is there, small enough to be code, and no study."""
    try:
        return path.is_file() and path.stat().st_size <= MOST_BYTES and not _is_a_study(path)
    except OSError:
        return False


def _is_a_study(path: Path) -> bool:
    """Tell whether a file says what bench shall do: what it names counts by itself."""
    if path.suffix != ".toml" or path.name == "pyproject.toml":
        return False
    try:
        said = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return "arms" in said and isinstance(said["arms"], dict)


def _ignored(name: str, globs: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(name, each) or name.startswith(f"{each}/") for each in globs)


def _name(path: Path, folder: Path) -> str:
    """Return a file's path as seen from where the commands run."""
    return os.path.relpath(path.resolve(), folder.resolve())


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
