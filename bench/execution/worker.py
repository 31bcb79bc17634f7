"""Worker: what happens in the process of a training, from its request to the files with its answer.

The process is forked from the fork server, or a fresh interpreter: `python -P -m
bench.execution.worker`, with requests on stdin and what it says meanwhile on stdout. Both do the
same and give the same bits.
"""

import contextlib
import faulthandler
import importlib.abc
import importlib.util
import json
import multiprocessing
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from bench.analysis.data.own_metrics import FACT as OWN_METRICS, computed
from bench.analysis.errors import Refusal, text_of
from bench.design import source_digest, study
from bench.design.description import Discovered
from bench.design.loading import discover, file_of, late_files, load, own_paths
from bench.design.plan import TrialKey
from bench.design.results import Epochs, Failure, Job, Result, Success
from bench.execution import answers, failures
from bench.execution.file_watch import FileWatch
from bench.execution.lines import Lines, encode
from bench.execution.repeats import EDITED
from bench.experiment import BadOutcome, Diverged, Experiment, Outcome, Trial
from bench.programs.study_file import is_study, placed

LONGEST_LINE = 2**16  # an epoch with more to say is not shown while it trains, only recorded


class Edited(Refusal):
    """A file of the experiment that is no longer what its plan was made for."""

    code = EDITED
    exit_status = 3


def forked(request: dict[str, Any], line: int) -> None:
    """Train what a guard asks for, in a process that was forked for it."""
    _serve(os.fdopen(line, "r+b", buffering=0), [request])


def main() -> None:
    """Train what is asked for on stdin, in a fresh interpreter."""
    source, sink = os.dup(0), os.dup(1)
    line = SimpleNamespace(read=partial(os.read, source), write=partial(os.write, sink))
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    sys.argv = sys.argv[:1]
    _serve(line, [])
    os._exit(0)


def _serve(line: Any, requests: list[dict[str, Any]]) -> None:
    """Train one request, or one after another where processes are reused."""
    lines = Lines()
    while True:
        while not requests:
            data = line.read(2**16)
            if not data:
                return
            requests = lines.feed(data)
        request = requests.pop(0)
        _enter(request)
        job = Job.from_dict(request["job"])
        train(job, request, line)
        flush()
        if not job.reuse_process:
            return
        line.write(encode({"type": "done"}))


def _enter(request: Mapping[str, Any]) -> None:
    """Give the process what belongs to this request: log, folder, environment, signals."""
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor in (1, 2):  # whatever the experiment has made of sys.stdout
        os.dup2(log, descriptor)
    os.close(log)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.chdir(request["cwd"])
    os.environ.update(request["environment"])
    if sys.platform == "linux":  # what torch and others expect; nobody else's threads run here
        multiprocessing.set_start_method("fork", force=True)
    _trace_where_it_stood()


def _trace_where_it_stood() -> None:
    """Write a traceback to the log when the process crashes, or is ended for taking too long."""
    faulthandler.enable(file=2)
    if hasattr(faulthandler, "register"):
        faulthandler.register(signal.SIGTERM, file=2, chain=True)
        os.register_at_fork(after_in_child=lambda: faulthandler.unregister(signal.SIGTERM))


