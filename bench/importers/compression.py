"""Unpacks a compressed file, known by its first bytes; never more than is asked for.

1 MB of any of these can be 1 GB. Formats: RFC 1952 (gzip), xz-file-format 1.2, RFC 8878 (zstd).
"""

import gzip
import io
import lzma
import struct
import zipfile
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


def _zstd(source: Path | io.BytesIO, most: int) -> bytes:
    import pyarrow as pa

    given = str(source) if isinstance(source, Path) else source
    with pa.input_stream(given, compression="zstd") as stream:
        return bytes(stream.read(most))


def zip_member(packed: zipfile.ZipFile, name: str) -> bytes:
    """Return a file of a zip, also one packed with zstd (method 93 of APPNOTE.TXT).

    It never has more bytes than the zip says, which the caller has to look at before.

    Raises
    ------
    KeyError, BadZipFile, EOFError, OSError, zlib.error : no such file, or a damaged one
    """
    entry = packed.getinfo(name)
    if entry.compress_type != 93:
        return packed.read(name)
    file = packed.fp
    assert file is not None
    file.seek(entry.header_offset)
    header = file.read(30)
    file.seek(sum(struct.unpack_from("<HH", header, 26)), io.SEEK_CUR)
    data = _zstd(io.BytesIO(file.read(entry.compress_size)), entry.file_size + 1)
    if len(data) != entry.file_size or zlib.crc32(data) != entry.CRC:
        raise zipfile.BadZipFile(f"{name} is not what was packed")
    return data
