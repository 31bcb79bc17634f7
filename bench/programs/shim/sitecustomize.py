"""Notes which of a checkout's modules a program has loaded; Python runs this file when it starts.

In a worktree an editable install would still import the user's checkout, and train the same code in
both arms. The sitecustomize that it hides is run in its place.
"""

import atexit
import importlib.machinery
import importlib.util
import json
import os
import sys


def _note() -> None:
    """Write the files of modules below one folder, those below another left out."""
    top, place = os.environ["BENCH_CHECKOUT"] + os.sep, os.environ["BENCH_WORKTREE"] + os.sep
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    paths = {os.path.realpath(file) for file in files if isinstance(file, str)}
    found = sorted(p for p in paths if p.startswith(top) and not p.startswith(place))
    if found:
        name = os.path.join(os.environ["BENCH_LOADED"], f"{os.getpid()}.json")
        with open(name, "w", encoding="utf-8") as handle:
            json.dump(found, handle)


if "BENCH_LOADED" in os.environ:
    atexit.register(_note)

_here = os.path.dirname(os.path.abspath(__file__))
_others = [entry for entry in sys.path if os.path.abspath(entry or ".") != _here]
_spec = importlib.machinery.PathFinder.find_spec("sitecustomize", _others)
if _spec is not None and _spec.loader is not None:
    _spec.loader.exec_module(importlib.util.module_from_spec(_spec))
