"""UI: what `bench ui` links to really shows the report, the arms and the verdict."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlparse

import pytest

from bench import cli
from bench.store.mlflow_ui import MOST_TREATMENTS, links, served, views

BENCH = Path(sys.executable).with_name("bench")


def benchmark(*, metric: str = "accuracy", treatments: int = 1, verdict: str | None = "better"):
    arms = {f"arm {i}": {} for i in range(treatments + 1)}
    plan = SimpleNamespace(metric=metric, arms=arms)
    return SimpleNamespace(run_id="0123456789abcdef", experiment_id="7", plan=plan, verdict=verdict)


# -- links -----------------------------------------------------------------------------------


def test_every_link_is_on_the_server_and_names_a_view_that_is_kept():
    b = benchmark()
    found = links(b, "http://127.0.0.1:5000")
    assert list(found) == ["by arm", "verdicts", "report"]
    assert all(
        link.startswith("http://127.0.0.1:5000/#/experiments/7/runs") for link in found.values()
    )
    named = [re.search(r"viewStateShareKey=(.+)", link) for link in found.values()]
    assert [match[1] for match in named if match] == list(views(b))


def test_there_is_no_link_to_a_report_that_is_not_written():
    assert "report" not in links(benchmark(verdict=None), "http://127.0.0.1:5000")


def test_a_view_shows_the_scores_that_the_experiment_has():
    (arms, _), (own, _) = (
        [view["selectedColumns"] for view in views(benchmark(metric=metric)).values()]
        for metric in ("nll", "return")
    )
    assert arms == ("params.`seed`", "metrics.`test/nll`", "metrics.`test/ece`")
    assert own == ("params.`seed`", "metrics.`return`")


@pytest.mark.parametrize("treatments", [1, 3, 200])
def test_a_view_of_several_treatments_fits_into_a_tag(treatments: int):
    state = list(views(benchmark(treatments=treatments)).values())[1]
    shown = min(treatments, MOST_TREATMENTS)
    assert sum("diff_pp" in name for name in state["selectedColumns"]) == shown
    assert len(json.dumps(state)) < 5000


# -- the command -------------------------------------------------------------------------------


@pytest.fixture
def listed(
    tmp_path: Path, copy_store: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Return a store with one planned benchmark; `bench ui` serves it in name only."""
    from bench.design.plan import Plan
    from bench.store.mlflow_store import Store
    from bench.store.writer import recording

    store = Store(copy_store(tmp_path / "listed"))
    plan = Plan(
        experiment="planned", question="?", arms={"a": {"x": 0}, "b": {"x": 1}}, source_digest="s",
        data={}, batches=((0,),),
    )  # fmt: skip
    with recording(store, plan, provenance={}, source={}):
        pass

    @contextlib.contextmanager
    def served(uri: str, port: int, host: str) -> Iterator[str]:
        yield f"http://{host}:5999"

    def ctrl_c(self: Any, timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.store.mlflow_ui.served", served)
    monkeypatch.setattr(threading.Event, "wait", ctrl_c)
    return store


def test_a_store_that_is_a_server_shows_its_own_ui(
    listed: Any, bench: Any, monkeypatch: pytest.MonkeyPatch
):
    listed.uri = "https://me:s3cret@mlflow.example.org:8443/team/?x=1"
    monkeypatch.setattr("bench.store.mlflow_store.Store", lambda uri: listed)
    monkeypatch.setattr("bench.store.mlflow_ui.served", None)  # no server is started
    said = bench("ui")
    assert (said.status, said.err) == (0, "")
    assert "  by arm    https://mlflow.example.org:8443/team/#/experiments/1/runs?" in said.out
    assert "s3cret" not in said.out


def test_a_damaged_benchmark_is_named_and_the_ui_starts_all_the_same(listed: Any, bench: Any):
    listed.client.set_tag(listed.benchmark().run_id, "bench.plan_version", "7")
    said = bench("ui", "--port", 0, "--json", "--store", listed.uri)
    assert said.status == 0 and said.json["links"] == {"store": "http://127.0.0.1:5999"}
    assert "damaged: planned " in said.err
    assert "every benchmark is damaged" in bench("ui", "--port", 0, "--store", listed.uri).out


def test_who_lets_others_reach_the_store_is_told_what_they_can_do(listed: Any, bench: Any):
    words = ("ui", "--port", 0, "--store", listed.uri)
    warning = "warning: everybody who reaches 0.0.0.0 can read and change this store.\n"
    assert warning in bench(*words, "--host", "0.0.0.0", "-q").err
    assert "warning" not in bench(*words).err + bench(*words, "--host", "localhost").err


def test_an_address_of_another_machine_is_refused(listed: Any, bench: Any):
    said = bench("ui", "--port", 0, "--host", "192.0.2.1", "--store", listed.uri)
    assert said.status == 4 and "192.0.2.1 is no IPv4 address of this machine" in said.err
    assert "fix: bench ui " in said.err and " --host 127.0.0.1\n" in said.err


# -- the server --------------------------------------------------------------------------------


def mlflow_processes() -> list[Path]:
    """Return the servers that this process started, and what those started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            session = (folder / "stat").read_text().rpartition(")")[2].split()[3]
            leader = Path("/proc", session, "stat").read_text().rpartition(")")[2].split()
            if leader[1] == str(os.getpid()) and b"mlflow" in (folder / "cmdline").read_bytes():
                found.append(folder)
    return found


def listening(processes: list[Path]) -> set[str]:
    """Return the local addresses at which processes listen, as the kernel writes them."""
    held = set()
    for handle in (handle for folder in processes for handle in (folder / "fd").iterdir()):
        with contextlib.suppress(OSError):
            held.add(os.readlink(handle))
    rows = [
        row.split()
        for name in ("tcp", "tcp6")
        for row in Path("/proc/net", name).read_text().splitlines()[1:]
    ]
    return {row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in held}


def status_for(address: str, host: str) -> int:
    request = urllib.request.Request(f"{address}/", headers={"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_the_ui_listens_on_this_machine_alone_and_shows_its_address_to_nobody(
    tmp_path: Path, copy_store: Callable[[Path], str]
):
    uri = copy_store(tmp_path / "s3cret")
    with served(uri, 0) as address:
        processes = mlflow_processes()
        port = urlparse(address).port or 0
        assert processes and listening(processes) == {f"0100007F:{port:04X}"}
        assert all(b"s3cret" not in (folder / "cmdline").read_bytes() for folder in processes)
        assert status_for(address, f"127.0.0.1:{port}") == status_for(address, "localhost") == 200
        for evil in ("evil.test", "10.evil.test", f"192.168.evil.test:{port}"):
            assert status_for(address, evil) == 403
    assert mlflow_processes() == []


# -- a finished benchmark in the browser -----------------------------------------------------


@pytest.fixture(scope="module")
def store(
    tmp_path_factory: pytest.TempPathFactory,
    write_tiny: Callable[..., Path],
    copy_store: Callable[[Path], str],
) -> str:
    """Train six pairs as a user does; gives the store with their report."""
    home = tmp_path_factory.mktemp("finished")
    uri = copy_store(home)
    words = ["run", str(write_tiny(home)), "--seeds", "6", "--store", uri, "-q"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert cli._run(words) == 0
    return uri


@pytest.fixture(scope="module")
def found(store: str) -> Any:
    """Return what the report found, as it was written."""
    folder = Path(store.removeprefix("sqlite:///")).parent
    return json.loads((folder / "reports" / "tiny" / "results.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def shown(store: str, browser: Any) -> Iterator[dict[str, str]]:
    """Serve the store with `bench ui`; gives the links that it prints, by their names.

    Asks for the browser, so that without one nothing is served.
    """
    command = [str(BENCH), "ui", "--port", "0", "-q", "--store", store]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        try:
            lines = [process.stdout.readline() for _ in range(4)]  # type: ignore[union-attr]
            assert lines[0] == "tiny\n"
            yield dict(re.split(r"  +", line.strip(), maxsplit=1) for line in lines[1:])
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[[str], Any]]:
    """Return what opens an address; at the end nothing was asked of anybody but this machine."""
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))

    def go(address: str) -> Any:
        page = context.new_page()
        page.goto(address)
        return page

    yield go
    context.close()
    assert asked and {urlparse(url).hostname for url in asked} <= {"127.0.0.1", None}


@pytest.mark.browser
def test_the_report_shows_in_the_artifact_viewer(shown: dict[str, str], found: Any, visit: Any):
    page = visit(shown["report"])
    report = page.frame_locator("iframe")
    report.locator("h1").wait_for()
    assert report.locator("h1").inner_text() == found["comparisons"][0]["verdict"]["headline"]
    assert report.locator(".strip svg").bounding_box()["width"] > 300
    report.get_by_text("Dark", exact=True).click()  # it needs no script to change its theme
    assert report.locator("body").evaluate("b => getComputedStyle(b).backgroundColor") == (
        "rgb(20, 23, 27)"
    )
    summary = report.locator("#audit summary").first
    summary.click()
    assert summary.locator("xpath=..").get_attribute("open") is not None


@pytest.mark.browser
def test_a_link_opens_the_runs_grouped_by_arm(shown: dict[str, str], found: Any, visit: Any):
    page = visit(shown["by arm"])
    page.get_by_text("Group by: arm").wait_for()
    for arm in found["arms"]:
        group = page.get_by_role("row").filter(has_text=f"Group: {arm['name']}").last
        group.wait_for()
        index = group.get_attribute("row-index")
        cell = page.locator(f"[row-index='{index}'] [col-id='metrics.`test/accuracy`']")
        mean, how = cell.inner_text().split()
        assert float(mean) == pytest.approx(arm["mean"]) and how == "(average)"
    assert page.get_by_role("link", name=re.compile("seed-0[0-5]$")).count() == 12


@pytest.mark.browser
def test_a_link_opens_the_verdicts_sorted_by_the_difference(
    shown: dict[str, str], found: Any, visit: Any
):
    page = visit(shown["verdicts"])
    page.get_by_text("Sort: diff_pp").wait_for()
    said, primary = found["comparisons"][0]["verdict"]["word"], found["comparisons"][0]["primary"]
    page.get_by_role("gridcell", name=said, exact=True).wait_for()
    for name, value in {
        "diff_pp": 100 * primary["difference"],
        "ci_low": 100 * primary["low"],
        "ci_high": 100 * primary["high"],
        "p": primary["p_value"],
    }.items():
        cell = page.locator(f"[role=gridcell][col-id='metrics.`{name}`']")
        assert float(cell.inner_text()) == pytest.approx(value)


@pytest.mark.browser
def test_the_note_of_the_parent_run_says_what_was_found(
    shown: dict[str, str], found: Any, visit: Any
):
    page = visit(shown["report"].replace("/artifacts/report.html", ""))
    verdict = found["comparisons"][0]["verdict"]
    page.get_by_text(verdict["headline"]).wait_for()
    assert page.get_by_text(f"bench.verdict: {verdict['word']}").count() == 1
