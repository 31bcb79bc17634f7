"""What several commands do with what was typed, and how they print."""

import difflib
import json
import shlex
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench import __version__
from bench.analysis.errors import Refusal
from bench.commands.parser import Exit
from bench.terminal import show, tell, unicode_out

if TYPE_CHECKING:
    from bench.analysis.study.findings import Findings
    from bench.store.base import Store
    from bench.store.runs import Benchmark

WORDS = ("better", "worse", "equivalent", "inconclusive", "none")


class Usage(Refusal):
    """A command line that cannot be understood."""

    code = "option"
    exit_status = 2


class DataTrouble(Refusal):
    """A data set that is not where it should be."""

    code = "dataset"
    exit_status = 4


def data_folder(data: Path | None) -> Path | None:
    """Return the folder of --data, which has to be there."""
    if data is None:
        return None
    folder = data.expanduser().absolute()
    if not folder.exists():
        raise DataTrouble(
            f"there is no folder {data}.",
            facts=["--data names the folder that holds the data set."],
            options=[("data", "FOLDER")],
        )
    return folder


def experiment_name(name: str | None) -> str | None:
    """Return the recorded name: of a file or module, the name that it gives itself."""
    if name is None or "." not in name:
        return name
    from bench.design.loading import UnknownExperiment
    from bench.execution.server import Server

    try:
        with Server(name) as server:
            return server.found.experiment.name
    except UnknownExperiment:
        if name.endswith(".py"):
            raise
        return name  # which has a dot, and is no module


def fail_words(text: str | None) -> frozenset[str]:
    """Return the verdict words of --fail-on."""
    words = [word.strip() for word in (text or "").split(",") if word.strip()]
    for word in words:
        if word not in WORDS:
            close = difflib.get_close_matches(word, WORDS, n=1) or ["inconclusive"]
            raise Usage(
                f'--fail-on "{word}" is no verdict word.',
                facts=[f"Words: {', '.join(WORDS)}."],
                options=[("fail_on", close[0])],
            )
    return frozenset(words)


def fail_if(findings: "Findings", words: frozenset[str]) -> None:
    """End with status 10 where a verdict is one of the words."""
    if any(c.verdict.word in words for c in findings.comparisons):
        raise Exit(10)


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
    source: bool = False,
) -> "Findings":
    """Write a report, and print what was found; without the page, where the files are."""
    from bench.reports.build import report

    done = report(store, benchmark, out=out, formats=formats, anonymous=anonymous, source=source)
    if as_json and not silent:
        from bench.analysis.report.document import document

        facts = document(done.findings, version=__version__)
        facts["files"] = [str(path) for path in done.paths]
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


def _open(path: Path) -> None:
    if not webbrowser.open(path.absolute().as_uri()):
        tell(f"no browser could be opened; the report is {shown(path)}")
