"""One `bench run`: opens the store and the workers, trains its plans in turn, and reports.

It is imported when a training is asked for: no other command needs what it takes.
"""

import contextlib
import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.analysis.data.format import count, magnitude, suffix
from bench.analysis.data.tables import BadTables
from bench.analysis.errors import Refusal
from bench.analysis.inference.power import seeds_for
from bench.analysis.study.findings import Findings
from bench.analysis.study.verdict import FEWEST_PAIRS
from bench.commands.common import Usage, opened, publish
from bench.commands.options import Output, Recording, Training
from bench.design.description import Discovered
from bench.design.plan import Plan, TrialKey
from bench.design.results import Failure
from bench.design.sample_size import ASSUMED_SD, gain_of, unit_of
from bench.display.choose import progress
from bench.display.status import as_recorded, begins_anew, late_modules_changed
from bench.execution import provenance, runner, slurm
from bench.execution.base import Executor, Options
from bench.execution.dask_cluster import Cluster
from bench.execution.devices import Slot
from bench.execution.dry_run import rehearse
from bench.execution.executors import LOCAL, REMOTE, SHARED
from bench.execution.repeats import EDITED
from bench.execution.runner import Ran
from bench.execution.server import Server
from bench.execution.stopping import looker
from bench.store.address import may_hold_runs
from bench.store.base import Store
from bench.store.runs import Benchmark
from bench.store.typed_command import going_on
from bench.terminal import label, show, wait_for, wrapped


