"""Slurm job: trains what it claims from a shared folder; `python -m bench.execution.slurm_job DIR`.

See `slurm` for the folder. It ends when there has been nothing to claim for a minute, or at once
when the folder says so.
"""

import json
import os
import shutil
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

from bench.analysis.errors import Refusal, text_of
from bench.design.results import Failure, Job
from bench.execution import answers
from bench.execution.base import Message
from bench.execution.dask_cluster import differences, versions
from bench.execution.processes import Processes
from bench.execution.server import Server
from bench.execution.slurm import (
    ANSWERS,
    CLAIMED,
    MESSAGES,
    REQUESTS,
    RETRIED,
    SETTINGS,
    STOP,
    TROUBLE,
)

IDLE_S = 60.0
LOOK_S = 0.2


def main(folder: Path, job: str) -> None:
    """Train until there is nothing more to do."""
    settings = json.loads((folder / SETTINGS).read_text("utf-8"))
    if odd := differences(versions(), settings["versions"]):
        _trouble(folder, f"the node {os.uname().nodename} {' '.join(odd)}")
        return
    try:
        with Server(settings["reference"]) as server:
            slots = server.slots("auto", workers=1)[:1]
            with Processes(server, slots, retries=settings["retries"]) as executor:
                _serve(folder, job, executor)
    except Refusal as refusal:
        _trouble(folder, "\n".join([refusal.what, *refusal.facts]))


def _trouble(folder: Path, text: str) -> None:
    (folder / TROUBLE).write_text(text, "utf-8")


def _serve(folder: Path, job: str, executor: Processes) -> None:
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < IDLE_S and not (folder / STOP).exists():
        claim = _claim(folder, job)
        if claim is None:
            time.sleep(LOOK_S)
            continue
        _train(folder, claim, job, executor)
        claim.unlink(missing_ok=True)
        idle_since = time.monotonic()


def _claim(folder: Path, job: str) -> Path | None:
    """Take the first request by a rename, which only one job can do."""
    for request in sorted((folder / REQUESTS).glob("*.json")):
        mine = folder / CLAIMED / f"{request.stem}.{job}.json"
        try:
            os.rename(request, mine)
        except OSError:  # another one was faster
            continue
        return mine
    return None


def _train(folder: Path, claim: Path, job: str, executor: Processes) -> None:
    """Train a request and put its answer down, whole or not at all."""
    name = claim.name.partition(".")[0]
    retried: list[Failure] = []
    with (folder / MESSAGES / f"{name}.jsonl").open("a", encoding="utf-8") as heard:

        def tell(message: Message) -> None:
            if "slot" in message:
                message = {**message, "slot": zlib.crc32(job.encode())}
            heard.write(f"{json.dumps(message)}\n")
            heard.flush()

        executor.listen(tell)
        asked = Job.from_dict(json.loads(claim.read_text("utf-8")))
        results = [r for each in executor.run([asked], on_retry=retried.append) for r in each]
    part = Path(tempfile.mkdtemp(prefix=".", dir=folder / ANSWERS))
    answers.write(part, results)
    (part / RETRIED).write_text(json.dumps([_plain(failure) for failure in retried]), "utf-8")
    try:
        os.rename(part, folder / ANSWERS / name)
    except OSError:  # somebody else's answer is there already
        shutil.rmtree(part, ignore_errors=True)


def _plain(failure: Failure) -> dict[str, Any]:
    names = ("code", "what", "error", "attempt", "device")
    return {name: getattr(failure, name) for name in names}


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), os.environ.get("SLURM_JOB_ID") or str(os.getpid()))
    except Exception as error:
        _trouble(Path(sys.argv[1]), text_of(error))
        raise
