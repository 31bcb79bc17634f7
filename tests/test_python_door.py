"""Python's door: the numbers of the commands as plain values, and refusals in its own words."""

import ast
import contextlib
import doctest
import hashlib
import io
import json
import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bench as door
from bench import python_api
from bench.commands.options import Arms, Design, typed
from bench.design.option_values import MetricUnits, Points, amount, as_typed, in_metric_units

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parents[1]
NOTEBOOK = json.loads((ROOT / "docs" / "compare.ipynb").read_text("utf-8"))
WIDE = {"baseline": "base", "treatment": "new"}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    base = rng.normal(0.8, 0.01, 12)
    other = {"new": base + rng.normal(0.005, 0.004, 12), "wild": base + rng.normal(0, 0.01, 12)}
    return pd.DataFrame({"seed": range(12), "base": base, **other})


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder, in which the test is."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(door.Refusal) as caught:
        call()
    return str(caught.value)


# -- compare -----------------------------------------------------------------------------------


def test_the_worked_examples_are_true():
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    said: list[str] = []
    for name in ("compare", "run", "load"):
        [example] = finder.find(getattr(door, name), name, globs={})
        assert example.examples
        runner.run(example, out=said.append)
    assert said == []


def test_gives_scipys_numbers_as_plain_values(table: pd.DataFrame):
    f = door.compare(table, **WIDE)
    expected = stats.ttest_rel(table.new, table.base)
    assert (f.verdict, f.n) == ("better", 12)
    assert f.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert f.interval == pytest.approx(tuple(expected.confidence_interval()), rel=1e-9)
    assert f.difference == pytest.approx((table.new - table.base).mean())
    assert type(f.p_value) is type(f.difference) is type(f.interval[0]) is float


def test_a_table_in_memory_a_file_and_the_command_find_the_same(
    table: pd.DataFrame, alone: Path, bench: Callable[..., Any]
):
    table.to_csv("t.csv", index=False)
    how = {"metric": "acc", "claim": 0.004, "where": "seed!=3"}
    memory = door.compare(table, margin="0.5pp", **WIDE, **how)
    file = door.compare(Path("t.csv"), margin=0.005, **WIDE, **how)
    said = bench(
        *("compare", "t.csv", "--baseline", "base", "--treatment", "new", "--metric", "acc"),
        *("--margin", "0.5", "--claim", "0.4", "--where", "seed!=3", "--json"),
    ).json
    assert memory.comparisons == file.comparisons
    assert file.as_dict()["comparisons"] == said["comparisons"]
    assert file.as_dict()["plan"] == said["plan"]
    csv = table.to_csv(index=False).encode()
    assert memory.provenance["scores_sha256"] == hashlib.sha256(csv).hexdigest()
    assert memory.provenance["command"] == (
        'bench.compare(DataFrame, baseline="base", treatment="new", metric="acc", '
        'margin="0.5pp", claim=0.004, where="seed!=3")'
    )


def long_form(table: pd.DataFrame) -> pd.DataFrame:
    return table.melt(id_vars="seed", var_name="model", value_name="acc")


FORMS: dict[str, Callable[[pd.DataFrame], tuple[pd.DataFrame, dict[str, Any]]]] = {
    "index": lambda t: (t.set_index("seed"), WIDE),
    "nullable": lambda t: (t.convert_dtypes(), WIDE),
    "objects": lambda t: (t.astype(object), WIDE),
    "long": lambda t: (
        long_form(t),
        {"arm": "model", "metric": "acc", "baseline": "base", "treatment": ["new"]},
    ),
    "categories": lambda t: (
        long_form(t).astype({"model": "category", "seed": "category"}),
        {"arm": "model", "metric": ("acc",), "baseline": "base", "treatment": "new"},
    ),
}


@pytest.mark.sample(len(FORMS))
@pytest.mark.parametrize("form", FORMS)
def test_a_table_may_have_any_of_the_usual_forms(form: str, table: pd.DataFrame):
    given, how = FORMS[form](table)
    before = given.copy()
    assert door.compare(given, **how).p_value == pytest.approx(
        stats.ttest_rel(table.new, table.base).pvalue, rel=1e-9
    )
    pd.testing.assert_frame_equal(given, before)


BAD: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "levels": (lambda t: pd.concat({"a": t}, axis=1), "DataFrame has columns of 2 levels"),
    "empty": (lambda t: t.iloc[:0], "DataFrame has no rows"),
    "twice": (lambda t: t.rename(columns={"wild": "new"}), "two columns named 'new'"),
    "times": (lambda t: t.assign(new=pd.Timestamp("2026-01-01")), "is not a number: '2026-01-01"),
    "lists": (lambda t: t.assign(new=[[0.5]] * 12), "is not a number: '[0.5]'"),
    "complex": (lambda t: t.assign(new=t.new + 1j), "is not a number"),
    "missing": (lambda t: t.assign(new=t.new.where(t.seed > 0)), "fix: add the missing value, or"),
}


