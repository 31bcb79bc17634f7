import hashlib
import http.server
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from bench.cache import cache_dir
from bench.experiments.data import download_cache
from bench.experiments.data.download_cache import (
    DownloadFailed,
    NotKept,
    decoded,
    download,
    reachable,
)

CONTENT = b"some bytes of a data set"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serve one file on this machine; gives its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=tmp_path / "served")

        def log_message(self, *args):
            pass

    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "data.bin").write_bytes(CONTENT)
    monkeypatch.delenv("BENCH_OFFLINE")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}/data.bin"
        httpd.shutdown()
        thread.join()


def test_a_download_arrives_under_its_name_when_its_checksum_holds(server, tmp_path):
    download(server, tmp_path / "new" / "data.bin", sha256=SHA256[:8])
    assert (tmp_path / "new" / "data.bin").read_bytes() == CONTENT
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["data.bin"]


def test_a_download_with_another_checksum_leaves_nothing_behind(server, tmp_path):
    with pytest.raises(DownloadFailed, match=f"the file has sha256 {SHA256}, not beef"):
        download(server, tmp_path / "new" / "data.bin", sha256="beef")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_refused_connection_is_no_network(tmp_path, monkeypatch):
    monkeypatch.delenv("BENCH_OFFLINE")
    with pytest.raises(DownloadFailed, match="no network"):
        download("http://127.0.0.1:9/data.bin", tmp_path / "data.bin", sha256=SHA256)


def test_offline_asks_nobody(server, tmp_path, monkeypatch):
    assert reachable(server)
    monkeypatch.setenv("BENCH_OFFLINE", "1")
    assert not reachable(server)
    with pytest.raises(DownloadFailed, match="switched off"):
        download(server, tmp_path / "data.bin", sha256=SHA256)


def test_a_server_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.delenv("BENCH_OFFLINE")
    monkeypatch.setattr(download_cache, "PROBE_S", 0.2)

    answer = threading.Event()

    def silent(*args, **kwargs):
        answer.wait(60)
        raise OSError("no answer")

    monkeypatch.setattr(download_cache.urllib.request, "urlopen", silent)
    assert not reachable("http://127.0.0.1:9/")  # without waiting for the answer
    answer.set()


def test_the_cache_folder_follows_the_environment(monkeypatch):
    monkeypatch.setenv("BENCH_CACHE", "/one")
    monkeypatch.setenv("XDG_CACHE_HOME", "/two")
    assert cache_dir() == Path("/one")
    monkeypatch.delenv("BENCH_CACHE")
    assert cache_dir() == Path("/two/bench")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "bench"


class Source:
    """Counts how often it is decoded."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        time.sleep(0.05)
        return {"train": np.arange(12, dtype=np.uint8).reshape(3, 4)}, ("cat", "dog")


def test_several_workers_decode_once():
    source = Source()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: decoded("key", source), range(8)))
    assert source.calls == 1
    assert {f.digest for f in found} == {found[0].digest}
    assert found[-1].arrays["train"].tolist() == np.arange(12).reshape(3, 4).tolist()
    assert found[-1].classes == ("cat", "dog")


def test_the_lock_is_free_afterwards_even_when_decoding_failed():
    def fail():
        raise ValueError("not an image")

    with pytest.raises(ValueError, match="not an image") as failed:  # keeps the frames alive
        decoded("key", fail)
    with FileLock(cache_dir() / "decoded" / "key.lock", timeout=0):
        assert failed.value.args == ("not an image",)


def test_another_key_is_another_source():
    source = Source()
    decoded("one", source), decoded("two", source)
    assert source.calls == 2


@pytest.mark.parametrize("damage", ["one byte", "cut", "removed"])
def test_a_damaged_copy_is_noticed_and_made_again(damage):
    source = Source()
    first = decoded("key", source)
    file = cache_dir() / "decoded" / "key" / "train.npy"
    content = file.read_bytes()
    file.unlink()
    if damage == "one byte":
        file.write_bytes(content[:-1] + b"!")
    if damage == "cut":
        file.write_bytes(content[:-5])
    again = decoded("key", source)
    assert source.calls == 2
    assert again.digest == first.digest
    assert again.arrays["train"][-1, -1] == 11


def test_pickled_arrays_in_the_cache_are_not_read(touches):
    harmful, happened = touches
    source = Source()
    decoded("key", source)
    file = cache_dir() / "decoded" / "key" / "train.npy"
    np.save(file, np.array([harmful], dtype=object), allow_pickle=True)
    assert decoded("key", source).arrays["train"].dtype == np.uint8
    assert not happened()


def test_what_a_killed_process_left_half_written_is_not_used():
    source = Source()
    part = cache_dir() / "decoded" / "key.part"
    part.mkdir(parents=True)
    (part / "train.npy").write_bytes(b"half")
    assert decoded("key", source).arrays["train"].shape == (3, 4)
    assert not part.exists()


def test_says_why_nothing_can_be_kept(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(NotKept, match="file"):
        decoded("key", Source())
