"""Reads benchmarks and runs back from what the store holds: plans, trials, tables."""

import json
import re
import shlex
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from bench.analysis.data.examples import Examples
from bench.analysis.data.metrics import Predictions, score
from bench.analysis.data.tables import TRIAL_COLUMNS, BadTables, Columns, Split, Tables
from bench.analysis.errors import Refusal
from bench.design.loading import known_names, nearest
from bench.design.plan import Plan, TrialKey, varied_settings
from bench.design.results import Success
from bench.experiment import Outcome
from bench.store import artifacts, spool
from bench.store.address import first_line
from bench.store.artifacts import Damaged
from bench.store.locks import now
from bench.store.runs import SUPERSEDED, Benchmark, Child, Run, Unreadable
from bench.store.typed_command import going_on

Key = tuple[str, int, Split]
Locate = Callable[[Run, str], Path]  # a run's artifact to its local path
PLAN_DIGEST = re.compile(r"bench\.sha256/plan/(\d+)\.json")  # the tag that every version has
SEQUENCE = "bench.sequence"
EXTRA_COLUMNS = (
    "code",
    "threads",
    "attempts",
    "selected_epoch",
    "facts",
    "logged_accuracy",
    "run_id",
)


def benchmark_of(run: Run, locate: Locate) -> Benchmark:
    """Return a benchmark from its parent run and the latest version of its plan.

    Raises
    ------
    Damaged : that plan is not what was recorded, or the run's tags name another one
    """
    tags = run.tags
    latest = max((int(m[1]) for tag in tags if (m := PLAN_DIGEST.fullmatch(tag))), default=0)
    _require_tag(run, "bench.plan_version", str(latest))
    found = _parsed(run, text_of(run, f"plan/{latest:04d}.json", locate))
    _require_tag(run, "bench.plan", found.plan.hash)
    return found


def _require_tag(run: Run, tag: str, expected: str) -> None:
    """Refuse a tag that was edited: it says which plan holds."""
    said = run.tags.get(tag, "nothing")
    if said != expected:
        raise Damaged(
            f"{run.name} no longer says which version of its plan holds.",
            facts=[f"Its tag {tag} is {said[:80]}; recorded was {expected}."],
            fix=f"put that back in MLflow run {run.run_id}:",
            command=["bench", "ui"],
        )


def text_of(run: Run, artifact: str, locate: Locate) -> str:
    """Return one of the parent run's own texts, after checking its bytes.

    Raises
    ------
    Damaged : it is missing, or not what was recorded
    """
    expected = run.tags.get(digest_tag(artifact), "")
    what = f"the stored {Path(artifact).parent} files of {run.name}"
    fix = f"restore {artifact} of MLflow run {run.run_id}"
    try:
        path = artifacts.verified(
            artifact, expected, lambda name: locate(run, name), what=what, fix=fix
        )
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Damaged(f"{what} cannot be read.", facts=[first_line(error)], fix=fix) from error


def digest_tag(artifact: str) -> str:
    """Return the parent run's tag that holds an artifact's digest."""
    return f"bench.sha256/{artifact}"


def unreadable(run: Run, trouble: Damaged) -> Unreadable:
    """Return what is left of a damaged benchmark, for a list of all."""
    tags = run.tags
    identity = tags.get("bench.benchmark", "")
    try:
        active_at = _moment(tags["bench.active_at"])
    except (KeyError, ValueError, OverflowError, OSError):
        active_at = run.started_ms / 1000
    name = str(run.name).removesuffix(f" {identity[:7]}")
    return Unreadable(run.run_id, name, identity, active_at, trouble, sequence_of(run))


def _parsed(run: Run, text: str) -> Benchmark:
    """Return what a stored plan says."""
    tags = run.tags
    try:
        record = json.loads(text)
        found = Benchmark(
            run_id=run.run_id,
            experiment_id=run.experiment_id,
            name=record["plan"]["experiment"],
            benchmark_id=tags["bench.benchmark"],
            started_at=run.started_ms / 1000,
            active_at=_moment(tags.get("bench.active_at", "0")),
            plan=Plan.from_dict(record["plan"]),
            events=tuple(_event(event) for event in record["events"]),
            verdict=tags.get("bench.verdict"),
            sequence=sequence_of(run),
        )
        if found.plan.hash != record["plan"]["hash"]:
            raise ValueError("It is not the plan that has the hash which it states.")
        found.design()  # which reads all of its history
    except Exception as error:  # a file that is not ours can be wrong in any way
        raise Damaged(
            f"the stored plan of {run.name} cannot be read.",
            facts=[first_line(error), f"MLflow run {run.run_id}."],
            fix="restore its plan/*.json and tags, or delete that run:",
            command=["bench", "ui"],
        ) from error
    return found


