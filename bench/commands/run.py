"""`bench run`: train the arms on the same seeds, and report whether they differ."""

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from bench.analysis.errors import Refusal
from bench.commands.common import Usage, data_folder, fail_if, fail_words
from bench.commands.options import (
    DESIGN,
    DEVICES,
    OUTPUT,
    STORE,
    AsJson,
    DataFolder,
    FailOn,
    Name,
    NoColor,
    Quiet,
    StoreUri,
    Verbose,
    one_of,
)
from bench.commands.parser import Option
from bench.commands.session import Session, first_line
from bench.terminal import label

if TYPE_CHECKING:
    from bench.analysis.study.findings import Findings
    from bench.design.plan import Plan, TrialKey
    from bench.design.results import Failure
    from bench.execution.runner import Ran


def run(
    name: Name = None,
    seeds: Annotated[
        str,
        Option(
            "--seeds", "-s", metavar="N|LIST", rich_help_panel=DESIGN, help="20, 0-19 or 0,3,7."
        ),
    ] = "20",
    margin: Annotated[
        float | None,
        Option(
            rich_help_panel=DESIGN,
            metavar="X",
            help="Smallest difference worth having, pp for accuracies (default: the experiment's).",
        ),
    ] = None,
    claim: Annotated[
        float | None,
        Option(
            rich_help_panel=DESIGN,
            metavar="PP",
            help="Gain to check, e.g. 0.30 (default: the experiment's).",
        ),
    ] = None,
    scope: Annotated[
        str,
        Option(
            rich_help_panel=DESIGN,
            metavar="WHAT",
            autocompletion=one_of("seeds-and-examples", "seeds"),
            help="seeds-and-examples, or seeds (this test set only).",
        ),
    ] = "seeds-and-examples",
    stop: Annotated[
        str,
        Option(
            rich_help_panel=DESIGN,
            metavar="RULE",
            autocompletion=one_of("fixed", "group", "anytime"),
            help="fixed, group (three planned looks) or anytime: when to stop.",
        ),
    ] = "fixed",
    max_seeds: Annotated[
        int | None,
        Option(rich_help_panel=DESIGN, metavar="N", help="Most seeds under group and anytime."),
    ] = None,
    aa: Annotated[
        bool,
        Option(
            "--aa",
            rich_help_panel=DESIGN,
            help="The baseline against itself: nothing should be found.",
        ),
    ] = False,
    vary: Annotated[
        str | None,
        Option(
            rich_help_panel=DESIGN,
            metavar="LIST",
            help="Also vary one source alone, e.g. subset,init,order: where the spread is from.",
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        Option(
            "--set",
            metavar="KEY=VALUE",
            rich_help_panel=DESIGN,
            help="Change a setting of every arm; repeatable.",
        ),
    ] = None,
    arm: Annotated[
        list[str] | None,
        Option(
            metavar="NAME:K=V",
            rich_help_panel=DESIGN,
            help="Add a treatment arm; repeatable.",
        ),
    ] = None,
    devices: Annotated[
        str,
        Option(metavar="LIST", rich_help_panel=DEVICES, help="auto, cpu, or GPUs 0,1."),
    ] = "auto",
    per_device: Annotated[
        int,
        Option(metavar="N", rich_help_panel=DEVICES, help="Runs at once on each GPU."),
    ] = 1,
    workers: Annotated[
        int | None,
        Option(
            metavar="N",
            rich_help_panel=DEVICES,
            help="CPU workers, one thread each (default: one a core).",
        ),
    ] = None,
    backend: Annotated[
        str,
        Option(metavar="NAME", rich_help_panel=DEVICES, help="processes (this machine) or dask."),
    ] = "processes",
    address: Annotated[
        str | None,
        Option(
            metavar="URI", rich_help_panel=DEVICES, help="The dask scheduler's: tcp://HOST:8786."
        ),
    ] = None,
    retries: Annotated[
        int,
        Option(metavar="N", rich_help_panel=DEVICES, help="After out-of-memory or a crash."),
    ] = 1,
    timeout: Annotated[
        float | None,
        Option(metavar="MIN", rich_help_panel=DEVICES, help="A run that takes longer has failed."),
    ] = None,
    keep_going: Annotated[
        bool,
        Option(
            "--keep-going",
            rich_help_panel=DEVICES,
            help="Train on after a failure that repeats before anything succeeds.",
        ),
    ] = False,
    max_hours: Annotated[
        float | None,
        Option(metavar="H", rich_help_panel=DEVICES, help="Start nothing new after so many hours."),
    ] = None,
    data: DataFolder = None,
    offline: Annotated[
        bool, Option("--offline", rich_help_panel=STORE, help="Download nothing.")
    ] = False,
    store: StoreUri = None,
    fresh: Annotated[
        bool,
        Option("--fresh", rich_help_panel=STORE, help="Start anew; nothing is overwritten."),
    ] = False,
    redo: Annotated[
        list[str] | None,
        Option(
            metavar="SEED:ARM",
            rich_help_panel=STORE,
            help="Repeat one run; the old one is kept and marked.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        Option(
            "--dry-run",
            rich_help_panel=DEVICES,
            help="Say what is left to train and what it costs; record nothing.",
        ),
    ] = False,
    blind: Annotated[
        bool,
        Option(
            "--blind", rich_help_panel=OUTPUT, help="Hide the running difference until the end."
        ),
    ] = False,
    no_report: Annotated[
        bool, Option("--no-report", rich_help_panel=OUTPUT, help="Train and record only.")
    ] = False,
    fail_on: FailOn = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
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
    from bench.commands.drafting import Typed, draft, seeds_of, varied

    if offline:
        os.environ["BENCH_OFFLINE"] = "1"
    words = fail_words(fail_on)
    typed = Typed(
        seeds=seeds,
        margin=margin,
        claim=claim,
        scope=scope,
        stop=stop,
        max_seeds=max_seeds,
        aa=aa,
        settings=setting or (),
        arms=arm or (),
    )
    seeds_of(typed)
    _require_backend(backend, address, dry_run=dry_run)
    if timeout is not None and not timeout > 0:
        raise Usage(f"--timeout {timeout:g} leaves no time to train.", options=[("timeout", 60)])
    if max_hours is not None and not max_hours > 0:
        raise Usage(
            f"--max-hours {max_hours:g} leaves no time to train.", options=[("max_hours", 8)]
        )
    deadline = time.monotonic() + 3600 * (max_hours or float("inf"))
    if retries < 0:
        raise Usage(f"--retries {retries} is below 0.", options=[("retries", 1)])
    folder = data_folder(data)
    session = Session(store, quiet=quiet or as_json, cluster=address, retries=retries)
    chosen, note = _choose(name, folder)
    with session.opened(chosen, train=not dry_run):
        places = session.server.slots(devices, per_device=per_device, workers=workers)
        there = session.places(places)
        found, plan = draft(session.server, folder, typed, places if address is None else ())
        plan = session.packed(plan)
        families = varied(plan, vary) if vary is not None else []
        repeated = _keys(redo or (), plan)
        session.say(first_line(plan, note, len(there)))
        if dry_run:
            return session.rehearse(
                [plan, *families],
                places,
                folder=folder,
                redo=repeated,
                fresh=fresh,
                as_json=as_json,
            )
        # The plan itself first: its runs tell which streams there are to vary.
        rans: list[Ran] = []
        for each in [plan, *families]:
            ran = session.train(
                found,
                each,
                there,
                folder=folder,
                timeout_s=None if timeout is None else 60 * timeout,
                deadline=deadline,
                redo=repeated if each is plan else frozenset(),
                streams=[family.vary for family in families] if each is plan else (),
                fresh=fresh,
                blind=blind,
                keep_going=keep_going,
                notes=[note] if note else [],
            )
            rans.append(ran)
            if ran.unstarted:  # the time is up, or a failure repeats
                break
    findings, missing, main = None, any(map(_incomplete, rans)), rans[0]
    hidden = blind and _incomplete(main)
    if hidden and not no_report and not main.unstarted:
        later = shlex.join(["bench", "report", plan.experiment])
        session.say(
            f"No report before all pairs are done (--blind); {later} writes it all the same."
        )
    if not (no_report or hidden or main.unstarted):  # the verdict waits for what was planned
        findings = session.report(main.benchmark, as_json=as_json, failures=missing)
    elif as_json and not missing:
        facts = {"experiment": plan.experiment, "benchmark_id": plan.benchmark_id}
        trained = sum(ran.trained for ran in rans)
        print(json.dumps({**facts, "run_id": main.benchmark.run_id, "trained": trained}))
    all_begun = len(rans) == 1 + len(families)
    _end(rans, findings, words, command=_again(chosen, main, repeated), all_begun=all_begun)


def _require_backend(backend: str, address: str | None, *, dry_run: bool) -> None:
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


def _again(name: str, ran: "Ran", redo: "frozenset[TrialKey]") -> list[str]:
    """Return the command that goes on: what was typed, with the repeats that are still to come."""
    from bench.store.resume_command import going_on

    words = going_on(sys.argv[1:]) if sys.argv[1:2] == ["run"] else ["run", name]
    to_come = redo & {*ran.unstarted, *(failure.key for failure in ran.failures)}
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
