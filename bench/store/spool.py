"""Spool: results that are durable on this disk (fsync, atomic rename), not yet in the store.

A result is kept here, whole and synced, before anybody is told that its run is over. Then a locked
database, a server that is down or a killed process costs nothing: the next session under the
benchmark's lock writes what is still here.
"""

import errno
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from bench.design.plan import TrialKey, digest
from bench.design.results import Epochs, Result, ScoredOn, Success
from bench.store import artifacts, run_folder
from bench.store.names import file_name, storable
from bench.store.private import make_folder
from bench.terminal import tell

Status = Literal["FINISHED", "FAILED"]
RunStatus = Literal["FINISHED", "FAILED", "KILLED"]
ENTRY, FILES, PART, ASIDE = "entry.json", "files", ".part-", "aside"
OWN, LEFT = "files", "bench.files_left"  # what a run left in its own folder, and what is not kept
TEST_SET = "bench.test_set"
DIGESTS, SEAL = "bench.sha256", "bench.seal"
SEALED = (  # the tags that a report rests on
    "bench.device",
    "bench.threads",
    "bench.duration_s",
    "bench.environment",
    "bench.failure",
    "bench.reason",
    DIGESTS,
)
MOST_REASON = 4000  # characters; an MLflow tag takes 8,000


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One trial that is over, as the store will hold it."""

    folder: Path
    parent: str  # the benchmark's run
    trial: str  # the trial's identity
    key: TrialKey
    attempt: int
    status: Status
    tags: Mapping[str, str]
    scores: Mapping[str, float]
    epochs: Epochs
    ended_at: float

    @property
    def name(self) -> str:
        """Unique: a run that carries it is this entry, written."""
        return self.folder.name

    @property
    def files(self) -> Path:
        """The folder of the run's artifacts."""
        return self.folder / FILES

    @property
    def is_whole(self) -> bool:
        """Whether every file that a report rests on is there, byte for byte."""
        digests: dict[str, str] = json.loads(self.tags[DIGESTS])
        try:
            return all(artifacts.sha256(self.files / name) == sha for name, sha in digests.items())
        except (FileNotFoundError, NotADirectoryError):
            return False

    def forget(self) -> None:
        """Remove it, once it is in the store."""
        shutil.rmtree(self.folder, ignore_errors=True)


def keep(
    place: Path, result: Result, *, parent: str, trial: str, commit: str, metric: str = ""
) -> Entry:
    """Write a result whole or not at all, and only return when the disk has it.

    Parameters
    ----------
    place : the benchmark's own folder of pending results
    parent : the benchmark's run
    trial : the trial's identity, Plan.trial_digest
    commit : what the experiment's repository was at, for the run's environment
    metric : of the plan: logged too where it is no mean over examples
    """
    make_folder(place)
    part = Path(tempfile.mkdtemp(dir=place, prefix=PART))
    try:
        (part / FILES).mkdir()
        digests = artifacts.write(part / FILES, result)
        own = run_folder.keep(result, part / FILES / OWN)
        tags = _tags(result, digests, commit)
        left = own.said(result.folder) if own and own.left and result.folder else ""
        name = f"{time.time_ns():020d}-{result.key.seed}-{file_name(result.key.arm)}"
        entry = Entry(
            folder=place / name,
            parent=parent,
            trial=trial,
            key=result.key,
            attempt=result.attempt,
            status="FINISHED" if isinstance(result, Success) else "FAILED",
            tags=tags | {SEAL: seal(trial, tags)} | ({LEFT: left[:MOST_REASON]} if left else {}),
            scores=artifacts.final_scores(result, metric) if isinstance(result, Success) else {},
            epochs=result.epochs,
            ended_at=result.started_at + result.duration_s,
        )
        plain = {k: v for k, v in asdict(entry).items() if k != "folder"}
        text = json.dumps({"sha256": digest(plain), "entry": plain})
        (part / ENTRY).write_text(text, "utf-8")
        for path in (*(part / FILES / name for name in digests), part / ENTRY):
            _sync(path)
        os.replace(part, entry.folder)
        _sync(place)
        run_folder.clear(result, own)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return entry


def _tags(result: Result, digests: Mapping[str, str], commit: str) -> dict[str, str]:
    environment = {**result.environment, "commit": commit}
    tags = {
        "bench.device": result.device,
        "bench.threads": str(result.threads),
        "bench.duration_s": repr(result.duration_s),
        "bench.environment": json.dumps(environment, sort_keys=True),
        DIGESTS: json.dumps(digests, sort_keys=True),
    }
    if test_set := ScoredOn.of(result):
        tags[TEST_SET] = test_set.tag
    if result.hardware:
        tags["bench.hardware"] = json.dumps(dict(result.hardware), sort_keys=True)
    if not isinstance(result, Success):
        reason = storable(result.what)[:MOST_REASON]
        tags |= {"bench.failure": result.code, "bench.reason": reason}
    return tags


def seal(trial: str, tags: Mapping[str, str]) -> str:
    """Return the digest of what a report rests on, so that an edit in the MLflow UI shows.

    Parameters
    ----------
    trial : the trial's identity: a run whose arm or seed was changed has another one
    tags : of the run; those that are not SEALED may change
    """
    return digest([trial, {name: tags[name] for name in SEALED if name in tags}])


def waiting(place: Path) -> Iterator[Entry]:
    """Yield what a session left behind, oldest first; call it under the benchmark's lock.

    What the disk did not take whole before a loss of power is removed: it is trained again. What
    holds a symbolic link, a pipe or a device is not ours: it is set aside and never followed.

    Raises
    ------
    OSError : the disk does not give back what is there; it stays
    """
    if place.is_symlink():
        raise OSError(errno.ELOOP, "a link, which is not followed", str(place))
    for folder in sorted(place.iterdir()) if place.is_dir() else ():
        if not _is_plain(folder):
            kept = _move_aside(folder)
            tell(f"{folder.name} holds a link, or is one; kept in {kept}.")
            continue
        entry = None if folder.name.startswith(PART) else _read(folder)
        if entry is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            yield entry


def _read(folder: Path) -> Entry | None:
    """Return an entry if every byte of it is there, None if it is not whole."""
    try:
        kept: dict[str, Any] = json.loads((folder / ENTRY).read_text("utf-8"))
        plain = kept["entry"]
        if kept["sha256"] != digest(plain):
            return None
        entry = Entry(folder=folder, key=TrialKey(**plain.pop("key")), **plain)
        return entry if entry.is_whole else None
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
        return None


def _is_plain(folder: Path) -> bool:
    """Tell whether all of a folder is folders and files; follows no link."""
    inside = (Path(root, n) for root, d, files in os.walk(folder) for n in (*d, *files))
    modes = (path.lstat().st_mode for path in (folder, *inside))
    return all(stat.S_ISDIR(mode) or stat.S_ISREG(mode) for mode in modes)


def set_aside(entry: Entry) -> Path:
    """Move an entry out of the folder of pending results, to one beside it, which is returned."""
    return _move_aside(entry.folder)


def _move_aside(folder: Path) -> Path:
    place = folder.parent
    aside = place.parent.with_name(ASIDE) / place.name
    make_folder(aside)
    os.replace(folder, aside / folder.name)
    return aside


def _sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, has reached the disk."""
    if os.name != "posix" and path.is_dir():  # other systems do not open folders
        return
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
