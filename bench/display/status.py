"""Status: what is recorded, and how far each benchmark is."""

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.analysis.data.format import count
from bench.design import source_digest
from bench.design.plan import Plan, TrialKey, what_changed
from bench.programs.code_files import is_code
from bench.store.artifacts import Damaged
from bench.store.base import Store
from bench.store.mlflow_sql import Glance
from bench.store.runs import Benchmark, Unreadable
from bench.terminal import label

MARKS = {"finished": "●", "running": "◐", "failed": "×", "waiting": "·"}
ASCII = {"●": "o", "◐": "-", "×": "x", "·": "."}

WORST_FIRST = ("failed", "running", "waiting", "finished")


@dataclass(frozen=True)
class State:
    """How far one benchmark is."""

    name: str
    benchmark_id: str
    verdict: str | None
    active_at: float
    held: bool
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    trials: dict[TrialKey, str]  # finished, running, failed or waiting
    stopped_at: int | None = None  # pairs, where a stopping rule ended the training
    again: str = ""  # the command that goes on with it
    aa: bool = False  # the baseline against itself
    datasets: tuple[str, ...] = ()  # that each seed is trained on
    superseded: bool = False  # the same plan was begun anew later

    def pair(self, seed: int) -> str:
        """Return one word for all arms of a seed."""
        words = {self._word(arm, seed) for arm in self.arms}
        if words == {"finished"}:
            return "finished"
        return next(word for word in WORST_FIRST if word in words)

    def _word(self, arm: str, seed: int) -> str:
        """Return one word for a seed of an arm, on all data sets."""
        words = {self.trials[TrialKey(arm, seed, name)] for name in self.datasets or ("",)}
        return next(word for word in WORST_FIRST if word in words)

    def counts(self) -> Counter[str]:
        """Count the pairs by their word."""
        return Counter(self.pair(seed) for seed in self.seeds)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        counts = self.counts()
        return {
            "experiment": self.name,
            "benchmark_id": self.benchmark_id,
            "aa": self.aa,
            "superseded": self.superseded,
            "verdict": self.verdict,
            "running": self.held,
            "pairs_planned": len(self.seeds),
            **{f"pairs_{word}": counts[word] for word in MARKS},
            "trials": [{**key.parts, "status": word} for key, word in self.trials.items()],
        }

    def text(self, *, unicode: bool) -> str:
        """Return lines for a terminal."""
        counts = self.counts()
        state = "running now" if self.held else "not running"
        names = {arm: label(arm) for arm in self.arms}
        width = max(map(len, names.values()))
        lines = [f"{label(self.name)}   {count(len(self.seeds), 'pair')} planned   {state}", ""]
        for start in range(0, len(self.seeds), 50):
            seeds = self.seeds[start : start + 50]
            lines.append(f"  {'seed':<{width}}  {seeds[0]} to {seeds[-1]}")
            for arm in self.arms:
                marks = "".join(MARKS[self._word(arm, seed)] for seed in seeds)
                lines.append(f"  {names[arm]:<{width}}  {marks}")
        total = ", ".join(
            f"{counts[word]} {'done' if word == 'finished' else word}" for word in MARKS
        )
        lines += ["", f"  pairs    {total}"]
        if self.verdict:
            lines.append(f"  verdict  {self.verdict}, when last reported")
        left = len(self.seeds) - counts["finished"]
        if self.stopped_at is not None:
            lines.append(f"  stopped  by the plan's rule after {count(self.stopped_at, 'pair')}")
        elif left and not self.held:
            lines.append(f"  resume   {self.again}")
        text = "\n".join(lines)
        return text if unicode else _plain(text)


