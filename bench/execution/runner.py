"""Runner: trains what a plan still needs and records it, until it is complete or stopped."""

import contextlib
import difflib
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np

from bench.analysis.data.format import count
from bench.analysis.data.metrics import METRICS
from bench.analysis.data.own_metrics import own_metrics
from bench.analysis.errors import Refusal
from bench.design.description import Discovered
from bench.design.plan import Plan, TrialKey
from bench.design.results import Failure, Job, Result, Scored, ScoredOn, Success
from bench.execution.base import Executor, Options
from bench.execution.repeats import Repeats
from bench.execution.resume import jobs
from bench.execution.signals import ended_by_signals
from bench.experiment import BadOutcome, Outcome
from bench.programs.study_file import is_study
from bench.store.address import redacted
from bench.store.base import Store
from bench.store.runs import Benchmark
from bench.store.writer import Recorder, recording
from bench.terminal import printable


class NotPlanned(Refusal):
    """A run to repeat that the plan does not have."""

    code = "option"
    exit_status = 2


class Undrawn(Refusal):
    """A source of randomness that the experiment does not have."""

    code = "option"
    exit_status = 2


@dataclass(frozen=True)
class Look:
    """What the finished pairs say while the rest is trained."""

    mean: float
    low: float | None
    high: float | None
    stop: bool = False


R = TypeVar("R", bound=Result)
SLOW_S = 3.0  # after so long at the end, who waits is told for what
Pair = Mapping[str, Scored]  # one seed: arm to its run
LookAt = Callable[[Sequence[Pair]], Look | None]


class Watcher:
    """What the runner tells the person who waits; by itself it shows nothing."""

    def begin(self, plan: Plan, finished: Collection[TrialKey], left: int) -> None:
        """Training is about to start."""

    def start(self, message: Mapping[str, Any]) -> None:
        """A worker has begun a pack; called from another thread, as is `epoch`."""

    def epoch(self, message: Mapping[str, Any]) -> None:
        """A worker has logged an epoch."""

    def result(self, result: Result, value: float | None) -> None:
        """A trial is over."""

    def pair(self, seed: int, values: Mapping[str, float], look: Look | None) -> None:
        """All arms of a seed are finished."""

    def retry(self, failure: Failure) -> None:
        """A trial is tried again."""

    def notice(self, text: str) -> None:
        """Something that the person who waits should know; from any thread."""

    def late(self) -> None:
        """The time is up: what trains now is the last."""

    def end(self) -> None:
        """Nothing more will happen."""


@dataclass(frozen=True)
class Ran:
    """What one call of `run` did."""

    benchmark: Benchmark
    trained: int
    failures: tuple[Failure, ...]
    stopped_early: bool
    lost: tuple[TrialKey, ...] = ()  # diverged in an earlier call and not trained again
    unstarted: tuple[TrialKey, ...] = ()  # the deadline, or a failure that repeats, came first
    repeated: Failure | None = None  # which ended the training: nothing of its arm had succeeded
    refused: tuple[str, ...] = ()  # the results that could not be recorded, and why


