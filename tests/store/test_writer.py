"""Recorder and pending: a result is on the disk before the store, whatever the store does."""

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.analysis.errors import DiskFull
from bench.design.description import Discovered
from bench.design.plan import Plan, TrialKey
from bench.design.results import Failure, Success
from bench.experiment import Outcome
from bench.store import artifacts, spool, writer
from bench.store.address import StoreAway, StoreTrouble
from bench.store.memory import MemoryStore
from bench.store.spool import keep, seal, waiting
from bench.store.writer import Recorder

KEY = TrialKey("weak", 0)
WRITES = ("start", "describe", "put", "log", "end", "end_orphans")


def success(key: TrialKey = KEY, **changes: Any) -> Success:
    values: dict[str, Any] = {
        "outcome": Outcome(scores={"return": 1.5}),
        "epochs": [{"epoch": 0, "time": 1.0, "loss": float("nan")}],
        "duration_s": 1.0,
        "started_at": 2.0,
        "device": "cpu",
        "threads": 1,
        "log": "a line\n",
    }
    return Success(key=key, **{**values, **changes})


class Store(MemoryStore):
    """A store in memory that writes down what it is asked, and can be away."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.away: Exception | None = None
        self.refuse = ""  # the one call that fails while it is away; all of them where empty
        self.calls: list[tuple[Any, ...]] = []

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in WRITES:
            return found

        def call(*words: Any, **named: Any) -> Any:
            if self.away is not None and self.refuse in ("", name):
                raise self.away
            self.calls.append((name, *words, *named.values()))
            return found(*words, **named)

        return call

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [call for call in self.calls if call[0] == name]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def start(
    store: Store,
    tiny: Discovered,
    plan_of: Callable[..., Plan],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Recorder]:
    """Return what starts a recorder that is quicker than the real one."""
    monkeypatch.setattr(writer, "FLUSH_S", 0.02)
    monkeypatch.setattr(writer, "LONGEST_PAUSE_S", 0.05)
    monkeypatch.setattr(writer, "PATIENCE_S", 0.3)

    def begin() -> Recorder:
        facts = {"commit": "c0ffee"}
        store.away, away = None, store.away  # it was there when the session began
        benchmark = store.begin(plan_of(tiny), provenance=facts, source={})
        store.away = away
        store.calls.clear()
        return Recorder(store, benchmark, facts)

    return begin


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def place(store: Store) -> Path:
    (found,) = (store.folder / "pending").iterdir()
    return found


# -- on the disk first -------------------------------------------------------------------------


def test_a_result_is_on_the_disk_when_record_returns_and_gone_when_the_store_has_it(
    store: Store, start: Callable[..., Recorder]
):
    store.away = StoreAway("away", facts=["no route"])
    with pytest.raises(StoreTrouble), start() as writing:
        writing.record(success())
        (entry,) = waiting(place(store))
        assert (entry.key, entry.status, entry.scores) == (KEY, "FINISHED", {"return": 1.5})
        assert np.isnan(entry.epochs[0]["loss"])
    store.away = None
    with start() as writing:
        writing.record(success(TrialKey("weak", 1)))
        until(lambda: store.of("end"))
    assert list(waiting(place(store))) == []  # the next session wrote it
    assert {run.name for run in store.runs.values()} >= {"weak/seed-00", "weak/seed-01"}


def test_what_is_written_ends_with_the_status(store: Store, start: Callable[..., Recorder]):
    with start() as writing:
        writing.record(success())
    names = [call[0] for call in store.calls]
    assert names == ["start", "describe", "put", "log", "end", "end_orphans", "end"]
    assert store.of("end")[0][2] == "FINISHED"
    kept = sorted(path.name for path in Path(store.runs["run-1"].artifact_uri).iterdir())
    assert kept == ["epochs.parquet", "log.txt", "outcome.json"]


def test_a_failure_keeps_its_reason_whatever_signs_are_in_it(
    store: Store, start: Callable[..., Recorder]
):
    odd = Failure(key=KEY, code="training", what="half \udc80 and \0", traceback="\udc80\0")
    with start() as writing:
        writing.record(odd)
    ((_, _, _, tags),) = store.of("log")
    assert tags["bench.failure"] == "training" and tags["bench.reason"] == "half ? and ?"
    assert store.of("end")[0][2] == "FAILED"


def test_an_interruption_in_the_middle_of_keeping_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(spool, "_sync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        keep(tmp_path / "p", success(), parent="p", trial="t", commit="")
    assert list((tmp_path / "p").iterdir()) == []


def test_results_come_back_in_the_order_in_which_they_were_kept(tmp_path: Path):
    keys = [TrialKey("weak", seed) for seed in (7, 1, 12)]
    for key in keys:
        keep(tmp_path, success(key), parent="p", trial="t", commit="")
    assert [entry.key for entry in waiting(tmp_path)] == keys


def test_a_kept_result_whose_bytes_changed_is_not_used(tmp_path: Path):
    entry = keep(tmp_path, success(), parent="p", trial="t", commit="")
    path = entry.files / artifacts.OUTCOME
    path.write_text(path.read_text().replace("1.5", "2.5"))
    assert list(waiting(tmp_path)) == [] and list(tmp_path.iterdir()) == []


def test_the_seal_changes_with_all_that_a_report_rests_on_and_nothing_else():
    tags = {"bench.device": "cpu", "bench.sha256": "{}", "mlflow.note.content": "seen"}
    sealed = seal("trial", tags)
    assert seal("trial", {**tags, "mlflow.note.content": "seen twice"}) == sealed
    assert seal("trial", {**tags, "bench.superseded": "true"}) == sealed
    assert seal("trial", {**tags, "bench.device": "cuda:0"}) != sealed
    assert seal("trial", {**tags, "bench.reason": "none"}) != sealed
    assert seal("another", tags) != sealed


def test_an_epoch_is_written_once_while_it_trains_or_with_its_result(
    store: Store, start: Callable[..., Recorder]
):
    rows = [{"epoch": n, "time": 1.0 + n, "loss": 0.5} for n in range(4)]
    with start() as writing:
        for row in rows[:2]:
            writing.deliver({"type": "epoch", "arm": "weak", "seed": 0, "attempt": 1, "row": row})
        until(lambda: store.of("log"))
        writing.record(success(epochs=rows, attempt=1))
    written = [metric for call in store.of("log") for metric in call[2] if metric[0] == "loss"]
    assert [epoch for _, _, _, epoch in written] == [0, 1, 2, 3]


# -- a store that is away ----------------------------------------------------------------------


@pytest.mark.parametrize("refuse", ["", "start", "describe", "put", "log", "end"])
def test_whatever_a_store_refuses_for_a_while_is_written_once_it_is_back(
    refuse: str, store: Store, start: Callable[..., Recorder]
):
    store.away, store.refuse = StoreAway("away", facts=["no route"]), refuse
    with start() as writing:
        row = {"epoch": 0, "time": 1.0, "loss": 0.5}
        writing.deliver({"type": "epoch", "arm": "weak", "seed": 1, "attempt": 1, "row": row})
        writing.record(success())
        until(lambda: writing.away == "no route")
        store.away = None
        until(lambda: writing.away is None)
        until(lambda: not list(waiting(place(store))))
    started = [call[2] for call in store.of("start")]
    assert sorted(started, key=lambda key: key.seed) == [KEY, TrialKey("weak", 1)]
    assert len([call for call in store.of("end") if call[2] == "FINISHED"]) == 2  # run and parent
    (live,) = (run for run in store.runs.values() if run.name == "weak/seed-01")
    assert ("log", live.run_id, [("loss", 0.5, 1000, 0)]) in store.calls


def test_a_store_that_stays_away_is_waited_for_and_then_told(
    store: Store, start: Callable[..., Recorder]
):
    store.away = StoreAway("away", facts=["no route to it"])
    writing = start()
    writing.record(success())
    with pytest.raises(StoreTrouble, match="does not answer: no route to it") as caught:
        writing.close()
    assert "1 finished run is safe in " in caught.value.facts[0]
    assert "the same command once more" in str(caught.value.fix)


def test_who_waits_for_the_last_writing_can_be_told_for_what(
    store: Store, start: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(writer, "PATIENCE_S", 60.0)
    store.away = StoreAway("away", facts=["no route to it"])
    writing, seen = start(), list[str | None]()

    def look() -> None:
        seen.append(writing.away)
        if writing.away:  # it comes back once that was seen
            store.away = None

    writing.while_closing = look
    writing.record(success())
    writing.close()
    assert "no route to it" in seen and writing.away is None
    assert list(waiting(place(store))) == []


def test_ctrl_c_does_not_wait_for_a_store_that_is_away(
    store: Store, start: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(writer, "PATIENCE_S", 3600.0)
    store.away = StoreAway("away", facts=["no route"])
    with pytest.raises(KeyboardInterrupt), start() as writing:
        writing.record(success())
        raise KeyboardInterrupt
    assert [entry.key for entry in waiting(place(store))] == [KEY]


def test_trouble_that_waiting_does_not_mend_is_raised_at_the_next_check(
    store: Store, start: Callable[..., Recorder]
):
    store.away = StoreTrouble("attempt to write a readonly database")
    with pytest.raises(StoreTrouble, match="readonly"), start() as writing:
        writing.record(success())
        until(lambda: writing._error)
        writing.check()
    assert [entry.key for entry in waiting(place(store))] == [KEY]


def test_a_full_disk_is_named_with_the_run_that_it_did_not_take(
    store: Store, start: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
):
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(artifacts, "write", full)
    with pytest.raises(DiskFull, match="while saving seed 00, weak") as caught, start() as writing:
        writing.record(success())
    assert "this one is trained again" in caught.value.facts[0]


def test_a_disk_that_breaks_is_no_bug(
    store: Store, start: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(artifacts, "write", broken)
    with pytest.raises(StoreTrouble, match="could not be saved in .*: Input/output error"):
        with start() as writing:
            writing.record(success())
