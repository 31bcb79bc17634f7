"""Findings: everything the report, the JSON and the terminal print, in one frozen object."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bench.analysis.calibration.errors import Calibration
from bench.analysis.data.json_values import columns, plain, unstored
from bench.analysis.data.tables import Design
from bench.analysis.inference import Ranks
from bench.analysis.inference.comparison import Comparison
from bench.analysis.inference.variance_components import Component
from bench.analysis.inference.variance_sources import SourceRow
from bench.analysis.study.pairs import Paired
from bench.analysis.study.summary import Changed, RunBins, Summary

SCHEMA = "bench.report/2"

TABLES = ("arms", "comparisons", "calibration", "reliability", "curves", "gaps", "classes")

Level = Literal["blocker", "caution", "note"]
State = Literal["passed", "failed", "not checked"]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One arm over all its finished seeds; limits are a t interval over seeds."""

    name: str
    settings: Mapping[str, Any]
    n_finished: int
    n_failed: int
    n_collapsed: int
    collapse_low: float  # Clopper-Pearson limits of the collapse rate
    collapse_high: float
    mean: float | None
    sd: float | None
    min: float | None
    max: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Primary:
    """The planned analysis: the verdict follows this interval and no other."""

    method: str  # two_way, paired_t, anytime or group
    difference: float | None
    low: float | None = None
    high: float | None = None
    low90: float | None = None
    high90: float | None = None
    level: float
    level90: float
    p_value: float | None = None
    df: float | None = None
    standard_error: float | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """One row of the table that asks whether the answer depends on the analysis."""

    name: str
    difference: float | None
    low: float | None = None
    high: float | None = None
    level: float
    p_value: float | None = None
    reason: str | None = None

    @classmethod
    def of(cls, name: str, found: Comparison | Primary) -> "Analysis":
        """Return the row of a result."""
        kept = ("difference", "low", "high", "level", "p_value", "reason")
        return cls(name=name, **{key: getattr(found, key) for key in kept})


@dataclass(frozen=True, kw_only=True)
class EquivalenceFinding:
    """Two one-sided tests against the declared margin."""

    p_value: float | None = None
    margin: float
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class EffectFinding:
    """Standardised effect and win rate."""

    d_z: float | None = None
    hedges_g: float | None = None
    low: float | None = None
    high: float | None = None
    win_rate: float
    win_low: float
    win_high: float
    new_pair_low: float | None = None  # 95 % prediction limits of one more pair
    new_pair_high: float | None = None
    wins: int
    ties: int
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class BayesFinding:
    """Posterior probabilities under the reference prior; better and worse by the direction."""

    worse: float
    equivalent: float
    better: float


@dataclass(frozen=True, kw_only=True)
class PowerFinding:
    """What this design can see; never "observed power"."""

    detectable_at_80: float | None = None
    seeds_for_margin: int | None = None
    sd: float | None = None  # of the paired differences
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class VarianceFinding:
    """Where the spread comes from."""

    seeds: float
    examples: float
    residual: float
    correlation_between_arms: float | None
    n_examples: int
    ms_seeds: float
    ms_examples: float
    ms_residual: float
    width_with_twice_seeds: float  # of the interval, as a share of what it is
    width_with_twice_examples: float
    seeds_to_halve: int | None  # the width: seed pairs in all; None: no number of them alone
    examples_to_halve: int | None
    components: tuple[Component, ...]


@dataclass(frozen=True, kw_only=True)
class ClaimFinding:
    """The claimed gain against the interval, and what one pair of runs is worth."""

    value: float
    reading: Literal["compatible", "larger", "smaller", "contradicted"] | None
    chance_without_effect: float | None = None
    chance_low: float | None = None
    chance_high: float | None = None
    chance_unpaired: float | None = None
    chance_observed: float | None = None  # share of sign-flipped pairs that reach it
    likelihood_ratio: float | None = None
    best_epoch_optimism: float | None = None
    optimism_low: float | None = None
    optimism_high: float | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Secondary:
    """A secondary outcome: interval and p adjusted by the same method."""

    metric: str
    label: str
    unit: Literal["fraction", "nats", "score"]
    higher_is_better: bool | None  # None: a score whose direction nobody declared
    baseline: float
    treatment: float
    difference: float
    low: float | None
    high: float | None
    level: float
    p_value: float | None
    p_adjusted: float | None
    p_holm: float | None
    reason: str | None = None
    descriptive: bool = False  # its interval describes; nothing is claimed from it, so it has no p


