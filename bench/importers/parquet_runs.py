"""The runs of a Parquet file that is sorted by arm and seed, one at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.importers.files import BadScores
from bench.importers.layout import Layout
from bench.importers.rows import shown

MOST_RUNS, MOST_EXAMPLES = 20_000, 10_000_000
LONGEST_NAME = 1_000  # bytes
BATCH = 1 << 19  # rows

Values = NDArray[Any]


class Run(NamedTuple):
    """One run: its arm and seed, its test examples (a pyarrow array), its values by metric."""

    name: tuple[Any, Any]
    examples: Any
    values: dict[str, Values]


def keys_of(layout: Layout) -> tuple[str, str, str]:
    """Return the columns of arms, seeds and test examples."""
    return str(layout.arm), str(layout.seed), str(layout.example)


def require_at_most(count: int, most: int, what: str, path: Path) -> None:
    """Refuse a file of more than memory or time allow."""
    if count > most:
        raise BadScores(
            f"{path.name} has more than {most:,} {what}.", fix="compare a part of it at a time"
        )


def require_types(schema: Any, layout: Layout, path: Path) -> None:
    """Refuse columns that hold no names, or no numbers, before any of their values are read."""
    from pyarrow import types

    numbers = (types.is_integer, types.is_floating, types.is_boolean)
    names = (*numbers, types.is_string, types.is_large_string)
    for column in (*keys_of(layout), *layout.metrics):
        kind = schema.field(column).type
        kind = kind.value_type if types.is_dictionary(kind) else kind
        known, what = (numbers, "numbers") if column in layout.metrics else (names, "names")
        if not any(is_one(kind) for is_one in known):
            raise BadScores(
                f"{path.name}: column {column} holds {kind}, no {what}.",
                fix=f"save it as whole numbers or {'floats' if known is numbers else 'text'}",
            )


def runs_of(file: Any, layout: Layout, path: Path) -> Iterator[Run]:
    """Yield each run of the arms that are asked for.

    Raises
    ------
    BadScores : a run whose rows do not stand together, an empty name, an infinite value
    """
    import pyarrow as pa

    keys, metrics = keys_of(layout), layout.metrics
    wanted = {layout.baseline, *layout.treatments} if layout.treatments else None
    seen, name, parts, row = set[Any](), (None, None), list[Any](), 0

    def whole() -> Run:
        table = pa.Table.from_batches(parts)
        values = {m: _numbers(table[m], m, name, path) for m in metrics}
        return Run(name, table[keys[2]].combine_chunks(), values)

    columns = list(dict.fromkeys([*keys, *metrics]))
    for batch in file.iter_batches(batch_size=BATCH, columns=columns):
        for key in keys:
            _require_names(batch[key], key, row, path)
        if pa.types.is_dictionary(batch[keys[2]].type):
            place = batch.schema.get_field_index(keys[2])
            batch = batch.set_column(place, keys[2], batch[keys[2]].dictionary_decode())
        starts = _starts(batch[keys[0]], batch[keys[1]])
        for start, stop in zip(starts, [*starts[1:], len(batch)], strict=True):
            now = tuple(batch[key][start].as_py() for key in keys[:2])
            if now != name:
                if parts:
                    yield whole()
                if now in seen:
                    raise _scattered(now, layout, path)
                seen.add(now)
                require_at_most(len(seen), MOST_RUNS, "runs", path)
                name, parts = now, []
            if wanted is None or shown(now[0]) in wanted:
                parts.append(batch.slice(start, stop - start))
                require_at_most(sum(map(len, parts)), MOST_EXAMPLES, "rows in one run", path)
        row += len(batch)
    if parts:
        yield whole()


def _starts(arm: Any, seed: Any) -> list[int]:
    """Return where in a batch the rows of another run begin."""
    from pyarrow import compute

    changes = np.ones(len(arm), dtype=bool)
    changes[1:] = False
    for column in (arm, seed):
        codes = getattr(column, "indices", column)  # of names that the file numbers
        other = compute.not_equal(codes[1:], codes[:-1])
        changes[1:] |= other.to_numpy(zero_copy_only=False)
    found: list[int] = np.flatnonzero(changes).tolist()
    return found


def _require_names(column: Any, name: str, row: int, path: Path) -> None:
    from pyarrow import compute, types

    empty = column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    if empty.any():
        raise BadScores(
            f"{path.name}: row {row + int(np.argmax(empty)) + 1} has nothing in column {name}.",
            facts=["Which rows belong together would not be known."],
            fix="fill the cell, or leave the row out",
        )
    names = getattr(column, "dictionary", column)
    if types.is_string(names.type) or types.is_large_string(names.type):
        longest = compute.max(compute.binary_length(names)).as_py() or 0
        require_at_most(longest, LONGEST_NAME, f"bytes in a name of column {name}", path)


def _numbers(column: Any, metric: str, run: Any, path: Path) -> Values:
    """Return one run's values as numbers, NaN where there is none."""
    column = column.cast("float64") if column.null_count else column
    values = np.asarray(column.combine_chunks().to_numpy(zero_copy_only=False))
    if np.isinf(values).any():
        raise BadScores(
            f"{path.name}: {metric} of {run[0]}, pair {run[1]}, is infinite.",
            facts=["A failed run has no value: leave the cell empty, it is then counted."],
            fix="mend the value, or leave it empty and type",
            options=[("allow_missing", True)],
        )
    return values


def _scattered(run: Any, layout: Layout, path: Path) -> BadScores:
    return BadScores(
        f"{path.name}: the rows of seed {run[1]}, {run[0]}, do not stand together.",
        facts=["A file of so many rows is read a run at a time."],
        fix=f"sort it by {layout.arm} and {layout.seed}",
    )
