"""Columns from names: `{arm}-s{seed}/results.csv` reads arm and seed from a path."""

import re
from functools import cached_property

import pandas as pd

from bench.importers.asked import BadRequest

FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class NamePattern:
    """A pattern of names: text, and fields in braces, none of which reaches over a slash.

    Parameters
    ----------
    typed : with as many parts between slashes as are compared, from the end of a name

    Raises
    ------
    BadRequest : no field in it, or two fields with nothing between them
    """

    def __init__(self, typed: str) -> None:
        self.typed = typed
        self.parts = typed.replace("\\", "/").removeprefix("./").split("/")
        if not FIELD.search(typed) or re.search(r"\}\{", typed):
            raise BadRequest(
                f'"{typed}" is no pattern of names.',
                facts=["A pattern names columns in braces, with text between them."],
                options=[("name", "{arm}-s{seed}")],
            )

    @cached_property
    def _ways(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        return self._compiled("+?"), self._compiled("+")

    def _compiled(self, many: str) -> re.Pattern[str]:
        """Return the pattern with fields as short, or as long, as they can be."""
        text, seen = "", set[str]()
        for i, piece in enumerate(FIELD.split("/".join(self.parts))):
            if i % 2 == 0:
                text += re.escape(piece)
            else:
                text += f"(?P={piece})" if piece in seen else f"(?P<{piece}>[^/]{many})"
                seen.add(piece)
        return re.compile(text)

    def fields(self, name: str, column: str = "name") -> dict[str, str]:
        """Return what the fields of one name are.

        Parameters
        ----------
        column : where the name stands, for the remedy

        Raises
        ------
        BadRequest : the pattern does not fit the name, or fits it in two ways
        """
        end = "/".join(name.replace("\\", "/").split("/")[-len(self.parts) :])
        short, long = (way.fullmatch(end) for way in self._ways)
        if short is not None and long is not None and short.groupdict() == long.groupdict():
            return short.groupdict()
        both = [way.groupdict() for way in (short, long) if way is not None]
        two = " or ".join(", ".join(f"{k} {v!r}" for k, v in one.items()) for one in both)
        raise BadRequest(
            f'the pattern "{self.typed}" {"fits in two ways" if both else "does not fit"}: {name}.',
            facts=[*([f"{two}?"] if both else []), "A field holds any text without a slash."],
            fix="change --name, or leave it out:",
            options=[("where", f"{column}!={name}")],
        )


def with_fields(frame: pd.DataFrame, column: str, pattern: NamePattern) -> pd.DataFrame:
    """Return a table with a column for each field of its rows' names.

    Raises
    ------
    BadRequest : a column of that name is there, and says something else
    """
    names = list(frame[column].map(str))
    known = {name: pattern.fields(name, column) for name in dict.fromkeys(names)}
    for field in dict.fromkeys(FIELD.findall(pattern.typed)):
        values = [known[name][field] for name in names]
        if field in frame.columns and list(frame[field].map(_shown)) != values:
            raise BadRequest(
                f"column {field} and the names say different things.",
                facts=[f"A row has {_shown(frame[field].iloc[0])}, its name {values[0]}."],
                fix=f"call {{{field}}} of --name something else",
            )
        frame = frame.assign(**{field: values})
    return frame


def _shown(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
