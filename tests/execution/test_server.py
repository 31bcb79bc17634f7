"""Server: an experiment in plain values, what goes wrong in its process, and how that ends."""

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.errors import Refusal
from bench.design.loading import discover
from bench.execution.devices import BadDevices, Device, Slot, cpu_slots
from bench.execution.lines import encode
from bench.execution.processes import Processes
from bench.execution.refusals import answered, refusal_of
from bench.execution.server import LOG_TAIL_BYTES, Server, ServerTrouble, environment, tail
from bench.execution.slot_lines import Fresh, Guarded
from bench.experiment import BadExperiment

Run = Callable[..., Any]
Until = Callable[..., bool]
WAYS = [pytest.param(True, id="forked"), pytest.param(False, id="fresh")]


# -- what is asked -----------------------------------------------------------------------------


@pytest.mark.parametrize("fork", WAYS)
def test_an_experiment_is_described_as_if_it_had_been_imported_here(fork: bool, scored: Run):
    path = scored(
        "return score()",
        top="import tiny_beside",
        extra='settings={"epochs": 3}, margin=0.5, device="cpu", reuse_process=True',
    )
    Path(path).with_name("tiny_beside.py").write_text("VALUE = 1\n")
    with Server(path, fork=fork) as server:
        found = server.found
        assert server.found is found and server.import_s > 0
    here = discover(path)
    assert found.experiment == here.experiment and found.reference == here.reference == path
    assert found.source == here.source and found.source_digest == here.source_digest
    assert len(found.source) == 2
    assert (found.experiment.settings, found.experiment.arms["on"]) == ({"epochs": 3}, {"x": 1})


def test_the_supervisor_imports_neither_the_experiment_nor_its_framework(scored: Run):
    path = scored("return score()", top="import colorsys")
    code = f"""
import sys
from bench.execution.server import Server
from bench.execution.lines import encode
from bench.execution.processes import Processes
with Server({path!r}) as server:
    assert server.found.experiment.name == "scored" and server.forks
print(sorted({{"torch", "colorsys", {Path(path).stem!r}}} & set(sys.modules)))
"""
    import subprocess

    words = [sys.executable, "-c", code]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("fork", WAYS)
def test_prepare_is_asked_for_every_arm_with_settings_as_the_experiment_has_them(
    fork: bool, scored: Run, tmp_path: Path
):
    path = scored(
        "return score()",
        top="""
def prepare(settings, folder):
    return {"sizes": repr(settings["sizes"]), "x": settings["x"], "folder": str(folder)}
""",
        extra='settings={"sizes": (3, 4)}, prepare=prepare',
    )
    with Server(path, fork=fork) as server:
        said = server.found.experiment
        arms = {arm: {**said.settings, **own} for arm, own in said.arms.items()}
        same = {"sizes": "(3, 4)", "folder": "None"}
        assert server.data(arms, None) == {**same, "x (off)": 0, "x (on)": 1}
        assert server.data(arms, tmp_path)["folder"] == str(tmp_path)


def test_an_experiment_without_prepare_has_nothing_to_say(server: Server):
    arms = {"off": {"x": 0}, "on": {"x": 1}}
    assert server.data(arms, None) == {} and server.missing(None) is None
    assert server.pack_seeds(arms, cpu_slots(2)) == 0


def test_pack_seeds_are_the_fewest_of_all_arms_and_places(scored: Run):
    path = scored(
        "return score()",
        top="""
def pack_seeds(settings, device):
    if device == "cpu":
        return 5 + settings["x"]
    return int(os.environ["CUDA_VISIBLE_DEVICES"].removeprefix("GPU-"))
""",
        extra="train_pack=lambda trials: [train(t) for t in trials], pack_seeds=pack_seeds",
    )
    cards = [Device("cuda", n, f"GPU-{size}", "Fake") for n, size in enumerate((9, 3))]
    gpus = [Slot(card.label, 0, 1, (card,)) for card in cards]
    with Server(path) as server:
        arms = {"off": {"x": 0}, "on": {"x": 1}}
        assert server.found.experiment.pack_seeds is None
        assert server.pack_seeds(arms, cpu_slots(2)) == 5
        assert server.pack_seeds(arms, gpus) == 3
        with pytest.raises(Refusal) as caught:
            server.pack_seeds(arms, [Slot("cuda:0", 0, 1, (Device("cuda", 0, "MIG-1", "F"),))])
    assert caught.value.what.startswith("pack_seeds of experiment 'scored' failed: ValueError")
    assert "CUDA_VISIBLE_DEVICES" in caught.value.facts[0] and caught.value.code == "experiment"