def run(
    plan: Plan,
    found: Discovered,
    *,
    store: Store,
    options: Options,
    provenance: Mapping[str, Any],
    watcher: Watcher,
    look: LookAt,
    executor: Executor,
) -> Ran:
    """Train what a plan still lacks and record it.

    Parameters
    ----------
    plan : frozen here before the first training
    found : the experiment, so that processes can load it
    store : where runs are recorded
    look : finished pairs to the running interval, and whether the stopping rule says enough
    executor : trains; closed when this returns

    Raises
    ------
    Locked : another process runs this benchmark
    NotPlanned : a run to repeat that is not in the plan
    Undrawn : a training without one of the streams of the options; it is recorded all the same
    StoreTrouble : the store cannot be written; what was recorded stays
    """
    with contextlib.ExitStack() as stack:
        stack.callback(executor.close)
        stack.enter_context(store.lock(plan))
        ending = stack.enter_context(ended_by_signals())  # until the recorder is closed
        recorder = recording(
            store, plan, provenance=provenance, source=found.source, fresh=options.fresh
        )
        stack.enter_context(recorder)
        stack.callback(executor.close)  # before the recorder: nobody trains on unrecorded
        plan = recorder.benchmark.plan
        _require_planned(options.redo, plan)
        story = _Story(
            plan, recorder, watcher, look, options, reuses=found.experiment.reuse_process
        )
        recorder.while_closing = story.tell_what_is_waited_for
        if is_study(found.reference) and not options.fresh:
            story.take_over(store)
        folders = store.folders_of(plan.benchmark_id)
        todo = jobs(plan, found, options, story.settled, folders=folders)
        left = [job for job in todo if story.wants(job.keys)]
        left.sort(key=lambda job: options.redo.isdisjoint(job.keys))  # what is repeated first
        watcher.begin(plan, story.settled, sum(len(job.keys) for job in left))
        stack.callback(watcher.end)
        if story.stops_at_once:
            story.stop()
        if left:
            executor.listen(story.message)

            def check() -> None:
                ending.check()
                recorder.check()
                story.check(interrupted=ending.is_near)

            def stops() -> bool:
                return ending.is_near or story.stops()

            with ending.held_back(executor.wake), contextlib.suppress(_Repeated):
                trained = executor.run(left, stop=stops, on_retry=story.retry, check=check)
                with contextlib.closing(trained):
                    for results in trained:
                        for result in results:
                            story.add(result)
                if story.reuses:
                    story.compare_with_fresh(executor, left, check)
    lost = tuple(key for key in plan.trials() if key in recorder.diverged - options.redo)
    return Ran(
        recorder.benchmark,
        story.trained,
        tuple(story.failures),
        story.enough,
        lost,
        tuple(key for key in plan.trials() if key not in story.over and story.wants([key])),
        None if options.keep_going else story.repeats.found,
        (*story.refused, *recorder.refused),
    )


def _require_planned(redo: Collection[TrialKey], plan: Plan) -> None:
    for key in set(redo) - set(plan.trials()):
        seeds = ", ".join(map(str, plan.seeds[:20])) + (", …" if len(plan.seeds) > 20 else "")
        raise NotPlanned(
            f"seed {key.seed}, {key.arm}{key.dataset and f', {key.dataset}'}, is not planned, "
            "so there is nothing to repeat.",
            facts=[f"Planned seeds: {seeds}."],
            replace=[(key.typed, replace(key, seed=plan.seeds[0]).typed)],
        )


def require_drawn(streams: Sequence[str], facts: Mapping[str, Any]) -> None:
    """Refuse to vary a stream alone that a finished training has not drawn from.

    Parameters
    ----------
    streams : as listed in --vary
    facts : of the training's outcome

    Raises
    ------
    Undrawn : there is one
    """
    drawn = sorted(facts.get("streams", streams))
    if missing := [stream for stream in streams if stream not in drawn]:
        kept = [stream for stream in streams if stream in drawn] or drawn
        raise Undrawn(
            f'--vary {missing[0]}: the training never asks for trial.rng("{missing[0]}").',
            facts=[
                f"It draws from {', '.join(drawn) or 'no stream'}.",
                "What has finished is recorded, and was trained with everything drawn anew.",
            ],
            options=[("vary", ",".join(kept))] if kept else [],
            without=["vary"],
        )


class _Repeated(Exception):
    """A failure repeats, and nothing of its arm has succeeded: nothing more is started."""


