"""A terminal: what a real one shows of a real run, narrow and wide, open and blind."""

import fcntl
import os
import pty
import re
import selectors
import struct
import sys
import termios
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and opens a terminal")

ASKED = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|[\r\n]|[^\x1b\r\n]+")
CASES = [(columns, blind) for columns in (80, 200) for blind in (False, True)]


class Screen:
    """As much of a terminal as the display asks for: lines, a cursor, and erasing."""

    def __init__(self, columns: int) -> None:
        self.columns, self.lines, self.row, self.column = columns, [""], 0, 0
        self.shots: list[str] = []  # what was to be seen whenever it was about to be erased

    def feed(self, text: str) -> None:
        position = 0
        for match in ASKED.finditer(text):
            assert match.start() == position, repr(text[position : position + 20])
            position = match.end()
            self._take(match)
        assert position == len(text), repr(text[position:])

    def _take(self, match: re.Match[str]) -> None:
        what, (number, order) = match[0], match.groups()
        if what == "\r":
            self.column = 0
        elif what == "\n":
            self.row += 1
            self.lines += [""] * (self.row == len(self.lines))
        elif order == "A":
            self.row -= int(number)
            assert self.row >= 0
        elif (number, order) == ("2", "K"):
            self.shots.append("\n".join(self.lines))
            self.lines[self.row] = ""
        elif order is None:
            line = self.lines[self.row].ljust(self.column)
            after = self.column + len(what)
            self.lines[self.row] = line[: self.column] + what + line[after:]
            self.column = after
            assert cell_len(self.lines[self.row]) <= self.columns, self.lines[self.row]
        else:
            assert order == "m" or number == "?25", what  # colours; the cursor hides and comes back


@contextmanager
def terminal(columns: int) -> Iterator[tuple[int, str]]:
    """Open a terminal of so many columns: our end, and the name of the other one."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    try:
        yield ours, os.ttyname(theirs)
    finally:
        os.close(theirs)
        os.close(ours)


@pytest.fixture(scope="module")
def screens(
    zygote: Any, experiment: Path, copy_store: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[int, bool], Screen]:
    """Return what four terminals showed, on which the same experiment ran at the same time."""
    written = dict.fromkeys(CASES, b"")
    with ExitStack() as stack, selectors.DefaultSelector() as ready:
        commands = []
        for columns, blind in CASES:
            ours, name = stack.enter_context(terminal(columns))
            folder = tmp_path_factory.mktemp("terminal")
            words = ["run", experiment, "--seeds", 6, "--workers", 2, "--set", "nap=0.1"]
            words += ["--no-report", "--store", copy_store(folder), *["--blind"] * blind]
            how = {"TRAINED": folder / "trained.txt", "TERM": "xterm-256color"}
            commands.append(zygote.start(*words, folder=folder, terminal=name, **how))
            ready.register(ours, selectors.EVENT_READ, (columns, blind))
        ended = False
        while not ended or ready.select(0):  # what was written before the end is read after it
            ended = all(command.done.is_set() for command in commands)
            for key, _ in ready.select(0.1):
                written[key.data] += os.read(key.fd, 65536)
    assert [command.status for command in commands] == [0] * len(CASES)
    made = {case: Screen(case[0]) for case in CASES}
    for case, screen in made.items():
        screen.feed(written[case].decode())
    return made


def below_the_head(shot: str) -> str:
    """Return what is shown below the lines that say what will be trained."""
    return re.split(r"plan [0-9a-f]{7}\n", shot)[-1]


@pytest.mark.sample(1)
@pytest.mark.parametrize("case", CASES)
def test_the_table_and_the_pairs_are_seen_and_gone_at_the_end(
    case: tuple[int, bool], screens: dict[tuple[int, bool], Screen]
):
    columns, blind = case
    screen = screens[case]
    tables = [shot for shot in screen.shots if re.search(r"(?m)^  device +seed +arm ", shot)]
    assert len(tables) >= 3
    assert any(re.search(r"(?m)^  cpu +[0-5] +(weak|strong) ", shot) for shot in tables)
    assert any(re.search(r"(?m)^  pairs    .*\d done, \d running, ", shot) for shot in tables)
    done = [int(n) for shot in tables for n in re.findall(r"(\d) done, ", shot)]
    assert done == sorted(done) and done[-1] > done[0]
    assert max(cell_len(line) for shot in tables for line in shot.splitlines()) <= columns
    end = "\n".join(screen.lines)
    assert "device" not in end and "pairs  " not in end and "tiny" in end


@pytest.mark.sample(1)
@pytest.mark.parametrize("case", CASES)
def test_a_blind_run_shows_no_difference_and_an_open_one_an_interval_that_is_safe(
    case: tuple[int, bool], screens: dict[tuple[int, bool], Screen]
):
    blind = case[1]
    shown = [below_the_head(shot) for shot in screens[case].shots]
    texts = [text for shot in shown for text in re.findall(r"(?m)^  so far +(.*)$", shot)]
    assert texts
    if blind:
        assert all(text.startswith("hidden (--blind)") for text in texts)
        assert not re.search(r"pp|anytime|%|acc \d", "\n".join(shown))
    else:
        assert re.search(r"pp, anytime 95% \[[+−-]", texts[-1])
