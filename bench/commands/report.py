"""`bench report`: rebuild the report of a recorded benchmark."""

from pathlib import Path
from typing import Annotated

from bench.commands import options as panels
from bench.commands.common import Usage, experiment_name, fail_if, fail_words, opened, publish
from bench.commands.options import FailOn, Name, Output, StoreUri, expanded


@expanded
def report(
    *,
    name: Name = None,
    out: Annotated[
        Path | None,
        panels.output(metavar="DIR", help="Where (default: mlruns/reports/NAME)."),
    ] = None,
    formats: Annotated[
        str,
        panels.output(
            "--format",
            metavar="LIST",
            help="html, json, csv, md, tex, svg, png, or several of them.",
        ),
    ] = "html,json",
    anonymous: Annotated[
        bool,
        panels.output(
            "--anonymous",
            help="Hide users, hosts, paths and addresses, for double-blind review.",
        ),
    ] = False,
    open_it: Annotated[bool, panels.output("--open", help="Open it in the browser.")] = False,
    fail_on: FailOn = None,
    store: StoreUri = None,
    output: Output,
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
    place = opened(Store(store), output.say)
    known = experiment_name(name)
    benchmark = place.benchmark() if known is None else comparison(place, known)
    findings = publish(
        place,
        benchmark,
        out=out,
        formats=wanted,
        anonymous=anonymous,
        as_json=output.as_json,
        open_it=open_it,
    )
    fail_if(findings, words)
