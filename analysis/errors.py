"""Refusals: what went wrong, the facts, and the remedy as data.

Everything may import this file; it imports nothing of the house.
"""

import errno
import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Self


class Refusal(Exception):
    """A problem that its reader can solve; never a bug in bench.

    The remedy is data, and whoever shows the refusal words it: `remedy()` for a caller in Python,
    the command line as a command that can be typed.

    Parameters
    ----------
    what : one sentence: what happened
    facts : lines with the numbers and names behind it
    fix : what to do, in words; it leads up to the command where there is one
    options : the same call with these, as ("unit", "percent"); a flag is True
    settings : the same call with these settings of the experiment
    without : options that the same call leaves out, "arm"; of several one, ("set", "epochs=3")
    replace : words that were typed, each with the one to type instead
    command : another command, word by word
    """

    code = "data"
    exit_status = 5

    def __init__(
        self,
        what: str,
        *,
        facts: Sequence[str] = (),
        fix: str | None = None,
        options: Sequence[tuple[str, object]] = (),
        settings: Mapping[str, object] | None = None,
        without: Sequence[str | tuple[str, str]] = (),
        replace: Sequence[tuple[str, str]] = (),
        command: Sequence[str] = (),
    ) -> None:
        super().__init__(what)
        self.what = what
        self.facts = tuple(facts)
        self.fix = fix
        self.options = tuple((name, value) for name, value in options)
        self.settings = dict(settings or {})
        self.without: tuple[str | tuple[str, str], ...] = tuple(
            each if isinstance(each, str) else (each[0], each[1]) for each in without
        )
        self.replace = tuple((old, new) for old, new in replace)
        self.command = tuple(command)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.what,), vars(self)  # with a code of its own, and notes

    @property
    def same_call(self) -> bool:
        """Whether the remedy is the same call, changed."""
        return bool(self.options or self.settings or self.without or self.replace)

    def remedy(self) -> str | None:
        """Return what to do, as a caller in Python reads it."""
        given: dict[str, list[object]] = {}
        for name, value in self.options:
            given.setdefault(name, []).append(value)
        changes = [f"{n}={literal(v[0] if len(v) == 1 else v)}" for n, v in given.items()]
        changes += [f"settings={literal(self.settings)}"] if self.settings else []
        changes += [f"{literal(new)} in place of {literal(old)}" for old, new in self.replace]
        names = (each if isinstance(each, str) else "=".join(each) for each in self.without)
        changes += [f"without {name}" for name in names]
        parts = (self.fix, ", ".join(changes), shlex.join(self.command))
        return " ".join(filter(None, parts)) or None

    def render(self, remedy: str | None = None) -> str:
        """Return the message: what, the facts, and the remedy, worded as given or for Python."""
        return f"error[{self.code}]: {self._text(remedy or self.remedy())}"

    def _text(self, remedy: str | None) -> str:
        lines = [self.what, *(f"  {fact}" for fact in self.facts)]
        return "\n".join([*lines, *([f"  fix: {remedy}"] if remedy else [])])

    def in_full(self) -> Self:
        """Return the same error, whose text is now all of it: what a traceback should show."""
        self.args = (self._text(self.remedy()),)
        return self

    def as_dict(self) -> dict[str, Any]:
        """Return the message as JSON values."""
        message = " ".join([self.what, *self.facts])
        return {"code": self.code, "message": message, "fix": self.remedy()}


class UnusableRuns(Refusal):
    """These values cannot carry the analysis that was asked for."""

    code = "runs"


class BadPredictions(Refusal):
    """Predictions that are not log-probabilities with labels that fit them."""

    code = "predictions"


class NotNumbers(BadPredictions):
    """Predictions of a model that has diverged: NaN or infinity."""

    code = "nan"


class DiskFull(Refusal):
    """No space left."""

    code = "disk"
    exit_status = 4


def literal(value: object) -> str:
    """Return how a value is written in Python, texts in double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{literal(k)}: {literal(v)}' for k, v in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]"
    return repr(value)


def is_disk_full(error: BaseException | None) -> bool:
    """Tell whether an error, or what caused it, is a lack of space on the disk."""
    while error is not None:
        full = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
        if isinstance(error, OSError) and error.errno in full:
            return True
        if any(words in str(error) for words in ("disk is full", "No space left on device")):
            return True
        error = error.__cause__ or error.__context__
    return False


def text_of(error: BaseException) -> str:
    """Return an exception's type and text; of one whose text cannot be had, the type alone."""
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except Exception as trouble:
        return f"{name}, whose text cannot be shown: its __str__ raises {type(trouble).__name__}"
