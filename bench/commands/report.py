"""`bench report`: rebuild the report of a recorded benchmark."""

from pathlib import Path
from typing import Annotated

from bench.commands.common import Usage, experiment_name, fail_if, fail_words
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
from bench.commands.showing import opened, publish
from bench.terminal import tell


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
      bench report digits                   an experiment's latest that is no A/A
      bench report --format csv --out DIR   every value, for your own analysis
      bench report --format md,tex,png      tables and figures for a paper
      bench report --json                   results.json on stdout
    """
    from bench.reports.build import comparison
    from bench.reports.files import parse_formats
    from bench.store.mlflow_store import Store

    words, wanted = fail_words(fail_on), parse_formats(formats)
    if open_it and "html" not in wanted:
        raise Usage(
            f"--open opens report.html, which --format {formats} does not write.",
            options=[("format", ",".join(["html", *wanted]))],
        )
    place = opened(Store(store), tell)
    known = experiment_name(name)
    benchmark = place.benchmark() if known is None else comparison(place, known)
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