@pytest.mark.sample(len(BAD))
@pytest.mark.parametrize("kind", BAD)
def test_a_table_that_cannot_be_compared_is_refused(kind: str, table: pd.DataFrame):
    change, words = BAD[kind]
    assert words in refused(lambda: door.compare(change(table), **WIDE))


def test_what_is_no_table_is_an_error_of_type():
    with pytest.raises(TypeError, match="source is of type list, not a DataFrame, a path or"):
        door.compare([1, 2], **WIDE)  # type: ignore[arg-type]


# -- margins -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factor", "unit", "margin", "expected"),
    [
        (1, "fraction", 0.005, 0.005),
        (1, "fraction", "0.5pp", 0.005),
        (100, "percent", 0.5, 0.005),
        (100, "percent", " .5 pp ", 0.005),
        (1, "plain", 0.005, 0.005),
    ],
)
def test_a_number_is_in_metric_units_and_pp_are_points(
    factor: int, unit: Any, margin: Any, expected: float, table: pd.DataFrame
):
    shown = table.assign(base=factor * table.base, new=factor * table.new)
    f = door.compare(shown, **WIDE, unit=unit, margin=margin)
    assert f.design.margin == pytest.approx(expected)


@pytest.mark.sample(6)
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"margin": 0.5, "metric": "acc"}, 'if the margin is in percentage points: margin="0.5pp"'),
        ({"margin": "0.5pp"}, 'have no percentage points.\n  fix: unit="fraction"'),
        ({"margin": 0}, "margin 0 is not a number above 0.\n  fix: margin=0.003"),
        ({"claim": float("nan")}, "claim nan is not a number.\n  fix: claim=0.003"),
        ({"margin": "half"}, 'neither a number nor percentage points.\n  fix: margin="0.5pp"'),
        ({"margin": "1e999pp", "metric": "acc"}, "margin inf is not a number above 0."),
    ],
)
def test_a_margin_that_is_none_or_a_slip_is_refused(
    how: dict[str, Any], words: str, table: pd.DataFrame
):
    assert words in refused(lambda: door.compare(table, **WIDE, **how))


def test_what_python_was_given_can_be_typed_and_means_the_same():
    for metric in ("accuracy", "nll"):
        for value in (amount("margin", 0.0025), MetricUnits(3)):
            assert value is not None
            again = in_metric_units(float(as_typed(value, metric)), metric)
            assert again == pytest.approx(in_metric_units(value, metric))
    assert as_typed(Points(0.5), "accuracy") == "0.5"
    with pytest.raises(door.Refusal, match="nll is not known to be a fraction"):
        in_metric_units(Points(0.5), "nll")
    words = typed(
        Design(margin=MetricUnits(0.005), aa=True), Arms(arms=["a:b=1"]), metric="accuracy"
    )
    assert words == ["--margin", "0.5", "--aa", "--arm", "a:b=1"]


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.sample(7)
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"treatment": "new"}, 'fix: baseline="NAME"'),
        ({"baseline": "base"}, 'fix: treatment="COLUMN"'),
        ({"baseline": "bse", "treatment": "new"}, "Closest: base.\n"),
        ({"baseline": "bse", "treatment": "new"}, 'fix: baseline="base"'),
        ({**WIDE, "unit": "km"}, 'fix: unit="auto"'),
        ({**WIDE, "seed": "sed"}, 'fix: seed="seed"'),
        ({"arm": "seed", "baseline": "1"}, 'fix: metric="COLUMN"'),
    ],
)
def test_a_remedy_is_an_argument(how: dict[str, Any], words: str, table: pd.DataFrame):
    said = refused(lambda: door.compare(table, **how))
    assert words in said and "--" not in said


def test_several_values_of_one_argument_are_a_list(table: pd.DataFrame):
    summed = table.astype({"seed": str})
    summed.loc[10:, "seed"] = ["mean", "std"]
    said = refused(lambda: door.compare(summed, **WIDE))
    assert 'fix: leave them out: where=["seed!=mean", "seed!=std"]' in said
    f = door.compare(summed, **WIDE, where=["seed!=mean", "seed!=std"])
    assert f.n == 10


def test_a_traceback_is_short(table: pd.DataFrame):
    with pytest.raises(door.Refusal) as caught:
        door.compare(table, baseline="bse", treatment="new")
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert len(frames) == 2 and caught.value.__cause__ is caught.value.__context__ is None
    shown = "".join(traceback.format_exception(caught.value))
    assert shown.endswith(
        'BadColumns: DataFrame has no column "bse".\n  Closest: base.\n'
        '  Columns: seed, base, new, wild.\n  fix: baseline="base"\n'
    )


# -- findings ----------------------------------------------------------------------------------


def test_of_several_treatments_one_is_named(table: pd.DataFrame):
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
    table: pd.DataFrame, alone: Path, bench: Callable[..., Any]
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


def cells() -> Iterator[tuple[str, str]]:
    """Yield the code of the notebook, and what it shows."""
    for cell in NOTEBOOK["cells"]:
        if cell["cell_type"] == "code":
            texts = [each.get("text") or each["data"]["text/plain"] for each in cell["outputs"]]
            yield "".join(cell["source"]), "".join("".join(text) for text in texts)


