"""One `bench run`: opens the store and the workers, trains its plans in turn, and reports."""

import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.commands.common import opened, publish
from bench.commands.options import Output, Training
from bench.terminal import show, wrapped

if TYPE_CHECKING:
    from bench.analysis.study.findings import Findings
    from bench.design.loading import Discovered
    from bench.design.plan import Plan, TrialKey
    from bench.execution.base import Executor
    from bench.execution.dask_cluster import Cluster
    from bench.execution.devices import Slot
    from bench.execution.runner import Options, Ran
    from bench.execution.server import Server
    from bench.store.base import Store
    from bench.store.runs import Benchmark


class Session:
    """One `bench run`: the store, the workers and what is said meanwhile."""

    server: "Server"

    def __init__(self, uri: str | None, training: Training, output: Output) -> None:
        self.uri, self.training, self.output = uri, training, output
        self.store: Store | None = None
        self.remote: Cluster | None = None

    def opened(self, name: str, *, train: bool) -> contextlib.ExitStack:
        """Start the process that imports the experiment, and reach the cluster.

        Parameters
        ----------
        train : else it is only asked about the experiment
        """
        from bench.execution.server import Server

        with contextlib.ExitStack() as stack:
            self.server = stack.enter_context(Server(name))
            if train and self.training.address is not None:
                from bench.execution.dask_cluster import Cluster

                self.remote = stack.enter_context(
                    Cluster(self.training.address, retries=self.training.retries)
                )
            return stack.pop_all()

    def places(self, mine: Sequence["Slot"]) -> Sequence["Slot"]:
        """Return where it will train: on the cluster, or on this machine."""
        return mine if self.remote is None else self.remote.places

    def packed(self, plan: "Plan") -> "Plan":
        """Return the plan with packs that fit the cluster's devices: only its workers can tell."""
        if self.remote is None or self.server.found.experiment.pack_seeds is not None:
            return plan
        return replace(plan, pack_seeds=self.remote.pack_seeds(self.server.found, plan.arms))

    def train(
        self,
        found: "Discovered",
        plan: "Plan",
        places: Sequence["Slot"],
        options: "Options",
        *,
        blind: bool,
        notes: Sequence[str],
    ) -> "Ran":
        """Train what a plan still needs, and show how it goes."""
        from bench.display.choose import progress
        from bench.display.status import as_recorded, begins_anew, late_modules_changed
        from bench.execution import provenance, runner
        from bench.execution.processes import Processes
        from bench.execution.stopping import looker
        from bench.store.mlflow_store import Store

        self.store = opened(Store(self.uri), self.output.say)
        plan = as_recorded(self.store, plan, found.source)
        benchmark = self.store.find(plan.benchmark_id, plan.experiment)
        changed = late_modules_changed(self.store, benchmark, self.server.digests)
        news = None if options.fresh else begins_anew(self.store, plan, changed)
        if news is not None:
            self.output.say(wrapped(news))
            notes = [*notes, news]
        options = replace(options, fresh=options.fresh or bool(changed))
        command = ["bench", *sys.argv[1:]]
        mine = places if self.training.address is None else ()
        facts = provenance.collect(command, Path(found.file), mine)
        executor: Executor
        if self.training.address is not None:
            from bench.execution.dask_cluster import Cluster

            # a second plan reaches the cluster anew: whoever trains closes what it trained with
            remote, self.remote = (
                self.remote or Cluster(self.training.address, retries=self.training.retries),
                None,
            )
            executor = remote
            facts |= {"devices": list(remote.devices), "threads": places[0].threads}
        else:
            self.server.get_ready(places[0].threads)
            executor = Processes(self.server, places, retries=self.training.retries)
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

    def rehearse(
        self,
        plans: "Sequence[Plan]",
        places: Sequence["Slot"],
        options: "Options",
    ) -> None:
        """Say what the plans cost, the first with its runs to repeat; nothing is recorded."""
        from bench.display.status import as_recorded, late_modules_changed
        from bench.execution.dry_run import rehearse
        from bench.store.address import may_hold_runs
        from bench.store.mlflow_store import Store

        store = Store(self.uri) if may_hold_runs(self.uri) else None
        left, durations = [], list[float]()
        for typed in plans:
            plan = as_recorded(store, typed, self.server.found.source) if store else typed
            benchmark = store.find(plan.benchmark_id, plan.experiment) if store else None
            if store is not None and late_modules_changed(store, benchmark, self.server.digests):
                benchmark = None  # it begins anew
            settled: set[TrialKey] = set()
            if store is not None and benchmark is not None:
                done, diverged = store.settled(benchmark)
                tags = (child.run.tags for child in done.values())
                durations += [float(t["bench.duration_s"]) for t in tags if "bench.duration_s" in t]
                settled = set() if options.fresh else {*done, *diverged}
                known = set(plan.seeds) <= set(benchmark.plan.seeds)
                by_rule = benchmark.stopped_at is not None
                if known and by_rule and not options.fresh:
                    settled |= set(plan.trials())
            left.append((plan, settled - set(options.redo if typed is plans[0] else ())))
        cost = rehearse(left, self.server, places, options, durations=durations)
        show(json.dumps(cost.as_dict()) if self.output.as_json else cost.text())

    def report(self, benchmark: "Benchmark", *, failures: bool) -> "Findings | None":
        """Write the report and print it; None where failures left nothing to compare."""
        from bench.analysis.data.tables import BadTables

        if self.store is None:
            raise RuntimeError("a report was asked for before anything was recorded")
        try:
            silent = self.output.as_json and failures  # stdout is one object: the error
            return publish(self.store, benchmark, as_json=self.output.as_json, silent=silent)
        except BadTables:
            if failures:  # nothing to compare yet; the failures themselves are shown instead
                return None
            raise


def first_line(plan: "Plan", note: str | None, workers: int) -> str:
    """Say which gain these seeds can detect, before anything is trained."""
    from bench.analysis.data.format import count, magnitude, suffix
    from bench.analysis.inference.power import seeds_for
    from bench.analysis.study.verdict import FEWEST_PAIRS
    from bench.design.sample_size import ASSUMED_SD, gain_of, unit_of

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
        f"{count(n, 'seed')} × {len(plan.arms)} arms",
        count(workers, "worker"),
        f"plan {plan.hash[:7]}",
    ]
    second = "   ".join(part.replace(" ", "\xa0") for part in parts)  # a part stays in one piece
    return wrapped(f"{first}\n{second}").replace("\xa0", " ")