def flush() -> None:
    """Write out what is in the buffers: before a fork, and where a process ends by _exit."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def train(job: Job, request: Mapping[str, Any], line: Any) -> None:
    """Train one pack and write the answer; whatever a training raises is a value in it."""
    run, me = _Run(job, request, line), os.getpid()
    try:
        try:
            outcomes = run.train()
        finally:
            if os.getpid() != me:  # a copy that the training forked, and that came back with it
                os._exit(0)
        results = [run.result(key, o) for key, o in zip(job.keys, outcomes, strict=True)]
    except BaseException as error:  # also KeyboardInterrupt: nobody presses Ctrl-C here
        results = [run.failure(key, error) for key in job.keys]
    folder = Path(request["answer"])
    try:
        answers.write(folder, results)
    except (TypeError, ValueError) as error:  # facts that JSON does not know
        trouble = BadOutcome(f"what the training returned cannot be recorded: {error}.")
        answers.write(folder, [run.failure(key, trouble) for key in job.keys])


@lru_cache(maxsize=1)
def _discovered(reference: str) -> Discovered:
    return discover(reference)


class _Watched(Trial):
    """A trial that notes whether its seed is read, and makes its folder when it is asked for."""

    def watch(self) -> None:
        """Begin to note it."""
        self.__dict__["seed_was_read"] = False

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name == "seed":
            self.__dict__["seed_was_read"] = True
        elif name == "folder":  # most trainings never ask for it
            found.mkdir(parents=True, exist_ok=True)
        return found


class _Run:
    """One pack in training: its histories and its clock."""

    def __init__(self, job: Job, request: Mapping[str, Any], line: Any) -> None:
        self.job, self.request, self.line = job, request, line
        self.epochs: dict[TrialKey, Epochs] = {key: [] for key in job.keys}
        self.versions: dict[str, str] = {}
        self.changed_files: list[str] = []  # that runs may have written themselves
        self.started_at, self.clock = time.time(), time.perf_counter()

    def train(self) -> list[Outcome | Diverged]:
        experiment = self._load()
        use_threads(int(self.request["threads"]))
        if self.on_gpu:
            _require_working(self.device)
        self.started_at, self.clock = time.time(), time.perf_counter()  # imports do not count
        trials = [self._trial(experiment, key) for key in self.job.keys]
        _seed_globals(trials[0])
        watch = self._file_watch()
        before = _global_states()
        for trial in trials:
            trial.watch()
        outcomes: list[Outcome | Diverged]
        if experiment.train_pack is None:
            outcomes = [experiment.train(trial) for trial in trials]
        else:
            outcomes = list(experiment.train_pack(trials))
        known = all(isinstance(o, Outcome | Diverged) for o in outcomes)
        if len(outcomes) != len(trials) or not known:
            kinds = ", ".join(sorted({type(o).__name__ for o in outcomes}))
            raise BadOutcome(
                f"the training returned {kinds or 'nothing'}, not one Outcome a trial.",
                fix="return Outcome(test=Predictions(log_probabilities, labels))",
            )
        for outcome in outcomes:
            if isinstance(outcome, Outcome):
                experiment.require_clusters_named(outcome)
        drew_globally = _global_states() != before
        late = late_files(self.job.reference)
        more: dict[str, Any] = {"late_modules": source_digest.digests(late)} if late else {}
        more |= {"changed_files": self.changed_files} if self.changed_files else {}
        if watch is not None:
            more["undeclared"] = sorted(
                map(str, watch.found - {p.resolve() for p in late.values()})
            )
        return [
            _with_origin(_with_own(o, experiment), trial, self.job.keys, drew_globally, more)
            if isinstance(o, Outcome)
            else o
            for o, trial in zip(outcomes, trials, strict=True)
        ]

    def _file_watch(self) -> FileWatch | None:
        if not self.job.watch_files:
            return None
        return FileWatch(file_of(self.job.reference).parent, own_paths(self.job.reference))

    @property
    def device(self) -> str:
        """What the training is told."""
        return str(self.request["trial_device"])

    @property
    def on_gpu(self) -> bool:
        return self.device != "cpu"

    def _load(self) -> Experiment:
        found = _discovered(self.job.reference)
        if names := ", ".join(self._edited(found)):
            raise Edited(
                f"{names} changed while the benchmark trained.",
                facts=[
                    "Nothing that had finished is lost, and no run was trained with other code.",
                    "Without undoing the change, the same command begins a new benchmark.",
                ],
            )
        self.versions = dict(found.versions)
        return load(found.reference)

    def _edited(self, found: Discovered) -> list[str]:
        """Return the files that are no longer what the plan was made for."""
        if not is_study(found.reference):
            if found.source_digest == self.job.source_digest:
                return []
            return source_digest.changed(self.job.source_files, found.files)
        changed = study.changed_since(placed(found.reference), self.job.source_files)
        self.changed_files = [name for name, decides in changed.items() if not decides]
        return [name for name, decides in changed.items() if decides]

    def _trial(self, experiment: Experiment, key: TrialKey) -> "_Watched":
        def on_epoch(epoch: int, values: dict[str, float]) -> None:
            row = {"epoch": epoch, "time": time.time(), **values}
            self.epochs[key].append(row)
            data = encode({"type": "epoch", **key.parts, "row": row})
            if len(data) <= LONGEST_LINE:
                with contextlib.suppress(OSError):  # the training closed it; its answer has all
                    self.line.write(data)

        return _Watched(
            **(self.job.draws.get(key) or {"seed": key.seed}),
            arm=key.arm,
            dataset=key.dataset,
            settings=typed_settings(experiment, key.arm, self.job.settings[key.arm]),
            device=self.device,
            data_dir=Path(self.job.data_dir) if self.job.data_dir else None,
            folder=self._folder(key),
            on_epoch=on_epoch,
        )

    def _folder(self, key: TrialKey) -> Path:
        return answers.run_folder(Path(self.request["folders"]), key)

    def result(self, key: TrialKey, outcome: Outcome | Diverged) -> Result:
        if isinstance(outcome, Diverged):
            return self.failure(key, outcome)
        return Success(key=key, outcome=outcome, **self._common(key))

    def failure(self, key: TrialKey, error: BaseException) -> Failure:
        code, retryable = failures.kind(error, on_gpu=self.on_gpu)
        what = error.what if isinstance(error, Refusal) else text_of(error)
        facts = error.facts if isinstance(error, Refusal) else ()
        if isinstance(error, Refusal) and error.fix:
            facts = (*facts, f"To mend it: {error.fix}")
        place = failures.own_line(error)
        if place is not None and code == "training":
            facts = (*facts, f"In {place[0]}: {place[1]}")
        return Failure(
            key=key,
            code=code,
            what=what,
            facts=(*facts, *self._last_finite(key, code)),
            traceback="".join(traceback.format_exception(error)),
            error=type(error).__name__,
            place=place[0] if place else "",
            retryable=retryable,
            **self._common(key),
        )

    def _last_finite(self, key: TrialKey, code: str) -> tuple[str, ...]:
        """Say where a diverged training stood: an epoch's losses before they were lost."""
        if code != "nan":
            return ()
        for row in reversed(self.epochs[key]):
            loss = row.get("train/loss", row.get("loss"))
            if loss is not None and np.isfinite(loss):
                rate = f", learning rate {row['lr']:g}" if "lr" in row else ""
                return (f"Last finite loss {loss:.3f} at epoch {row['epoch']}{rate}.",)
        return ("No epoch had a finite loss.",)

    def _common(self, key: TrialKey) -> dict[str, Any]:
        return {
            "epochs": self.epochs[key],
            "duration_s": (time.perf_counter() - self.clock) / len(self.job.keys),
            "started_at": self.started_at,
            "device": self.request["device"],
            "threads": self.request["threads"],
            "attempt": self.job.attempt,
            "log": "",
            "environment": {
                **self.versions,
                **_environment(self.device),
                **self.request["drivers"],
            },
            "hardware": {**self.request["hardware"], **_memory_peak(self.device)},
            "folder": self._folder(key),
        }