def executed(code: str, names: dict[str, Any]) -> str:
    """Run a cell and return what it shows."""
    tree, out = ast.parse(code), io.StringIO()
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(out):
        exec(compile(tree, "cell", "exec"), names)
        value = None
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    quiet = value is None or code.rstrip().endswith(";")
    return out.getvalue() + ("" if quiet else repr(value))


# -- run and load ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_text: Callable[..., str],
    copy_store: Callable[[Path], str],
) -> tuple[door.Refusal | Any, str, Path]:
    """Return what `bench.run` found, where it is recorded, and the file."""
    folder = tmp_path_factory.mktemp("door")
    path, store = folder / "tiny_door.py", copy_store(folder / "mlruns")
    path.write_text(tiny_text(name="digits"))
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.chdir(folder)
        found = door.run(
            path, seeds=range(6), settings={"epochs": 2}, margin=0.03, store=store, workers=2
        )
        assert out.getvalue() == ""
    return found, store, path


def test_a_run_returns_what_it_found(trained: Any):
    f, _, path = trained
    assert (f.n, f.design.margin, f.design.experiment) == (6, 0.03, "digits")
    assert f.arm("weak").settings["epochs"] == 2
    assert f.provenance["command"] == (
        f"bench run {path} --seeds 6 --margin 3 --set epochs=2 --workers 2"
    )


def test_load_finds_the_same_and_so_does_the_command(trained: Any, bench: Callable[..., Any]):
    f, store, path = trained
    before = {p: p.stat().st_mtime_ns for p in path.parent.rglob("*") if p.is_file()}
    assert door.load("digits", store=store) == door.load(store=store) == f
    assert before.keys() == {p for p in path.parent.rglob("*") if p.is_file()}
    said = bench("report", "digits", "--store", store, "--json").json
    assert said["comparisons"] == f.as_dict()["comparisons"]
    assert "load" not in refused(lambda: door.load("digist", store=store))


def test_the_notebook_runs_and_shows_what_stands_in_it(
    trained: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(trained[2].parent)
    names: dict[str, Any] = {"__name__": "__main__"}
    for code, shown in cells():
        said = executed(code, names)
        assert said == shown or "bench.load" in code
    assert said == repr(trained[0].verdict)


def test_nothing_recorded_is_said_and_no_store_made(alone: Path):
    said = refused(lambda: door.load("digits"))
    assert "nothing is recorded in sqlite:///" in said and 'fix: bench.run("digits")' in said
    assert list(alone.iterdir()) == []


def test_options_that_no_run_has_are_refused(alone: Path):
    assert "has no option sedes.\n  Closest: seeds." in refused(lambda: door.run("digits", sedes=3))
    assert "has no option dry_run" in refused(lambda: door.run("digits", dry_run=True))
    assert "stop=" in refused(lambda: door.run("digits", stop="never"))
    assert "seeds" in refused(lambda: door.run("digits", seeds=[]))


def test_an_experiment_that_no_file_holds_is_refused():
    def train(trial: door.Trial) -> door.Outcome:
        return door.Outcome(scores={"return": 0.0})

    arms: dict[str, dict[str, Any]] = {"a": {"x": 1}, "b": {"x": 2}}
    experiment = door.Experiment(name="here", question="?", arms=arms, train=train, metric="return")
    said = refused(lambda: door.run(experiment))
    assert "here is not the EXPERIMENT of a file." in said and 'bench.run("FILE.py")' in said


def test_a_script_without_a_guard_is_refused_and_starts_no_end_of_processes(
    alone: Path, tiny_text: Callable[..., str]
):
    script = alone / "tiny_unguarded.py"
    script.write_text(f"{tiny_text()}\nimport bench\nbench.run(EXPERIMENT, seeds=6)\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Refusal: tiny_unguarded.py calls bench.run while it is imported." in done.stderr
    assert done.stderr.count("Traceback") == 1
    assert 'fix: put the call below: if __name__ == "__main__":' in done.stderr
    assert not (alone / "mlruns").exists()


# -- what it costs -----------------------------------------------------------------------------


def test_importing_bench_costs_nothing_and_every_name_is_there():
    code = "import sys, bench; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"numpy", "pandas", "scipy", "mlflow", "torch", "matplotlib", "typer"}
    assert all(getattr(door, name) for name in door.__all__)
    assert door.compare is python_api.compare


@pytest.mark.thorough
def test_a_notebooks_backend_for_figures_is_kept():
    code = (
        "import bench.analysis.report.figures.style, matplotlib, os;"
        "print(matplotlib.rcParams['backend'], os.environ['MPLBACKEND'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={"MPLBACKEND": "svg", "PATH": ""},
    )
    assert done.stdout.split() == ["svg", "svg"], done.stderr


def test_the_readmes_lines_run(table: pd.DataFrame, alone: Path):
    [block] = re.findall(
        r"```python\n(import bench\n.*?)```", (ROOT / "README.md").read_text(), re.S
    )
    long_form(table[["seed", "base", "new"]]).to_csv("results.csv", index=False)
    exec(block, {})
    assert Path("report.html").read_text("utf-8").startswith("<!doctype html>")
