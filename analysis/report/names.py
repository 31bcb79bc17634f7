"""Names in a report: shortened to fit, and made inert."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from bench.analysis.study.findings import Findings

NAME = 48  # characters of a name that are shown
TEXT = 1500  # characters of anything else
REPLACEMENT = "\ufffd"

T = TypeVar("T")


def fitted(f: Findings) -> Findings:
    """Return the same findings with long names shortened and unprintable signs replaced.

    Every sentence repeats the arms' names, and a mark that turns the direction of text, or an
    escape sequence, would change how the numbers beside it read. The JSON keeps what was typed.
    """
    d = f.design
    others = (s.metric for c in f.comparisons for s in c.secondary)
    names = apart(
        (d.metric, *d.arms, d.experiment, *others),
        lambda name: shortened(printable(name).strip(), NAME),
    )
    changed = {old: new for old, new in names.items() if old != new}
    longest_first = sorted(changed, key=len, reverse=True)

    def fit(text: str) -> str:
        if text in changed:
            return changed[text]
        for old in longest_first:
            if len(old) > NAME:  # inside a sentence
                text = text.replace(old, changed[old])
                text = text.replace(old[:1].upper() + old[1:], changed[old])
        return shortened(printable(text), TEXT)

    return mapped(f, fit)


def apart(names: Iterable[str], show: Callable[[str], str]) -> dict[str, str]:
    """Return what each name is shown as; different names stay different."""
    shown: dict[str, str] = {}
    for name in dict.fromkeys(names):
        text = show(name) or "(no name)"
        count, candidate = 1, text
        while candidate in shown.values():
            count += 1
            candidate = f"{text} ({count})"
        shown[name] = candidate
    return shown


def printable(text: str) -> str:
    """Return text whose control characters and direction marks are visible and without effect."""
    return listing(re.sub(r"\s+", " ", text))


def listing(text: str) -> str:
    """Return a text of several lines in the same way, its lines and their indentation kept."""
    return "".join(REPLACEMENT if sign not in "\n\t" and _acts(sign) else sign for sign in text)


def _acts(sign: str) -> bool:
    return unicodedata.category(sign) in ("Cc", "Cs", "Co", "Cn") or (
        unicodedata.bidirectional(sign)
        in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
        or sign in "\u200e\u200f\u061c"
    )


def shortened(text: str, most: int) -> str:
    """Return a text of at most `most` characters, its end replaced by an ellipsis."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def mapped(value: T, change: Callable[[str], str]) -> T:
    """Return the value with every text inside it changed."""
    return _rebuilt(value, change)  # type: ignore[no-any-return]


def _rebuilt(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if is_dataclass(value) and not isinstance(value, type):
        kept = [f.name for f in fields(value) if f.init and f.metadata.get("stored", True)]
        parts = {name: getattr(value, name) for name in kept}
        return replace(value, **{name: _rebuilt(part, change) for name, part in parts.items()})
    if isinstance(value, Mapping):
        return {_rebuilt(k, change): _rebuilt(v, change) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_rebuilt(part, change) for part in value)
    return value
