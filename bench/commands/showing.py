"""Showing: a report is written, and what was found goes to the terminal or to `--json`."""

import json
import shlex
import sys
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.terminal import show, tell

if TYPE_CHECKING:
    from bench.analysis.study.findings import Findings
    from bench.store.base import Benchmark, Store


def publish(
    store: "Store",
    benchmark: "Benchmark",
    *,
    as_json: bool,
    silent: bool = False,
    open_it: bool = False,
    out: Path | None = None,
    formats: Sequence[str] | None = None,
    anonymous: bool = False,
) -> "Findings":
    """Write a report, and print what was found; without the page, where the files are."""
    from bench.reports.build import report

    done = report(store, benchmark, out=out, formats=formats, anonymous=anonymous)
    if as_json and not silent:
        facts = {**done.findings.as_dict(), "files": [str(path) for path in done.paths]}
        print(json.dumps(facts, allow_nan=False, indent=1))
    elif not silent:
        if done.html is not None:
            from bench.analysis.report.terminal import summary

            page, browse = shown(done.html), browses(store.uri)
            show(summary(done.findings, report=page, browse=browse, unicode=unicode_out()))
        named = () if done.html is None else ("report.html", "results.json")
        for path in done.paths:
            if path.name not in named:
                show(shown(path))
    if open_it and done.html is not None:
        _open(done.html)
    return done.findings


def opened(store: "Store", say: Callable[[str], None]) -> "Store":
    """Return a store, saying so if it lies elsewhere than when it was written last."""
    if store.moved_from is not None:
        say(f"The store was moved here from {store.moved_from}; its addresses were corrected.")
    return store


def browses(uri: str) -> str:
    """Return the command that opens the MLflow UI on a store, as typed in this folder."""
    from bench.store.address import address, database_of, redacted

    if uri == address():
        return "bench ui"
    database = database_of(uri)
    named = f"sqlite:///{shown(database)}" if database else redacted(uri)
    return f"bench ui --store {shlex.quote(named)}"


def shown(path: Path) -> str:
    """Return a path relative to the current folder where it lies below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def unicode_out() -> bool:
    """Say whether stdout shows more than ASCII."""
    return (sys.stdout.encoding or "").lower().replace("-", "") in ("utf8", "utf8sig")


def _open(path: Path) -> None:
    if not webbrowser.open(path.absolute().as_uri()):
        tell(f"no browser could be opened; the report is {shown(path)}")
