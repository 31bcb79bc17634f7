"""`bench status`: what is recorded."""

import json

from bench.commands.common import experiment_name
from bench.commands.options import AsJson, Name, NoColor, Quiet, StoreUri, Verbose
from bench.commands.showing import unicode_out
from bench.terminal import show


def status(
    name: Name = None,
    store: StoreUri = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """List what is recorded, or one experiment's pairs seed by seed.

    \b
      bench status                every recorded experiment
      bench status digits         its pairs, seed by seed
    """
    from bench.display.status import Listing, State, at_a_glance, listing, one
    from bench.store.mlflow_sql import glance

    found: Listing | State
    seen = glance(store) if name is None else None
    if seen is not None:
        found = at_a_glance(seen)
    else:
        from bench.store.mlflow_store import Store

        place = Store(store)
        found = listing(place) if name is None else one(place, experiment_name(name) or name)
    show(json.dumps(found.as_dict(), indent=1) if as_json else found.text(unicode=unicode_out()))