class NothingRecorded(Refusal):
    """A store without the benchmark that was asked for."""

    code = "experiment"
    exit_status = 2


def no_experiment(name: str, known: Sequence[str]) -> NothingRecorded:
    """Return the refusal of another project's experiment that the store does not have."""
    return NothingRecorded(
        f'no experiment called "{name}".',
        facts=[known_names(name, known)],
        replace=[(f"mlflow:{name}", f"mlflow:{nearest(name, known)}")],
    )


def order(found: Benchmark | Unreadable) -> tuple[int, float]:
    """Return what sorts benchmarks, the one that was active last at the end."""
    return found.sequence, found.active_at


def sequence_of(run: Run) -> int:
    """Return the place of a benchmark's last session among all of its store; 0 in old stores."""
    text = str(run.tags.get(SEQUENCE, "0"))
    return int(text[:15]) if text.isdecimal() else 0


def _in_order(runs: Sequence[Child]) -> list[Child]:
    """Return the runs of one trial, oldest first: what was replaced before what replaced it."""
    ordered = sorted(runs, key=lambda child: child.started)
    for child in list(ordered):
        said = (c for c in ordered if c.run.run_id == child.replaced_by)
        later = next((c for c in said if c.replaces == child.run.run_id), None)
        if later is not None and ordered.index(later) < ordered.index(child):
            ordered.remove(later)
            ordered.insert(ordered.index(child) + 1, later)
    return ordered


def started_ms(value: Any, run_id: str) -> int:
    """Return when a run started, in milliseconds since 1970.

    Raises
    ------
    Damaged : somebody put something else there; SQLite keeps a text in any column
    """
    try:
        milliseconds = int(value)
        _moment(milliseconds / 1000)
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise Damaged(
            f"MLflow run {run_id} no longer says when it started.",
            facts=[f"Its start_time is {str(value)[:80]!r}, not milliseconds since 1970."],
            fix="restore it, or delete that run: bench ui",
        ) from error
    return milliseconds


def _moment(text: str | float) -> float:
    """Return seconds since 1970, or raise where they are none that a calendar shows."""
    seconds = float(text)
    datetime.fromtimestamp(seconds, UTC)
    return seconds


