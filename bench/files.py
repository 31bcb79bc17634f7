"""Files: reports on disk, written whole or not at all, under names that are safe."""

import hashlib
import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench import __version__

if TYPE_CHECKING:
    from analysis.findings import Findings


@dataclass(frozen=True)
class Written:
    """Where a report went, and what is in it."""

    html: Path
    json: Path
    texts: dict[str, str]  # file name to content


def write_report(findings: "Findings", folder: Path) -> Written:
    """Write report.html and results.json."""
    from analysis.report import page

    texts = {
        "report.html": page.render(findings, version=__version__),
        "results.json": json.dumps(
            findings.as_dict(), allow_nan=False, indent=1, ensure_ascii=False
        ),
    }
    for name, text in texts.items():
        replace_text(folder / name, text)
    return Written(folder / "report.html", folder / "results.json", texts)


def replace_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def file_name(name: str) -> str:
    """Return a folder name for any experiment name; different names stay different."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:60] or "unnamed"
    if plain == name and not re.search(r"-[0-9a-f]{8}$", name):  # nor one of the names below
        return plain
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
