"""Address: which store is meant, and that its password is never shown."""

from pathlib import Path

import pytest

from bench.store.address import StoreTrouble, address, may_hold_runs, redacted, state_folder


@pytest.mark.parametrize("uri", ["/tmp", "mlruns", "sqlite:/x", "", "not a store"])
def test_what_is_no_address_is_refused_with_the_two_forms(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri or "nonsense")
    with pytest.raises(StoreTrouble, match="is not a store") as caught:
        address(uri)
    assert "sqlite:///FILE or the address of an MLflow server" in caught.value.facts[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:pw@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:p@w@host/db", "postgresql://me:***@host/db"),
        ("http://:pw@host", "http://:***@host"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("sqlite:///a.db", "sqlite:///a.db"),
        ("postgresql://me:p/a@w@host/db", "postgresql://me:***@host/db"),
        ("https://ghp_1234@github.com/me/x", "https://***@github.com/me/x"),
        ("ssh://git@github.com/me/x", "ssh://git@github.com/me/x"),
        ("postgresql://host/db?user=me&password=pw", "postgresql://host/db?user=me&password=***"),
        ("http://host/?access_token=pw&page=2", "http://host/?access_token=***&page=2"),
        ("--store=http://a:b@c and http://d:e@f", "--store=http://a:***@c and http://d:***@f"),
    ],
)
def test_a_password_in_an_address_is_redacted(uri: str, shown: str):
    assert redacted(uri) == shown


@pytest.mark.parametrize("name", ["HF_TOKEN", "MLFLOW_TRACKING_PASSWORD", "WANDB_API_KEY"])
def test_what_the_environment_keeps_secret_is_shown_nowhere(
    name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(name, "hf_0123456789")
    assert redacted("401 for hf_0123456789 at http://host") == "401 for *** at http://host"


def test_an_ordinary_variable_is_no_secret(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "tokenizers")
    monkeypatch.setenv("SHORT_TOKEN", "seed")
    assert redacted("tokenizers of seed 3") == "tokenizers of seed 3"


def test_the_store_is_the_typed_one_else_the_environments_else_below_this_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert address() == f"sqlite:///{tmp_path / 'mlruns' / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert address() == "http://127.0.0.1:5000"
    assert address("sqlite:///a.db") == f"sqlite:///{tmp_path / 'a.db'}"


def test_a_store_may_hold_runs_once_its_file_is_there_and_a_server_always(tmp_path: Path):
    uri = f"sqlite:///{tmp_path / 'a.db'}"
    assert not may_hold_runs(uri) and may_hold_runs("http://127.0.0.1:5000")
    (tmp_path / "a.db").touch()
    assert may_hold_runs(uri)


def test_a_servers_locks_are_the_same_from_every_folder_and_hold_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folders = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        folders.add(state_folder("http://me:s3cret@host:5000"))
    (folder,) = folders
    assert folder.is_absolute() and "s3cret" not in str(folder)
    assert folder != state_folder("http://me:s3cret@host:5001")
