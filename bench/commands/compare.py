"""`bench compare`: the same analysis for scores from elsewhere."""

import json
import sys
from pathlib import Path
from typing import Annotated

from bench.commands.common import Usage, fail_if, fail_words
from bench.commands.options import (
    COLUMNS,
    DESIGN,
    OUTPUT,
    AsJson,
    FailOn,
    NoColor,
    Quiet,
    StoreUri,
    Verbose,
)
from bench.commands.parser import Argument, Option
from bench.commands.showing import shown, unicode_out
from bench.terminal import show

UNITS = ("auto", "fraction", "percent", "plain")


def compare(
    file: Annotated[
        str,
        Argument(metavar="FILE", help="CSV, Parquet or JSON lines, or mlflow:EXPERIMENT."),
    ],
    baseline: Annotated[
        str | None,
        Option(
            metavar="COL", rich_help_panel=COLUMNS, help="Baseline's column; long form: its name."
        ),
    ] = None,
    treatment: Annotated[
        list[str] | None,
        Option(
            metavar="COL",
            rich_help_panel=COLUMNS,
            help="Treatment's column (long form: its name); repeatable.",
        ),
    ] = None,
    pair: Annotated[
        str | None,
        Option(
            metavar="COL", rich_help_panel=COLUMNS, help="What belongs together (default: seed)."
        ),
    ] = None,
    arm: Annotated[
        str | None,
        Option(metavar="COL", rich_help_panel=COLUMNS, help="Long form: names the arm."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        Option(
            metavar="COL",
            rich_help_panel=COLUMNS,
            help="Long form: values; repeatable, the first decides.",
        ),
    ] = None,
    unit: Annotated[
        str,
        Option(metavar="UNIT", rich_help_panel=DESIGN, help="auto, fraction, percent or plain."),
    ] = "auto",
    lower_is_better: Annotated[
        bool,
        Option("--lower-is-better", rich_help_panel=DESIGN, help="A loss or an error."),
    ] = False,
    margin: Annotated[
        float | None,
        Option(
            metavar="X",
            rich_help_panel=DESIGN,
            help="Smallest difference worth having; pp for fractions and percentages.",
        ),
    ] = None,
    claim: Annotated[
        float | None, Option(metavar="X", rich_help_panel=DESIGN, help="Gain to check.")
    ] = None,
    allow_missing: Annotated[
        bool,
        Option(
            "--allow-missing",
            rich_help_panel=DESIGN,
            help="Leave incomplete pairs out; reported as a caution.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        Option(metavar="DIR", rich_help_panel=OUTPUT, help="Write report.html there."),
    ] = None,
    fail_on: FailOn = None,
    store: StoreUri = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """Analyse results from elsewhere in the same way; trains nothing.

    \b
      bench compare r.csv --baseline base --treatment new --pair seed
      bench compare r.csv --arm model --metric acc --pair seed --baseline base
      bench compare mlflow:my-exp --arm params.model --metric metrics.acc
                    --pair params.seed --baseline base
    """
    from bench.design.plan import require_margin
    from bench.reports.compare import compared
    from bench.reports.files import REPORT, contents, require_writable, write_files

    words = fail_words(fail_on)
    if unit not in UNITS:
        raise Usage(f'--unit "{unit}" is not {", ".join(UNITS)}.', options=[("unit", "auto")])
    require_margin(margin, claim)
    if out is not None:
        require_writable(out)
    findings = compared(
        file,
        baseline=baseline,
        treatments=tuple(treatment or ()),
        pair=pair,
        arm=arm,
        metrics=tuple(metric or ()),
        unit=unit,
        lower_is_better=lower_is_better,
        margin=margin,
        claim=claim,
        allow_missing=allow_missing,
        store=store,
        command=sys.argv[1:],
    )
    if out is not None:
        write_files(out, contents(findings, REPORT))
    if as_json:
        print(json.dumps(findings.as_dict(), allow_nan=False, indent=1))
    else:
        from bench.analysis.report.terminal import summary

        page = None if out is None else shown(out / "report.html")
        show(summary(findings, report=page, unicode=unicode_out()))
    fail_if(findings, words)
