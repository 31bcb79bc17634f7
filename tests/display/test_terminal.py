"""Terminal: what a person reads fits, can be copied, and does nothing but be read."""

import ast
import io
import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.design.plan import TrialKey
from bench.terminal import NAME, cut, fitted, label, printable, wrapped

Bench = Callable[..., Any]
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
COMMAND = "bench run '/home/me/my tricks/a-very-long-name-of-a-file.py' --arm 'a b:x=1' --seeds 40"


class Terminal(io.StringIO):
    """A stream that says it is a terminal, of unknown width."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [30, 80, 200])
@pytest.mark.parametrize(
    "before", ["  fix: ", "  fix: mend the cause, then ", "  resume: ", "  " + "so many words " * 9]
)
def test_a_command_stays_in_one_piece_on_its_own_line(before: str, width: int):
    lines = wrapped(f"error[training]: it failed\n{before}{COMMAND}", width).split("\n")
    assert shlex.split(lines[-1].partition("bench run")[2]) == shlex.split(COMMAND)[2:]
    assert all(len(line) <= width for line in lines if COMMAND not in line)
    assert " ".join(" ".join(lines).split()) == " ".join(
        f"error[training]: it failed {before}{COMMAND}".split()
    )


def test_neither_a_path_nor_a_quoted_name_is_broken():
    path = "/home/me/a-long/way-to/some-where/" + "deep-" * 20
    text = f"error[file]: in {path} there is no 'such thing as this one' that doesn't break at all"
    lines = wrapped(text, 40).split("\n")
    assert any(path in line for line in lines)
    assert any("'such thing as this one'" in line for line in lines)
    assert all(line.startswith("  ") for line in lines[1:])


def test_only_a_terminal_gets_wrapped_lines():
    text = "error[x]: " + "many words " * 20
    assert fitted(text, io.StringIO()) == text
    lines = fitted(text, Terminal()).split("\n")
    assert len(lines) == 3 and max(map(len, lines)) <= 80


def test_what_a_terminal_would_obey_is_replaced():
    assert printable("a\x1b[31mb\x07c\rd\x9be\u202ef\ud800") == "a?[31mb?c?d?e?f?"
    assert printable("żółw 🙂 שלום\n\tx") == "żółw 🙂 שלום\n\tx"


def test_a_long_name_keeps_its_beginning_and_its_end():
    names = [label(f"{'w' * 250}{end}") for end in ("a", "b")]
    assert names[0] != names[1] and {len(name) for name in names} == {NAME}
    assert label("smoothed") == "smoothed" and label("two\nlines") == "two lines"
    assert TrialKey("w" * 250, 3).title.startswith("seed 03, www")
    assert cut("abc", 3) == "abc" and cut("abcd", 3) == "ab…"


ESCAPE = "\x1b]0;owned\x07\u202e"
HOSTILE = f"""
EXPERIMENT = Experiment(
    name="na{ESCAPE}me",
    question="Does {ESCAPE} help?",
    arms={{"we{ESCAPE}ak": {{"strength": 0.5}}, "st{ESCAPE}rong": {{"strength": 1.0}}}},
    settings={{"epochs": 3, "nap": 0.0, "note": "a{ESCAPE}b"}},
    train=train,
    prepare=lambda settings, folder: {{"name": "da{ESCAPE}ta", "digest": "1"}},
)
"""


def test_no_command_prints_what_a_terminal_would_obey(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench: Bench, write_tiny: Callable[..., Path]
):
    monkeypatch.chdir(tmp_path)
    fails = f'if trial.seed == 7:\n    raise ValueError("no{ESCAPE}\\r" + "x" * 100_000)'
    mine = write_tiny(tmp_path, fails)
    text = mine.read_text() + HOSTILE
    mine.write_text(text)
    page = tmp_path / "out" / "report.html"
    for words in (
        ("run", mine, "--seeds", "6", "--dry-run"),
        ("plan", mine, "--seeds", "6", "--freeze"),
        ("run", mine, "--seeds", "6"),
        ("run", mine, "--seeds", "8"),
        ("run", mine, "--seeds", "8", "-v"),
        ("run", mine, "--seeds", "8", "--set", f"note=x{ESCAPE}y", "--dry-run"),
        ("run", mine, "--redo", "3:none"),
        ("status",),
        ("status", mine),
        ("report", mine, "--out", page.parent),
        ("verify", page),
        ("verify", page, "--rerun", "1", "--experiment", mine),
        ("doctor", mine),
    ):
        said = bench(*words)
        assert not CONTROL.search(said.out + said.err), words
        if "-v" not in words:
            assert max(map(len, said.err.splitlines()), default=0) < 1000, words
    assert any("x" * 100_000 in path.read_text() for path in tmp_path.rglob("traceback.txt"))


def test_a_hundred_kilobytes_of_an_exception_are_cut_on_the_terminal_and_kept_in_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench: Bench, write_tiny: Callable[..., Path]
):
    monkeypatch.chdir(tmp_path)
    said = bench("run", write_tiny(tmp_path, 'raise ValueError("x" * 100_000)'), "--seeds", "2")
    assert said.status == 3 and "xxx…\n" in said.err and "x" * 600 not in said.err
    assert any("x" * 100_000 in path.read_text() for path in tmp_path.rglob("traceback.txt"))


@pytest.mark.skipif(sys.platform != "linux", reason="a pseudo-terminal")
def test_a_refusal_is_wrapped_at_the_width_of_the_terminal(monkeypatch: pytest.MonkeyPatch):
    import fcntl
    import struct
    import termios

    from bench.terminal import tell

    mine, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    with os.fdopen(theirs, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        tell("error[x]: " + "many words " * 9)
    lines = os.read(mine, 10_000).decode().splitlines()
    os.close(mine)
    assert len(lines) > 2 and max(map(len, lines)) <= 40


def test_everything_but_json_is_written_here():
    root = Path(__file__).parents[2] / "bench"
    own = ("terminal.py", "cli.py", "progress.py", "parser.py", "nvml.py")
    bare = [
        f"{path.name}, line {node.lineno}"
        for path in sorted(root.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if path.name not in own
        and isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "print"
        and "json.dumps" not in ast.unparse(node)
    ]
    assert not bare
