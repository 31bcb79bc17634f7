"""File names and texts that every disk and database can hold."""

import hashlib
import re

LONGEST = 60
DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def file_name(name: str) -> str:
    """Return a file or folder name for any name; different names stay different.

    What comes back has letters, digits and . _ - alone, at most 69 characters, no dot at either
    end, and is no device of Windows. A name that had to be changed carries a digest of the whole,
    and so does one with capitals: some disks do not tell them apart.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:LONGEST].rstrip(".") or "unnamed"
    if DEVICES.fullmatch(plain):
        plain = f"x-{plain}"
    if plain == name.lower() and not re.search(r"-[0-9a-f]{8}$", name):  # nor one of those below
        return plain
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain}-{digest}"


def storable(text: str) -> str:
    """Return a text that every file and database takes: no half characters, no NUL."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "?")
