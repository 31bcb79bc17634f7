"""What Python is given: values, a table, a figure, files, and a notebook's output."""

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from scipy import stats

import bench as door

if TYPE_CHECKING:
    from playwright.sync_api import Browser


WIDE = {"baseline": "base", "treatment": "new"}
Refused = Callable[[Callable[[], object]], str]


def test_of_several_treatments_one_is_named(refused: Refused, table: pd.DataFrame):
    f = door.compare(table, baseline="base", treatment=["new", "wild"])
    assert f["new"].verdict == "better" and f["wild"].verdict == "inconclusive"
    assert [answer.arm for answer in f] == ["new", "wild"]
    one = stats.ttest_rel(table.new, table.base).pvalue
    assert f["new"].p_value == pytest.approx(2 * one) and f["new"].level == 0.975
    assert f["wild"].p_value <= 1 and f["new"].details is f.comparisons[0]
    for name in ("verdict", "difference", "interval", "p_value", "n"):
        with pytest.raises(AttributeError, match=r'one of: f\["new"\], f\["wild"\]'):
            getattr(f, name)
    assert 'no treatment is called "bse".\n  fix: one of: new, wild' in refused(lambda: f["bse"])
    assert 'one of: f["new"]' in refused(f.plot)
    assert f.plot("wild").axes


def test_the_frame_has_a_row_a_treatment_and_analysis(table: pd.DataFrame):
    f = door.compare(table, baseline="base", treatment=["new", "wild"])
    frame = f.to_frame()
    assert not frame.duplicated(["treatment", "analysis"]).any()
    deciding = frame[frame.decides].set_index("treatment")
    assert list(deciding.index) == ["new", "wild"]
    for answer in f:
        row = deciding.loc[answer.arm]
        assert (row.low, row.high, row.p_value) == (*answer.interval, answer.p_value)
    welch = frame[frame.analysis == "welch"].iloc[1].p_value
    expected = stats.ttest_ind(table.wild, table.base, equal_var=False).pvalue
    assert welch == pytest.approx(min(1.0, 2 * expected))
    assert frame[["difference", "low", "high", "level", "p_value"]].dtypes.eq(float).all()


def test_it_shows_itself_in_short(table: pd.DataFrame):
    f = door.compare(table, **WIDE, metric="acc", margin=0.001)
    assert repr(f).splitlines() == [
        "table   DataFrame, acc   12 of 12 pairs",
        "  ▲ BETTER  New raises acc, by more than the margin you set.",
        "    +0.51 pp   95% CI [+0.36, +0.65]   80.05% → 80.56%   p < 0.001",
    ]
    few = door.compare(table[:3], **WIDE)
    assert "NO VERDICT" in repr(few) and few.verdict == "none" and few.n == 3
    assert "details" not in repr(f["new"])


def test_it_is_saved_by_the_ending_of_a_name_and_nothing_else_is_written(
    refused: Refused, table: pd.DataFrame, alone: Path, bench: Callable[..., Any]
):
    f = door.compare(table, **WIDE)
    repr(f), f._repr_html_(), f.plot(), f.to_frame()
    assert list(alone.iterdir()) == []
    for form in ("html", "json", "md", "tex", "csv"):
        assert f.save(f"sub/r.{form}") == Path(f"sub/r.{form}")
    assert sorted(path.name for path in Path("sub").iterdir()) == [
        f"r.{form}" for form in ("csv", "html", "json", "md", "tex")
    ]
    pairs = pd.read_csv("sub/r.csv")
    assert pairs.difference.tolist() == list(f.comparisons[0].differences)
    assert bench("verify", "sub/r.json").status == bench("verify", "sub/r.html").status == 0
    said = refused(lambda: f.save("r.pdf"))
    assert said == 'r.pdf ends in none of .html, .json, .csv, .md, .tex.\n  fix: save("r.html")'
    assert not Path("r.pdf").exists()


def test_the_figure_is_the_reports_and_a_notebook_can_show_it(table: pd.DataFrame):
    figure: Any = door.compare(table, **WIDE).plot()
    assert len(figure.axes[0].collections[0].get_offsets()) == 12
    assert figure._repr_png_().startswith(b"\x89PNG")


# -- a notebook's output -----------------------------------------------------------------------

HOSTILE = "<script>alert(1)</script>"


def test_its_html_is_inert_and_has_ids_of_its_own(table: pd.DataFrame):
    one = door.compare(table.rename(columns={"new": HOSTILE}), baseline="base", treatment=HOSTILE)
    two = door.compare(table, baseline="base", treatment=["new", "wild"])
    html, other = one._repr_html_(), two._repr_html_()
    assert "<script" not in html and "&lt;script&gt;alert(1)" in html
    assert "BETTER" in html and other.count('class="chip"') == 4
    ids, others = (re.findall(r'\bid="([^"]+)"', text) for text in (html, other))
    assert len(set(ids)) == len(ids) > 1 and not set(ids) & set(others)
    named = re.findall(r'(?:href="#|labelledby=")([^" ]+)', other)
    assert set(named) <= set(others)
    assert "http" not in re.sub(r"http://www.w3.org/\S+", "", html)


@pytest.mark.browser
def test_a_notebooks_own_style_is_left_alone_and_its_theme_followed(
    table: pd.DataFrame, browser: "Browser", tmp_path: Path
):
    html = door.compare(table, **WIDE)._repr_html_()
    page = "<!doctype html><body style='font:13px serif'><h1>a</h1><p>b</p><table><tr><td>c"
    path = tmp_path / "notebook.html"
    path.write_text(f"{page}</table>BODY</body>".replace("BODY", html), "utf-8")
    bare = tmp_path / "bare.html"
    bare.write_text(f"{page}</table></body>", "utf-8")
    look = """() => ['body', 'h1', 'p', 'table', 'td'].map(name => {
        const s = getComputedStyle(document.querySelector(name));
        return [s.font, s.color, s.backgroundColor, s.margin, s.padding, s.maxWidth, s.boxSizing];
    })"""
    ground = "() => getComputedStyle(document.querySelector('.bench-findings')).backgroundColor"
    light, dark = "rgb(253, 252, 250)", "rgb(20, 23, 27)"
    for scheme, system, jupyter in (("light", light, "false"), ("dark", dark, "true")):
        with contextlib.closing(browser.new_context(color_scheme=scheme)) as context:  # type: ignore[arg-type]
            tab = context.new_page()
            tab.goto(bare.as_uri())
            before = tab.evaluate(look)
            tab.goto(path.as_uri())
            assert tab.evaluate(look) == before
            assert tab.evaluate(ground) == system
            tab.evaluate(f"document.body.setAttribute('data-jp-theme-light', '{jupyter}')")
            assert tab.evaluate(ground) == (dark if system == light else light)