def test_gpus_that_torch_cannot_use_are_refused_before_anything_trains(
    torch_server: Server, monkeypatch: pytest.MonkeyPatch
):
    cards = [Device("cuda", n, f"GPU-none-{n}", "Fake") for n in range(2)]
    slots = [Slot(card.label, 0, 1, (card,)) for card in cards]
    torch_server.require_usable(cpu_slots(2))
    with pytest.raises(BadDevices, match="cuda:0 is there, but torch cannot use it") as caught:
        torch_server.require_usable(slots)
    assert caught.value.options == (("devices", "cpu"),) and caught.value.facts[0]


# -- what goes wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize("fork", WAYS)
def test_an_import_that_fails_is_a_refusal_with_its_line_and_traceback(fork: bool, scored: Run):
    path = scored("return score()", top='raise ValueError("no such data")')
    with Server(path, fork=fork) as server:
        for _ in range(2):  # whoever asks is told again
            with pytest.raises(
                Refusal, match="does not import: ValueError: no such data"
            ) as caught:
                _ = server.found
    assert caught.value.code == "experiment" and caught.value.exit_status == 2
    assert 'raise ValueError("no such data")' in caught.value.facts[0]
    assert 'raise ValueError("no such data")' in "".join(caught.value.__notes__)


def test_an_unknown_name_is_refused_with_the_nearest():
    with (
        Server("digts") as server,
        pytest.raises(Refusal, match='no experiment called "digts"') as e,
    ):
        _ = server.found
    assert e.value.replace[0][1] == "digits"


def test_a_prepare_that_fails_is_a_refusal_with_its_line(scored: Run):
    top = 'def prepare(settings, folder):\n    raise OSError("no such images")'
    with Server(scored("return score()", top=top, extra="prepare=prepare")) as server:
        with pytest.raises(Refusal) as caught:
            server.data({"on": {"x": 1}}, None)
        assert server.found  # and it goes on
    said = "prepare of experiment 'scored' failed: OSError: no such images"
    assert caught.value.what == said
    assert caught.value.facts[0].endswith('raise OSError("no such images")')


@pytest.mark.parametrize(
    ("top", "how"),
    [
        ("os._exit(7)", "status 7"),
        ("os.kill(os.getpid(), 9)", "SIGKILL"),
        ("os.abort()", "SIGABRT"),
    ],
)
@pytest.mark.parametrize("fork", WAYS)
def test_a_process_that_dies_while_it_imports_says_how_and_what_it_printed_last(
    fork: bool, top: str, how: str, scored: Run
):
    path = scored("return score()", top=f'print("loading the data", flush=True)\n{top}')
    with Server(path, fork=fork) as server:
        with pytest.raises(ServerTrouble, match=f" ended with {how}") as caught:
            _ = server.found
    assert "loading the data" in caught.value.facts and caught.value.fix == f"python {path}"


def test_what_an_import_prints_and_reads_is_kept_from_the_conversation(
    scored: Run, capfd: pytest.CaptureFixture[str]
):
    top = """
print("to stdout")
os.write(1, b"by descriptor\\n")
os.system("echo by a child")
print("to stderr", file=sys.stderr)
assert sys.stdin.read() == ""
"""
    with Server(scored("return score()", top=top)) as server:
        assert server.found.experiment.name == "scored"
        said = set(server.printed().splitlines())
    assert said == {"to stdout", "by descriptor", "by a child", "to stderr"}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("change", ["sys.stdout.close()", "sys.stdout = sys.stderr = None"])
def test_an_import_may_replace_or_close_stdout(change: str, scored: Run, train: Run):
    assert len(train(scored("return score()", top=change)).scores) == 2


def test_a_refusal_crosses_between_processes_whole():
    changes: dict[str, Any] = {
        "options": [("a", 1)],
        "settings": {"lr": 0.1},
        "replace": [("a", "b")],
    }
    changes |= {"without": ["quiet", ("set", "a=1")], "command": ["bench", "ui"]}
    error = BadExperiment("what", facts=["one", "two"], fix="mend it", **changes)
    sent = json.loads(json.dumps({"refusal": refusal_of(error)}))
    with pytest.raises(Refusal) as caught:
        answered(sent)
    found = caught.value
    assert {k: v for k, v in vars(found).items() if k != "__notes__"} == {
        **vars(error),
        "code": error.code,
        "exit_status": error.exit_status,
    }
    assert answered({"answer": 3}) == 3


def test_a_process_that_dies_later_refuses_new_slots_with_its_end(scored: Run):
    with Server(scored("return score()")) as server:
        assert server.found and server.forks
        server._process.kill()
        server._process.wait()
        with pytest.raises(ServerTrouble, match="ended with SIGKILL"):
            server.line()


