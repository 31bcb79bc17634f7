"""`bench status`: what is recorded."""

import json

from bench.commands.common import experiment_name
from bench.commands.options import Name, Output, StoreUri, expanded
from bench.terminal import show, unicode_out


@expanded
def status(
    *,
    name: Name = None,
    store: StoreUri = None,
    output: Output,
) -> None:
    """List what is recorded, or one experiment's pairs seed by seed.

    \b
      bench status                every recorded experiment
      bench status digits         its pairs, seed by seed
    """
    from bench.display.status import Listing, State, listing, one
    from bench.store.mlflow_sql import glance

    found: Listing | State
    if name is None and (seen := glance(store)) is not None:
        found = listing(seen)
    else:
        from bench.store.mlflow_store import Store

        place = Store(store)
        found = listing(place) if name is None else one(place, experiment_name(name) or name)
    text = found.text(unicode=unicode_out())
    show(json.dumps(found.as_dict(), indent=1) if output.as_json else text)
