"""What a user asks of a source of scores, beside its name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.analysis.errors import Refusal


class BadRequest(Refusal):
    """An option that does not fit the source."""

    code = "source"
    exit_status = 2


@dataclass(frozen=True)
class At:
    """Which of a run's steps is its result."""

    way: Literal["last", "max", "min"] = "last"
    column: str = ""  # whose highest or lowest value chooses the step

    def __str__(self) -> str:
        return self.way if self.way == "last" else f"{self.way}:{self.column}"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked of a source.

    Parameters
    ----------
    at : which step of a run; None: a source of steps gives the last, a table stays as it is
    name : pattern of a file's path or a run's name, `{arm}-s{seed}`, that gives columns
    store : of MLflow
    keys : columns that were typed as what tells runs apart
    seed : the one of them that numbers the pairs
    values : columns that were typed as scores
    where : conditions that rows have to fit
    say : is told what a reader decided, and what a user has to know to trust the numbers
    """

    at: At | None = None
    name: str | None = None
    store: str | None = None
    keys: tuple[str, ...] = ()
    seed: str | None = None
    values: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    say: Callable[[str], object] = lambda _: None


def about(conditions: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Return the conditions COL=VALUE or COL!=VALUE that are about one of some columns."""
    starts = tuple(f"{column}{sign}" for column in columns for sign in ("=", "!="))
    return [condition for condition in conditions if condition.startswith(starts)]


def at_of(typed: str | None) -> At | None:
    """Read `last`, `max:COLUMN` or `min:COLUMN`.

    Raises
    ------
    BadRequest : it is none of these
    """
    way, _, column = (typed or "").partition(":")
    if typed is None:
        return None
    if way == "last" and typed == way:
        return At()
    if way in ("max", "min") and column:
        return At(way, column)  # type: ignore[arg-type]
    raise BadRequest(
        f'"{typed}" names no step of a run.',
        facts=["last, or max:COLUMN or min:COLUMN: where a column is highest or lowest."],
        options=[("at", "last")],
    )
