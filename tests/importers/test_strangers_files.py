"""Files as strangers bring them: answers in words, names that look missing, idle options."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def compare(tmp_path: Path, bench: Callable[..., Any], monkeypatch: Any) -> Callable[..., Any]:
    """Return what writes a table and compares a with b, or what is typed."""
    monkeypatch.chdir(tmp_path)

    def run(text: str, *words: str, arms: tuple[str, str] = ("a", "b")) -> Any:
        (tmp_path / "t.csv").write_text(text)
        typed = ("--baseline", arms[0], "--treatment", arms[1]) if arms else ()
        return bench("compare", "t.csv", *typed, *words, "--json")

    return run


def wide(n: int = 10) -> str:
    rng = random.Random(1)
    rows = [f"{s},{0.9 + rng.gauss(0, 0.01):.4f},{0.91 + rng.gauss(0, 0.01):.4f}" for s in range(n)]
    return "\n".join(["seed,a,b", *rows])


def long(arms: tuple[str, str], n: int = 10) -> str:
    rng = random.Random(2)
    rows = [f"{s},{arm},{0.9 + rng.gauss(0, 0.01):.4f}" for s in range(n) for arm in arms]
    return "\n".join(["seed,arm,acc", *rows])


@pytest.mark.parametrize("words", [("C", "I"), ("yes", "no"), ("True", "False"), ("1", "0")])
@pytest.mark.sample(4)
def test_answers_of_one_pair_of_words_are_ones_and_zeros(compare: Any, words: tuple[str, str]):
    rng = random.Random(3)
    rows = [f"{i},{words[rng.random() < 0.5]},{words[rng.random() < 0.2]}" for i in range(60)]
    said = compare("\n".join(["example,a,b", *rows]))
    assert said.status == 0, said.err
    right = [row.split(",")[1:] for row in rows]
    gain = sum((b == words[0]) - (a == words[0]) for a, b in right) / 60
    assert said.json["comparisons"][0]["primary"]["difference"] == pytest.approx(gain)


def test_words_of_no_pair_are_refused(compare: Any):
    said = compare("example,a,b\n0,good,bad\n1,bad,good\n2,good,good\n")
    assert said.status == 5
    assert "is not a number: 'good'" in said.err


@pytest.mark.parametrize("name", ["None", "NA", "null", "nan"])
@pytest.mark.sample(4)
def test_an_arm_may_have_a_name_that_looks_missing(compare: Any, name: str):
    words = ("--arm", "arm", "--metric", "acc")
    said = compare(long((name, "dropout")), *words, arms=(name, "dropout"))
    assert said.status == 0, said.err
    assert said.json["comparisons"][0]["n_pairs"] == 10


def test_a_large_offset_hides_no_difference(compare: Any):
    rows = [f"{s},{1e10 + s + 0.001},{1e10 + s + 0.002 + s * 1e-4}" for s in range(10)]
    said = compare("\n".join(["seed,a,b", *rows]))
    assert said.status == 0, said.err
    assert said.json["comparisons"][0]["verdict"]["word"] == "better"


def test_equal_values_up_to_rounding_are_still_ties(compare: Any):
    rows = [f"{s},{0.1 + s / 10},{s / 10 + 0.6}" for s in range(8)]
    said = compare("\n".join(["seed,a,b", *rows]))
    assert said.json["comparisons"][0]["verdict"]["word"] == "none"


def test_a_repeat_that_one_unit_lacks_is_named(compare: Any):
    rng = random.Random(4)
    rows = [
        f"{s},{arm},{k},{0.9 + rng.gauss(0, 0.01):.4f}"
        for s in range(8)
        for arm in "ab"
        for k in range(2 if (s, arm) == (2, "b") else 3)
    ]
    words = ("--arm", "arm", "--metric", "acc", "--repeat", "repeat")
    said = compare("\n".join(["seed,arm,repeat,acc", *rows]), *words)
    notes = " ".join(check["text"] for check in said.json["checks"])
    assert "Not all have as many: b, 2: 2 of 3" in notes


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--trained", "once"), "no column names data sets"),
        (("--test-share", "0.1"), "no column numbers them"),
    ],
)
def test_options_that_would_change_nothing_are_refused(compare: Any, words: Any, told: str):
    said = compare(wide(), *words)
    assert said.status == 2
    assert told in said.err


def test_a_column_of_seeds_is_no_treatment(compare: Any):
    said = compare(wide(), arms=("a", "seed"))
    assert said.status == 2
    assert "column 'seed' numbers seeds, so it holds no scores" in said.err


def test_arms_that_stand_in_a_column_are_found_with_a_fix_that_works(compare: Any, bench: Any):
    said = compare(long(("a", "b")))
    assert said.status == 2
    fix = said.err.partition("fix: bench ")[2].split()
    assert "--arm arm --metric acc" in said.err
    assert bench(*fix).status == 0


def test_arms_as_rows_over_columns_without_a_name_are_not_guessed_at(compare: Any):
    said = compare("arm,0,1,2,3\na,1,2,3,4\nb,2,3,4,6\n")
    assert said.status == 2
    assert "each arm is one row" in said.err
    assert "--seed columns" in said.err
    assert compare("arm,0,1,2,3\na,1,2,3,4\nb,2,3,4,6\n", "--seed", "columns").status == 0
    assert compare("arm,seed 0,seed 1,seed 2\na,1,2,3\nb,2,3,5\n").status == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--cluster", "seed"), "numbers seeds, so it is no cluster"),
        (("--repeat", "seed"), "no column says in which"),
        (("--scope", "new-datasets"), "nothing can be said of new ones"),
    ],
)
def test_units_at_odds_with_the_columns_are_refused_with_a_fix_that_works(
    compare: Any, bench: Any, words: Any, told: str
):
    said = compare(wide(), *words)
    assert said.status == 2
    assert told in said.err
    assert bench(*said.err.rpartition("bench ")[2].split()).status == 0


def test_the_fix_of_an_unknown_treatment_names_a_column_of_scores(compare: Any, bench: Any):
    said = compare(wide(), arms=("a", "c"))
    assert "--treatment b" in said.err
    assert bench(*said.err.rpartition("bench ")[2].split()).status == 0


def test_of_arms_that_are_numbers_the_nearest_number_is_meant(compare: Any):
    words = ("--arm", "arm", "--metric", "acc")
    said = compare(long(("0.00001", "0.1")), *words, arms=("0.000010", "0.1"))
    assert "--baseline 1e-05" in said.err


def test_one_row_a_data_set_says_nothing_of_these(compare: Any, bench: Any):
    said = compare(wide().replace("seed", "dataset"), "--scope", "these")
    assert "says nothing of new runs on these" in said.err
    assert bench(*said.err.rpartition("bench ")[2].split()).status == 0


def test_an_unknown_column_beside_a_target_is_refused(compare: Any):
    words = ("--arm", "nope", "--metric", "acc", "--against", "0.9")
    said = compare(long(("a", "b")), *words, arms=())
    assert 'no column "nope"' in said.err