def _event(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event of a benchmark's history, or raise where it is none."""
    kinds = {"at": str, "event": str, "pairs_finished": int}
    if any(type(plain[name]) is not kind for name, kind in kinds.items()):
        raise TypeError(f"{dict(plain)!r} is no event.")
    return dict(plain)


def facts_of(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return a session's provenance, or raise where something in it has another shape."""
    shapes: dict[str, Any] = {"packages": dict, "devices": list, "notes": list}
    for name, value in plain.items():
        if not isinstance(value, shapes.get(name, (str, int, float, type(None)))):
            raise TypeError(f"{name} is {value!r}.")
        inner: list[Any] = []
        if name in shapes:
            inner = list(value.values() if isinstance(value, dict) else value)
        if not all(isinstance(item, str) for item in inner):
            raise TypeError(f"{name} holds {inner!r}.")
    return dict(plain)


def _key_of(run: Run, plan: Plan) -> TrialKey:
    """Return which trial of a plan a run is of.

    Raises
    ------
    Damaged : its tags say no seed, or an arm that the plan does not have
    """
    try:
        key = TrialKey(run.tags["arm"], int(run.tags["seed"]), run.tags.get("dataset", ""))
        if key.arm not in plan.arms or key.dataset not in (plan.datasets or ("",)):
            raise KeyError(key)
        return key
    except (KeyError, ValueError) as error:
        raise Damaged(
            f"MLflow run {run.run_id} no longer says which arm and seed it is.",
            facts=["Its tags arm and seed were changed."],
            fix="restore them, or delete that run:",
            command=["bench", "ui"],
        ) from error


def children_of(runs: Iterable[Run], plan: Plan) -> dict[TrialKey, list[Child]]:
    """Return the runs of every trial, in the order in which they count, the last last.

    Raises
    ------
    Damaged : one says no trial of the plan, and was not deleted for that
    """
    found: dict[TrialKey, list[Child]] = defaultdict(list)
    for run in runs:
        try:
            key = _key_of(run, plan)
        except Damaged:
            if not run.deleted:
                raise
            continue  # it was deleted for that
        found[key].append(Child(key, run))
    return defaultdict(list, {key: _in_order(runs) for key, runs in found.items()})


def tables_of(
    benchmark: Benchmark,
    every: Mapping[TrialKey, Sequence[Child]],
    locate: Locate,
    again: Callable[[], Sequence[str]],
) -> Tables:
    """Read a benchmark back as tidy tables, checking every prediction's digest.

    Parameters
    ----------
    benchmark : whose runs they are
    every : all runs of every trial, oldest first, deleted ones too
    locate : gives the local path of a run's artifact, or raises FileNotFoundError
    again : gives the words of the command that goes on with the benchmark

    Raises
    ------
    Damaged : something is not what was recorded; names all such runs
    """
    rows, epochs, scores = [], [], []
    predictions: dict[Key, Callable[[], Predictions]] = {}
    examples: dict[TrialKey, Examples] = {}
    damaged: dict[TrialKey, Damaged] = {}
    plan = benchmark.plan
    order = {key: position for position, key in enumerate(plan.trials())}
    for key in sorted(every, key=lambda key: order.get(key, len(order))):
        runs = every[key]
        active = [child for child in runs if not child.deleted]
        child = _current_of(active)
        try:
            _require_kept(key, runs, child)
            if child is None:
                continue
            found = _recorded(child, benchmark, locate)
            means = _means(found) if plan.datasets else {}  # each has a test set of its own
        except Damaged as damage:
            damaged[key] = damage
            continue
        row = plan.row(key.seed, key.dataset)
        rows.append(_trial_row(child, row, found.outcome, attempts=len(active)))
        if found.epochs is not None:
            epochs.append(found.epochs.assign(arm=key.arm, seed=row))
        known = {**found.outcome.get("scores", {}), **means}
        if not plan.datasets:
            for split, read in found.predictions.items():
                predictions[key.arm, key.seed, split] = read
            if found.examples is not None:
                examples[key] = found.examples
        scores += [
            {"arm": key.arm, "seed": row, "score": name, "value": value}
            for name, value in known.items()
        ]
    if damaged:
        raise _all_damaged(damaged, again())
    columns = _one_test_set(examples)
    items = {key: {n: of.columns(n) for n in of.values} for key, of in examples.items()}
    scores += [
        {"arm": key.arm, "seed": key.seed, "score": n, "value": columns.mean(of[None])[0]}
        for key, scored in items.items()
        for n, of in scored.items()
    ]
    return Tables(
        trials=pd.DataFrame(rows, columns=[*TRIAL_COLUMNS, *EXTRA_COLUMNS]),
        epochs=pd.concat(epochs, ignore_index=True) if epochs else _no_epochs(),
        scores=pd.DataFrame(scores, columns=["arm", "seed", "score", "value"]),
        predictions=StoredPredictions(predictions, again),
        items={(key.arm, key.seed): scored for key, scored in items.items()},
        columns=columns,
        datasets={
            plan.row(seed, name): place
            for seed in plan.seeds
            for place, name in enumerate(plan.datasets)
        },
    )


def _means(found: artifacts.Recorded) -> dict[str, float]:
    """Return a run's scores on its test set as one number each."""
    every = {} if found.examples is None else dict(found.examples.values)
    if "test" in found.predictions:
        every |= score(found.predictions["test"]()).values
    return {name: float(values.mean()) for name, values in every.items()}


def _one_test_set(examples: Mapping[TrialKey, Examples]) -> Columns:
    """Return what each column counts, the same in all runs.

    Raises
    ------
    BadTables : runs that were scored on other examples, or other clusters of them
    """
    if not examples:
        return Columns()
    first, its = next(iter(examples.items()))
    for key, of in examples.items():
        if len(of) != len(its) or of.order != its.order:
            raise BadTables(
                f"{key.title}, was scored on other test examples than {first.title}.",
                facts=["All runs are scored on the same examples, in the same order."],
                fix="draw the test set without the trial's seed",
            )
    return Columns(weights=its.weights)


class StoredPredictions(Mapping[Key, Predictions]):
    """Predictions that are read from their files whenever asked for, and not kept."""

    def __init__(
        self,
        readers: Mapping[Key, Callable[[], Predictions]],
        again: Callable[[], Sequence[str]],
    ) -> None:
        self._readers, self._again = readers, again

    def __getitem__(self, key: Key) -> Predictions:
        try:
            return self._readers[key]()
        except Damaged as damage:
            raise _all_damaged({TrialKey(*key[:2]): damage}, self._again()) from damage

    def __contains__(self, key: object) -> bool:  # Mapping's own would read the file
        return key in self._readers

    def __iter__(self) -> Iterator[Key]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


def late_modules_of(
    finished: Mapping[TrialKey, Child], benchmark: Benchmark, locate: Locate
) -> dict[str, str]:
    """Return the digests of what trainings loaded by themselves, of one run an arm."""
    late: dict[str, str] = {}
    for child in {key.arm: child for key, child in finished.items()}.values():
        with suppress(Damaged):  # the report says so
            found = _recorded(child, benchmark, locate, only=artifacts.OUTCOME)
            late |= found.outcome.get("facts", {}).get("late_modules", {})
    return late


def _recorded(
    child: Child, benchmark: Benchmark, locate: Locate, *, only: str | None = None
) -> artifacts.Recorded:
    """Return the files of a run, or one, after checking that nothing was changed since it ended."""
    if child.status not in ("FINISHED", "FAILED"):
        return artifacts.Recorded({}, None, {})
    tags, key = child.run.tags, child.key
    if tags.get(spool.SEAL) != spool.seal(benchmark.plan.trial_digest(key), tags):
        raise Damaged(
            f"the record of {_who(key)} was changed after its training.",
            facts=[f"MLflow run {child.run.run_id}: its tags do not fit their seal."],
        )
    if child.status == "FAILED":
        return artifacts.Recorded({}, None, {})
    digests = json.loads(tags[spool.DIGESTS])
    digests = {name: sha for name, sha in digests.items() if only in (None, name)}
    return artifacts.load(digests, lambda name: locate(child.run, name), who=_who(key))


def result_of(child: Child, benchmark: Benchmark, locate: Locate) -> Success:
    """Return what a finished run's training returned, and how it went.

    Raises
    ------
    Damaged : it is not what was recorded
    """
    found, tags = _recorded(child, benchmark, locate), child.run.tags
    rows = [] if found.epochs is None else found.epochs.to_dict("records")
    values: dict[str, Any] = {split: read() for split, read in found.predictions.items()}
    if found.examples is not None:
        values |= {"examples": found.examples.values, "clusters": found.examples.clusters}
    outcome = Outcome(**values, **found.outcome)
    return Success(
        key=child.key,
        outcome=outcome,
        epochs=[{str(k): float(v) for k, v in row.items() if v == v} for row in rows],
        duration_s=float(tags.get("bench.duration_s", 0.0)),
        started_at=child.started / 1000,
        device=tags.get("bench.device", ""),
        threads=int(tags.get("bench.threads", 0)),
        environment=dict(json.loads(tags.get("bench.environment", "{}"))),
        hardware=dict(json.loads(tags.get("bench.hardware", "{}"))),
    )


def earlier(
    benchmark: Benchmark,
    others: Sequence[tuple[Benchmark, Mapping[TrialKey, Child]]],
    wanted: Collection[TrialKey],
) -> dict[TrialKey, tuple[Benchmark, Child]]:
    """Return the finished runs of other benchmarks that are the same trials as some of this one."""
    found: dict[TrialKey, tuple[Benchmark, Child]] = {}
    for other, finished in others:
        for key in wanted:
            if key not in found and key in finished:
                if other.plan.trial_digest(key) == benchmark.plan.trial_digest(key):
                    found[key] = (other, finished[key])
    return found


def _who(key: TrialKey) -> str:
    return f"{key.title},"


def _current_of(runs: Sequence[Child]) -> Child | None:
    """Choose the run that stands for a trial: the latest finished, else the latest failed."""
    for wanted in ("FINISHED", "FAILED", "RUNNING"):
        found = [child for child in runs if child.status == wanted and not _superseded(child)]
        if found:
            return found[-1]
    return None


def standing(children: Mapping[TrialKey, Sequence[Child]]) -> dict[TrialKey, Child]:
    """Return the run that stands for each trial, where there is one."""
    found = {key: _current_of(runs) for key, runs in children.items()}
    return {key: child for key, child in found.items() if child is not None}


def states_of(children: Mapping[TrialKey, Sequence[Child]]) -> dict[TrialKey, str]:
    """Return finished, failed or running for every trial with a run that counts."""
    return {key: child.status.lower() for key, child in standing(children).items()}


def _require_kept(key: TrialKey, runs: Sequence[Child], current: Child | None) -> None:
    """Refuse to go on without a run that somebody took away: deleted, or marked as replaced."""
    last = max((i for i, child in enumerate(runs) if child.status == "FINISHED"), default=0)
    for child in runs[last:]:  # no finished one came after these, so nothing replaced them
        if _superseded(child) and not child.deleted and child.status in ("FINISHED", "FAILED"):
            raise Damaged(
                f"the run of {_who(key)} is marked as superseded, but no other replaced it.",
                facts=[f"MLflow run {child.run.run_id}: its tag {SUPERSEDED}."],
            )
    if current is None or current.status != "FINISHED":
        if any(child.deleted and child.status == "FINISHED" for child in runs):
            raise Damaged(f"the run of {_who(key)} was deleted in MLflow.")


def _superseded(child: Child) -> bool:
    return bool(child.replaced_by)


def _all_damaged(damaged: Mapping[TrialKey, Damaged], again: Sequence[str]) -> Damaged:
    """Return one refusal for all damaged runs, with the command that mends them."""
    first, *others = damaged.values()
    repeats = [word for key in damaged for word in ("--redo", key.typed)]
    return Damaged(
        first.what,
        facts=[*first.facts, *(f"And {other.what}" for other in others)],
        fix="restore it, or",
        command=[*again, *repeats],
    )


def goes_on(benchmark: Benchmark, typed: str) -> list[str]:
    """Return the words of the command that goes on with a benchmark.

    Parameters
    ----------
    benchmark : whose plan says the seeds, where nobody recorded a command
    typed : what its latest session recorded as its command, or nothing
    """
    try:
        words = shlex.split(typed)
    except ValueError:  # of a version that recorded it without quotes
        words = []
    if words[:2] == ["bench", "plan"]:  # --freeze, whose options are those of run
        words[1] = "run"
    if words[:2] != ["bench", "run"]:
        return ["bench", "run", benchmark.name, "--seeds", seeds_text(benchmark.plan.seeds)]
    return [word for word in going_on(words) if word != "--freeze"]


def seeds_text(seeds: Sequence[int]) -> str:
    """Return what --seeds takes for these seeds."""
    if tuple(seeds) == tuple(range(len(seeds))):
        return str(len(seeds))
    if len(seeds) == 1:
        return f"{seeds[0]}-{seeds[0]}"  # a number alone would mean that many seeds
    return ",".join(map(str, seeds))


def _trial_row(
    child: Child, row: int, outcome: Mapping[str, Any], *, attempts: int
) -> dict[str, Any]:
    tags = child.run.tags
    return {
        "arm": child.key.arm,
        "seed": row,
        "status": child.status.lower(),
        "reason": tags.get("bench.reason", ""),
        "code": tags.get("bench.failure", ""),
        "device": tags.get("bench.device", ""),
        "threads": int(tags.get("bench.threads", 0)),
        "duration_s": float(tags.get("bench.duration_s", "nan")),
        "environment": tags.get("bench.environment", "{}"),
        "attempts": attempts,
        "selected_epoch": outcome.get("selected_epoch"),
        "facts": json.dumps(outcome.get("facts", {}), sort_keys=True),
        "logged_accuracy": child.run.metrics.get("test/accuracy"),
        "run_id": child.run.run_id,
    }


def _no_epochs() -> pd.DataFrame:
    return pd.DataFrame({"arm": [], "seed": [], "epoch": []})


def complete_seeds(plan: Plan, finished: Mapping[TrialKey, Any]) -> list[int]:
    """Return the seeds that every arm has finished."""
    return [s for s in plan.seeds if all(key in finished for key in plan.of_seed(s))]


def frozen(plan: Plan) -> dict[str, Any]:
    """Return the first event of a benchmark's history: its plan was frozen."""
    return {"at": now(), "event": "frozen", "pairs_finished": 0, **_judged(plan)}


def gone_on_with(
    found: Benchmark, plan: Plan, finished: Mapping[TrialKey, Any]
) -> tuple[Plan, tuple[dict[str, Any], ...]]:
    """Return the plan that goes on with a benchmark and its history; no seed is taken away."""
    pairs = len(complete_seeds(found.plan, finished))
    merged = plan.in_batches(found.plan.batches).with_seeds(plan.seeds)
    events = list(found.events)
    if merged.seeds != found.plan.seeds:
        events.append({"at": now(), "event": "seeds added", "pairs_finished": pairs})
    if merged.analysis() != found.plan.analysis():
        changed = {"at": now(), "event": "analysis changed", "pairs_finished": pairs}
        events.append({**changed, **_judged(plan)})
    return merged, tuple(events)


def _judged(plan: Plan) -> dict[str, Any]:
    return {"analysis": plan.analysis(), "varied": varied_settings(plan.arms)}
