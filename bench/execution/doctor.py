"""Doctor: is this machine ready, does an experiment hold what a paired design assumes?"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Literal

import numpy as np

from bench.analysis.data.format import count
from bench.analysis.errors import Refusal
from bench.design.plan import Plan, TrialKey
from bench.design.results import Success
from bench.execution.base import Options
from bench.execution.devices import Slot, cores
from bench.execution.processes import Processes, trained
from bench.execution.resume import jobs
from bench.execution.server import Server
from bench.programs.study_file import is_study
from bench.store.address import address, database_of, may_hold_runs, redacted, state_folder
from bench.store.runs import Unreadable
from bench.store.sqlite import free_bytes
from bench.terminal import wrapped

Runs = dict[TrialKey, Success]
LEAST_FREE = 2**30  # bytes; a run of 10,000 test images and 10 classes takes less than 1 MB
SEEDS = (0, 1)  # that are trained, each twice
MARKS = {"ok": "✓", "open": "·", "bad": "✗"}


class Unwell(Refusal):
    """Something that a benchmark should not be started with."""

    code = "doctor"
    exit_status = 4


class _Failed(Exception):
    """A training that did not end well."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "open", "bad"]
    text: str

    def line(self, *, unicode: bool = True) -> str:
        """Return it for a terminal."""
        mark = MARKS[self.state] if unicode else {"ok": "+", "open": "-", "bad": "x"}[self.state]
        return wrapped(f"  {mark} {self.name:<9} {self.text}", hang=14)


def machine(uri: str | None, slots: Sequence[Slot]) -> Iterator[Finding]:
    """Look at versions, devices, disk and store."""
    versions = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("torch", "mlflow", "numpy", "scipy")
    )
    yield Finding("versions", "ok", versions)
    places = {slot.device for slot in slots}
    threads = count(slots[0].threads, "thread")
    text = f"{', '.join(sorted(places))}: {len(slots)} at once, {threads} each"
    yield Finding("devices", "ok", f"{text}; {count(cores(), 'CPU core')}")
    folder = state_folder(address(uri))
    free = free_bytes(folder)
    state: Literal["ok", "bad"] = "ok" if free >= LEAST_FREE else "bad"
    yield Finding("disk", state, f"{free / 2**30:.1f} GiB free for {_short(folder)}")
    yield _store(uri)


def _store(uri: str | None) -> Finding:
    from bench.store.mlflow_store import Store

    shown = redacted(address(uri))
    if not may_hold_runs(uri):
        folder = state_folder(address(uri))
        there = next(p for p in (folder, *folder.parents) if p.exists())
        if not os.access(there, os.W_OK):
            return Finding("store", "bad", f"{_short(shown)} cannot be made: {there} is read-only")
        return Finding("store", "ok", f"{_short(shown)} does not exist yet; the first run makes it")
    try:
        recorded = Store(uri).recorded()
    except Refusal as refusal:
        return Finding("store", "bad", refusal.what.rstrip("."))
    for benchmark in recorded:
        if isinstance(benchmark, Unreadable):
            return Finding("store", "bad", benchmark.trouble.what.rstrip("."))
    kind = "a database on this disk" if database_of(address(uri)) else "a server"
    return Finding("store", "ok", f"{_short(shown)}, {kind}: {len(recorded)} recorded")


def _short(path: Path | str) -> str:
    return str(path).replace(f"{Path.cwd()}/", "")


def experiment(
    server: Server, plan: Plan, slots: Sequence[Slot], *, folder: Path | None
) -> Iterator[Finding]:
    """Train two seeds of every arm, each twice, and compare; nothing is recorded."""
    data = plan.data
    if data:
        digest = f", sha256 {str(data['digest'])[:12]}…" if data.get("digest") else ""
        yield Finding("data", "ok", f"{data.get('name', 'ready')}{digest}")
    plan = replace(plan, batches=tuple((seed,) for seed in SEEDS), datasets=plan.datasets[:1])
    on_cpu = not any(slot.devices for slot in slots)
    together = replace(plan, batches=(SEEDS,)) if on_cpu else plan  # on a GPU it changes rounding
    try:
        first, again = (_train(server, each, slots, folder) for each in (together, plan))
    except _Failed as failed:
        yield Finding("training", "bad", str(failed))
        return
    yield _repeats(first, again)
    yield _seeds_differ(first, plan)
    yield _seed_used(first)
    yield _same_streams(first, plan)
    if is_study(server.found.reference):  # each training is a program, in a process of its own
        text = "what programs read beside their code and configuration is not seen; inputs = […] "
        yield Finding("inputs", "open", f"{text}in a study.toml adds files to what a run is")
        return
    yield _files_declared(first)
    yield _leaves_nothing(first, again, server, plan, slots, folder)


def _leaves_nothing(
    fresh: Runs, again: Runs, server: Server, plan: Plan, slots: Sequence[Slot], folder: Path | None
) -> Finding:
    """Train one pack, another one and the first again in one process, against fresh processes."""
    if any(fresh[key].fingerprint() != again[key].fingerprint() for key in fresh):
        return Finding("leftovers", "open", "not looked for, as runs do not repeat anyway")
    one, other, *_ = [
        replace(job, reuse_process=True)
        for job in jobs(plan, server.found, Options(data_dir=folder), ())
    ]
    for result in trained(server, slots[:1], [one, other, one]):
        same = isinstance(result, Success) and (
            result.fingerprint() == fresh[result.key].fingerprint()
        )
        if not same:
            who = f"{result.key.arm} gives other bits after another training in one process"
            if server.found.experiment.reuse_process:
                return Finding("leftovers", "bad", f"{who}: reuse_process=True does not hold")
            text = f"{who}: it leaves something behind, which bench keeps from the next one"
            return Finding("leftovers", "open", text)
    text = "three trainings in one process give the bits of fresh ones"
    return Finding("leftovers", "ok", text)


