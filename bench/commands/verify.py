"""`bench verify`: recompute every number of a report from the data embedded in it."""

import json
import re
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from bench.commands import options as panels
from bench.commands.common import Usage, data_folder, shown
from bench.commands.options import DataFolder, Devices, Output, expanded
from bench.commands.parser import Argument
from bench.terminal import show

if TYPE_CHECKING:
    from bench.analysis.study.findings import Findings


@dataclass(frozen=True, kw_only=True)
class Again:
    """What is trained again."""

    rerun: str | None = panels.devices(
        None, "SEED", "Train this seed's pair again and compare; records nothing."
    )
    experiment: str | None = panels.devices(
        None, "NAME", "Experiment or file to train (default: the report's)."
    )


@expanded
def verify(
    *,
    report: Annotated[
        Path, Argument(metavar="REPORT", help="A report.html or results.json of bench.")
    ],
    again: Again,
    devices: Devices = "auto",
    data: DataFolder = None,
    output: Output,
) -> None:
    """Recompute every number of a report from the data embedded in it.

    \b
      bench verify report.html               numbers and words against the data
      bench verify report.html --rerun 3     and train seed 3 of both arms again

    A changed digit, anywhere, ends it with exit code 5. results.json is read too.
    """
    from bench.analysis.study.summary import DamagedReport
    from bench.reports.verify import Unverified, check, retrain

    seed = None if again.rerun is None else _seed(again.rerun)
    found = check(report)
    f, trained = found.findings, []
    if seed is not None and f is None:
        raise DamagedReport(
            f"{report} is of a schema that says too little to train a pair again.",
            fix="write it anew:",
            command=["bench", "report", found.experiment],
        )
    if seed is not None and f is not None:
        from bench.execution.server import Server

        with Server(again.experiment or _built_in(f)) as server:
            places = server.slots(devices)
            trained = retrain(f, seed, server, folder=data_folder(data), places=places)
    differ = [run for run in trained if not run.same]
    if output.as_json and not differ:
        facts: dict[str, object] = {"report": str(report), "values": found.n_values}
        facts["words"] = found.n_words
        facts |= {"note": found.note, "not_proved": list(found.not_proved)}
        print(json.dumps({**facts, "rerun": [asdict(run) for run in trained]}))
    elif not output.as_json:
        show(f"{shown(report.absolute())} says what its data say.")
        if f is not None:
            show(f"  numbers  {found.n_values:,} computed again from the embedded data: all equal")
        if found.n_words is not None:
            show(f"  page     {found.n_words:,} pieces of text written again: all equal")
        if found.note:
            show(f"  note     {found.note}")
        show("  unproved that the summary is that of the raw predictions, which are not here:")
        show(f"           {'; '.join(found.not_proved)}")
        for run in trained:
            show(f"  seed {seed}   {run.arm}: {run.trouble or run.again}, stated {run.stated}")
    if differ:
        raise Unverified(
            f"seed {seed} did not train to the values of the report.",
            facts=[f"{r.arm}: {r.trouble or repr(r.again)}, stated {r.stated!r}." for r in differ]
            + ["Another device or other versions may change the last bits; bits repeat on one."],
        )


def _seed(typed: str) -> int:
    if re.fullmatch(r"\d{1,10}", typed, re.ASCII) and int(typed) < 2**32:
        return int(typed)
    first = re.match(r"\d{1,9}(?!\d)", typed, re.ASCII)  # of 3:weak, as --redo takes it
    raise Usage(
        f"--rerun {typed} is no seed.",
        facts=[
            "A seed is a whole number from 0 to 4294967295, one of the report's own.",
            "Every arm of it is trained again.",
        ],
        options=[("rerun", first[0] if first else 0)],
    )


def _built_in(f: "Findings") -> str:
    """Return the name of a report's experiment, where it comes with bench; else ask for its file.

    A report says the command that made it, but not whether the file here is the one it trained.
    """
    from bench.design.loading import built_in

    name = f.design.experiment
    if name in built_in():
        return name
    command = str(f.provenance.get("command") or "")
    try:
        words = shlex.split(command)
    except ValueError:  # of a version that recorded it without quotes
        words = []
    here = [word for word in words if word.endswith(".py") and Path(word).is_file()]
    raise Usage(
        f'the report is about "{name}", which does not come with bench: its file has to be named.',
        facts=[f"It was made by {command}."] if command else [],
        options=[("experiment", here[0] if here else "FILE")],
    )
