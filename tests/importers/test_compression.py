"""Files in every dress: compressed, as a spreadsheet, as objects; bombs and damage are refused."""

import gzip
import json
import lzma
import sys
import zipfile
import zlib
from pathlib import Path

import openpyxl
import pandas as pd
import pyarrow as pa
import pytest

from bench.importers import files
from bench.importers.files import BadScores, read

TEXT = "seed,a,b\n0,0.5,0.6\n1,0.25,0.75\n"


def zstd(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


PACKED = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstd}


@pytest.mark.sample(3)
@pytest.mark.parametrize("suffix", PACKED)
def test_a_compressed_table_is_the_table(suffix: str, tmp_path: Path):
    for name in (f"r.csv{suffix}", f"r.CSV{suffix.upper()}", "r"):
        (tmp_path / name).write_bytes(PACKED[suffix](TEXT.encode()))
        assert read(tmp_path / name)["b"].tolist() == [0.6, 0.75]


@pytest.mark.sample(3)
@pytest.mark.parametrize("suffix", PACKED)
def test_a_bomb_and_damage_are_refused(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / f"r.csv{suffix}"
    path.write_bytes(PACKED[suffix](TEXT.encode() * 100)[:-6])
    with pytest.raises(BadScores, match=r"its \w+ data are damaged"):
        read(path)
    monkeypatch.setattr(files, "MOST_DECODED", 2**20)
    path.write_bytes(PACKED[suffix](b"0,1,2\n" * 500_000))
    assert path.stat().st_size < 50_000
    with pytest.raises(BadScores, match="has more than 1 MiB unpacked"):
        read(path)


def test_several_streams_of_xz_are_one_file_and_a_huge_dictionary_is_refused(tmp_path: Path):
    path = tmp_path / "r.csv.xz"
    path.write_bytes(lzma.compress(TEXT[:20].encode()) + lzma.compress(TEXT[20:].encode()))
    assert len(read(path)) == 2
    huge = [{"id": lzma.FILTER_LZMA2, "dict_size": 2**30}]
    small = [{"id": lzma.FILTER_LZMA2, "dict_size": 2**16}]
    data = bytearray(lzma.compress(TEXT.encode(), filters=small))
    largest = lzma._encode_filter_properties(huge[0])[0]  # type: ignore[attr-defined]
    place = data.index(lzma._encode_filter_properties(small[0])[0], 14)  # type: ignore[attr-defined]
    data[place] = largest
    data[20:24] = zlib.crc32(bytes(data[12:20])).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(BadScores, match="its xz data are damaged .*[Mm]emory"):
        read(path)


def book(path: Path, **sheets: list[list[object]]) -> Path:
    made = openpyxl.Workbook()
    made.remove(made.active)
    for name, rows in sheets.items():
        sheet = made.create_sheet(name)
        for row in rows:
            sheet.append(row)
    made.save(path)
    return path


def test_a_spreadsheet_is_the_table(tmp_path: Path):
    rows = [[], ["seed", " a ", "b", None], [0, 0.5, 0.6], [1, 0.25, None]]
    found = read(book(tmp_path / "r.xlsx", Sheet1=rows, empty=[]))
    assert found.columns.tolist() == ["seed", "a", "b"]
    assert found["a"].tolist() == [0.5, 0.25] and found["b"].isna().tolist() == [False, True]


def test_a_spreadsheet_that_is_no_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    two = book(tmp_path / "two.xlsx", a=[["x"], [1]], b=[["x"], [2]])
    with pytest.raises(BadScores, match="it has 2 sheets with cells; one is needed"):
        read(two)
    wide = book(tmp_path / "wide.xlsx", a=[["x"], [1, 2]])
    with pytest.raises(BadScores, match="a row has more cells than the header"):
        read(wide)
    (tmp_path / "x.xlsx").write_text("seed,a\n1,2\n")
    with pytest.raises(BadScores, match="cannot be read as Excel"):
        read(tmp_path / "x.xlsx")
    far = book(tmp_path / "far.xlsx", a=[["x"], [1]])
    with zipfile.ZipFile(far) as given:
        parts = {name: given.read(name) for name in given.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    parts[sheet] = parts[sheet].replace(b'r="A2"', b'r="XFD2"').replace(b'r="2"', b'r="999999"')
    with zipfile.ZipFile(far, "w") as out:
        for name, content in parts.items():
            out.writestr(name, content)
    monkeypatch.setattr(files, "MOST_DECODED", 2**20)
    with pytest.raises(BadScores, match="has more than 1 MiB unpacked"):
        read(far)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(BadScores, match="pip install openpyxl"):
        read(two)


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ({"seed": {"0": 0, "1": 1}, "a": {"0": 0.5, "1": 0.25}},
         {"seed": [0, 1], "a": [0.5, 0.25]}),
        ({"a": {"42": 0.5, "7": 0.25}, "b": {"42": 1.5, "7": 2.5}},
         {"key": ["42", "7"], "a": [0.5, 0.25], "b": [1.5, 2.5]}),
        ({"r1": {"arm": "a", "acc": 0.5}, "r2": {"arm": "b", "acc": 0.25}},
         {"key": ["r1", "r2"], "arm": ["a", "b"], "acc": [0.5, 0.25]}),
        ({"base": {"seed_0": 0.5, "seed_1": 0.25}},
         {"key": ["base"], "seed_0": [0.5], "seed_1": [0.25]}),
    ],
)  # fmt: skip
def test_an_object_of_objects_is_a_table(content: dict, columns: dict, tmp_path: Path):
    (tmp_path / "r.json").write_text(json.dumps(content))
    found = read(tmp_path / "r.json")
    assert {c: found[c].tolist() for c in found} == columns


def test_what_pandas_writes_as_json_is_read_again(tmp_path: Path):
    frame = pd.DataFrame({"seed": [3, 4], "arm": ["a", "b"], "acc": [0.5, 0.25]})
    for orient in ("columns", "records"):
        frame.to_json(tmp_path / "r.json", orient=orient)
        assert read(tmp_path / "r.json").to_dict("list") == frame.to_dict("list")


@pytest.mark.parametrize("content", ['{"a": {"key": 1}}', '{"a": {}}', '{"a": {}, "b": [1]}'])
def test_an_object_that_is_no_table_is_refused(content: str, tmp_path: Path):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(BadScores):
        read(tmp_path / "r.json")
