"""Reads the scalars of a TensorBoard event file, without TensorFlow.

A file is a row of records (tensorflow/core/lib/io/record_writer.h): length as uint64, its masked
CRC-32C, the bytes, their masked CRC-32C, all little-endian. The bytes are a protocol buffer Event
(tensorflow/core/util/event.proto): 1 wall_time, 2 step, 5 summary; in a Summary (framework/
summary.proto) 1 is a Value: 1 tag, 2 simple_value, 8 tensor; of a TensorProto (tensor.proto) 1 is
dtype, 2 shape, 4 content, 5 float_val, 6 double_val, 7 int_val, 10 int64_val.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.importers.files import MOST_BYTES, BadScores

SHORT = 4096  # bytes of a record that is checked whatever it holds; images need not be
NUMBERS = {1: "<f", 2: "<d", 3: "<i", 9: "<q"}  # dtype of a tensor to one number of its content


class Scalar(NamedTuple):
    """One value of one tag."""

    tag: str
    step: int
    value: float


def _table() -> list[int]:
    """Return the byte table of CRC-32C (Castagnoli), reflected: RFC 3720, B.4."""
    table = []
    for n in range(256):
        for _ in range(8):
            n = (n >> 1) ^ 0x82F63B78 if n & 1 else n >> 1
        table.append(n)
    return table


TABLE = _table()


def masked_crc(data: bytes) -> int:
    """Return the CRC-32C of bytes, turned and moved as record_writer.h does."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def scalars(path: Path) -> tuple[list[Scalar], bool]:
    """Return the scalars of a file in order, and whether it ends within a record.

    A file that is still written, or whose run was killed, ends so: what came before counts.

    Raises
    ------
    BadScores : larger than is read, or a record that is not what was written
    """
    if path.stat().st_size > MOST_BYTES:
        raise BadScores(f"{path.name} has {path.stat().st_size / 1024**3:.1f} GiB.")
    data, found, at = path.read_bytes(), list[Scalar](), 0
    while at + 12 <= len(data):
        (length, crc) = struct.unpack_from("<QI", data, at)
        if masked_crc(data[at : at + 8]) != crc:
            raise _damaged(path, at)
        end = at + 12 + length
        if end + 4 > len(data):
            return found, True
        record = data[at + 12 : end]
        try:
            new = list(_of_event(record))
        except (ValueError, struct.error, IndexError) as error:
            raise _damaged(path, at) from error
        (crc,) = struct.unpack_from("<I", data, end)
        if (new or length <= SHORT) and masked_crc(record) != crc:
            raise _damaged(path, at)
        found += new
        at = end + 4
    return found, at < len(data)


def _of_event(record: bytes) -> Iterator[Scalar]:
    step, summaries = 0, []
    for number, value in _fields(record):
        if number == 2 and isinstance(value, int):
            step = value - 2**64 if value >= 2**63 else value
        elif number == 5 and isinstance(value, bytes):
            summaries.append(value)
    for summary in summaries:
        for number, value in _fields(summary):
            if number == 1 and isinstance(value, bytes):
                yield from _of_value(value, step)


def _of_value(message: bytes, step: int) -> Iterator[Scalar]:
    tag, found = "", None
    for number, value in _fields(message):
        if isinstance(value, bytes):
            if number == 1:
                tag = value.decode()
            elif number == 2:
                (found,) = struct.unpack("<f", value)
            elif number == 8:
                found = _of_tensor(value)
    if found is not None:
        yield Scalar(tag, step, float(found))


def _of_tensor(message: bytes) -> float | None:
    """Return a tensor's number, or None where it holds none or several."""
    dtype, found = 0, list[float]()
    for number, value in _fields(message):
        if number == 1 and isinstance(value, int):
            dtype = value
        elif number == 2 and value != b"":  # a shape with dimensions
            return None
        elif number in (4, 5, 6) and isinstance(value, bytes):
            letter = {5: "<f", 6: "<d"}.get(number) or NUMBERS.get(dtype)
            found += [] if letter is None else [x for (x,) in struct.iter_unpack(letter, value)]
        elif number in (7, 10):
            integers = [value] if isinstance(value, int) else list(_varints(value))
            found += [x - 2**64 if x >= 2**63 else x for x in integers]
    return found[0] if len(found) == 1 else None


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a message: number, and value as an integer or its bytes.

    The wire format: https://protobuf.dev/programming-guides/encoding/
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        length = {1: 8, 5: 4}.get(kind)
        if kind == 2:
            length, at = _varint(message, at)
        if length is None or at + length > len(message):
            raise ValueError("no message")
        yield key >> 3, message[at : at + length]
        at += length


def _varints(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(10):
        byte = data[at + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value & (2**64 - 1), at + i + 1
    raise ValueError("no number")


def _damaged(path: Path, at: int) -> BadScores:
    return BadScores(
        f"{path.name} is damaged: the record at byte {at:,} is not what was written.",
        facts=["Numbers before and after it may be wrong too."],
        fix="copy the file again, or take the folder away",
    )
