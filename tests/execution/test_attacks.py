"""Attacks: whatever a training does, or dies of, costs that training alone and leaves nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.design.results import Success
from bench.execution import processes as processes_module
from bench.execution.devices import cpu_slots
from bench.execution.processes import Processes
from bench.execution.server import Server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="guards, and looks at /proc")

Run = Callable[..., Any]
Living = Callable[[str], list[int]]
Until = Callable[..., bool]

HOLDS_THE_GIL = "ctypes.PyDLL(None).sleep(600)"
DAEMON = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    os._exit(0)
os.wait()
"""
BELOW = f"""
subprocess.Popen(["sleep", "600"], start_new_session=True)
multiprocessing.Process(target=time.sleep, args=(600,)).start()
if os.fork() == 0:
    {HOLDS_THE_GIL}
{DAEMON}
(HERE / f"began-{{trial.arm}}").touch()
{HOLDS_THE_GIL}
"""

SUPERVISOR = """
import json, sys
from bench.execution.base import Job
from bench.execution.devices import cpu_slots
from bench.execution.processes import Processes
from bench.execution.server import Server
from bench.design.plan import TrialKey

with Server(sys.argv[1]) as server:
    found = server.found
    said = found.experiment
    arms = {arm: {**said.settings, **own} for arm, own in said.arms.items()}
    jobs = [Job(n, (TrialKey(arm, 0),), arms, found.reference, found.source_digest, None, None)
            for n, arm in enumerate(arms)]
    with Processes(server, cpu_slots(2)) as running:
        for results in running.run(jobs):
            print(json.dumps([str(result) for result in results]), flush=True)
"""


@pytest.fixture
def supervisor(tmp_path: Path, tag: str) -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    """Return what starts a process that supervises two trainings."""
    started: list[subprocess.Popen[str]] = []

    def start(path: str) -> "subprocess.Popen[str]":
        script = tmp_path / "supervise.py"
        script.write_text(SUPERVISOR)
        words = [sys.executable, str(script), path]
        started.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def began(folder: Path) -> list[Path]:
    return sorted(folder.glob("began-*"))


# -- who supervises dies ---------------------------------------------------------------------


def test_nothing_is_left_when_the_supervisor_is_killed(
    tmp_path: Path, tag: str, scored: Run, supervisor: Run, living: Living, until: Until
):
    process = supervisor(scored(BELOW))
    assert until(lambda: len(began(tmp_path)) == 2)
    assert len(living(tag)) >= 2 + 2 + 2 * 5  # supervisor, server, guards, and what trains
    process.kill()
    assert until(lambda: living(tag) == [], seconds=10), living(tag)


def test_nothing_is_left_when_the_supervisor_is_killed_and_trainings_are_fresh_interpreters(
    tmp_path: Path, tag: str, scored: Run, supervisor: Run, living: Living, until: Until
):
    process = supervisor(scored(BELOW, top='sys.modules["__main__"]._probe = lambda *a: "unfit"'))
    assert until(lambda: len(began(tmp_path)) == 2)
    process.kill()
    assert until(lambda: living(tag) == [], seconds=10), living(tag)


def test_nothing_is_left_when_the_supervisor_is_killed_while_the_experiment_is_imported(
    tmp_path: Path, tag: str, scored: Run, supervisor: Run, living: Living, until: Until
):
    top = f'(HERE / "began-import").touch(); {HOLDS_THE_GIL}'
    process = supervisor(scored("return score()", top=top))
    assert until(lambda: began(tmp_path))
    process.kill()
    assert until(lambda: living(tag) == [], seconds=10), living(tag)


def test_an_import_that_hangs_is_ended_with_its_server(
    tmp_path: Path, tag: str, scored: Run, living: Living, until: Until
):
    top = f'(HERE / "began-import").touch(); {HOLDS_THE_GIL}'
    with Server(scored("return score()", top=top)) as server:
        assert until(lambda: began(tmp_path))
        started = time.monotonic()
    assert time.monotonic() - started < 5 and living(tag) == [] and not server.scratch.exists()


# -- servers and guards die ------------------------------------------------------------------

