"""`bench run`: train the arms on the same seeds, and report whether they differ."""

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from analysis.errors import Refusal
from bench.commands.common import Usage, data_folder, fail_if, fail_words
from bench.commands.options import (
    DESIGN,
    DEVICES,
    OUTPUT,
    STORE,
    AsJson,
    FailOn,
    Name,
    NoColor,
    Quiet,
    StoreUri,
    Verbose,
    one_of,
)
from bench.commands.parser import Option
from bench.session import Session, first_line

if TYPE_CHECKING:
    from analysis.findings import Findings
    from bench.plan import Plan, TrialKey
    from bench.runner import Ran


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
        Option(metavar="NAME", rich_help_panel=DEVICES, help="loky (this machine) or dask."),
    ] = "loky",
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
    max_hours: Annotated[
        float | None,
        Option(metavar="H", rich_help_panel=DEVICES, help="Start nothing new after so many hours."),
    ] = None,
    data: Annotated[
        Path | None,
        Option(metavar="DIR", rich_help_panel=STORE, help="Folder with the data set."),
    ] = None,
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
    from bench.devices import slots
    from bench.drafting import Typed, draft, seeds_of, varied

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
    wanted = seeds_of(typed)
    _require_backend(backend, address)
    if timeout is not None and not timeout > 0:
        raise Usage(f"--timeout {timeout:g} leaves no time to train.", fix="--timeout 60")
    if max_hours is not None and not max_hours > 0:
        raise Usage(f"--max-hours {max_hours:g} leaves no time to train.", fix="--max-hours 8")
    deadline = time.monotonic() + 3600 * (max_hours or float("inf"))
    if retries < 0:
        raise Usage(f"--retries {retries} is below 0.", fix="--retries 1")
    folder = data_folder(data)
    places = slots(devices, per_device=per_device, workers=workers)
    chosen, note = _choose(name, folder)
    session = Session(store, quiet=quiet or as_json, cluster=address)
    with session.warmed(chosen, places[: 4 * len(wanted)], retries):
        there = session.places(places)
        devices_here = {place.device for place in places} if address is None else ()
        found, plan = draft(chosen, folder, typed, devices_here)
        plan = session.packed(found, plan)
        plans = [*(varied(plan, vary) if vary is not None else ()), plan]
        repeated = _keys(redo or (), plan)
        session.say(first_line(plan, note, len(there)))
        if dry_run:  # timed here, also for a cluster
            timed = places if address is None else places[:1] * len(there)
            return session.rehearse(found, plan, timed, folder=folder, as_json=as_json)
        for each in plans:
            ran = session.train(
                found,
                each,
                there,
                folder=folder,
                retries=retries,
                timeout_s=None if timeout is None else 60 * timeout,
                deadline=deadline,
                redo=repeated if each is plan else frozenset(),
                fresh=fresh,
                blind=blind,
                notes=[note] if note else [],
            )
            if ran.failures or ran.lost or ran.unstarted:
                break
    findings, missing = None, bool(ran.failures or ran.lost or ran.unstarted)
    if not no_report and not ran.unstarted:  # the verdict waits for what was planned
        findings = session.report(ran.benchmark, as_json=as_json, failures=missing)
    elif as_json and not missing:
        facts = {"experiment": plan.experiment, "benchmark_id": plan.benchmark_id}
        print(json.dumps({**facts, "run_id": ran.benchmark.run_id, "trained": ran.trained}))
    _end(ran, findings, words, command=_again(chosen))


def _require_backend(backend: str, address: str | None) -> None:
    if backend not in ("loky", "dask"):
        raise Usage(f'--backend "{backend}" is not loky or dask.', fix="--backend dask")
    if (backend == "dask") != (address is not None):
        lacking = "--address" if address is None else "--backend dask"
        raise Usage(
            f"{lacking} is missing: a dask scheduler has an address.",
            fix="--backend dask --address tcp://HOST:8786",
        )


def _choose(name: str | None, folder: Path | None) -> tuple[str, str | None]:
    """Return the experiment, and the reason where no NAME was typed."""
    if name is not None:
        return name, None
    if folder is not None:
        return "cifar10", "No NAME was given; --data means cifar10."
    from bench.devices import accelerators

    if not accelerators():
        return "digits", "No NAME was given and there is no GPU, so the embedded digits are used."
    from experiments.cifar10 import ready

    reason = ready(None)
    if reason is None:
        return "cifar10", "No NAME was given; there is a GPU, data and weights, so cifar10."
    return "digits", f"No NAME was given and {reason.rstrip('.')}: the embedded digits are used."


def _keys(texts: Sequence[str], plan: "Plan") -> "frozenset[TrialKey]":
    from bench.plan import TrialKey

    keys = set()
    for text in texts:
        seed, colon, arm = text.partition(":")
        if not colon or not re.fullmatch(r"\s*\d{1,12}\s*", seed) or arm not in plan.arms:
            raise Usage(
                f'--redo "{text}" is not SEED:ARM.',
                facts=[f"Arms: {', '.join(plan.arms)}."],
                fix=f"--redo {plan.seeds[0]}:{plan.baseline}",
            )
        keys.add(TrialKey(arm, int(seed)))
    return frozenset(keys)


def _again(name: str) -> str:
    """Return the command that goes on: the one that was typed, at its safest."""
    words = sys.argv[1:] if sys.argv[1:2] == ["run"] else ["run", name]
    return shlex.join(["bench", *words])


def _end(ran: "Ran", findings: "Findings | None", words: frozenset[str], *, command: str) -> None:
    """Choose the exit status and say what is missing."""
    if ran.failures:
        failure = ran.failures[0]
        more = len(ran.failures) - 1
        facts = [*failure.facts, "The run is kept as failed and counts in the report."]
        if more:
            facts.append(f"{more} more {'run' if more == 1 else 'runs'} failed.")
        if ran.unstarted:
            facts.append(f"The time of --max-hours is up; {_left(ran)}.")
        fix = (
            f"change the experiment in both arms, then {command} --fresh"
            if failure.code == "nan"
            else f"mend the cause, then {command}"
        )
        raise Incomplete.of(
            failure.code,
            f"seed {failure.key.seed:02d}, {failure.key.arm}: {failure.what}",
            facts=facts,
            fix=fix,
        )
    if ran.lost:
        key = ran.lost[0]
        raise Incomplete.of(
            "nan",
            f"seed {key.seed:02d}, {key.arm}, diverged when it was trained, and would again.",
            facts=["It is kept as failed, counts in the report, and is not trained again."],
            fix=f"change the experiment in both arms, then {command} --fresh",
        )
    if ran.unstarted:
        raise Incomplete(
            f"the time of --max-hours is up; {_left(ran)}.",
            facts=["Everything that had finished is recorded; nothing was cut short."],
            fix=command,
        )
    if findings is not None:
        fail_if(findings, words)


def _left(ran: "Ran") -> str:
    """Say how many runs were not started; plans that vary one source are followed by others."""
    n = len(ran.unstarted)
    least = "at least " if ran.benchmark.plan.vary else ""
    return f"{least}{n} {'run is' if n == 1 else 'runs are'} left"


class Incomplete(Refusal):
    """Some pairs are missing; the same command goes on."""

    code = "incomplete"
    exit_status = 3

    @classmethod
    def of(cls, code: str, what: str, *, facts: Sequence[str], fix: str) -> "Incomplete":
        """Return one that carries the failure's own code."""
        refusal = cls(what, facts=facts, fix=fix)
        refusal.code = code
        return refusal
