"""Stored: whatever became of the store's JSON, it is refused, or what is said is still right."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from bench import cli
from bench.design.plan import digest
from bench.store import artifacts, spool
from bench.store.locks import Locks

SOME = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
bytes_ = st.tuples(st.integers(0, 10**6), st.binary(max_size=3))  # where, and what instead


@pytest.fixture(scope="module")
def recorded(
    tmp_path_factory: pytest.TempPathFactory,
    write_tiny: Callable[..., Path],
    copy_store: Callable[[Path], str],
) -> Path:
    """Return the folder of a store with two pairs, and a report beside it."""
    folder = tmp_path_factory.mktemp("recorded")
    path, uri = write_tiny(folder), copy_store(folder / "store")
    words = ["run", str(path), "--seeds", "2", "--workers", "1", "--store", uri, "-q"]
    assert cli._run(words) == 0
    return folder / "store"


def paths_in(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the place of everything in a JSON value."""
    inner = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    return [here, *(path for key, item in inner for path in paths_in(item, (*here, key)))]


def with_change(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[path[0]] = with_change(value[path[0]], path[1:], new)
    return changed


@pytest.fixture
def spoiled(recorded: Path, tmp_path: Path) -> Any:
    """Return what changes one text of a copy of the store: its file, and where asked its digest."""
    folder = tmp_path / "store"
    shutil.copytree(recorded, folder)
    database = folder / "mlflow.db"

    def spoil(kind: str, change: Callable[[bytes], bytes], *, digest: bool) -> str:
        (source,) = sorted(recorded.glob(f"artifacts/*/*/artifacts/{kind}/0001.json"))
        content = change(source.read_bytes())
        (folder / source.relative_to(recorded)).write_bytes(content)
        if digest:
            path = folder / source.relative_to(recorded)
            with closing(sqlite3.connect(database)) as connection, connection:
                connection.execute(
                    "update tags set value = ? where key = ?",
                    (artifacts.sha256(path), f"bench.sha256/{kind}/0001.json"),
                )
        return f"sqlite:///{database}"

    return spoil


@SOME
@given(st.sampled_from(["plan", "provenance"]), bytes_)
def test_a_byte_that_changed_is_found(
    spoiled: Any, answer: Any, tried: Any, kind: str, change: tuple[int, bytes]
):
    same: list[bool] = []

    def changed(content: bytes) -> bytes:
        at = change[0] % len(content)
        new = content[:at] + change[1] + content[at + len(change[1]) :]
        same.append(new == content)
        return new

    uri = spoiled(kind, changed, digest=False)
    with tried("stored texts with changed bytes"):
        said = answer(["status", "tiny", "--store", uri])
        if not same[0] and kind == "plan":
            assert said.status == 5 and "the stored plan files of tiny" in said.err


@SOME
@given(st.sampled_from(["plan", "provenance"]), st.integers(0, 10**6), anything)
@example("plan", 0, {"plan": {}, "events": []})
@example("provenance", 0, [])
def test_a_record_of_another_shape_is_refused_or_harmless(
    spoiled: Any, answer: Any, tried: Any, kind: str, where: int, new: Any
):
    """Somebody who rewrites a file and its digest too can still cause no traceback."""

    def changed(content: bytes) -> bytes:
        value = json.loads(content)
        places = paths_in(value)
        return json.dumps(with_change(value, places[where % len(places)], new)).encode()

    uri = spoiled(kind, changed, digest=True)
    with tried("stored texts of another shape"):
        answer(["status", "--store", uri])
        answer(["report", "tiny", "--store", uri, "--json"])


@SOME
@given(st.sampled_from(["report.html", "results.json"]), bytes_)
def test_a_report_with_changed_bytes_is_refused_or_verified_but_never_a_bug(
    recorded: Path, tmp_path: Path, answer: Any, tried: Any, name: str, change: tuple[int, bytes]
):
    content = (recorded / "reports" / "tiny" / name).read_bytes()
    at = change[0] % len(content)
    path = tmp_path / name
    path.write_bytes(content[:at] + change[1] + content[at + len(change[1]) :])
    with tried("reports with changed bytes"):
        answer(["verify", str(path)])


@pytest.mark.parametrize("start", ["yesterday", 2**62])
@pytest.mark.parametrize("kind", ["trial", "benchmark"])
def test_a_run_whose_start_is_no_time_is_named(
    kind: str, start: object, recorded: Path, tmp_path: Path, answer: Any
):
    """SQLite keeps whatever somebody writes into a column of numbers."""
    shutil.copytree(recorded, tmp_path / "store")
    database = tmp_path / "store" / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        select = "select run_uuid from tags where key = 'bench.kind' and value = ?"
        (run_id, *_) = connection.execute(select, (kind,)).fetchone()
        sql = "update runs set start_time = ? where run_uuid = ?"
        connection.execute(sql, (start, run_id))
    for words in (["status"], ["status", "tiny"], ["report", "tiny"]):
        said = answer([*words, "--store", f"sqlite:///{database}"])
        whole = said.out + said.err
        assert run_id in whole and "no longer says when it started" in whole, words


@pytest.mark.parametrize(("tag", "value"), [("arm", "another"), ("seed", "two")])
def test_a_run_whose_tags_name_no_trial_of_the_plan_is_named(
    tag: str, value: str, recorded: Path, tmp_path: Path, answer: Any
):
    """Anybody can edit a tag in MLflow's own pages."""
    shutil.copytree(recorded, tmp_path / "store")
    database = tmp_path / "store" / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        select = "select run_uuid from tags where key = 'bench.kind' and value = 'trial'"
        (run_id, *_) = connection.execute(select).fetchone()
        sql = "update tags set value = ? where key = ? and run_uuid = ?"
        connection.execute(sql, (value, tag, run_id))
    for words in (["status"], ["status", "tiny"], ["report", "tiny"]):
        said = answer([*words, "--store", f"sqlite:///{database}"])
        whole = said.out + said.err
        assert run_id in whole and "no longer says which arm and seed it is" in whole, words


# -- what a process that died left behind -------------------------------------------------------


@given(st.one_of(anything.map(json.dumps), st.text(max_size=30)), st.integers(0, 10**6), anything)
def test_a_pending_result_of_any_shape_is_used_whole_or_removed(
    tmp_path_factory: pytest.TempPathFactory, tried: Any, text: str, where: int, new: Any
):
    place = tmp_path_factory.mktemp("pending")
    entry = {
        "parent": "p", "trial": "t", "key": {"arm": "a", "seed": 1}, "attempt": 1,
        "status": "FINISHED", "tags": {}, "scores": {}, "epochs": [], "ended_at": 0.0,
    }  # fmt: skip
    entry["tags"] = {spool.DIGESTS: "{}"}
    entry["tags"][spool.SEAL] = spool.seal("t", entry["tags"])
    places = paths_in(entry)
    changed = with_change(entry, places[where % len(places)], new)
    kept = {"sha256": digest(entry), "entry": entry}
    texts = [json.dumps(kept), text, json.dumps({**kept, "entry": changed})]
    for i, content in enumerate(texts):
        (place / f"{i}").mkdir()
        (place / f"{i}" / "entry.json").write_text(content, errors="replace")
    with tried("pending results"):
        found = list(spool.waiting(place))
    assert {path.name for path in place.iterdir()} == {e.name for e in found}
    assert {e.name for e in found} in ({"0"}, {"0", "2"})  # the last may be changed into itself
    assert all(e.key.seed == 1 and e.status == "FINISHED" for e in found)


@given(anything.map(json.dumps))
def test_who_holds_a_lock_is_told_whatever_was_written_beside_it(
    tmp_path_factory: pytest.TempPathFactory, tried: Any, text: str
):
    locks = Locks(tmp_path_factory.mktemp("locks"))
    with tried("notes beside a lock"), locks.hold("b1", "tiny"):
        locks.path("b1").with_suffix(".json").write_text(text)
        held = locks.holder("b1")
        assert isinstance(held, dict)
