"""What a row of a table is: a training, a fold, a test example, or something that is none of these.

A column's name says it (`seed`, `fold`, `question`), or the user does (`--seed COL`). Rows that are
steps of one run, or sums of other rows, are no units at all: an interval over them would answer
another question, so they are refused by name.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from bench.analysis.errors import Refusal
from bench.importers.files import BadScores

Kind = Literal["seeds", "steps", "folds", "examples", "datasets", "repeats"]

BY_PLACE, UNPAIRED = "row", "none"  # as a pair: by their place in the file; not at all
NAMES: dict[Kind, tuple[str, ...]] = {
    "seeds": (
        *("seed", "seeds", "run_seed", "seed_id", "random_seed", "random_state", "rng_seed"),
        *("rep", "replicate", "replication", "repetition", "trial", "run", "run_id", "pair"),
    ),
    "steps": ("step", "steps", "epoch", "epochs", "epoch_id", "iteration", "iter", "global_step"),
    "folds": ("fold", "folds", "fold_id", "cv", "cv_fold", "split"),
    "examples": (
        *("question", "question_id", "qid", "doc_id", "doc", "item", "item_id", "example"),
        *("example_id", "sample_id", "idx", "index", "image", "image_id", "prompt", "prompt_id"),
    ),
    "datasets": ("dataset", "data_set", "dataset_name", "task", "task_name", "env", "environment"),
    "repeats": ("checkpoint", "ckpt", "sample", "attempt", "generation", "repeat", "draw"),
}
SPLITS = ("split",)  # folds of one cross-validation, or random splits: the name does not tell
SUMMARY = re.compile(
    r"(mean|avg|average|median|std|sd|stdev|stddev|sem|se|var|variance|total|sum|best|worst|min|max"
    r"|overall|all)\b",
    re.IGNORECASE,
)


class UnknownRows(Refusal):
    """Rows of which it is not known what they are, or that are no units."""

    code = "rows"
    exit_status = 2


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Which columns say what a value belongs to; None: no column does.

    `pair` is as typed: a column whose name says what it numbers, `row` (by place) or `none`.
    """

    pair: str | None = None
    seed: str | None = None
    fold: str | None = None
    example: str | None = None
    cluster: str | None = None
    dataset: str | None = None
    repeat: str | None = None

    @property
    def named(self) -> tuple[str, ...]:
        """The columns, in the order of their nesting."""
        every = (self.dataset, self.seed, self.fold, self.cluster, self.example, self.repeat)
        return tuple(column for column in every if column is not None)

    @property
    def row(self) -> str | None:
        """The column of trainings."""
        return self.seed if self.fold is None else self.fold


def kind_of(column: str) -> Kind | None:
    """Return what a column numbers, by its whole name; `params.seed` as `seed`."""
    name = re.sub(r"[^a-z0-9]+", "_", column.rpartition(".")[2].strip().lower()).strip("_")
    bare = name.rstrip("0123456789").rstrip("_")
    return next((kind for kind, known in NAMES.items() if name in known or bare in known), None)


def resolved(keys: Keys, columns: Sequence[str]) -> Keys:
    """Return the keys with the pair's column found: by what was typed, else by its name.

    Parameters
    ----------
    keys : as typed
    columns : those of the file that hold no values

    Raises
    ------
    UnknownRows : it numbers steps of one run, or what it numbers is not known
    """
    if keys.pair == BY_PLACE and BY_PLACE not in columns:
        return keys
    if keys.pair == UNPAIRED and UNPAIRED not in columns:
        _require_runs(keys, columns)
        return keys
    if keys.row is not None or keys.example is not None:
        return keys
    pair = keys.pair or _by_name(columns, keys)
    if pair is None:
        return keys
    match kind_of(pair):
        case "seeds":
            return replace(keys, seed=pair)
        case "folds":
            return replace(keys, fold=pair)
        case "examples":
            return replace(keys, example=pair)
        case "datasets":
            return replace(keys, dataset=keys.dataset or pair)
        case "steps":
            raise UnknownRows(
                f"by the name of column {pair!r}, rows are steps of one run.",
                facts=[
                    "They follow from each other, so they are no independent trainings.",
                    f"If each row is a training of its own, name {pair} as the seed.",
                ],
                fix="keep one row a run, for example its last step:",
                options=[("at", "last")],
                without=["pair"],
            )
    raise unknown_meaning(pair, typed=True)


def unknown_meaning(column: str, *, typed: bool) -> UnknownRows:
    """Return the refusal of a column that may number units, and whose name does not say which."""
    what = "trainings (seed), folds (fold) or test examples (example)"
    other = "." if typed else "; or runs may share nothing (pair none)."
    return UnknownRows(
        f"what a row of {column!r} is, is not known.",
        facts=[f"Its name says nothing. It may number {what}{other}"],
        fix="if each is a training of its own:",
        options=[("seed", column)],
        without=["pair"] if typed else [],
    )


