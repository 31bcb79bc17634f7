"""CSV: the raw values, one row an observation, nothing rounded."""

import csv
import gzip
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from bench.analysis.data.metrics import ECE_BINS
from bench.analysis.data.tables import Tables, records
from bench.analysis.report.names import apart, printable
from bench.analysis.study.findings import Findings

Line = Iterable[object]
Show = Callable[[str], str]

FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # what a spreadsheet would compute
VALUES = ("baseline_value", "treatment_value", "difference")
PER_RUN = ("ece", "ece_debiased", "ce2", "gap", "aurc")  # beside the metrics
PER_SCALED_RUN = ("temperature", "nll", "brier", "ece", "ece_debiased", "ce2", "aurc")


def sheets(f: Findings, tables: Tables, hide: Show = str) -> dict[str, bytes]:
    """Return file names and contents; the same findings and tables give the same bytes.

    Parameters
    ----------
    f : what `study` found in the tables
    tables : everything recorded; its epochs are not in the findings
    hide : what to show of a typed or recorded text

    Notes
    -----
    Names stand as they were typed, but for what a spreadsheet or a terminal would act on.
    """
    scores = tuple(dict.fromkeys(str(name) for name in tables.scores.score))
    logged = tuple(
        str(c) for c in tables.epochs.columns if c not in ("arm", "seed", "epoch", "time")
    )

    def show(text: str) -> str:
        return _inert(hide(text))

    shown = apart((*f.design.arms, f.design.metric, *scores, *logged), show)
    return {
        "pairs.csv": _csv(_pairs(f, shown)),
        "runs.csv": _csv(_runs(f, tables, shown, show)),
        "curves.csv.gz": gzip.compress(_csv(_curves(f, tables, shown, logged)), mtime=0),
        "reliability.csv": _csv(_reliability(f, shown)),
    }


def pairs(f: Findings) -> bytes:
    """Return pairs.csv alone: every pair that the analysis rests on."""
    return _csv(_pairs(f, apart((*f.design.arms, f.design.metric), _inert)))


def _inert(text: str) -> str:
    """Return a text that a spreadsheet takes for text."""
    plain = printable(text).strip()
    return f"'{plain}" if plain.startswith(FORMULA) else plain


def _csv(lines: Iterable[Line]) -> bytes:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    # A number has all its digits, a missing one is nothing.
    writer.writerows([None if value != value else value for value in line] for line in lines)
    return stream.getvalue().encode("utf-8", "replace")


def _pairs(f: Findings, shown: Mapping[str, str]) -> Iterator[Line]:
    """Yield every pair that the analysis rests on."""
    yield "seed", "baseline", "treatment", "metric", *VALUES
    base, metric = shown[f.design.baseline], shown[f.design.metric]
    for c in f.comparisons:
        p = c.pairs
        if p.independent:
            continue  # the runs of arms that share nothing are in runs.csv
        rows = zip(p.seeds, p.baseline, p.treatment, c.differences, strict=True)
        for seed, old, new, difference in rows:
            yield seed, base, shown[c.treatment], metric, old, new, difference


def _runs(f: Findings, tables: Tables, shown: Mapping[str, str], show: Show) -> Iterator[Line]:
    """Yield every planned run, with all that was measured at its end."""
    measured = _measured(f, tables)
    columns = list(
        dict.fromkeys([f.design.metric, *(name for m in measured.values() for name in m)])
    )
    fixed = ("seed", "arm", "status", "device", "duration_s", "attempts", "selected_epoch", "note")
    yield *fixed[:3], *(_column(shown.get(name, name), fixed) for name in columns), *fixed[3:]
    selected = {(r["arm"], r["seed"]): r.get("selected_epoch") for r in records(tables.trials)}
    for run in f.runs:
        values = measured.get((run.arm, run.seed), {})
        epoch = selected.get((run.arm, run.seed))
        yield (
            run.seed,
            shown[run.arm],
            run.status,
            *(run.value if name == f.design.metric else values.get(name) for name in columns),
            show(run.device),
            run.duration_s,
            run.attempts,
            None if epoch is None else int(epoch),
            show(run.note),
        )


def _column(name: str, taken: Iterable[str]) -> str:
    return f"{name} (score)" if name in taken else name


def _measured(f: Findings, tables: Tables) -> dict[tuple[str, int | None], dict[str, float | None]]:
    """Return each run's metrics, its own scores and its calibration, raw and scaled."""
    found: dict[tuple[str, int | None], dict[str, float | None]] = {}
    for arm, seed, split in tables.predictions:
        if split == "test":
            values = tables.scored(arm, seed, split).values
            found[arm, seed] = {name: float(of.mean()) for name, of in values.items()}
    for row in f.run_calibration:
        names = PER_SCALED_RUN if row.scaled else PER_RUN
        end = "_scaled" if row.scaled else ""
        found.setdefault((row.arm, row.seed), {}).update(
            {
                name if name == "temperature" else f"{name}{end}": getattr(row, name)
                for name in names
            }
        )
    for score in records(tables.scores):
        own, name = found.setdefault((score["arm"], score["seed"]), {}), str(score["score"])
        own[f"{name} (score)" if name in own else name] = score["value"]
    return found


def _curves(
    f: Findings, tables: Tables, shown: Mapping[str, str], logged: Iterable[str]
) -> Iterator[Line]:
    """Yield what every run logged at every epoch."""
    yield "seed", "arm", "epoch", "metric", "value"
    order = {arm: i for i, arm in enumerate(f.design.arms)}
    seeds = {seed: i for i, seed in enumerate(dict.fromkeys(run.seed for run in f.runs))}
    rows = [row for row in records(tables.epochs) if row["arm"] in order and row["seed"] in seeds]
    rows.sort(key=lambda row: (seeds[row["seed"]], order[row["arm"]], row["epoch"]))
    for row in rows:
        for name in logged:
            if row[name] is not None:
                yield int(row["seed"]), shown[row["arm"]], int(row["epoch"]), shown[name], row[name]


def _reliability(f: Findings, shown: Mapping[str, str]) -> Iterator[Line]:
    """Yield every run's reliability diagram; an empty bin has neither confidence nor accuracy."""
    yield "seed", "arm", "bin", "bin_low", "bin_high", "count", "confidence", "accuracy"
    for run in f.run_bins:
        for i, (n, right, sure) in enumerate(
            zip(run.count, run.correct, run.confidence, strict=True)
        ):
            means: tuple[Any, Any] = (sure / n, right / n) if n else (None, None)
            yield run.seed, shown[run.arm], i + 1, i / ECE_BINS, (i + 1) / ECE_BINS, n, *means
