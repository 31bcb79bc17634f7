"""`bench run`: train the arms on the same seeds, and report whether they differ."""

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.commands import options as panels
from bench.commands.common import Usage, data_folder, fail_if, fail_words
from bench.commands.options import (
    Arms,
    DataFolder,
    Design,
    Devices,
    FailOn,
    Name,
    Output,
    Recording,
    StoreUri,
    Training,
    expanded,
    given as given_options,
    typed,
)
from bench.terminal import wait_for, wrapped

if TYPE_CHECKING:
    from bench.analysis.study.findings import Findings

VARY_HELP = "Also vary one source alone, e.g. subset,init,order: where the spread is from."


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What `bench run` alone can be asked."""

    vary: str | None = panels.design(None, "LIST", VARY_HELP)
    dry_run: bool = panels.devices(
        False, "", "Say what is left to train and what it costs; record nothing."
    )
    blind: bool = panels.output(False, "", "Hide the running difference until the end.")
    no_report: bool = panels.output(False, "", "Train and record only.")
    source: bool = panels.output(False, "", panels.SOURCE_HELP)


@expanded
def run(
    name: Name = None,
    *,
    design: Design,
    arms: Arms,
    devices: Devices = "auto",
    training: Training,
    data: DataFolder = None,
    asked: Asked,
    recording: Recording,
    store: StoreUri = None,
    fail_on: FailOn = None,
    output: Output,
) -> None:
    """Train the arms on the same seeds and report whether they differ.

    \b
      bench run                                  digits, or cifar10 where it can
      bench run digits --seeds 20                20 pairs on every core
      bench run cifar10 --claim 0.30             check a claimed +0.30 pp
      bench run cifar10 --dry-run                what it costs, first
      bench run digits --stop anytime            as few seeds as it takes
      bench run my_experiment.py --seeds 0-9     an experiment of your own
      bench run study.toml                       commands that train
      bench run study.toml --arm main@git:main --arm change@git:.

    The same command again goes on where it stopped, and trains nothing twice.
    """
    words = fail_words(fail_on)
    findings = execute(
        name,
        design=design,
        arms=arms,
        devices=devices,
        training=training,
        data=data,
        asked=asked,
        recording=recording,
        store=store,
        output=output,
        words=sys.argv[1:] if sys.argv[1:2] == ["run"] else ["run", *filter(None, [name])],
    )
    if findings is not None:
        fail_if(findings, words)


def execute(
    name: str | None,
    *,
    design: Design,
    arms: Arms,
    devices: str,
    training: Training,
    data: Path | None,
    asked: Asked,
    recording: Recording,
    store: str | None,
    output: Output,
    words: Sequence[str] = (),
) -> "Findings | None":
    """Train what is missing and report; a call from Python types no words.

    Raises
    ------
    Incomplete : a training failed, or the time was up
    """
    from bench.commands.studies import asked_study

    if recording.offline:
        os.environ["BENCH_OFFLINE"] = "1"
    _require_able(training, dry_run=asked.dry_run)
    with asked_study(name, arms) as found:
        design = found.design(design)
        if found.study is not None and training.timeout is None:
            training = replace(training, timeout=found.study.timeout_min)
        return _execute(
            found.name,
            design=design,
            arms=found.arms,
            devices=devices,
            training=training,
            data=data,
            asked=asked,
            recording=recording,
            store=store,
            output=output,
            words=words,
            more_notes=found.notes,
        )


def _execute(
    name: str | None,
    *,
    design: Design,
    arms: Arms,
    devices: str,
    training: Training,
    data: Path | None,
    asked: Asked,
    recording: Recording,
    store: str | None,
    output: Output,
    words: Sequence[str],
    more_notes: Sequence[str],
) -> "Findings | None":
    from bench.commands.drafting import draft, seeds_of, varied
    from bench.commands.session import Session, end, first_line, incomplete, keys_of, resume_command
    from bench.execution.base import Options
    from bench.execution.executors import LOCAL

    seeds = seeds_of(design)
    options = Options(
        timeout_s=None if training.timeout is None else 60 * training.timeout,
        deadline=time.monotonic() + 3600 * (training.max_hours or float("inf")),
        fresh=recording.fresh,
        keep_going=training.keep_going,
        data_dir=data_folder(data),
    )
    session = Session(store, training, recording, output)
    chosen, note = _choose(name, options.data_dir)
    wait_for("importing the experiment")
    with session.opened(chosen, train=not asked.dry_run):
        places = session.server.slots(
            devices, per_device=training.per_device, workers=training.workers
        )
        there = session.places(places)
        mine = places if training.address is None and training.backend in LOCAL else ()
        found, plan = draft(session.server, options.data_dir, design, arms, seeds, mine)
        plan = session.packed(plan)
        groups = (design, arms, training, recording)
        session.words = words or ["run", chosen, *typed(*groups, metric=plan.metric)]
        families = varied(plan, asked.vary) if asked.vary is not None else []
        options = replace(options, redo=keys_of(recording.redo or (), plan))
        output.say(first_line(plan, note, len(there)))
        for each in more_notes:
            output.say(wrapped(each))
        if asked.dry_run:
            session.rehearse([plan, *families], places, options)
            return None
        # The plan itself first: its runs tell which streams there are to vary.
        notes = [*([note] if note else []), *more_notes]
        streams = [family.vary for family in families]
        first = replace(options, streams=streams)
        rans = [session.train(found, plan, there, first, blind=asked.blind, notes=notes)]
        for family in families:
            if rans[-1].unstarted:  # the time is up, or a failure repeats
                break
            others = replace(options, redo=frozenset())
            rans.append(session.train(found, family, there, others, blind=asked.blind, notes=notes))
    findings, missing, main = None, any(map(incomplete, rans)), rans[0]
    hidden = asked.blind and incomplete(main)
    if hidden and not asked.no_report and not main.unstarted:
        later = shlex.join(["bench", "report", plan.experiment])
        output.say(
            f"No report before all pairs are done (--blind); {later} writes it all the same."
        )
    if not (asked.no_report or hidden or main.unstarted):  # the verdict waits for what was planned
        findings = session.report(main.benchmark, failures=missing, source=asked.source)
    elif output.as_json and not missing:
        facts = {"experiment": plan.experiment, "benchmark_id": plan.benchmark_id}
        trained = sum(ran.trained for ran in rans)
        print(json.dumps({**facts, "run_id": main.benchmark.run_id, "trained": trained}))
    all_begun = len(rans) == 1 + len(families)
    command = resume_command(words, main, options.redo) if words else ()
    end(rans, command=command, all_begun=all_begun)
    return findings


def _require_able(training: Training, *, dry_run: bool) -> None:
    """Refuse numbers that leave nothing to train, and a backend that is not there."""
    for option, value, better in (
        ("timeout", training.timeout, 60),
        ("max_hours", training.max_hours, 8),
    ):
        if value is not None and not value > 0:
            typed = option.replace("_", "-")
            what = f"--{typed} {value:g} leaves no time to train."
            raise Usage(what, options=[(option, better)])
    if training.retries < 0:
        raise Usage(f"--retries {training.retries} is below 0.", options=[("retries", 1)])
    from bench.execution.executors import EXECUTORS, REMOTE

    backend, address = training.backend, training.address
    if backend not in EXECUTORS:
        raise Usage(
            f'--backend "{backend}" is not {" or ".join(EXECUTORS)}.',
            options=[("backend", "processes")],
        )
    if given := [n for n in slurm_options(training) if backend != "slurm"]:
        raise Usage(f"{given[0]} is for --backend slurm.", options=[("backend", "slurm")])
    if backend == "slurm" and dry_run:
        raise Usage(
            "--dry-run counts and times the workers of this machine, not those of a cluster.",
            without=["backend", *(name[2:].replace("-", "_") for name in slurm_options(training))],
        )
    if training.slurm_jobs < 1:
        raise Usage(
            f"--slurm-jobs {training.slurm_jobs} trains nothing.", options=[("slurm_jobs", 4)]
        )
    if (backend in REMOTE) != (address is not None):
        lacking = "--address" if address is None else "--backend dask"
        raise Usage(
            f"{lacking} is missing: a dask scheduler has an address.",
            options=[("backend", "dask"), ("address", "tcp://HOST:8786")],
        )
    if address is not None and not re.fullmatch(r"[a-z]+://\S+:\d+", address):
        raise Usage(
            f'--address "{address}" is not that of a dask scheduler.',
            facts=["It has a protocol and a port, as the scheduler prints it."],
            options=[("address", "tcp://HOST:8786")],
        )
    if dry_run and address is not None:
        raise Usage(
            "--dry-run counts and times the workers of this machine, not those of a cluster.",
            without=["backend", "address"],
        )


def slurm_options(training: Training) -> list[str]:
    """Return the options of Slurm that were given."""
    return [name for name in given_options(training) if name.startswith("--slurm")]


def _choose(name: str | None, folder: Path | None) -> tuple[str, str | None]:
    """Return the experiment, and the reason where no NAME was typed."""
    if name is not None:
        return name, None
    if folder is not None:
        return "cifar10", "No NAME was given; --data means cifar10."
    from bench.execution.devices import accelerators
    from bench.execution.server import Server

    if not accelerators():
        return "digits", "No NAME was given and there is no GPU, so the embedded digits are used."
    with Server("cifar10") as server:
        reason = server.missing(None)
    if reason is None:
        return "cifar10", "No NAME was given; there is a GPU, data and weights, so cifar10."
    return "digits", f"No NAME was given and {reason.rstrip('.')}: the embedded digits are used."
