"""A long Parquet file that is too large for a table, read a run at a time into cells.

The file is one row a value, sorted by arm and seed, with a column of test examples. Of each run
its values alone are kept, in the smallest type that holds them exactly.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.errors import Refusal
from bench.importers import rows
from bench.importers.cells import Cells
from bench.importers.checked import checked
from bench.importers.files import BadScores
from bench.importers.layout import BadPairs, Layout, column_of, names_of, of_arms
from bench.importers.parquet_runs import (
    Run,
    Values,
    keys_of,
    require_at_most,
    require_types,
    runs_of,
)

FEWEST_ROWS = 5_000_000  # below, the file is read as any other
MOST_ROWS = 1_000_000_000


def is_long(path: Path, layout: Layout) -> bool:
    """Tell whether a file is read here: more rows than fit a table, in a layout that allows it."""
    if path.suffix.lower() not in (".parquet", ".pq") or not path.is_file() or not layout.is_long:
        return False
    from pyarrow import lib, parquet

    try:
        with parquet.ParquetFile(path) as file:
            many, names = file.metadata.num_rows > FEWEST_ROWS, file.schema_arrow.names
    except (lib.ArrowException, OSError):
        return False
    if not many or len(set(names)) < len(names):
        return False
    keys = checked(pd.DataFrame(columns=names), layout, path).keys
    return bool(keys.seed and keys.example) and len(keys.named) == 2


@dataclass(eq=False)
class _Runs:
    """The runs read so far: their values as rows of one table a metric."""

    path: Path
    n_rows: int  # of the file
    runs: list[tuple[Any, Any]] = field(default_factory=list)
    examples: Any = None  # of the first run: a pyarrow array
    tables: dict[str, Values] = field(default_factory=dict)

    def add(self, run: Run) -> None:
        """Take one run's values, in the order of the first run's examples."""
        if self.examples is None:
            self.examples = run.examples
            if len(run.examples.unique()) < len(run.examples):
                raise self._twice(run)
        values = run.values if run.examples.equals(self.examples) else self._in_order(run)
        for metric, of_run in values.items():
            self._store(metric, _narrow(of_run))
        self.runs.append(run.name)

    def _store(self, metric: str, row: Values) -> None:
        n = len(self.runs)
        table = self.tables.get(metric)
        if table is None:  # of rows that are never written no memory is taken
            table = np.empty((self.n_rows // row.size + 1, row.size), dtype=row.dtype)
        if n == len(table):
            table = np.concatenate([table, np.empty_like(table)])
        kind = np.result_type(table, row)
        if kind != table.dtype:
            table = np.concatenate(
                [table[:n].astype(kind), np.empty((len(table) - n, row.size), kind)]
            )
        table[n] = row
        self.tables[metric] = table

    def _in_order(self, run: Run) -> dict[str, Values]:
        """Return a run's values in that order, NaN where it has none."""
        known = pd.Index(self.examples.to_pandas())
        place = known.get_indexer(pd.Index(run.examples.to_pandas()))
        if (place < 0).any():
            odd = run.examples[int(np.argmax(place < 0))].as_py()
            (arm, seed), (here, own) = self.runs[0], run.name
            raise BadPairs(
                f"{self.path.name}: pair {seed}, {odd} has no {arm}.",
                facts=[f"It is in the run of seed {own}, {here}."],
                fix="give every run the same examples",
            )
        if np.unique(place).size < place.size:
            raise self._twice(run)
        found = {metric: np.full(len(known), np.nan) for metric in run.values}
        for metric, given in run.values.items():
            found[metric][place] = given
        return found

    def _twice(self, run: Run) -> BadPairs:
        names = run.examples.to_pandas()
        odd = names[names.duplicated()].iloc[0]
        return BadPairs(
            f"{self.path.name}: pair {run.name[1]}, {odd} occurs twice in {run.name[0]}.",
            facts=["Each pair needs exactly one value in each arm."],
            fix="keep one row a pair and arm",
        )


