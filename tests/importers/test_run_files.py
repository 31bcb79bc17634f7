"""One file a run: columns from paths, files of steps, and patterns that fit in two ways."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.analysis.errors import Refusal
from bench.importers import run_files, sources
from bench.importers.asked import Asked, At, BadRequest
from bench.importers.name_pattern import NamePattern


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Return a folder with runs/ARM-sSEED/results.csv, four steps each."""
    for arm in ("base", "new"):
        for seed in range(7):
            place = tmp_path / "runs" / f"{arm}-s{seed}"
            place.mkdir(parents=True)
            acc = [0.5, 0.6, 0.7 + seed / 100 + 0.01 * (arm == "new") * (1 + seed / 7), 0.65]
            pd.DataFrame({"step": range(4), "acc": acc}).to_csv(place / "results.csv", index=False)
    return tmp_path / "runs"


def test_arm_and_seed_from_the_path_give_scipys_numbers(runs: Path, bench: Any):
    said = bench(
        "compare", f"{runs}/*/results.csv", "--name", "runs/{arm}-s{seed}/results.csv",
        "--at", "max:acc", "--arm", "arm", "--metric", "acc", "--baseline", "base", "--json",
    )  # fmt: skip
    assert said.status == 0, said.err
    (found,) = said.json["comparisons"]
    gains = [0.01 * (1 + s / 7) for s in range(7)]
    assert found["n_pairs"] == 7
    assert found["primary"]["p_value"] == pytest.approx(stats.ttest_1samp(gains, 0).pvalue)
    assert "the step where acc is highest (step 2)" in said.out


def test_a_folder_is_read_as_the_glob_of_its_files(runs: Path):
    asked = Asked(at=At(), name="{arm}-s{seed}/results.csv")
    (runs / ".hidden").mkdir()
    (runs / ".hidden" / "x.csv").write_text("a\n1\n")
    (runs / "notes.md").write_text("no table")
    one, other = (sources.read(f"{runs}{more}", asked) for more in ("", "/**/*.csv"))
    assert len(one) == 14 and set(one["acc"]) == {0.65}
    assert one.drop(columns="file").equals(other.drop(columns="file"))
    assert sources.read(str(runs), Asked(at=At()))["file"].nunique() == 14


def test_files_of_steps_are_refused_with_the_option_that_chooses(runs: Path):
    with pytest.raises(BadRequest, match="has 4 rows, and a column of steps") as refusal:
        sources.read(str(runs), Asked())
    assert list(refusal.value.options) == [("at", "last")]


def test_one_file_an_arm_keeps_all_its_seeds(tmp_path: Path):
    for arm in ("base", "new"):
        frame = pd.DataFrame({"seed": range(6), "epochs": 20, "acc": np.arange(6) / 10})
        frame.to_csv(tmp_path / f"{arm}.csv", index=False)
    found = sources.read(str(tmp_path), Asked(name="{arm}.csv"))
    assert found.groupby("arm")["seed"].nunique().to_dict() == {"base": 6, "new": 6}


@pytest.mark.parametrize(
    ("pattern", "name", "fields"),
    [
        ("{arm}-s{seed}", "a/b/base-s3", {"arm": "base", "seed": "3"}),
        ("runs/{arm}/{seed}.csv", "/x/runs/new/11.csv", {"arm": "new", "seed": "11"}),
        ("./{lr}_{lr}.csv", "0.1_0.1.csv", {"lr": "0.1"}),
        ("{a}(1)+.{b}", "x(1)+.y", {"a": "x", "b": "y"}),
    ],
)
def test_a_pattern_reads_the_end_of_a_name(pattern: str, name: str, fields: dict[str, str]):
    assert NamePattern(pattern).fields(name) == fields


@pytest.mark.parametrize(
    ("pattern", "name", "said"),
    [
        ("{arm}-s{seed}", "base_3", r'"\{arm\}-s\{seed\}" does not fit: base_3'),
        ("{arm}-{seed}", "calm-lake-4", "fits in two ways: calm-lake-4"),
        ("{lr}_{lr}", "0.1_0.2", "does not fit"),
        ("{arm}{seed}", "base3", "is no pattern"),
        ("results.csv", "results.csv", "is no pattern"),
        ("{0}", "x", "is no pattern"),
    ],
)
def test_a_pattern_that_is_none_or_does_not_fit_once_is_refused(pattern, name, said):
    with pytest.raises(BadRequest, match=said) as refusal:
        NamePattern(pattern).fields(name)
    if "two ways" in said:
        assert "arm 'calm', seed 'lake-4' or arm 'calm-lake', seed '4'?" in refusal.value.facts


def test_a_run_that_does_not_fit_can_be_left_out_as_the_fix_says(runs: Path):
    odd = runs / "notes" / "results.csv"
    odd.parent.mkdir()
    odd.write_text("step,acc\n0,0.5\n")
    asked = Asked(at=At(), name="{arm}-s{seed}/results.csv")
    with pytest.raises(BadRequest, match="does not fit: .*notes/results.csv") as refusal:
        sources.read(str(runs), asked)
    ((option, condition),) = refusal.value.options
    assert option == "where"
    assert len(sources.read(str(runs), replace(asked, where=(condition,)))) == 14


def test_a_name_that_contradicts_the_file_is_refused(tmp_path: Path):
    (tmp_path / "base-s3.csv").write_text("seed,acc\n4,0.5\n")
    with pytest.raises(BadRequest, match="column seed and the names say different things"):
        sources.read(f"{tmp_path}/*.csv", Asked(name="{arm}-s{seed}.csv"))
    (tmp_path / "base-s3.csv").write_text("seed,acc\n3,0.5\n")
    assert sources.read(f"{tmp_path}/*.csv", Asked(name="{arm}-s{seed}.csv"))["arm"][0] == "base"


def test_a_glob_without_files_and_one_of_too_many_are_refused(
    runs: Path, monkeypatch: pytest.MonkeyPatch
):
    for typed, said in ((f"{runs}/*.csv", "no file fits"), (str(runs.parent / "x*"), "no file")):
        with pytest.raises(Refusal, match=said):
            sources.read(typed, Asked())
    monkeypatch.setattr(run_files, "MOST_FILES", 5)
    with pytest.raises(Refusal, match="14 files; at most 5"):
        sources.read(str(runs), Asked())


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path):
    (tmp_path / "r[1].csv").write_text("a,b\n1,2\n")
    assert len(sources.read(str(tmp_path / "r[1].csv"), Asked())) == 1
