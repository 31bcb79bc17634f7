"""The contract: what an experiment gives to bench and what it gets."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from bench.analysis.data.examples import Examples
from bench.analysis.data.metrics import METRICS, Metric as Metric, Predictions as Predictions
from bench.analysis.errors import Refusal
from bench.estimators import Estimators

if TYPE_CHECKING:
    import torch

Settings = Mapping[str, Any]
LARGEST_EPOCH = 2**31


class BadExperiment(Refusal):
    """An experiment whose definition cannot be run."""

    code = "experiment"
    exit_status = 2


class BadOutcome(Refusal):
    """A training that returned something other than what the contract asks for."""

    code = "outcome"
    exit_status = 3


class Diverged(Refusal):
    """A loss that is no longer a number."""

    code = "nan"
    exit_status = 3


@dataclass(frozen=True, eq=False)
class Trial:
    """One training: one arm, one seed, one data set where there are several.

    Attributes
    ----------
    seed : the pair's seed, the same in every arm; another one on each data set
    arm : the arm's name
    dataset : the one of `Experiment(datasets=…)` to train on, else ""
    settings : the experiment's settings with the arm's own on top
    device : "cpu", "cuda:0" or "mps": where to train; a training sees its own GPUs alone, from 0
    data_dir : the folder of `--data`, or None
    folder : this run's own, empty at first; its files are kept with the run in MLflow, 64 MiB in
        all. Where you call your training yourself it is the current folder
    varied, drawn : with `--vary`: the one stream that follows its own seed, and that seed
    """

    seed: int
    arm: str
    settings: Settings
    device: str = "cpu"
    data_dir: Path | None = None
    folder: Path = Path()
    dataset: str = ""
    varied: str = ""
    drawn: int = 0
    on_epoch: Callable[[int, dict[str, float]], None] = field(
        default=lambda epoch, values: None, repr=False
    )
    _streams: dict[tuple[str, str], Any] = field(default_factory=dict, init=False, repr=False)

    def rng(self, stream: str) -> np.random.Generator:
        """Return this seed's generator for one source of randomness.

        Each stream ("init", "subset", "order", "augment", "dropout", or a name of your own) is
        independent of the others and the same in every arm, so that one more random number drawn
        by the treatment does not shift the baseline's batches. A second call goes on where the
        first stopped.
        """
        key = ("numpy", stream)
        if key not in self._streams:
            self._streams[key] = np.random.default_rng(self._entropy(stream))
        generator: np.random.Generator = self._streams[key]
        return generator

    def torch_rng(self, stream: str, device: str | None = None) -> "torch.Generator":
        """Return this seed's torch generator for one source of randomness.

        Parameters
        ----------
        device : where it draws, as `trial.device`; the CPU where nothing is said. The generators of
            two kinds of device draw different numbers.
        """
        key = (f"torch {device}" if device not in (None, "cpu") else "torch", stream)
        if key not in self._streams:
            import torch

            words = self._entropy(stream).generate_state(1, np.uint64)
            made = torch.Generator(device or "cpu")
            self._streams[key] = made.manual_seed(int(words[0] >> np.uint64(1)))
        generator: torch.Generator = self._streams[key]
        return generator

    def _entropy(self, stream: str) -> np.random.SeedSequence:
        """Give every (seed, stream) its own entropy, whatever other streams there are."""
        word = int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8], "big")
        seed = self.drawn if self.varied == stream else self.seed
        return np.random.SeedSequence(seed, spawn_key=(word,))

    def streams(self) -> dict[str, str]:
        """Return, for each stream used so far, a digest of where its generators stand.

        Two arms of a seed whose digests agree have drawn the same numbers from that stream, or as
        many of the same kind: the same batches, the same augmentations.
        """
        found: dict[str, str] = {}
        for (kind, stream), generator in sorted(self._streams.items()):
            state = (
                json.dumps(generator.bit_generator.state, sort_keys=True, default=str).encode()
                if kind == "numpy"
                else generator.get_state().numpy().tobytes()
            )
            before = found.get(stream, "")
            found[stream] = hashlib.sha256(before.encode() + state).hexdigest()[:16]
        return found

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Record what one epoch measured; it is in the store within two seconds.

        Parameters
        ----------
        epoch : 0, 1, 2, …
        values : for example {"train/loss": 0.41, "val/accuracy": 0.93}

        Raises
        ------
        Diverged : a loss is NaN or infinite, so that this training is over
        BadOutcome : an epoch that is not 0, 1, 2, …, a value that is not one number, a name that
            the store cannot hold, or "epoch" or "time", which it has already
        """
        number = _whole(epoch, "trial.log(epoch, …)")
        if not 0 <= number < LARGEST_EPOCH:
            raise BadOutcome(
                f"epoch {number} was logged.", facts=["Epochs count 0, 1, 2, … below 2^31."]
            )
        plain = {_storable(str(name)): _number(value, name) for name, value in values.items()}
        for name in ("epoch", "time"):
            if name in plain:
                raise BadOutcome(
                    f'"{name}" of every epoch is bench\'s own to record.',
                    fix=f'trial.log(epoch, {{"time/{name}": …}})',
                )
        self.on_epoch(number, plain)
        for name, value in plain.items():
            if name.rsplit("/", 1)[-1] == "loss" and not math.isfinite(value):
                raise Diverged(f"{name} became {value} at epoch {epoch}.")


