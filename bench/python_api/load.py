"""`bench.load`: what is recorded of an experiment."""

from bench.analysis.errors import literal
from bench.commands.common import experiment_name
from bench.python_api.refusals import in_python
from bench.redaction import redacted
from bench.reports.build import analysed, comparison
from bench.reports.result import Result
from bench.store.address import address, may_hold_runs
from bench.store.records import NothingRecorded


@in_python
def load(experiment: str | None = None, *, store: str | None = None) -> Result:
    """Return what is recorded of an experiment; trains nothing, writes nothing.

    Parameters
    ----------
    experiment : by default the latest
    store : an MLflow tracking URI, by default that of this folder

    Raises
    ------
    NothingRecorded : no such experiment

    Examples
    --------
    >>> import bench
    >>> bench.load("digits").verdict  # doctest: +SKIP
    'better'
    """
    if not may_hold_runs(store):
        raise NothingRecorded(
            f"nothing is recorded in {redacted(address(store))} yet.",
            fix=f"bench.run({literal(experiment or 'digits')})",
        )
    from bench.store.mlflow_store import Store

    place, name = Store(store), experiment_name(experiment)
    benchmark = place.benchmark() if name is None else comparison(place, name)
    return Result.of(analysed(place, benchmark, place.tables(benchmark)))
