"""What all tests share: repeatable property tests, and no caches outside their own folder."""

import os

import pytest
from hypothesis import settings

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