def _narrow(values: Values) -> Values:
    """Return the same numbers in the smallest type that holds them: int8 from 0 to 127, float32."""
    low, high = values.min(), values.max()
    if 0 <= low and high <= 127:
        small = values.astype(np.int8)
        if np.array_equal(small, values):
            return small
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    return single if np.array_equal(single, values) else values.astype(np.float64)


def read_long(path: Path, layout: Layout) -> tuple[Layout, pd.DataFrame, Cells]:
    """Return the layout with its pairs found, each run's lowest and highest values, and the cells.

    The second is a long table as `as_long` makes it, of two rows a run.

    Raises
    ------
    BadScores : a run whose rows do not stand together, a value that is no number, or too many
    BadColumns, BadPairs : what does not fit, as of any other table
    """
    from pyarrow import parquet

    try:
        schema = parquet.read_schema(path)
        layout = checked(pd.DataFrame(columns=schema.names), layout, path)
        require_types(schema, layout, path)
        with parquet.ParquetFile(
            path,
            page_checksum_verification=True,
            pre_buffer=False,  # else the whole file is held
            read_dictionary=[str(key) for key in keys_of(layout)],
        ) as file:
            n_rows = file.metadata.num_rows
            require_at_most(n_rows, MOST_ROWS, "rows", path)
            found = _Runs(path=path, n_rows=n_rows)
            for run in runs_of(file, layout, path):
                found.add(run)
    except Refusal:
        raise
    except Exception as error:  # pyarrow's own are many; all mean the same to the user
        why = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise BadScores(f"{path.name} cannot be read as Parquet: {why}.") from error
    return _laid_out(found, layout, path)


def _laid_out(found: _Runs, layout: Layout, path: Path) -> tuple[Layout, pd.DataFrame, Cells]:
    if not found.runs:
        raise BadScores(f"{path.name} has no rows of these arms.", fix="name other arms")
    arm, seed = zip(*found.runs, strict=True)
    frame = pd.DataFrame({layout.arm: arm, layout.seed: seed})
    long = pd.DataFrame(
        {
            "arm": names_of(frame, str(layout.arm), path),
            "seed": names_of(frame, str(layout.seed), path),
        }
    )
    names = found.examples.to_pandas()
    given = pd.DataFrame(
        {
            layout.example: names,
            layout.seed: pd.Series(np.resize(np.array(seed, dtype=object), len(names))),
        }
    )
    rows.require_no_summaries(given, layout.keys, path)
    ends = []
    for end in (np.fmin, np.fmax):
        of = {column_of(m): end.reduce(t[: len(arm)], axis=1) for m, t in found.tables.items()}
        ends.append(long.assign(**of).astype({column: np.float64 for column in of}))
    both = of_arms(pd.concat(ends, ignore_index=True).sort_index(kind="stable"), layout, path)
    return layout, both, _cells(found, long, both, names_of(given, str(layout.example), path))


def _cells(found: _Runs, long: pd.DataFrame, both: pd.DataFrame, examples: pd.Series) -> Cells:
    """Return the rows of the tables by arm and seed, without copying where they stand so."""
    arms, seeds = (list(dict.fromkeys(both[key])) for key in ("arm", "seed"))
    place = np.full((len(arms), len(seeds)), -1)
    for number, (arm, seed) in enumerate(long[["arm", "seed"]].itertuples(index=False)):
        place[arms.index(arm), seeds.index(seed)] = number
    values = {}
    for metric, table in found.tables.items():
        if np.array_equal(place.ravel(), np.arange(place.size)):
            values[metric] = table[: place.size].reshape(*place.shape, -1)
            continue
        values[metric] = table[place]
        if (place < 0).any():
            values[metric] = values[metric].astype(np.float64)
            values[metric][place < 0] = np.nan
    return Cells(
        values=values,
        arms=tuple(arms),
        rows=tuple((name,) for name in seeds),
        columns=tuple((name,) for name in examples),
        sizes=np.ones(len(examples), dtype=np.intp),
    )
