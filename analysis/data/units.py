"""Units: what was drawn, and what would be drawn anew: seeds, folds, examples, clusters, data sets.

Every word that a report has for its numbers (seed, fold, question, passage, data set) comes from
here, and so does what its interval reaches.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

RowUnit = Literal["seeds", "folds", "none"]  # a training done anew; none: one run of each arm
ColumnUnit = Literal["examples", "clusters", "datasets", "none"]  # what is scored
Trained = Literal["once", "per-dataset"]


class Noun(NamedTuple):
    """What one unit is called, several are called, and new ones."""

    one: str
    many: str
    new: str

    def counted(self, n: int) -> str:
        """Return "1 seed", "3 seeds"."""
        return f"{n:,} {self.one if n == 1 else self.many}"


SEED = Noun("seed", "seeds", "new seeds")
FOLD = Noun("fold", "folds", "new training sets")
RUN = Noun("run", "runs", "new runs")
NOUNS: dict[ColumnUnit, Noun] = {
    "examples": Noun("test example", "test examples", "new test examples"),
    "datasets": Noun("data set", "data sets", "new data sets"),
}


@dataclass(frozen=True, kw_only=True)
class Units:
    """What the rows and columns of a comparison are.

    Attributes
    ----------
    rows, columns : the units; columns "none" where only each run's value is known
    cluster : what the user calls a cluster of examples, such as passage
    paired : both arms share the rows; False: each has runs of its own
    datasets : their names, where the rows or columns lie in several
    trained : whether one model a seed is scored on every data set, or one is trained for each
    new_datasets : the question is asked of new data sets, not of these ones
    test_share : n_test / n_train of folds
    target : a fixed number that stands in the baseline's place, taken as exact
    repeats : what was averaged inside a unit: a column's name
    """

    rows: RowUnit = "seeds"
    columns: ColumnUnit = "examples"
    cluster: str = ""
    paired: bool = True
    datasets: tuple[str, ...] = ()
    trained: Trained | None = None
    new_datasets: bool = False
    test_share: float | None = None
    target: float | None = None
    repeats: str = ""

    @property
    def column(self) -> Noun:
        """What the columns are called."""
        if self.columns == "clusters":
            name = self.cluster or "cluster"
            return Noun(name, _plural(name), f"new {_plural(name)}")
        return NOUNS.get(self.columns, NOUNS["examples"])

    @property
    def row(self) -> Noun:
        """What the runs of one arm are called."""
        if self.rows == "none" or not self.paired or self.target is not None:
            return RUN
        return FOLD if self.rows == "folds" else SEED

    @property
    def nested(self) -> bool:
        """Whether each data set has trainings of its own."""
        return self.trained == "per-dataset"

    @property
    def pair(self) -> Noun:
        """What the analysis takes as one pair of values."""
        if self.rows == "none":
            return self.column
        if self.nested and self.new_datasets:
            return NOUNS["datasets"]
        if not self.paired or self.target is not None:
            return RUN
        return FOLD if self.rows == "folds" else SEED

    @property
    def are_seeds(self) -> bool:
        """Whether a pair is two trainings that share a seed."""
        return self.pair is SEED

    def reach(self, *, columns_too: bool) -> str:
        """Return what an interval speaks of: new seeds on this test set, for example.

        Parameters
        ----------
        columns_too : whether it counts the drawing of columns, beside that of rows
        """
        if self.rows == "none":
            within = " of these data sets" if self.datasets else ""
            return f"{self.column.new}{within}, for these two models"
        drawn = self.pair.new
        if self.new_datasets:
            return drawn if self.nested else f"{drawn} and {NOUNS['datasets'].new}"
        if self.datasets:
            more = f" and {self.column.new}" if columns_too else ""
            return f"{drawn}{more} on these {len(self.datasets)} data sets"
        if self.rows == "folds":
            return "new training sets from this data set"
        return f"{drawn} and {self.column.new}" if columns_too else f"{drawn} on this test set"


def _plural(name: str) -> str:
    if name.endswith(("s", "x", "ch", "sh")):
        return f"{name}es"
    return f"{name[:-1]}ies" if name.endswith("y") and name[-2:-1] not in "aeiou" else f"{name}s"
