"""One `bench run`: the store, the workers, the plans in turn, the report."""

import json
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.showing import opened, publish

if TYPE_CHECKING:
    from analysis.findings import Findings
    from bench.discover import Discovered
    from bench.plan import Plan, TrialKey
    from bench.records import Benchmark
    from bench.runner import Ran
    from bench.tracking import Store


class Session:
    """One `bench run`: the store, the workers and what is said meanwhile."""

    def __init__(self, uri: str | None, *, quiet: bool, cluster: str | None = None) -> None:
        self.uri, self.quiet, self.cluster = uri, quiet, cluster
        self.store: Store | None = None
        self.pool: Any = None

    def say(self, text: str) -> None:
        """Tell the terminal, unless it shall be quiet."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def warmed(self, name: str, places: Sequence[Any], retries: int) -> Any:
        """Reach the cluster, or start the workers at once where nothing can be finished yet.

        Their imports take seconds.
        """
        import contextlib

        from bench.address import may_hold_runs
        from bench.discover import reference_of

        reference = reference_of(name)  # a name that does not exist starts no workers
        stack = contextlib.ExitStack()
        if self.cluster is not None:
            from bench.cluster import Cluster

            self.pool = stack.enter_context(Cluster(self.cluster, retries=retries))
        elif places and not may_hold_runs(self.uri):
            from bench.pool import Pool

            self.pool = stack.enter_context(Pool(places, retries=retries))
            self.pool.warm(reference)
        return stack

    def places(self, mine: Sequence[Any]) -> Sequence[Any]:
        """Return where it will train: on the cluster, or on this machine."""
        return mine if self.cluster is None else self.pool.places

    def packed(self, found: "Discovered", plan: "Plan") -> "Plan":
        """Return the plan with packs that fit the cluster's devices: only its workers can tell."""
        if self.cluster is None or not plan.pack_seeds:
            return plan
        if not callable(found.experiment.pack_seeds):
            return plan
        return replace(plan, pack_seeds=self.pool.pack_seeds(found.reference, plan.arms))

    def train(
        self,
        found: "Discovered",
        plan: "Plan",
        places: Sequence[Any],
        *,
        folder: Path | None,
        retries: int,
        timeout_s: float | None,
        deadline: float,
        redo: "frozenset[TrialKey]",
        streams: Sequence[str],
        fresh: bool,
        blind: bool,
        notes: list[str],
    ) -> "Ran":
        """Train what a plan still needs, and show how it goes."""
        from bench import provenance, runner
        from bench.discover import file_of
        from bench.progress import progress
        from bench.status import begins_anew
        from bench.stopping import looker
        from bench.tracking import Store

        self.store = opened(Store(self.uri), self.say)
        if not fresh and (news := begins_anew(self.store, plan)):
            self.say(textwrap.fill(news, 80, subsequent_indent="  "))
            notes = [*notes, news]
        options = runner.Options(
            slots=places,
            data_dir=folder,
            retries=retries,
            timeout_s=timeout_s,
            deadline=deadline,
            redo=redo,
            streams=streams,
            fresh=fresh,
        )
        pool, self.pool = self.pool, None  # a second plan starts its own workers
        command = ["bench", *sys.argv[1:]]
        mine = places if self.cluster is None else ()
        facts = provenance.collect(command, file_of(found.reference), mine)
        if self.cluster is not None:
            from bench.cluster import Cluster

            pool = pool or Cluster(self.cluster, retries=retries)
            facts |= {"devices": list(pool.devices), "threads": places[0].threads}
        ran = runner.run(
            plan,
            found,
            store=self.store,
            options=options,
            provenance={**facts, "notes": notes},
            watcher=progress(quiet=self.quiet, workers=len(places), blind=blind),
            look=looker(plan),
            pool=pool,
        )
        if streams and not ran.trained:  # what was recorded earlier tells it as well
            recorded = self.store.tables(ran.benchmark).trials
            for drawn in recorded.facts[recorded.status == "finished"]:
                runner.require_drawn(streams, json.loads(drawn))
        return ran

    def rehearse(
        self,
        found: "Discovered",
        plans: "Sequence[Plan]",
        places: Sequence[Any],
        *,
        folder: Path | None,
        redo: "frozenset[TrialKey]",
        fresh: bool,
        as_json: bool,
    ) -> None:
        """Say what the plans cost, the first with its runs to repeat; nothing is recorded."""
        from bench.address import may_hold_runs
        from bench.rehearsal import rehearse
        from bench.runner import Options
        from bench.tracking import Store

        store = Store(self.uri) if may_hold_runs(self.uri) else None
        left, durations = [], list[float]()
        for plan in plans:
            benchmark = store.find(plan.benchmark_id, plan.experiment) if store else None
            settled: set[TrialKey] = set()
            if store is not None and benchmark is not None:
                done = store.finished(benchmark)
                tags = (child.run.data.tags for child in done.values())
                durations += [float(t["bench.duration_s"]) for t in tags if "bench.duration_s" in t]
                settled = set() if fresh else {*done, *store.diverged(benchmark)}
                known = set(plan.seeds) <= set(benchmark.plan.seeds)
                if known and not fresh and benchmark.stopped_at is not None:  # by the plan's rule
                    settled |= set(plan.trials())
            left.append((plan, settled - (redo if plan is plans[0] else frozenset())))
        cost = rehearse(left, found, Options(slots=places, data_dir=folder), durations=durations)
        print(json.dumps(cost.as_dict()) if as_json else cost.text())

    def report(self, benchmark: "Benchmark", *, as_json: bool, failures: bool) -> "Findings | None":
        """Write the report and print it; None where failures left nothing to compare."""
        from analysis.table import BadTables

        if self.store is None:
            raise RuntimeError("a report was asked for before anything was recorded")
        try:
            silent = as_json and failures  # stdout is one object, and that is the error
            return publish(self.store, benchmark, as_json=as_json, silent=silent)
        except BadTables:
            if failures:  # nothing to compare yet; the failures themselves are shown instead
                return None
            raise


def first_line(plan: "Plan", note: str | None, workers: int) -> str:
    """Say which gain these seeds can detect, before anything is trained."""
    from analysis.format import magnitude, suffix
    from analysis.power import seeds_for
    from analysis.verdict import FEWEST_PAIRS
    from bench.planning import ASSUMED_SD, gain_of, unit_of

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
    parts += [f"{n} seeds × {len(plan.arms)} arms", f"{workers} workers", f"plan {plan.hash[:7]}"]
    first = textwrap.fill(first, 80, subsequent_indent="  ", break_on_hyphens=False)
    second = "   ".join(part.replace(" ", "\xa0") for part in parts)  # a part stays in one piece
    second = textwrap.fill(second, 80, subsequent_indent="  ", break_on_hyphens=False)
    return f"{first}\n{second}".replace("\xa0", " ")
