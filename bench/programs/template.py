"""Template: the words of a command, with {seed}, {out} and the settings filled in.

A command is split as a POSIX shell splits words, and then known names in braces are replaced: what
a value holds never becomes a word of its own. All other braces stay, those of JSON above all.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from bench.experiment import BadExperiment

SHELL = re.compile(r"&&|\|\||[|;&<]|[12&]?>{1,2}\S*|[^{}]*;")
FIELDS = ("seed", "out", "arm", "device", "data", "port", "dataset")


def words(command: str, values: Mapping[str, Any], *, shell: bool = False) -> list[str]:
    """Return what is to be started.

    Parameters
    ----------
    values : of the known names: the fields and the settings
    shell : hand the command to /bin/sh, each value quoted as one word

    Raises
    ------
    BadExperiment : a quote that is never closed, or no word at all
    """
    if shell:
        return ["/bin/sh", "-c", _filled(command, values, quote=True)]
    return [_filled(word, values) for word in split(command)]


def split(command: str) -> list[str]:
    """Return the words of a command as a POSIX shell would, with the fields still in them."""
    try:
        found = shlex.split(command)
    except ValueError as error:
        raise BadExperiment(
            f"the command cannot be split into words: {error}.", facts=[command[:200]]
        ) from None
    if not found:
        raise BadExperiment("a command is empty.", fix='command = "python train.py --seed {seed}"')
    return found


def of_a_shell(command: str) -> str:
    """Return the first word that only a shell understands, such as && or >log; "" without one."""
    bare = set(re.findall(r"(?<!\S)[^\s'\"\\]+(?!\S)", command))  # unless it is quoted
    return next((word for word in split(command) if word in bare and SHELL.fullmatch(word)), "")


def fields_in(command: str, names: Sequence[str]) -> set[str]:
    """Return which of some names a command has in braces."""
    return {name for name in names if f"{{{name}}}" in command}


def odd_fields(command: str, names: Sequence[str]) -> list[str]:
    """Return what stands in braces as a name would, and is none that is known."""
    found = re.findall(r"(?<!\$)\{([A-Za-z_]\w*)\}", command)
    return [name for name in dict.fromkeys(found) if name not in names]


def text_of(value: Any) -> str:
    """Return a setting as a word: 0.1, cosine, true; lists and dictionaries as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value)


def _filled(text: str, values: Mapping[str, Any], *, quote: bool = False) -> str:
    if not values:
        return text
    each = "|".join(re.escape(name) for name in sorted(values, key=len, reverse=True))

    def value(match: re.Match[str]) -> str:
        found = text_of(values[match[1]])
        return shlex.quote(found) if quote else found

    return re.sub(rf"\{{({each})\}}", value, text)
