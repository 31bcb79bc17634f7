"""JSON values: dataclasses as what JSON can hold, and rows of one kind as columns."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import field, fields, is_dataclass
from functools import partial
from typing import Any

unstored: Any = partial(field, metadata={"stored": False})  # a field that JSON leaves out


def plain(value: Any) -> Any:
    """Return JSON values; a number that is not finite becomes None, what JSON lacks its text."""
    if is_dataclass(value) and not isinstance(value, type):
        kept = (f.name for f in fields(value) if f.metadata.get("stored", True))
        return {name: plain(getattr(value, name)) for name in kept}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):  # of a user's settings: numpy
        return plain(value.tolist())
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def columns(rows: Sequence[Any]) -> dict[str, list[Any]]:
    """Return rows of one kind as columns: hundreds of runs need not repeat every name."""
    parts = [plain(row) for row in rows]
    return {name: [part[name] for part in parts] for name in parts[0]} if parts else {}


def rows(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return what `columns` was given, each row as a mapping."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
