"""Plan: what will be trained and how it will be judged, fixed and hashed before the first run."""

import difflib
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from typing import Any

from bench.analysis.data.metrics import METRICS
from bench.analysis.data.tables import LARGEST, Design, Scope, Stop
from bench.analysis.errors import Refusal
from bench.design import source_digest
from bench.design.loading import Discovered
from bench.experiment import BadExperiment
from bench.terminal import cut, label

MOST_SEEDS = 100_000
LARGEST_SEED = 2**32 - 1


class BadSeeds(Refusal):
    """A list of seeds that cannot be read."""

    code = "seeds"
    exit_status = 2


class BadSetting(Refusal):
    """A setting or arm that does not fit the experiment."""

    code = "setting"
    exit_status = 2


@dataclass(frozen=True)
class TrialKey:
    """One training of a plan."""

    arm: str
    seed: int

    @property
    def run_name(self) -> str:
        """What MLflow shows: smoothed/seed-07."""
        return f"{self.arm}/seed-{self.seed:02d}"

    @property
    def title(self) -> str:
        """What messages call it: seed 07, smoothed; a long name is shortened."""
        return f"seed {self.seed:02d}, {label(self.arm)}"


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
    margin: float | None = None
    claim: float | None = None
    alpha: float = 0.05
    scope: Scope = "seeds_and_examples"
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
        return digest([*trained, self.draw(key)] if self.aa or self.vary else trained)

    def draw(self, key: TrialKey) -> dict[str, Any]:
        """Return what a trial's generators start from: its seed, unless the plan says otherwise."""
        if self.aa and key.arm != self.baseline:
            word = hashlib.sha256(f"another family: {key.seed}".encode()).digest()[:4]
            return {"seed": int.from_bytes(word, "big")}
        if self.vary:
            return {"seed": PINNED, "varied": self.vary, "drawn": key.seed}
        return {"seed": key.seed}

    def analysis(self) -> dict[str, Any]:
        """Return the part that decides how results are judged; changing it trains nothing."""
        names = ("metric", "higher_is_better", "margin", "claim", "alpha", "scope", "stop")
        return {name: getattr(self, name) for name in (*names, "max_seeds")}

    def trials(self) -> list[TrialKey]:
        """Return every training, the arms of a seed side by side: drift hits both alike."""
        return [TrialKey(arm, seed) for seed in self.seeds for arm in self.arms]

    def packs(self) -> list[tuple[TrialKey, ...]]:
        """Return the trials in the groups that train together; fixed by the plan alone."""
        if not self.pack_seeds:
            return [(key,) for key in self.trials()]
        return [
            tuple(TrialKey(arm, seed) for seed in batch for arm in self.arms)
            for batch in self.batches
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
        return Design(
            experiment=self.experiment,
            question=self.question,
            baseline=self.baseline,
            treatments=tuple(self.arms)[1:],
            seeds=self.seeds,
            batches=self.batches,
            aa=self.aa,
            arm_settings=self.arms,
            hash=self.hash,
            benchmark_id=self.benchmark_id,
            **self.analysis(),
            **history,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        plain = asdict(self)
        del plain["_cache"]
        return {**plain, "hash": self.hash, "benchmark_id": self.benchmark_id}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Plan":
        """Rebuild a plan from its JSON values."""
        known = {k: v for k, v in plain.items() if k not in ("hash", "benchmark_id")}
        return cls(**{**known, "batches": tuple(tuple(batch) for batch in plain["batches"])})

    def _training(self) -> list[Any]:
        arms = [[name, dict(settings)] for name, settings in self.arms.items()]
        more = [{"aa": self.aa, "vary": self.vary}] if self.aa or self.vary else []
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
    return [
        key
        for key in keys
        if any(
            s.get(key, absent) != next(iter(arms.values())).get(key, absent) for s in arms.values()
        )
    ]


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
    scope: Scope = "seeds_and_examples",
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
        margin=experiment.margin if margin is None else margin,
        claim=experiment.claim if claim is None else claim,
        scope=scope,
        stop=stop,
        max_seeds=max_seeds,
        aa=aa,
        vary=vary,
    )
    return plan.with_seeds(seeds)


def arms_with(
    found: Discovered, overrides: Sequence[str] = (), extra_arms: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """Return every arm's full settings after `--set KEY=VALUE` and `--arm NAME:KEY=VALUE`.

    Raises
    ------
    BadSetting : malformed text, an unknown key (the nearest is named), a value of another type,
        a setting of every arm that the arms differ in, or two arms that end up equal
    """
    experiment = found.experiment
    shared = dict(experiment.settings)
    own = {name: dict(settings) for name, settings in experiment.arms.items()}
    for text in overrides:
        typed = _Typed("--set", text, shared)
        key = text.partition("=")[0].strip()
        if any(key in settings for settings in own.values()):
            raise BadSetting(
                f"{key} is what the arms differ in, so --set {text} would undo the comparison.",
                options=[("arm", f"another:{text}")],
                without=[("set", text)],
            )
        key, value = typed.pair(text)
        shared[key] = value
    extra: dict[str, _Typed] = {}
    for text in extra_arms:
        name, _, rest = text.partition(":")
        differing = {k: v for settings in own.values() for k, v in settings.items()}
        typed = _Typed("--arm", text, {**differing, **shared, **differing})
        if name in own:
            free = next(f"{name}-{i}" for i in count(2) if f"{name}-{i}" not in own)
            trouble = f'--arm "{text}": arm {name!r} exists already.'
            raise BadSetting(trouble, **typed.instead(f"{free}:{rest or typed.example()}"))
        if not name or not rest:
            trouble = f'--arm "{text}": it has no NAME:KEY=VALUE.'
            raise BadSetting(trouble, **typed.instead(f"{name or 'another'}:{typed.example()}"))
        own[name], extra[name] = dict(map(typed.pair, rest.split(","))), typed
    arms = {name: {**shared, **settings} for name, settings in own.items()}
    _require_different(arms, extra)
    return arms


def _require_different(
    arms: Mapping[str, Mapping[str, Any]], extra: "Mapping[str, _Typed]"
) -> None:
    seen: dict[str, str] = {}
    for name, settings in arms.items():
        twin = seen.setdefault(digest(dict(settings)), name)
        if twin != name:
            fix: dict[str, Any] = {"fix": "give the arms different settings"}
            if name in extra:
                fix = extra[name].instead(f"{name}:{extra[name].example()}")
            raise BadExperiment(
                f"arms {twin!r} and {name!r} have the same settings: nothing to compare.", **fix
            )


@dataclass(frozen=True)
class _Typed:
    """One `--set KEY=VALUE` or `--arm NAME:KEY=VALUE[,…]`, as it was typed."""

    option: str
    text: str
    known: Mapping[str, Any]  # every setting, with a value of its type

    def pair(self, part: str) -> tuple[str, Any]:
        """Return the key and the value of one KEY=VALUE."""
        key, equals, raw = part.partition("=")
        key = key.strip()
        if not equals or not key:
            what = f'{self.option} "{part}" is not KEY=VALUE.'
            raise BadSetting(what, **self._corrected(part))
        if key not in self.known:
            begun = [name for name in self.known if key and name.startswith(key)]
            close = begun[:1] or difflib.get_close_matches(key, list(self.known), n=1)
            facts = [f"Closest: {close[0]}."] if close else []
            raise BadSetting(
                f'there is no setting "{key}".',
                facts=[*facts, f"Known: {', '.join(self.known) or 'none'}."],
                **self._corrected(part, *close),
            )
        value = _value(raw)
        old = self.known[key]
        if not _fits(value, old):
            kind = "number" if _is_number(old) else type(old).__name__
            raise BadSetting(
                f"{key} is {value!r}, but it must be a {kind} like {old!r}.",
                **self._corrected(part, key),
            )
        return key, float(value) if isinstance(old, float) and isinstance(value, int) else value

    def example(self, key: str | None = None) -> str:
        """Return a KEY=VALUE that can be typed: of an arm, a value that no arm has yet."""
        numbers = [name for name, value in self.known.items() if _is_number(value)]
        key = key or next(iter([*numbers, *self.known]), None)
        if key is None:
            return "KEY=VALUE"
        value = self.known[key]
        if self.option == "--arm" and _is_number(value):
            value = value + 1 if isinstance(value, int) else float(f"{1.5 * value:g}") or 0.1
        return f"{key}={value if isinstance(value, str) else json.dumps(value)}"

    def instead(self, text: str) -> dict[str, Any]:
        """Return a refusal's remedy: another text in place of this one."""
        return {"replace": [(self.text, text)]}

    def _corrected(self, part: str, key: str | None = None) -> dict[str, Any]:
        """Return the fix for one KEY=VALUE, with the typed value where it fits."""
        if not self.known:
            return {"without": [self.option[2:]]}
        raw = part.partition("=")[2]
        keeps = key is not None and raw and _fits(_value(raw), self.known[key])
        good = f"{key}={raw}" if keeps else self.example(key)
        if self.option == "--set":
            return self.instead(good)
        name, _, rest = self.text.partition(":")
        pieces = rest.split(",")
        kept = {piece.partition("=")[0].strip() for piece in pieces if piece != part}
        if good.partition("=")[0] in kept:  # it is given already
            return self.instead(f"{name}:{','.join(piece for piece in pieces if piece != part)}")
        return self.instead(f"{name}:{','.join(good if p == part else p for p in pieces)}")


def _value(raw: str) -> Any:
    """Return what a typed value says: JSON, Python's True, False and None, or a text."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):  # a number may be too long even for Python
        return {"True": True, "False": False, "None": None}.get(raw, raw)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _fits(value: Any, old: Any) -> bool:
    """Say whether a typed value can take the place of another."""
    alike = old is None or (_is_number(old) and _is_number(value)) or type(value) is type(old)
    return alike and not (
        isinstance(value, (int, float)) and not abs(value) <= sys.float_info.max  # nor NaN
    )


def parse_seeds(text: str, option: str = "seeds") -> tuple[int, ...]:
    """Read "20" (that many, from 0), "0-19" or "0,3,7".

    Parameters
    ----------
    option : whose value it is

    Raises
    ------
    BadSeeds : anything else, a seed above 4294967295, or one given twice
    """
    text = text.strip()

    def refusal(what: str) -> BadSeeds:
        every = f"Seeds are whole numbers from 0 to {LARGEST_SEED}, each once."
        return BadSeeds(
            f'--{option.replace("_", "-")} "{text[:60]}" {what}.',
            facts=[f"Use 20, 0-19 or 0,3,7. {every}"],
            options=[(option, 20)],
        )

    if re.fullmatch(r"\d+", text, re.ASCII):
        n = int(text[:12])
        if 1 <= n <= MOST_SEEDS:
            return tuple(range(n))
        raise refusal(f"is not between 1 and {MOST_SEEDS:,} seeds")
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,12})(?:-(\d{1,12}))?\s*", part, re.ASCII)
        if match is None:
            raise refusal("is not a number, range or list")
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        if last < first or last > LARGEST_SEED:
            raise refusal("is not a number, range or list")
        if len(found) + last - first + 1 > MOST_SEEDS:
            raise refusal(f"asks for more than {MOST_SEEDS:,} seeds")
        found += range(first, last + 1)
    twice = [seed for seed, times in Counter(found).items() if times > 1]
    if twice:
        raise refusal(f"names seed {twice[0]} twice")
    return tuple(found)


def require_margin(margin: float | None, claim: float | None) -> None:
    """Refuse a typed margin or claim that is not one.

    Raises
    ------
    BadSetting : a margin of 0 or less, or a number that is none, or whose square is none
    """
    if margin is not None and not 0 < margin < float("inf"):
        raise BadSetting(f"--margin {margin:g} is not a number above 0.", options=[("margin", 0.3)])
    if claim is not None and not abs(claim) < float("inf"):
        raise BadSetting(f"--claim {claim} is not a number.", options=[("claim", 0.3)])
    for option, value in (("--margin", margin), ("--claim", claim)):
        if value and not 1 / LARGEST < abs(value) < LARGEST:
            raise BadSetting(
                f"{option} {value:g} is beyond every metric.",
                facts=[f"It lies between {1 / LARGEST:g} and {LARGEST:g}, in size."],
                options=[(option[2:], 0.3)],
            )


def in_metric_units(value: float | None, metric: str) -> float | None:
    """Turn what a user typed (pp for fractions) into metric units."""
    known = METRICS.get(metric)
    is_fraction = known is not None and known.unit == "fraction"
    return None if value is None else value / 100 if is_fraction else value