class Session:
    """One `bench run`: the store, the workers and what is said meanwhile."""

    server: Server
    store: Store  # that was trained into
    words: Sequence[str]  # of the command that trains the same

    def __init__(
        self, uri: str | None, training: Training, recording: Recording, output: Output
    ) -> None:
        self.uri, self.training, self.recording, self.output = uri, training, recording, output
        self.remote: Cluster | None = None

    @contextlib.contextmanager
    def opened(self, name: str, *, train: bool) -> Iterator[None]:
        """Start the process that imports the experiment, and reach the cluster.

        Parameters
        ----------
        train : else it is only asked about the experiment
        """
        with Server(name) as self.server, contextlib.ExitStack() as stack:
            if train and self.training.address is not None:
                self.remote = stack.enter_context(self._cluster(self.training.address))
            yield

    def _cluster(self, address: str) -> Cluster:
        return REMOTE[self.training.backend](address, retries=self.training.retries)

    def _asked_of_slurm(self) -> slurm.Ask:
        said = self.training
        return slurm.Ask(
            jobs=said.slurm_jobs,
            partition=said.slurm_partition,
            account=said.slurm_account,
            minutes=said.slurm_time,
            gres=said.slurm_gres,
        )

    def places(self, mine: Sequence[Slot]) -> Sequence[Slot]:
        """Return where it will train: on the cluster, or on this machine."""
        if self.training.backend in SHARED:
            return slurm.places(self._asked_of_slurm())
        return mine if self.remote is None else self.remote.places

    def packed(self, plan: Plan) -> Plan:
        """Return the plan with packs that fit the cluster's devices: only its workers can tell."""
        if self.remote is None or self.server.found.experiment.pack_seeds is not None:
            return plan
        return replace(plan, pack_seeds=self.remote.pack_seeds(self.server.found, plan.arms))

    def train(
        self,
        found: Discovered,
        plan: Plan,
        places: Sequence[Slot],
        options: Options,
        *,
        blind: bool,
        notes: Sequence[str],
    ) -> Ran:
        """Train what a plan still needs, and show how it goes."""
        from bench.store.mlflow_store import Store as MlflowStore

        wait_for("opening the store")
        self.store = opened(MlflowStore(self.uri), self.output.say)
        plan, benchmark, changed = self._as_recorded(self.store, plan)
        news = self._news(self.store, benchmark, plan, changed, options)
        notes = [*notes, *news]
        options = replace(options, fresh=options.fresh or bool(changed))
        local = self.training.address is None and self.training.backend in LOCAL
        mine = places if local else ()
        facts = provenance.collect(["bench", *self.words], Path(found.file), mine)
        executor: Executor
        if self.training.address is not None:
            # a second plan reaches the cluster anew: whoever trains closes what it trained with
            executor = remote = self.remote or self._cluster(self.training.address)
            self.remote = None
            facts |= {"devices": list(remote.devices), "threads": places[0].threads}
        elif self.training.backend in SHARED:
            folder = slurm.shared_folder(plan.benchmark_id)
            executor = jobs = SHARED[self.training.backend](
                folder, found.reference, self._asked_of_slurm(), retries=self.training.retries
            )
            facts |= {"devices": jobs.devices}
        else:
            self.server.get_ready(places[0].threads)
            train = LOCAL[self.training.backend]
            executor = train(self.server, places, retries=self.training.retries)
        ran = runner.run(
            plan,
            found,
            store=self.store,
            options=options,
            provenance={**facts, "notes": list(notes)},
            watcher=progress(
                quiet=self.output.quiet or self.output.as_json, workers=len(places), blind=blind
            ),
            look=looker(plan),
            executor=executor,
        )
        if options.streams and not ran.trained:  # what was recorded earlier tells it as well
            recorded = self.store.tables(ran.benchmark).trials
            for drawn in recorded.facts[recorded.status == "finished"]:
                runner.require_drawn(options.streams, json.loads(drawn))
        return ran

    def _as_recorded(
        self, store: Store, typed: Plan
    ) -> tuple[Plan, Benchmark | None, Sequence[str]]:
        """Return a plan, its benchmark, and which late modules of that have changed since."""
        plan, benchmark = as_recorded(store, typed, self.server.found.source)
        return plan, benchmark, late_modules_changed(store, benchmark, self.server.digests)

    def _news(
        self,
        store: Store,
        benchmark: Benchmark | None,
        plan: Plan,
        late: Sequence[str],
        options: Options,
    ) -> list[str]:
        """Say, and return, why a plan begins a new benchmark, if it does."""
        news = None if options.fresh else begins_anew(store, benchmark, plan, late)
        if news is None:
            return []
        self.output.say(wrapped(news))
        return [news]

    def rehearse(
        self,
        plans: Sequence[Plan],
        places: Sequence[Slot],
        options: Options,
    ) -> None:
        """Say what the plans cost, the first with its runs to repeat; nothing is recorded."""
        from bench.store.mlflow_store import Store as MlflowStore

        store = MlflowStore(self.uri) if may_hold_runs(self.uri) else None
        left, durations = [], list[float]()
        for typed in plans:
            plan, benchmark, settled = typed, None, set[TrialKey]()
            if store is not None:
                plan, benchmark, changed = self._as_recorded(store, typed)
                self._news(store, benchmark, plan, changed, options)
                benchmark = None if changed else benchmark  # else it begins anew
            if store is not None and benchmark is not None:
                done, diverged = store.settled(benchmark)
                tags = (child.run.tags for child in done.values())
                durations += [float(t["bench.duration_s"]) for t in tags if "bench.duration_s" in t]
                known = set(plan.seeds) <= set(benchmark.plan.seeds)
                if known and benchmark.stopped_at is not None:
                    settled = set(plan.trials())
                settled |= {*done, *diverged}
            settled = set() if options.fresh else settled
            left.append((plan, settled - set(options.redo if typed is plans[0] else ())))
        cost = rehearse(left, self.server, places, options, durations=durations)
        show(json.dumps(cost.as_dict()) if self.output.as_json else cost.text())

    def report(
        self, benchmark: Benchmark, *, failures: bool, source: bool = False
    ) -> Findings | None:
        """Write the report and print it; None where failures left nothing to compare."""
        wait_for("writing the report")
        try:
            # stdout is one object: the error
            silent = self.output.silent or (self.output.as_json and failures)
            return publish(
                self.store,
                benchmark,
                as_json=self.output.as_json,
                silent=silent,
                source=source,
            )
        except BadTables:
            if failures:  # nothing to compare yet; the failures themselves are shown instead
                return None
            raise


