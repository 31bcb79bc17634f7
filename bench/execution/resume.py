"""Resuming: what a benchmark still lacks, as jobs whose numbers never depend on history."""

from collections.abc import Collection
from pathlib import Path

from bench.design.description import Discovered
from bench.design.plan import Plan, TrialKey
from bench.design.results import Job
from bench.execution.base import Options


def jobs(
    plan: Plan,
    found: Discovered,
    options: Options,
    settled: Collection[TrialKey],
    *,
    folders: Path | None = None,
) -> list[Job]:
    """Number the packs by the plan, not by what is left: composition never depends on history.

    Parameters
    ----------
    settled : trials that need no training
    folders : where runs get folders of their own; None: what they write there is thrown away
    """
    left = set(plan.packs_left(settled))
    return [
        Job(
            pack=number,
            keys=pack,
            settings={key.arm: plan.arms[key.arm] for key in pack},
            reference=found.reference,
            source_digest=found.source_digest,
            source_files=found.files,
            data_dir=str(options.data_dir) if options.data_dir else None,
            timeout_s=options.timeout_s,
            draws={key: plan.draw(key) for key in pack},
            folders=str(folders) if folders else None,
            devices=found.experiment.devices,
            reuse_process=found.experiment.reuse_process,
        )
        for number, pack in enumerate(plan.packs())
        if pack in left
    ]
