"""Lacking: the refusal of an adapter whose framework is not installed."""

import importlib
from types import ModuleType

from bench.analysis.errors import Refusal


class NotInstalled(Refusal):
    """A framework that an adapter needs."""

    code = "install"
    exit_status = 4


def needed(module: str, extra: str) -> ModuleType:
    """Import a framework.

    Raises
    ------
    NotInstalled : it is not there
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise NotInstalled(
            f"{error.name} is not installed.", fix=f"pip install 'bench-paired[{extra}]'"
        ) from None