@dataclass(frozen=True, kw_only=True)
class PlannedLook:
    """One look of a group-sequential plan: its interval is as wide as the boundary asks."""

    n: int
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class AnytimeFinding:
    """The anytime-valid interval at the last pair, and its path in plan order."""

    low: float | None = None
    high: float | None = None
    e_value: float | None = None  # of new seeds; None where test examples are drawn too
    p_value: float | None = None
    looks: tuple[int, ...]
    planned: tuple[PlannedLook, ...] = ()  # of a group-sequential plan, those reached so far
    path: tuple[tuple[int, float, float | None, float | None], ...] = ()  # n, mean, low, high
    e_reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class DataSetRow:
    """One data set by itself; its interval counts no other data set."""

    name: str
    n: int
    baseline: float
    treatment: float
    difference: float
    low: float | None = None
    high: float | None = None
    level: float
    p_value: float | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Training time a run, in seconds; the interval is a paired t's."""

    of: str  # the treatment
    baseline: float
    treatment: float
    difference: float
    low: float | None = None
    high: float | None = None
    level: float


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Two arms against each other; together with all other pairs of arms the intervals hold."""

    first: str
    second: str
    difference: float | None  # second minus first
    low: float | None = None
    high: float | None = None
    level: float  # of all of them together
    p_adjusted: float | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Among:
    """All arms among themselves, where there are three or more."""

    contrasts: tuple[Contrast, ...]
    tied: tuple[tuple[str, ...], ...]  # the largest groups that cannot be told apart
    ranks: Ranks | None = None  # over data sets; places as in `arms`
    arms: tuple[str, ...] = ()  # best first


@dataclass(frozen=True, kw_only=True)
class VerdictFinding:
    """The word, its headline and what would settle it."""

    word: str
    label: str
    glyph: str
    rule: int
    size_open: bool
    provisional: bool
    blocker: str | None
    headline: str
    seeds_needed: int | None
    seeds_needed_reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Treatment:
    """One treatment against the baseline, paired by seed."""

    treatment: str
    n_pairs: int
    verdict: VerdictFinding
    primary: Primary
    analyses: tuple[Analysis, ...]
    equivalence: EquivalenceFinding | None
    effect: EffectFinding | None
    bayes: BayesFinding | None
    power: PowerFinding
    variance: VarianceFinding | None
    claim: ClaimFinding | None
    secondary: tuple[Secondary, ...]
    anytime: AnytimeFinding
    datasets: tuple[DataSetRow, ...] = ()
    changed: Changed | None = None
    pairs: Paired = unstored()

    def analysis(self, name: str) -> Analysis | None:
        """Return one of the analyses by its name."""
        return next((a for a in self.analyses if a.name == name), None)

    @property
    def differences(self) -> tuple[float, ...]:
        """Treatment minus baseline, one a seed."""
        return tuple(self.pairs.differences.tolist())


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """Accuracy within one class of the test set; exploratory."""

    treatment: str
    label: str
    n_examples: int
    baseline: float
    treated: float
    difference: float
    p_value: float | None
    p_adjusted: float | None  # Benjamini-Hochberg over the classes


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """A reliability diagram and a risk-coverage curve: mean and middle 95 % of seeds."""

    arm: str
    confidence: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    share: tuple[float, ...]  # of test examples
    risk: tuple[float | None, ...] = ()  # at coverages equally far apart, the last of them all
    risk_low: tuple[float | None, ...] = ()
    risk_high: tuple[float | None, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Validation accuracy over epochs: median and middle 90 % of seeds."""

    arm: str
    epochs: tuple[int, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Paired difference by epoch with a pointwise 95 % interval: descriptive."""

    treatment: str
    epochs: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """One run of the table of all runs."""

    seed: int
    arm: str
    value: float | None = None
    status: str = "missing"
    device: str = ""
    duration_s: float | None = None
    attempts: int = 0
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Something that must be read before quoting."""

    id: str
    level: Level
    state: State
    text: str
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything; nothing that is printed comes from anywhere else."""

    design: Design
    metric_label: str
    arms: tuple[Arm, ...]
    comparisons: tuple[Treatment, ...]
    calibration: tuple[Calibration, ...]
    reliability: tuple[Reliability, ...]
    curves: tuple[Curve, ...]
    gaps: tuple[Gap, ...]
    runs: tuple[RunRow, ...]
    checks: tuple[Check, ...]
    summary: Summary = unstored()  # that all of it was concluded from
    n_test: int | None
    run_calibration: tuple[Calibration, ...] = ()
    run_bins: tuple[RunBins, ...] = ()
    classes: tuple[ClassRow, ...] = ()
    sources: tuple[SourceRow, ...] = ()
    among: Among | None = None
    costs: tuple[Cost, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    schema: str = SCHEMA

    @property
    def measure(self) -> Any:
        """How the metric is read."""
        return self.design.measure

    def arm(self, name: str) -> Arm:
        """Return one arm by its name."""
        return next(arm for arm in self.arms if arm.name == name)

    def as_dict(self) -> dict[str, Any]:
        """Return results.json: raw numbers, None for what cannot be had."""
        d = self.design
        plan = {**plain(d), "unit": self.measure.unit, "seeds_planned": list(d.seeds)}
        for name in ("seeds", "experiment", "question", "arm_settings"):  # stand elsewhere
            del plan[name]
        return {
            "schema": self.schema,
            "experiment": d.experiment,
            "question": d.question,
            "metric_label": self.metric_label,
            "plan": plan,
            "n_test": self.n_test,
            **{name: plain(getattr(self, name)) for name in TABLES},
            "sources": plain(self.sources),
            "among": plain(self.among),
            "costs": plain(self.costs),
            "run_calibration": columns(self.run_calibration),
            "run_bins": columns(self.run_bins),
            "pairs": plain(self.runs),
            "checks": plain(self.checks),
            "provenance": plain(dict(self.provenance)),
        }
