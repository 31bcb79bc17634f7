"""Secrets: nothing that the environment or an address keeps secret is written or shown."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(sys.executable).with_name("bench")
SECRETS = {
    "HF_TOKEN": "hf_token0123456789",
    "MLFLOW_TRACKING_PASSWORD": "mlflow0123456789",
    "AWS_SECRET_ACCESS_KEY": "aws0123456789",
    "DATABASE_PASSWD": "database0123456789",
}
GIT = "ghp_remote0123456789"
TYPED = "typed0123456789"
LEAKY = """
url = "postgresql://me:{typed}@host/db"
print("connecting to", url, os.environ["HF_TOKEN"])
if trial.arm == "strong" and trial.seed == 1:
    raise ValueError("login to " + url + " with " + os.environ["AWS_SECRET_ACCESS_KEY"])
""".format(typed="raised0123456789")


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_no_secret_reaches_the_store_the_report_or_the_terminal(
    tmp_path: Path, write_tiny: Callable[..., Path], copy_store: Callable[[Path], str]
):
    path, uri = write_tiny(tmp_path, LEAKY), copy_store(tmp_path / "store")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=me", "-c", "user.email=me@x.invalid"]
    remote = f"https://{GIT}@github.invalid/me/x.git"
    for words in (["init", "-q"], ["remote", "add", "origin", remote], ["add", path.name],
                  ["commit", "-qm", "one"]):  # fmt: skip
        subprocess.run([*git, *words], check=True, capture_output=True)
    path.write_text(path.read_text() + f"\n# {TYPED} in a change that is not committed\n")
    said = b""
    for words in (["run", str(path), "--seeds", "2", "--workers", "2"],
                  ["run", str(path), "--seeds", "2", "--workers", "2", "-v"],
                  ["report", "tiny", "--json"], ["status", "tiny"]):  # fmt: skip
        done = subprocess.run(
            [str(BENCH), *words, "--store", uri],
            env={**os.environ, **SECRETS, "BENCH_CACHE": str(tmp_path / "cache")},
            cwd=tmp_path,
            capture_output=True,
        )
        assert done.returncode in (0, 3), done.stderr.decode()
        said += done.stdout + done.stderr
    assert b"login to postgresql://me:***@host/db with ***" in said
    kept = everything_in(tmp_path / "store")
    assert b"connecting to postgresql://me:***@host/db ***" in kept  # the training's own log
    source = path.read_text()  # the experiment's own is kept as it is
    kept = kept.replace(json.dumps(source).encode(), b"")
    for secret in [*SECRETS.values(), GIT, "raised0123456789", TYPED]:
        assert secret.encode() not in said + kept


@pytest.mark.parametrize("verbose", [[], ["-v"], ["--json"]])
@pytest.mark.parametrize(
    "uri",
    [
        f"postgresql://me:{TYPED}@127.0.0.1:9/db",
        f"http://me:{TYPED}@127.0.0.1:9",
        f"https://{TYPED}@127.0.0.1:9",
        f"http://127.0.0.1:9/?token={TYPED}",
        f"mysql+nonsense://me:{TYPED}@127.0.0.1:9/db",
        f"me:{TYPED}@host",
    ],
)
def test_a_password_in_the_stores_address_is_not_repeated(
    uri: str, verbose: list[str], tmp_path: Path, bench: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    said = bench("report", "--store", uri, *verbose)
    assert said.status == 4 and "error[store]" in said.err
    if uri != f"me:{TYPED}@host":  # which is no address, and nobody can tell what in it is secret
        assert TYPED not in said.out + said.err
    assert TYPED not in "".join(str(path) for path in tmp_path.rglob("*"))


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_ctrl_c_repeats_the_command_without_its_password(
    more: list[str], bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    def interrupted(*args: Any, **how: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.execution.devices.slots", interrupted)
    said = bench("run", "digits", "--store", f"postgresql://me:{TYPED}@host/db", *more)
    assert said.status == 130 and TYPED not in said.out + said.err
    assert "resume: bench run digits --store 'postgresql://me:***@host/db'" in said.err


def test_the_traceback_of_a_bug_holds_no_password(tmp_path: Path):
    code = (
        "import sys; from bench import cli\n"
        f"def broken(*a, **how): raise ZeroDivisionError('at postgresql://me:{TYPED}@host/db')\n"
        "from bench.execution import devices; devices.slots = broken\n"
        "sys.argv = ['bench', 'run', 'digits']; cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 1 and "ZeroDivisionError: at postgresql://me:***@host" in done.stderr
    assert TYPED not in done.stderr.replace(code, "")


def test_scores_that_are_compared_record_no_password(tmp_path: Path, answer: Any):
    path = tmp_path / "r.csv"
    path.write_text("seed,a,b\n" + "".join(f"{i},{i % 3},{i % 4}\n" for i in range(8)))
    words = ["compare", str(path), "--baseline", "a", "--treatment", "b", "--json"]
    said = answer([*words, "--store", f"postgresql://me:{TYPED}@host/db"])
    assert said.status == 0 and TYPED not in said.out
    assert "postgresql://me:***@host/db" in json.loads(said.out)["provenance"]["command"]