def _require_runs(keys: Keys, columns: Sequence[str]) -> None:
    """Refuse to count test examples, folds or data sets as runs that share nothing."""
    for column in (c for c in columns if c not in keys.named):
        kind = kind_of(column)
        if kind in ("steps", "folds", "examples", "datasets") and keys.seed is None:
            what = remedy(column)
            raise UnknownRows(
                f"by the name of column {column!r}, rows are {what[1]}, not runs.",
                facts=["Unpaired, each row would count as a run of its own."],
                options=[(what[0], "last" if what[0] == "at" else column)],
                without=["pair"],
            )


def _by_name(columns: Sequence[str], keys: Keys) -> str | None:
    """Return the first column whose name says that it numbers units: seeds before all others."""
    free = [column for column in columns if column not in keys.named]
    known = {column: kind_of(column) for column in free}
    seeds = [column for column in free if known[column] == "seeds"]
    exact = [column for column in seeds if column.strip().lower() == "seed"]
    kinds = ("steps", "folds", "examples", *(() if keys.dataset else ("datasets",)))
    others = [column for column in free if known[column] in kinds]
    return next(iter([*exact, *seeds, *others]), None)


def require_folds(keys: Keys, typed: Keys, test_share: float | None) -> None:
    """Refuse splits of which it is not known whether they are folds or drawn at random.

    Raises
    ------
    UnknownRows : a column called split, and neither --fold nor --test-share
    """
    if keys.fold is None or typed.fold is not None or test_share is not None:
        return
    if kind_of(keys.fold) == "folds" and keys.fold.lower().rstrip("0123456789_") in SPLITS:
        raise UnknownRows(
            f"column {keys.fold!r} may number the folds of one cross-validation, or random splits.",
            facts=["How far their training sets overlap is not the same."],
            fix="if they are folds:",
            options=[("fold", keys.fold)],
            without=["pair"],
        )


def require_no_summaries(frame: pd.DataFrame, keys: Keys, path: Path) -> None:
    """Refuse rows that sum up the others, such as a mean below ten seeds."""
    columns = list(keys.named) or list(frame.columns)
    for column in columns:
        texts = frame[column][frame[column].map(lambda value: isinstance(value, str))]
        odd = list(dict.fromkeys(text for text in texts if SUMMARY.match(text.strip())))
        if odd and len(odd) < frame[column].nunique():
            rows = ", ".join(map(repr, odd[:5]))
            raise BadScores(
                f"{path.name}: rows {rows} of column {column} sum up the others.",
                facts=["Taken for runs, they would count the same trainings again."],
                fix="leave them out:",
                options=[("where", f"{column}!={text}") for text in odd],
            )


def chosen(frame: pd.DataFrame, conditions: Sequence[str], path: Path) -> pd.DataFrame:
    """Return the rows that fit every condition, COL=VALUE or COL!=VALUE.

    Raises
    ------
    UnknownRows : a condition that is none, of an unknown column, or that leaves nothing
    """
    for condition in conditions:
        match = re.fullmatch(r"(.+?)(!?=)(.*)", condition, re.DOTALL)
        column = match[1] if match else condition
        if match is None or column not in frame.columns:
            raise UnknownRows(
                f'"{condition}" chooses no rows of {path.name}.',
                facts=[f"Columns: {', '.join(frame.columns[:30])}."],
                options=[("where", "COLUMN=VALUE")],
                without=[("where", condition)],
            )
        same = np.array([shown(value) == match[3] for value in frame[column]], dtype=bool)
        kept = frame[same if match[2] == "=" else ~same]
        if kept.empty:
            values = ", ".join(dict.fromkeys(map(shown, frame[column][:1000])))
            raise UnknownRows(
                f'{path.name} has no row with "{condition}".',
                facts=[f"Values of {column}: {values[:200]}."],
                fix="name one of these",
            )
        frame = kept
    return frame.reset_index(drop=True)


def shown(value: object) -> str:
    """Return a value as it is typed: a seed that pandas reads as 3.0 is 3."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def told_apart_by(frame: pd.DataFrame, keys: Sequence[str], values: Sequence[str]) -> list[str]:
    """Return the columns in which rows of one arm and unit differ."""
    several = frame[frame.duplicated(list(keys), keep=False)]
    others = [c for c in frame.columns if c not in (*keys, *values)]
    return [c for c in others if (several.groupby(list(keys), dropna=False)[c].nunique() > 1).any()]


def remedy(column: str) -> tuple[str, str]:
    """Return the option by which a column that tells duplicates apart can be said, and why."""
    match kind_of(column):
        case "examples":
            return "example", "test examples of one run"
        case "datasets":
            return "dataset", "data sets"
        case "folds":
            return "fold", "folds"
        case "seeds":
            return "seed", "trainings"
        case "steps":
            return "at", "steps of one run"
        case "repeats":
            return "repeat", "repeats inside a unit"
    return "by", "conditions, each compared by itself"
