"""Terminal: texts for a person, without escape sequences, in lines of the terminal's width."""

import contextlib
import os
import re
import sys
import textwrap
from collections.abc import Sequence
from typing import TextIO

WIDTH = 80
NAME = 40  # characters of a name in a table or a sentence
TEXT = 500  # characters of a text that an experiment wrote
COMMAND = re.compile(
    r"(?<!\S)(bench (run|report|compare|plan|verify|doctor|list|init|status|ui)\b"
    r"|python (-\w|\S+\.py)|sudo \S).*"
)
QUOTED = re.compile(r"""(?<!\w)(['"])(?:(?!\1).){1,60}\1(?!\w)""")


_waiting: list[str] = []  # what stands on the terminal's last line, and is written over


def wait_for(what: str) -> None:
    """Say on a terminal what is waited for, until something else is said there."""
    if _waiting or _asked(sys.argv):
        with contextlib.suppress(OSError, ValueError):
            if sys.stderr.isatty():
                text = cut(f"{printable(what)} …", columns(sys.stderr) - 1)
                end_waiting()
                print(text, end="", file=sys.stderr, flush=True)
                _waiting.append(text)


def end_waiting() -> None:
    """Take away what was said to be waited for; idempotent."""
    while _waiting:
        with contextlib.suppress(OSError, ValueError):
            print(f"\r{' ' * len(_waiting.pop())}\r", end="", file=sys.stderr, flush=True)


def _asked(words: Sequence[str]) -> bool:
    """Tell whether a command that may take a while was typed, and not asked to be quiet."""
    slow = ("run", "report", "compare", "plan", "verify", "doctor", "ui")
    quiet = {"-q", "--quiet", "--json", "-h", "--help", "--help-all"}
    return len(words) > 1 and words[1] in slow and not quiet & {*words}


def show(text: str) -> None:
    """Write a result, made for lines of 80 columns, to stdout."""
    end_waiting()
    print(printable(text), flush=True)


def tell(text: str) -> None:
    """Write a message to stderr, wrapped where that is a terminal."""
    end_waiting()
    print(fitted(text, sys.stderr), file=sys.stderr, flush=True)


def fitted(text: str, stream: TextIO) -> str:
    """Return a text as it is written to a stream: lines of a file or a pipe are not wrapped."""
    text = printable(text)
    return wrapped(text, columns(stream)) if stream.isatty() else text


def unicode_out() -> bool:
    """Say whether stdout shows more than ASCII."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"  # without one it takes any text
    return encoding.lower().replace("-", "") in ("utf8", "utf8sig")


def columns(stream: TextIO) -> int:
    """Return the width of a terminal."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or WIDTH
    except (OSError, ValueError):
        return WIDTH


def wrapped(text: str, width: int = WIDTH, *, hang: int | None = None) -> str:
    """Return a text in lines of at most `width` columns.

    No word, path, quoted name or command is broken: a command that does not fit stands on a line
    of its own, however long it is, so that it can be copied.

    Parameters
    ----------
    hang : how far all lines but the first are indented; by default by two more than the first
    """
    return "\n".join(_wrapped(line, width, hang) for line in text.split("\n"))


def _wrapped(line: str, width: int, hang: int | None) -> str:
    if len(line) <= width:
        return line
    indent = " " * (len(line) - len(line.lstrip()) + 2 if hang is None else hang)
    command = COMMAND.search(line)
    if command and line[: command.start()].strip():
        head = line[: command.start()].rstrip()
        return f"{_wrapped(head, width, hang)}\n{indent}{command[0]}"
    if command:
        return line
    whole = QUOTED.sub(lambda quoted: quoted[0].replace(" ", "\xa0"), line)
    filled = textwrap.fill(
        whole,
        width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return filled.replace("\xa0", " ")


def cut(text: str, most: int = TEXT) -> str:
    """Return a text of at most so many characters, an ellipsis at its end where it had more."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def label(name: str, most: int = NAME) -> str:
    """Return a name for one line: its beginning and its end, by which long ones are told apart."""
    flat = " ".join(printable(name).split()) or "(no name)"
    tail = most // 3
    return flat if len(flat) <= most else f"{flat[: most - tail - 1]}…{flat[-tail:]}"


def printable(text: str) -> str:
    """Return a text that a terminal shows and does not obey.

    Control characters (of escape sequences), marks that turn the direction of text, and half
    characters become question marks.
    """
    return re.sub(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]",
        "?",
        text,
    )
