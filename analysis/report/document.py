"""Document: results.json, findings beside the summary that they follow from, under one digest."""

import base64
import hashlib
import json
import zlib
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

from bench.analysis.study.findings import Findings
from bench.analysis.study.summary import DamagedReport

LARGE = 300 * 1024  # bytes of a summary that is packed, or has a file of its own
SUMMARY_FILE = "summary.json"
MOST_UNPACKED = 256 * 2**20
APART = ("digest", "files")  # what the digest does not cover


def written_by(version: str) -> str:
    """Return what writes a report: the words are bench's, the drawings matplotlib's too."""
    drawn = ", ".join(f"{name} {metadata.version(name)}" for name in ("matplotlib", "seaborn"))
    return f"bench {version}, {drawn}"


def document(f: Findings, *, version: str) -> dict[str, Any]:
    """Return all that results.json says, the whole summary in it."""
    found = {**f.as_dict(), "written_by": written_by(version), "summary": f.summary.as_dict()}
    return {**found, "digest": digest(found)}


def digest(data: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a document's values, however it was laid out."""
    return _sha256({key: value for key, value in data.items() if key not in APART})


def packed(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document whose summary, where it is large, is deflated."""
    text = _text(data["summary"]).encode()
    if len(text) <= LARGE:
        return dict(data)
    return {**data, "summary": {"deflated": base64.b64encode(zlib.compress(text, 9)).decode()}}


def parted(data: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Return a document and the text of its summary's own file, where the summary is large."""
    text = _text(data["summary"])
    if len(text) <= LARGE:
        return dict(data), None
    return {**data, "summary": {"file": SUMMARY_FILE}}, text


def whole(data: Mapping[str, Any], beside: Callable[[], str]) -> dict[str, Any]:
    """Return a document with its summary, wherever that is.

    Parameters
    ----------
    beside : reads the summary's own file

    Raises
    ------
    DamagedReport : there is none, or it cannot be read
    """
    summary = data.get("summary")
    try:
        if not isinstance(summary, Mapping):
            raise ValueError("no summary")
        if "deflated" in summary:
            unpack = zlib.decompressobj()
            summary = json.loads(
                unpack.decompress(base64.b64decode(summary["deflated"]), MOST_UNPACKED)
            )
        elif "file" in summary:
            summary = json.loads(beside())
    except (ValueError, TypeError, RecursionError, zlib.error) as error:
        raise DamagedReport("its summary cannot be read.", facts=[str(error)[:200]]) from None
    return {**data, "summary": summary}


def _text(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _sha256(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
