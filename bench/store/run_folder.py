"""trial.folder: which of a run's own files are kept with it, as hard links or copies."""

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from bench.design.results import Failure, Result, Success
from bench.store.artifacts import link_or_copy

MOST_BYTES = 64 * 2**20  # a run in all
ANSWER = ".answer"  # beside the runs of a pack, while they train
R = TypeVar("R", Success, Failure, Result)


@dataclass(frozen=True)
class Contents:
    """What a run left in its folder."""

    kept: tuple[Path, ...]  # relative to the folder, the smallest first
    left: tuple[tuple[Path, str], ...]  # and why

    def said(self, folder: Path) -> str:
        """Say what is left where it is."""
        named = ", ".join(f"{path} ({why})" for path, why in self.left[:3])
        more = f" and {len(self.left) - 3} more" if len(self.left) > 3 else ""
        limit = f"{MOST_BYTES // 2**20} MiB of plain files are kept of a run"
        return f"{named}{more}: {limit}, so left in {folder}"


def contents(folder: Path) -> Contents:
    """Return which files are kept with the run: as many as fit, links and sockets never."""
    if folder.is_symlink():
        return Contents((), ((folder, "a link in place of the folder"),))
    kept, left, total = list[Path](), list[tuple[Path, str]](), 0
    for size, path, plain in sorted(_files(folder)):
        total += size if plain else 0
        if plain and total <= MOST_BYTES:
            kept.append(path)
        else:  # the largest file is named first
            left.insert(0, (path, f"{size / 2**20:,.1f} MiB" if plain else "no plain file"))
    return Contents(tuple(kept), tuple(left))


def _files(folder: Path) -> Iterator[tuple[int, Path, bool]]:
    for root, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        for name in (*names, *links):
            path = Path(root) / name
            found = path.lstat()
            yield found.st_size, path.relative_to(folder), stat.S_ISREG(found.st_mode)


def keep(result: Result, target: Path) -> Contents | None:
    """Put the files that are kept below a target, by hard links where the disk has them.

    Returns
    -------
    what there was, or None where there was nothing
    """
    for sent, data in result.files.items():
        path = target / sent
        if ".." in Path(sent).parts or not path.is_relative_to(target):
            raise ValueError(f"{sent!r} is not the name of a file in a run's folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    if result.folder is None or not result.folder.is_dir():
        return None
    found = contents(result.folder)
    for name in found.kept:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(result.folder / name, path)
    return found if found.kept or found.left else None


def clear(result: Result, found: Contents | None) -> None:
    """Remove what is kept elsewhere now; what is not stays where it is."""
    if result.folder is None:
        return
    if found is None or not found.left:
        if result.folder.exists() and not result.folder.is_symlink():
            shutil.rmtree(result.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            result.folder.parent.rmdir()  # that of its pack, where this was the last
        return
    for name in found.kept:
        (result.folder / name).unlink(missing_ok=True)


def packed_up(result: R) -> R:
    """Return a result whose files travel with it to another machine; the rest stays there."""
    if result.folder is None or not result.folder.is_dir():
        clear(result, None)
        return replace(result, folder=None)
    found = contents(result.folder)
    files = {str(name): (result.folder / name).read_bytes() for name in found.kept}
    clear(result, found)
    return replace(result, files=files, folder=None)


def tidy(folder: Path) -> None:
    """Remove what the trainings of a killed supervisor were given, except files of their own."""
    for answer in folder.glob(f"*/{ANSWER}"):
        shutil.rmtree(answer, ignore_errors=True)
    for root, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(root)
