"""Reads the one sheet of an Excel file (.xlsx, ECMA-376) as a table, through openpyxl."""

import importlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from bench.importers.compression import TooMuch


def only_sheet(path: Path, most: int) -> pd.DataFrame:
    """Return the sheet of a file: its first row that is not empty is the header.

    A formula counts as the value that was saved with it.

    Raises
    ------
    TooMuch : more than `most` bytes, unpacked or as cells
    ValueError : no openpyxl, or not exactly one sheet with cells
    """
    try:
        openpyxl: Any = importlib.import_module("openpyxl")
    except ModuleNotFoundError:
        raise ValueError("that takes openpyxl: pip install openpyxl") from None
    with zipfile.ZipFile(path) as packed:
        if sum(entry.file_size for entry in packed.infolist()) > most:
            raise TooMuch(most)
    book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
    try:
        sheets = {sheet.title: list(_cells(sheet, most)) for sheet in book.worksheets}
    finally:
        book.close()
    filled = [rows for rows in sheets.values() if rows]
    if len(filled) != 1:
        raise ValueError(f"it has {len(filled)} sheets with cells; one is needed")
    header, *rows = filled[0]
    width = 1 + max(i for i, cell in enumerate(header) if cell is not None)
    if any(cell is not None for row in rows for cell in row[width:]):
        raise ValueError("a row has more cells than the header")
    names = [f"column {i + 1}" if cell is None else cell for i, cell in enumerate(header[:width])]
    padded = [[*row[:width], *[None] * (width - len(row))] for row in rows]
    return pd.DataFrame(padded, columns=names).infer_objects()


def _cells(sheet: Any, most: int) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a sheet that are not empty; what it says of its size is not believed."""
    sheet.reset_dimensions()
    seen = 0
    for row in sheet.iter_rows(values_only=True):
        seen += 1 + len(row)
        if seen > most // 8:
            raise TooMuch(most)
        if any(cell is not None for cell in row):
            yield row