WAITS = """
(HERE / f"began-{trial.arm}-{trial.seed}-{os.getpid()}").touch()
subprocess.Popen(["sleep", "600"], start_new_session=True)
while not (HERE / "go").exists():
    time.sleep(0.01)
return score(trial.seed, guard=os.getppid(), pid=os.getpid())
"""


@pytest.fixture
def in_threads() -> Iterator[Callable[..., Any]]:
    """Return what calls something in a thread."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor() as threads:
        yield threads.submit


def test_trainings_go_on_when_the_fork_server_is_killed(
    tmp_path: Path, tag: str, scored: Run, train: Run, in_threads: Run, living: Living, until: Until
):
    with Server(scored(WAITS)) as server:
        training = in_threads(train, server, 2, slots=2)
        assert until(lambda: len(began(tmp_path)) == 2)
        server._process.kill()
        server._process.wait()
        (tmp_path / "go").touch()
        trained = training.result(timeout=30)  # also those that begin after its death
        assert len(trained.scores) == 4 and trained.retries == []
    assert until(lambda: living(tag) == []), living(tag)


def test_a_guard_that_is_killed_costs_its_training_one_attempt(
    tmp_path: Path, tag: str, scored: Run, train: Run, in_threads: Run, living: Living, until: Until
):
    def sleepers() -> int:
        return len([pid for pid in living(tag) if b"sleep" in cmdline(pid)])

    with Server(scored(WAITS)) as server:
        training = in_threads(train, server, slots=2)
        assert until(lambda: len(began(tmp_path)) == 2 and sleepers() == 2)
        (on,) = tmp_path.glob("began-on-*")
        pid = int(on.name.rsplit("-", 1)[1])
        os.kill(parent_of(pid), signal.SIGKILL)
        assert until(lambda: len(began(tmp_path)) == 3)
        assert until(lambda: sleepers() == 2)  # that of the dead one is gone, in mid-run
        (tmp_path / "go").touch()
        trained = training.result(timeout=30)
        assert trained.success("off").attempt == 1 and trained.success("on").attempt == 2
        assert [(f.key.arm, f.code) for f in trained.retries] == [("on", "crash")]
        assert until(lambda: living(tag) == [server._process.pid])


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


# -- trainings die ---------------------------------------------------------------------------

DIES = {
    "segfault": ("ctypes.string_at(0)", "its process was ended by SIGSEGV.", "SIGSEGV"),
    "kill": ("os.kill(os.getpid(), 9)", "its process was ended by SIGKILL.", "SIGKILL"),
    "abort": ("os.abort()", "its process was ended by SIGABRT.", "SIGABRT"),
    "exit": ("os._exit(3)", "its process ended with status 3 before it returned anything.", ""),
}


def test_a_process_that_dies_costs_its_own_training_alone(run: Run):
    innocent = 'x = trial.rng("x").normal(size=999)\ntime.sleep(0.2)\nreturn score(x.sum())'
    lines = [f"    if trial.seed == {n}: {code}" for n, (code, *_) in enumerate(DIES.values())]
    guilty = "\n".join(['if trial.arm == "on":', '    print("last words")', *lines])
    undisturbed = run(innocent, 5).scores
    trained = run(f"{guilty}\n{innocent}", 5)
    assert trained.scores == {k: v for k, v in undisturbed.items() if k[0] == "off" or k[1] == 4}
    for seed, (_, what, error) in enumerate(DIES.values()):
        failure = trained.failure("on", seed)
        assert (failure.code, failure.what, failure.error) == ("crash", what, error)
        assert failure.attempt == 2 and "last words" in failure.log
    assert "Fatal Python error: Segmentation fault" in trained.failure("on", 0).log
    assert 'File "code", line' in trained.failure("on", 0).log
    assert trained.failure("on", 0).facts[0].endswith("Fatal Python error: Segmentation fault")
    assert trained.failure("on", 1).facts[-1].startswith("Killed from outside: out of memory")
    assert trained.failure("on", 3).facts == ("It printed last: last words",)
    assert sorted((f.key.arm, f.key.seed) for f in trained.retries) == [
        ("on", seed) for seed in range(4)
    ]


def test_a_signal_to_a_trainings_whole_group_ends_neither_guard_nor_supervisor(run: Run):
    trained = run('if trial.arm == "on":\n    os.killpg(0, 9)\nreturn score()', 2, slots=1)
    assert trained.failure().error == "SIGKILL" and trained.score("off", 1) == 1.0


# -- what a training leaves running ----------------------------------------------------------

MINE = f"31416.{os.getpid()}"  # seconds to sleep: by these it is found
LEAVES = {
    "a process in its own session": "subprocess.Popen(['sleep', 'N'], start_new_session=1)",
    "a daemon that ignores TERM": DAEMON.replace(
        "time.sleep(600)", 'os.execvp("sleep", ["sleep", "N"])'
    ),
    "a stopped one": "os.kill(subprocess.Popen(['sleep', 'N']).pid, signal.SIGSTOP)",
}


@pytest.mark.parametrize("code", LEAVES.values(), ids=LEAVES)
def test_leftovers_are_ended_before_the_answer(
    code: str, server: Server, jobs_of: Run, living: Living
):
    last = code.strip().replace("'N'", repr(MINE)).replace('"N"', repr(MINE)) + "\nreturn score()"
    with Processes(server, cpu_slots(1)) as running:
        for results in running.run(jobs_of(server, code=last)):
            assert [type(result).__name__ for result in results] == ["Success"]
            assert [pid for pid in living(MINE) if b"sleep" in cmdline(pid)] == []


USES = {
    "os.fork": """
