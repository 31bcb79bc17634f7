"""Names: whatever was typed becomes a file name that stays in its folder, on every system."""

import re
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from bench.store.names import file_name, storable

HOSTILE = [
    "../../etc/passwd", "/etc/passwd", "..", ".", "", " ", "a/b", "a\\b", "a b", "a-b", "A-B",
    "con", "nul\x00", "ü", "ö", "x" * 300, "x" * 301, "-rf", "~", "$(rm -rf /)", "<script>",
    "CON", "con.txt", "COM1", "LPT9.tar.gz", "aux.",
    "a\nb", "a\tb", "😀", "😁", "a-b-c8687a08", ".hidden", "a.", "a..", "%2e%2e",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_name_stays_in_its_folder(name: str, tmp_path: Path):
    safe = file_name(name)
    assert 0 < len(safe) <= 80 and safe.isascii() and not safe.startswith((".", "-"))
    assert (tmp_path / safe).parent == tmp_path
    (tmp_path / safe).mkdir()


@given(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=90)))
def test_a_file_name_has_only_safe_signs(name: str):
    assert set(file_name(name)) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
    )


@given(st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=8)), max_size=40))
def test_different_names_stay_different(names: list[str]):
    assert len({file_name(name) for name in names}) == len(set(names))


@given(st.text(max_size=30))
def test_nobody_can_choose_the_name_that_another_name_is_given(name: str):
    given_name = file_name(name)
    assert given_name == name or file_name(given_name) != given_name


def test_an_ordinary_name_is_left_alone():
    assert file_name("label-smoothing_2.0") == "label-smoothing_2.0"


@pytest.mark.parametrize("name", ["CON", "con", "nul", "COM1", "com1.txt", "LPT9.tar.gz", "aux."])
def test_a_device_of_windows_is_never_a_file_name(name: str):
    stem = file_name(name).partition(".")[0].lower()
    assert not re.fullmatch(r"con|prn|aux|nul|com\d|lpt\d", stem)


@given(st.lists(st.text("aAbB", max_size=4), unique=True, max_size=20))
def test_names_that_differ_in_capitals_alone_get_two_files_on_any_disk(names: list[str]):
    assert len({file_name(name).lower() for name in names}) == len(names)


@given(st.text(st.characters(), max_size=20))
def test_every_text_can_be_stored(text: str):
    stored = storable(text)
    assert stored.encode("utf-8").decode("utf-8") == stored and "\0" not in stored
    assert storable(stored) == stored
