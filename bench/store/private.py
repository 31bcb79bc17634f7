"""File permissions: what is written is as private as the folder it lies in."""

import stat
from pathlib import Path


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, each as private as the one that it lies in."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        keep_private(folder)


def keep_private(path: Path) -> None:
    """Let nobody read a file whom its folder keeps out, whatever the umask: copies go far."""
    found, folder = (stat.S_IMODE(p.stat().st_mode) for p in (path, path.parent))
    if found & ~folder & 0o777:
        path.chmod(found & (folder | ~0o777))