pid = os.fork()
if pid == 0:
    os._exit(7)
done = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
""",
    "a fork that never ends": """
if os.fork() == 0:
    time.sleep(600)
done = 7
""",
    "subprocess": "done = subprocess.run(['sh', '-c', 'exit 7']).returncode",
    "os.system": "done = os.waitstatus_to_exitcode(os.system('exit 7'))",
    "multiprocessing.Process": """
process = multiprocessing.Process(target=os._exit, args=(7,))
process.start()
process.join()
done = process.exitcode
""",
    "multiprocessing.Pool": """
with multiprocessing.Pool(2) as pool:
    done = sum(pool.map(abs, [-3, -4]))
""",
    "a closure in a process": """
answers = multiprocessing.Queue()
process = multiprocessing.Process(target=lambda: answers.put(7))
process.start()
done = answers.get(timeout=20)
process.join()
""",
    "concurrent.futures": """
from concurrent.futures import ProcessPoolExecutor
with ProcessPoolExecutor(2) as pool:
    done = sum(pool.map(abs, [-3, -4]))
""",
    "joblib": """
from joblib import Parallel, delayed
done = sum(Parallel(n_jobs=2)(delayed(abs)(x) for x in (-3, -4)))
""",
    "threads": """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(2) as pool:
    done = sum(pool.map(abs, [-3, -4]))
""",
}


@pytest.mark.parametrize("code", USES.values(), ids=USES)
def test_a_training_may_start_processes(code: str, run: Run):
    trained = run(
        f"{code}\nassert multiprocessing.get_start_method() == 'fork'\nreturn score(done)"
    )
    assert trained.scores == {("off", 0): 7.0, ("on", 0): 7.0} and trained.retries == []


@pytest.mark.parametrize("persistent", [False, True])
def test_a_training_may_load_its_data_in_processes(
    persistent: bool, train: Run, torch_server: Server
):
    code = f"""
from torch.utils.data import DataLoader, TensorDataset
x = torch.arange(20.0)
loader = DataLoader(TensorDataset(x), batch_size=5, num_workers=2, persistent_workers={persistent})
total = sum(float(batch.sum()) for epoch in range(2) for (batch,) in loader)
return score(total)
"""
    assert train(torch_server, code=code).scores == {("off", 0): 380.0, ("on", 0): 380.0}


# -- time ------------------------------------------------------------------------------------


def test_a_training_stuck_in_c_code_is_ended_and_says_where_it_stood(run: Run):
    code = f'print("began")\nif trial.arm == "on":\n    {HOLDS_THE_GIL}\nreturn score()'
    trained = run(code, timeout_s=0.5)
    failure = trained.failure()
    assert (failure.code, failure.retryable, failure.attempt) == ("timeout", False, 1)
    assert failure.what == "the training took longer than --timeout 0.00833333 min."
    assert 'File "code", line 4 in body' in failure.log and "began" in failure.log
    assert trained.score("off") == 1.0 and trained.retries == [] and failure.duration_s < 5


def test_a_training_that_ignores_being_asked_to_end_is_killed(
    run: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(processes_module, "STOP_GRACE_S", 0.3)
    code = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while trial.arm == "on":
    try:
        time.sleep(600)
    except BaseException:
        pass
return score()
"""
    trained = run(code, timeout_s=0.5)
    assert trained.failure().code == "timeout" and trained.score("off") == 1.0
    assert trained.failure().attempt == 1 and trained.retries == []


