"""`bench run`: train the arms on the same seeds, and report whether they differ."""

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from bench.analysis.errors import Refusal
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
)
from bench.commands.session import Session, first_line
from bench.terminal import label

if TYPE_CHECKING:
    from bench.analysis.study.findings import Findings
    from bench.design.plan import Plan, TrialKey
    from bench.design.results import Failure
    from bench.execution.runner import Ran


@expanded
def run(
    name: Name = None,
    *,
    design: Design,
    arms: Arms,
    vary: Annotated[
        str | None,
        panels.design(
            "--vary",
            metavar="LIST",
            help="Also vary one source alone, e.g. subset,init,order: where the spread is from.",
        ),
    ] = None,
    devices: Devices = "auto",
    training: Training,
    dry_run: Annotated[
        bool,
        panels.devices(
            "--dry-run", help="Say what is left to train and what it costs; record nothing."
        ),
    ] = False,
    data: DataFolder = None,
    recording: Recording,
    store: StoreUri = None,
    blind: Annotated[
        bool, panels.output("--blind", help="Hide the running difference until the end.")
    ] = False,
    no_report: Annotated[bool, panels.output("--no-report", help="Train and record only.")] = False,
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

    The same command again goes on where it stopped, and trains nothing twice.
    """
    from bench.commands.drafting import draft, seeds_of, varied
    from bench.execution.runner import Options

    if recording.offline:
        os.environ["BENCH_OFFLINE"] = "1"
    words, seeds = fail_words(fail_on), seeds_of(design)
    _require_able(training, dry_run=dry_run)
    options = Options(
        timeout_s=None if training.timeout is None else 60 * training.timeout,
        deadline=time.monotonic() + 3600 * (training.max_hours or float("inf")),
        fresh=recording.fresh,
        keep_going=training.keep_going,
        data_dir=data_folder(data),
    )
    session = Session(store, training, output)
    chosen, note = _choose(name, options.data_dir)
    with session.opened(chosen, train=not dry_run):
        places = session.server.slots(
            devices, per_device=training.per_device, workers=training.workers
        )
        there = session.places(places)
        mine = places if training.address is None else ()
        found, plan = draft(session.server, options.data_dir, design, arms, seeds, mine)
        plan = session.packed(plan)
        families = varied(plan, vary) if vary is not None else []
        options = replace(options, redo=_keys(recording.redo or (), plan))
        output.say(first_line(plan, note, len(there)))
        if dry_run:
            return session.rehearse([plan, *families], places, options)
        # The plan itself first: its runs tell which streams there are to vary.
        notes, streams = [note] if note else [], [family.vary for family in families]
        first = replace(options, streams=streams)
        rans = [session.train(found, plan, there, first, blind=blind, notes=notes)]
        for family in families:
            if rans[-1].unstarted:  # the time is up, or a failure repeats
                break
            others = replace(options, redo=frozenset())
            rans.append(session.train(found, family, there, others, blind=blind, notes=notes))
    findings, missing, main = None, any(map(_incomplete, rans)), rans[0]
    hidden = blind and _incomplete(main)
    if hidden and not no_report and not main.unstarted:
        later = shlex.join(["bench", "report", plan.experiment])
        output.say(
            f"No report before all pairs are done (--blind); {later} writes it all the same."
        )
    if not (no_report or hidden or main.unstarted):  # the verdict waits for what was planned
        findings = session.report(main.benchmark, failures=missing)
    elif output.as_json and not missing:
        facts = {"experiment": plan.experiment, "benchmark_id": plan.benchmark_id}
        trained = sum(ran.trained for ran in rans)
        print(json.dumps({**facts, "run_id": main.benchmark.run_id, "trained": trained}))
    all_begun = len(rans) == 1 + len(families)
    _end(rans, findings, words, command=_again(chosen, main, options.redo), all_begun=all_begun)


def _require_able(training: Training, *, dry_run: bool) -> None:
    """Refuse numbers that leave nothing to train, and a backend that is not there."""
    if training.timeout is not None and not training.timeout > 0:
        what = f"--timeout {training.timeout:g} leaves no time to train."
        raise Usage(what, options=[("timeout", 60)])
    if training.max_hours is not None and not training.max_hours > 0:
        what = f"--max-hours {training.max_hours:g} leaves no time to train."
        raise Usage(what, options=[("max_hours", 8)])
    if training.retries < 0:
        raise Usage(f"--retries {training.retries} is below 0.", options=[("retries", 1)])
    backend, address = training.backend, training.address
    if backend not in ("processes", "dask"):
        raise Usage(
            f'--backend "{backend}" is not processes or dask.', options=[("backend", "processes")]
        )
    if (backend == "dask") != (address is not None):
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


def _keys(texts: Sequence[str], plan: "Plan") -> "frozenset[TrialKey]":
    from bench.design.plan import TrialKey

    keys = set()
    for text in texts:
        seed, colon, arm = text.partition(":")
        if not colon or not re.fullmatch(r"\s*\d{1,12}\s*", seed) or arm not in plan.arms:
            raise Usage(
                f'--redo "{text}" is not SEED:ARM.',
                facts=[f"Arms: {', '.join(plan.arms)}."],
                replace=[(text, f"{plan.seeds[0]}:{plan.baseline}")],
            )
        keys.add(TrialKey(arm, int(seed)))
    return frozenset(keys)


def _again(name: str, ran: "Ran", redo: "Collection[TrialKey]") -> list[str]:
    """Return the command that goes on: what was typed, with the repeats that are still to come."""
    from bench.store.resume_command import going_on

    words = going_on(sys.argv[1:]) if sys.argv[1:2] == ["run"] else ["run", name]
    to_come = set(redo) & {*ran.unstarted, *(failure.key for failure in ran.failures)}
    for key in sorted(to_come, key=lambda key: (key.seed, key.arm)):
        words += ["--redo", f"{key.seed}:{key.arm}"]
    return ["bench", *words]


def _incomplete(ran: "Ran") -> bool:
    return bool(ran.failures or ran.lost or ran.refused or ran.unstarted)


def _end(
    rans: "Sequence[Ran]",
    findings: "Findings | None",
    words: frozenset[str],
    *,
    command: Sequence[str],
    all_begun: bool,
) -> None:
    """Choose the exit status and say what is missing."""
    from bench.analysis.data.format import count
    from bench.execution.repeats import EDITED

    failures = [(failure, _where(ran)) for ran in rans for failure in _failures(ran)]
    repeated = next((ran.repeated for ran in rans if ran.repeated), None)
    lost = [(key, _where(ran)) for ran in rans for key in ran.lost]
    unstarted = sum(len(ran.unstarted) for ran in rans)
    least = "" if all_begun else "at least "
    left = f"{least}{unstarted} {'run is' if unstarted == 1 else 'runs are'} left"
    anew: dict[str, Any] = {
        "fix": "change the experiment in both arms, then",
        "command": [*command, "--fresh"],
    }
    if failures:
        failure, where = failures[0]
        more = len(failures) - 1
        facts = [*failure.facts, *where, "The run is kept as failed and counts in the report."]
        if more:
            facts.append(f"{count(more, 'more run')} failed.")
        if failure.code == EDITED and (unstarted or not all_begun):
            facts.append(f"Nothing more was started; {left}.")
        elif repeated and (unstarted or not all_begun):
            facts.append(
                f"It failed so twice, and no training of {label(repeated.key.arm)} has succeeded: "
                f"nothing more was started; {left}. --keep-going trains on."
            )
        elif unstarted:
            facts.append(f"The time of --max-hours is up; {left}.")
        first = "undo the change" if failure.code == EDITED else "mend the cause"
        refusal = Incomplete.of(
            failure.code,
            f"{failure.key.title}: {failure.what}",
            facts=facts,
            **(anew if failure.code == "nan" else {"fix": f"{first}, then", "command": command}),
        )
        refusal.add_note(f"\nIn the training:\n{failure.traceback}")  # which -v shows
        raise refusal
    if lost:
        key, where = lost[0]
        kept = "It is kept as failed, counts in the report, and is not trained again."
        raise Incomplete.of(
            "nan",
            f"{key.title}, diverged when it was trained, and would again.",
            facts=[*where, kept],
            **anew,
        )
    if refused := [text for ran in rans for text in ran.refused]:
        more = len(refused) - 1
        facts = [f"{count(more, 'more result')} neither."] if more else []
        raise Incomplete(
            refused[0],
            facts=[*facts, "The runs are kept as failed, and the same command trains them again."],
            fix="mend the cause, then",
            command=command,
        )
    if unstarted:
        raise Incomplete(
            f"the time of --max-hours is up; {left}.",
            facts=["Everything that had finished is recorded; nothing was cut short."],
            command=command,
        )
    if findings is not None:
        fail_if(findings, words)


def _failures(ran: "Ran") -> "list[Failure]":
    """Return what failed, first what ended the training."""
    if ran.repeated is None:
        return [*ran.failures]
    return [ran.repeated, *(f for f in ran.failures if f.key != ran.repeated.key)]


def _where(ran: "Ran") -> list[str]:
    """Say of which plan a run is, where it is not the experiment's own."""
    source = ran.benchmark.plan.vary
    return [f"It is one of the runs in which {source} varies alone."] if source else []


class Incomplete(Refusal):
    """Some pairs are missing; the same command goes on."""

    code = "incomplete"
    exit_status = 3

    @classmethod
    def of(cls, code: str, what: str, **told: Any) -> "Incomplete":
        """Return one that carries the failure's own code."""
        refusal = cls(what, **told)
        refusal.code = code
        return refusal
