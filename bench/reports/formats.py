"""Writes a report in every format, each file by an atomic rename."""

import difflib
import errno
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import __version__
from bench.analysis.errors import Refusal
from bench.store.private import keep_private, make_folder

if TYPE_CHECKING:
    from bench.analysis.data.tables import Tables
    from bench.analysis.study.findings import Findings

Files = Mapping[str, bytes]  # names below the report's folder, and contents

FORMATS = ("html", "json", "csv", "md", "tex", "svg", "png")
ALONE = ("html", "json", "csv", "md", "tex")  # that one file can be
REPORT = ("html", "json")  # what is written when nothing is said, and what MLflow is given
OTHERWISE = {"markdown": "md", "latex": "tex", "pdf": "html", "excel": "csv", "xlsx": "csv"}


class BadFormat(Refusal):
    """A format that nothing is written in."""

    code = "format"
    exit_status = 2


class Unwritable(Refusal):
    """A folder that cannot be made or written."""

    code = "file"
    exit_status = 4


def parse_formats(text: str) -> tuple[str, ...]:
    """Return the formats of a list such as html,csv, each once.

    Raises
    ------
    BadFormat : one that is none, or an empty list
    """
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    for name in names or [text]:
        if name not in FORMATS:
            close = difflib.get_close_matches(name, (*FORMATS, *OTHERWISE), n=1, cutoff=0.5)
            near = OTHERWISE.get(close[0], close[0]) if close else "html"
            raise BadFormat(
                f'--format "{name}" is no format.',
                facts=[f"Formats: {', '.join(FORMATS)}, or several as html,csv."],
                options=[("format", near)],
            )
    return tuple(dict.fromkeys(names))


def contents(
    f: "Findings",
    formats: Sequence[str],
    *,
    tables: "Tables | None" = None,
    hide: Callable[[str], str] = str,
) -> Files:
    """Return every file of these formats; the same findings give the same bytes.

    Parameters
    ----------
    f : what `study` found
    formats : some of FORMATS
    tables : everything recorded, which csv needs
    hide : what the CSV shows of a name; the findings come as they are to be shown
    """
    from bench.analysis.report import csv_files, html, latex, markdown
    from bench.analysis.report.document import SUMMARY_FILE, document, parted
    from bench.analysis.report.names import fitted
    from bench.analysis.report.pictures import pictures

    files: dict[str, bytes] = {}
    if "html" in formats:
        files["report.html"] = html.render(f, version=__version__).encode()
    if "json" in formats:
        data, beside = parted(document(f, version=__version__))
        files["results.json"] = _json(data).encode("utf-8", "backslashreplace")
        if beside is not None:
            files[SUMMARY_FILE] = beside.encode()
    if "csv" in formats and tables is not None:
        files |= csv_files.sheets(f, tables, hide)
    if "md" in formats:
        trail = [line[:2] for line in html.audit_trail(fitted(f)) if line[0] != "Settings"]
        files["results.md"] = markdown.results(f, trail=trail).encode()
    if "tex" in formats:
        files["results.tex"] = latex.results(f, version=__version__).encode()
    if "svg" in formats or "png" in formats:
        for picture in pictures(fitted(f)):
            if "svg" in formats:
                files[f"figures/{picture.name}.svg"] = picture.svg.encode()
            if "png" in formats:
                files[f"figures/{picture.name}.png"] = picture.png()
    return files


def single(f: "Findings", form: str) -> bytes:
    """Return one of ALONE as one file: of csv the pairs, of json with the summary in it."""
    from bench.analysis.report import csv_files
    from bench.analysis.report.document import document, packed

    if form == "csv":
        return csv_files.pairs(f)
    if form == "json":
        data = packed(document(f, version=__version__))
        return _json(data).encode("utf-8", "backslashreplace")
    [text] = contents(f, (form,)).values()
    return text


def _json(data: Mapping[str, Any]) -> str:
    """Return a document as JSON, a line a key."""
    write = json.JSONEncoder(allow_nan=False, ensure_ascii=False).encode
    lines = (f"{write(key)}: {write(value)}" for key, value in data.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def require_writable(folder: Path) -> None:
    """Make a folder, and find out before an analysis rather than after it that it is no use.

    Raises
    ------
    Unwritable : it cannot be made or written
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        reason = (error.strerror or type(error).__name__).lower()
        raise Unwritable(
            f"a report cannot be written to {folder}: {reason}.",
            facts=["It takes a folder that you may write to."],
            options=[("out", "DIR")],
        ) from error


def write_files(folder: Path, files: Files) -> list[Path]:
    """Write files below a folder, each whole or not at all, and return where they are."""
    for name, data in files.items():
        replace_bytes(folder / name, data)
    return [folder / name for name in files]


def replace_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    make_folder(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.chmod(name, 0o644)
        keep_private(Path(name))
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