def use_threads(threads: int) -> None:
    """Pin the thread counts: the last bits of the weights depend on them."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    if threads > 1:  # the libraries were loaded for one thread, or not at all
        with contextlib.suppress(ImportError):
            importlib.import_module("threadpoolctl").threadpool_limits(threads)


def _require_working(device: str) -> None:
    """Run one tiny kernel first: a sick GPU is told apart from a training that is wrong."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.ones(8, device=device).sum().item()


def typed_settings(experiment: Experiment, arm: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings that came as JSON as the experiment has them: (3, 4), not [3, 4]."""
    places = [experiment.arms.get(arm, {}), experiment.settings, *experiment.arms.values()]

    def typed(name: str, value: Any) -> Any:
        own = (place[name] for place in places if name in place)
        text = json.dumps(value, sort_keys=True)
        return next((v for v in own if json.dumps(v, sort_keys=True) == text), value)

    return {name: typed(name, value) for name, value in settings.items()}


def _with_own(outcome: Outcome, experiment: Experiment) -> Outcome:
    """Compute the experiment's own metrics, while their functions are what the plan was made for.

    Raises
    ------
    BadOutcome : there are no test predictions, or a score of the same name was returned
    BadPredictions : a metric gave no finite number
    """
    if not experiment.metrics:
        return outcome
    names = [metric.name for metric in experiment.metrics]
    if outcome.test is None:
        raise BadOutcome(
            f"metric {names[0]!r} is a function of test predictions, and the training returned "
            "none.",
            fix="return Outcome(test=Predictions(log_probabilities, labels))",
        )
    if twice := [name for name in names if name in outcome.scores]:
        raise BadOutcome(
            f"the training returned a score {twice[0]!r}, which is a metric of the experiment.",
            fix="leave it out of the scores: bench computes it from the test predictions",
        )
    own = computed(experiment.metrics, outcome.test)
    values = {name: float(np.mean(found["columns"])) for name, found in own.items()}
    return replace(
        outcome, scores={**outcome.scores, **values}, facts={**outcome.facts, OWN_METRICS: own}
    )


def _with_origin(
    outcome: Outcome,
    trial: "_Watched",
    pack: Sequence[TrialKey],
    drew_globally: bool,
    more: Mapping[str, Any],
) -> Outcome:
    """Keep with the run what it drew from each stream, and what it was trained together with.

    Arms that drew alike saw the same batches. A training that drew from no stream, did not read its
    seed and left the global generators alone cannot have been seeded by it.

    Raises
    ------
    BadOutcome : the one stream that should vary was never used
    """
    streams = trial.streams()
    streams.pop("global", None)  # ours: what trainings draw without a stream is not counted
    if trial.varied and trial.varied not in streams:
        raise BadOutcome(
            f'--vary {trial.varied}: the training never asks for trial.rng("{trial.varied}").',
            facts=[f"It uses {', '.join(sorted(streams)) or 'no stream'}."],
        )
    seeded = bool(streams) or trial.__dict__["seed_was_read"] or drew_globally
    facts = {"streams": streams, "seed_used": seeded, **outcome.facts}
    facts |= more
    if len(pack) > 1:
        facts["pack"] = [key.run_name for key in pack]
    return replace(outcome, facts=facts)


def _seed_globals(trial: Trial) -> None:
    """Seed the global generators too: a training that forgets its streams still repeats."""
    word = int(trial.rng("global").integers(2**32))
    random.seed(word)
    np.random.seed(word)
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _SeedsTorch)]
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(word)
    else:
        sys.meta_path.insert(0, _SeedsTorch(word))


class _SeedsTorch(importlib.abc.MetaPathFinder):
    """Seeds torch where a training is the first to import it: its own seed is that of the clock."""

    def __init__(self, word: int) -> None:
        self.word = word

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        """Return the spec of torch with a loader that seeds it; leave all others to the others."""
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def seeded(module: Any) -> None:
                execute(module)
                module.manual_seed(self.word)

            spec.loader.exec_module = seeded  # type: ignore[method-assign]
        return spec


def _global_states() -> list[Any]:
    """Return where the global generators stand, which bench has seeded."""
    states: list[Any] = [random.getstate(), repr(np.random.get_state())]
    torch = sys.modules.get("torch")
    if torch is not None:
        states += [torch.get_rng_state().tolist(), torch.cuda.is_initialized()]
    return states


def _environment(device: str) -> dict[str, str]:
    """Return what may change a result's last bits: interpreter, framework, device model."""
    found = {"python": sys.version.split()[0], "numpy": np.__version__}
    torch = sys.modules.get("torch")
    if torch is None:
        return found
    found["torch"] = str(torch.__version__)
    if device.startswith("cuda") and torch.cuda.is_initialized():
        found["gpu"] = str(torch.cuda.get_device_name(device))
        found["cuda"] = str(torch.version.cuda or torch.version.hip)
        found["cudnn"] = str(torch.backends.cudnn.version())
    return found


def _memory_peak(device: str) -> dict[str, str]:
    """Return the GPU memory that a training took, in bytes, where torch knows it."""
    torch = sys.modules.get("torch")
    if torch is None or not device.startswith("cuda") or not torch.cuda.is_initialized():
        return {}
    return {"memory_peak": str(torch.cuda.max_memory_reserved(device))}


if __name__ == "__main__":
    main()
