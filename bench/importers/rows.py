"""What a row of a table is: a training, or something that must not be taken for one.

A column's name says it (`seed`), or the user does (`--seed COL`). Rows that are steps of one run,
folds, test examples, data sets or sums of other rows are no independent trainings: an interval over
them would answer another question, so they are refused by name.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from bench.analysis.errors import Refusal
from bench.importers.files import BadScores

Kind = Literal["seeds", "steps", "folds", "examples", "datasets"]

ROW = "row"  # as a pair: rows belong together by their place in the file
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
}
WHY: dict[Kind, tuple[str, str, str]] = {
    "steps": (
        "rows are steps of one run",
        "They follow from each other, so they are no independent trainings.",
        "keep one row a run: the last step, or the one that validation data chose",
    ),
    "folds": (
        "rows are folds of a cross-validation",
        "Their training sets overlap: a t interval over them is far too narrow (Nadeau & Bengio "
        "2003).",
        "train each arm anew on several seeds, and compare these",
    ),
    "examples": (
        "rows are test examples of one run of each arm",
        "An interval over them says nothing of new trainings.",
        "give one row a training: its seed and its score over all test examples",
    ),
    "datasets": (
        "rows are data sets",
        "An interval over them says nothing of new trainings on any of them.",
        "compare within each data set, one row a seed",
    ),
}
SUMMARY = re.compile(
    r"(mean|avg|average|median|std|sd|stdev|stddev|sem|se|var|variance|total|sum|best|worst|min|max"
    r"|overall|all)\b",
    re.IGNORECASE,
)


class UnknownRows(Refusal):
    """Rows of which it is not known what they are, or that are no trainings."""

    code = "rows"
    exit_status = 2


def kind_of(column: str) -> Kind | None:
    """Return what a column of pairs numbers, by its whole name; `params.seed` as `seed`."""
    name = re.sub(r"[^a-z0-9]+", "_", column.rpartition(".")[2].strip().lower()).strip("_")
    bare = name.rstrip("0123456789").rstrip("_")
    return next((kind for kind, known in NAMES.items() if name in known or bare in known), None)


def pair_column(columns: Sequence[str], typed: str | None, seed: str | None) -> str | None:
    """Return the column that says which rows belong together, or None.

    Raises
    ------
    UnknownRows : it numbers something that is no training, or what it numbers is not known
    """
    if seed is not None:
        return seed
    if typed == ROW and ROW not in columns:
        return None
    if typed is None:
        named = [column for column in columns if kind_of(column) == "seeds"]
        exact = [column for column in named if column.strip().lower() == "seed"]
        typed = next(iter([*exact, *named]), None)
    if typed is None:
        typed = next((column for column in columns if kind_of(column) not in (None, "seeds")), None)
    if typed is None:
        return None
    kind = kind_of(typed)
    if kind == "seeds":
        return typed
    if kind is None:
        raise UnknownRows(
            f"what a row of {typed!r} is, is not known.",
            facts=["Its name says nothing. Independent trainings are numbered by their seed."],
            fix="if each is a training of its own:",
            options=[("seed", typed)],
            without=["pair"],
        )
    what, why, fix = WHY[kind]
    raise UnknownRows(
        f"by the name of column {typed!r}, {what}.",
        facts=[why, f"If each row is a training of its own, name {typed} as the seed."],
        fix=fix,
    )


def require_pair_column(columns: Sequence[str], typed: str | None) -> None:
    """Refuse to pair rows by their place in the file unless that was asked for."""
    if typed != ROW:
        raise UnknownRows(
            "which rows belong together is not known: no column is named as a seed is.",
            facts=[
                f"Columns: {', '.join(columns[:30])}.",
                "Runs that share a row by chance alone, such as sorted ones, are no pairs.",
            ],
            fix="if both values of a row are trainings with the same seed:",
            options=[("pair", ROW)],
        )


def require_no_summaries(frame: pd.DataFrame, pair: str | None, path: Path) -> None:
    """Refuse rows that sum up the others, such as a mean below ten seeds."""
    columns = [pair] if pair else list(frame.columns)
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
        same = np.array([_shown(value) == match[3] for value in frame[column]], dtype=bool)
        kept = frame[same if match[2] == "=" else ~same]
        if kept.empty:
            values = ", ".join(dict.fromkeys(map(_shown, frame[column][:1000])))
            raise UnknownRows(
                f'{path.name} has no row with "{condition}".',
                facts=[f"Values of {column}: {values[:200]}."],
                fix="name one of these",
            )
        frame = kept
    return frame.reset_index(drop=True)


def upright(frame: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Turn a table with one row an arm, and one column a seed, into one row a seed."""
    numbered = [c for c in frame.columns if re.search(r"\d$", c) and kind_of(c) == "seeds"]
    others = [c for c in frame.columns if c not in numbered]
    if len(numbered) < 2 or len(others) != 1 or baseline in frame.columns:
        return frame
    arms = frame[others[0]].astype(str)
    if baseline not in set(arms) or arms.duplicated().any():
        return frame
    turned = frame.set_index(arms)[numbered].transpose()
    turned.columns = pd.Index(map(str, turned.columns))
    return turned.rename_axis("seed").reset_index()


def _shown(value: object) -> str:
    """Return a value as it is typed: a seed that pandas reads as 3.0 is 3."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def told_apart_by(frame: pd.DataFrame, keys: Sequence[str], values: Sequence[str]) -> list[str]:
    """Return the columns in which rows of one arm and pair differ."""
    several = frame[frame.duplicated(list(keys), keep=False)]
    others = [c for c in frame.columns if c not in (*keys, *values)]
    return [c for c in others if (several.groupby(list(keys), dropna=False)[c].nunique() > 1).any()]
