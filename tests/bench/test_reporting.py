"""Reporting: what a user typed stays text, and files are written whole or not at all."""

import html
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from bench.discover import Discovered
from bench.files import replace_text
from bench.plan import Plan
from bench.reporting import looker, markdown
from bench.runner import Look

# -- files -----------------------------------------------------------------------------------


def test_a_file_is_replaced_whole(tmp_path: Path):
    path = tmp_path / "new" / "report.html"
    replace_text(path, "first")
    replace_text(path, "zweite Größe")
    assert path.read_text("utf-8") == "zweite Größe"
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "report.html"
    replace_text(path, "old")

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(UnicodeEncodeError):
        replace_text(path, "half \udcff")
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        replace_text(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


# -- Markdown --------------------------------------------------------------------------------

MARKED = ["**bold**", "_a_", "`code`", "[x](javascript:alert(1))", "<script>alert(1)</script>",
          "![i](http://x)", "# title", "- item", "+ item", "> quote", "a | b", "~~no~~", "&lt;",
          "\\*", "***", "<!-- x -->", "$x$", "!", "* item"]  # fmt: skip


@given(st.one_of(st.sampled_from(MARKED), st.text(max_size=60).filter(str.strip)))
def test_what_a_user_typed_is_inert_in_a_note(text: str):
    # As `note` uses it: inside a line of its own.
    shown = MarkdownIt("commonmark").render(f"x {markdown(text)} x").strip()
    assert html.unescape(shown) == f"<p>x {' '.join(text.split())} x</p>".replace("\0", "\ufffd")


# -- the running interval --------------------------------------------------------------------


def test_a_look_needs_three_pairs_and_has_no_opinion_on_stopping(
    tiny: Discovered, plan_of: Callable[..., Plan]
):
    look = looker(plan_of(tiny, range(20)))
    pairs = [{"weak": 0.9, "strong": 0.91 + 0.001 * i} for i in range(6)]
    assert look(pairs[:2]) is None
    seen = look(pairs)
    assert isinstance(seen, Look) and not seen.stop
    assert seen.mean == pytest.approx(0.0125)
    assert seen.low is not None and seen.high is not None and seen.low < seen.mean < seen.high


def test_pairs_without_spread_give_no_limits_instead_of_an_error(
    tiny: Discovered, plan_of: Callable[..., Plan]
):
    look = looker(plan_of(tiny, range(20)))
    seen = look([{"weak": 0.5, "strong": 0.5}] * 5)
    assert seen is None or (seen.mean, seen.low, seen.high, seen.stop) == (0.0, None, None, False)
