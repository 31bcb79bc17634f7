"""`bench compare`: the same analysis for scores from elsewhere."""

import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from bench import __version__
from bench.commands import options as panels
from bench.commands.common import Usage, fail_if, fail_words, shown
from bench.commands.options import FailOn, Output, StoreUri, expanded
from bench.commands.parser import Argument
from bench.redaction import redacted
from bench.store.names import file_name
from bench.terminal import show, unicode_out

if TYPE_CHECKING:
    from bench.analysis.study.findings import Findings

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
    fold: str | None = panels.columns(None, "COL", "Numbers the folds of a cross-validation.")
    example: str | None = panels.columns(None, "COL", "Names the test example.")
    cluster: str | None = panels.columns(None, "COL", "Names what examples share: a passage.")
    dataset: str | None = panels.columns(None, "COL", "Names the data set.")
    repeat: str | None = panels.columns(
        None, "COL", "Repeats inside a unit, averaged; of folds: the repeat."
    )
    by: str | None = panels.columns(None, "COL", "Compare within each of its values.")
    pair: str | None = panels.columns(
        None, "COL", "Any of these, told by its name. row: by place; none: unpaired."
    )
    at: str | None = panels.columns(
        None, "STEP", "Of a run's steps: last, or max:COL or min:COL, where COL is highest."
    )
    name: str | None = panels.columns(
        None, "PATTERN", "Columns from a path or a run's name: {arm}-s{seed}/results.csv."
    )
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
    against: float | None = panels.design(
        None, "X", "A number in the baseline's place, taken as exact."
    )
    scope: str | None = panels.design(None, "SCOPE", "Which data sets: these, or new-datasets.")
    trained: str | None = panels.design(
        None, "HOW", "A seed's model: once for all data sets, or per-dataset."
    )
    test_share: float | None = panels.design(None, "X", "n_test / n_train of random splits.")
    goal: str = panels.design("better", "GOAL", "better, equivalent or not-worse.")
    allow_missing: bool = panels.design(
        False, "", "Count missing values as failed runs, also at their worst."
    )
    summary: list[str] | None = panels.design(
        None, "ARM=M±S(sd),n=N", "Instead of a file: a mean and its sd or se; one an arm."
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
    file: Annotated[str | None, Argument(metavar="FILE", help=SOURCE)] = None,
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
    from bench.importers.layout import Layout
    from bench.reports.compare import compared
    from bench.reports.formats import REPORT, contents, require_writable, write_files

    words = fail_words(fail_on)
    out = written.out
    if out is not None:
        require_writable(out)
    own = asdict(columns)
    asked = {option: own.pop(option) for option in ("by", "at", "name")}
    treatments, metrics = own.pop("treatment"), own.pop("metric")
    layout = Layout(
        **{**own, "baseline": columns.baseline or ""},
        treatments=tuple(treatments or ()),
        metrics=tuple(metrics or ()),
    )
    how = asdict(judged)
    how["where"] = judged.where or ()
    command = shlex.join(["bench", *map(redacted, sys.argv[1:])])
    asked |= {"store": store, "command": command, "say": output.say}
    if judged.summary or file is None:
        found = [
            _published(file, judged, asdict(columns), (metrics or ["score"])[0], command, output)
        ]
    else:
        how.pop("summary")
        found = compared(file, layout, **asked, **how)
    pages = {f.design.experiment: _folder(out, f, len(found)) for f in found}
    for findings in found:
        if folder := pages[findings.design.experiment]:
            write_files(folder, contents(findings, REPORT))
    if output.as_json:
        from bench.analysis.report.document import document

        documents = [document(f, version=__version__) for f in found]
        print(json.dumps(documents if columns.by else documents[0], allow_nan=False, indent=1))
    else:
        from bench.analysis.report.terminal import summary

        for f in found:
            folder = pages[f.design.experiment]
            page = None if folder is None else shown(folder / "report.html")
            show(summary(f, report=page, unicode=unicode_out()))
    for findings in found:
        fail_if(findings, words)


def _published(
    file: str | None,
    judged: Judged,
    columns: Mapping[str, object],
    metric: str,
    command: str,
    output: Output,
) -> "Findings":
    """Compare published summaries, which stand in the place of a file."""
    from bench.reports.compare import published

    if not judged.summary or file is not None:
        what = "with --summary no file is read" if file else "there is no file, and no --summary"
        raise Usage(f"{what}.", fix="name a file, or give a --summary of each arm")
    read = ("summary", "margin", "claim", "lower_is_better", "unit", "goal")
    usual = asdict(Judged())
    more = [k for k, value in asdict(judged).items() if k not in read and value != usual[k]]
    more += [k for k, value in columns.items() if value and k != "metric"]
    if more:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in more)
        raise Usage(f"of published summaries {options} says nothing.", without=more)
    return published(
        judged.summary,
        command=command,
        say=output.say,
        margin=judged.margin,
        claim=judged.claim,
        lower_is_better=judged.lower_is_better,
        metric=metric,
        unit=cast(Any, judged.unit),
        goal="not_worse" if judged.goal == "not-worse" else "better",
    )


def _folder(out: Path | None, findings: "Findings", conditions: int) -> Path | None:
    """Return where a report is written: with several conditions each in a folder of its own."""
    if out is None or conditions == 1:
        return out
    return out / file_name(findings.design.experiment)
