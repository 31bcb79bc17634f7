"""Retyping: the command that was typed, with other options or without some, to be typed again."""

import re
import shlex
from collections.abc import Collection, Iterator, Sequence
from typing import Any


def retyped(words: Sequence[str], fix: str, leave_out: Collection[str], command: Any) -> str:
    """Return the typed command with the options of a fix in place of its own.

    Parameters
    ----------
    words : as typed, from the command's name on
    fix : options to type; one that may be given once replaces what was typed
    leave_out : options, or options with the value that they have, that go too
    command : the parser of the whole command line
    """
    named = re.findall(r"(?<!\S)--[\w-]+", fix)
    once = [name for name in named if name not in _repeatable(words, command)]
    gone = {*leave_out, *once}
    kept: list[str] = []
    place = None  # of the first option that goes
    for option, value, typed in _pieces(words, command):
        if option not in gone and f"{option} {value}" not in gone:
            kept += map(shlex.quote, typed)
        elif place is None:
            place = len(kept)
    if place is None or ", " in fix:  # words to read go last
        place = len(kept)
    kept.insert(place, fix)
    return " ".join(["bench", *filter(None, kept)])


def _pieces(words: Sequence[str], command: Any) -> Iterator[tuple[str, str | None, Sequence[str]]]:
    """Yield what was typed in pieces: an option with its value, or a word alone."""
    takes = {
        name: (param.opts[0], bool(getattr(param, "is_flag", False)))
        for param in _params(words, command)
        for name in param.opts
        if name.startswith("-")
    }
    i = 0
    while i < len(words):
        name, equals, value = words[i].partition("=")
        if words[i][:1] == "-" and words[i][:2] in takes and words[i][1:2] != "-":  # -s20
            name, value, equals = words[i][:2], words[i][2:], words[i][2:]
        option, is_flag = takes.get(name, (words[i], True))
        if is_flag or equals:
            yield option, value, words[i : i + 1]
            i += 1
        else:
            yield option, words[i + 1] if i + 1 < len(words) else None, words[i : i + 2]
            i += 2


def _repeatable(words: Sequence[str], command: Any) -> set[str]:
    return {
        name
        for param in _params(words, command)
        if getattr(param, "multiple", False)
        for name in param.opts
    }


def _params(words: Sequence[str], command: Any) -> Sequence[Any]:
    typed = command.commands.get(words[0]) if words else None
    return () if typed is None else tuple(typed.params)
