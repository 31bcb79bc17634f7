"""Every store that there is; each passes `contract.py`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.store.base import Store
from bench.store.memory import MemoryStore
from bench.store.mlflow_store import Store as MlflowStore

KINDS = ["memory", "mlflow"]


@pytest.fixture(scope="module")
def store_of(
    tmp_path_factory: pytest.TempPathFactory, copy_store: Callable[[Path], str]
) -> Callable[[str], Store]:
    """Return what makes an empty store of a kind."""

    def make(kind: str) -> Any:
        folder = tmp_path_factory.mktemp(kind)
        return MemoryStore(folder) if kind == "memory" else MlflowStore(copy_store(folder))

    return make


@pytest.fixture(scope="module", params=KINDS)
def any_store(request: pytest.FixtureRequest, store_of: Callable[[str], Store]) -> Store:
    """Return each kind of store, one for a whole file: every test has an experiment of its own."""
    return store_of(request.param)
