"""Command lines: whatever is typed, a result or `error[…]`, and settings are what was typed."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from typer.main import get_command

from bench import cli
from bench.analysis.errors import Refusal
from bench.commands.session import Session
from bench.execution.server import Server

COMMANDS = sorted(get_command(cli.app).commands)  # type: ignore[attr-defined]
OPTIONS = sorted(
    {
        name
        for command in get_command(cli.app).commands.values()  # type: ignore[attr-defined]
        for param in command.params
        for name in getattr(param, "opts", ())
        if name.startswith("-")
    }
    - {"--open", "-v", "--verbose"}  # a browser, and a traceback that was asked for
)
VALUES = ["", "0", "-1", "3", "1e9", "nan", "inf", "0-", "0-5", "²", "a=b", "a:b=c", "epochs=2",
          "weak:strength=2", "0:weak", "9:strong", "cpu", "auto", "0,1", "/", ".", "..", "x" * 300,
          "\udcff", "Größe", "seeds", "worse,none", "sqlite:///", "sqlite:////dev/null/x.db",
          "http://me:s3cret@127.0.0.1:9/", "file:///x", "--", "-", "no.csv", "html,json", "MINE",
          "mlflow:x", "²:weak", "nap=" + "9" * 400, "\x1b[2J", "a\x00b", "../../x"]  # fmt: skip
MANY = settings(
    max_examples=4 * settings.default.max_examples,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


class WouldTrain(Refusal):
    """In place of training."""

    code = "training"
    exit_status = 3


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory, write_tiny: Callable[..., Path]) -> Path:
    return write_tiny(tmp_path_factory.mktemp("mine"))


@pytest.fixture
def planned(
    mine: Path,
    tmp_path: Path,
    copy_store: Callable[[Path], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[list[Any]]:
    """Let commands do all but train, serve, or reach for the network; gives what was planned."""
    plans: list[Any] = []

    def would_train(session: Any, found: Any, plan: Any, *rest: Any, **how: Any) -> None:
        plans.append(plan)
        raise WouldTrain("this would train now.")

    def refuses(*words: Any, **how: Any) -> None:
        raise WouldTrain("this would train or serve now.")

    monkeypatch.setattr(Session, "train", would_train)
    servers: dict[str, _Kept] = {}

    def kept(name: str) -> _Kept:
        return servers.setdefault(name, _Kept(name))

    for place in ("bench.execution.server.Server", "bench.commands.session.Server"):
        monkeypatch.setattr(place, lambda name: servers.get(name) or kept(name))
    monkeypatch.setattr(
        "bench.commands.run._choose", lambda name, folder: (name or str(mine), None)
    )
    monkeypatch.setattr("bench.store.mlflow_ui.served", refuses)
    monkeypatch.setattr("bench.execution.processes.Processes.__init__", refuses)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", copy_store(tmp_path / "empty"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("BENCH_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    yield plans
    for server in servers.values():
        Server.close(server)


class _Kept(Server):
    """A server that the next command line asks too: starting one for each takes minutes."""

    def close(self) -> None:
        """Leave it as it is."""


words_ = st.lists(
    st.one_of(
        st.sampled_from(OPTIONS),
        st.sampled_from(VALUES),
        st.tuples(st.sampled_from(OPTIONS), st.sampled_from(VALUES)).map("=".join),
        st.text(st.characters(exclude_categories=()), max_size=12),
    ),
    max_size=7,
)


@MANY
@given(st.one_of(st.sampled_from([*COMMANDS, "run", "runn", ""]), st.text(max_size=6)), words_)
def test_no_command_line_ends_in_a_traceback_or_hangs(
    planned: list[Any], mine: Path, answer: Any, tried: Any, command: str, rest: list[str]
):
    words = [command, *(str(mine) if word == "MINE" else word for word in rest)]
    with tried("command lines"):
        said = answer(words)
    assert "s3cret" not in said.out + said.err


plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.lists(st.integers(0, 9), max_size=3),
)


@MANY
@given(
    st.sampled_from(["epochs", "nap", "epoch", "strength", "", "a/b", "\x00"]),
    st.one_of(plain.map(json.dumps), st.text(max_size=10), plain.map(str)),
    st.booleans(),
)
def test_a_setting_is_what_was_typed_or_refused(
    planned: list[Any], mine: Path, answer: Any, tried: Any, key: str, raw: str, arm: bool
):
    planned.clear()
    option = ["--arm", f"new:{key}={raw}"] if arm else ["--set", f"{key}={raw}"]
    with tried("settings"):
        said = answer(["run", str(mine), *option])
    if not planned:
        assert said.status == 2
        return
    (plan,) = planned
    typed = json.loads(raw.partition(",")[0] if arm else raw)
    used = plan.arms["new" if arm else "weak"][key]
    assert isinstance(typed, (int, float)) and not isinstance(typed, bool)
    assert used == (typed if key == "epochs" else float(typed)) and math.isfinite(used)


seeds_ = st.one_of(
    st.integers(-5, 10**12).map(str),
    st.text("0123456789,- ²", max_size=12),
    st.lists(st.integers(0, 2**33), max_size=5).map(lambda s: ",".join(map(str, s))),
)


@MANY
@given(seeds_)
def test_seeds_are_those_that_were_typed_or_refused(
    planned: list[Any], mine: Path, answer: Any, tried: Any, text: str
):
    planned.clear()
    with tried("lists of seeds"):
        said = answer(["run", str(mine), f"--seeds={text}"])
    if not planned:
        assert said.status == 2 and "error[seeds]" in said.err
        return
    seeds, parts = planned[0].seeds, text.split(",")
    assert len(set(seeds)) == len(seeds) and 0 <= min(seeds) and max(seeds) < 2**32
    if len(parts) > 1:
        assert {int(part) for part in parts if "-" not in part} <= set(seeds)
    elif "-" not in text:
        assert seeds == tuple(range(int(text)))
