"""Database: only our own SQLite files are opened, and they know where they lie."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bench.store import sqlite
from bench.store.address import StoreTrouble
from bench.store.sqlite import artifact_folder, file_path, prepare


def make_tables(uri: str) -> None:
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("create table alembic_version (version_num text)")
        connection.execute("create table experiments (experiment_id, artifact_location)")
        connection.execute("create table runs (run_uuid, experiment_id, artifact_uri)")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return a database with one experiment of ours and one of somebody else's."""
    path = tmp_path / "mlruns" / "mlflow.db"
    assert opened(path) is None
    ours = artifact_folder(path, "my own", "0123456789")
    (ours / "r1" / "artifacts").mkdir(parents=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        for number, location in ((1, ours.as_uri()), (2, "s3://bucket/artifacts/x-0123456")):
            connection.execute("insert into experiments values (?, ?)", (number, location))
            uri = f"{location}/r{number}/artifacts"
            connection.execute("insert into runs values (?, ?, ?)", (f"r{number}", number, uri))
    return path


def opened(path: Path) -> Path | None:
    return prepare(path, make_tables, path.parent / "locks" / "store.lock")


def uris(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("select artifact_uri from runs order by run_uuid").fetchall()
        found = connection.execute("select artifact_location from experiments").fetchall()
    return [*(uri for (uri,) in rows), *(uri for (uri,) in found)]


def test_a_database_is_made_once_and_with_a_log_that_readers_do_not_wait_for(store: Path):
    before = uris(store)
    assert opened(store) is None and uris(store) == before
    with closing(sqlite3.connect(store)) as connection:
        assert connection.execute("pragma journal_mode").fetchone() == ("wal",)


def test_one_whose_making_was_interrupted_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(uri: str) -> None:
        make_tables(uri)
        raise KeyboardInterrupt

    path = tmp_path / "mlflow.db"
    with pytest.raises(KeyboardInterrupt):
        prepare(path, interrupted, tmp_path / "store.lock")
    assert not path.exists()
    path.touch()  # an empty file is none either
    assert opened(path) is None and path.stat().st_size > 0


def test_a_store_that_was_moved_has_its_own_addresses_corrected_and_no_others(
    store: Path, tmp_path: Path
):
    new = tmp_path / "größer und anders" / "mlflow.db"
    shutil.move(store.parent, new.parent)
    assert opened(new) == store.parent
    folder = artifact_folder(new, "my own", "0123456789").as_uri()
    theirs = "s3://bucket/artifacts/x-0123456"
    assert uris(new) == [f"{folder}/r1/artifacts", f"{theirs}/r2/artifacts", folder, theirs]
    assert file_path(folder) == artifact_folder(new, "my own", "0123456789")
    assert opened(new) is None  # and said once


def test_a_copy_leaves_the_original_alone(store: Path, tmp_path: Path):
    before = uris(store)
    copy = tmp_path / "copy" / "mlflow.db"
    shutil.copytree(store.parent, copy.parent)
    assert opened(copy) == store.parent and uris(copy) != before
    assert opened(store) is None and uris(store) == before


def test_another_way_to_the_same_folder_is_no_move(store: Path, tmp_path: Path):
    before = uris(store)
    (tmp_path / "link").symlink_to(store.parent)
    assert opened(tmp_path / "link" / "mlflow.db") is None and uris(store) == before


def test_another_programs_database_is_named_and_left_as_it_is(tmp_path: Path):
    path = tmp_path / "thesis.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table chapters (title text)")
    before = path.read_bytes()
    with pytest.raises(StoreTrouble, match=r"another program's database \(it holds chapters\)"):
        opened(path)
    assert path.read_bytes() == before


def test_to_look_at_a_database_does_not_drop_the_locks_of_who_has_it_open(store: Path):
    """Opening and closing the file beside SQLite would: its locks belong to the process."""
    reader = sqlite3.connect(store)
    reader.execute("select * from runs").fetchall()
    locks = Path("/proc/locks")
    if not locks.exists():
        pytest.skip("looks at /proc/locks")
    inode = f":{store.stat().st_ino} "

    def held() -> int:
        return sum(inode in line for line in locks.read_text().splitlines())

    before = held()
    sqlite._require_ours(store)
    assert held() == before > 0
    reader.close()


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///a/b%20c", Path("/a/b c")),
        ("/a/b", Path("/a/b")),
        ("s3://bucket/a", None),
        ("mlflow-artifacts:/1", None),
        ("", None),
    ],
)
def test_only_addresses_of_this_machine_are_paths(uri: str, path: Path | None):
    assert file_path(uri) == path
