"""The SQLite file of a store: its integrity, its schema, and paths after it was moved."""

import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import unquote, urlparse

from filelock import FileLock

from bench.store.address import StoreTrouble, database_of
from bench.store.names import file_name
from bench.store.private import keep_private, make_folder

BUSY_S = 20.0  # as long as MLflow itself waits for another writer
OURS = re.compile(r".+-[0-9a-f]{7}")  # the artifacts of one experiment, named by `artifact_folder`


def prepare(database: Path, make_tables: Callable[[str], object], lock: Path) -> Path | None:
    """Make a database that is not there yet, or see that this one can be used.

    Parameters
    ----------
    database : the file
    make_tables : lets MLflow make its tables in the database with this address
    lock : a file beside it: of two processes that make one database, one waits

    Returns
    -------
    the folder from which the store was moved here, or None

    The database, and what SQLite keeps beside it, is as private as its folder: who may not look
    into the folder may not read a copy either, whatever the umask.

    Raises
    ------
    StoreTrouble : no SQLite database, or another program's; it is left as it is
    """
    database.parent.mkdir(parents=True, exist_ok=True)
    make_folder(lock.parent)
    with FileLock(lock):
        if database.exists() and database.stat().st_size:
            _require_ours(database)
            return _settle(database)
        _make(database, make_tables)
    return None


def _make(database: Path, make_tables: Callable[[str], object]) -> None:
    """Let it appear whole: one that was killed half-made could never be opened again."""
    part = database.with_name(f".{database.name}.part")
    part.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        made = Path(folder) / "mlflow.db"
        make_tables(mlflow_uri(f"sqlite:///{made}"))
        with closing(sqlite3.connect(made)) as old, closing(sqlite3.connect(part)) as new:
            old.backup(new)
            new.execute("PRAGMA journal_mode=WAL")
    keep_private(part)
    os.replace(part, database)


def mlflow_uri(uri: str) -> str:
    """Return the address by which MLflow opens the very file that an address of ours names.

    SQLAlchemy reads a `?` as the begin of options and, from 2.1 on, %41 as A. MLflow makes the
    folder that it reads in sqlite:///…, so that an escaped path goes by the driver's full name.

    Raises
    ------
    StoreTrouble : the SQLAlchemy that is installed has no way to write this path
    """
    from sqlalchemy.engine import make_url

    database = database_of(uri)
    if database is None:
        return uri
    plain = str(database)
    escaped = plain.replace("%", "%25").replace("?", "%3F")
    for named in (f"sqlite:///{plain}", f"sqlite+pysqlite:///{escaped}"):
        url = make_url(named)
        if url.database == plain and not url.query:
            return named
    raise StoreTrouble(
        f"MLflow cannot open {database}: it reads the name as an address.",
        facts=["A store's path holds no % and no ?."],
        fix="name another:",
        options=[("store", "sqlite:///FILE")],
    )


def _require_ours(database: Path) -> None:
    """Look through SQLite alone: to open and close the file beside it would drop its locks."""
    try:
        with closing(sqlite3.connect(database, timeout=BUSY_S)) as connection:
            tables = {row[0] for row in connection.execute("select name from sqlite_master")}
    except sqlite3.DatabaseError as error:
        if "not a database" in str(error):
            raise _refused(f"{database} is not an SQLite database.") from error
        raise
    if tables and not {"experiments", "runs", "alembic_version"} <= tables:
        some = ", ".join(sorted(map(str, tables))[:3])
        raise _refused(f"{database} is another program's database (it holds {some}).")


def _refused(what: str) -> StoreTrouble:
    fact, other = "It was left as it is.", ("store", "sqlite:///another.db")
    return StoreTrouble(what, facts=[fact], options=[other])


def artifact_folder(database: Path, experiment: str, benchmark_id: str) -> Path:
    """Return where the files of a new experiment's runs go: beside the database."""
    return database.parent / "artifacts" / f"{file_name(experiment)}-{benchmark_id[:7]}"


def _settle(database: Path) -> Path | None:
    """Correct the addresses of the artifacts, which MLflow stores in full, after a move."""
    moved_from = None
    with closing(sqlite3.connect(database, timeout=BUSY_S)) as connection, connection:
        rows = connection.execute("select experiment_id, artifact_location from experiments")
        for experiment, location in rows.fetchall():
            old = file_path(location or "")
            if old is None or old.parent.name != "artifacts" or not OURS.fullmatch(old.name):
                continue
            new = database.parent / "artifacts" / old.name
            if old == new or not new.is_dir() or (old.exists() and old.samefile(new)):
                continue
            moved_from = old.parent.parent
            connection.execute(
                "update experiments set artifact_location = ? where experiment_id = ?",
                (new.as_uri(), experiment),
            )
            connection.execute(
                "update runs set artifact_uri = ? || substr(artifact_uri, ?)"
                " where experiment_id = ? and substr(artifact_uri, 1, ?) = ?",
                (new.as_uri(), len(location) + 1, experiment, len(location), location),
            )
    return moved_from


def checkpoint(database: Path) -> None:
    """Bring what SQLite keeps beside the file into it, so that the file alone is the store."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(database, timeout=1)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def file_path(uri: str) -> Path | None:
    """Return the folder of a file: address or plain path, or None for a server's."""
    parsed = urlparse(uri)
    if parsed.scheme == "file":
        path = unquote(parsed.path)
        return Path(path.lstrip("/") if re.match(r"/[A-Za-z]:", path) else path)
    return Path(uri) if parsed.scheme == "" and uri else None


def identity(database: Path) -> tuple[int, int] | None:
    """Return what tells a file from another one of its name; None where there is none."""
    with suppress(OSError):
        found = database.stat()
        return found.st_dev, found.st_ino
    return None


def schema(database: Path) -> str | None:
    """Return the version of MLflow's tables, or None where it cannot be read."""
    with suppress(sqlite3.Error, OSError), closing(sqlite3.connect(database)) as connection:
        row = connection.execute("select version_num from alembic_version").fetchone()
        return None if row is None else str(row[0])
    return None


def free_bytes(folder: Path) -> int:
    """Return the space that is left where a folder is, or will be."""
    there = next(p for p in (folder, *folder.parents) if p.exists())
    return shutil.disk_usage(there).free
