"""Verifies a report: do its numbers follow from its data, does a pair train to them?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench import __version__
from bench.analysis.errors import Refusal
from bench.store.address import first_line

if TYPE_CHECKING:
    from bench.analysis.report.verify import Mismatch, Verified
    from bench.analysis.study.findings import Findings
    from bench.execution.devices import Slot
    from bench.execution.server import Server

MOST_BYTES = 64 * 2**20  # a report of 200 seeds has 2 MB


class Unverified(Refusal):
    """A report that does not say what its data say, or what its trainings give."""

    code = "verify"
    exit_status = 5


class OtherTraining(Refusal):
    """An experiment that is no longer the one that the report is about."""

    code = "experiment"
    exit_status = 5


@dataclass(frozen=True)
class Retrained:
    """One run of a pair, trained again."""

    arm: str
    stated: float | None
    again: float | None
    trouble: str = ""  # why there is no value

    @property
    def same(self) -> bool:
        """Whether the value is the same to the last bit."""
        return self.again is not None and self.again == self.stated


def check(path: Path) -> "Verified":
    """Compute a report's numbers again and compare them with what it says.

    Raises
    ------
    DamagedReport : a file that is no report
    Unverified : numbers or words that do not follow from the embedded data
    """
    from bench.analysis.report.document import SUMMARY_FILE
    from bench.analysis.report.verify import verify
    from bench.analysis.study.summary import DamagedReport

    def read(path: Path) -> str:
        if not path.is_file():
            raise DamagedReport(
                f"there is no file {path}.", fix="write one:", command=["bench", "report", "NAME"]
            )
        if path.stat().st_size > MOST_BYTES:
            raise DamagedReport(
                f"{path} has {path.stat().st_size / 2**20:,.0f} MiB, more than any report of bench."
            )
        try:
            return path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            raise DamagedReport(f"{path} is no text, so no report of bench.") from None

    text = read(path)
    try:
        found = verify(text, version=__version__, beside=lambda: read(path.parent / SUMMARY_FILE))
    except Refusal:
        raise
    except Exception as error:  # whatever an edit may break that no digest gave away
        raise DamagedReport(
            f"the data embedded in {path} do not fit together.",
            facts=[first_line(error)],
            fix="write it anew:",
            command=["bench", "report", "NAME"],
        ) from error
    if not found.holds:
        raise Unverified(
            f"{path} does not say what its data say.",
            facts=_listed(found.mismatches),
            fix="write it anew:",
            command=["bench", "report", found.experiment],
        )
    return found


def _listed(mismatches: "Sequence[Mismatch]") -> list[str]:
    facts = [f"{m.where}: {m.stated!r}, should be {m.recomputed!r}." for m in mismatches[:5]]
    more = len(mismatches) - len(facts)
    return [*facts, f"and {more} or more others."] if more else facts


def retrain(
    f: "Findings", seed: int, server: "Server", *, folder: Path | None, places: "Sequence[Slot]"
) -> list[Retrained]:
    """Train one pair of a report again, recording nothing.

    Parameters
    ----------
    f : what the report holds
    seed : of the pair
    server : has imported the experiment
    folder : of the data set, or None
    places : where to train

    Raises
    ------
    OtherTraining : the report is about other code, settings or data, or has no such seed
    """
    from bench.design.plan import make_plan
    from bench.design.results import Success
    from bench.execution.base import Options
    from bench.execution.processes import trained
    from bench.execution.resume import jobs
    from bench.execution.runner import value_of

    if f.design.units.nested:
        raise OtherTraining(
            f"the report is of {len(f.design.units.datasets)} data sets, and a pair is of one.",
            fix="repeat a run where it was trained: bench run NAME --redo SEED:ARM:DATASET",
        )
    stated = {run.arm: run.value for run in f.runs if run.seed == seed}
    if not stated:
        seeds = sorted({run.seed for run in f.runs})
        raise OtherTraining(
            f"the report has no seed {seed}.",
            facts=[f"Its seeds: {', '.join(map(str, seeds[:20]))}{' …' if seeds[20:] else ''}."],
        )
    found = server.found
    arms = {arm.name: dict(arm.settings) for arm in f.arms}
    data = server.data(arms, folder)
    plan = make_plan(
        found,
        data=data,
        arms=arms,
        seeds=f.design.seeds,
        aa=f.design.aa,
        pack_seeds=server.pack_seeds(arms, places),
    )
    if f.design.batches:
        plan = plan.in_batches(f.design.batches)
    if plan.benchmark_id != f.design.benchmark_id:
        recorded = (f.provenance.get("data") or {}).get("digest")
        changed = "data" if recorded != data.get("digest") else "source"
        raise OtherTraining(
            f"the {changed} of {f.design.experiment} is not the one that the report is about.",
            facts=[
                f"Benchmark {f.design.benchmark_id[:7]} there, {plan.benchmark_id[:7]} here.",
                f"The report's commit: {f.provenance.get('commit') or 'not recorded'}.",
            ],
            fix="check out that commit, or name the experiment's file:",
            options=[("experiment", "FILE")],
        )
    others = {key for key in plan.trials() if key.seed != seed}
    wanted = jobs(plan, found, Options(data_dir=folder), others)
    again: dict[str, Retrained] = {}
    for result in trained(server, places, wanted):
        arm, value, trouble = result.key.arm, None, ""
        if isinstance(result, Success):
            value = value_of(result.outcome, f.design.metric)
        else:
            trouble = result.what
        if result.key.seed == seed:
            again[arm] = Retrained(arm, stated.get(arm), value, trouble)
    return [again[arm] for arm in arms if arm in again]
