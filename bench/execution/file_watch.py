"""File watch: which files does a training read or run that its experiment does not declare?"""

import os
import sys
import sysconfig
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

STARTS = ("subprocess.Popen", "os.exec", "os.posix_spawn")
LARGEST = 2**20  # bytes; what is larger is data, not code or configuration


class FileWatch:
    """Notes, from now on, the files of a folder that are opened and the scripts that are run.

    Parameters
    ----------
    folder : the experiment's own
    known : files that are declared, or own modules
    """

    def __init__(self, folder: Path, known: Collection[Path]) -> None:
        self.found: set[Path] = set()
        self._folder = folder.resolve()
        self._known = {path.resolve() for path in known}
        self._foreign = [
            Path(sys.prefix),
            Path(sys.base_prefix),
            Path(sysconfig.get_path("stdlib")),
        ]
        sys.addaudithook(self._heard)  # for the rest of this process: it cannot be taken back

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str) and arguments[1] in ("r", "rb"):
            path = Path(arguments[0])
            if path.suffix != ".pyc" and self._folder in path.absolute().parents:
                self._note(path)
        elif event in STARTS:
            for path in _words(arguments[1]):
                self._note(path)

    def _note(self, path: Path) -> None:
        try:
            found = path.resolve()
            plain = found.is_file() and found.stat().st_size <= LARGEST
        except (OSError, ValueError):
            return
        if (
            plain
            and found not in self._known
            and not any(found.is_relative_to(folder) for folder in self._foreign)
        ):
            self.found.add(found)


def _words(arguments: Any) -> Iterator[Path]:
    """Return the words of a command after the program, as paths."""
    for word in [*arguments][1:] if isinstance(arguments, list | tuple) else ():
        if isinstance(word, str | bytes | os.PathLike):
            yield Path(os.fsdecode(word))
