"""Leases: who holds a device of this machine, for all of its users."""

import contextlib
import errno
import os
import re
import shlex
import stat
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from bench.analysis.errors import Refusal
from bench.execution.devices import Slot

try:
    import fcntl
    import pwd
except ImportError:  # Windows
    fcntl = pwd = None  # type: ignore[assignment]


OPEN_TRIES = 50  # 10 ms each: another user may have made a lease file and not yet opened it to all


class LeaseTrouble(Refusal):
    """Something else lies where the leases are."""

    code = "leases"
    exit_status = 4


class Leases:
    """One lock (flock) a device and lane, in a folder that all users of the machine share.

    The lock belongs to the open file: whoever has a copy of the descriptor, also one sent to
    another process, holds it, and the system frees it with the last copy.

    Parameters
    ----------
    folder : made where it is missing; None is the same for everybody, whatever TMPDIR says
    """

    def __init__(self, folder: Path | None = None) -> None:
        shared = "/tmp" if os.name == "posix" else tempfile.gettempdir()
        self.folder = folder or Path(shared, "bench-leases")
        self._held: list[FileLock] = []  # where there is no flock

    def take(self, slot: Slot) -> tuple[int, ...] | None:
        """Return locked descriptors, or None where somebody else holds one of the devices.

        There are none on the CPU, nor on Windows, where this process stays the holder.

        Raises
        ------
        LeaseTrouble : something else lies in the way
        """
        paths = self._paths(slot)
        if not paths:
            return ()
        if not hasattr(fcntl, "flock"):
            return self._take_without_flock(paths)
        _prepare(self.folder)
        with contextlib.ExitStack() as stack:
            held: list[int] = []
            for path in paths:
                held.append(_opened(path))
                stack.callback(os.close, held[-1])
                if not _lock(held[-1]):
                    return None
            stack.pop_all()
        for descriptor in held:
            _sign(descriptor)
        return tuple(held)

    def holder(self, slot: Slot) -> str:
        """Return who holds the slot's devices, as they wrote it: "user alice, pid 4711"."""
        for path in self._paths(slot) if fcntl else ():
            with contextlib.suppress(OSError, ValueError):
                if said := _said(path):
                    return said
        return "another process"

    def _paths(self, slot: Slot) -> list[Path]:
        names = {re.sub(r"[^\w-]", "-", device.uuid, flags=re.ASCII) for device in slot.devices}
        return [self.folder / f"{name}.{slot.lane}" for name in sorted(names)]

    def _take_without_flock(self, paths: Sequence[Path]) -> tuple[int, ...] | None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            for lock in [FileLock(path) for path in paths]:
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    return None
                stack.callback(lock.release)
                self._held.append(lock)
            stack.pop_all()
        return ()


def _prepare(folder: Path) -> None:
    """Make the folder, by an atomic rename: never seen half open; or check what is there."""
    try:
        if not os.path.lexists(folder):
            fresh = tempfile.mkdtemp(prefix=".bench-leases-", dir=folder.parent)
            os.chmod(fresh, 0o1777)
            with contextlib.suppress(OSError):  # somebody was faster
                os.rename(fresh, folder)
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(fresh)
        found = folder.lstat()
    except OSError as error:
        raise _trouble(
            folder, f"It cannot be made: {error}.", f"mkdir -p -m 1777 {_quoted(folder)}"
        ) from error
    if not stat.S_ISDIR(found.st_mode):
        raise _in_the_way(folder)
    if found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) != 0o1777:
        folder.chmod(0o1777)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _trouble(folder, "You may not write there.", f"sudo chmod 1777 {_quoted(folder)}")


def _opened(path: Path) -> int:
    """Return a descriptor of a lease file that everybody may lock."""
    for _ in range(OPEN_TRIES):
        try:
            return _checked(path, _open_or_make(path))
        except (FileExistsError, PermissionError):  # somebody is making it right now
            time.sleep(0.01)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):  # link, folder, socket
                raise _in_the_way(path) from error
            raise
    raise _trouble(path, "You may not write to it.", f"sudo chmod 666 {_quoted(path)}")


def _open_or_make(path: Path) -> int:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        # Linux refuses O_CREAT on somebody else's file in a sticky folder (protected_regular).
        return os.open(path, flags)
    except FileNotFoundError:
        return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)


def _checked(path: Path, descriptor: int) -> int:
    """Return the descriptor of a lease file of mode 0666, whatever the umask; else close it."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise _in_the_way(path)
    if found.st_uid == os.getuid():
        os.fchmod(descriptor, 0o666)
    return descriptor


def _lock(descriptor: int) -> bool:
    """Lock without waiting; a file that has been deleted meanwhile is no lease any more."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(descriptor).st_nlink > 0


def _sign(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{_user_name(os.getuid())} {os.getpid()}\n".encode(), 0)


def _said(path: Path) -> str | None:
    """Return what the holder of a lease wrote, or None where nobody holds it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 200, 0).decode(errors="replace")
        user, pid = text.rsplit(maxsplit=1)  # written by anybody: no control characters
        return f"user {''.join(filter(str.isprintable, user))}, pid {int(pid)}"
    finally:
        os.close(descriptor)
    return None


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _in_the_way(path: Path) -> LeaseTrouble:
    found = path.lstat()
    sudo = "" if os.getuid() in (0, found.st_uid) else "sudo "
    remove = "rm -r" if stat.S_ISDIR(found.st_mode) else "rm"
    fact = f"It is {stat.filemode(found.st_mode)} and belongs to {_user_name(found.st_uid)}."
    return _trouble(path, fact, f"{sudo}{remove} {_quoted(path)}")


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _trouble(path: Path, fact: str, fix: str) -> LeaseTrouble:
    what = f"{path} cannot be used to say who trains on which device."
    return LeaseTrouble(what, facts=[fact], fix=fix)
