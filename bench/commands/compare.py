"""`bench compare`: the same analysis for scores from elsewhere."""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from bench import __version__
from bench.commands import options as panels
from bench.commands.common import Usage, fail_if, fail_words, shown, unicode_out
from bench.commands.options import FailOn, Output, StoreUri, expanded
from bench.commands.parser import Argument
from bench.terminal import show

UNITS = ("auto", "fraction", "percent", "plain")
SOURCE = (
    "CSV, JSON, Parquet, Excel; a folder or glob, 'runs/*/r.csv'; mlflow:EXPERIMENT, "
    "wandb:FILE or wandb:ENTITY/PROJECT, tensorboard:DIR, lm-eval:DIR, inspect:DIR, benchopt:FILE."
)


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
    at: str | None = panels.columns(
        None, "STEP", "Of a run's steps: last, or max:COL or min:COL, where COL is highest."
    )
    name: str | None = panels.columns(
        None, "PATTERN", "Columns from a path or a run's name: {arm}-s{seed}/results.csv."
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
        Argument(metavar="FILE", help=SOURCE),
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
      bench compare 'runs/*/log.csv' --name '{arm}-s{seed}/log.csv' --at last
                    --arm arm --metric acc --seed seed --baseline base
      bench compare tensorboard:runs --name '{arm}-s{seed}' --at max:val/acc
                    --arm arm --metric test/acc --seed seed --baseline base
    """
    from bench.design.option_values import require_margin
    from bench.importers.tables import Layout
    from bench.reports.compare import compared
    from bench.reports.formats import REPORT, contents, require_writable, write_files

    words = fail_words(fail_on)
    if judged.unit not in UNITS:
        what = f'--unit "{judged.unit}" is not {", ".join(UNITS)}.'
        raise Usage(what, options=[("unit", "auto")])
    require_margin(judged.margin, judged.claim)
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
    asked = {"store": store, "at": columns.at, "name": columns.name}
    findings = compared(file, layout, command=sys.argv[1:], say=output.say, **asked, **how)
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
