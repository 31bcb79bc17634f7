"""`bench compare`: the same analysis for scores from elsewhere."""

import json
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from bench import __version__
from bench.commands import options as panels
from bench.commands.common import fail_if, fail_words, shown
from bench.commands.options import FailOn, Output, StoreUri, expanded
from bench.commands.parser import Argument
from bench.redaction import redacted
from bench.terminal import show, unicode_out


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Where in the file what is compared stands."""

    baseline: str | None = panels.columns(None, "COL", "Baseline's column; long form: its name.")
    treatment: list[str] | None = panels.columns(
        None, "COL", "Treatment's column (long form: its name); repeatable."
    )
    seed: str | None = panels.columns(None, "COL", "Numbers the trainings (default: by its name).")
    pair: str | None = panels.columns(None, "COL", "The same; its name must say so. row: by place.")
    arm: str | None = panels.columns(None, "COL", "Long form: names the arm.")
    metric: list[str] | None = panels.columns(
        None, "COL", "Long form: values; repeatable, the first decides."
    )


@dataclass(frozen=True, kw_only=True)
class Judged:
    """How the scores are judged."""

    unit: str = panels.design("auto", "UNIT", "auto, fraction, percent or plain.")
    lower_is_better: bool = panels.design(False, "", "A loss or an error.")
    margin: float | None = panels.design(
        None, "X", "Smallest difference worth having; pp for fractions and percentages."
    )
    claim: float | None = panels.design(None, "X", "Gain to check.")
    allow_missing: bool = panels.design(
        False, "", "Count missing values as failed runs, also at their worst."
    )
    where: list[str] | None = panels.design(
        None, "COL=VALUE", "Only these rows; also COL!=VALUE. Repeatable."
    )


@dataclass(frozen=True, kw_only=True)
class Written:
    """Where a report is written."""

    out: Path | None = panels.output(None, "DIR", "Write report.html there.")


@expanded
def compare(
    *,
    file: Annotated[
        str,
        Argument(metavar="FILE", help="CSV, Parquet or JSON lines, or mlflow:EXPERIMENT."),
    ],
    columns: Columns,
    judged: Judged,
    written: Written,
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
    from bench.importers.tables import Layout
    from bench.reports.compare import compared
    from bench.reports.formats import REPORT, contents, require_writable, write_files

    words = fail_words(fail_on)
    out = written.out
    if out is not None:
        require_writable(out)
    layout = Layout(
        baseline=columns.baseline or "",
        treatments=tuple(columns.treatment or ()),
        pair=columns.pair,
        seed=columns.seed,
        arm=columns.arm,
        metrics=tuple(columns.metric or ()),
    )
    how = {**asdict(judged), "where": judged.where or ()}
    command = shlex.join(["bench", *map(redacted, sys.argv[1:])])
    findings = compared(file, layout, store=store, command=command, say=output.say, **how)
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
