"""Tables: any file given to `bench compare` is refused, or compared without a wrong number."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings, strategies as st

SOME = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
cell = st.one_of(
    st.floats(allow_nan=True).map(repr),
    st.integers(-(10**25), 10**25).map(str),
    st.sampled_from(["", "nan", "NA", "inf", "-inf", "1e999", "0x10", "1_000", "1,5", "٣", "True",
                     '"', "=1+1", "\t", "null", "0.5", "0.6", "0.7", "None", "1 "]),
    st.text(max_size=4),
)  # fmt: skip
table = st.lists(st.lists(cell, min_size=2, max_size=4), max_size=8)


@SOME
@given(st.sampled_from(["csv", "tsv", "jsonl", "parquet", "txt"]), st.binary(max_size=200))
def test_bytes_that_are_no_table_are_refused(
    tmp_path: Path, answer: Any, tried: Any, kind: str, content: bytes
):
    path = tmp_path / f"r.{kind}"
    path.write_bytes(content)
    with tried("files of any bytes"):
        answer(["compare", str(path), "--baseline", "a", "--treatment", "b"])


@SOME
@given(st.sampled_from(["csv", "tsv"]), table, st.booleans())
def test_any_cells_are_refused_or_compared(
    tmp_path: Path, answer: Any, tried: Any, kind: str, rows: list[list[str]], missing: bool
):
    path = tmp_path / f"r.{kind}"
    separator = "," if kind == "csv" else "\t"
    lines = [separator.join(row) for row in [["a", "b", "seed"], *rows]]
    path.write_text("\n".join(lines), "utf-8", errors="replace")
    words = ["compare", str(path), "--baseline", "a", "--treatment", "b", "--json"]
    with tried("tables of any cells"):
        answer([*words, *(["--allow-missing"] if missing else [])])


# Nearer to zero a score is refused: see test_no_traceback.py.
number = st.floats(-1e6, 1e6).map(lambda x: x if abs(x) >= 1e-60 else 0.0)
values = st.lists(st.tuples(number, number), min_size=2, max_size=12)


@SOME
@given(values, st.sampled_from(["csv", "jsonl", "parquet"]), st.booleans(), st.randoms())
def test_the_difference_is_that_of_the_table_in_whatever_order_and_shape(
    tmp_path: Path, answer: Any, tried: Any, pairs: list[tuple[float, float]], kind: str,
    long: bool, chance: Any,
):  # fmt: skip
    rows = [{"seed": i, "a": a, "b": b} for i, (a, b) in enumerate(pairs)]
    words = ["--baseline", "a", "--treatment", "b"]
    if long:
        rows = [{"seed": r["seed"], "arm": arm, "m": r[arm]} for r in rows for arm in ("a", "b")]
        words = ["--baseline", "a", "--arm", "arm", "--metric", "m"]
    chance.shuffle(rows)
    path, frame = tmp_path / f"r.{kind}", pd.DataFrame(rows)
    if kind == "csv":
        frame.to_csv(path, index=False)
    elif kind == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows))
    else:
        frame.to_parquet(path)
    with tried("tables whose difference is known"):
        said = answer(["compare", str(path), *words, "--pair", "seed", "--json"])
    assume(said.status == 0)  # equal columns, say, are refused
    (found,) = json.loads(said.out)["comparisons"]
    a, b = np.array(pairs).T
    assert found["n_pairs"] == len(pairs)
    scale = max(np.abs(pairs).max(), 1e-300)
    assert found["primary"]["difference"] == pytest.approx(float((b - a).mean()), abs=1e-9 * scale)
    low, high = found["primary"]["low"], found["primary"]["high"]
    assert low is None or low <= found["primary"]["difference"] <= high
