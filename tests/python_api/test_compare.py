"""`bench.compare`: the numbers of the command as plain values, and refusals in Python's words."""

import contextlib
import doctest
import hashlib
import inspect
import re
import traceback
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st
from scipy import stats

import bench as door
from bench.commands.compare import Columns, Judged
from bench.commands.options import Arms, Design, typed
from bench.design.option_values import MetricUnits, Points, amount, as_typed, in_metric_units

if TYPE_CHECKING:
    pass


ROOT = Path(__file__).parents[2]
WIDE = {"baseline": "base", "treatment": "new"}
Refused = Callable[[Callable[[], object]], str]


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
def test_a_table_that_cannot_be_compared_is_refused(
    kind: str, table: pd.DataFrame, refused: Refused
):
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
    how: dict[str, Any], words: str, table: pd.DataFrame, refused: Refused
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
        ({"baseline": "base"}, 'fix: treatment="new"'),
        ({"baseline": "bse", "treatment": "new"}, "Closest: base.\n"),
        ({"baseline": "bse", "treatment": "new"}, 'fix: baseline="base"'),
        ({**WIDE, "unit": "km"}, 'fix: unit="auto"'),
        ({**WIDE, "seed": "sed"}, 'fix: seed="seed"'),
        ({"arm": "seed", "baseline": "1"}, 'fix: metric="base"'),
    ],
)
def test_a_remedy_is_an_argument(
    how: dict[str, Any], words: str, table: pd.DataFrame, refused: Refused
):
    said = refused(lambda: door.compare(table, **how))
    assert words in said and "--" not in said


def test_several_values_of_one_argument_are_a_list(refused: Refused, table: pd.DataFrame):
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


def test_takes_every_option_of_the_command():
    options = {f.name for group in (Columns, Judged) for f in fields(group)}
    taken = set(inspect.signature(door.compare).parameters) - {"source", "store"}
    assert taken == options


def test_columns_and_arms_may_be_numbers(table: pd.DataFrame):
    wide = table[["seed", "base", "new"]].set_axis(["seed", 0, 1], axis=1)
    expected = door.compare(table, **WIDE).interval
    assert door.compare(wide, baseline=0, treatment=1).interval == expected
    rows = wide.melt(id_vars="seed", var_name="arm", value_name="acc")
    f = door.compare(rows, arm="arm", metric="acc", baseline=0, treatment=np.array([1]))
    assert f.interval == expected
    assert f.provenance["command"].startswith("bench.compare(DataFrame, baseline=0, treatment=[1]")


CELLS = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary()),
    *(st.dates(), st.decimals(), st.complex_numbers(), st.lists(st.integers(), max_size=2)),
)


SEVEN = st.lists(CELLS, min_size=7, max_size=7)
SCORES = st.lists(CELLS | st.floats(0, 1), min_size=7, max_size=7)


@given(st.just(list(range(7))) | SEVEN, SCORES)
def test_any_cells_are_compared_or_refused(seeds: list[Any], values: list[Any]):
    """Whatever stands in a table; warnings are errors here."""
    base = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8]
    frame = pd.DataFrame({"seed": pd.Series(seeds), "base": base, "new": pd.Series(values)})
    with contextlib.suppress(door.Refusal):
        assert door.compare(frame, **WIDE).n <= 7


def test_the_readmes_lines_run(table: pd.DataFrame, alone: Path):
    [block] = re.findall(
        r"```python\n(import bench\n.*?)```", (ROOT / "README.md").read_text(), re.S
    )
    long_form(table[["seed", "base", "new"]]).to_csv("results.csv", index=False)
    exec(block, {})
    assert Path("report.html").read_text("utf-8").startswith("<!doctype html>")
