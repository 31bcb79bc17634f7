"""TensorBoard's event files: the values that were written, or a refusal; never others."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.errors import Refusal
from bench.importers import sources, tensorboard
from bench.importers.asked import Asked, At
from bench.importers.event_file import Scalar, masked_crc, scalars

# Written by tensorboard 2.21's EventFileWriter from protobuf messages: of each of two steps a float
# tensor as TF 2 writes it, a double one as content, an integer, a vector and a simple_value.
FROM_TENSORBOARD = bytes.fromhex(
    "4800000000000000fe92489d0970f5908a77c3da411a0d627261696e2e4576656e743a32522e0a2c74656e736f7262"
    "6f6172642e73756d6d6172792e7772697465722e6576656e745f66696c655f777269746572e600688a810000000000"
    "000002cd165609000000000000f03f2a760a1e0a03616363420a080112002a040000003f4a0b0a090a077363616c61"
    "72730a130a0164420e080212002208000000000000f03f0a150a0169421008091200520af9ffffffffffffffff010a"
    "190a03766563421208011204120208022a080000803f000000400a0d0a0673696d706c65150000003f585cecc78300"
    "000000000000b3b191e909000000000000f03f10012a760a1e0a03616363420a080112002a040000403f4a0b0a090a"
    "077363616c6172730a130a0164420e080212002208000000000000f83f0a150a0169421008091200520afaffffffff"
    "ffffffff010a190a03766563421208011204120208022a080000803f000000400a0d0a0673696d706c65150000403f"
    "4c7f884c"
)


def field(number: int, kind: int, content: bytes) -> bytes:
    return bytes([number << 3 | kind]) + content


def sized(number: int, content: bytes) -> bytes:
    assert len(content) < 128
    return field(number, 2, bytes([len(content)]) + content)


def record(content: bytes) -> bytes:
    length = struct.pack("<Q", len(content))
    crc, check = (struct.pack("<I", masked_crc(part)) for part in (length, content))
    return length + crc + content + check


def event(step: int, tag: str, value: float) -> bytes:
    one = sized(1, tag.encode()) + field(2, 5, struct.pack("<f", value))
    wall = field(1, 1, struct.pack("<d", 1.0))
    return record(wall + field(2, 0, bytes([step])) + sized(5, sized(1, one)))


def write(folder: Path, values: Sequence[tuple[int, str, float]], name: str = "1") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"events.out.tfevents.{name}.host"
    head = record(field(1, 1, struct.pack("<d", 1.0)) + sized(3, b"brain.Event:2"))
    path.write_bytes(head + b"".join(event(*each) for each in values))
    return path


def test_the_checksum_is_that_of_rfc_3720():
    for data, crc in ((b"\0" * 32, 0x8A9136AA), (bytes(range(32)), 0x46DD794E)):  # B.4
        turned = (crc >> 15 | crc << 17) & 0xFFFFFFFF
        assert masked_crc(data) == (turned + 0xA282EAD8) & 0xFFFFFFFF


def test_what_tensorboard_wrote_is_read(tmp_path: Path):
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(FROM_TENSORBOARD)
    found, cut = scalars(path)
    assert not cut
    assert found == [
        *(Scalar("acc", 0, 0.5), Scalar("d", 0, 1.0), Scalar("i", 0, -7.0)),
        *(Scalar("simple", 0, 0.5), Scalar("acc", 1, 0.75), Scalar("d", 1, 1.5)),
        *(Scalar("i", 1, -6.0), Scalar("simple", 1, 0.75)),
    ]


def test_runs_are_compared_at_their_last_step_and_at_a_chosen_one(tmp_path: Path, bench: Any):
    for arm in ("base", "new"):
        for seed in range(7):
            end = 0.5 + seed / 64 + (arm == "new") * (1 + seed) / 128  # exact as 32 bits
            steps = [(0, "val", 0.25), (1, "val", 0.75), (2, "val", 0.5), (1, "test/acc", 0.0)]
            write(tmp_path / f"{arm}-s{seed}", [*steps, (2, "test/acc", end)])
    words = ["compare", f"tensorboard:{tmp_path}", "--name", "{arm}-s{seed}", "--arm", "arm"]
    words += ["--metric", "test/acc", "--seed", "seed", "--baseline", "base", "--json"]
    said = bench(*words)
    assert said.status == 0, said.err
    (found,) = said.json["comparisons"]
    assert found["n_pairs"] == 7
    assert found["primary"]["difference"] == pytest.approx(sum(range(1, 8)) / 7 / 128)
    chosen = tensorboard.read(str(tmp_path), Asked(at=At("max", "val")))
    assert (set(chosen["step"]), set(chosen["test/acc"])) == ({1}, {0.0})


def test_a_later_file_of_a_run_counts_and_that_is_said(tmp_path: Path):
    write(tmp_path, [(0, "a", 1.0), (1, "a", 2.0)])
    write(tmp_path, [(1, "a", 4.0)], "2")
    said = list[str]()
    found = tensorboard.read(str(tmp_path), Asked(say=said.append))
    assert found["a"].tolist() == [4.0] and found["run_name"].tolist() == [tmp_path.name]
    assert said[0] == "Event files of . share steps: the later file counts."


def test_a_file_that_ends_early_counts_until_there(tmp_path: Path):
    path = write(tmp_path, [(0, "a", 1.0), (1, "a", 2.0)])
    whole = path.read_bytes()
    for cut in (1, 4, 20, 30):
        path.write_bytes(whole[:-cut])
        assert scalars(path) == ([Scalar("a", 0, 1.0)], True)
    said = list[str]()
    tensorboard.read(str(tmp_path), Asked(say=said.append))
    assert "ends within a record" in said[0]


def test_no_flipped_byte_changes_a_value(tmp_path: Path):
    path = write(tmp_path, [(0, "a", 1.0)])
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(Refusal, match="is damaged: the record at byte"):
            scalars(path)
    path.write_bytes(whole)
    assert scalars(path) == ([Scalar("a", 0, 1.0)], False)


@pytest.mark.parametrize("length", [2**63, 2**40, 1000])
def test_a_length_beyond_the_file_asks_for_no_memory(length: int, tmp_path: Path):
    path = write(tmp_path, [(0, "a", 1.0)])
    text = struct.pack("<Q", length)
    path.write_bytes(path.read_bytes() + text + struct.pack("<I", masked_crc(text)) + b"x" * 50)
    assert scalars(path) == ([Scalar("a", 0, 1.0)], True)


@pytest.mark.parametrize(
    "content",
    [
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # a number of 11 bytes
        sized(5, sized(1, sized(1, b"\xff\xfe") + field(2, 5, b"\0\0\0\0"))),  # a tag, no UTF-8
        sized(5, b"\x0a\x7f"),  # longer than its message
        sized(5, sized(1, sized(2, b"\0\0"))),  # a float of two bytes
        b"\x0b\x0c",  # groups
    ],
)
def test_a_record_that_is_no_event_is_refused(content: bytes, tmp_path: Path):
    path = tmp_path / "x.tfevents"
    path.write_bytes(record(content))
    with pytest.raises(Refusal, match="is damaged"):
        scalars(path)


def test_a_folder_without_scalars_is_refused(tmp_path: Path):
    with pytest.raises(Refusal, match="no event files in"):
        sources.read(f"tensorboard:{tmp_path}", Asked())
    write(tmp_path, [])
    with pytest.raises(Refusal, match="hold no scalars"):
        sources.read(f"tensorboard:{tmp_path}", Asked())
