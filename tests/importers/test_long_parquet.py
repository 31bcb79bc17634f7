"""A file too large for a table: the same findings as by the usual path, and clear refusals."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.analysis.errors import Refusal
from bench.analysis.report.document import document
from bench.analysis.study.study import study
from bench.importers import long_parquet, parquet_runs
from bench.importers.layout import Layout
from bench.importers.tables import imported

LAYOUT = Layout(baseline="base", arm="model", metrics=("acc",), seed="seed", example="item")


def frame(draw, *, seeds: int = 7, examples: int = 30) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table = pd.MultiIndex.from_product(
        [["base", "new"], range(seeds), range(examples)], names=["model", "seed", "item"]
    ).to_frame(index=False)
    return table.assign(acc=draw(rng, len(table)))


DRAWS = {
    "right and wrong": lambda rng, n: rng.integers(0, 2, size=n).astype(np.int8),
    "whole, as floats": lambda rng, n: rng.integers(0, 2, size=n).astype(float),
    "true and false": lambda rng, n: rng.random(n) < 0.7,
    "single precision": lambda rng, n: rng.normal(size=n).astype(np.float32),
    "double precision": lambda rng, n: rng.normal(size=n),
    "percentages": lambda rng, n: 100.0 * rng.integers(0, 2, size=n),
}


@pytest.fixture
def streamed(monkeypatch: pytest.MonkeyPatch):
    """Read by the run from the first row on, in batches that cut runs."""
    monkeypatch.setattr(long_parquet, "FEWEST_ROWS", 0)
    monkeypatch.setattr(parquet_runs, "BATCH", 37)


def saved(table: pd.DataFrame, path: Path) -> Path:
    table.to_parquet(path, row_group_size=100)
    return path


def said(path: Path, layout: Layout = LAYOUT, **how):
    found = imported(path, layout, **how)
    return document(study(found.tables, found.design), version="1"), found


def alike(one: object, other: object) -> None:
    """Compare every value of two documents but their digests, numbers up to rounding."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one.keys() - {"summary", "digest"}:
            alike(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            alike(a, b)
    elif isinstance(one, float):
        assert other == pytest.approx(one, rel=1e-9, abs=1e-15)
    else:
        assert one == other


def named(table: pd.DataFrame, how: str) -> pd.DataFrame:
    """Return the table with its seeds and items named in another way."""
    match how:
        case "text":
            return table.assign(item=[f"question {i}" for i in table["item"]])
        case "categories":
            return table.astype({"model": "category", "item": "category"})
        case _:
            return table.astype({"seed": float, "item": float})


@pytest.mark.parametrize("how", ["text", "categories", "floats"])
def test_names_may_be_text_or_numbers(how, tmp_path, request):
    path = saved(named(frame(DRAWS["single precision"]), how), tmp_path / "r.parquet")
    usual, was = said(path)
    request.getfixturevalue("streamed")
    now, found = said(path)
    alike(usual, now)
    assert was.design == found.design


@pytest.mark.parametrize("kind", DRAWS)
def test_findings_are_those_of_the_usual_path(kind, tmp_path, request):
    path = saved(frame(DRAWS[kind]), tmp_path / "r.parquet")
    usual, was = said(path, margin=0.5)
    request.getfixturevalue("streamed")
    assert long_parquet.is_long(path, LAYOUT)
    now, found = said(path, margin=0.5)
    alike(usual, now)
    assert (was.sha256, was.said, was.design) == (found.sha256, found.said, found.design)


def test_right_answers_are_kept_as_bytes(tmp_path, streamed):
    path = saved(frame(DRAWS["whole, as floats"]), tmp_path / "r.parquet")
    found = imported(path, LAYOUT)
    assert {of["acc"].dtype for of in found.tables.items.values()} == {np.dtype(np.int8)}


def test_examples_in_another_order_and_arms_that_are_not_asked_for(tmp_path, request):
    table = frame(DRAWS["double precision"])
    mixed = table.groupby(["model", "seed"]).sample(frac=1, random_state=1)
    other = table[table.model == "new"].assign(model="third")
    path = saved(pd.concat([mixed, other], ignore_index=True), tmp_path / "r.parquet")
    layout = Layout(**{**vars(LAYOUT), "treatments": ("new",)})
    usual, _ = said(path, layout)
    request.getfixturevalue("streamed")
    alike(usual, said(path, layout)[0])


@pytest.mark.parametrize("gone", [[("new", 3)], [("new", 3, 5), ("base", 1, 0)]])
def test_what_is_missing_is_refused_or_counted_alike(gone, tmp_path, request):
    table = frame(DRAWS["double precision"])
    index = pd.MultiIndex.from_frame(table[["model", "seed", "item"]])
    if len(gone[0]) == 2:
        table = table[~index.droplevel(2).isin(gone)]
    else:
        table.loc[index.isin(gone), "acc"] = np.nan
    path = saved(table, tmp_path / "r.parquet")
    usual, was = said(path, allow_missing=True)
    with pytest.raises(Refusal) as here:
        imported(path, LAYOUT)
    request.getfixturevalue("streamed")
    now, found = said(path, allow_missing=True)
    alike(usual, now)
    assert (was.dropped, was.filled) == (found.dropped, found.filled)
    with pytest.raises(Refusal) as there:
        imported(path, LAYOUT)
    assert here.value.what == there.value.what


def spoiled(how: str) -> pd.DataFrame:
    table = frame(DRAWS["double precision"])
    match how:
        case "scattered":
            return table.sort_values("item", kind="stable")
        case "twice":
            return pd.concat([table[:1], table]).sort_values(["model", "seed"], kind="stable")
        case "text":
            return table.assign(acc=table.acc.astype(str))
        case "infinite":
            return table.assign(acc=np.where(table.index == 40, np.inf, table.acc))
        case "nobody":
            return table.assign(seed=table.seed.astype("Int64").mask(table.index == 40))
        case "nan seed":
            return table.assign(seed=table.seed.astype(float).mask(table.index == 40))
        case "long name":
            return table.assign(item="x" * 1001)
        case "lists":
            return table.assign(item=[[1]] * len(table))
        case "unknown":
            return table.assign(item=np.where(table.index == 40, 99, table["item"]))
        case "one arm":
            return table[table.model == "base"]
        case _:
            return table


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ("scattered", "the rows of seed 0, base, do not stand together"),
        ("twice", "pair 0, 0 occurs twice in base"),
        ("text", "acc holds (large_)?string, no numbers"),
        ("nan seed", "row 41 has nothing in column seed"),
        ("long name", "more than 1,000 bytes in a name of column item"),
        ("lists", "column item holds list<.*>, no names"),
        ("many runs", "has more than 3 runs"),
        ("infinite", "acc of base, pair 1, is infinite"),
        ("nobody", "row 41 has nothing in column seed"),
        ("unknown", "pair 0, 99 has no base"),
        ("one arm", "has one arm only, 'base'"),
    ],
)
def test_what_cannot_be_read_by_the_run_is_refused(how, match, tmp_path, streamed, monkeypatch):
    if how == "many runs":
        monkeypatch.setattr(parquet_runs, "MOST_RUNS", 3)
    path = saved(spoiled(how), tmp_path / "r.parquet")
    with pytest.raises(Refusal, match=match):
        imported(path, LAYOUT)


def test_a_damaged_file_is_refused(tmp_path, streamed):
    path = saved(frame(DRAWS["double precision"]), tmp_path / "r.parquet")
    data = bytearray(path.read_bytes())
    data[60:400] = b"\xff" * 340
    path.write_bytes(data)
    with pytest.raises(Refusal, match="cannot be read as Parquet"):
        imported(path, LAYOUT)


def test_other_layouts_are_read_as_ever(tmp_path, streamed):
    path = saved(frame(DRAWS["double precision"]), tmp_path / "r.parquet")
    assert not long_parquet.is_long(path, Layout(**{**vars(LAYOUT), "repeat": "item"}))
    assert not long_parquet.is_long(path, Layout(baseline="acc", treatments=("item",)))
    assert not long_parquet.is_long(tmp_path / "none.parquet", LAYOUT)