def test_a_training_that_says_a_lot_has_no_more_time_than_others(run: Run):
    code = """
for epoch in itertools.count():
    trial.log(epoch, {"train/loss": 1.0})
    if trial.arm == "off":
        return score()
"""
    trained = run(code, timeout_s=0.5)
    failure = trained.failure()
    assert failure.code == "timeout" and failure.duration_s < 5
    assert trained.epochs("on")[:3] == [(1, 0), (1, 1), (1, 2)] and len(failure.epochs) > 3


def test_waiting_for_a_place_takes_none_of_a_trainings_time(run: Run):
    trained = run("time.sleep(0.4)\nreturn score()", 3, slots=1, timeout_s=1.5)  # 2.4 s in all
    assert len(trained.scores) == 6


# -- what one training leaves behind in its process --------------------------------------------


def test_nothing_that_a_training_changes_reaches_another(run: Run):
    found = """
found = [os.getcwd(), os.environ.get("LEFT"), sys.path[-1], np.get_printoptions()["precision"],
    globals().get("LEFT"), textwrap.dedent(" a"), sys.getrecursionlimit(), len(signal.Signals),
    signal.getsignal(signal.SIGINT) is signal.default_int_handler, os.umask(0o22)]
"""
    changes = """
os.chdir("/")
os.environ["LEFT"] = "behind"
sys.path.append("/left")
np.set_printoptions(precision=2)
globals()["LEFT"] = "behind"
textwrap.dedent = lambda value: "patched"
sys.setrecursionlimit(5000)
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.umask(0o77)
"""
    last = "return score(found=repr(found))"
    clean = run(f"{found}\n{last}").facts()["found"]
    trained = run(f"{found}\n{changes}\n{last}", 3, slots=1)
    assert len(trained.scores) == 6
    assert {trained.facts(arm, seed)["found"] for arm, seed in trained.scores} == {clean}
    assert repr(os.getcwd()) in clean and "behind" not in clean


def test_torchs_defaults_that_a_training_changes_do_not_reach_another(
    train: Run, torch_server: Server
):
    code = """
exact = torch.are_deterministic_algorithms_enabled()
found = str([torch.ones(1).dtype, torch.is_grad_enabled(), exact])
torch.set_default_dtype(torch.float64)
torch.set_grad_enabled(False)
torch.use_deterministic_algorithms(True)
return score(found=found)
"""
    trained = train(torch_server, 2, code=code, slots=1)
    found = {trained.facts(arm, seed)["found"] for arm, seed in trained.scores}
    assert found == {"[torch.float32, True, False]"}


def test_settings_that_one_arm_writes_into_the_module_do_not_change_the_other(
    train: Run, scored: Run
):
    body = """
CFG.update(trial.settings)
y = np.random.default_rng(1).integers(3, size=300)
logits = trial.rng("init").normal(size=(300, 3)) + (1.0 + CFG["gain"]) * np.eye(3)[y]
return score((logits.argmax(1) == y).mean())
"""
    path = scored(body, top='CFG = {"gain": 0.0}')
    text = Path(path).read_text().replace('"on": {"x": 1}', '"on": {"gain": 0.5}')
    Path(path).write_text(text)
    scores = train(path, 12, slots=1).scores
    gains = [scores["on", seed] - scores["off", seed] for seed in range(12)]
    assert round(100 * float(np.mean(gains)), 1) == 13.6


# -- stdout, stderr, stdin ---------------------------------------------------------------------