def first_line(plan: Plan, note: str | None, workers: int) -> str:
    """Say which gain these seeds can detect, before anything is trained."""
    n, unit = len(plan.seeds), unit_of(plan.metric)
    gain = gain_of(n, unit)
    first = f"{f'{note} ' if note else ''}{plan.experiment}: {gain.text()}"
    target = plan.claim or plan.margin
    needed = seeds_for(abs(target), ASSUMED_SD) if target and gain.value is not None else None
    if target and needed:
        first += f"; {magnitude(target, unit)}{suffix(unit)} takes {max(FEWEST_PAIRS, needed):,}"
    first += "."
    data = plan.data.get("name")
    parts = [plan.experiment, *([str(data)] if data else [])]
    parts += [
        f"{count(n, 'seed')} × {len(plan.arms)} arms{_on(plan)}",
        count(workers, "worker"),
        f"plan {plan.hash[:7]}",
    ]
    second = "   ".join(part.replace(" ", "\xa0") for part in parts)  # a part stays in one piece
    return wrapped(f"{first}\n{second}").replace("\xa0", " ")


def _on(plan: Plan) -> str:
    return f" × {len(plan.datasets)} data sets" if plan.datasets else ""


def keys_of(texts: Sequence[str], plan: Plan) -> frozenset[TrialKey]:
    """Return the trials of --redo SEED:ARM, or SEED:ARM:DATASET where there are several."""
    keys = set()
    for text in texts:
        seed, colon, arm = text.partition(":")
        dataset = ""
        if plan.datasets:
            arm, _, dataset = arm.rpartition(":")
        known = arm in plan.arms and dataset in (plan.datasets or ("",))
        if not colon or not re.fullmatch(r"\s*\d{1,12}\s*", seed) or not known:
            sets = [f"Data sets: {', '.join(plan.datasets)}."] if plan.datasets else []
            raise Usage(
                f'--redo "{text}" is not SEED:ARM{":DATASET" if plan.datasets else ""}.',
                facts=[f"Arms: {', '.join(plan.arms)}.", *sets],
                replace=[(text, plan.trials()[0].typed)],
            )
        keys.add(TrialKey(arm, int(seed), dataset))
    return frozenset(keys)


def resume_command(typed: Sequence[str], ran: Ran, redo: Collection[TrialKey]) -> list[str]:
    """Return the command that goes on: what was typed, with the repeats that are still to come."""
    words = going_on(typed)
    to_come = set(redo) & {*ran.unstarted, *(failure.key for failure in ran.failures)}
    for key in sorted(to_come, key=lambda key: (key.seed, key.arm, key.dataset)):
        words += ["--redo", key.typed]
    return ["bench", *words]


def incomplete(ran: Ran) -> bool:
    """Tell whether something of a plan is missing."""
    return bool(ran.failures or ran.lost or ran.refused or ran.unstarted)


def end(rans: Sequence[Ran], *, command: Sequence[str], all_begun: bool) -> None:
    """Refuse to call a run complete in which something is missing.

    Parameters
    ----------
    command : what goes on; empty where Python asked, which calls the same again
    """
    failures = [(failure, _where(ran)) for ran in rans for failure in _failures(ran)]
    repeated = next((ran.repeated for ran in rans if ran.repeated), None)
    lost = [(key, _where(ran)) for ran in rans for key in ran.lost]
    unstarted = sum(len(ran.unstarted) for ran in rans)
    least = "" if all_begun else "at least "
    left = f"{least}{unstarted} {'run is' if unstarted == 1 else 'runs are'} left"
    anew: dict[str, Any] = {
        "fix": "change the experiment in both arms, then",
        **({"command": [*command, "--fresh"]} if command else {"options": [("fresh", True)]}),
    }
    again: dict[str, Any] = {"command": command} if command else {"fix": "the same call"}
    mended = "then" if command else "then the same call"
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
            **(
                anew if failure.code == "nan" else {"fix": f"{first}, {mended}", "command": command}
            ),
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
            fix=f"mend the cause, {mended}",
            command=command,
        )
    if unstarted:
        raise Incomplete(
            f"the time of --max-hours is up; {left}.",
            facts=["Everything that had finished is recorded; nothing was cut short."],
            **again,
        )


def _failures(ran: Ran) -> list[Failure]:
    """Return what failed, first what ended the training."""
    if ran.repeated is None:
        return [*ran.failures]
    return [ran.repeated, *(f for f in ran.failures if f.key != ran.repeated.key)]


def _where(ran: Ran) -> list[str]:
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