@dataclass(frozen=True)
class Listing:
    """All benchmarks of a store, those that are damaged too."""

    states: tuple[State | Unreadable, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        listed = [state.as_dict() for state in self.states if isinstance(state, State)]
        return {
            "benchmarks": [{k: v for k, v in s.items() if k != "trials"} for s in listed],
            "damaged": [
                {"experiment": b.name, "benchmark_id": b.benchmark_id, **b.trouble.as_dict()}
                for b in self._damaged()
            ],
        }

    def _damaged(self) -> list[Unreadable]:
        return [state for state in self.states if isinstance(state, Unreadable)]

    def text(self, *, unicode: bool) -> str:
        """Return lines for a terminal."""
        if not self.states:
            return "Nothing is recorded yet.\n  next     bench run digits --seeds 20"
        rows: list[tuple[str, ...]] = [
            ("experiment", "pairs", "failed", "verdict", "last active", "benchmark")
        ]
        rows += [_row(state) for state in self.states]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        for found in self._damaged():
            lines += ["", found.trouble.what, f"  fix: {found.trouble.remedy()}"]
        text = "\n".join(lines)
        return text if unicode else _plain(text)


def _row(state: State | Unreadable) -> tuple[str, ...]:
    """Return what the list of benchmarks says of one."""
    when = datetime.fromtimestamp(state.active_at).strftime("%Y-%m-%d %H:%M")
    pairs, failed, word = "", "", "damaged"
    if isinstance(state, State):
        counts = state.counts()
        pairs = f"{counts['finished']}/{len(state.seeds)}"
        failed = str(counts["failed"] or "")
        word = "running" if state.held else state.verdict or ""
        word = "superseded" if state.superseded else word
    mark = " (A/A)" if isinstance(state, State) and state.aa else ""
    return (
        f"{label(state.name, 26 - len(mark))}{mark}",
        pairs,
        failed,
        word,
        when,
        state.benchmark_id[:7],
    )


def listing(store: Store | Glance) -> Listing:
    """Return a list in which all but the latest of the same plan (--fresh) are superseded."""
    listed, seen = list[State | Unreadable](), set[str]()
    for benchmark in store.recorded():  # the one that was active last first
        state = _listed(store, benchmark)
        if state.benchmark_id in seen and isinstance(state, State):
            state = replace(state, superseded=True, held=False)
        seen.add(state.benchmark_id)
        listed.append(state)
    return Listing(tuple(listed))


def _listed(store: Store | Glance, found: Benchmark | Unreadable) -> State | Unreadable:
    if isinstance(found, Unreadable):
        return found
    try:
        return _stored(store, found)
    except Damaged as trouble:
        return Unreadable(
            found.run_id, found.name, found.benchmark_id, found.active_at, trouble, found.sequence
        )


def one(store: Store, name: str) -> State:
    """Return the latest benchmark of one experiment."""
    benchmark = store.benchmark(name)
    return replace(_stored(store, benchmark), again=shlex.join(store.again(benchmark)))


def as_recorded(
    store: Store, plan: Plan, source: Mapping[str, str]
) -> tuple[Plan, Benchmark | None]:
    """Return a plan as its benchmark has it, and that benchmark, if there is one.

    Code that differs from the recorded one in comments and docstrings alone is the same code.
    Configuration that has come since beside a user's program is what trainings have written.

    Parameters
    ----------
    plan : of the code as it is now
    source : text of each of the experiment's own modules, now
    """
    benchmark = store.find(plan.benchmark_id, plan.experiment)
    if benchmark is not None:
        return plan, benchmark
    for earlier in store.benchmarks(plan.experiment):
        old = earlier.plan
        as_then = replace(plan, source_digest=old.source_digest, files=old.files)
        if plan.source_digest == old.source_digest or as_then.benchmark_id != old.benchmark_id:
            continue
        names = source_digest.changed(old.files, plan.files)
        if names and all(_is_written(name, old) for name in names):
            return as_then, store.find(as_then.benchmark_id, plan.experiment)
        if names and set(names) <= set(source) and set(old.files) == set(plan.files):
            before = store.source(earlier)
            if all(source_digest.same_code(before.get(n, ""), source[n]) for n in names):
                return as_then, store.find(as_then.benchmark_id, plan.experiment)
    return plan, None


def _is_written(name: str, old: Plan) -> bool:
    """Tell whether a file that differs is new, no code, and in no command of the arms."""
    commands = [str(settings.get("command", "")) for settings in old.arms.values()]
    named = any(Path(name).name in command for command in commands)
    return all(commands) and name not in old.files and not is_code(name) and not named


def late_modules_changed(
    store: Store,
    benchmark: Benchmark | None,
    now: Callable[[Sequence[str]], Mapping[str, str]],
) -> list[str]:
    """Return which modules that only trainings load differ from those that recorded runs had.

    Parameters
    ----------
    benchmark : that would be gone on with; None where there is none
    now : digests of modules, by their names, as a training would load them
    """
    then = store.late_modules(benchmark) if benchmark is not None else {}
    found = now(sorted(then)) if then else {}
    return [name for name in sorted(found) if found[name] != then[name]]


def begins_anew(
    store: Store, benchmark: Benchmark | None, plan: Plan, late: Sequence[str] = ()
) -> str | None:
    """Say why a plan begins a new benchmark although its experiment has one, or judges it anew.

    Parameters
    ----------
    benchmark : with this plan, where there is one
    late : the modules that trainings load and that have changed since

    Returns
    -------
    one or two sentences, or None where the plan goes on with a benchmark as it is, or is the first
    """
    if benchmark is not None and late:
        return (
            f"{', '.join(late)} changed since {plan.experiment} was benchmarked, and its trainings "
            "load it, so this is a new benchmark."
        )
    if benchmark is not None:
        return judges_anew(benchmark, plan)
    if plan.vary:
        return None
    if store.was_deleted(plan.benchmark_id, plan.experiment):
        return (
            f"A benchmark of {plan.experiment} with this plan was deleted in MLflow, so this one "
            "begins anew; restored there, it would be gone on with."
        )
    earlier = store.benchmarks(plan.experiment)
    if not earlier:
        return None
    changed = "; ".join(what_changed(earlier[0].plan, plan))
    return (
        f"{plan.experiment} was benchmarked before with another plan, so this is a new benchmark. "
        f"Different: {changed}."
    )


def judges_anew(benchmark: Benchmark, plan: Plan) -> str | None:
    """Say how a plan changes the analysis that its benchmark was frozen with; None if not at all.

    Seeds may be added and are noted on their own, so the number of them is no such change.
    """
    old, new = benchmark.plan.analysis(), plan.analysis()
    changed = [
        f"{name.replace('_', ' ')} {_or_none(old[name])} → {_or_none(new[name])}"
        for name in new
        if name != "max_seeds" and old[name] != new[name]
    ]
    when = benchmark.design().frozen_at or ""
    return (
        f"This changes the plan of {plan.experiment} that was frozen {when[:16].replace('T', ' ')}"
        f" UTC: {'; '.join(changed)}."
        if changed
        else None
    )


def _or_none(value: object) -> object:
    return "none" if value is None else value


def _stored(store: Store | Glance, benchmark: Benchmark) -> State:
    plan, held = benchmark.plan, store.holder(benchmark.benchmark_id) is not None
    words = store.trial_states(benchmark)
    if not held:
        words = {key: word for key, word in words.items() if word != "running"}
    return State(
        name=benchmark.name,
        benchmark_id=benchmark.benchmark_id,
        verdict=benchmark.verdict,
        active_at=benchmark.active_at,
        held=held,
        arms=tuple(plan.arms),
        seeds=plan.seeds,
        stopped_at=benchmark.stopped_at,
        aa=plan.aa,
        datasets=plan.datasets,
        trials={key: words.get(key, "waiting") for key in plan.trials()},
    )


def _plain(text: str) -> str:
    for sign, plain in ASCII.items():
        text = text.replace(sign, plain)
    return text.encode("ascii", "replace").decode()