SPEAKS = """
os.write(1, b"by descriptor\\n")
subprocess.run(["echo", "by a child"])
os.write(2, b"as an error\\n")
"""


@pytest.mark.parametrize(
    "change",
    [
        "sys.stdout = open(os.devnull, 'w')",
        "sys.stdout.close()",
        "sys.stdout = sys.stderr = None",
        "os.close(1); os.close(2)",
    ],
)
@pytest.mark.parametrize("where", ["import", "train"])
def test_what_is_said_lands_in_the_log_whatever_becomes_of_stdout(
    change: str, where: str, train: Run, scored: Run
):
    if where == "train" and "os.close" in change:
        change = "os.dup2(os.open(os.devnull, os.O_WRONLY), 0)"  # the log itself it may close
    at_import, in_train = (change, "") if where == "import" else ("", change)
    trained = train(scored(f"{in_train}\n{SPEAKS}\nreturn score()", top=at_import))
    for result in trained.results.values():
        assert trained.success(result.key.arm).log.splitlines() == [
            "by descriptor",
            "by a child",
            "as an error",
        ]


def test_who_reads_stdin_finds_its_end(run: Run):
    trained = run("return score(said=sys.stdin.read(), raw=os.read(0, 9).decode())")
    assert trained.facts()["said"] == trained.facts()["raw"] == ""


# -- folders, import path, environment ---------------------------------------------------------


def test_each_run_has_an_empty_folder_of_its_own_whose_files_come_back(run: Run, tmp_path: Path):
    code = """
before = os.listdir(trial.folder)
(trial.folder / "sub").mkdir()
(trial.folder / "sub" / "model.bin").write_bytes(f"{trial.arm} {trial.seed}".encode())
if trial.arm == "on" and trial.seed == 1:
    raise ValueError("after it was written")
return score(before=before, folder=str(trial.folder))
"""
    trained = run(code, 2, folders=str(tmp_path / "folders"))
    folders = {result.folder for result in trained.results.values()}
    assert len(folders) == 4
    for key, result in trained.results.items():
        assert result.folder is not None
        assert result.folder.is_relative_to(tmp_path / "folders")
        assert (result.folder / "sub" / "model.bin").read_text() == f"{key.arm} {key.seed}"
    for arm, seed in trained.scores:
        assert trained.facts(arm, seed)["before"] == []
        assert trained.facts(arm, seed)["folder"] == str(trained[arm, seed].folder)


def test_a_process_that_dies_leaves_its_files_too(run: Run, tmp_path: Path):
    code = '(trial.folder / "a.txt").write_text("here")\nos._exit(3)'
    failure = run(code, folders=str(tmp_path / "folders"), retries=0).failure()
    assert failure.folder is not None and (failure.folder / "a.txt").read_text() == "here"


@pytest.mark.parametrize("fork", [True, False])
def test_the_import_path_has_the_experiments_folder_and_never_the_current_one(
    fork: bool, tmp_path: Path, scored: Run, train: Run, monkeypatch: pytest.MonkeyPatch
):
    (here := tmp_path / "here").mkdir()
    for name in ("mlflow", "queue", "torch", "joblib", "json", "mine_there"):
        (here / f"{name}.py").write_text("raise RuntimeError('from the current folder')")
    (tmp_path / "mine_beside.py").write_text("VALUE = 7")
    body = """
import mine_beside
from importlib.util import find_spec
import joblib, json, queue
return score(mine_beside.VALUE, path=sys.path, cwd=os.getcwd(), there=find_spec("mine_there"))
"""
    path = scored(body, top="import mine_beside")
    monkeypatch.chdir(here)
    trained = train(path, fork=fork)
    facts = trained.facts()
    assert trained.score() == 7.0 and str(tmp_path) in facts["path"]
    assert facts["cwd"] == str(here) and facts["there"] is None
    assert not {"", ".", str(here)} & set(facts["path"])