def _train(server: Server, plan: Plan, slots: Sequence[Slot], folder: Path | None) -> Runs:
    every = jobs(plan, server.found, Options(data_dir=folder), ())
    wanted = [replace(job, reuse_process=False, watch_files=True) for job in every]
    done: Runs = {}
    with Processes(server, slots, retries=0) as executor:
        for results in executor.run(wanted):
            for result in results:
                if not isinstance(result, Success):
                    raise _Failed(f"{result.key.title}: {result.what}")
                done[result.key] = result
    return {key: done[key] for job in wanted for key in job.keys}


def _repeats(first: Runs, again: Runs) -> Finding:
    odd = [key for key in first if first[key].fingerprint() != again[key].fingerprint()]
    if not odd:
        text = f"{len(first)} runs trained twice: the same bits"
        return Finding("repeats", "ok", text)
    key = odd[0]
    text = f"{key.title}, gives other bits when trained again"
    return Finding("repeats", "bad", f"{text}: something is drawn without the trial's streams")


def _seeds_differ(runs: Runs, plan: Plan) -> Finding:
    deaf = [
        arm
        for arm in plan.arms
        if len({run.fingerprint() for key, run in runs.items() if key.arm == arm}) < len(SEEDS)
    ]
    if not deaf:
        return Finding("seeds", "ok", "another seed gives other results in every arm")
    text = f"two seeds give the same results in {', '.join(deaf)}"
    return Finding("seeds", "bad", f"{text}: the training ignores the seed")


def _seed_used(runs: Runs) -> Finding:
    said = {key: run.outcome.facts.get("seed_used") for key, run in runs.items()}
    if set(said.values()) == {None}:
        text = "what the programs draw is theirs to seed, by {seed} or BENCH_SEED"
        return Finding("seeding", "open", text)
    odd = [key for key, seeded in said.items() if not seeded]
    if not odd:
        return Finding("seeding", "ok", "what is drawn comes from the trial or is seeded by it")
    text = f"{odd[0].arm} draws from no stream of the trial and does not read its seed"
    return Finding("seeding", "bad", f"{text}: a generator of its own is unseeded or fixed")


def _files_declared(runs: Runs) -> Finding:
    read = [path for run in runs.values() for path in run.outcome.facts.get("undeclared", ())]
    if not read:
        text = "trainings read and run no file that is not part of what a run is"
        return Finding("inputs", "ok", text)
    named = ", ".join(_short(path) for path in list(dict.fromkeys(read))[:3])
    text = f"{named}: read or run while training, and not in Experiment(inputs=[…]), so that an "
    return Finding("inputs", "open", f"{text}edit goes unnoticed")


def _same_streams(runs: Runs, plan: Plan) -> Finding:
    drawn = {key: run.outcome.facts.get("streams", {}) for key, run in runs.items()}
    asked = sorted(set().union(*drawn.values()))
    if not asked:
        text = "no random stream is known, so that batches cannot be compared between the arms"
        return Finding("streams", "open", text)
    notes = [
        f"{arm} draws nothing from {name}"
        for arm in plan.arms
        for name in asked
        if any(name not in drawn[key] for key in plan.trials() if key.arm == arm)
    ]
    common = [name for name in asked if all(name in streams for streams in drawn.values())]
    odd = [
        name
        for name in common
        if any(len({drawn[key][name] for key in plan.of_seed(seed)}) > 1 for seed in SEEDS)
    ]
    if odd:
        text = f"the arms draw differently from {', '.join(odd)}"
        notes.append(f"{text}: not the same batches, or not as many")
    if notes:
        return Finding("streams", "open", "; ".join(notes))
    return Finding("streams", "ok", f"the arms draw the same from {', '.join(asked)}")


def pairing(uri: str | None, name: str) -> Finding:
    """Say what pairing by seed buys, from what is recorded."""
    from bench.store.mlflow_store import Store

    few = "6 recorded pairs are needed to say what pairing buys"
    if not may_hold_runs(uri):
        return Finding("pairing", "open", few)
    store = Store(uri)
    benchmark = next((b for b in store.benchmarks(name) if not b.plan.aa), None)
    if benchmark is None:
        return Finding("pairing", "open", few)
    design, tables = benchmark.design(), store.tables(benchmark)
    seeds = tables.paired_seeds(design, design.treatments[0])
    if len(seeds) < 6:
        return Finding("pairing", "open", f"{few}; there are {len(seeds)}")
    base, other = (tables.values(design, arm, seeds) for arm in design.arms[:2])
    unpaired = float(base.var(ddof=1) + other.var(ddof=1))
    if unpaired == 0:
        return Finding("pairing", "open", "no run differs from another, so nothing can be saved")
    saved = 1 - float((other - base).var(ddof=1)) / unpaired
    r = float(np.corrcoef(base, other)[0, 1]) if base.std() and other.std() else 0.0
    verb = "saves" if saved >= 0 else "adds"
    text = f"r = {r:.2f} between the arms over {len(seeds)} pairs"
    return Finding("pairing", "ok", f"{text}: pairing {verb} {abs(saved):.0%} of the variance")