class _Story:
    """What has happened so far in this call."""

    def __init__(
        self,
        plan: Plan,
        recorder: Recorder,
        watcher: Watcher,
        look: LookAt,
        options: Options,
        *,
        reuses: bool,
    ) -> None:
        self.plan, self.recorder, self.watcher, self.look = plan, recorder, watcher, look
        self.deadline, self.streams, self.redo = options.deadline, options.streams, options.redo
        # A loss that diverged would diverge again: the run stays failed until --redo or --fresh.
        self.settled = (set(recorder.finished) | recorder.diverged) - options.redo
        self.over = set(self.settled)  # and what has ended since
        self.failures: list[Failure] = []
        self.refused: list[str] = []  # the results that could not be recorded, and why
        self.trained = 0
        self.told = False  # that the store is away
        self.interrupted = False  # and it was said
        self.late = False  # the deadline has passed
        self.closing_at = 0.0  # since when only the store is waited for
        self.told_writing = False
        self.keep_going = options.keep_going
        self.packs = {key: n for n, pack in enumerate(plan.packs()) for key in pack}
        self.repeats = Repeats({key.arm for key in recorder.finished})
        self.test_sets = recorder.known_test_sets()
        self.reuses = reuses
        self.last: dict[int, dict[TrialKey, str]] = {}  # fingerprints of the latest whole pack
        self._lock = threading.Lock()
        self.runs: dict[TrialKey, Scored] = {}
        for key, run in recorder.known_runs().items():
            if key in self.settled:
                self.runs[key] = run
        now = self.look(self._complete())
        # Enough already where seeds were added, another rule was chosen, or nobody noted the stop.
        self.stops_at_once = now is not None and now.stop and not recorder.stopped
        self.enough = recorder.stopped or self.stops_at_once

    def message(self, message: dict[str, Any]) -> None:
        if not message.get("passing"):
            self.recorder.deliver(message)
        if message["type"] == "start":
            self.watcher.start(message)
        elif message["type"] == "epoch":
            self.watcher.epoch(message)
        elif message["type"] == "notice":
            self.watcher.notice(message["text"])

    def stops(self) -> bool:
        """Tell whether nothing more is started; asked by any thread, while something is left."""
        done = self.enough and self.redo <= self.over
        with self._lock:
            if not done and not self.late and time.monotonic() >= self.deadline:
                self.late = True
                self.watcher.late()
                self.watcher.notice(
                    "the time of --max-hours is up: runs in training are finished, "
                    "no more are started."
                )
        return done or self.late

    def check(self, *, interrupted: bool) -> None:
        """Say what the person who waits should know, and end where a failure repeats."""
        self.tell_if_away()
        if interrupted and not self.interrupted:
            self.interrupted = True
            self.watcher.notice(
                "interrupted: runs in training are finished first; Ctrl-C again ends them."
            )
        if self.repeats.found is not None and not self.keep_going:
            raise _Repeated

    def wants(self, keys: Collection[TrialKey]) -> bool:
        """Tell whether trials are still to be trained: once a rule has stopped, repeats alone."""
        return not self.enough or not self.redo.isdisjoint(keys)

    def tell_if_away(self) -> None:
        """Say once that the store is away or back, and what it will never take."""
        while self.recorder.refused:
            self.refused.append(self.recorder.refused.pop(0))
            self.watcher.notice(self.refused[-1])
        away = self.recorder.away
        if away is not None and not self.told:
            kept = "finished runs are kept on this disk until it does"
            self.watcher.notice(f"the store does not answer; {kept}. {away}")
        elif away is None and self.told:
            self.watcher.notice("the store answers again.")
        self.told = away is not None

    def tell_what_is_waited_for(self) -> None:
        """Say why the command is still there although everything is trained."""
        self.tell_if_away()
        now = time.monotonic()
        self.closing_at = self.closing_at or now
        if self.recorder.away is None and not self.told_writing and now > self.closing_at + SLOW_S:
            self.told_writing = True
            self.watcher.notice("all results are safe on this disk; the store is being written.")

    def take_over(self, store: Store) -> None:
        """Record what an earlier benchmark has trained already: the baseline of another change."""
        wanted = [key for key in self.plan.trials() if key not in self.settled | self.redo]
        taken = store.results_of_others(self.recorder.benchmark, wanted)
        for key, (found, other) in taken.items():
            facts = {**found.outcome.facts, "taken_from": other.benchmark_id[:7]}
            outcome = replace(found.outcome, facts=facts)
            result = self._on_the_same_test_set(replace(found, outcome=outcome))
            value = value_of(found.outcome, self.plan.metric)
            if isinstance(result, Success) and value is not None:
                self._record(result)
                self.over.add(key)
                self.settled.add(key)
                self.runs[key] = scored_of(result.outcome, value, self.plan)
        if taken:
            ids = ", ".join(sorted({other.benchmark_id[:7] for _, other in taken.values()}))
            arms = ", ".join(sorted({key.arm for key in taken}))
            runs = count(len(taken), "run")
            self.watcher.notice(f"{runs} of {arms} are the same trials as in {ids}: taken over.")

    def retry(self, failure: Failure) -> None:
        if failure.key not in self.settled:
            failure = _tame(failure)
            self._record(failure)
            self.watcher.retry(failure)
            self.repeats.failed(failure, self.packs[failure.key], final=False)

    def add(self, result: Result) -> None:
        if result.key in self.settled:  # trained again only because its pack was incomplete
            return
        result = self._on_the_same_test_set(_tame(result))
        if isinstance(result, Failure):
            self._record(result)
            self.over.add(result.key)
            self.failures.append(result)
            self.watcher.result(result, None)
            self.repeats.failed(result, self.packs[result.key], final=True)
            return
        value = value_of(result.outcome, self.plan.metric)
        if value is None:
            raise _no_metric(result, self.plan.metric)
        self._record(result)
        self.over.add(result.key)
        self.trained += 1
        self.repeats.succeeded(result.key.arm)
        if self.reuses:
            pack = self.packs[result.key]
            self.last = {pack: {**self.last.get(pack, {}), result.key: result.fingerprint()}}
        require_drawn(self.streams, result.outcome.facts)
        self.watcher.result(result, value)
        self._pair(result.key, scored_of(result.outcome, value, self.plan))

    def _on_the_same_test_set(self, result: Result) -> Result:
        """Return a training as a failure where it was scored on other examples than the first."""
        found = None if self.plan.test_share is not None else ScoredOn.of(result)
        if found is None or not isinstance(result, Success):
            return result
        first, key = self.test_sets.setdefault(result.key.dataset, (found, result.key))
        if found == first:
            return result
        what = f"it has {count(found.size, 'test example')}, {key.title} had {first.size:,}."
        if found.size == first.size:
            named = "example_ids" in result.outcome.facts
            kind = "test examples" if named else "clusters"
            kind = kind if result.outcome.test is None else "test labels"
            what = f"its {kind}, or their order, are not those of {key.title}."
        same = {f.name: getattr(result, f.name) for f in fields(result) if f.name != "outcome"}
        advice = "Every training is scored on the same examples, in the same order."
        return Failure(**same, code="outcome", what=what, facts=(advice,), error="OtherTestSet")

    def _record(self, result: Result) -> None:
        if left := self.recorder.record(result):
            self.watcher.notice(f"{result.key.title}: {left}")

    def compare_with_fresh(
        self, executor: Executor, left: Sequence[Job], check: Callable[[], None]
    ) -> None:
        """Train the last pack once more, in a process of its own: does reusing one change bits?"""
        for job in left:
            if job.pack in self.last:
                again = replace(job, reuse_process=False, folders=None)
                with contextlib.closing(executor.run([again], check=check)) as trained:
                    results = [result for some in trained for result in some]
                before = self.last[job.pack]
                now = {r.key: r.fingerprint() for r in results if isinstance(r, Success)}
                differs = [key.run_name for key in before if now.get(key) != before[key]]
                self.recorder.note_reuse([key.run_name for key in job.keys], differs)

    def _pair(self, key: TrialKey, run: Scored) -> None:
        self.runs[key] = run
        mine = self._pair_of(key.seed)
        if mine is None:
            return
        now = self.look(self._complete())
        self.watcher.pair(key.seed, {arm: run.value for arm, run in mine.items()}, now)
        if now is not None and now.stop and not self.enough:
            self.enough = True
            self.stop()

    def stop(self) -> None:
        """Note that the plan's rule ends the training after the pairs that are complete."""
        pairs = len(self._complete())
        self.recorder.stop(pairs)
        self.watcher.notice(
            f"the rule --stop {self.plan.stop} stops after {count(pairs, 'pair')}; "
            "runs in training are finished and count."
        )

    def _complete(self) -> list[Pair]:
        """Return the pairs that are finished in every arm, in plan order."""
        found = map(self._pair_of, self.plan.seeds)
        return [runs for runs in found if runs is not None]

    def _pair_of(self, seed: int) -> Pair | None:
        """Return a seed's runs by arm, or their mean over data sets; None until all are there."""
        keys = self.plan.of_seed(seed)
        if not self.runs.keys() >= set(keys):
            return None
        each = {arm: [self.runs[k] for k in keys if k.arm == arm] for arm in self.plan.arms}
        if not self.plan.datasets:
            return {arm: run for arm, [run] in each.items()}
        return {arm: Scored(float(np.mean([r.value for r in of]))) for arm, of in each.items()}


