"""People's files: what is answered rightly, and what is refused by name with a fix that works."""

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.analysis.errors import Refusal
from bench.analysis.study.study import study
from bench.importers.rows import kind_of
from bench.importers.tables import Layout, imported

FIELD = Path(__file__).parents[3] / "shared" / "cases" / "field"
WIDE = Layout(baseline="base", treatments=("new",))
TEN = (0.276, 0.2150, 0.3370)  # difference and limits of the ten pairs (scipy)

needs_cases = pytest.mark.skipif(not FIELD.exists(), reason="there are no cases beside this clone")


def answered(path: Path, layout: Layout = WIDE, **how: object):
    found = imported(path, layout, **how)  # type: ignore[arg-type]
    return study(found.tables, found.design, provenance={"against_name": found.against_name})


def numbers(f) -> tuple[float, float, float]:
    p, scale = f.comparisons[0].primary, 100 if f.measure.unit == "fraction" else 1
    return p.difference * scale, p.low * scale, p.high * scale


@needs_cases
@pytest.mark.parametrize(
    "name", ["semicolon_comma.csv", "percent_sign.csv", "gz.csv.gz", "transposed.csv", "array.json"]
)
def test_the_same_ten_pairs_in_every_dress_give_scipys_numbers(name: str):
    layout = Layout(baseline="base", arm="arm", metrics=("acc",)) if "json" in name else WIDE
    assert numbers(answered(FIELD / name, layout)) == pytest.approx(TEN, abs=6e-5)


@needs_cases
@pytest.mark.parametrize(
    ("name", "layout", "said", "options"),
    [
        ("curves_two_runs.csv", Layout(baseline="wise-sun-3 - val/acc",
         treatments=("calm-lake-4 - val/acc",)), "'Step', rows are steps of one run",
         [("at", "last")]),
        ("summary_rows.csv", WIDE, "rows 'mean', 'std' of column seed sum up the others",
         [("where", "seed!=mean"), ("where", "seed!=std")]),
        ("pooled_cells.csv", Layout(baseline="base", arm="model", metrics=("Acc",), pair="cell"),
         "what a row of 'cell' is, is not known", [("seed", "cell")]),
        ("two_datasets.csv", Layout(baseline="base", arm="model", metrics=("acc",)),
         "pair 42 occurs twice in base", [("dataset", "dataset")]),
        ("missing_dash.csv", WIDE, "10 base and 9 new values; pair 4 has no new",
         [("allow_missing", True)]),
    ],
)  # fmt: skip
def test_what_are_no_units_is_refused_by_name(name, layout, said, options):
    with pytest.raises(Refusal) as refusal:
        answered(FIELD / name, layout)
    assert said in refusal.value.what and list(refusal.value.options) == options


@needs_cases
def test_a_margin_in_another_unit_is_refused_whatever_a_column_is_called(tmp_path: Path):
    with pytest.raises(Refusal, match="larger than the range of all values") as refusal:
        answered(FIELD / "fraction_base_new.csv", margin=0.5)
    assert list(refusal.value.options) == [("unit", "fraction")]
    right = answered(FIELD / "fraction_base_new.csv", margin=0.5, unit="fraction")
    assert numbers(right) == pytest.approx((0.963, 0.817, 1.109), abs=6e-4)
    assert right.comparisons[0].verdict.rule == 3  # better, by more than the margin
    renamed = pd.read_csv(FIELD / "fraction_base_new.csv").rename(
        columns={"base": "acc_base", "new": "acc_new"}
    )
    renamed.to_csv(tmp_path / "r.csv", index=False)
    with pytest.raises(Refusal, match="larger than the range"):
        answered(
            tmp_path / "r.csv", Layout(baseline="acc_base", treatments=("acc_new",)), margin=0.5
        )


@needs_cases
def test_f1_is_not_found_inside_bf16():
    layout = Layout(baseline="bf16", treatments=("fp8",))
    f = answered(FIELD / "loss_bf16_fp8.csv", layout, lower_is_better=True, margin=0.01)
    p = f.comparisons[0].primary
    assert (f.comparisons[0].verdict.word, f.measure.unit) == ("equivalent", "score")
    assert (p.low90, p.high90) == pytest.approx((-0.0007, 0.0018), abs=6e-5)


@needs_cases
def test_the_name_of_an_error_says_which_way_is_better():
    f = answered(FIELD / "rmse.csv", Layout(baseline="lstm", arm="model", metrics=("rmse",)))
    assert not f.design.higher_is_better and f.comparisons[0].verdict.word == "better"


@needs_cases
def test_runs_without_a_value_are_failed_runs_at_their_worst():
    f = answered(FIELD / "diverged.csv", allow_missing=True)
    blocker = next(c for c in f.checks if c.id == "B6")
    assert blocker.state == "failed" and "(new: inconclusive)" in blocker.text
    assert f.comparisons[0].verdict.word == "none"


@needs_cases
def test_nothing_has_collapsed_where_nothing_did():
    small = Layout(baseline="base", arm="arm", metrics=("err",))
    for f in (answered(FIELD / "not_collapsed.csv"), answered(FIELD / "three_seeds.csv", small)):
        assert [arm.n_collapsed for arm in f.arms] == [0, 0]
        assert next(c for c in f.checks if c.id == "C7").state == "passed"