# -- its end -----------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize("asked", ["nothing", "found", "forks"])
def test_closing_leaves_no_process_and_no_folder(
    asked: str, scored: Run, tag: str, living: Run, until: Until
):
    top = 'subprocess.Popen(["sleep", "600"])' if asked == "forks" else ""
    with Server(scored("return score()", top=top)) as server:
        assert asked == "nothing" or getattr(server, asked)
        began = time.monotonic()
    assert time.monotonic() - began < 4
    assert until(lambda: living(tag) == []) and not server.scratch.exists()
    server.close()  # idempotent


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_a_process_that_the_import_started_lives_as_long_as_the_server(
    scored: Run, train: Run, tag: str, living: Run, until: Until
):
    top = 'CHILD = subprocess.Popen(["sleep", "600"])'
    body = """
assert Path(f"/proc/{CHILD.pid}").exists()
if trial.arm == "on":
    os.kill(os.getppid(), 9)
    time.sleep(600)
return score()
"""
    path = scored(body, top=top)
    with Server(path) as server:
        trained = train(server, 2, slots=1)
        assert set(trained.scores) == {("off", 0), ("off", 1)}  # whoever kills guards loses
        assert {f.error for f in trained.retries} == {"SIGKILL"}
        assert until(lambda: len(living(tag)) == 2)  # the server, and the child of its import
    assert until(lambda: living(tag) == [])


def test_a_signal_to_the_group_of_the_supervisor_does_not_reach_it(server: Server):
    assert server.found and os.getsid(server._process.pid) == server._process.pid


# -- environment and logs ----------------------------------------------------------------------


def test_what_imports_the_experiment_computes_with_one_thread_and_starts_no_cuda(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    monkeypatch.setenv("MINE", "kept")
    found = environment()
    assert found["OMP_NUM_THREADS"] == found["MKL_NUM_THREADS"] == "1" and found["MINE"] == "kept"
    assert found["PYTORCH_NVML_BASED_CUDA_CHECK"] == "1" and found["PYTHONHASHSEED"] == "0"


def test_the_end_of_a_log_is_read_whatever_it_holds(tmp_path: Path):
    assert tail(tmp_path / "none") == ""
    (tmp_path / "log").write_bytes(b"\xff" + b"x" * (2 * LOG_TAIL_BYTES) + b"\xc3\xa9 end")
    assert len(tail(tmp_path / "log")) < LOG_TAIL_BYTES and tail(tmp_path / "log").endswith("é end")
    (tmp_path / "log").write_bytes(b"\xff short")
    assert tail(tmp_path / "log") == "\ufffd short"


# -- slots ---------------------------------------------------------------------------------------


def test_a_deadline_passes_whatever_has_been_said_meanwhile():
    mine, theirs = socket.socketpair()
    line = Guarded(mine, fork=True)
    with theirs:
        theirs.sendall(encode({"type": "epoch", "n": 0}) + encode({"type": "epoch", "n": 1}))
        assert line.receive(time.monotonic() + 20) == {"type": "epoch", "n": 0}
        assert line.receive(time.monotonic() - 1) is None
        assert line.receive(None) == {"type": "epoch", "n": 1}
    assert line.receive(None) == {"type": "lost"}
    line.close()
    assert line.receive(None) == {"type": "lost"}


def request(tmp_path: Path, server: Server, jobs_of: Run, code: str) -> dict[str, Any]:
    (folder := tmp_path / "answer").mkdir()
    (slot,) = cpu_slots(1)
    with Processes(server, [slot]) as running:
        return running._request(jobs_of(server, code=code)[0], slot, folder, folder)


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_fork_that_never_ends_does_not_hang_a_fresh_interpreters_slot(
    tmp_path: Path, server: Server, jobs_of: Run
):
    line = Fresh(environment())
    code = 'trial.log(0, {"a": 1})\nif os.fork() == 0:\n    time.sleep(600)\nreturn score()'
    assert line.start(request(tmp_path, server, jobs_of, code))
    said = [line.receive(time.monotonic() + 30) for _ in range(2)]
    assert [message["type"] for message in said if message] == ["epoch", "exit"]
    assert said[1] == {"type": "exit", "code": 0, "of": str(tmp_path / "answer")}
    line.close()
    assert not line.start({})  # told to end for good


def test_a_fresh_interpreter_is_asked_and_then_killed(tmp_path: Path, server: Server, jobs_of: Run):
    line = Fresh(environment())
    code = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntrial.log(0, {'a': 1})\ntime.sleep(600)"
    assert line.start(request(tmp_path, server, jobs_of, code))
    assert (line.receive(time.monotonic() + 30) or {})["type"] == "epoch"
    assert line.receive(time.monotonic() + 0.1) is None
    assert line.receive(time.monotonic() - 1) is None
    line.end(0.2, for_good=False)
    assert (line.receive(time.monotonic() + 30) or {})["code"] == -9
    line.close()
