"""`bench report`: rebuild the report of a recorded benchmark."""

from dataclasses import dataclass
from pathlib import Path

from bench.commands import options as panels
from bench.commands.common import Usage, experiment_name, fail_if, fail_words, opened, publish
from bench.commands.options import FailOn, Name, Output, StoreUri, expanded
from bench.reports.formats import FORMATS, parse_formats
from bench.terminal import wait_for

FORMATS_HELP = f"{', '.join(FORMATS)}, or several of them."
ANONYMOUS_HELP = "Hide users, hosts, paths and addresses, for double-blind review."


@dataclass(frozen=True, kw_only=True)
class Written:
    """Which files are written, and where."""

    out: Path | None = panels.output(None, "DIR", "Where (default: mlruns/reports/NAME).")
    formats: str = panels.output("html,json", "LIST", FORMATS_HELP, "--format")
    anonymous: bool = panels.output(False, "", ANONYMOUS_HELP)
    source: bool = panels.output(False, "", panels.SOURCE_HELP)
    open_it: bool = panels.output(False, "", "Open it in the browser.", "--open")


@expanded
def report(
    *,
    name: Name = None,
    written: Written,
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
    from bench.store.mlflow_store import Store

    words, wanted = fail_words(fail_on), parse_formats(written.formats)
    if written.open_it and "html" not in wanted:
        raise Usage(
            f"--open opens report.html, which --format {written.formats} does not write.",
            options=[("format", ",".join(["html", *wanted]))],
        )
    if written.anonymous and written.source:
        raise Usage(
            "--anonymous with --source: what source files say of their authors cannot be hidden.",
            without=["source"],
        )
    wait_for("reading the store")
    place = opened(Store(store), output.say)
    known = experiment_name(name)
    benchmark = place.benchmark() if known is None else comparison(place, known)
    findings = publish(
        place,
        benchmark,
        out=written.out,
        formats=wanted,
        anonymous=written.anonymous,
        source=written.source,
        as_json=output.as_json,
        open_it=written.open_it,
    )
    fail_if(findings, words)
