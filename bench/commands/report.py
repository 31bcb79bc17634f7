"""`bench report`: rebuild the report of a recorded benchmark."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from bench.commands.common import (
    Usage,
    experiment_name,
    fail_if,
    fail_words,
    opened,
    shown,
    unicode_out,
)
from bench.commands.options import (
    OUTPUT,
    AsJson,
    FailOn,
    Name,
    NoColor,
    Quiet,
    StoreUri,
    Verbose,
)
from bench.commands.parser import Option

if TYPE_CHECKING:
    from analysis.findings import Findings
    from bench.records import Benchmark
    from bench.tracking import Store


def report(
    name: Name = None,
    out: Annotated[
        Path | None,
        Option(metavar="DIR", rich_help_panel=OUTPUT, help="Where (default: mlruns/reports/NAME)."),
    ] = None,
    formats: Annotated[
        str,
        Option(
            "--format",
            metavar="LIST",
            rich_help_panel=OUTPUT,
            help="html, json, csv, md, tex, svg, png, or several of them.",
        ),
    ] = "html,json",
    anonymous: Annotated[
        bool,
        Option(
            "--anonymous",
            rich_help_panel=OUTPUT,
            help="Hide users, hosts, paths and addresses, for double-blind review.",
        ),
    ] = False,
    open_it: Annotated[
        bool, Option("--open", rich_help_panel=OUTPUT, help="Open it in the browser.")
    ] = False,
    fail_on: FailOn = None,
    store: StoreUri = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """Rebuild the report of a recorded benchmark; trains nothing.

    \b
      bench report                          the latest benchmark
      bench report digits                   the latest one of an experiment
      bench report --format csv --out DIR   every value, for your own analysis
      bench report --format md,tex,png      tables and figures for a paper
      bench report --json                   results.json on stdout
    """
    from bench.files import parse_formats
    from bench.tracking import Store

    words, wanted = fail_words(fail_on), parse_formats(formats)
    if open_it and "html" not in wanted:
        raise Usage(
            f"--open opens report.html, which --format {formats} does not write.",
            fix=f"--format html,{','.join(wanted)} --open",
        )
    place = opened(Store(store), lambda text: print(text, file=sys.stderr))
    benchmark = place.benchmark(experiment_name(name))
    findings = publish(
        place,
        benchmark,
        out=out,
        formats=wanted,
        anonymous=anonymous,
        as_json=as_json,
        open_it=open_it,
    )
    fail_if(findings, words)


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
    from bench.reporting import report

    done = report(store, benchmark, out=out, formats=formats, anonymous=anonymous)
    if as_json and not silent:
        facts = {**done.findings.as_dict(), "files": [str(path) for path in done.paths]}
        print(json.dumps(facts, allow_nan=False, indent=1))
    elif not silent:
        if done.html is not None:
            from analysis.report.terminal import summary

            print(summary(done.findings, report=shown(done.html), unicode=unicode_out()))
        named = () if done.html is None else ("report.html", "results.json")
        for path in done.paths:
            if path.name not in named:
                print(shown(path))
    if open_it and done.html is not None:
        _open(done.html)
    return done.findings


def _open(path: Path) -> None:
    import webbrowser

    if not webbrowser.open(path.absolute().as_uri()):
        print(f"no browser could be opened; the report is {shown(path)}", file=sys.stderr)
