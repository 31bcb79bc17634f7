"""Plan: what will be trained and how it will be judged, fixed and hashed before the first run."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from bench.analysis.data.tables import Design, Goal, Scope, Stop
from bench.analysis.data.units import Units
from bench.design import source_digest
from bench.design.description import Discovered
from bench.terminal import cut, label


@dataclass(frozen=True)
class TrialKey:
    """One training of a plan."""

    arm: str
    seed: int
    dataset: str = ""  # of a plan that trains on several

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> "TrialKey":
        """Return the trial that a message with its parts speaks of."""
        return cls(message["arm"], message["seed"], message.get("dataset", ""))

    @property
    def parts(self) -> dict[str, Any]:
        """Its parts by name: arm, seed, and the data set where there is one."""
        named = {"dataset": self.dataset} if self.dataset else {}
        return {"arm": self.arm, "seed": self.seed, **named}

    @property
    def typed(self) -> str:
        """What --redo takes: 7:smoothed, or 7:smoothed:cifar."""
        return f"{self.seed}:{self.arm}" + (f":{self.dataset}" if self.dataset else "")

    @property
    def run_name(self) -> str:
        """What MLflow shows: smoothed/seed-07, or smoothed/cifar/seed-07."""
        middle = f"{self.dataset}/" if self.dataset else ""
        return f"{self.arm}/{middle}seed-{self.seed:02d}"

    @property
    def title(self) -> str:
        """What messages call it: seed 07, smoothed; a long name is shortened."""
        where = f", {label(self.dataset)}" if self.dataset else ""
        return f"seed {self.seed:02d}, {label(self.arm)}{where}"


PlanScope = Scope | Literal["new_datasets"]
PINNED = 0  # the seed of the streams that `vary` does not name


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be trained (arms, source, data, seeds) and how it will be judged."""

    experiment: str
    question: str
    arms: Mapping[str, Mapping[str, Any]]  # name to full settings, the baseline first
    source_digest: str
    data: Mapping[str, Any]  # what `prepare` said about the data
    batches: tuple[tuple[int, ...], ...]  # seeds as planned; of one pack where there are packs
    pack_seeds: int = 0  # of the packs to come; 0: every trial is its own pack
    metric: str = "accuracy"
    higher_is_better: bool = True
    cluster: str = ""  # what test examples come several to, such as a passage
    margin: float | None = None
    claim: float | None = None
    alpha: float = 0.05
    scope: PlanScope = "seeds_and_examples"
    datasets: tuple[str, ...] = ()  # on each of which every arm and seed is trained
    test_share: float | None = None  # n_test / n_train, where each seed is a fold of one data set
    goal: Goal = "better"  # what would be a success
    stop: Stop = "fixed"
    max_seeds: int | None = None
    aa: bool = False  # the second arm is the first one again, on another family of seeds
    vary: str = ""  # the one stream that follows the seed; the others are pinned
    files: Mapping[str, str] = field(default_factory=dict)  # what source_digest is a digest of
    _cache: dict[str, str] = field(
        default_factory=dict, init=False, repr=False, compare=False, hash=False
    )

    @property
    def seeds(self) -> tuple[int, ...]:
        """All planned seeds, in the order in which they were planned."""
        return tuple(seed for batch in self.batches for seed in batch)

    @property
    def baseline(self) -> str:
        """The first arm."""
        return next(iter(self.arms))

    @property
    def benchmark_id(self) -> str:
        """Digest of the training part without the seeds: what may share one parent run."""
        return self._digest("benchmark", lambda: self._training())

    @property
    def hash(self) -> str:
        """Digest of the whole plan: training part, seeds and analysis."""
        return self._digest(
            "plan", lambda: [self._training(), self.batches, self.analysis(), self.question]
        )

    def trial_digest(self, key: TrialKey) -> str:
        """Return the identity of one trial: same identity, same result."""
        trained = [self.source_digest, key.arm, dict(self.arms[key.arm]), dict(self.data), key.seed]
        trained += [key.dataset] if key.dataset else []
        return digest([*trained, self.draw(key)] if self.aa or self.vary else trained)

    def draw(self, key: TrialKey) -> dict[str, Any]:
        """Return what a trial's generators start from: its seed, unless the plan says otherwise."""
        again = self.aa and key.arm != self.baseline
        if again or key.dataset:  # trainings of two data sets share nothing
            family = f"{'another family: ' if again else ''}{key.dataset and f'{key.dataset}: '}"
            word = hashlib.sha256(f"{family}{key.seed}".encode()).digest()[:4]
            return {"seed": int.from_bytes(word, "big")}
        if self.vary:
            return {"seed": PINNED, "varied": self.vary, "drawn": key.seed}
        return {"seed": key.seed}

    def analysis(self) -> dict[str, Any]:
        """Return the part that decides how results are judged; changing it trains nothing."""
        names = ("metric", "higher_is_better", "margin", "claim", "alpha", "scope", "stop")
        named: dict[str, Any] = {"cluster": self.cluster} if self.cluster else {}
        named |= {"goal": self.goal} if self.goal != "better" else {}
        named |= {} if self.test_share is None else {"test_share": self.test_share}
        return {name: getattr(self, name) for name in (*names, "max_seeds")} | named

    def trials(self) -> list[TrialKey]:
        """Return every training, the arms of a seed side by side: drift hits both alike."""
        return [key for seed in self.seeds for key in self.of_seed(seed)]

    def of_seed(self, seed: int) -> list[TrialKey]:
        """Return every training of a seed: all arms on the first data set, then on the next."""
        sets = self.datasets or ("",)
        return [TrialKey(arm, seed, name) for name in sets for arm in self.arms]

    def row(self, seed: int, dataset: str) -> int:
        """Return the number of a seed on a data set among all rows of the analysis."""
        if not self.datasets:
            return seed
        return seed * len(self.datasets) + self.datasets.index(dataset)

    def packs(self) -> list[tuple[TrialKey, ...]]:
        """Return the trials in the groups that train together; fixed by the plan alone."""
        if not self.pack_seeds:
            return [(key,) for key in self.trials()]
        return [
            tuple(TrialKey(arm, seed, name) for seed in batch for arm in self.arms)
            for batch in self.batches
            for name in self.datasets or ("",)
        ]

    def packs_left(self, finished: Collection[TrialKey]) -> list[tuple[TrialKey, ...]]:
        """Return the packs with a trial that is not finished; such a pack trains again whole."""
        return [pack for pack in self.packs() if any(key not in finished for key in pack)]

    def with_seeds(self, seeds: Iterable[int]) -> "Plan":
        """Return the plan with the seeds it does not have yet: one more batch, or as many packs."""
        known = set(self.seeds)
        new = tuple(seed for seed in seeds if seed not in known)
        size = self.pack_seeds or len(new) or 1
        packs = tuple(new[i : i + size] for i in range(0, len(new), size))
        return replace(self, batches=(*self.batches, *packs)) if new else self

    def in_batches(self, batches: Iterable[Iterable[int]]) -> "Plan":
        """Return the plan with its seeds in the portions in which they were once planned."""
        return replace(self, batches=tuple(tuple(batch) for batch in batches))

    def design(self, **history: Any) -> Design:
        """Return what the analysis needs to know, with what happened to the plan since."""
        sets = self.datasets or ("",)
        names = {self.row(s, name): f"{name}, {s}" for s in self.seeds for name in self.datasets}
        batches = tuple(tuple(self.row(s, name) for s in b for name in sets) for b in self.batches)
        judged = {
            name: value
            for name, value in self.analysis().items()
            if name not in ("cluster", "test_share")
        }
        return Design(
            experiment=self.experiment,
            question=self.question,
            baseline=self.baseline,
            treatments=tuple(self.arms)[1:],
            seeds=tuple(row for batch in batches for row in batch),
            batches=batches,
            aa=self.aa,
            arm_settings=self.arms,
            units=self.units(),
            labels=names,
            hash=self.hash,
            benchmark_id=self.benchmark_id,
            **{**judged, "scope": "seeds"} if self.datasets or self.test_share else judged,
            **history,
        )

    def units(self) -> Units:
        """Return what its rows and columns are."""
        if self.test_share is not None:
            return Units(rows="folds", columns="none", test_share=self.test_share)
        if not self.datasets:
            return Units(columns="clusters", cluster=self.cluster) if self.cluster else Units()
        new = self.scope == "new_datasets"
        return Units(
            columns="none", datasets=self.datasets, trained="per-dataset", new_datasets=new
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        plain = asdict(self)
        usual = {"cluster": "", "datasets": (), "goal": "better", "test_share": None}
        for name in ("_cache", *(n for n, value in usual.items() if plain[n] == value)):
            del plain[name]
        return {**plain, "hash": self.hash, "benchmark_id": self.benchmark_id}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Plan":
        """Rebuild a plan from its JSON values."""
        known = {k: v for k, v in plain.items() if k not in ("hash", "benchmark_id")}
        batches = tuple(tuple(batch) for batch in plain["batches"])
        return cls(**{**known, "batches": batches, "datasets": tuple(plain.get("datasets", ()))})

    def _training(self) -> list[Any]:
        arms = [[name, dict(settings)] for name, settings in self.arms.items()]
        more = [{"aa": self.aa, "vary": self.vary}] if self.aa or self.vary else []
        more += [{"datasets": [*self.datasets]}] if self.datasets else []
        packed = min(self.pack_seeds, 1)  # how many seeds a device holds is not what is trained
        return [self.experiment, self.source_digest, arms, dict(self.data), packed, *more]

    def _digest(self, name: str, part: Any) -> str:
        if name not in self._cache:
            self._cache[name] = digest(part())
        return self._cache[name]


def digest(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def varied_settings(arms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the settings in which the arms differ."""
    keys = dict.fromkeys(key for settings in arms.values() for key in settings)
    absent = object()
    first, *others = arms.values()

    def differs(key: str) -> bool:
        return any(s.get(key, absent) != first.get(key, absent) for s in others)

    return [key for key in keys if differs(key)]


def what_changed(old: Plan, new: Plan) -> list[str]:
    """Return in words why two plans of one experiment are not one benchmark."""
    found = []
    if old.source_digest != new.source_digest:
        names = source_digest.changed(old.files, new.files) if old.files else []
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        listed = f" ({', '.join(names[:3])}{more})" if names else ""
        found.append(f"the experiment's source{listed}")
    if digest(dict(old.data)) != digest(dict(new.data)):
        found.append("the data")
    if old.datasets != new.datasets:
        before, now = (", ".join(map(label, plan.datasets)) or "one" for plan in (old, new))
        found.append(f"the data sets ({before}; now {now})")
    if list(old.arms) != list(new.arms):
        before, now = (", ".join(map(label, plan.arms)) for plan in (old, new))
        found.append(f"the arms ({before}; now {now})")
    absent = object()
    for arm in (arm for arm in new.arms if arm in old.arms):
        for key in dict.fromkeys([*old.arms[arm], *new.arms[arm]]):
            before, now = (plan.arms[arm].get(key, absent) for plan in (old, new))
            text = f"{key} ({_shown(before, absent)}, now {_shown(now, absent)})"
            if _shown(before, absent) != _shown(now, absent) and text not in found:
                found.append(text)
    return found or ["how its trials are trained together"]


def _shown(value: Any, absent: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return "not set" if value is absent else cut(text, 80)


def make_plan(
    found: Discovered,
    *,
    data: Mapping[str, Any],
    arms: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
    margin: float | None = None,
    claim: float | None = None,
    scope: PlanScope = "seeds_and_examples",
    goal: Goal = "better",
    stop: Stop = "fixed",
    max_seeds: int | None = None,
    aa: bool = False,
    vary: str = "",
    pack_seeds: int | None = None,
) -> Plan:
    """Fix what an experiment will train, in which packs, and how it will be judged.

    Parameters
    ----------
    pack_seeds : how many seeds train together, by the devices; None where the experiment says it,
        or where that is not known yet
    """
    experiment = found.experiment
    plan = Plan(
        experiment=experiment.name,
        question=experiment.question,
        arms=arms,
        source_digest=found.source_digest,
        files=found.files,
        data=data,
        batches=(),
        pack_seeds=experiment.pack_seeds or 0 if pack_seeds is None else pack_seeds,
        metric=experiment.metric,
        higher_is_better=experiment.higher_is_better,
        cluster=experiment.cluster,
        datasets=tuple(experiment.datasets),
        test_share=experiment.test_share,
        margin=experiment.margin if margin is None else margin,
        claim=experiment.claim if claim is None else claim,
        scope=scope,
        goal=goal,
        stop=stop,
        max_seeds=max_seeds,
        aa=aa,
        vary=vary,
    )
    return plan.with_seeds(seeds)
