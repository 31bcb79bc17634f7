"""Refusals that cross from one process to another, as plain values."""

import traceback
from typing import Any

from bench.analysis.errors import Refusal, text_of
from bench.design.loading import UnknownExperiment
from bench.experiment import BadExperiment

REMEDY = ("facts", "fix", "options", "settings", "without", "replace", "command")


def refusal_of(error: BaseException) -> dict[str, Any]:
    """Return a refusal as plain values; of another exception, with its traceback."""
    if not isinstance(error, Refusal):
        error = BadExperiment(text_of(error)).with_traceback(error.__traceback__)
    return {
        "what": error.what,
        "remedy": {name: getattr(error, name) for name in REMEDY},
        "code": error.code,
        "exit_status": error.exit_status,
        "unknown": isinstance(error, UnknownExperiment),
        "traceback": "".join(traceback.format_exception(error)),
    }


def answered(message: dict[str, Any]) -> Any:
    """Return an answer, or raise the refusal that came in its place."""
    told = message.get("refusal")
    if told is None:
        return message["answer"]
    kind = UnknownExperiment if told["unknown"] else Refusal
    refusal = kind(told["what"], **told["remedy"])
    refusal.code, refusal.exit_status = told["code"], told["exit_status"]
    if not told["unknown"]:
        refusal.add_note(
            f"\nWhere the experiment was imported:\n{told['traceback']}"
        )  # -v shows it
    raise refusal
