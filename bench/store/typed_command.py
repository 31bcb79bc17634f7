"""The command that resumes a run: what was typed, without what starts or repeats anew."""

from collections.abc import Sequence


def going_on(words: Sequence[str]) -> list[str]:
    """Return a typed command that goes on where it stopped: it starts or repeats nothing anew."""
    kept, rest = [], iter(words)
    for word in rest:
        if word == "--redo":
            next(rest, None)
        elif word != "--fresh" and not word.startswith("--redo="):
            kept.append(word)
    return kept
