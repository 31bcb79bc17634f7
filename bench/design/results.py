"""Jobs and results: what a training process is asked for, and what comes back."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bench.design.plan import TrialKey
from bench.experiment import Outcome

Epochs = list[dict[str, float]]


@dataclass(frozen=True)
class Job:
    """One pack of trials, which train in one process: plain values only."""

    pack: int
    keys: tuple[TrialKey, ...]
    settings: Mapping[str, Mapping[str, Any]]  # arm to full settings
    reference: str
    source_digest: str
    data_dir: str | None
    timeout_s: float | None
    draws: Mapping[TrialKey, Mapping[str, Any]] = field(default_factory=dict)  # seeds, by the plan
    attempt: int = 1
    folders: str | None = None  # where the runs' own folders are made; None: thrown away after use
    devices: int = 1  # that one training gets
    reuse_process: bool = False
    source_files: Mapping[str, str] = field(default_factory=dict)  # digests, by file
    watch_files: bool = False  # note which files it reads or runs that are not declared

    def only(self, keys: Sequence[TrialKey]) -> "Job":
        """Return the job with some of its trials."""
        return replace(self, keys=tuple(keys))

    def as_dict(self) -> dict[str, Any]:
        """Return the job as JSON values."""
        return {
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "keys": [[*key.parts.values()] for key in self.keys],
            "settings": {arm: dict(settings) for arm, settings in self.settings.items()},
            "draws": [[*key.parts.values(), dict(draw)] for key, draw in self.draws.items()],
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Job":
        """Rebuild a job from its JSON values."""
        keys = tuple(TrialKey(*key) for key in plain["keys"])
        draws = {TrialKey(*key): draw for *key, draw in plain["draws"]}
        return cls(**{**plain, "keys": keys, "draws": draws})


@dataclass(frozen=True, eq=False)
class Scored:
    """One run's metric; `examples` has that of each test example, shape (N,), or is None."""

    value: float
    examples: NDArray[np.float64] | None = None
    weights: NDArray[np.float64] | None = None  # what each counts; None: all alike


@dataclass(frozen=True, kw_only=True, eq=False)
class _Over:
    """What is known of every training that is over."""

    key: TrialKey
    epochs: Epochs = field(default_factory=list)
    duration_s: float = 0.0
    started_at: float = 0.0
    device: str = ""
    threads: int = 0
    log: str = ""
    attempt: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, str] = field(default_factory=dict)  # which cards, and their memory used
    folder: Path | None = None  # the run's own, on this machine
    files: Mapping[str, bytes] = field(default_factory=dict)  # the same, from another machine


@dataclass(frozen=True, kw_only=True, eq=False)
class Success(_Over):
    """A finished trial."""

    outcome: Outcome

    def fingerprint(self) -> str:
        """Return a digest of everything that the training returned, to the last bit."""
        outcome = self.outcome
        sha = hashlib.sha256(repr(sorted(outcome.scores.items())).encode())
        for found in (outcome.test, outcome.test_last, outcome.validation):
            if found is not None:
                sha.update(np.ascontiguousarray(found.log_probabilities).tobytes())
        for name, values in sorted(outcome.examples.items()):
            sha.update(name.encode() + values.tobytes())
        return sha.hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False)
class Failure(_Over):
    """A trial that has no value, and why."""

    code: str
    what: str
    facts: tuple[str, ...] = ()
    traceback: str = ""
    error: str = ""  # the exception's type, or the signal's name
    place: str = ""  # the last line of the experiment's own code: file.py:12
    retryable: bool = False


Result = Success | Failure


@dataclass(frozen=True)
class ScoredOn:
    """The test set that a training was scored on."""

    size: int
    labels: str  # a digest of them, or of the clusters and names of examples, in their order

    @classmethod
    def of(cls, result: Result) -> Self | None:
        """Return the test set of a training; None without one."""
        if not isinstance(result, Success):
            return None
        test, scored = result.outcome.test, result.outcome.scored
        if test is not None:
            size, order = len(test), test.labels.tobytes()
        elif scored is not None:
            ids = str(result.outcome.facts.get("example_ids", ""))
            size, order = len(scored), scored.order + ids.encode()
        else:
            return None
        return cls(size, hashlib.sha256(order).hexdigest()[:16])

    @classmethod
    def from_tag(cls, tag: str) -> Self | None:
        """Return what a run is tagged with; None where that is no such tag."""
        found = re.fullmatch(r"(\d{1,15})-([0-9a-f]{16})", tag, re.ASCII)
        return None if found is None else cls(int(found[1]), found[2])

    @property
    def tag(self) -> str:
        """What a run is tagged with."""
        return f"{self.size}-{self.labels}"
