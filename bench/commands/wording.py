"""Words a refusal's remedy as a command that can be typed."""

import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from bench.analysis.errors import Refusal
from bench.redaction import redacted


def worded(refusal: Refusal, words: Sequence[str], command: Any) -> str | None:
    """Return what to do: in words, as a command, or as words that lead up to one.

    Parameters
    ----------
    words : as typed, from the command's name on
    command : the parser of the whole command line
    """
    again = list(refusal.command)
    if refusal.same_call:
        known = command.commands.get(words[0] if words else None)
        spelled = {name: param for param in getattr(known, "params", ()) for name in param.opts}
        options = [*refusal.options, *(("set", f"{k}={v}") for k, v in refusal.settings.items())]
        once = [n for n, _ in options if not getattr(spelled.get(_typed(n)), "multiple", False)]
        kept = _without(_replaced(words, refusal.replace), {*refusal.without, *once}, spelled)
        if not options and kept == list(words):  # what was to be replaced was not typed
            return refusal.remedy()
        again = ["bench", *kept]
        for name, value in options:
            again += [_typed(name), *([] if value is True else [str(value)])]
    # word by word: a secret that is quoted would not be known again
    typed = shlex.join(map(redacted, again))
    return " ".join(filter(None, (refusal.fix, typed))) or None


def _typed(name: str) -> str:
    return f"--{name.lstrip('-').replace('_', '-')}"


def _replaced(words: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return typed words with others in their place."""
    new = list(words)
    for old, better in pairs:
        for i, word in enumerate(new):
            if word == old or (word.startswith("--") and word.endswith(f"={old}")):
                new[i] = f"{word[: len(word) - len(old)]}{better}"
                break
    return new


def _without(
    words: Sequence[str], gone: Collection[str | tuple[str, str]], spelled: Mapping[str, Any]
) -> list[str]:
    """Return typed words without some options: all that have a name, or those with one value."""
    kept, rest = list[str](), iter(words)
    names = {_typed(each) for each in gone if isinstance(each, str)}
    values = {(_typed(each[0]), each[1]) for each in gone if not isinstance(each, str)}
    for word in rest:
        name, equals, value = word.partition("=")
        param, typed = spelled.get(name) if name.startswith("-") else None, [word]
        if param is not None and not equals and not param.is_flag:
            value = next(rest, "")
            typed.append(value)
        option = word if param is None else param.opts[0]
        if param is None or not (option in names or (option, value) in values):
            kept += typed
    return kept
