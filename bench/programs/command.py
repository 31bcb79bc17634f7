"""Command: one training as a run of the user's program, from its words to its outcome."""

import contextlib
import faulthandler
import json
import os
import shlex
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.experiment import LARGEST_EPOCH, Outcome, Settings, Trial
from bench.programs import mlflow_files, process, results, template
from bench.programs.epoch_files import Followed
from bench.programs.git_arms import own_modules
from bench.programs.lines import Printed, Reader
from bench.programs.refusals import BadArms, CommandFailed
from bench.programs.study_file import Placed

RESERVED = ("command", "commit")  # settings that say how, and not with what


def metric_of(placed: Placed) -> str:
    """Return the name of the score that decides: said, or the first that is read, or accuracy."""
    study = placed.study
    return study.metric or next(iter(study.read), "accuracy")


def words_of(placed: Placed, trial: Trial, out: Path, port: int) -> list[str]:
    """Return what is started for a trial."""
    values = {
        **{k: v for k, v in trial.settings.items() if k not in RESERVED},
        **_fields(trial, out, port),
    }
    return template.words(trial.settings["command"], values, shell=placed.study.shell)


def ready(placed: Placed, settings: Settings, data: Path | None) -> dict[str, Any]:
    """Refuse a program that is not there, before anything is trained.

    Raises
    ------
    BadArms : the first word of a command is no program
    """
    if placed.study.shell:
        return {}
    commit = settings.get("commit")
    arms = [n for n, own in placed.study.arms.items() if own.get("commit") == commit]
    folder = placed.of_arm(arms[0] if arms else "")
    first = template.split(str(settings["command"]))[0]
    if "{" not in first and shutil.which(first) is None and not (folder / first).is_file():
        raise BadArms(
            f"there is no program {first[:200]}.",
            facts=[f"Looked for on PATH and in {folder}."],
            fix="install it, or mend the command",
        )
    return {}


def _fields(trial: Trial, out: Path, port: int) -> dict[str, Any]:
    return {
        "seed": trial.seed,
        "out": str(out),
        "arm": trial.arm,
        "device": os.environ.get("CUDA_VISIBLE_DEVICES") or "cpu",
        "data": str(trial.data_dir) if trial.data_dir else "",
        "port": port,
        "dataset": trial.dataset,
    }


def train(placed: Placed, trial: Trial) -> Outcome:
    """Run the program of a trial, and return what it has measured.

    Raises
    ------
    CommandFailed : it ended with another status than 0
    NoResults : it ended well, and left no value of the metric
    Diverged : a loss, or the metric, is no number
    BadArms : it cannot be started
    """
    faulthandler.disable()  # where bench stood says nothing of the program
    if hasattr(faulthandler, "unregister"):
        faulthandler.unregister(signal.SIGTERM)
    study, out = placed.study, trial.folder.resolve()
    folder, port = placed.of_arm(trial.arm), _free_port()
    words = words_of(placed, trial, out, port)
    metric = metric_of(placed)
    printed = Printed({name: Reader.of(name, text) for name, text in study.read.items()})
    followed, told = Followed(out), dict[int, set[str]]()

    def tell(epoch: int, values: dict[str, float]) -> None:
        known = told.setdefault(epoch, set())
        new = {results.name_of(n): v for n, v in values.items() if n not in known}
        known.update(values)
        new = {n: v for n, v in new.items() if n not in ("epoch", "time")}
        if new and 0 <= epoch < LARGEST_EPOCH:
            trial.log(epoch, new)

    def on_line(line: str) -> None:
        for epoch, values in printed.add(line).items():
            tell(epoch, values)

    def on_poll() -> None:
        for epoch, values in followed.poll():
            tell(epoch, values)

    began = time.time()
    with own_modules(placed, trial.arm) as more:
        code = process.run(
            words,
            folder=folder,
            environment={**_environment(trial, out, port), **more},
            on_line=on_line,
            on_poll=on_poll,
        )
    if code < 0:
        _end_likewise(-code)
    if code:
        raise _failed(words, folder, out, code, printed)
    for epoch, values in mlflow_files.epochs(out):
        tell(epoch, values)
    outcome = results.outcome_of(
        out,
        printed,
        metric,
        cluster=study.cluster,
        elsewhere=_elsewhere(folder, out, began),
    )
    facts: dict[str, Any] = {"seed_used": None}  # only the program knows
    facts |= {"traceback_printed": True} if printed.traceback else {}
    return replace(outcome, facts={**outcome.facts, **facts})


def _environment(trial: Trial, out: Path, port: int) -> dict[str, str]:
    """Return what the program finds in its environment, whatever its command names."""
    settings = {k: v for k, v in trial.settings.items() if k not in RESERVED}
    return {
        **mlflow_files.environment(out, os.environ),
        "PYTHONUNBUFFERED": "1",  # its lines are read while it runs
        "BENCH_SEED": str(trial.seed),
        "BENCH_OUT": str(out),
        "BENCH_ARM": trial.arm,
        "BENCH_DEVICE": trial.device,
        "BENCH_DATASET": trial.dataset,
        "BENCH_DATA": str(trial.data_dir) if trial.data_dir else "",
        "BENCH_SETTINGS": json.dumps(settings),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end_likewise(number: int) -> None:
    """End this process as the program was ended: the supervisor knows what becomes of that."""
    with contextlib.suppress(OSError):  # KILL has no other meaning to begin with
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    time.sleep(60)


def _failed(
    words: list[str], folder: Path, out: Path, code: int, printed: Printed
) -> CommandFailed:
    last = printed.last[-1].strip()[:200] if printed.last else ""
    facts = printed.words() or ["It printed nothing."]
    if any("EOFError" in line for line in printed.last):
        facts.append("It reads from the terminal, which is not there: its stdin is empty.")
    odd = [word for word in words if word.startswith(("$", "~")) or "=$" in word or "=~" in word]
    if odd:
        facts.append(f"No shell is started, so that {odd[0][:80]} stays as it is.")
    again = f"cd {shlex.quote(str(folder))} && {shlex.join(words)}"
    if str(out) in again:
        again = f"mkdir -p {shlex.quote(str(out))} && {again}"
    facts.append(f"To repeat it: ({again})")
    return CommandFailed(
        f"the program ended with status {code}{f': {last}' if last else ''}.", facts=facts
    )


def _elsewhere(folder: Path, out: Path, began: float) -> Iterator[str]:
    """Yield the result files that were written into the program's own folder in the meantime."""
    for name in results.LOOKED_FOR:
        path = folder / name
        try:
            if folder != out and path.stat().st_mtime >= began - 1:
                yield str(path)
        except OSError:
            continue
