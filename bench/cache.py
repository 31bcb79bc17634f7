"""The folder in which bench keeps what it need not fetch or compute twice."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return the folder for downloads and decoded images: BENCH_CACHE, or bench in the user's."""
    if chosen := os.environ.get("BENCH_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "bench"
