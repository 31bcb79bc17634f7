"""UI: what `bench ui` links to really shows the report, the arms and the verdict."""

import contextlib
import io
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlparse

import pytest

from bench import cli
from bench.ui import MOST_TREATMENTS, links, views

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