@pytest.mark.parametrize("fork", [True, False])
def test_a_training_has_the_environment_it_was_promised(
    fork: bool, scored: Run, train: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mine.example:5000")
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    body = """
return score(env=dict(os.environ), oom=Path("/proc/self/oom_score_adj").read_text().strip(),
    start=multiprocessing.get_start_method(), hash=hash("a text"), session=os.getsid(0),
    pid=os.getpid(), argv=sys.argv)
"""
    trained = train(scored(body), fork=fork)
    facts = trained.facts()
    env = facts["env"]
    assert env["MLFLOW_TRACKING_URI"] == "http://mine.example:5000"
    assert env["PYTHONHASHSEED"] == "0" and facts["hash"] == trained.facts("off")["hash"]
    for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR"):
        assert env[f"{name}_NUM_THREADS"] == "1"
    assert env["LOKY_MAX_CPU_COUNT"] == "1" and facts["start"] == "fork"
    assert facts["session"] == facts["pid"] and len(facts["argv"]) == 1
    if fork:
        assert facts["oom"] == "500"


def test_without_a_store_named_by_the_user_a_training_has_none(run: Run):
    trained = run('return score(uri=os.environ.get("MLFLOW_TRACKING_URI"))')
    assert trained.facts()["uri"] is None


# -- forked or not: the same -------------------------------------------------------------------

NUMBERS = """
x = trial.rng("x").normal(size=(64, 64))
product = np.linalg.inv(x @ x.T + np.eye(64)) + np.random.random((64, 64)) + random.random()
values = [hash(("a", 1)), *product.ravel()[:9]]
if "torch" in sys.modules:
    net = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    inputs = torch.from_numpy(x).float()
    for _ in range(5):
        loss = torch.nn.functional.cross_entropy(net(inputs), torch.arange(64) % 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    product = net(inputs).detach().numpy().astype(float)
return score(product.sum(), bytes=product.tobytes().hex(), values=values)
"""
UNFIT = 'sys.modules["__main__"]._probe = lambda *a: "said by the test"'


def test_forked_trainings_and_fresh_interpreters_give_the_same_bits(scored: Run, train: Run):
    path, unfit = scored(NUMBERS), scored(NUMBERS, top=UNFIT)
    forked, below, fresh = train(path), train(unfit), train(path, fork=False)
    for arm in ("off", "on"):
        assert forked.facts(arm) == below.facts(arm) == fresh.facts(arm)
        assert len(forked.facts(arm)["bytes"]) == 2 * 8 * 64 * 64


def test_a_small_network_has_the_same_bits_forked_or_fresh(
    train: Run, torch_server: Server, jobs_of: Run
):
    forked = train(torch_server, code=NUMBERS).facts()
    with Server(torch_server.name, fork=False) as server, Processes(server, cpu_slots(1)) as one:
        ((fresh,),) = one.run(jobs_of(server, code=NUMBERS)[1:])
    assert forked == fresh.outcome.facts and len(forked["bytes"]) == 2 * 8 * 64 * 2


def test_a_fork_that_could_not_compute_is_found_out_and_said(scored: Run, train: Run):
    top = """
LOCK = threading.Lock()
threading.Thread(target=lambda: (LOCK.acquire(), time.sleep(600)), daemon=True).start()
time.sleep(0.1)
real, np.ones = np.ones, lambda *a, **k: (LOCK.acquire(), real(*a, **k))[1]
"""
    body = "np.ones = real\nreturn score(pid=os.getpid(), parent=os.getppid())"
    with Server(scored(body, top=top)) as server:
        assert server.found
        server._ready = server._send("fork", threads=1, grace_s=0.5)
        assert not server.forks
        assert server.why_fresh == "a fork of it hangs in its first product"
        trained = train(server, 2)
        assert len(trained.scores) == 4
        (notice,) = trained.notices
        assert notice.startswith("each training imports the experiment anew, in about ")
        assert notice.endswith(" s: a fork of it hangs in its first product.")


def test_a_probe_that_crashes_falls_back_to_fresh_interpreters_below_the_guard(
    scored: Run, train: Run, tag: str, living: Living, until: Until
):
    top = 'sys.modules["__main__"]._compute = lambda threads: os.abort()'
    body = 'subprocess.Popen(["sleep", "600"], start_new_session=True)\nreturn score()'
    with Server(scored(body, top=top)) as server:
        trained = train(server)
        assert server.why_fresh == "a fork of it could not compute" and len(trained.scores) == 2
        assert until(lambda: living(tag) == [server._process.pid])


# -- one process for many packs ----------------------------------------------------------------


@pytest.mark.parametrize("fork", [True, False])
def test_a_process_that_may_be_reused_trains_pack_after_pack(fork: bool, scored: Run, train: Run):
    path = scored("return score(pid=os.getpid())")
    trained = train(path, 4, slots=1, reuse_process=True, fork=fork)
    assert len({trained.facts(arm, seed)["pid"] for arm, seed in trained.scores}) == 1
    if fork:
        trained = train(path, 4, slots=1)
        assert len({trained.facts(arm, seed)["pid"] for arm, seed in trained.scores}) == 8


def test_the_crash_of_a_reused_process_costs_its_pack_alone(run: Run):
    code = (
        'if (trial.arm, trial.seed) == ("on", 1):\n    os._exit(3)\nreturn score(pid=os.getpid())'
    )
    trained = run(code, 4, slots=1, reuse_process=True, retries=0)
    assert trained.failure("on", 1).code == "crash" and len(trained.scores) == 7
    pids = [trained.facts(arm, seed)["pid"] for arm, seed in trained.scores]
    assert len(set(pids)) == 2 and pids[:3] == pids[:1] * 3


@pytest.mark.parametrize("fork", [True, False])
def test_a_reused_process_that_dies_while_it_waits_costs_nothing(
    fork: bool, scored: Run, jobs_of: Run
):
    path = scored("threading.Timer(0.1, os._exit, [3]).start()\nreturn score(pid=os.getpid())")
    found = []
    with Server(path, fork=fork) as server, Processes(server, cpu_slots(1)) as running:
        for results in running.run(jobs_of(server, 2, reuse_process=True)):
            found += results
            time.sleep(0.5)
    assert [(type(r).__name__, r.attempt) for r in found] == [("Success", 1)] * 4
    assert len({r.outcome.facts["pid"] for r in found}) == 4


def test_a_reused_process_makes_way_for_one_of_its_own(server: Server, jobs_of: Run):
    code = "return score(pid=os.getpid())"
    with Processes(server, cpu_slots(1)) as running:
        found = [
            results[0].outcome.facts["pid"]
            for reuse in (True, False, True, False)
            for results in running.run(jobs_of(server, code=code, reuse_process=reuse))
        ]
    assert found[0] == found[1] and found[4] == found[5] and len(set(found)) == 6


# -- the same numbers, always ------------------------------------------------------------------


def test_results_do_not_depend_on_slots_order_or_an_interruption(server: Server, jobs_of: Run):
    jobs = jobs_of(server, 3, code='time.sleep(0.03)\nreturn score(trial.rng("x").normal())')

    def prints(some: Any) -> dict[Any, str]:
        return {result.key: result.fingerprint() for results in some for result in results}

    expected: dict[Any, str] = {}
    for slots, order in ((1, jobs), (2, jobs), (3, jobs[::-1])):
        with Processes(server, cpu_slots(slots)) as running:
            found = prints(running.run(order))
        expected = expected or found
        assert found == expected and len(found) == 6
    with Processes(server, cpu_slots(2)) as running:
        training = running.run(jobs)
        first = prints([next(training)])
        training.close()
        rest = prints(running.run([job for job in jobs if job.keys[0] not in first]))
    assert first | rest == expected


@pytest.mark.parametrize("kind", ["digits", "cifar10"])
def test_a_pack_of_a_built_in_gives_the_bits_of_its_trials_alone(
    kind: str, tmp_path: Path, jobs_of: Run
):
    small: dict[str, Any] = {"epochs": 2}
    data_dir = None
    if kind == "cifar10":
        small |= {"weights": "none", "image_size": 32, "train_per_class": 8, "batch_size": 8}
        small |= {"validation_per_class": 4}
        data_dir = str(write_images(tmp_path / "animals"))
    with Server(kind) as server, Processes(server, cpu_slots(2)) as running:
        pack, alone = jobs_of(server, 2, pack_seeds=2), jobs_of(server, 2)[2:]
        ready = [changed(job, small, data_dir) for job in (*pack, *alone)]
        results = [result for some in running.run(ready) for result in some]
    assert len(results) == 4 + 2
    for key in (job.keys[0] for job in alone):
        one, other = (result.outcome for result in results if result.key == key)
        for split in ("test", "test_last", "validation"):
            a, b = (getattr(each, split).log_probabilities for each in (one, other))
            assert a.tobytes() == b.tobytes()


def changed(job: Any, settings: dict[str, Any], data_dir: str | None) -> Any:
    from dataclasses import replace

    arms = {arm: {**own, **settings} for arm, own in job.settings.items()}
    return replace(job, settings=arms, data_dir=data_dir)


def write_images(root: Path) -> Path:
    from PIL import Image

    rng = np.random.default_rng(0)
    for split, count in {"train": 12, "test": 4}.items():
        for label, name in enumerate(("cat", "dog", "eel")):
            (folder := root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 160, (16, 16, 3)) + 40 * np.eye(3, dtype=int)[label]
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:04}.png")
    return root