def _tame(result: R) -> R:
    """Return a result whose texts, which a training wrote, hold no password and no commands."""
    texts: dict[str, Any] = {"log": redacted(result.log)}
    if isinstance(result, Failure):
        texts["what"] = printable(redacted(result.what))
        texts["facts"] = tuple(printable(redacted(fact)) for fact in result.facts)
        texts["traceback"] = redacted(result.traceback)
    return replace(result, **texts)


def value_of(outcome: Outcome, metric: str) -> float | None:
    """Return an outcome's value of the plan's metric, or None if it has none."""
    known = METRICS.get(metric)
    if known is not None and outcome.test is not None:
        columns = known.columns(outcome.test)  # so that what has no interval is refused
        return float(np.mean(columns))
    if metric in outcome.examples:
        return float(np.mean(outcome.examples[metric]))
    return outcome.scores.get(metric)


def _no_metric(result: Success, metric: str) -> BadOutcome:
    """Return the refusal for a run that cannot be compared; nor, most likely, can the others."""
    computed = list(METRICS)
    scores = sorted({*result.outcome.scores, *result.outcome.examples})
    there = scores if result.outcome.test is None else [*computed, *scores]
    close = difflib.get_close_matches(metric, there, n=1) or there
    return BadOutcome(
        f'{result.key.title}, has no "{metric}" to compare.',
        facts=[
            f"It has {printable(', '.join(there))}.",
            f"Known: {', '.join(computed)}, from test predictions, and whatever scores are named.",
            "This run is not recorded, and nothing more is trained.",
        ],
        fix=f'Experiment(…, metric="{close[0]}"), or Outcome(scores={{"{metric}": …}})',
    )


def scored_of(outcome: Outcome, value: float, plan: Plan) -> Scored:
    """Return a run's metric, and its columns where the plan's rule needs them meanwhile."""
    if plan.stop == "fixed" or plan.scope == "seeds" or plan.datasets or plan.test_share:
        return Scored(value)
    if outcome.scored is not None and plan.metric in outcome.examples:
        return Scored(value, outcome.scored.columns(plan.metric), outcome.scored.weights)
    if outcome.test is None:
        return Scored(value)
    if plan.metric in METRICS:
        return Scored(value, METRICS[plan.metric].columns(outcome.test))
    own = own_metrics(outcome.facts).get(plan.metric)
    return Scored(value) if own is None else Scored(value, own.columns)
