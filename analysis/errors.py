"""Refusals: what went wrong, the facts, and the fix, in words a user can act on.

The ground floor of the house: everything may import this file, it imports nothing.
"""

import errno
from collections.abc import Sequence


class Refusal(Exception):
    """A problem that its reader can solve; never a bug in bench.

    Parameters
    ----------
    what : one sentence: what happened
    facts : lines with the numbers and names behind it
    fix : what to do next, where possible a command that works as typed; options alone stand for
        the command that was typed, with these in place of its own
    without : what that command leaves out besides: "--set", or one of several, "--set epoch=3"
    """

    code = "data"
    exit_status = 5

    def __init__(
        self,
        what: str,
        *,
        facts: Sequence[str] = (),
        fix: str | None = None,
        without: Sequence[str] = (),
    ) -> None:
        super().__init__(what)
        self.what = what
        self.facts = tuple(facts)
        self.fix = fix
        self.without = tuple(without)

    def __reduce__(self) -> tuple[object, ...]:
        arguments = (type(self), self.what, self.facts, self.fix, self.without)
        return _rebuild, arguments, vars(self)  # a code of its own, and notes

    def render(self) -> str:
        """Return the three-part message of the command line."""
        lines = [f"error[{self.code}]: {self.what}"]
        lines += [f"  {fact}" for fact in self.facts]
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, object]:
        """Return the message as JSON values."""
        return {
            "code": self.code,
            "message": " ".join([self.what, *self.facts]),
            "fix": self.fix,
        }


def _rebuild(
    kind: type[Refusal], what: str, facts: Sequence[str], fix: str | None, without: Sequence[str]
) -> Refusal:
    return kind(what, facts=facts, fix=fix, without=without)


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
