"""Scores from elsewhere: one answer in every layout; what cannot be paired is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.analysis.errors import Refusal
from bench.analysis.study.study import study
from bench.importers.files import BadScores
from bench.importers.tables import BadColumns, BadPairs, Layout, imported

LONG = Layout(baseline="base", arm="model", pair="seed", metrics=("acc",))
WIDE = Layout(baseline="base", treatments=("new",), pair="seed")


@pytest.fixture
def values() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    base = rng.normal(0.82, 0.01, 12)
    return pd.DataFrame(
        {"seed": range(12), "base": base, "new": base + rng.normal(0.004, 0.004, 12)}
    )


def as_long(wide: pd.DataFrame) -> pd.DataFrame:
    return wide.melt(id_vars="seed", var_name="model", value_name="acc")


def saved(frame: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True, double_precision=15)
    else:
        frame.to_csv(path, index=False)
    return path


def answer(path: Path, layout: Layout, **options: object):
    found = imported(path, layout, **options)  # type: ignore[arg-type]
    return study(found.tables, found.design), found


@pytest.mark.parametrize("name", ["r.csv", "r.parquet", "r.jsonl"])
def test_every_format_and_layout_gives_scipys_paired_t(
    name: str, values: pd.DataFrame, tmp_path: Path
):
    expected = stats.ttest_rel(values.new, values.base)
    limits = expected.confidence_interval()
    for layout, frame in ((WIDE, values), (LONG, as_long(values))):
        findings, _ = answer(saved(frame, tmp_path / name), layout)
        primary = findings.comparisons[0].primary
        assert primary.method == "paired_t"
        assert primary.p_value == pytest.approx(expected.pvalue, rel=1e-9)
        assert (primary.low, primary.high) == pytest.approx((limits.low, limits.high), rel=1e-9)


def test_the_order_of_rows_does_not_matter(values: pd.DataFrame, tmp_path: Path):
    long = as_long(values)
    first, _ = answer(saved(long, tmp_path / "a.csv"), LONG)
    second, _ = answer(saved(long.sample(frac=1, random_state=3), tmp_path / "b.csv"), LONG)
    one, two = (f.comparisons[0].primary for f in (first, second))
    assert two.p_value == pytest.approx(one.p_value, rel=1e-12)


def test_percentages_are_read_as_fractions_of_the_same_size(values: pd.DataFrame, tmp_path: Path):
    long = as_long(values)
    fractions, _ = answer(saved(long, tmp_path / "a.csv"), LONG, margin=0.5)
    long["acc"] *= 100
    percent, _ = answer(saved(long, tmp_path / "b.csv"), LONG, margin=0.5)
    assert percent.measure.unit == "fraction"
    assert percent.design.margin == fractions.design.margin == 0.005
    one, two = (f.comparisons[0].primary for f in (fractions, percent))
    assert two.difference == pytest.approx(one.difference, rel=1e-9)


def test_a_loss_that_falls_is_better(values: pd.DataFrame, tmp_path: Path):
    values["new"] = values["base"] - 0.05 + 0.001 * np.arange(12)
    path = saved(values, tmp_path / "loss.csv")
    found, _ = answer(path, WIDE, lower_is_better=True, unit="plain")
    assert found.comparisons[0].verdict.word == "better"
    assert answer(path, WIDE, unit="plain")[0].comparisons[0].verdict.word == "worse"


def test_several_treatments_share_the_error_rate(values: pd.DataFrame, tmp_path: Path):
    values["other"] = values["base"] + 0.001 * np.sin(np.arange(12))
    layout = Layout(baseline="base", treatments=("new", "other"), pair="seed")
    findings, _ = answer(saved(values, tmp_path / "r.csv"), layout)
    assert [c.treatment for c in findings.comparisons] == ["new", "other"]
    assert {c.primary.level for c in findings.comparisons} == {0.975}


def test_further_metrics_become_secondary_outcomes(values: pd.DataFrame, tmp_path: Path):
    long = as_long(values)
    rng = np.random.default_rng(5)
    long["arm"], long["value"] = (
        rng.normal(size=24),
        rng.normal(size=24),
    )  # names of our own columns
    layout = Layout(baseline="base", arm="model", pair="seed", metrics=("acc", "arm", "value"))
    findings, _ = answer(saved(long, tmp_path / "r.csv"), layout)
    assert {s.metric for s in findings.comparisons[0].secondary} == {"arm", "value"}


def test_rows_are_paired_by_their_place_only_if_that_is_asked_for(
    values: pd.DataFrame, tmp_path: Path
):
    path = saved(values[["base", "new"]], tmp_path / "r.csv")
    for pair, method in ((None, "welch"), ("none", "welch"), ("row", "paired_t")):
        findings, _ = answer(path, Layout(baseline="base", treatments=("new",), pair=pair))
        assert findings.comparisons[0].primary.method == method
        assert findings.comparisons[0].n_pairs == 12


def test_a_missing_value_is_refused_and_named(values: pd.DataFrame, tmp_path: Path):
    values.loc[5, "new"] = np.nan
    path = saved(values, tmp_path / "r.csv")
    with pytest.raises(BadPairs) as refusal:
        imported(path, WIDE)
    assert "12 base and 11 new values; pair 5 has no new" in refusal.value.what
    assert "Dropping a pair can bias the result" in refusal.value.facts[0]
    assert ("allow_missing", True) in refusal.value.options
    findings, found = answer(path, WIDE, allow_missing=True)
    assert found.dropped == ("5",)
    assert findings.comparisons[0].n_pairs == 11


def test_a_pair_that_occurs_twice_is_refused(values: pd.DataFrame, tmp_path: Path):
    twice = pd.concat([values, values.iloc[[3]]])
    with pytest.raises(BadPairs, match="pair 3 occurs twice in base"):
        imported(saved(twice, tmp_path / "r.csv"), WIDE)


@pytest.mark.parametrize(
    ("cell", "words"),
    [("oops", "is not a number: 'oops'"), ("inf", "is infinite: 'inf'")],
)
def test_a_value_that_is_no_number_is_refused(
    cell: str, words: str, values: pd.DataFrame, tmp_path: Path
):
    values = values.astype({"new": object})
    values.loc[2, "new"] = cell
    with pytest.raises(BadScores) as refusal:
        imported(saved(values, tmp_path / "r.csv"), WIDE)
    assert f"score of new, pair 2, {words}" in refusal.value.what
    assert ("allow_missing", True) in refusal.value.options


def test_fractions_beside_percentages_are_refused(values: pd.DataFrame, tmp_path: Path):
    values["new"] *= 100
    with pytest.raises(BadScores, match=r"of base lies in \(0, 1\], of new in \(1, 100\]"):
        imported(saved(values, tmp_path / "r.csv"), WIDE)


def test_one_arm_only_is_refused(values: pd.DataFrame, tmp_path: Path):
    only = as_long(values).query("model == 'base'")
    with pytest.raises(BadScores, match="has one arm only, 'base'"):
        imported(saved(only, tmp_path / "r.csv"), LONG)


def test_an_unknown_column_or_arm_names_the_nearest(values: pd.DataFrame, tmp_path: Path):
    path = saved(as_long(values), tmp_path / "r.csv")
    with pytest.raises(BadColumns) as refusal:
        imported(path, Layout(baseline="base", arm="modle", pair="seed", metrics=("acc",)))
    assert refusal.value.facts[0] == "Closest: model."
    with pytest.raises(BadColumns) as refusal:
        imported(path, Layout(baseline="bse", arm="model", pair="seed", metrics=("acc",)))
    assert refusal.value.options == (("baseline", "base"),)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.csv", b"", "is empty"),
        ("header.csv", b"seed,base,new\n", "has no rows"),
        ("picture.csv", b"\x89PNG\0\0\0binary", "it holds binary data"),
        ("ragged.csv", b"a,b\n1,2,3,4\n1\n", "cannot be read as CSV"),
        ("broken.parquet", b"PAR1 and nothing more", "cannot be read as Parquet"),
        ("broken.jsonl", b"{not json}\n", "cannot be read as JSON lines"),
        ("twice.jsonl", b'{"base": [1, 2], "new": {"a": 1}}\n', "is not a number"),
    ],
)
def test_a_file_of_another_kind_is_refused(name: str, content: bytes, words: str, tmp_path: Path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Refusal, match=words):
        imported(tmp_path / name, Layout(baseline="base", treatments=("new",), pair="row"))


def test_a_huge_file_is_refused_without_being_read(tmp_path: Path):
    path = tmp_path / "huge.csv"
    with path.open("wb") as handle:
        handle.truncate(1024**3)  # sparse: it takes no space
    with pytest.raises(BadScores, match=r"has 1\.0 GiB; a table of scores is far smaller"):
        imported(path, WIDE)


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(BadScores, match="there is no file"):
        imported(tmp_path / "none.csv", WIDE)


def test_pairs_that_were_left_out_are_a_caution(values: pd.DataFrame, tmp_path: Path):
    values.loc[[2, 7], "new"] = np.nan
    found = imported(saved(values, tmp_path / "r.csv"), WIDE, allow_missing=True)
    facts = {"dropped_pairs": list(found.dropped)}
    findings = study(found.tables, found.design, provenance=facts)
    check = next(c for c in findings.checks if c.id == "C16")
    assert (check.level, check.state) == ("caution", "failed")
    assert (
        check.text == "2 incomplete pairs (2, 7): a value that is missing counts as a failed run."
    )
    blocker = next(c for c in findings.checks if c.id == "B6")
    assert blocker.text.startswith("2 runs failed; at their worst value the word")
