"""What all tests share: repeatable property tests, no caches of the user's, and a browser."""

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

settings.register_profile("bench", derandomize=True, deadline=None)
settings.load_profile("bench")


@pytest.fixture(autouse=True)
def _alone(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test away from the user's store, cache and network."""
    for name in ("MLFLOW_TRACKING_URI", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(
        "BENCH_CACHE", os.environ.get("BENCH_TEST_CACHE", str(_cache(tmp_path_factory)))
    )


def _cache(factory: pytest.TempPathFactory) -> str:
    base = factory.getbasetemp() / "cache"
    base.mkdir(exist_ok=True)
    return str(base)


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Return a headless Chromium: the one that CHROMIUM names, or the one on PATH.

    Once a module, not once a session: while it runs, its event loop is this process's.
    """
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium on PATH and none in CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=QUIET)
        yield chromium
        chromium.close()