def test_a_condition_chooses_rows_and_a_wrong_one_is_refused(tmp_path: Path):
    rng = np.random.default_rng(0)
    rows = [
        {"seed": s, "data": d, "arm": a, "acc": 0.8 + 0.01 * rng.normal() + 0.02 * (a == "new")}
        for s in range(8) for d in "AB" for a in ("base", "new")
    ]  # fmt: skip
    path = tmp_path / "r.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    layout = Layout(baseline="base", arm="arm", metrics=("acc",))
    one, other = (answered(path, layout, where=[c]) for c in ("data=A", "data!=B"))
    assert numbers(one) == numbers(other) and one.comparisons[0].n_pairs == 8
    both = answered(path, layout, where=["data=A", "seed!=3"])
    assert both.comparisons[0].n_pairs == 7
    for condition, said in (("data", "chooses no rows"), ("x=1", "chooses no rows"),
                            ("data=C", 'has no row with "data=C"')):  # fmt: skip
        with pytest.raises(Refusal, match=said):
            answered(path, layout, where=[condition])


def test_a_direction_against_the_name_is_a_caution(tmp_path: Path):
    frame = pd.DataFrame({"seed": range(8), "base": np.linspace(0.8, 0.9, 8)})
    frame["new"] = frame.base + np.linspace(0.01, 0.02, 8)
    frame.to_csv(tmp_path / "r.csv", index=False)
    layout = Layout(baseline="base", treatments=("new",), metrics=("accuracy",))
    for lower, state in ((True, "failed"), (False, "passed")):
        f = answered(tmp_path / "r.csv", layout, lower_is_better=lower)
        assert next(c for c in f.checks if c.id == "C23").state == state


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("seed", "seeds"), ("params.seed", "seeds"), ("Run ID", "seeds"), ("seed_7", "seeds"),
        ("Step", "steps"), ("_step", "steps"), ("global_step", "steps"), ("fold", "folds"),
        ("split0", "folds"), ("doc_id", "examples"), ("task", "datasets"), ("cell", None),
        ("seedling", None), ("steps_per_s", None),
    ],
)  # fmt: skip
def test_a_column_is_known_by_its_whole_name(column: str, kind: str | None):
    assert kind_of(column) == kind


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        ("\ufeffseed;base;new\r\n0;0,81;0,83\r\n1;0,82;0,84\r\n", ".csv"),
        ("# exported\n# today\nseed, base , new\n0,0.81,0.83\n1,0.82,0.84\n", ".csv"),
        ("seed\tbase\tnew\n0\t0.81\t0.83\n1\t0.82\t0.84\n", ".txt"),
        ("seed,base,new\n0,81%,83%\n1,82 %,84%\n", ".csv"),
        (json.dumps({"seed": [0, 1], "base": [0.81, 0.82], "new": [0.83, 0.84]}), ".json"),
        ('{"seed": 0, "base": 0.81, "new": 0.83, "note": "a\u2028b"}\n'
         '{"seed": 1, "base": 0.82, "new": 0.84, "note": ""}\n', ".jsonl"),
        (json.dumps([{"seed": i, "base": 0.81 + i / 100, "new": 0.83 + i / 100} for i in (0, 1)]),
         ".json"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("how", ["plain", "utf-16", "gzip"])
def test_a_table_is_read_however_it_was_saved(content, suffix, how, tmp_path: Path):
    data = content.encode("utf-16" if how == "utf-16" else "utf-8")
    path = tmp_path / f"r{suffix}{'.gz' if how == 'gzip' else ''}"
    path.write_bytes(gzip.compress(data) if how == "gzip" else data)
    found = imported(path, WIDE)
    values = found.tables.scores.sort_values(["arm", "seed"])["value"].to_numpy()
    assert values == pytest.approx([0.81, 0.82, 0.83, 0.84])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x1f\x8bno gzip", "its gzip data are damaged"),
        (b'{"seed": [0, 1], "base": [1]}', "its columns differ in length"),
        (b"[1, 2]", "it is neither a list of rows nor an object of columns"),
        (b'[{"seed": 1, "base": 2, "base": 3}]', "a row has 'base' twice"),
        (b"\xff\xfe\x00", "cannot be read as JSON"),
    ],
)
def test_what_is_no_table_is_refused(content: bytes, said: str, tmp_path: Path):
    path = tmp_path / "r.json"
    path.write_bytes(content)
    with pytest.raises(Refusal) as refusal:
        imported(path, WIDE)
    assert said in refusal.value.what


def test_a_typographic_minus_is_a_minus(tmp_path: Path):
    path = tmp_path / "r.csv"
    path.write_text(
        "seed,base,new\n0,\N{MINUS SIGN}0.5,0.5\n1,\N{MINUS SIGN}0.25,\N{MINUS SIGN}1\n", "utf-8"
    )
    values = imported(path, WIDE).tables.scores.sort_values(["arm", "seed"])["value"]
    assert values.tolist() == [-0.5, -0.25, 0.5, -1.0]