def _whole(value: object, what: str) -> int:
    """Return a whole number of any type, or refuse it."""
    as_float = value.item() if hasattr(value, "item") else value
    if isinstance(as_float, bool) or not isinstance(as_float, int | float) or as_float % 1 != 0:
        raise BadOutcome(
            f"{what} takes a whole number, not {str(value)[:60]!r}.", fix="int(epoch), from 0 on"
        )
    return int(as_float)


def _number(value: object, name: str) -> float:
    """Return a value of one number, of any framework, or refuse it."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise BadOutcome(
            f"{name!r} is {type(value).__name__} {str(value)[:60]!r}, not one number.",
            fix="log one number a name, for example loss.item()",
        ) from None


def _plain_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts as JSON values: numbers of numpy and torch become Python's."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return _plain_facts(value)
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
            value = value.item()
        if value is None or isinstance(value, str | bool | int | float):
            return value
        raise BadOutcome(
            f"the facts hold {type(value).__name__} {str(value)[:60]!r}, which cannot be recorded.",
            facts=[
                "A fact is a text, a number, True, False, None, or a list or dictionary of them."
            ],
            fix="str(…) of it, or leave it out",
        )

    for name in facts:
        if not isinstance(name, str):
            raise BadOutcome(
                f"the facts have the key {name!r}, a {type(name).__name__}; keys are texts.",
                fix=f'facts={{"{name}": …}}',
            )
    return {name: plain(value) for name, value in facts.items()}


def _storable(name: str) -> str:
    """Return a name, or refuse it here: in the store it would stop every other training too."""
    if len(name) > 250 or not re.fullmatch(r"\w[\w .:-]*(/\w[\w .:-]*)*", name):
        raise BadOutcome(
            f"nothing can be logged under the name {name[:60]!r}.",
            facts=["Names are letters, digits, spaces and _ - . : in parts joined by /."],
            fix='for example "val/top-5" for "val/top@5"',
        )
    return name


def _require_plain(settings: Settings) -> None:
    """Refuse settings that cannot be recorded, nor compared from one day to the next."""
    for name, value in settings.items():
        try:
            json.dumps(value)
            if _storable(name):
                continue
        except (TypeError, ValueError, BadOutcome):
            raise BadExperiment(
                f"setting {name!r} is {type(value).__name__} {str(value)[:60]!r}: it cannot be "
                "recorded.",
                facts=[
                    "A setting has a name of letters and digits, and a number, text, True,",
                    "False, None, or a list or dictionary of them as its value.",
                ],
                fix="give a name in the settings and look the object up in train()",
            ) from None


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What one training returns.

    Parameters
    ----------
    test : predictions on the fixed test set, at the selected epoch: what is scored
    test_last : the same at the last epoch
    validation : predictions on validation examples, at the selected epoch
    scores : plain numbers, for experiments without class predictions
    examples : name of a score to that of every test example, shape (N,), for tasks without class
        predictions: the same examples in the same order in all runs
    clusters : shape (N,), of `examples`: a whole number or a text, the same for examples that were
        drawn together (questions on one passage); `Experiment(cluster=…)` says what they are called
    selected_epoch : the epoch of `test` and `validation`
    facts : small plain values worth keeping with the run (counts, digests, notes); "trained_on",
        how many examples it drew, is compared with the "train_pool" of `Experiment(prepare=…)`

    Raises
    ------
    BadOutcome : neither predictions nor scores nor examples, a score that is not a finite number,
        one name for two of them, clusters of predictions, facts that JSON does not know
    BadExamples : scores of examples that are no arrays of finite numbers, all of one length
    """

    test: Predictions | None = None
    test_last: Predictions | None = None
    validation: Predictions | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    examples: Mapping[str, Any] = field(default_factory=dict)
    clusters: Any = None
    selected_epoch: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    scored: Examples | None = field(init=False, default=None)  # examples and clusters, checked

    def __post_init__(self) -> None:
        if self.examples or self.clusters is not None:
            found = self._examples()
            object.__setattr__(self, "scored", found)
            object.__setattr__(self, "examples", found.values)
            object.__setattr__(self, "clusters", found.clusters)
        if self.test is None and not self.scores and self.scored is None:
            raise BadOutcome(
                "the training returned neither test predictions nor scores.",
                fix="return Outcome(test=Predictions(log_probabilities, labels)), "
                'Outcome(examples={"bleu": array}) or Outcome(scores={"return": 312.0})',
            )
        plain = {}
        for name, value in self.scores.items():
            number = _number(value, f"score {name}")
            if not math.isfinite(number):
                raise BadOutcome(f"score {name!r} is {number}, not a finite number.")
            plain[_storable(str(name))] = number
        object.__setattr__(self, "scores", plain)
        object.__setattr__(self, "facts", _plain_facts(self.facts))
        if self.selected_epoch is not None:
            chosen = _whole(self.selected_epoch, "Outcome(selected_epoch=…)")
            object.__setattr__(self, "selected_epoch", chosen)

    def _examples(self) -> Examples:
        """Return the scores of examples, where they fit what else there is."""
        found = Examples(self.examples, self.clusters)
        for name in found.values:
            _storable(name)
            if name in self.scores or (self.test is not None and name in METRICS):
                raise BadOutcome(
                    f"{name!r} is a score of every example, and known without them.",
                    fix=f'leave it out of scores, or name it "my {name}" in examples',
                )
        if self.test is not None and self.clusters is not None:
            raise BadOutcome(
                "clusters were returned with test predictions, whose analysis knows none.",
                fix='score them yourself: Outcome(examples={"accuracy": right}, clusters=…)',
            )
        if self.test is not None and len(self.test) != len(found):
            raise BadOutcome(
                f"there are test predictions for {len(self.test)} examples, and examples of "
                f"{len(found)}.",
                fix="score the same test examples by both",
            )
        return found


