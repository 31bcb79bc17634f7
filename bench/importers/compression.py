"""Unpacks a compressed file, known by its first bytes; never more than is asked for.

1 MB of any of these can be 1 GB. Formats: RFC 1952 (gzip), xz-file-format 1.2, RFC 8878 (zstd).
"""

import gzip
import lzma
import zlib
from pathlib import Path

SUFFIXES = (".gz", ".xz", ".zst")
GZIP, XZ, ZSTD = b"\x1f\x8b", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"


class TooMuch(Exception):
    """More bytes unpacked than asked for."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.bytes = most


def unpacked(path: Path, head: bytes, most: int) -> bytes:
    """Return what a file holds, unpacked where it begins as a compressed one does.

    Raises
    ------
    TooMuch : more than `most` bytes
    ValueError : the compressed data are damaged, or end early
    """
    readers = {GZIP: ("gzip", _gzip), XZ: ("xz", _xz), ZSTD: ("zstd", _zstd)}
    for magic, (name, reader) in readers.items():
        if head.startswith(magic):
            try:
                data = reader(path, most + 1)
            except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
                raise ValueError(f"its {name} data are damaged ({error})") from error
            if len(data) > most:
                raise TooMuch(most)
            return data
    return path.read_bytes()


def _gzip(path: Path, most: int) -> bytes:
    with gzip.open(path) as file:
        return file.read(most)


def _xz(path: Path, most: int) -> bytes:
    """Unpack the streams of a file; a header may not ask for more memory than the result."""
    data, rest = b"", path.read_bytes()
    while rest and len(data) < most:
        stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=max(most, 2**27))
        data += stream.decompress(rest, most - len(data))
        if len(data) < most and not stream.eof:
            raise EOFError("they end early")
        rest = stream.unused_data.lstrip(b"\0")
    return data


def _zstd(path: Path, most: int) -> bytes:
    import pyarrow as pa

    with pa.input_stream(str(path), compression="zstd") as stream:
        return bytes(stream.read(most))
