"""Which display fits where stderr goes: a table that is drawn anew, lines, or none?"""

import os
import sys
from typing import TextIO

from bench.display.progress import Plain, Progress


def progress(*, quiet: bool, workers: int, blind: bool, stream: TextIO | None = None) -> Progress:
    """Return the display that fits where stderr goes."""
    stream = stream or sys.stderr
    if quiet:
        return Progress(stream, workers=workers, blind=blind)
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        return Plain(stream, workers=workers, blind=blind)
    from bench.display.live import Live  # rich: only where it draws

    return Live(stream, workers=workers, blind=blind)
