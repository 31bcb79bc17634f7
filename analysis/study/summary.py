"""Summary: what a benchmark's raw predictions and runs come down to; findings rest on nothing else.

Its size does not depend on the number of test examples. `summarise` makes it, `conclude` reads it,
and a report embeds it, so that whoever has the report can conclude again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from bench.analysis.calibration.errors import Calibration
from bench.analysis.data.format import Unit
from bench.analysis.data.json_values import columns, plain, rows
from bench.analysis.data.tables import Design
from bench.analysis.errors import Refusal
from bench.analysis.inference.variance_sources import SourceValues
from bench.analysis.inference.welch import Published
from bench.analysis.study.pairs import Paired

Squares = tuple[float, float, float]  # mean squares of seeds, examples and residual

# What only raw predictions can show: `conclude` takes it from the summary as it stands there.
NOT_RECOMPUTED = (
    "whether stored predictions give the logged accuracy (B5)",
    "the temperatures fitted on validation data",
    "the noise floor of calibration errors",
    "the rows of failed runs at their worst (B6)",
    "degrees of freedom by kurtosis",
    "the best epoch's optimism",
)


class DamagedReport(Refusal):
    """A report whose data cannot be read."""

    code = "report"
    exit_status = 5


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run as it was recorded, with what the checks read of it."""

    arm: str
    seed: int
    status: str
    value: float | None  # of the plan's metric; None: not finished
    validation: float | None  # the same on validation examples
    device: str
    duration_s: float | None
    attempts: int
    note: str
    n_epochs: int
    selected_epoch: int | None
    log_agrees: bool | None  # with the accuracy of the stored predictions; None: one is missing
    seeded: bool | None = None  # drew from a stream, or read its seed; None: not recorded
    trained_on: int | None = None  # examples that it drew from the pool; None: not recorded
    traceback: bool = False  # its program printed one, and ended as if well
    changed_files: str = ""  # configuration that was not what it had been when the plan was made
    taken_from: str = ""  # the benchmark that trained it


@dataclass(frozen=True, kw_only=True)
class RunBins:
    """One run's reliability diagram as sums over 15 equal-width bins, and its risk by coverage."""

    arm: str
    seed: int
    count: tuple[int, ...]
    correct: tuple[float, ...]
    confidence: tuple[float, ...]
    risk: tuple[float, ...] = ()  # at coverages equally far apart; none in older reports


@dataclass(frozen=True, kw_only=True)
class RunCurve:
    """One run's validation accuracy by epoch."""

    arm: str
    seed: int
    epochs: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class OutcomeSums:
    """What the comparison of one secondary outcome is computed from."""

    metric: str
    label: str
    unit: Unit
    higher_is_better: bool | None
    baseline: tuple[float, ...]  # one value a seed
    treatment: tuple[float, ...]
    method: Literal["two_way", "paired_t"]
    difference: float | None = None  # of a two-way analysis, as its table gives it
    squares: Squares | None = None
    n_columns: int | float | None = None  # examples, groups of them, or what clusters know as much
    reason: str | None = None  # why there are no mean squares
    descriptive: bool = False  # its interval does not hold what it promises: nothing is claimed
    strata: tuple[int, ...] | None = None  # the data set of each value, where each is trained for


@dataclass(frozen=True, kw_only=True)
class ClassSums:
    """What the comparison within one class of the test set is computed from."""

    treatment: str
    label: str
    n_examples: int
    baseline: float
    treated: float
    squares: Squares | None  # None where there is no spread, or only seeds count
    difference: float  # mean over pairs, for its p
    error: float | None  # of that mean over seeds, where only these count


@dataclass(frozen=True, kw_only=True)
class LateModule:
    """A module that trainings loaded by themselves."""

    path: str
    versions: int
    arms: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ChangedExample:
    """One example's mean over the runs of each arm."""

    name: str
    baseline: float
    treatment: float


@dataclass(frozen=True, kw_only=True)
class Changed:
    """On which examples the arms differ: how many, and those that do most."""

    better: int
    worse: int
    same: int
    examples: tuple[ChangedExample, ...]


@dataclass(frozen=True, kw_only=True)
class TreatmentSums:
    """What is known of one treatment's pairs."""

    treatment: str
    pairs: Paired
    worst: Paired | None  # with failed runs at their worst value; None: no run failed
    outcomes: tuple[OutcomeSums, ...]
    optimism: tuple[float, float | None, float | None] | None  # of the best epoch, with limits
    changed: Changed | None  # None: single examples are not known
    streams: Mapping[str, int]  # random stream to the comparable pairs whose arms drew differently


@dataclass(frozen=True, kw_only=True)
class Between:
    """Two treatments and their pairs."""

    first: str
    second: str
    pairs: Paired


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Everything that `conclude` reads."""

    design: Design
    seed: int  # of all resampling
    provenance: Mapping[str, Any]
    runs: tuple[Run, ...]  # in the order of their recording
    treatments: tuple[TreatmentSums, ...]
    between: tuple[Between, ...]
    classes: tuple[ClassSums, ...]
    calibration: tuple[Calibration, ...]
    bins: tuple[RunBins, ...]
    curves: tuple[RunCurve, ...]
    sources: tuple[SourceValues, ...]
    late_modules: tuple[LateModule, ...]
    environments: Mapping[str, tuple[str, ...]] | None  # what differs between runs; None: unknown
    n_classes: int | None
    n_validation: int | None  # validation examples, where all runs have as many
    logs_accuracy: bool
    published: Mapping[str, Published] = field(default_factory=dict)  # arms without runs

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values; rows of one kind as columns."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            "not_recomputed": list(NOT_RECOMPUTED),
            **{
                name: columns(value) if name in _COLUMNS else plain(value)
                for name, value in values.items()
            },
        }

    @classmethod
    def from_dict(cls, data: Any) -> "Summary":
        """Return the summary that `as_dict` wrote.

        Raises
        ------
        DamagedReport : a missing key, or a value of the wrong kind
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            parts = {name: rows(part) if name in _COLUMNS else part for name, part in data.items()}
            return TypeAdapter(cls).validate_python(parts)
        except (ValidationError, KeyError, TypeError, AttributeError, ValueError) as error:
            facts = [] if not isinstance(error, ValidationError) else _first_errors(error.errors())
            raise DamagedReport("its embedded data are not whole.", facts=facts) from None


_COLUMNS = ("runs", "classes", "calibration", "bins", "curves", "sources")


def _first_errors(errors: Any) -> list[str]:
    return [
        f"{'.'.join(str(part) for part in error['loc'])[:80]}: {error['msg']}"
        for error in errors[:3]
    ]
