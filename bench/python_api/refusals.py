"""Lets refusals speak Python: their text whole, a remedy as arguments, few frames."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from bench.analysis.errors import Refusal
from bench.redaction import redacted

P = ParamSpec("P")
T = TypeVar("T")


def in_python(call: Callable[P, T]) -> Callable[P, T]:
    """Return a call whose refusals are as a caller in Python reads them."""

    @wraps(call)
    def face(*args: P.args, **given: P.kwargs) -> T:
        try:
            return call(*args, **given)
        except Refusal as refusal:
            told = refusal
        vars(told).pop("__notes__", None)  # tracebacks of other processes, for -v
        for pair in told.replace:
            texts = {name: value for name, value in given.items() if isinstance(value, str)}
            name = next((name for name, value in texts.items() if value == pair[0]), None)
            if name is not None:
                told.options = (*told.options, (name, pair[1]))
                told.replace = tuple(each for each in told.replace if each != pair)
        told.args = (redacted(str(told.in_full())),)
        raise told.with_traceback(None) from None

    return face