FIELD_TYPES: Sequence[tuple[str, Any, str]] = (
    ("name", str, "a text"),
    ("question", str, "a text"),
    ("metric", str, "a text"),
    ("cluster", str, 'a text, for example "passage"'),
    ("datasets", Sequence, "a list of names"),
    ("arms", Mapping, 'a dictionary of names to settings: {"baseline": {}, "mine": {"lr": 0.1}}'),
    ("settings", Mapping, "a dictionary"),
    ("test_share", Real | None, "a number, n_test / n_train, or None"),
    ("margin", Real | None, "a number, in metric units, or None"),
    ("claim", Real | None, "a number, in metric units, or None"),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Experiment:
    """A question, its arms and the training function that answers for one arm and seed.

    Parameters
    ----------
    name : what `bench status` lists
    question : one sentence with a question mark
    arms : name to the settings in which that arm differs; the first is the baseline
    train : one trial to one outcome; any framework
    settings : what all arms share
    metric : "accuracy", "nll", "brier", "macro_f1", "balanced_accuracy", "auroc",
        "average_precision" or "aurc" of the test predictions, a name in the scores or examples, or
        the name of one of `metrics`
    higher_is_better : the direction of `metric`
    metrics : your own functions of the test predictions, such as
        ``Metric("cost", of=cost, higher_is_better=False)``; each is computed when a training ends,
        with what its interval for new test examples rests on, and those that are not `metric` are
        secondary outcomes
    cluster : what one cluster of `Outcome(clusters=…)` is called, such as "passage"
    datasets : names, on each of which every arm and seed is trained: `trial.dataset`
    test_share : n_test / n_train, where each seed is a fold or a random split of one data set: the
        trainings then share examples, which the interval allows for (Nadeau & Bengio 2003)
    margin : smallest difference worth having, in metric units (0.003 is 0.3 pp)
    claim : a claimed gain to check, in metric units
    prepare : settings and data folder to facts about the data ("name", "digest", …); called once
        an arm before any training, the place to download or to refuse; facts in which the arms
        differ are recorded of each
    train_pack : several trials to as many outcomes, where training them together is faster; in the
        place of an outcome stands the `Diverged` that ended its training
    pack_seeds : with `train_pack`: how many seeds, all arms of each, make a pack; a number, or what
        returns it for the settings and a device ("cpu", "cuda:0"), or refuses them
    inputs : files and folders, relative to the experiment's own folder, that its trainings read or
        run: a change in one begins a new benchmark, as a change in a module of yours does
    device : "cpu", "gpu" or "any": what it trains on; "any" takes the GPUs where there are some
    devices : how many GPUs one training gets (DDP, FSDP, tensor parallel)
    reuse_process : a promise that a training leaves nothing behind in its process, which then
        trains one pack after another. For short trainings on a GPU, where starting CUDA costs more
        than the training. The last pack of a run is trained once more in a process of its own, and
        the report blocks where the bits differ

    Raises
    ------
    BadExperiment : fewer than two arms, settings that are not plain values, a metric whose
        direction is another one, …
    """

    name: str
    question: str
    arms: Mapping[str, Settings]
    train: Callable[[Trial], Outcome]
    settings: Settings = field(default_factory=dict)
    metric: str = "accuracy"
    higher_is_better: bool = True
    metrics: Sequence[Metric] = ()
    cluster: str = ""
    datasets: Sequence[str] = ()
    test_share: float | None = None
    margin: float | None = None
    claim: float | None = None
    prepare: Callable[[Settings, Path | None], Mapping[str, Any]] | None = None
    train_pack: Callable[[Sequence[Trial]], Sequence[Outcome | Diverged]] | None = None
    pack_seeds: int | Callable[[Settings, str], int] = 1
    inputs: Sequence[str] = ()
    device: Literal["cpu", "gpu", "any"] = "any"
    devices: int = 1
    reuse_process: bool = False

    def __post_init__(self) -> None:
        self._require_types()
        if not self.name.strip():
            raise BadExperiment("the experiment has no name.", fix='name="my-experiment"')
        if len(self.arms) < 2:
            raise BadExperiment(
                f"experiment {self.name!r} has {len(self.arms)} arm; a comparison needs two.",
                facts=["The first arm is the baseline."],
                fix='arms={"baseline": {"epsilon": 0.0}, "smoothed": {"epsilon": 0.1}}',
            )
        for arm in self.arms:
            _require_plain(self.arm_settings(arm))
        if self.cluster and not re.fullmatch(r"\w[\w -]{0,39}", self.cluster):
            raise BadExperiment(
                f"cluster is {self.cluster[:60]!r}; it must be one word or two.",
                fix='cluster="passage", for test examples that come several to a passage',
            )
        self._require_datasets()
        share = self.test_share
        if share is not None and not 0 < share < math.inf:
            raise BadExperiment(
                f"test_share is {share!r}; it must be n_test / n_train, above 0.",
                fix="test_share=1 / 9, for ten folds",
            )
        if share is not None and self.datasets:
            raise BadExperiment("folds of several data sets are not compared.", fix="datasets=()")
        if not callable(self.train):
            raise BadExperiment(
                f"train of experiment {self.name!r} is not a function.",
                fix="train=train, where train(trial) returns an Outcome",
            )
        self._require_own_metrics()
        own = {metric.name: metric for metric in self.metrics}
        known = own.get(self.metric, METRICS.get(self.metric))
        if known is not None and known.higher_is_better != self.higher_is_better:
            better = "higher" if known.higher_is_better else "lower"
            raise BadExperiment(
                f"{self.metric} is better when {better}, but experiment {self.name!r} "
                f"says higher_is_better={self.higher_is_better}.",
                fix=f"higher_is_better={known.higher_is_better}",
            )
        if self.margin is not None and not (math.isfinite(self.margin) and self.margin > 0):
            raise BadExperiment(
                f"margin is {self.margin}; it must be a number above 0, in metric units.",
                fix="margin=0.003, which is 0.3 pp, or margin=None",
            )
        if self.claim is not None and not math.isfinite(self.claim):
            raise BadExperiment(f"claim is {self.claim}; it must be a number, in metric units.")
        whole = isinstance(self.pack_seeds, int) and self.pack_seeds >= 1
        if not whole and not callable(self.pack_seeds):
            raise BadExperiment(f"pack_seeds is {self.pack_seeds!r}; it must be 1 or more.")
        if isinstance(self.inputs, str) or not all(isinstance(name, str) for name in self.inputs):
            raise BadExperiment(
                f"inputs are {self.inputs!r}; they must be a list of file names.",
                fix='inputs=["tool.py"]',
            )
        if self.device not in ("cpu", "gpu", "any"):
            raise BadExperiment(
                f"device is {self.device!r}; it must be cpu, gpu or any.", fix='device="any"'
            )
        if type(self.devices) is not int or self.devices < 1:
            raise BadExperiment(f"devices is {self.devices!r}; it must be 1 or more.")
        if self.devices > 1 and self.device == "cpu":
            raise BadExperiment(
                f"devices is {self.devices}, but the experiment trains on the CPU.",
                fix='device="gpu"',
            )

    def _require_datasets(self) -> None:
        """Refuse data sets that are no list of different names; one alone needs no name."""
        names = [] if isinstance(self.datasets, str) else [*self.datasets]
        fits = all(isinstance(n, str) and re.fullmatch(r"\w[\w .-]{0,59}", n) for n in names)
        twice = len({*names}) < len(names) or len(names) == 1
        if not fits or twice or (self.datasets and not names):
            raise BadExperiment(
                f"datasets are {str(self.datasets)[:60]!r}; they must be several different names.",
                facts=["Names are letters, digits, spaces and _ - ."],
                fix='datasets=["cifar", "svhn"], or none, where there is one',
            )
        if names and "dataset" in {key for arm in self.arms for key in self.arm_settings(arm)}:
            raise BadExperiment(
                "a setting is called dataset, and the experiment has datasets.",
                fix="read trial.dataset in train(), and leave the setting out",
            )

    def _require_types(self) -> None:
        """Refuse values of another type: they would fail far from here, and say something else."""
        for name, kind, what in FIELD_TYPES:
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise BadExperiment(f"{name} is {repr(value)[:60]}; it must be {what}.")
        for arm, settings in self.arms.items():
            if not isinstance(arm, str) or not isinstance(settings, Mapping):
                raise BadExperiment(
                    f"arm {arm!r} has {repr(settings)[:60]}; arms is a dictionary of names to "
                    "dictionaries of settings.",
                    fix='arms={"baseline": {"epsilon": 0.0}, "smoothed": {"epsilon": 0.1}}',
                )

    def _require_own_metrics(self) -> None:
        """Refuse what is no function of predictions, and names that mean something else already."""
        fix = 'metrics=[Metric("cost", of=cost, higher_is_better=False)]'
        given: Any = self.metrics
        if not isinstance(given, Sequence) or not all(isinstance(m, Metric) for m in given):
            what = f"metrics is {repr(given)[:60]}; it must be a list of Metric."
            raise BadExperiment(what, fix=fix)
        names: set[str] = set()
        for metric in self.metrics:
            others = (metric.per_example, metric.prepared)
            if not callable(metric.of) or any(others) or metric.unit != "score":
                raise BadExperiment(
                    f"metric {metric.name!r} is not a plain number that a function of the "
                    "predictions gives.",
                    facts=["A score of every example goes into Outcome(scores=…) as its mean."],
                    fix=fix,
                )
            if metric.name in {*METRICS, *names}:
                raise BadExperiment(
                    f"there is a metric {metric.name!r} already.",
                    facts=[f"Known: {', '.join(METRICS)}."],
                    fix="give yours another name",
                )
            try:
                names.add(_storable(str(metric.name)))
            except BadOutcome as refusal:
                raise BadExperiment(refusal.what, facts=refusal.facts, fix=fix) from None

    def require_clusters_named(self, outcome: Outcome) -> None:
        """Refuse clusters that the experiment does not name, and examples without those it does.

        Raises
        ------
        BadOutcome : the plan says something else of the examples than the training
        """
        if outcome.scored is not None and bool(self.cluster) != (outcome.clusters is not None):
            if self.cluster:
                raise BadOutcome(
                    f"the training returned no clusters, and each example has a {self.cluster}.",
                    fix="Outcome(examples=…, clusters=…), one name for each example",
                )
            raise BadOutcome(
                "the training returned clusters, and the experiment does not say what they are.",
                fix='Experiment(…, cluster="passage"), or what yours are called',
            )

    @classmethod
    def from_estimators(
        cls,
        baseline: Any,
        treatment: Any,
        x: Any,
        y: Any,
        *,
        arms: Sequence[str] = ("baseline", "treatment"),
        folds: int | None = None,
        test_size: float = 0.5,
        train_size: float = 0.8,
        **more: Any,
    ) -> Self:
        """Return the experiment of two scikit-learn estimators on one data set.

        Classifiers with `predict_proba` give predictions on the fixed test set, so that new test
        examples count and calibration is known; other classifiers the accuracy of each example,
        and regressors its squared error.

        Parameters
        ----------
        baseline, treatment : classifiers or regressors, both of one kind; clones of them are
            fitted, each `random_state` drawn from the trial's stream "init"
        x, y : shape (N, …) and (N,); rows of arrays, or of a data frame
        arms : their names
        folds : K: seed s is fold s mod K of the (s div K)-th random division into K folds, so that
            ``--seeds 10`` is a ten-fold cross-validation. None: one fixed test set, and a training
            set that each seed draws from the other rows
        test_size : share of the rows in the fixed test set
        train_size : share of the other rows that a seed draws
        more : further fields, as name, question and margin

        Raises
        ------
        BadExperiment : a classifier beside a regressor, shares that leave nothing, one fold
        """
        each = dict(zip(arms, (baseline, treatment), strict=True))
        found = Estimators(each, x, np.asarray(y), folds, test_size, train_size)
        n = len(found.y)
        if found.classify is None:
            raise BadExperiment("one of the estimators is a classifier, and the other is none.")
        if folds is not None and not 2 <= folds <= n:
            raise BadExperiment(f"folds is {folds}; {n} rows make 2 to {n}.", fix="folds=10")
        if not (0 < test_size < 1 and 0 < train_size <= 1):
            what = f"test_size is {test_size:g} and train_size {train_size:g}: shares of the rows."
            raise BadExperiment(what, fix="test_size=0.5, train_size=0.8")

        def train(trial: Trial) -> Outcome:
            drawn = trial.rng("subset"), trial.rng("init")
            return Outcome(**found.fitted(trial.arm, trial.seed, *drawn))

        usual = {
            "name": "estimators",
            "question": f"Does {arms[1]} change the {found.metric.replace('_', ' ')}?",
            "metric": found.metric,
            "higher_is_better": found.classify,
            "test_share": None if folds is None else 1 / (folds - 1),
        }
        return cls(**{**usual, "arms": found.settings(), "train": train, **more})

    @property
    def baseline(self) -> str:
        """The first arm's name."""
        return next(iter(self.arms))

    def arm_settings(self, arm: str) -> dict[str, Any]:
        """Return the shared settings with one arm's own on top."""
        return {**self.settings, **self.arms[arm]}
