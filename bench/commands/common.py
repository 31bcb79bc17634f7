"""What several commands do with what was typed, and how they print."""

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from bench.analysis.errors import Refusal
from bench.commands.parser import Exit

if TYPE_CHECKING:
    from bench.analysis.study.findings import Findings

WORDS = ("better", "worse", "equivalent", "inconclusive", "none")


class Usage(Refusal):
    """A command line that cannot be understood."""

    code = "option"
    exit_status = 2


class DataTrouble(Refusal):
    """A data set that is not where it should be."""

    code = "dataset"
    exit_status = 4


def data_folder(data: Path | None) -> Path | None:
    """Return the folder of --data, which has to be there."""
    if data is None:
        return None
    folder = data.expanduser().absolute()
    if not folder.exists():
        raise DataTrouble(
            f"there is no folder {data}.",
            facts=["--data names the folder that holds the data set."],
            options=[("data", "FOLDER")],
        )
    return folder


def experiment_name(name: str | None) -> str | None:
    """Return the recorded name: of a file or module, the name that it gives itself."""
    if name is None or "." not in name:
        return name
    from bench.design.loading import UnknownExperiment
    from bench.execution.server import Server

    try:
        with Server(name) as server:
            return server.found.experiment.name
    except UnknownExperiment:
        if name.endswith(".py"):
            raise
        return name  # which has a dot, and is no module


def fail_words(text: str | None) -> frozenset[str]:
    """Return the verdict words of --fail-on."""
    words = [word.strip() for word in (text or "").split(",") if word.strip()]
    for word in words:
        if word not in WORDS:
            close = difflib.get_close_matches(word, WORDS, n=1) or ["inconclusive"]
            raise Usage(
                f'--fail-on "{word}" is no verdict word.',
                facts=[f"Words: {', '.join(WORDS)}."],
                options=[("fail_on", close[0])],
            )
    return frozenset(words)


def fail_if(findings: "Findings", words: frozenset[str]) -> None:
    """End with status 10 where a verdict is one of the words."""
    if any(c.verdict.word in words for c in findings.comparisons):
        raise Exit(10)
