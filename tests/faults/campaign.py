"""The long version of the fault tests: hundreds of kills, longer locks; prints the table.

python tests/faults/campaign.py             all of them, within the hour; writes campaign.md
python tests/faults/campaign.py -k killed   some of them; takes what pytest takes
"""

import os
import platform
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent
PAGE = """# Faults

What was done to running commands, and how often a command then ended as it should and the same
command completed, with every finished run recorded once. Wrong: a command ended as if well, and its
numbers differed from those of the undisturbed benchmark. A dash: nobody looked for that there.

Written by `python tests/faults/campaign.py` on {date}: {outcome}, in {minutes:.0f} minutes.
Python {python}, {cores} cores, {system}.

```text
{table}
```
"""


def page(table: Sequence[str], outcome: str, seconds: float) -> str:
    """Return the page of a campaign: its table, when it was, and on what."""
    return PAGE.format(
        date=datetime.now(UTC).date(),
        outcome=outcome,
        minutes=seconds / 60,
        python=platform.python_version(),
        cores=os.cpu_count(),
        system=platform.system(),
        table="\n".join(line.rstrip() for line in table),
    )


class Writer:
    """Writes the page when the tests are over."""

    def __init__(self) -> None:
        self.began = time.monotonic()

    def pytest_terminal_summary(self, terminalreporter: Any, config: pytest.Config) -> None:
        """Find the table that the tests counted, and write it."""
        shared = config.pluginmanager.get_plugin(str(FOLDER.parent / "conftest.py"))
        table = config.stash[shared.COUNTS].get("faults")
        counts = {name: len(terminalreporter.stats.get(name, ())) for name in ("passed", "failed")}
        if table:
            outcome = ", ".join(f"{count} tests {name}" for name, count in counts.items())
            text = page(shared.lines_of(table), outcome, time.monotonic() - self.began)
            (FOLDER / "campaign.md").write_text(text, "utf-8")


if __name__ == "__main__":
    os.environ["BENCH_CAMPAIGN"] = "long"
    typed = sys.argv[1:]
    sys.exit(pytest.main([str(FOLDER), "-q", *typed], plugins=[] if typed else [Writer()]))