def test_a_copy_that_a_training_forks_and_that_returns_too_changes_nothing(
    scored: Run, jobs_of: Run
):
    found = scored("os.fork()\nreturn Outcome(scores={'return': float(os.getpid() > 0)})")
    with Server(str(found)) as server, Processes(server, cpu_slots(2)) as running:
        results = [r for some in running.run(jobs_of(server, 4)) for r in some]
    assert len(results) == 8 and all(isinstance(r, Success) for r in results)


@pytest.mark.parametrize("fork", [True, False])
def test_torch_that_a_training_imports_itself_is_seeded_as_if_it_were_imported_at_the_top(
    fork: bool, scored: Run, jobs_of: Run
):
    body = "import torch\nreturn Outcome(scores={'return': float(torch.randn(1))})"

    def drawn(top: str) -> dict[Any, float]:
        server = Server(str(scored(body, top=top)), fork=fork)
        with server, Processes(server, cpu_slots(2)) as running:
            results = [r for some in running.run(jobs_of(server, 2)) for r in some]
        return {r.key: r.outcome.scores["return"] for r in results}

    lazily = drawn("")
    assert lazily == drawn("import torch")
    values = [{v for k, v in lazily.items() if k.seed == seed} for seed in (0, 1)]
    assert [len(each) for each in values] == [1, 1] and values[0] != values[1]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_what_prepare_has_started_ends_with_a_command_that_is_ended_meanwhile(
    number: int, tmp_path: Path, tag: str, scored: Run, living: Living, until: Until
):
    prepare = (
        "import subprocess, time\n"
        "def prepare(settings, folder):\n"
        "    subprocess.Popen(['sh', '-c', 'sleep 31415 & sleep 31416'], start_new_session=True)\n"
        "    (HERE / 'preparing').touch()\n"
        "    time.sleep(300)\n"
    )
    path = scored("return Outcome(scores={'return': 1.0})", top=prepare, extra="prepare=prepare")
    words = [sys.executable, "-c", "from bench.cli import main; main()", "run", path]
    env = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/store/mlflow.db"}
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(words, env=env, cwd=tmp_path, stdout=said, stderr=said)
    assert until(lambda: (tmp_path / "preparing").exists(), seconds=60)
    process.send_signal(number)
    process.wait()
    assert until(lambda: living(tag) == [], seconds=15), living(tag)


# -- the whole command -------------------------------------------------------------------------


def test_nothing_is_left_when_a_command_is_killed(
    tmp_path: Path, tag: str, scored: Run, living: Living, until: Until, copy_store: Run
):
    path = scored(BELOW)
    words = [sys.executable, "-c", "from bench.cli import main; main()", "run", path]
    words += ["--seeds", "6", "--workers", "2"]
    env = {**os.environ, "MLFLOW_TRACKING_URI": copy_store(tmp_path / "store")}
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(words, env=env, cwd=tmp_path, stdout=said, stderr=said)
    assert until(lambda: len(began(tmp_path)) == 2, seconds=60), (tmp_path / "said").read_text()
    process.kill()
    process.wait()
    assert until(lambda: living(tag) == [], seconds=10), living(tag)
