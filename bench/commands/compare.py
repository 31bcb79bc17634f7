"""`bench compare`: the same analysis for scores from elsewhere."""

import json
import sys
from pathlib import Path
from typing import Annotated

from bench import __version__
from bench.commands import options as panels
from bench.commands.common import Usage, fail_if, fail_words, shown, unicode_out
from bench.commands.options import FailOn, Output, StoreUri, expanded
from bench.commands.parser import Argument
from bench.terminal import show

UNITS = ("auto", "fraction", "percent", "plain")


@expanded
def compare(
    *,
    file: Annotated[
        str,
        Argument(metavar="FILE", help="CSV, Parquet or JSON lines, or mlflow:EXPERIMENT."),
    ],
    baseline: Annotated[
        str | None,
        panels.columns(metavar="COL", help="Baseline's column; long form: its name."),
    ] = None,
    treatment: Annotated[
        list[str] | None,
        panels.columns(
            metavar="COL",
            help="Treatment's column (long form: its name); repeatable.",
        ),
    ] = None,
    pair: Annotated[
        str | None,
        panels.columns(metavar="COL", help="What belongs together (default: seed)."),
    ] = None,
    arm: Annotated[
        str | None,
        panels.columns(metavar="COL", help="Long form: names the arm."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        panels.columns(
            metavar="COL",
            help="Long form: values; repeatable, the first decides.",
        ),
    ] = None,
    unit: Annotated[
        str,
        panels.design(metavar="UNIT", help="auto, fraction, percent or plain."),
    ] = "auto",
    lower_is_better: Annotated[
        bool,
        panels.design("--lower-is-better", help="A loss or an error."),
    ] = False,
    margin: Annotated[
        float | None,
        panels.design(
            metavar="X",
            help="Smallest difference worth having; pp for fractions and percentages.",
        ),
    ] = None,
    claim: Annotated[float | None, panels.design(metavar="X", help="Gain to check.")] = None,
    allow_missing: Annotated[
        bool,
        panels.design(
            "--allow-missing",
            help="Leave incomplete pairs out; reported as a caution.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        panels.output(metavar="DIR", help="Write report.html there."),
    ] = None,
    fail_on: FailOn = None,
    store: StoreUri = None,
    output: Output,
) -> None:
    """Analyse results from elsewhere in the same way; trains nothing.

    \b
      bench compare r.csv --baseline base --treatment new --pair seed
      bench compare r.csv --arm model --metric acc --pair seed --baseline base
      bench compare mlflow:my-exp --arm params.model --metric metrics.acc
                    --pair params.seed --baseline base
    """
    from bench.design.option_values import require_margin
    from bench.importers.tables import Layout
    from bench.reports.compare import compared
    from bench.reports.files import REPORT, contents, require_writable, write_files

    words = fail_words(fail_on)
    if unit not in UNITS:
        raise Usage(f'--unit "{unit}" is not {", ".join(UNITS)}.', options=[("unit", "auto")])
    require_margin(margin, claim)
    if out is not None:
        require_writable(out)
    layout = Layout(
        baseline=baseline or "",
        treatments=tuple(treatment or ()),
        pair=pair,
        arm=arm,
        metrics=tuple(metric or ()),
    )
    findings = compared(
        file,
        layout,
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
    if output.as_json:
        from bench.analysis.report.document import document

        print(json.dumps(document(findings, version=__version__), allow_nan=False, indent=1))
    else:
        from bench.analysis.report.terminal import summary

        page = None if out is None else shown(out / "report.html")
        show(summary(findings, report=page, unicode=unicode_out()))
    fail_if(findings, words)
